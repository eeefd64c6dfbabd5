//! The one log event of a request, written when its answer has ended.

use std::{net::SocketAddr, time::Instant};

use http::{Method, Response, header, request::Parts};

use super::RequestContext;
use crate::{
    dialect::{ApiRequest, Dialect},
    http::body::{Body, BodyEnd, BodyOutcome},
    observe::{self, AccessEvent},
};

/// Stands by while a request is answered. If it is dropped before, the client has left, and the event says so.
pub(super) struct AbortGuard<'a> {
    parts: &'a Parts,
    client: SocketAddr,
    context: &'a mut RequestContext,
    disarm: bool,
}

impl<'a> AbortGuard<'a> {
    pub(super) fn new(parts: &'a Parts, client: SocketAddr, context: &'a mut RequestContext) -> Self {
        Self { parts, client, context, disarm: false }
    }

    /// What the request comes to.
    pub(super) fn context(&mut self) -> &mut RequestContext {
        self.context
    }

    /// There is an answer; the event is its affair.
    pub(super) fn disarm(mut self) {
        self.disarm = true;
    }
}

impl Drop for AbortGuard<'_> {
    fn drop(&mut self) {
        if !self.disarm
            && let Some(event) = Event::of(self.parts, self.client, self.context)
        {
            event.write(self.context, None, BodyEnd { sent: 0, outcome: BodyOutcome::Aborted });
        }
    }
}

/// Arranges that the event is written at the end of the answer. Costs nothing while the level is off.
pub(super) fn observe(
    response: Response<Body>,
    parts: &Parts,
    client: SocketAddr,
    context: RequestContext,
) -> Response<Body> {
    let Some(event) = Event::of(parts, client, &context) else { return response };
    let answer = (response.status().as_u16(), millis(event.started));
    response.map(|body| body.on_end(move |end| event.write(&context, Some(answer), end)))
}

/// What the event says of the request.
struct Event {
    started: Instant,
    client: SocketAddr,
    agent: Option<String>,
    method: Method,
}

impl Event {
    /// `None` where none will be written.
    fn of(parts: &Parts, client: SocketAddr, context: &RequestContext) -> Option<Self> {
        let started = context.started?;
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Some(Self { started, client, agent, method: parts.method.clone() })
    }

    /// Writes it: with the answer's status and when it began, in milliseconds, where there was one.
    fn write(&self, context: &RequestContext, answer: Option<(u16, u64)>, ended: BodyEnd) {
        let ask = context.route.as_ref().map(|route| &route.request);
        let package = ask.and_then(ApiRequest::package);
        let name = package.map(|package| package.name.to_string());
        let version = ask.and_then(version);
        let field = context.cache.as_ref().map(|cache| cache.render(super::CACHE_NAME));
        observe::write_access_event(&AccessEvent {
            request_id: &context.id.to_string(),
            client: self.client,
            user_agent: self.agent.as_deref(),
            method: self.method.as_str(),
            dialect: context.route.as_ref().map(|route| dialect(route.dialect, &route.request)),
            upstream: package.map(|package| &*package.upstream),
            package: name.as_deref(),
            version: version.as_deref(),
            status: answer.map(|(status, _)| status),
            cache: context.cache.as_ref().map(|cache| cache.label()),
            cache_status: field.as_ref().and_then(|value| value.to_str().ok()),
            upstream_status: context.cache.as_ref().and_then(|cache| cache.fwd_status),
            bytes: ended.sent,
            duration_ms: millis(self.started),
            first_byte_ms: answer.map(|(_, first_byte_ms)| first_byte_ms),
            outcome: ended.outcome,
        });
    }
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn dialect(dialect: Dialect, ask: &ApiRequest) -> &'static str {
    match (dialect, ask) {
        (_, ApiRequest::Ops(_)) => "ops",
        (Dialect::Srm, _) => "srm",
        (Dialect::Github(_), _) => "github",
        (Dialect::Simple, _) => "simple",
        (Dialect::V3, _) => "v3",
    }
}

fn version(ask: &ApiRequest) -> Option<String> {
    match ask {
        ApiRequest::Tag { version, .. }
        | ApiRequest::Archive { version, .. }
        | ApiRequest::Flat { version, .. }
        | ApiRequest::Metadata { version: Some(version), .. } => Some(version.to_string()),
        _ => None,
    }
}
