//! Fetches the documents of the issuers of tokens: their descriptions and key sets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::redirect::Policy;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    access::{KeySource, KeySourceError},
    upstream::system_roots,
};

/// Longest time for one document, from the connection to its last byte.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest document, bytes.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// The client for issuers, apart from those of upstreams: directly, without redirects, cookies or credentials.
#[derive(Debug)]
pub(super) struct IssuerDocuments {
    client: reqwest::Client,
    /// The runtime of the app, which runs the renewals: the runtime of a connection thread may end earlier.
    runtime: Handle,
    tasks: TaskTracker,
    background: CancellationToken,
}

impl IssuerDocuments {
    /// Opens no connection. Must be called within the runtime of the app, whose `tasks` end when `background` is cancelled.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(tasks: TaskTracker, background: CancellationToken) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("srm-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(DOCUMENT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .tls_certs_only(system_roots().iter().cloned())
            .build()?;
        Ok(Self { client, runtime: Handle::current(), tasks, background })
    }
}

impl KeySource for IssuerDocuments {
    fn fetch(&self, url: Url) -> BoxFuture<'static, Result<Bytes, KeySourceError>> {
        let client = self.client.clone();
        Box::pin(async move {
            let mut response = client.get(url).send().await.map_err(|error| reason(&error))?;
            if response.status() != http::StatusCode::OK {
                return Err(KeySourceError::Status(response.status().as_u16()));
            }
            let mut text = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
                if text.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                    return Err(KeySourceError::TooLarge);
                }
                text.extend_from_slice(&chunk);
            }
            Ok(text.into())
        })
    }

    fn spawn(&self, renewal: BoxFuture<'static, ()>) {
        let background = self.background.clone();
        let until_shutdown = async move { background.run_until_cancelled_owned(renewal).await };
        self.tasks.spawn_on(until_shutdown, &self.runtime);
    }
}

fn reason(error: &reqwest::Error) -> KeySourceError {
    if error.is_timeout() { KeySourceError::TimedOut } else { KeySourceError::Unreachable }
}
