//! Refuses components and plugins whose entry is not in their zip.

use crate::{archive::ZipFacts, service::error::ApiError};

/// Refuses a component or plugin whose entry is not in its zip. Facts that do not say so refuse nothing.
///
/// # Errors
/// `Unbuilt` with the missing file.
pub(in crate::service) fn ensure_built(facts: &serde_json::Value) -> Result<(), ApiError> {
    match ZipFacts::missing_entry_in(facts) {
        Some(missing) => Err(ApiError::Unbuilt { missing: missing.to_owned() }),
        None => Ok(()),
    }
}
