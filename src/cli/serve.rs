//! `srm-mirror serve`: the mirror itself.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{SIGNAL, ServeArgs, print};
use crate::{
    app::{self, Holder, OpenError},
    config::Loaded,
    observe,
    server::{ConnectionThreads, tls::Reload},
};

/// How long the second signal waits for the server to let go before the process ends anyway.
const LET_GO: Duration = Duration::from_millis(500);

/// Time between two attempts to take a directory that a command holds.
const AGAIN: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  srm-mirror serve
  srm-mirror serve --listen 0.0.0.0:8080 --cache-dir /var/cache/srm-mirror --public-url https://mirror.example.com
  SRM_MIRROR__MODE=offline srm-mirror serve --config /etc/srm-mirror.toml";

/// Run the mirror in the foreground until SIGTERM or SIGINT; with TLS, SIGHUP reads the certificates again
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: ServeArgs,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let loaded = self.settings.load()?;
        let _log = observe::init(&loaded.config.log).map_err(anyhow::Error::msg)?;
        for doubt in loaded.doubts() {
            tracing::warn!("{doubt}");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
        let lanes =
            ConnectionThreads::start(runtime.metrics().num_workers()).context("start the threads for connections")?;
        let code = runtime.block_on(serve(loaded, lanes));
        // What still runs on blocking threads is safe to lose at any instruction; waiting for it would not be "at once".
        runtime.shutdown_background();
        code
    }
}

async fn serve(loaded: Loaded, lanes: ConnectionThreads) -> anyhow::Result<u8> {
    let mut signals = Signals::new().context("listen for signals")?;
    let banner = banner(&loaded);
    let running = tokio::select! {
        running = start(&loaded) => running?,
        number = signals.next() => return Ok(SIGNAL + number),
    };
    print(&format!("{}{banner}ready\n", listening(&running.addresses, &running.tls_addresses)));
    let _hang_up = running.reload.clone().map(reload_on_hang_up).transpose().context("listen for signals")?;

    let shutdown = CancellationToken::new();
    let now = CancellationToken::new();
    let mut run = std::pin::pin!(running.with_lanes(lanes).run_until(shutdown.clone(), now.clone()));
    tokio::select! {
        done = &mut run => return done.map(|()| 0),
        _ = signals.next() => shutdown.cancel(),
    }
    tokio::select! {
        done = &mut run => done.map(|()| 0),
        number = signals.next() => {
            now.cancel();
            let _ = tokio::time::timeout(LET_GO, run).await;
            Ok(SIGNAL + number)
        }
    }
}

/// Starts the mirror. Where a command works on the cache directory at the moment, its end is waited for: a command
/// listens nowhere, another server does.
async fn start(loaded: &Loaded) -> anyhow::Result<app::Running> {
    let mut told = false;
    loop {
        let error = match app::start(loaded.config.clone(), loaded.tokens.clone()).await {
            Ok(running) => return Ok(running),
            Err(error) => error,
        };
        let busy = matches!(error.downcast_ref::<OpenError>(), Some(OpenError::Busy { .. }));
        let holder = loaded.config.disk.dir.as_deref().and_then(|dir| Holder::of(dir).ok().flatten());
        if !busy || holder.is_some_and(|holder| !holder.addresses.is_empty()) {
            return Err(error);
        }
        if !told {
            tracing::warn!("{error}, a command; waiting for its end");
            told = true;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The two signals that end the mirror.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one and tells its number.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// Has the certificates read again after each SIGHUP. Without TLS there is nothing to read again, and the signal keeps
/// its own meaning: a mirror ends with the terminal it was started in.
fn reload_on_hang_up(reload: Reload) -> io::Result<AbortOnDropHandle<()>> {
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            reload.ask();
        }
    })))
}

/// Where the mirror can be reached.
fn listening(addresses: &[SocketAddr], tls: &[SocketAddr]) -> String {
    let scheme = |address| if tls.contains(address) { "https" } else { "http" };
    addresses.iter().map(|address| format!("listening on {}://{address}\n", scheme(address))).collect()
}

/// What a person wants to know before the first request. Tokens are named, never shown.
fn banner(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut text = String::new();
    if let Some(url) = &config.server.public_url {
        let _ = writeln!(text, "known as {url}");
    }
    if let Some(dir) = &config.disk.dir {
        let _ = writeln!(text, "caching in {}, at most {}", dir.display(), config.disk.limit);
    }
    for (name, upstream) in &config.upstreams {
        let default = if *name == config.names.default_upstream { " (for paths that name none)" } else { "" };
        let token = match (loaded.tokens.get(name), &upstream.token_file, &upstream.token_env) {
            (Some(Some(_)), Some(file), _) => format!("with the token in {}", file.display()),
            (Some(Some(_)), None, Some(variable)) => format!("with the token in {variable}"),
            (_, _, Some(variable)) => format!("without a token ({variable} is not set)"),
            _ => "without a token".to_owned(),
        };
        let _ = writeln!(text, "upstream {name}{default}: {} {token}", upstream.api);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    #[test]
    fn the_banner_says_which_upstreams_have_a_token_and_never_the_token() {
        let environment: Environment = [
            ("GITHUB_TOKEN", "hush"),
            ("SRM_MIRROR__DISK__DIR", "/c"),
            ("SRM_MIRROR__SERVER__PUBLIC_URL", "https://m"),
        ]
        .into_iter()
        .collect();
        let banner = banner(&load(None, &environment, &[]).expect("good"));
        for line in [
            "known as https://m\n",
            "caching in /c, at most 50GiB\n",
            "upstream github (for paths that name none): https://api.github.com with the token in GITHUB_TOKEN\n",
            "upstream gitee: https://gitee.com/api/v5 without a token (GITEE_TOKEN is not set)\n",
        ] {
            assert!(banner.contains(line), "{banner}");
        }
        assert!(!banner.contains("hush"));
    }
}
