//! The client of the administration API: of the mirror that holds the cache directory, of one in this process, or of one by
//! its address.
//!
//! The first two are asked through the control socket, the last by its routes for administrators, which are the same: every
//! command has one way to do its work.

use std::{
    path::Path,
    pin::{Pin, pin},
    time::Duration,
};

use anyhow::Context as _;
use reqwest::{Client, Response, StatusCode, header};
use serde::Deserialize;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{FAILED, IO, USAGE, UsageError, admin_args::AdminArgs, error_line, mirror_token::MirrorToken};
use crate::{
    admin_api::{
        ADMIN_PATH_PREFIX, AdminRequest, BULK_TIMEOUT, Call, ErrorCode, ExportHosted, HEARTBEAT_INTERVAL,
        ImportArchive, ImportReport, MAX_ANSWER_BYTES, MAX_EVENT_BYTES, Ping, ReadArchive, Subscription,
    },
    app::{self, App, FleetNode, Holder, OpenError},
    config::{Config, Environment, Loaded},
    observe,
    server::control::SocketPath,
    upstream::system_roots,
    value::{BaseUrl, ByteSize},
};

pub(super) mod bounded;

use bounded::AnswerError;
pub(super) use bounded::Unavailable;

/// Longest time until the holder of the directory answers: a starting one may have to scan the directory first.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two attempts to reach the holder.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Longest time without a byte of an answer: four heartbeats.
pub(super) const IDLE_TIMEOUT: Duration = HEARTBEAT_INTERVAL.saturating_mul(4);
/// Largest body of an error, bytes.
pub(super) const MAX_ERROR_BYTES: usize = 64 << 10;

/// An error that the mirror answered with; the message is for a person.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct AdminRefusal {
    /// The cause.
    pub(super) code: ErrorCode,
    /// Why.
    pub(super) message: String,
}

impl AdminRefusal {
    /// The exit code of a command that ends with this error.
    pub(super) fn exit_code(&self) -> u8 {
        match self.code {
            ErrorCode::BadRequest | ErrorCode::InvalidImport | ErrorCode::InvalidConfiguration => USAGE,
            ErrorCode::Storage => IO,
            ErrorCode::NoSuchRoute
            | ErrorCode::NotStored
            | ErrorCode::Conflict
            | ErrorCode::NoSpace
            | ErrorCode::NoMemory
            | ErrorCode::Plaintext
            | ErrorCode::AuditUnwritable
            | ErrorCode::Bucket
            | ErrorCode::DamagedInBucket
            | ErrorCode::Other => FAILED,
        }
    }
}

/// Makes the refusal of a mirror that cannot use its shared bucket an [`Unavailable`], which has an exit code of its own. Other
/// errors stay as they are.
pub(super) fn classify_bucket_error(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<AdminRefusal>() {
        Some(AdminRefusal { code: ErrorCode::Bucket, message }) => Unavailable(message.clone()).into(),
        _ => error,
    }
}

/// A connection to the mirror that is administered.
pub(super) struct AdminClient {
    client: Client,
    mirror: AdministeredMirror,
}

/// How the mirror is reached.
enum AdministeredMirror {
    /// Through the control socket in its cache directory.
    Local {
        /// Kept because the path of the socket is valid only as long as this.
        _socket: SocketPath,
        /// The mirror in this process, if none held the directory.
        own: Option<LocalMirror>,
    },
    /// By its address.
    Remote {
        /// Without a slash at the end.
        base: String,
        /// Sent with every request: all go to `base`, and the client follows no redirect.
        token: Option<MirrorToken>,
    },
}

/// The mirror in this process.
struct LocalMirror {
    shutdown: CancellationToken,
    run: JoinHandle<anyhow::Result<()>>,
}

/// Runs `work` with a client of its own: sets up the log (warnings, unless a level is configured) and the runtime, opens
/// the client and closes it.
pub(super) fn run<T>(loaded: Loaded, work: impl AsyncFnOnce(&AdminClient) -> anyhow::Result<T>) -> anyhow::Result<T> {
    AdminSession::open(loaded, MirrorChoice::RunningOrOwn)?.run(work)
}

/// As [`run`], for the mirror that the arguments name: by its address, or by its cache directory.
pub(super) fn run_at<T>(
    arguments: &AdminArgs,
    work: impl AsyncFnOnce(&AdminClient) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    AdminSession::of(arguments, MirrorChoice::RunningOrOwn)?.run(work)
}

/// As [`run_at`], for a mirror that runs: none is started in this process.
pub(super) fn run_at_server<T>(
    arguments: &AdminArgs,
    work: impl AsyncFnOnce(&AdminClient) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    AdminSession::of(arguments, MirrorChoice::Running)?.run(work)
}

/// Which mirror of a cache directory is administered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MirrorChoice {
    /// The one that runs on it, else one in this process.
    RunningOrOwn,
    /// The one that runs on it.
    Running,
}

/// A client with the runtime that it needs. Not generic: there are many commands, and their common parts are compiled once.
struct AdminSession {
    client: AdminClient,
    runtime: Runtime,
    /// `None` where several mirrors are asked one after the other.
    _log: Option<observe::LogGuard>,
}

impl AdminSession {
    fn of(arguments: &AdminArgs, choice: MirrorChoice) -> anyhow::Result<Self> {
        match (&arguments.node, &arguments.server) {
            (Some(node), _) => Self::open_node(node, arguments),
            (None, Some(server)) => Self::open_remote(server, arguments),
            (None, None) => Self::open(arguments.load()?, choice),
        }
    }

    fn open(mut loaded: Loaded, choice: MirrorChoice) -> anyhow::Result<Self> {
        if !loaded.source(&["log", "level"]).is_set() {
            loaded.config.log.level = "warn".into();
        }
        let log = observe::init(&loaded.config.log).map_err(anyhow::Error::msg)?;
        for warning in loaded.ignored_variables() {
            tracing::warn!("{warning}");
        }
        let runtime = app::runtime().context("start the runtime")?;
        let client = runtime.block_on(async {
            match choice {
                MirrorChoice::RunningOrOwn => AdminClient::open(loaded).await,
                MirrorChoice::Running => AdminClient::open_server(loaded).await,
            }
        });
        match client {
            Ok(client) => Ok(Self { client, runtime, _log: Some(log) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn open_remote(server: &BaseUrl, arguments: &AdminArgs) -> anyhow::Result<Self> {
        let token = MirrorToken::load(arguments.token_file.as_deref(), &Environment::of_process())?;
        let log = observe::Config { level: "warn".into(), ..Config::default().log };
        let log = observe::init(&log).map_err(anyhow::Error::msg)?;
        let runtime = Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        let client = runtime.block_on(async { AdminClient::remote(server, token) })?;
        Ok(Self { client, runtime, _log: Some(log) })
    }

    fn open_node(node: &FleetNode, arguments: &AdminArgs) -> anyhow::Result<Self> {
        let connections = app::node_client(&arguments.load()?.config, node);
        // A file of the section cannot be used.
        let client = connections.map_err(|error| UsageError(error_line(&error)))?;
        let runtime = Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        let base = node.url.as_str().trim_end_matches('/').to_owned();
        let client = AdminClient { client, mirror: AdministeredMirror::Remote { base, token: None } };
        Ok(Self { client, runtime, _log: None })
    }

    /// Runs `work` and closes the client.
    fn run<T>(self, work: impl AsyncFnOnce(&AdminClient) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut done = None;
        {
            // Of one type for all commands: the runtime's loop is compiled for it.
            let work: Pin<&mut dyn Future<Output = ()>> = pin!(async { done = Some(work(&self.client).await) });
            self.runtime.block_on(work);
        }
        let closed = self.close();
        let value = done.context("the command has not ended")??;
        closed.map(|()| value)
    }

    fn close(self) -> anyhow::Result<()> {
        let closed = self.runtime.block_on(self.client.close());
        self.runtime.shutdown_background();
        closed
    }
}

impl AdminClient {
    /// A client of the mirror at an address; it connects with the first request.
    fn remote(base: &BaseUrl, token: Option<MirrorToken>) -> anyhow::Result<Self> {
        let trusted = if base.url().scheme() == "https" { system_roots() } else { &[] };
        let client = bounded::client_builder(trusted).build().context("set up the client")?;
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, mirror: AdministeredMirror::Remote { base, token } })
    }

    /// Connects to the holder of the cache directory, or takes the directory and starts a mirror in this process.
    async fn open(loaded: Loaded) -> anyhow::Result<Self> {
        let dir = loaded.config.disk.dir.clone().context("disk.dir is not set")?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let busy = match App::bind_control_only(loaded.config.clone(), loaded.credentials.clone()).await {
                Ok(app) => {
                    let shutdown = CancellationToken::new();
                    let run = tokio::spawn(app.serve_until(shutdown.clone(), CancellationToken::new()));
                    return Self::connect(&dir, Some(LocalMirror { shutdown, run }));
                }
                Err(error) => match error.downcast_ref::<OpenError>() {
                    Some(OpenError::Busy { .. }) => error,
                    _ => return Err(error),
                },
            };
            let client = Self::connect(&dir, None)?;
            if client.call(&Ping {}).await.is_ok() {
                return Ok(client);
            }
            if Instant::now() > deadline {
                return Err(Unavailable(format!("{busy}. It does not answer")).into());
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Connects to the server that holds the cache directory.
    async fn open_server(loaded: Loaded) -> anyhow::Result<Self> {
        let dir = loaded.config.disk.dir.context("disk.dir is not set")?;
        let holder = Holder::of(&dir).with_context(|| format!("cache directory {}", dir.display()))?;
        if holder.is_none_or(|holder| holder.addresses.is_empty()) {
            return Err(Unavailable(format!("no mirror runs on the cache directory {}", dir.display())).into());
        }
        Self::connect(&dir, None)
    }

    fn connect(dir: &Path, local: Option<LocalMirror>) -> anyhow::Result<Self> {
        let socket = SocketPath::of(dir).context("open the cache directory")?;
        let client =
            bounded::client_builder(&[]).unix_socket(socket.path().to_owned()).build().context("set up the client")?;
        Ok(Self { client, mirror: AdministeredMirror::Local { _socket: socket, own: local } })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// [`Unavailable`], [`AdminRefusal`] or [`AnswerError`].
    pub(super) async fn call<C: Call>(&self, request: &C) -> anyhow::Result<C::Answer> {
        let mut response = self.send(request, C::TIMEOUT).await?;
        bounded::parse_json(&bounded::read_body(&mut response, MAX_ANSWER_BYTES, IDLE_TIMEOUT).await?)
    }

    /// Sends a request and hands over each event of its answer. An error of `each` ends it.
    ///
    /// # Errors
    /// As [`AdminClient::call`].
    pub(super) async fn subscribe<S: Subscription>(
        &self,
        request: &S,
        mut each: impl FnMut(S::Event) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.subscribe_raw(request, |line| each(bounded::parse_json(line)?)).await
    }

    /// As [`AdminClient::subscribe`], but each event is handed over as the JSON that was sent, without its end of line.
    ///
    /// # Errors
    /// As [`AdminClient::call`].
    pub(super) async fn subscribe_raw<S: Subscription>(
        &self,
        request: &S,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // The head comes after the selection: an export of a large cache first reads every sidecar.
        let mut response = self.send(request, BULK_TIMEOUT).await?;
        let mut line: Vec<u8> = Vec::new();
        while let Some(bytes) = bounded::read_chunk(&mut response, IDLE_TIMEOUT).await? {
            let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
            while let Some(part) = parts.next() {
                line.extend_from_slice(part);
                if line.len() > MAX_EVENT_BYTES {
                    return Err(AnswerError::TooLarge(ByteSize(MAX_EVENT_BYTES as u64)).into());
                }
                // An empty line is a heartbeat.
                if parts.peek().is_some() && !line.is_empty() {
                    each(&line)?;
                    line.clear();
                }
            }
        }
        Ok(())
    }

    /// Collects the events of an answer.
    ///
    /// # Errors
    /// As [`AdminClient::call`].
    pub(super) async fn collect<S: Subscription>(&self, request: &S) -> anyhow::Result<Vec<S::Event>> {
        let mut events = Vec::new();
        let each = |event| {
            events.push(event);
            Ok(())
        };
        self.subscribe(request, each).await?;
        Ok(events)
    }

    /// Opens the bytes of a stored zip.
    ///
    /// # Errors
    /// As [`AdminClient::call`].
    pub(super) async fn read_archive(&self, request: &ReadArchive) -> anyhow::Result<Response> {
        // The bucket is asked for some time.
        self.send(request, if request.shared { BULK_TIMEOUT } else { IDLE_TIMEOUT }).await
    }

    /// Opens an archive of everything that is published.
    ///
    /// # Errors
    /// As [`AdminClient::call`].
    pub(super) async fn export_hosted(&self, request: &ExportHosted) -> anyhow::Result<Response> {
        self.send(request, BULK_TIMEOUT).await
    }

    /// Imports a zip; `body` is its [`ImportArchive`] as one line, then its bytes.
    ///
    /// # Errors
    /// As [`AdminClient::call`].
    pub(super) async fn import_archive(&self, body: reqwest::Body) -> anyhow::Result<ImportReport> {
        let request = self.request::<ImportArchive>("application/octet-stream").body(body);
        let mut response = self.ensure_success(bounded::send(request, ImportArchive::TIMEOUT).await?).await?;
        bounded::parse_json(&bounded::read_body(&mut response, MAX_ANSWER_BYTES, IDLE_TIMEOUT).await?)
    }

    fn request<R: AdminRequest>(&self, media_type: &'static str) -> reqwest::RequestBuilder {
        let base = match &self.mirror {
            AdministeredMirror::Local { .. } => "http://srm-mirror",
            AdministeredMirror::Remote { base, .. } => base,
        };
        let request = self.client.post(format!("{base}{ADMIN_PATH_PREFIX}{}", R::ROUTE));
        MirrorToken::authorize(self.token(), request.header(header::CONTENT_TYPE, media_type))
    }

    fn token(&self) -> Option<&MirrorToken> {
        match &self.mirror {
            AdministeredMirror::Remote { token, .. } => token.as_ref(),
            AdministeredMirror::Local { .. } => None,
        }
    }

    async fn send<R: AdminRequest>(&self, request: &R, limit: Duration) -> anyhow::Result<Response> {
        let body = serde_json::to_vec(request).context("write the request")?;
        self.ensure_success(bounded::send(self.request::<R>("application/json").body(body), limit).await?).await
    }

    /// Returns the response if it is a success.
    ///
    /// # Errors
    /// [`AdminRefusal`], by the body of the error.
    async fn ensure_success(&self, mut response: Response) -> anyhow::Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = bounded::read_body(&mut response, MAX_ERROR_BYTES, IDLE_TIMEOUT).await.unwrap_or_default();
        let is_remote = matches!(self.mirror, AdministeredMirror::Remote { .. });
        Err(match serde_json::from_slice::<RefusalBody>(&body) {
            Ok(RefusalBody { message, code: Some(code) }) if status != StatusCode::UNAUTHORIZED => {
                AdminRefusal { code, message }
            }
            Ok(RefusalBody { message, .. }) if status == StatusCode::UNAUTHORIZED => {
                AdminRefusal { code: ErrorCode::Other, message: MirrorToken::refusal(self.token(), &message) }
            }
            Ok(_) if is_remote && status == StatusCode::NOT_FOUND => AdminRefusal {
                code: ErrorCode::NoSuchRoute,
                message:
                    "the mirror has no administration API for this token: access.remote_admin is off, or a table of \
                          access.rules does not name it under admin, or the token has no scope admin"
                        .to_owned(),
            },
            Ok(RefusalBody { message, .. }) => AdminRefusal { code: ErrorCode::Other, message },
            Err(_) => AdminRefusal { code: ErrorCode::Other, message: format!("the mirror answered {status}") },
        }
        .into())
    }

    /// Closes the connection. A mirror in this process stores what is complete and releases the directory.
    async fn close(self) -> anyhow::Result<()> {
        let Self { client, mirror } = self;
        drop(client);
        let AdministeredMirror::Local { own: Some(LocalMirror { shutdown, run }), .. } = mirror else { return Ok(()) };
        shutdown.cancel();
        run.await.context("the mirror in this process")?
    }
}

/// The body of an error: of the administration API, or of a refusal before it.
#[derive(Deserialize)]
struct RefusalBody {
    message: String,
    #[serde(default)]
    code: Option<ErrorCode>,
}
