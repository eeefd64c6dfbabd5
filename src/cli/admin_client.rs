//! A conversation with whoever holds the cache directory: the running server, or the mirror in this very process.
//!
//! Both speak by the control socket, so a command has one way to do its work.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect::Policy};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{FAILED, IO, USAGE};
use crate::{
    app::{App, OpenError},
    config::Loaded,
    observe,
    server::control::SocketPath,
};

/// How long a holder may take until it answers: one that starts may have to look through the directory first.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two attempts.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest line of an answer, bytes.
const LONGEST_LINE: usize = 512 << 20;

const NONSENSE: &str = "the mirror answered nonsense";

/// The one who is to do the work does not answer (`EX_UNAVAILABLE`).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unavailable(pub(super) String);

/// What the mirror answered instead of doing what it was asked; the message is for a person.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// Why.
    pub(super) message: String,
}

impl Refused {
    /// What was asked is wrong, the answer is no, or the mirror's disk does not do its work.
    pub(super) fn exit_code(&self) -> u8 {
        match self.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => FAILED,
            StatusCode::INTERNAL_SERVER_ERROR => IO,
            status if status.is_client_error() => USAGE,
            _ => FAILED,
        }
    }
}

/// An open conversation.
pub(super) struct AdminClient {
    client: Client,
    base: String,
    /// The socket's path must stay valid.
    _socket: Option<SocketPath>,
    local: Option<Local>,
}

/// The mirror in this process.
struct Local {
    shutdown: CancellationToken,
    run: JoinHandle<anyhow::Result<()>>,
}

/// Runs `work` in a session of its own: sets up the log (warnings, unless a level was set) and the runtime, opens the
/// session and closes it.
pub(super) fn run<T>(
    mut loaded: Loaded,
    work: impl AsyncFnOnce(&AdminClient) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if !loaded.source(&["log", "level"]).is_set() {
        loaded.config.log.level = "warn".into();
    }
    let _log = observe::init(&loaded.config.log).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let done = runtime.block_on(async {
        let session = AdminClient::open(loaded).await?;
        let done = work(&session).await;
        let closed = session.close().await;
        done.and_then(|value| closed.map(|()| value))
    });
    runtime.shutdown_background();
    done
}

impl AdminClient {
    /// Talks to the holder of the cache directory, or takes the directory and becomes it.
    pub(super) async fn open(loaded: Loaded) -> anyhow::Result<Self> {
        let dir = loaded.config.disk.dir.clone().context("disk.dir is not set")?;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let busy = match App::bind_control_only(loaded.config.clone(), loaded.tokens.clone()).await {
                Ok(app) => {
                    let shutdown = CancellationToken::new();
                    let now = CancellationToken::new();
                    let run = tokio::spawn(app.serve_until(shutdown.clone(), now));
                    return Self::by_socket(&dir, Some(Local { shutdown, run }));
                }
                Err(error) => match error.downcast_ref::<OpenError>() {
                    Some(OpenError::Busy { .. }) => error,
                    _ => return Err(error),
                },
            };
            let session = Self::by_socket(&dir, None)?;
            if session.post("ping", &json!({})).await.is_ok() {
                return Ok(session);
            }
            if tokio::time::Instant::now() > until {
                return Err(Unavailable(format!("{busy}, which does not answer")).into());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Talks to a mirror by its address; it answers no administration.
    pub(super) fn server(base: &str) -> anyhow::Result<Self> {
        let client = builder().build().context("set up the client")?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), _socket: None, local: None })
    }

    fn by_socket(dir: &Path, local: Option<Local>) -> anyhow::Result<Self> {
        let socket = SocketPath::of(dir).context("open the cache directory")?;
        let client = builder().unix_socket(socket.path().to_owned()).build().context("set up the client")?;
        Ok(Self { client, base: "http://srm-mirror".to_owned(), _socket: Some(socket), local })
    }

    /// A request to any route of the mirror; `path` begins with a slash.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Asks by GET; any status is an answer.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Response> {
        Ok(self.request(Method::GET, path).send().await.map_err(unreachable)?)
    }

    /// Asks the administration `/-/{what}` and reads its one answer.
    pub(super) async fn post(&self, what: &str, ask: &impl Serialize) -> anyhow::Result<Value> {
        let response = self.ask(what, ask).await?;
        let body = response.bytes().await.map_err(unreachable)?;
        serde_json::from_slice(&body).context(NONSENSE)
    }

    /// Asks the administration `/-/{what}` and hands over each line of its answer; an error of `each` ends it.
    pub(super) async fn lines(
        &self,
        what: &str,
        ask: &impl Serialize,
        mut each: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.raw_lines(what, ask, |line| each(serde_json::from_slice(line).context(NONSENSE)?)).await
    }

    /// As [`AdminClient::lines`], for very many of them: each is JSON, unread and without its end.
    pub(super) async fn raw_lines(
        &self,
        what: &str,
        ask: &impl Serialize,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut stream = self.ask(what, ask).await?.bytes_stream();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(bytes) = stream.next().await {
            let bytes: Bytes = bytes.map_err(unreachable)?;
            let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
            while let Some(part) = parts.next() {
                rest.extend_from_slice(part);
                if rest.len() > LONGEST_LINE {
                    return Err(anyhow!("the mirror answered nonsense: a line without end"));
                }
                if parts.peek().is_some() {
                    each(&rest)?;
                    rest.clear();
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, what: &str, ask: &impl Serialize) -> anyhow::Result<Response> {
        let body = serde_json::to_vec(ask).context("write the request")?;
        let sent = self.request(Method::POST, &format!("/-/{what}")).body(body).send().await.map_err(unreachable)?;
        accepted(sent).await
    }

    /// Ends the conversation; a mirror in this process stores what is complete and lets the directory go.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Self { client, local, .. } = self;
        drop(client);
        let Some(Local { shutdown, run }) = local else { return Ok(()) };
        shutdown.cancel();
        run.await.context("the mirror in this process")?
    }
}

/// A response whose status says that it was done; else the error it carries.
pub(super) async fn accepted(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = body["message"].as_str().map_or_else(|| format!("the mirror answered {status}"), str::to_owned);
    Err(Refused { status, message }.into())
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(PATIENCE)
}

/// The error that the mirror does not answer, or breaks off.
pub(super) fn unreachable(error: reqwest::Error) -> Unavailable {
    Unavailable(format!("the mirror cannot be reached: {}", error.without_url()))
}
