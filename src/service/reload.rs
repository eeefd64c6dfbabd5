//! The interface of the part of the program that replaces the service when the configuration changes.

use futures_util::future::BoxFuture;

use crate::admin_api::ReloadReport;

/// Applies a changed configuration to the running mirror.
pub(crate) trait Reload: Send + Sync {
    /// Reads the configuration again and applies it to new requests: all or nothing.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing is changed then.
    fn reload(&self) -> BoxFuture<'_, Result<ReloadReport, ReloadError>>;
}

/// Why the configuration is not reloaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The configuration cannot be used; the text is for a person and has no secret.
    #[error("{0}")]
    Invalid(String),
    /// The process was started without a configuration that can be read again.
    #[error(
        "this process cannot read its configuration again; it is a command that holds the cache directory, or it ends"
    )]
    NoSource,
    /// A part of the program failed; the log has the cause.
    #[error("the reload was not completed; the log says why")]
    Aborted,
}
