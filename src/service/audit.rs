//! What the audit log says of requests and of administrative acts.

use http::{HeaderValue, Method, Response, header};
use serde::Serialize;

use super::{
    access_log::{route_label, version},
    context::RequestContext,
};
use crate::{
    dialect::ApiRequest,
    http::body::{Body, BodyEnd},
    observe::{AuditEvent, AuditLog},
};

/// Longest request of an administrative act that is recorded whole, bytes of JSON.
const MAX_RECORDED_REQUEST_BYTES: usize = 4096;

/// Who administers: the owner of the cache directory, through its control socket.
const OPERATOR: &str = "operator";

/// Bytes of a method that are recorded: a client may send any token.
const MAX_ACTION_BYTES: usize = 32;

/// What is recorded of a response's header.
pub(super) struct AuditedHead {
    status: u16,
    /// The entity tag, which for a zip is its SHA-256.
    etag: Option<HeaderValue>,
}

impl AuditedHead {
    /// Takes it from a response.
    pub(super) fn of(response: &Response<Body>) -> Self {
        Self { status: response.status().as_u16(), etag: response.headers().get(header::ETAG).cloned() }
    }
}

/// Records a request about packages, and every refusal; `head` is `None` when the client left before there was a
/// response. Health checks are left out, and so is administration, which records what it does.
pub(super) fn record(method: &Method, context: &RequestContext, head: Option<&AuditedHead>, end: &BodyEnd) {
    let Some(audit) = &context.audit else { return };
    let request = context.request();
    if context.peer.control || matches!(request, Some(ApiRequest::Ops(_))) {
        return;
    }
    let package = context.package.as_deref();
    let name = request.and_then(ApiRequest::package).map(|package| package.name().to_string());
    let version = request.and_then(version);
    let failure = context.failure.as_ref();
    let code = failure.and_then(|failure| failure.code).map(|code| code.to_string());
    let is_zip = matches!(request, Some(ApiRequest::Archive { .. } | ApiRequest::Flat { .. }));
    let etag = head.and_then(|head| head.etag.as_ref()).filter(|_| is_zip).and_then(|etag| etag.to_str().ok());
    let principal = context.caller.principal();
    let action = method.as_str().get(..MAX_ACTION_BYTES).unwrap_or(method.as_str());
    audit.record(&AuditEvent {
        request_id: Some(&context.id.to_string()),
        principal: principal.map(|principal| &*principal.name),
        credential: principal.map(|principal| &*principal.credential),
        client: context.client,
        peer: Some(context.peer.addr),
        upstream: package.map(|package| &*package.upstream),
        package: name.as_deref(),
        version: version.as_deref(),
        resource: request.map(route_label),
        sha256: etag.map(|etag| etag.trim_matches('"')),
        rule: context.refused_by,
        status: head.map(|head| head.status),
        bytes: Some(end.sent),
        code: code.as_deref(),
        reason: end.reason.as_deref().or(failure.map(|failure| failure.message.as_str())),
        ..AuditEvent::new(jiff::Timestamp::now(), "request", action, end.outcome.as_str())
    });
}

/// Records an administrative act; `failure` is the sentence of its error.
pub(super) fn record_act(audit: &AuditLog, route: &str, request: &impl Serialize, failure: Option<&str>) {
    let request = serde_json::to_value(request).ok();
    let is_short = |value: &serde_json::Value| value.to_string().len() <= MAX_RECORDED_REQUEST_BYTES;
    let request = request.filter(is_short);
    let outcome = if failure.is_none() { "done" } else { "failed" };
    audit.record(&AuditEvent {
        principal: Some(OPERATOR),
        reason: failure,
        request: request.as_ref(),
        ..AuditEvent::new(jiff::Timestamp::now(), "administration", route, outcome)
    });
}
