//! From causes to what a client is told: the one list of statuses and sentences.
//!
//! A sentence says what was asked, which upstream said what, and what to do. It never repeats an upstream's text,
//! an address or a token.

use std::time::Duration;

use http::StatusCode;

use crate::{
    dialect::{ApiRequest, Reason, RouteError},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    registry::{CacheFailure, RegistryError},
};

/// An error as a client gets it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The status.
    pub(crate) status: StatusCode,
    /// One or two sentences.
    pub(crate) message: String,
    /// When to come again, where waiting helps.
    pub(crate) retry_after: Option<Duration>,
    /// The methods there are, for a 405.
    pub(crate) allow: Option<&'static str>,
    /// What the cache did, where it was asked.
    pub(crate) cache: Option<CacheStatus>,
}

impl Problem {
    /// A problem with nothing but a status and a sentence.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, allow: None, cache: None }
    }

    /// A request that no route fits.
    pub(crate) fn rejected(reject: &RouteError) -> Self {
        let status = StatusCode::from_u16(reject.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let allow = match reject.reason {
            Reason::MethodNotAllowed { allow, .. } => Some(allow),
            _ => None,
        };
        Self { allow, ..Self::new(status, reject.message()) }
    }

    /// A request of the mirror's own that came back to it (RFC 9110 §7.6.3).
    pub(crate) fn looped(ask: &ApiRequest) -> Self {
        Self::fetch(&FetchError::Loop, ask)
    }

    /// A zip that failed after its first bytes were known and before any of them was sent.
    pub(crate) fn late(error: FetchError, cache: Option<CacheStatus>, ask: &ApiRequest) -> Self {
        Self { cache: cache.map(CacheStatus::failed), ..Self::fetch(&error, ask) }
    }

    /// A zip that only passes through is too large to be held for its flat view: nothing of it is kept.
    pub(crate) fn no_room(cache: Option<CacheStatus>, ask: &ApiRequest) -> Self {
        let message = format!(
            "{} cannot be made flat: this mirror has no room on disk for it and it is too large for its memory; \
             ask whoever runs this mirror, or take the zip as it is (zipball instead of flat)",
            subject(ask)
        );
        Self { cache: cache.map(CacheStatus::failed), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// A stored zip that is no longer what was verified, and could not be had again.
    pub(crate) fn damaged(cache: Option<CacheStatus>, ask: &ApiRequest) -> Self {
        let message = format!("what is stored of {} is damaged; ask whoever runs this mirror", subject(ask));
        Self { cache: cache.map(CacheStatus::failed), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, message) }
    }

    /// Why the mirror has no answer to `ask`.
    pub(crate) fn of(error: RegistryError, ask: &ApiRequest) -> Self {
        match error {
            RegistryError::Forbidden => {
                let message = format!("{} is not among the packages this mirror may serve", subject(ask));
                Self::new(StatusCode::FORBIDDEN, message)
            }
            RegistryError::Fetch(CacheFailure { error, status }) => {
                let mut problem = Self::fetch(&error, ask);
                let offline = matches!(error, FetchError::Offline { .. });
                problem.cache = Some(if offline { status.detail("offline") } else { status }.failed());
                problem
            }
        }
    }

    fn fetch(error: &FetchError, ask: &ApiRequest) -> Self {
        let what = subject(ask);
        let upstream = upstream(ask);
        let later = "try again later, or ask whoever runs this mirror";
        let (status, message) = match error {
            FetchError::NotFound(missing) => (StatusCode::NOT_FOUND, not_found(*missing, ask)),
            FetchError::Blocked => (
                StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
                format!("{what} is blocked on {upstream} for legal reasons"),
            ),
            FetchError::Unreachable(why) => {
                (StatusCode::BAD_GATEWAY, format!("{upstream} cannot be reached for {what} ({why}); {later}"))
            }
            FetchError::Timeout(why) => {
                (StatusCode::GATEWAY_TIMEOUT, format!("{upstream} is too slow for {what} ({why}); {later}"))
            }
            FetchError::Throttled { retry_after } => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{upstream} limits the mirror's requests and nothing is stored for {what}; try again in {} s",
                    seconds(*retry_after)
                ),
            ),
            FetchError::CoolingDown { retry_after, .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{upstream} failed a moment ago and nothing is stored for {what}; try again in {} s",
                    seconds(*retry_after)
                ),
            ),
            FetchError::Status(code @ (401 | 403)) => (
                StatusCode::BAD_GATEWAY,
                format!(
                    "{upstream} refuses the mirror {what} (status {code}); ask whoever runs this mirror to check its token"
                ),
            ),
            FetchError::Status(code) => {
                (StatusCode::BAD_GATEWAY, format!("{upstream} answered status {code} for {what}; {later}"))
            }
            FetchError::Invalid(why) => {
                (StatusCode::BAD_GATEWAY, format!("{upstream} answered nonsense for {what}: {why}; {later}"))
            }
            FetchError::TooLarge { limit } => (
                StatusCode::BAD_GATEWAY,
                format!("{what} on {upstream} is larger than the {limit} bytes this mirror allows"),
            ),
            FetchError::PinMismatch => (
                StatusCode::BAD_GATEWAY,
                format!(
                    "pin-mismatch: {upstream} now has other content for {what} than what was first seen here; \
                     ask whoever runs this mirror"
                ),
            ),
            FetchError::Loop => (
                StatusCode::LOOP_DETECTED,
                format!(
                    "the mirror's own request for {what} came back to it; {upstream} must be given a fixed address"
                ),
            ),
            FetchError::Offline { absent: true } => {
                (StatusCode::NOT_FOUND, format!("{what} is not in this mirror, which is offline"))
            }
            FetchError::Offline { absent: false } => {
                let message = format!("{what} is not in this mirror, which is offline; ask whoever runs it");
                (StatusCode::SERVICE_UNAVAILABLE, message)
            }
            FetchError::Refused(why) => {
                (StatusCode::BAD_GATEWAY, format!("{what} is not fetched from {upstream}: {why}"))
            }
        };
        let retry_after = match error {
            FetchError::Throttled { retry_after } | FetchError::CoolingDown { retry_after, .. } => Some(*retry_after),
            _ => None,
        };
        Self { retry_after, ..Self::new(status, message) }
    }
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds(period: Duration) -> u64 {
    period.as_secs().saturating_add(u64::from(period.subsec_nanos() > 0)).max(1)
}

/// What was asked for, in words.
fn subject(ask: &ApiRequest) -> String {
    let package = ask.package().map(|package| package.name.to_string()).unwrap_or_else(|| "this".into());
    match ask {
        ApiRequest::Tag { version, .. }
        | ApiRequest::Archive { version, .. }
        | ApiRequest::Flat { version, .. }
        | ApiRequest::Metadata { version: Some(version), .. } => format!("{package} {}", version.name()),
        _ => package,
    }
}

fn upstream(ask: &ApiRequest) -> String {
    ask.package().map(|package| package.upstream.to_string()).unwrap_or_else(|| "the upstream".into())
}

fn not_found(missing: Missing, ask: &ApiRequest) -> String {
    let package = ask.package().map(|package| package.name.to_string()).unwrap_or_default();
    let upstream = upstream(ask);
    match (missing, ask) {
        (Missing::Package, _) => format!("there is no package {package} on {upstream}, or this mirror may not see it"),
        (Missing::Release, ApiRequest::Tag { version, .. } | ApiRequest::Metadata { version: Some(version), .. }) => {
            format!("{package} on {upstream} has no release {}", version.name())
        }
        (Missing::Release, _) => format!("{package} on {upstream} has no release"),
        (Missing::Version, ApiRequest::Archive { version, .. } | ApiRequest::Flat { version, .. }) => {
            format!("{package} on {upstream} has no version {} (no tag, branch or commit)", version.name())
        }
        (Missing::Version, _) => format!("{package} on {upstream} has no such version"),
    }
}
