//! `srm-mirror health`: asks the mirror that holds the cache directory whether it is ready, for health checks of containers.

use std::{io::ErrorKind, time::Duration};

use anyhow::Context as _;
use clap::Args;
use reqwest::StatusCode;

use super::{
    CacheArgs, FAILED,
    admin_client::{Unavailable, bounded},
    escape_terminal_lines, print,
};
use crate::server::control::SocketPath;

const HEALTH_HELP: &str = "\
Examples:
  srm-mirror health
  srm-mirror health --cache-dir /var/cache/srm-mirror

Prints what /readyz answers. Exit codes: 0 the mirror serves (ready or degraded), 1 it is starting or draining, 69 no
mirror holds the cache directory or it does not answer. The mirror is asked through control.sock in its cache directory, so
this works whatever it listens on.";

/// Longest time of an answer, and of a pause in it.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(4);
/// Largest answer, bytes.
const MAX_HEALTH_ANSWER_BYTES: usize = 256 << 10;

/// Ask the running mirror whether it is ready
#[derive(Debug, Args)]
#[command(after_help = HEALTH_HELP)]
pub(super) struct HealthCommand {
    #[command(flatten)]
    cache: CacheArgs,
}

impl HealthCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let dir = self.cache.load()?.config.disk.dir.context("disk.dir is not set")?;
        let socket = match SocketPath::of(&dir) {
            Ok(socket) => socket,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Unavailable(format!("there is no cache directory at {}", dir.display())).into());
            }
            Err(error) => return Err(error).context(format!("open the cache directory {}", dir.display())),
        };
        let client =
            bounded::client_builder(&[]).unix_socket(socket.path().to_owned()).build().context("set up the client")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        runtime.block_on(async {
            let sent = bounded::send(client.get("http://srm-mirror/readyz"), HEALTH_TIMEOUT).await;
            let mut response =
                sent.with_context(|| format!("no mirror answers on the cache directory {}", dir.display()))?;
            let answer = bounded::read_body(&mut response, MAX_HEALTH_ANSWER_BYTES, HEALTH_TIMEOUT).await?;
            let answer = String::from_utf8_lossy(&answer);
            print(&format!("{}\n", escape_terminal_lines(answer.trim_end())));
            Ok(if response.status() == StatusCode::OK { 0 } else { FAILED })
        })
    }
}
