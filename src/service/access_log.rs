//! The access event of a request, written when its response has ended.

use std::time::Instant;

use http::{Method, Response, header, request::Parts};

use super::{context::RequestContext, headers::CACHE_NAME};
use crate::{
    dialect::{ApiRequest, Dialect},
    http::body::{Body, BodyEnd, BodyOutcome},
    observe::{self, AccessEvent},
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
        if self.is_armed
            && let Some(fields) = LoggedFields::of(self.parts, self.context)
        {
            fields.write(self.context, None, BodyEnd { sent: 0, outcome: BodyOutcome::Aborted, reason: None });
        }
    }
}

/// Logs the request when the response's body has ended or is dropped. Does nothing when the access log is off.
pub(super) fn log_at_end(response: Response<Body>, parts: &Parts, context: RequestContext) -> Response<Body> {
    let Some(fields) = LoggedFields::of(parts, &context) else { return response };
    let head = ResponseHead { status: response.status().as_u16(), first_byte_ms: elapsed_ms(fields.started) };
    response.map(|body| body.on_end(move |end| fields.write(&context, Some(head), end)))
}

/// Fields of the event that come from the request's header.
struct LoggedFields {
    started: Instant,
    user_agent: Option<String>,
    method: Method,
}

/// Fields of the event that are known when the response's header is.
struct ResponseHead {
    status: u16,
    first_byte_ms: u64,
}

impl LoggedFields {
    /// `None` when the access log is off.
    fn of(parts: &Parts, context: &RequestContext) -> Option<Self> {
        let started = context.started?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Some(Self { started, user_agent, method: parts.method.clone() })
    }

    /// Writes the event; `head` is `None` when the client left before there was a response.
    fn write(&self, context: &RequestContext, head: Option<ResponseHead>, end: BodyEnd) {
        let request = context.request();
        let package = context.package.as_ref();
        let named = request.and_then(ApiRequest::package);
        let name = named.map(|package| package.name().to_string());
        let version = request.and_then(version);
        let field = context.cache_status.as_ref().map(|status| status.render(CACHE_NAME));
        observe::write_access_event(&AccessEvent {
            request_id: &context.id.to_string(),
            client: context.peer.addr,
            user_agent: self.user_agent.as_deref(),
            method: self.method.as_str(),
            dialect: context.route.as_ref().map(|route| dialect_label(route.dialect, &route.request)),
            upstream: package.map(|package| &*package.upstream),
            package: name.as_deref(),
            version: version.as_deref(),
            status: head.as_ref().map(|head| head.status),
            cache: context.cache_status.as_ref().map(|status| status.label()),
            cache_status: field.as_ref().and_then(|value| value.to_str().ok()),
            upstream_status: context.cache_status.as_ref().and_then(|status| status.fwd_status),
            bytes: end.sent,
            duration_ms: elapsed_ms(self.started),
            first_byte_ms: head.as_ref().map(|head| head.first_byte_ms),
            outcome: end.outcome,
            reason: end.reason.as_deref(),
        });
    }
}

fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
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

fn version(request: &ApiRequest) -> Option<String> {
    match request {
        ApiRequest::Tag { version, .. }
        | ApiRequest::Archive { version, .. }
        | ApiRequest::Flat { version, .. }
        | ApiRequest::Metadata { version: Some(version), .. } => Some(version.to_string()),
        _ => None,
    }
}
