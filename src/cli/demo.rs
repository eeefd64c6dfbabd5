//! `srm-mirror demo`: a mirror over a small upstream in the same process, to try the mirror without a network.

use std::{net::SocketAddr, path::Path};

use anyhow::Context as _;
use clap::Args;
use tokio_util::task::AbortOnDropHandle;

use super::{
    print,
    serve::{self, Prepared},
};
use crate::config::{self, Environment, Flag, Loaded};

mod packages;
mod upstream;
mod zip_writer;

use upstream::DemoUpstream;

const DEMO_EXAMPLES: &str = "\
Examples:
  srm-mirror demo
  srm-mirror demo --port 0

Its packages are devsapp/fc3 and devsapp/start-fc3 (as on GitHub), fc3 and start-fc3 (as on the official registry). They are
made in memory, and the cache is a temporary directory that is removed at the end. Nothing is read from configuration files,
variables or the network.";

/// Run a mirror with a few demo packages, which needs no network and leaves nothing behind
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(super) struct DemoCommand {
    /// Port to listen on, for this machine alone; 0 selects a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
}

impl DemoCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let dir = tempfile::Builder::new().prefix("srm-mirror-demo-").tempdir();
        let dir = dir.context("make a temporary directory for the cache")?;
        let start = async || {
            let upstream = DemoUpstream::bind().await.context("listen on 127.0.0.1 for the demo upstream")?;
            let address = upstream.address();
            print(&format!("the demo upstream answers on http://{address}\n"));
            let loaded = configuration(self.port, dir.path(), address)?;
            let companion = AbortOnDropHandle::new(tokio::spawn(upstream.serve()));
            Ok(Prepared { loaded, source: None, companion })
        };
        serve::run(start)
    }
}

/// The default configuration, with every upstream at `address`.
fn configuration(port: u16, dir: &Path, address: SocketAddr) -> anyhow::Result<Loaded> {
    let base = |path: &str| toml::Value::from(format!("http://{address}/{path}"));
    let settings = [
        ("server.listen", vec![format!("127.0.0.1:{port}")].into()),
        ("disk.dir", dir.to_string_lossy().into_owned().into()),
        ("disk.limit", "1GiB".into()),
        ("archives.max_size", "1GiB".into()),
        ("upstreams.github.api", base("github")),
        ("upstreams.gitee.api", base("gitee")),
        ("upstreams.official.api", base("v3")),
        ("upstreams.official-2x.api", base("simple")),
    ];
    let flags = settings.map(|(key, value)| Flag { name: "demo", key, value });
    Ok(config::load(None, &Environment::default(), &flags)?)
}
