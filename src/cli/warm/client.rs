//! The mirror that is warmed, and why it fails: through the control socket, or through the routes that every client has.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;

use super::package_spec::RawName;
use crate::{
    admin_api::{FailureCode, FilledArchive, StoredState, UpstreamQuota, WarmFailure, WarmedLists},
    cli::admin_client::{AdminRefusal, Unavailable},
    entry::Digest,
    package::DialectName,
};

mod control;
mod plain;

pub(super) use control::ControlClient;
pub(super) use plain::MirrorClient;

/// A mirror that can be warmed.
pub(super) trait WarmTarget {
    /// Stores the lists of a package, which is found by the routes of a dialect, and reads them. The other methods are given
    /// the package at its source, where the lists name it.
    async fn store_lists(&self, package: &RawName, dialect: DialectName) -> Result<WarmedLists, FetchFailure>;

    /// When the mirror first saw a version; `None` where it never did, or does not report it.
    async fn first_seen(&self, package: &RawName, version: &str) -> Option<Timestamp>;

    /// Whether a tag or commit is on the mirror's disk; `None` where the mirror does not report it.
    async fn stored_state(&self, package: &RawName, version: &str) -> Result<Option<StoredState>, FetchFailure>;

    /// Stores a zip.
    async fn fill(
        &self,
        package: &RawName,
        version: &str,
        progress: ProgressFn<'_>,
    ) -> Result<FilledArchive, FetchFailure>;

    /// SHA-256 of the stored zip of a version without its top folder; `None` where that is not asked for. The routes of
    /// clients serve a zip that came flat in a folder, so what [`WarmTarget::fill`] read is not what a lock file names.
    async fn flat_digest(&self, package: &RawName, version: &str) -> Option<Digest>;
}

/// Called with the bytes so far, and with the length of the whole where that is known.
pub(super) type ProgressFn<'p> = &'p mut dyn FnMut(u64, Option<u64>);

/// Why lists or a zip are not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FetchFailure {
    /// One or two sentences for a person.
    pub(super) reason: String,
    /// Whether another attempt may help.
    pub(super) class: RetryClass,
    /// The cause, where the mirror names it.
    pub(super) code: Option<FailureCode>,
    /// The time after which another attempt may help.
    pub(super) retry_after: Option<Duration>,
    /// The quota of the upstream.
    pub(super) quota: Option<UpstreamQuota>,
}

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryClass {
    /// No: it does not exist.
    Missing,
    /// No: it is refused.
    Refused,
    /// Perhaps: the upstream or the mirror cannot be reached.
    Unreachable,
    /// Perhaps.
    Transient,
}

impl RetryClass {
    fn of_code(code: FailureCode) -> Self {
        match code {
            FailureCode::NoPackage
            | FailureCode::NoRelease
            | FailureCode::NoVersion
            | FailureCode::Blocked
            | FailureCode::Offline => Self::Missing,
            FailureCode::UpstreamUnreachable | FailureCode::UpstreamTimeout => Self::Unreachable,
            FailureCode::UpstreamThrottled
            | FailureCode::UpstreamBusy
            | FailureCode::NoRoom
            | FailureCode::PinsUnavailable
            | FailureCode::UpstreamStatus
            | FailureCode::UpstreamInvalid
            | FailureCode::Other => Self::Transient,
            FailureCode::UpstreamDenied
            | FailureCode::TooLarge
            | FailureCode::PinMismatch
            | FailureCode::Loop
            | FailureCode::Refused
            | FailureCode::Forbidden
            | FailureCode::Unauthorized
            | FailureCode::SourceChanged
            | FailureCode::RepositoryReplaced
            | FailureCode::Unbuilt
            | FailureCode::NotConforming
            | FailureCode::VersionExists
            | FailureCode::VersionDeleted
            | FailureCode::NameTaken
            | FailureCode::BeingPublished => Self::Refused,
        }
    }

    /// For an error without a code.
    fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            404 | 410 | 451 => Self::Missing,
            504 => Self::Unreachable,
            429 | 500..=503 => Self::Transient,
            _ => Self::Refused,
        }
    }
}

impl FetchFailure {
    /// A failure without a code, a time or a quota.
    pub(super) fn new(class: RetryClass, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), class, code: None, retry_after: None, quota: None }
    }

    fn disconnected() -> Self {
        Self::new(RetryClass::Unreachable, "the connection to the mirror broke")
    }

    fn malformed() -> Self {
        Self::new(RetryClass::Transient, "the mirror's answer is malformed")
    }
}

impl From<WarmFailure> for FetchFailure {
    fn from(failure: WarmFailure) -> Self {
        let WarmFailure { code, message, retry_after, quota } = failure;
        let retry_after = retry_after.map(Duration::from_secs);
        Self { reason: message, class: RetryClass::of_code(code), code: Some(code), retry_after, quota }
    }
}

/// An error of the connection, or one that the administration API answered with.
impl From<anyhow::Error> for FetchFailure {
    fn from(error: anyhow::Error) -> Self {
        let class = if error.is::<Unavailable>() {
            RetryClass::Unreachable
        } else if let Some(refusal) = error.downcast_ref::<AdminRefusal>() {
            RetryClass::of_status(refusal.code.status())
        } else {
            RetryClass::Transient
        };
        Self::new(class, error.to_string())
    }
}
