//! `/healthz` and `/readyz`: whether the process is alive and ready, and why it is degraded.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    admin_api::MirrorState,
    dialect::Ops,
    http::body::Body,
    peer::ClientTable,
    service::{Service, headers::NO_STORE},
};

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

/// Whether the process is starting, serving or draining. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Makes `/readyz` answer 200: the mirror serves.
    pub fn set_serving(&self) {
        self.0.store(SERVING, Ordering::Release);
    }

    /// Makes `/readyz` answer 503, so that load balancers choose another instance: the drain has begun.
    pub fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    /// True while `/readyz` answers 200.
    pub(in crate::service) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == SERVING
    }

    /// The state as `/readyz` reports it; `reasons` are those of a degraded mirror.
    pub(in crate::service) fn state(&self, reasons: &[String]) -> MirrorState {
        match self.0.load(Ordering::Acquire) {
            STARTING => MirrorState::Starting,
            DRAINING => MirrorState::Draining,
            _ if reasons.is_empty() => MirrorState::Ready,
            _ => MirrorState::Degraded,
        }
    }

    /// The response of `/readyz`. Faults of the storage and of upstreams make the mirror `degraded` with status 200: it still
    /// serves.
    fn respond(&self, reasons: &[String], clients: &ClientTable, method: &Method) -> Response<Body> {
        let json_response = |status, value: &Value| json_response(method, status, value);
        let state = self.state(reasons);
        let mut body = json!({"status": state});
        if !reasons.is_empty() {
            body["reasons"] = json!(reasons);
        }
        match state {
            MirrorState::Starting | MirrorState::Draining => json_response(StatusCode::SERVICE_UNAVAILABLE, &body),
            MirrorState::Ready | MirrorState::Degraded => {
                let refused = clients.refused();
                if !refused.is_empty() {
                    body["refused"] = json!(refused);
                }
                json_response(StatusCode::OK, &body)
            }
        }
    }
}

/// True for the path of a health check.
pub fn is_health_check(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// Responds to a health check.
pub(in crate::service) fn respond(service: &Service, ops: &Ops, method: &Method) -> Response<Body> {
    match ops {
        Ops::Healthz => json_response(method, StatusCode::OK, &json!({"status": "alive"})),
        Ops::Readyz => {
            let reasons = service.faults().into_reasons();
            service.readiness.respond(&reasons, &service.clients, method)
        }
        Ops::Metrics | Ops::OpenApi | Ops::Admin(_) | Ops::Web(_) => no_such_page(method),
    }
}

/// 404 for pages that this mirror does not have, or not on this listener.
pub(in crate::service) fn no_such_page(method: &Method) -> Response<Body> {
    json_response(method, StatusCode::NOT_FOUND, &json!({"message": "this mirror has no such page", "status": "404"}))
}

/// A JSON response; for HEAD without the body, which hyper would not send and the access log would report as aborted.
fn json_response(method: &Method, status: StatusCode, value: &Value) -> Response<Body> {
    let body = Bytes::from(format!("{value}\n"));
    let len = HeaderValue::from(body.len());
    let mut response = Response::new(if *method == Method::HEAD { Body::empty() } else { Body::full(body) });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, len);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}
