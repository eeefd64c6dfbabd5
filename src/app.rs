//! STUB: the composition root; binds, and answers 503 to everything.
use std::{collections::BTreeMap, net::SocketAddr};

use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    server::{self, Bound},
    value::Secret,
};

/// The mirror, bound to its addresses but not serving yet.
pub struct Running {
    /// Where it listens; the ports are real ones.
    pub addresses: Vec<SocketAddr>,
    bound: Bound,
}

/// Builds everything and binds the listeners.
///
/// # Errors
/// When a listener cannot be bound.
pub async fn start(config: Config, _tokens: BTreeMap<String, Option<Secret>>) -> anyhow::Result<Running> {
    let bound = server::bind(&config.server)?;
    Ok(Running { addresses: bound.addresses().to_vec(), bound })
}

impl Running {
    /// Serves until `shutdown`, then drains; `now` ends it at once.
    ///
    /// # Errors
    /// None yet.
    pub async fn run_until(self, shutdown: CancellationToken, now: CancellationToken) -> anyhow::Result<()> {
        self.bound.serve(Unavailable, shutdown, now).await;
        Ok(())
    }
}

#[derive(Clone)]
struct Unavailable;

impl server::Handler for Unavailable {
    type Body = http_body_util::Empty<bytes::Bytes>;

    async fn handle(
        &self,
        _request: http::Request<hyper::body::Incoming>,
        _peer: server::Peer,
    ) -> http::Response<Self::Body> {
        let mut response = http::Response::new(http_body_util::Empty::new());
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        response
    }
}
