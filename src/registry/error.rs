//! Why the registry has no answer.

use std::{sync::Arc, time::Duration};

use super::version_refusal::VersionRefusal;
use crate::{cache::CacheFailure, http::cache_status::CacheStatus, origin::FetchError, package::ModelFinding};

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum RegistryError {
    /// `packages.allow` and `packages.deny` do not permit this package.
    Forbidden,
    /// The version is not served.
    VersionRefused(VersionRefusal),
    /// No version of the package may be the latest; this is why the upstream's is not.
    NoVersionAllowed(VersionRefusal),
    /// The recorded source of the name is no longer in its route.
    SourceChanged {
        /// The upstream that is recorded.
        recorded: Arc<str>,
    },
    /// The name is another repository than the one whose versions were first served.
    RepositoryReplaced,
    /// The source of a name that is new cannot be written.
    Unrecordable,
    /// The zip of the repository lacks the folder.
    NoFolder {
        /// How the zip was found.
        status: CacheStatus,
    },
    /// The packages that are pinned are being collected for the first time since the start.
    NotCollected,
    /// The package does not conform to the package model.
    NotConforming {
        /// Every rule that it does not conform to.
        findings: Vec<ModelFinding>,
        /// How the zip was found; `None` where its pin was enough.
        status: Option<CacheStatus>,
    },
    /// A stored zip is damaged, and so was what replaced it.
    DamagedZip {
        /// How the zip was found.
        status: CacheStatus,
    },
    /// The shared bucket, which has the published packages, cannot be used; when to try again.
    HostedUnavailable(Duration),
    /// The shared bucket, which decides where a new name comes from, cannot be used; when to try again.
    SourceUndecided(Duration),
    /// The cache or the upstream has no answer.
    Fetch(CacheFailure),
}

impl From<CacheFailure> for RegistryError {
    fn from(failure: CacheFailure) -> Self {
        Self::Fetch(failure)
    }
}

/// The error for pins that cannot be read.
pub(super) fn unreadable_pin(error: FetchError) -> RegistryError {
    RegistryError::Fetch(CacheFailure { error, status: CacheStatus::hit(None) })
}
