//! What an error response says of an upstream's failure.

use std::time::Duration;

use http::StatusCode;

use super::{ASK_OPERATOR, ErrorDescription, subject::Subject, whole_seconds};
use crate::{
    admin_api::FailureCode,
    http::cache_status::{CacheStatus, NOT_CONFORMING},
    origin::{FetchError, MirrorRefusal, Missing},
};

const TRY_LATER: &str = "try again later, or ask the operator of this mirror";

/// The description of an upstream's failure.
pub(super) fn fetch_error(error: &FetchError, subject: Subject<'_>) -> ErrorDescription {
    let what = subject.what();
    let upstream = subject.upstream();
    let retry_after = retry_after(error);
    let seconds = retry_after.map_or(0, whole_seconds);
    let (status, message) = match error {
        FetchError::NotFound(missing) => (StatusCode::NOT_FOUND, subject.not_found(*missing)),
        FetchError::Blocked => {
            (StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, format!("{what} is blocked on {upstream} for legal reasons"))
        }
        FetchError::Unreachable(why) => {
            (StatusCode::BAD_GATEWAY, format!("{upstream} cannot be reached for {what} ({why}); {TRY_LATER}"))
        }
        FetchError::Timeout(why) => {
            (StatusCode::GATEWAY_TIMEOUT, format!("{upstream} is too slow for {what} ({why}); {TRY_LATER}"))
        }
        FetchError::TooSlow { min_rate } => {
            let message =
                format!("{upstream} sent {what} more slowly than min_rate ({min_rate} bytes per second); {TRY_LATER}");
            (StatusCode::GATEWAY_TIMEOUT, message)
        }
        FetchError::Abandoned => {
            (StatusCode::BAD_GATEWAY, format!("the slow download of {what} from {upstream} was given up; try again"))
        }
        FetchError::Busy { .. } => {
            let message = format!(
                "this mirror has too many requests to {upstream} under way and nothing is stored for {what}; try again \
                 in {seconds} s"
            );
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::NoRoom { .. } => {
            let message = format!(
                "this mirror has no room on disk for {what}, which is too large for its memory; try again in {seconds} s, \
                 or {ASK_OPERATOR}"
            );
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::PinsUnavailable { .. } => {
            let message = format!(
                "this mirror cannot record what {what} contains, because its disk fails; try again in {seconds} s, or \
                 {ASK_OPERATOR}"
            );
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::NoMemory { .. } => {
            let message = format!("this mirror has no memory for {what} at present; try again in {seconds} s");
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::Throttled { .. } | FetchError::CoolingDown { .. } if error.is_rate_limit() => {
            let message = format!(
                "{upstream} limits the mirror's requests and nothing is stored for {what}; try again in {seconds} s"
            );
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::Throttled { .. } | FetchError::CoolingDown { .. } => {
            let message =
                format!("{upstream} failed a moment ago and nothing is stored for {what}; try again in {seconds} s");
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::Status(code @ (401 | 403)) => {
            let message = format!(
                "{upstream} refuses the mirror {what} (status {code}); {ASK_OPERATOR} to check the mirror's token"
            );
            (StatusCode::BAD_GATEWAY, message)
        }
        FetchError::RefusedByMirror(refusal) => {
            let (status, why) = match refusal {
                MirrorRefusal::Forbidden => (StatusCode::FORBIDDEN, "it may not serve it"),
                MirrorRefusal::Unbuilt => (StatusCode::UNPROCESSABLE_ENTITY, "it is not built"),
                MirrorRefusal::NotConforming => {
                    (StatusCode::UNPROCESSABLE_ENTITY, "it does not conform to the package model")
                }
            };
            (status, format!("{upstream}, which is a mirror, refuses {what}: {why}; ask its operator"))
        }
        FetchError::Status(code) => {
            (StatusCode::BAD_GATEWAY, format!("{upstream} answered status {code} for {what}; {TRY_LATER}"))
        }
        FetchError::Invalid(why) => {
            (StatusCode::BAD_GATEWAY, format!("{upstream} sent an invalid response for {what}: {why}; {TRY_LATER}"))
        }
        FetchError::TooLarge { limit } => {
            let message = format!("{what} on {upstream} is larger than the {limit} bytes this mirror allows");
            (StatusCode::BAD_GATEWAY, message)
        }
        FetchError::DocumentTooLarge { limit } => {
            let message = format!(
                "{upstream} sent a document for {what} that is larger than the {limit} bytes this mirror allows; \
                 {ASK_OPERATOR} to raise upstreams.{upstream}.document_limit"
            );
            (StatusCode::BAD_GATEWAY, message)
        }
        FetchError::PinMismatch => {
            let message = format!(
                "pin-mismatch: {upstream} now has other content for {what} than when this mirror first fetched it; \
                 {ASK_OPERATOR}, who accepts it with: srm-mirror cache rm '{}' --forget",
                subject.pattern()
            );
            (StatusCode::BAD_GATEWAY, message)
        }
        FetchError::Loop => {
            let message = format!(
                "the mirror's own request for {what} came back to it; {upstream} must be configured with a fixed address"
            );
            (StatusCode::LOOP_DETECTED, message)
        }
        FetchError::Offline { absent: true } => {
            (StatusCode::NOT_FOUND, format!("{what} is not in this mirror, which is offline"))
        }
        FetchError::Offline { absent: false } => {
            let message = format!("{what} is not in this mirror, which is offline; ask its operator");
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        FetchError::Refused(why) => (StatusCode::BAD_GATEWAY, format!("{what} is not fetched from {upstream}: {why}")),
    };
    ErrorDescription { code: Some(failure_code(error)), retry_after, ..ErrorDescription::new(status, message) }
}

/// When to try again; `None` where the cause does not say.
fn retry_after(error: &FetchError) -> Option<Duration> {
    match error {
        FetchError::Throttled { retry_after }
        | FetchError::CoolingDown { retry_after, .. }
        | FetchError::Busy { retry_after }
        | FetchError::NoRoom { retry_after }
        | FetchError::PinsUnavailable { retry_after }
        | FetchError::NoMemory { retry_after } => Some(*retry_after),
        _ => None,
    }
}

/// The error for what may be among the published packages while these cannot be asked.
pub(super) fn hosted_unavailable(subject: Subject<'_>, retry_after: Duration) -> ErrorDescription {
    let message = format!(
        "{} may be in the shared bucket of this mirror, which cannot be used at present; try again in {} s",
        subject.what(),
        whole_seconds(retry_after)
    );
    ErrorDescription::unavailable(message, retry_after)
}

/// The error for a new name while the bucket, which decides on its source, cannot be asked.
pub(super) fn source_undecided(subject: Subject<'_>, retry_after: Duration) -> ErrorDescription {
    let message = format!(
        "where {} comes from is written in the shared bucket of this mirror, which cannot be used at present; try again in {} s",
        subject.what(),
        whole_seconds(retry_after)
    );
    ErrorDescription::unavailable(message, retry_after)
}

/// The cache status of a failure, with the remark that belongs to its cause.
pub(super) fn with_remark(status: CacheStatus, error: &FetchError) -> CacheStatus {
    match error {
        FetchError::Offline { .. } => status.detail("offline"),
        FetchError::NoRoom { .. } => status.without_room(),
        FetchError::RefusedByMirror(MirrorRefusal::NotConforming) => status.and_detail(NOT_CONFORMING),
        _ => status,
    }
}

/// The code of a cause; while an upstream cools down, that of its failure.
pub(in crate::service) fn failure_code(error: &FetchError) -> FailureCode {
    match error {
        FetchError::NotFound(Missing::Package) => FailureCode::NoPackage,
        FetchError::NotFound(Missing::Release) => FailureCode::NoRelease,
        FetchError::NotFound(Missing::Version) => FailureCode::NoVersion,
        FetchError::Blocked => FailureCode::Blocked,
        FetchError::Offline { .. } => FailureCode::Offline,
        FetchError::Unreachable(_) => FailureCode::UpstreamUnreachable,
        FetchError::Timeout(_) | FetchError::TooSlow { .. } => FailureCode::UpstreamTimeout,
        FetchError::Abandoned => FailureCode::UpstreamUnreachable,
        FetchError::Busy { .. } => FailureCode::UpstreamBusy,
        FetchError::NoRoom { .. } | FetchError::NoMemory { .. } => FailureCode::NoRoom,
        FetchError::PinsUnavailable { .. } => FailureCode::PinsUnavailable,
        FetchError::Throttled { .. } => FailureCode::UpstreamThrottled,
        FetchError::CoolingDown { cause, .. } => failure_code(cause),
        FetchError::Status(401 | 403) => FailureCode::UpstreamDenied,
        FetchError::RefusedByMirror(MirrorRefusal::Forbidden) => FailureCode::Forbidden,
        FetchError::RefusedByMirror(MirrorRefusal::Unbuilt) => FailureCode::Unbuilt,
        FetchError::RefusedByMirror(MirrorRefusal::NotConforming) => FailureCode::NotConforming,
        FetchError::Status(_) => FailureCode::UpstreamStatus,
        FetchError::Invalid(_) => FailureCode::UpstreamInvalid,
        FetchError::TooLarge { .. } | FetchError::DocumentTooLarge { .. } => FailureCode::TooLarge,
        FetchError::PinMismatch => FailureCode::PinMismatch,
        FetchError::Loop => FailureCode::Loop,
        FetchError::Refused(_) => FailureCode::Refused,
    }
}
