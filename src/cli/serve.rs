//! `srm-mirror serve`: runs the mirror until a signal ends it.

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{SIGNAL, ServeArgs, print, service_manager};
use crate::{
    app::{self, App, ConfigSource, Holder, OpenError, Reloader, UpstreamReport},
    config::{self, Environment, Loaded},
    observe,
    server::{ConnectionThreads, InheritedSockets},
    upstream::CredentialConfig,
};

/// Time that the server has to abort all connections after the second signal; then the process ends.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Interval between two attempts to open a cache directory that a command holds.
const DIRECTORY_RETRY_INTERVAL: Duration = Duration::from_millis(200);

const SERVE_EXAMPLES: &str = "\
Examples:
  srm-mirror serve
  srm-mirror serve --listen 0.0.0.0:8080 --cache-dir /var/cache/srm-mirror --public-url https://mirror.example.com
  SRM_MIRROR__MODE=offline srm-mirror serve --config /etc/srm-mirror.toml";

/// Run the mirror in the foreground until SIGTERM or SIGINT; SIGHUP reads configuration, certificates, tokens and keys again
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    args: ServeArgs,
}

impl ServeCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let args = self.args;
        let loaded = args.load()?;
        run(async || Ok(Prepared { loaded, source: Some(Box::new(move || args.load())), companion: () }))
    }
}

/// What a mirror is started with.
pub(super) struct Prepared<T> {
    pub(super) loaded: Loaded,
    /// Where the configuration is read from again; `None` where it cannot be.
    pub(super) source: Option<ConfigSource>,
    /// Lives as long as the mirror.
    pub(super) companion: T,
}

/// Runs a mirror until a signal ends it. `prepare` runs on the mirror's runtime.
pub(super) fn run<T>(prepare: impl AsyncFnOnce() -> anyhow::Result<Prepared<T>>) -> anyhow::Result<u8> {
    let sockets = InheritedSockets::take(Environment::of_process().get("LISTEN_FDNAMES").unwrap_or_default())?;
    let runtime = app::runtime().context("start the runtime")?;
    let Prepared { loaded, source, companion: _companion } = runtime.block_on(prepare())?;
    let _log = observe::init(&loaded.config.log).map_err(anyhow::Error::msg)?;
    for warning in loaded.warnings() {
        tracing::warn!("{warning}");
    }
    let threads =
        ConnectionThreads::start(runtime.metrics().num_workers()).context("start the threads for connections")?;
    let code = runtime.block_on(serve(loaded, source, threads, sockets));
    // Do not wait for blocking tasks: the cache survives a stop at any instruction, and the second signal ends at once.
    runtime.shutdown_background();
    code
}

async fn serve(
    loaded: Loaded,
    source: Option<ConfigSource>,
    threads: ConnectionThreads,
    sockets: InheritedSockets,
) -> anyhow::Result<u8> {
    let mut signals = Signals::new().context("listen for signals")?;
    // From here on SIGHUP does not end the process, whatever is configured.
    let hangup = signal(SignalKind::hangup()).context("listen for signals")?;
    let banner = banner(&loaded);
    let app = tokio::select! {
        app = bind(&loaded, &sockets) => match source {
            Some(source) => app?.with_config_source(source),
            None => app?,
        },
        number = signals.next() => return Ok(SIGNAL + number),
    };
    print(&format!("{}{banner}ready\n", listening(&app)));
    service_manager::notify(NotifyState::Ready);
    let _watchdog_task = service_manager::answer_watchdog(threads.probe());
    let _reload_task = reload_on_hangup(hangup, app.reloader.clone());
    let _report_task = AbortOnDropHandle::new(tokio::spawn(log_reports(app.credential_reports())));

    let shutdown = CancellationToken::new();
    let abort = CancellationToken::new();
    let mut run = std::pin::pin!(app.with_connection_threads(threads).serve_until(shutdown.clone(), abort.clone()));
    tokio::select! {
        done = &mut run => return done.map(|()| 0),
        _ = signals.next() => {
            service_manager::notify(NotifyState::Stopping);
            shutdown.cancel();
        }
    }
    tokio::select! {
        done = &mut run => done.map(|()| 0),
        number = signals.next() => {
            abort.cancel();
            let _ = tokio::time::timeout(ABORT_GRACE, run).await;
            Ok(SIGNAL + number)
        }
    }
}

/// Binds the mirror. Waits while a command holds the cache directory; fails when another server does. A holder without
/// addresses is a command.
async fn bind(loaded: &Loaded, sockets: &InheritedSockets) -> anyhow::Result<App> {
    let mut waiting = false;
    loop {
        let error = match App::bind_with_sockets(loaded.config.clone(), loaded.credentials.clone(), sockets).await {
            Ok(app) => return Ok(app),
            Err(error) => error,
        };
        let busy = matches!(error.downcast_ref::<OpenError>(), Some(OpenError::Busy { .. }));
        let holder = loaded.config.disk.dir.as_deref().and_then(|dir| Holder::of(dir).ok().flatten());
        if !busy || holder.is_some_and(|holder| !holder.addresses.is_empty()) {
            return Err(error);
        }
        if !waiting {
            let dir = loaded.config.disk.dir.as_deref().map(|dir| dir.display().to_string()).unwrap_or_default();
            tracing::warn!("a command is using the cache directory {dir}; waiting until it ends");
            waiting = true;
        }
        tokio::time::sleep(DIRECTORY_RETRY_INTERVAL).await;
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal and returns its number.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// Spawns a task that reads the configuration, certificates and credentials again after each SIGHUP.
fn reload_on_hangup(mut hangup: Signal, reloader: Arc<Reloader>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // The result has been logged.
            let _ = reloader.reload().await;
        }
    }))
}

/// Logs what each credential may do, once.
async fn log_reports(reports: impl Future<Output = Vec<UpstreamReport>>) {
    for report in reports.await {
        for line in report.to_string().lines() {
            if report.has_refusal() {
                tracing::warn!("{line}");
            } else {
                tracing::info!("{line}");
            }
        }
    }
}

/// One line for each address.
fn listening(app: &App) -> String {
    let scheme = |address| if app.tls_addresses.contains(address) { "https" } else { "http" };
    let clients = app.addresses.iter().map(|address| format!("listening on {}://{address}\n", scheme(address)));
    let metrics = app.metrics_addresses.iter().map(|address| format!("metrics on http://{address}/metrics\n"));
    let nodes = app.node_addresses.iter().map(|address| format!("nodes on https://{address}\n"));
    clients.chain(metrics).chain(nodes).collect()
}

/// The lines printed at start: public URL, cache directory, upstreams, where plain names come from. Of a token, only its
/// variable or file is named.
fn banner(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut text = String::new();
    if let Some(url) = &config.server.public_url {
        let _ = writeln!(text, "public URL {url}");
    }
    if let Some(dir) = &config.disk.dir {
        let _ = writeln!(text, "caching in {}, at most {}", dir.display(), config.disk.limit);
    }
    if let Some(shared) = &config.shared
        && let Some(endpoint) = &shared.endpoint
    {
        let _ = writeln!(text, "sharing the bucket {} at {endpoint}", shared.bucket);
    }
    for (name, upstream) in &config.upstreams {
        let default = if *name == config.names.default_upstream { " (default)" } else { "" };
        let held = loaded.credentials.get(name).map(Vec::as_slice).unwrap_or_default();
        let is_held = |label: &str| held.iter().any(|credential| credential.label() == label);
        let mut with = Vec::new();
        let mut unset = Vec::new();
        for credential in upstream.effective_credentials() {
            match credential {
                CredentialConfig::Variable { token_env } if is_held(&token_env) => {
                    with.push(format!("the token in {token_env}"));
                }
                CredentialConfig::Variable { token_env } => unset.push(format!("{token_env} is not set")),
                CredentialConfig::File { token_file } => with.push(format!("the token in {}", token_file.display())),
                CredentialConfig::App { app_id, .. } => with.push(format!("the GitHub App {app_id}")),
            }
        }
        let with = if with.is_empty() { "without a token".to_owned() } else { format!("with {}", with.join(", ")) };
        let unset = if unset.is_empty() { String::new() } else { format!(" ({})", unset.join(", ")) };
        let _ = writeln!(text, "upstream {name}{default}: {} {with}{unset}", upstream.api);
    }
    // The names were checked when the configuration was loaded.
    if let Ok(names) = config.names() {
        let _ = writeln!(text, "{}", config::plain_names(config, &names));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_banner_names_where_each_token_comes_from_and_never_the_token() {
        let environment: Environment = [
            ("GITHUB_TOKEN", "hush"),
            ("SRM_MIRROR__DISK__DIR", "/c"),
            ("SRM_MIRROR__SERVER__PUBLIC_URL", "https://m"),
        ]
        .into_iter()
        .collect();
        let banner = banner(&load(None, &environment, &[]).expect("valid"));
        for line in [
            "public URL https://m\n",
            "caching in /c, at most 50GiB\n",
            "upstream github (default): https://api.github.com with the token in GITHUB_TOKEN\n",
            "upstream gitee: https://gitee.com/api/v5 without a token (GITEE_TOKEN is not set)\n",
            "\nplain names: ",
        ] {
            assert!(banner.contains(line), "{banner}");
        }
        assert!(!banner.contains("hush"));
    }
}
