//! The access event of a request, written when its response has ended.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Response, Uri, Version, header, request::Parts};

use super::{
    audit::{self, AuditedHead},
    context::RequestContext,
    headers::CACHE_NAME,
    request_labels::{NO_ROUTE, route_label, route_number, version},
};
use crate::{
    admin_api::FailureCode,
    dialect::{ApiRequest, Dialect},
    http::{
        body::{Body, BodyEnd, BodyOutcome},
        cache_status::CacheStatus,
    },
    observe::{self, AccessEvent, ResponseFigures, ThreadMetrics},
    peer::ClientRequest,
};

/// Logs the request as aborted when it is dropped before [`AbortGuard::disarm`]: the client left before the response.
pub(super) struct AbortGuard<'a> {
    parts: &'a Parts,
    context: &'a mut RequestContext,
    is_armed: bool,
}

impl<'a> AbortGuard<'a> {
    pub(super) fn new(parts: &'a Parts, context: &'a mut RequestContext) -> Self {
        Self { parts, context, is_armed: true }
    }

    /// The context of the guarded request.
    pub(super) fn context(&mut self) -> &mut RequestContext {
        self.context
    }

    /// Ends the guard without an event: there is a response, whose end is logged instead.
    pub(super) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for AbortGuard<'_> {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let count = ResponseCount::of(self.context, None);
        let fields = LoggedFields::of(self.parts, self.context);
        let end = BodyEnd { sent: 0, outcome: BodyOutcome::Aborted, reason: None };
        let whole = count.end(&self.context.metrics, &end);
        if let Some(fields) = fields {
            audit::record(&fields.method, self.context, None, &end);
            fields.write(self.context, None, whole, end);
        }
    }
}

/// Counts the request when the response's body has ended or is dropped, and logs it where a log is on.
///
/// The client's request is under way until then, logged or not.
pub(super) fn log_at_end(response: Response<Body>, parts: &Parts, mut context: RequestContext) -> Response<Body> {
    let head = ResponseHead { status: response.status().as_u16(), time: context.started.elapsed() };
    let count = ResponseCount::of(&mut context, Some(head));
    let Some(fields) = LoggedFields::of(parts, &context) else {
        let metrics = context.metrics;
        return response.map(|body| {
            body.on_end(move |end| {
                count.end(&metrics, &end);
            })
        });
    };
    let audited = context.audit.is_some().then(|| AuditedHead::of(&response));
    response.map(|body| {
        body.on_end(move |end| {
            let whole = count.end(&context.metrics, &end);
            audit::record(&fields.method, &context, audited.as_ref(), &end);
            fields.write(&context, Some(head), whole, end);
        })
    })
}

/// What is known before a response ends of the figures that it is counted by.
struct ResponseCount {
    started: Instant,
    /// The index in [`observe::ROUTE_LABELS`].
    route: usize,
    outcome: Option<&'static str>,
    /// Of an error about a package.
    cause: Option<FailureCode>,
    /// `None` when the client left before there was a response.
    head: Option<ResponseHead>,
    /// Counts the request against its client's limits until it is dropped.
    client_request: Option<ClientRequest>,
}

impl ResponseCount {
    fn of(context: &mut RequestContext, head: Option<ResponseHead>) -> Self {
        Self {
            started: context.started,
            route: context.request().map_or(NO_ROUTE, route_number),
            // An aborted request got no answer.
            outcome: head.and(context.cache_status.as_ref()).map(CacheStatus::label),
            cause: head.and(context.failure.as_ref()).and_then(|failure| failure.code),
            head,
            client_request: context.client_request.take(),
        }
    }

    /// Counts the response, and returns the time that it took.
    fn end(self, metrics: &ThreadMetrics, end: &BodyEnd) -> Duration {
        let whole = self.started.elapsed();
        metrics.record(&ResponseFigures {
            route: self.route,
            status: self.head.map(|head| head.status),
            outcome: self.outcome,
            cause: self.cause.map(|cause| cause as usize),
            bytes: end.sent,
            head: self.head.map(|head| head.time),
            whole,
        });
        if let Some(request) = self.client_request {
            request.note_bytes(end.sent);
        }
        whole
    }
}

/// Fields of the event that come from the request's header.
struct LoggedFields {
    user_agent: Option<HeaderValue>,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
}

/// The status of a response, and when its header was made.
#[derive(Clone, Copy)]
struct ResponseHead {
    status: u16,
    /// From the request's header to the response's.
    time: Duration,
}

impl LoggedFields {
    /// `None` when the access log and the audit log are off.
    fn of(parts: &Parts, context: &RequestContext) -> Option<Self> {
        if !observe::access_log_enabled() && context.audit.is_none() {
            return None;
        }
        // Clones of the values, which share their bytes.
        let field = |name| HeaderMap::get(&parts.headers, name).cloned();
        Some(Self {
            user_agent: field(header::USER_AGENT),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            host: field(header::HOST),
            version: parts.version,
        })
    }

    /// Writes the event; `head` is `None` when the client left before there was a response, `whole` the time to its end.
    fn write(&self, context: &RequestContext, head: Option<ResponseHead>, whole: Duration, end: BodyEnd) {
        let request = context.request();
        let package = context.package.as_deref();
        let named = request.and_then(ApiRequest::package);
        let name =
            named.map(|package| package.name()).or(package.map(|package| &package.name)).map(ToString::to_string);
        let version = request.and_then(version);
        // RFC 9112 §3.2.2: the authority of an absolute target wins over Host.
        let host = self.uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = host.or(self.host.as_ref().map(HeaderValue::as_bytes));
        let failure = context.failure.as_ref();
        let principal = context.caller.principal();
        let code = failure.and_then(|failure| failure.code).map(|code| code.to_string());
        let is_network = !context.peer.is_control();
        let field = context.cache_status.as_ref().map(|status| status.render(CACHE_NAME));
        observe::write_access_event(&AccessEvent {
            request_id: &context.id.to_string(),
            client: context.client,
            peer: is_network.then_some(context.peer.addr),
            principal: principal.map(|principal| &*principal.name),
            credential: principal.map(|principal| &*principal.credential),
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
            method: self.method.as_str(),
            host,
            path: self.uri.path(),
            protocol: protocol(self.version),
            tls: context.peer.is_encrypted(),
            route: request.map(route_label),
            dialect: context.route.as_ref().map(|route| dialect_label(route.dialect, &route.request)),
            upstream: package.map(|package| &*package.upstream),
            package: name.as_deref(),
            version: version.as_deref(),
            status: head.map(|head| head.status),
            cache: context.cache_status.as_ref().map(|status| status.label()),
            cache_status: field.as_ref().and_then(|value| value.to_str().ok()),
            upstream_status: context.cache_status.as_ref().and_then(|status| status.fwd_status),
            bytes: end.sent,
            head_ms: head.map(|head| millis(head.time)),
            duration_ms: millis(whole),
            outcome: end.outcome,
            code: code.as_deref(),
            reason: end.reason.as_deref().or(failure.map(|failure| failure.message.as_str())),
        });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn dialect_label(dialect: Dialect, request: &ApiRequest) -> &'static str {
    match (dialect, request) {
        (_, ApiRequest::Ops(_)) => "ops",
        (Dialect::Srm, _) => "srm",
        (Dialect::Github(_), _) => "github",
        (Dialect::Simple, _) => "simple",
        (Dialect::V3, _) => "v3",
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "other",
    }
}
