//! Questions about the mirror itself: is it alive, is it ready, and if not quite, why.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::{dialect::Ops, http::body::Body, registry::Registry};

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

/// Where the process is in its life. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// Everything is up: `/readyz` is 200 from here on.
    pub fn serving(&self) {
        self.0.store(SERVING, Ordering::Release);
    }

    /// The end has begun: `/readyz` is 503 so that balancers look elsewhere.
    pub fn draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    /// Answers an ops question. Trouble below makes the mirror `degraded`, never not ready: it still serves.
    pub(in crate::service) fn answer(&self, question: &Ops, mirror: &Registry) -> Response<Body> {
        let (status, value) = match question {
            Ops::Healthz => (StatusCode::OK, json!({"status": "alive"})),
            Ops::Readyz => match self.0.load(Ordering::Acquire) {
                STARTING => (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "starting"})),
                DRAINING => (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "draining"})),
                _ => match mirror.degraded() {
                    None => (StatusCode::OK, json!({"status": "ready"})),
                    Some(reason) => (StatusCode::OK, json!({"status": "degraded", "reasons": [reason]})),
                },
            },
            Ops::Metrics | Ops::Admin(_) => {
                (StatusCode::NOT_FOUND, json!({"message": "this mirror has no such page", "status": "404"}))
            }
        };
        let mut response = Response::new(Body::full(Bytes::from(format!("{value}\n"))));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
