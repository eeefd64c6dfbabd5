//! What an error response says of a failure of the registry.

use std::time::Duration;

use http::StatusCode;

use super::{
    ASK_OPERATOR, ErrorDescription, damaged_zip,
    fetch_failure::{fetch_error, hosted_unavailable, source_undecided, with_remark},
    no_view, not_conforming,
    subject::Subject,
    version_refusal,
};
use crate::{
    admin_api::FailureCode,
    archive::view::ViewError,
    registry::{CacheFailure, RegistryError},
};

/// When to ask again for a catalog whose packages are being collected.
const NOT_COLLECTED_RETRY: Duration = Duration::from_secs(5);
/// When to ask again for a name whose source could not be written.
const UNRECORDABLE_RETRY: Duration = Duration::from_secs(30);

/// The description of a failure of the registry.
pub(super) fn describe(error: RegistryError, subject: Subject<'_>) -> ErrorDescription {
    let coded = ErrorDescription::with_code;
    match error {
        RegistryError::Forbidden => {
            let message = format!("{} is not among the packages this mirror may serve", subject.what());
            coded(StatusCode::FORBIDDEN, FailureCode::Forbidden, message)
        }
        RegistryError::VersionRefused(refusal) => {
            let message = version_refusal::sentence(&refusal, &subject.what());
            coded(StatusCode::FORBIDDEN, FailureCode::Forbidden, message)
        }
        RegistryError::NoVersionAllowed(refusal) => {
            let why = version_refusal::sentence(&refusal, "the latest version");
            let message = format!("this mirror serves no stable version of {}: {why}", subject.what());
            coded(StatusCode::NOT_FOUND, FailureCode::NoRelease, message)
        }
        RegistryError::Fetch(CacheFailure { error, status }) => {
            let status = if error.is_of_request() { status } else { status.not_forwarded() };
            let status = with_remark(status, &error).failed();
            ErrorDescription { cache_status: Some(status), ..fetch_error(&error, subject) }
        }
        RegistryError::DamagedZip { status } => damaged_zip(subject, Some(status.failed().not_stored())),
        RegistryError::NoFolder { status } => no_view(ViewError::NoSuchFolder, subject, Some(status.failed())),
        RegistryError::NotConforming { findings, status } => not_conforming::describe(subject, &findings, status),
        RegistryError::SourceChanged { recorded } => {
            let message = format!(
                "source-changed: {} was first served from {recorded}, which is no longer in its route; {ASK_OPERATOR} to \
                 set its source",
                subject.what()
            );
            coded(StatusCode::FORBIDDEN, FailureCode::SourceChanged, message)
        }
        RegistryError::RepositoryReplaced => {
            let message = format!(
                "repository-replaced: {} on {} is another repository now than the one that this mirror first served, of \
                 which only what was served before is served; {ASK_OPERATOR}, who accepts the other one with: srm-mirror \
                 cache rm '{}' --forget",
                subject.what(),
                subject.upstream(),
                subject.package_pattern()
            );
            coded(StatusCode::FORBIDDEN, FailureCode::RepositoryReplaced, message)
        }
        RegistryError::HostedUnavailable(retry_after) => hosted_unavailable(subject, retry_after),
        RegistryError::SourceUndecided(retry_after) => source_undecided(subject, retry_after),
        RegistryError::NotCollected => {
            let message = format!(
                "this mirror collects its packages for the first time since its start; try again in {} s",
                NOT_COLLECTED_RETRY.as_secs()
            );
            ErrorDescription::unavailable(message, NOT_COLLECTED_RETRY)
        }
        RegistryError::Unrecordable => {
            let message = format!("this mirror cannot write down where {} comes from; {ASK_OPERATOR}", subject.what());
            ErrorDescription::unavailable(message, UNRECORDABLE_RETRY)
        }
    }
}
