//! From causes to error responses: the one list of statuses and sentences.
//!
//! A sentence names what was requested, which upstream answered what, and what to do. It never contains an upstream's
//! text, an address or a token.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use hyper::ext::ReasonPhrase;

use super::{
    context::{Failure, RequestContext},
    headers::NO_STORE,
    json_response::json_response,
};
use crate::{
    access::NO_KEYS_RETRY,
    admin_api::FailureCode,
    archive::view::ViewError,
    dialect::{ApiRequest, DialectName, PackageId, Reason, RouteError},
    http::{body::Body, cache_status::CacheStatus},
    origin::FetchError,
    package::PackageName,
    peer::Refusal,
    registry::RegistryError,
};

pub(super) mod fetch_failure;
mod not_conforming;
mod registry_failure;
mod subject;
mod unauthorized;
pub(super) mod version_refusal;

use fetch_failure::fetch_error;
use subject::Subject;
pub(crate) use unauthorized::Unauthorized;

/// Why a request gets an error response. [`ApiError::describe`] maps each cause to a status and a sentence.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The request matches no route.
    Route(RouteError),
    /// The request's host cannot be used.
    Host(HostError),
    /// The mirror's own request came back to it ([RFC 9110 §7.6.3](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3)).
    Loop,
    /// The request is refused before anything is looked up.
    Refused(Refusal),
    /// The caller needs credentials, or has some that are not valid.
    Unauthorized(Unauthorized),
    /// The caller's credentials cannot be verified at present; this is what the mirror cannot do.
    Unverifiable(&'static str),
    /// The registry has no answer.
    Registry(RegistryError),
    /// A download failed after the lookup and before the response's header was sent.
    Download(FetchError),
    /// The zip has no such view.
    NoView(ViewError),
    /// A stored zip is damaged, and so was what replaced it.
    DamagedZip,
    /// The release list has no release with this id; `status` is the list's.
    UnknownReleaseId {
        /// The id of the request.
        id: u64,
        /// How the list was looked up.
        status: CacheStatus,
    },
    /// The route has no JSON.
    NotJson,
    /// The mirror has more work under way than its memory or its processors allow. What is in memory is still served.
    Overloaded,
    /// A component or plugin cannot run: its entry is not in its zip.
    Unbuilt {
        /// The first file that the command line client looks for.
        missing: String,
    },
    /// The zip must be complete before its first byte is sent, and its download takes longer than the client waits.
    StillArriving,
    /// No route says where a plain name comes from.
    NoRoute {
        /// The name.
        name: PackageName,
        /// The dialect of the request.
        dialect: DialectName,
    },
    /// Every upstream of the name's route says that it has no such package.
    NotOnRoute {
        /// The name.
        name: PackageName,
        /// The upstreams, in the order in which they were asked.
        upstreams: Vec<Arc<str>>,
        /// The error of the last one.
        cause: Box<ApiError>,
    },
}

/// Why the host of a request cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostError {
    /// It is not a host with an optional port.
    Malformed,
    /// There is no host, or an empty one.
    Missing,
    /// There are several `Host` fields.
    Repeated,
    /// An `X-Forwarded-…` field of a trusted proxy is not text.
    ForwardedNotText,
    /// `X-Forwarded-Proto` of a trusted proxy is another scheme.
    ForwardedProto,
    /// It is none of the configured names.
    Misdirected,
}

/// The content of an error response.
pub(crate) struct ErrorDescription {
    pub(crate) status: StatusCode,
    /// The cause of an error about a package; `None` for errors about the request itself.
    pub(crate) code: Option<FailureCode>,
    /// One or two sentences.
    pub(crate) message: String,
    /// When to try again; `None` where waiting does not help.
    pub(crate) retry_after: Option<Duration>,
    /// The `Allow` field of a 405.
    allow: Option<&'static str>,
    /// How the cache answered; `None` where it was not asked.
    cache_status: Option<CacheStatus>,
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        Self::Route(error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl ApiError {
    /// The error's response, in the envelope of the request's dialect. Records its cache status in `context`.
    ///
    /// `cooldown` is how long the cause of a trouble is remembered: sooner, a new request gets the same answer.
    pub(super) fn into_response(
        self,
        parts: &Parts,
        context: &mut RequestContext,
        cooldown: Duration,
    ) -> Response<Body> {
        let looked_up = context.cache_status.take();
        let error = self.describe(context.request(), context.package.as_deref(), looked_up);
        // Other 502s do not change by waiting.
        let is_lasting =
            matches!(error.code, Some(FailureCode::TooLarge | FailureCode::PinMismatch | FailureCode::Refused));
        let is_temporary = matches!(error.status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) && !is_lasting;
        let retry_after = error.retry_after.or(is_temporary.then_some(cooldown));
        let body = context.dialect.error(error.status.as_u16(), error.code, &error.message, &context.id.to_string());
        let mut response = json_response(error.status, body, &parts.method);
        if is_for_zip(context.request()) && parts.version <= Version::HTTP_11 {
            response.extensions_mut().insert(reason_phrase(&error.message));
        }
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(allow) = error.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if error.status == StatusCode::UNAUTHORIZED {
            unauthorized::add_challenges(headers);
        }
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        context.cache_status = error.cache_status;
        context.failure = Some(Failure { code: error.code, message: error.message });
        response
    }

    /// The status and the sentence for a client. `request` is `None` when the request matches no route; `looked_up` is
    /// how the cache answered before the error, and `package` the package on its upstream, where it is known.
    pub(crate) fn describe(
        self,
        request: Option<&ApiRequest>,
        package: Option<&PackageId>,
        looked_up: Option<CacheStatus>,
    ) -> ErrorDescription {
        let subject = Subject { request, package };
        let failed = looked_up.map(CacheStatus::failed);
        let unstored = failed.clone().map(CacheStatus::not_stored);
        match self {
            Self::Route(error) => {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
                let allow = match error.reason {
                    Reason::MethodNotAllowed { allow, .. } => Some(allow),
                    _ => None,
                };
                ErrorDescription { allow, ..ErrorDescription::new(status, error.message()) }
            }
            Self::Host(error) => ErrorDescription::new(error.status(), error.message()),
            Self::Refused(refusal) => refused(&refusal),
            Self::Loop => fetch_error(&FetchError::Loop, subject),
            Self::Unauthorized(why) => {
                let message = why.sentence(subject);
                ErrorDescription::with_code(StatusCode::UNAUTHORIZED, FailureCode::Unauthorized, message)
            }
            Self::Unverifiable(what) => {
                let message = format!("this mirror cannot {what}; try again in {} s", NO_KEYS_RETRY.as_secs());
                ErrorDescription::unavailable(message, NO_KEYS_RETRY)
            }
            Self::Registry(error) => registry_failure::describe(error, subject),
            Self::Download(error) => ErrorDescription { cache_status: unstored, ..fetch_error(&error, subject) },
            Self::NoView(error) => no_view(error, subject, failed),
            Self::DamagedZip => damaged_zip(subject, unstored),
            Self::UnknownReleaseId { id, status } => {
                let message = format!("{} on {} has no release with the id {id}", subject.what(), subject.upstream());
                let error = ErrorDescription::with_code(StatusCode::NOT_FOUND, FailureCode::NoRelease, message);
                ErrorDescription { cache_status: Some(status), ..error }
            }
            Self::Overloaded => {
                let message = format!(
                    "this mirror is busy with other large answers; try again in {} s",
                    OVERLOADED_RETRY.as_secs()
                );
                ErrorDescription { cache_status: failed, ..ErrorDescription::unavailable(message, OVERLOADED_RETRY) }
            }
            Self::NotJson => ErrorDescription::new(StatusCode::NOT_FOUND, "this address has no JSON"),
            Self::Unbuilt { missing } => {
                let message = format!(
                    "{} on {} is not built: its zip has no {missing}; {ASK_OPERATOR} for a route to an upstream that has \
                     it built",
                    subject.what(),
                    subject.upstream()
                );
                let error =
                    ErrorDescription::with_code(StatusCode::UNPROCESSABLE_ENTITY, FailureCode::Unbuilt, message);
                ErrorDescription { cache_status: failed, ..error }
            }
            Self::StillArriving => {
                let message = format!(
                    "{} is still being downloaded from {}; try again in {} s",
                    subject.what(),
                    subject.upstream(),
                    STILL_ARRIVING_RETRY.as_secs()
                );
                let error = ErrorDescription::new(StatusCode::GATEWAY_TIMEOUT, message);
                ErrorDescription { retry_after: Some(STILL_ARRIVING_RETRY), cache_status: unstored, ..error }
            }
            Self::NoRoute { name, dialect } => {
                let message = format!(
                    "no route says where {name} comes from in the dialect {}; write owner/repo, or {ASK_OPERATOR} to add a \
                     route or an alias",
                    dialect.as_str()
                );
                ErrorDescription::with_code(StatusCode::NOT_FOUND, FailureCode::NoPackage, message)
            }
            Self::NotOnRoute { name, upstreams, cause } => {
                let message =
                    format!("there is no package {name} on {}, or this mirror may not see it", upstreams.join(" or "));
                ErrorDescription { message, ..cause.describe(request, package, None) }
            }
        }
    }
}

impl ErrorDescription {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: None, message: message.into(), retry_after: None, allow: None, cache_status: None }
    }

    fn with_code(status: StatusCode, code: FailureCode, message: String) -> Self {
        Self { code: Some(code), ..Self::new(status, message) }
    }

    /// 503, with when to try again.
    fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }
}

/// The error for a request that is refused before it is answered.
fn refused(refusal: &Refusal) -> ErrorDescription {
    match refusal {
        Refusal::NoConnection => {
            let message = "this mirror has too many connections; try again in 1 s";
            ErrorDescription::unavailable(message, Duration::from_secs(1))
        }
        Refusal::OverLimit { limit, retry_after } => {
            let message = format!(
                "this client has reached its limit on this mirror (clients.{}); try again in {} s",
                limit.key(),
                whole_seconds(*retry_after)
            );
            let error = ErrorDescription::new(StatusCode::TOO_MANY_REQUESTS, message);
            ErrorDescription { retry_after: Some(*retry_after), ..error }
        }
    }
}

/// The error for a zip without the requested view.
fn no_view(error: ViewError, subject: Subject<'_>, cache_status: Option<CacheStatus>) -> ErrorDescription {
    let error = match error {
        ViewError::NoSuchFolder => {
            let message = match subject.folder() {
                Some(folder) => format!(
                    "{} on {} has no folder {}{}; {ASK_OPERATOR} to correct the alias {}",
                    folder.repository.name,
                    folder.repository.upstream,
                    folder.path,
                    subject.version().map(|version| format!(" in version {}", version.name())).unwrap_or_default(),
                    folder.alias
                ),
                None => format!("{} on {} has no such folder in its zip", subject.what(), subject.upstream()),
            };
            ErrorDescription::with_code(StatusCode::NOT_FOUND, FailureCode::NoVersion, message)
        }
        error @ (ViewError::NameTooLong | ViewError::UnsafeName) => {
            let message = format!("{} on {} has no zip of this form: {error}", subject.what(), subject.upstream());
            ErrorDescription::with_code(StatusCode::BAD_GATEWAY, FailureCode::UpstreamInvalid, message)
        }
    };
    ErrorDescription { cache_status, ..error }
}

/// The error for a stored zip that is damaged.
fn damaged_zip(subject: Subject<'_>, cache_status: Option<CacheStatus>) -> ErrorDescription {
    let message = format!("the stored zip of {} is damaged; {ASK_OPERATOR}", subject.what());
    ErrorDescription { cache_status, ..ErrorDescription::new(StatusCode::INTERNAL_SERVER_ERROR, message) }
}

impl HostError {
    /// 400, or 421 for another name than the configured ones.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Malformed | Self::Missing | Self::Repeated | Self::ForwardedNotText | Self::ForwardedProto => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Malformed => "host may only be a name or an address with an optional port",
            Self::Missing => "the request names no host; send the Host field",
            Self::Repeated => "host may be given only once",
            Self::ForwardedNotText => "a forwarded field is not text",
            Self::ForwardedProto => "x-forwarded-proto may only be http or https",
            Self::Misdirected => "this mirror does not answer under this name; ask its operator for the right address",
        }
    }
}

/// When to try again after the mirror had too much work.
const OVERLOADED_RETRY: Duration = Duration::from_secs(2);
/// When to ask again for a zip that is being downloaded.
const STILL_ARRIVING_RETRY: Duration = Duration::from_secs(10);
/// Longest reason phrase, in bytes: what the command line clients print on one line.
const MAX_REASON_BYTES: usize = 200;
const ASK_OPERATOR: &str = "ask the operator of this mirror";

/// A period in whole seconds, rounded up, at least one.
pub(crate) fn whole_seconds(period: Duration) -> u64 {
    period.as_secs().saturating_add(u64::from(period.subsec_nanos() > 0)).max(1)
}

/// True for requests whose client expects a zip: it prints the reason phrase of an error, and nothing of the body.
fn is_for_zip(request: Option<&ApiRequest>) -> bool {
    matches!(request, Some(ApiRequest::Archive { .. } | ApiRequest::Flat { .. }))
}

/// A sentence as the reason phrase of HTTP/1.1 (RFC 9112 §4): printable ASCII, at most [`MAX_REASON_BYTES`]; every other
/// character becomes a question mark.
fn reason_phrase(sentence: &str) -> ReasonPhrase {
    let printable = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let mut text: String = sentence.chars().map(printable).take(MAX_REASON_BYTES + 1).collect();
    if text.len() > MAX_REASON_BYTES {
        text.truncate(MAX_REASON_BYTES - 3);
        text.push_str("...");
    }
    // Printable ASCII is always a reason phrase.
    ReasonPhrase::try_from(text.into_bytes()).unwrap_or(ReasonPhrase::from_static(b"Error"))
}
