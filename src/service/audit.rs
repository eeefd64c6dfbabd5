//! What the audit log says of requests and of administrative acts.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, Method, Response, header};
use serde::Serialize;

use super::{
    context::RequestContext,
    request_labels::{route_label, version},
};
use crate::{
    dialect::{ApiRequest, Ops},
    http::body::{Body, BodyEnd},
    observe::{AuditEvent, AuditLog, AuditUnwritable},
};

/// Longest request of an administrative act that is recorded whole, bytes of JSON.
const MAX_RECORDED_REQUEST_BYTES: usize = 4096;

/// Who administers: the owner of the cache directory, through its control socket.
const OPERATOR: &str = "operator";

/// Bytes of a method, or of an administration route, that are recorded: a client may send any.
const MAX_ACTION_BYTES: usize = 32;

/// What is recorded of a response's header.
pub(super) struct AuditedHead {
    status: u16,
    /// The entity tag, which for a zip is its SHA-256.
    etag: Option<HeaderValue>,
}

impl AuditedHead {
    /// The recorded part of a response's header.
    pub(super) fn of(response: &Response<Body>) -> Self {
        Self { status: response.status().as_u16(), etag: response.headers().get(header::ETAG).cloned() }
    }
}

/// Records a request about packages, and every refusal; `head` is `None` when the client left before there was a response.
/// Health checks and `/metrics` are left out, and so are requests on the control socket, whose acts [`Acts`] record.
pub(super) fn record(method: &Method, context: &RequestContext, head: Option<&AuditedHead>, end: &BodyEnd) {
    let Some(audit) = &context.audit else { return };
    let request = context.request();
    let action = match request {
        Some(ApiRequest::Ops(Ops::Admin(path))) => path,
        Some(ApiRequest::Ops(_)) => return,
        _ => method.as_str(),
    };
    if context.peer.is_control() {
        return;
    }
    let action = &action[..action.floor_char_boundary(MAX_ACTION_BYTES)];
    let package = context.package.as_deref();
    let named = request.and_then(ApiRequest::package).map(|package| package.name());
    let name = named.or(package.map(|package| &package.name)).map(ToString::to_string);
    let version = request.and_then(version);
    let failure = context.failure.as_ref();
    let code = failure.and_then(|failure| failure.code).map(|code| code.to_string());
    let is_zip = matches!(request, Some(ApiRequest::Archive { .. } | ApiRequest::Flat { .. }));
    let etag = head.and_then(|head| head.etag.as_ref()).filter(|_| is_zip).and_then(|etag| etag.to_str().ok());
    let principal = context.caller.principal();
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

/// Who does administrative acts, and where they are recorded.
#[derive(Clone)]
pub(super) struct Acts {
    /// `None` without an audit log.
    audit: Option<AuditLog>,
    request_id: String,
    principal: String,
    credential: Option<String>,
    client: Option<IpAddr>,
    /// `None` on the control socket.
    peer: Option<SocketAddr>,
}

/// An act that has begun.
pub(super) struct Act {
    acts: Acts,
    route: &'static str,
    request: Option<serde_json::Value>,
}

impl Acts {
    /// The acts of the request's caller.
    pub(super) fn of(context: &RequestContext) -> Self {
        let principal = context.caller.principal();
        let is_network = !context.peer.is_control();
        Self {
            audit: context.audit.clone(),
            request_id: context.id.to_string(),
            principal: principal.map_or_else(|| OPERATOR.to_owned(), |principal| principal.name.to_string()),
            credential: principal.map(|principal| principal.credential.to_string()),
            client: context.client,
            peer: is_network.then_some(context.peer.addr),
        }
    }

    /// The name of the caller in records.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// Begins an act. An act over the network is recorded first, and may be done only if that succeeds. An act on the control
    /// socket is recorded at its end: it may be what frees a full disk.
    ///
    /// # Errors
    /// [`AuditUnwritable`]: the act must not be done.
    pub(super) async fn begin(&self, route: &'static str, request: &impl Serialize) -> Result<Act, AuditUnwritable> {
        let act = self.begin_unrecorded(route, request);
        if let (Some(audit), Some(_)) = (&self.audit, self.peer) {
            audit.record_before(&act.event("begun", None)).await?;
        }
        Ok(act)
    }

    /// Begins an act that is done even if it cannot be recorded, such as a revocation.
    pub(super) fn begin_unrecorded(&self, route: &'static str, request: &impl Serialize) -> Act {
        let request = self.audit.as_ref().and_then(|_| serde_json::to_value(request).ok());
        let is_short = |value: &serde_json::Value| value.to_string().len() <= MAX_RECORDED_REQUEST_BYTES;
        Act { acts: self.clone(), route, request: request.filter(is_short) }
    }
}

impl Act {
    /// Records how the act ended; `failure` is the sentence of its error. Over the network it waits for the file, as long as
    /// [`AuditLog::record_before`] does, and logs an act that could not be recorded.
    pub(super) async fn end(self, failure: Option<&str>) {
        let Some(audit) = &self.acts.audit else { return };
        let event = self.event(if failure.is_none() { "done" } else { "failed" }, failure);
        if self.acts.peer.is_none() {
            audit.record(&event);
        } else if audit.record_before(&event).await.is_err() {
            let principal = &self.acts.principal;
            tracing::error!(
                act = self.route,
                principal,
                outcome = event.outcome,
                "the audit log cannot be written: an administrative act is not recorded there"
            );
        }
    }

    fn event<'a>(&'a self, outcome: &'a str, failure: Option<&'a str>) -> AuditEvent<'a> {
        let acts = &self.acts;
        AuditEvent {
            request_id: acts.peer.map(|_| acts.request_id.as_str()),
            principal: Some(&acts.principal),
            credential: acts.credential.as_deref(),
            client: acts.client,
            peer: acts.peer,
            reason: failure,
            request: self.request.as_ref(),
            ..AuditEvent::new(jiff::Timestamp::now(), "administration", self.route, outcome)
        }
    }
}
