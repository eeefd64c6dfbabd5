//! The scripted forge of the tests as a program: GitHub, its archive host, Gitee, the v3 and the simple registry and
//! their object storage on loopback, with demo packages.
//!
//! Run `cargo run --release -p examples --bin forge`, then run the printed commands in another terminal. Ctrl-C ends it.
//! Lines on standard input change it while it runs:
//!
//! - `release devsapp/fc3 v0.3.0` publishes a release on GitHub;
//! - `publish fc3 0.1.23` publishes a built component on the v3 registry, `publish-2x` on the simple one; `publish fc3 dev
//!   second` publishes `dev` again, and its code prints `fc3 second deployed`;
//! - `unbuilt NAME VERSION` publishes a component without `dist/`, `unpublish NAME VERSION` deletes a version;
//! - `down` refuses all connections until `up`, `hang` accepts them and answers nothing until `answer`.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/forge.rs"]
mod forge;
#[path = "forge/packages.rs"]
mod packages;
#[path = "forge/usage.rs"]
mod usage;

use std::{
    fs::File,
    io::Write as _,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser;
use forge::{Fault, Forge, Lengths, Links, Match, Missing, Registry, RegistryZips};

/// GitHub, Gitee and the official registries on loopback, with generated zips.
#[derive(Parser)]
#[command(name = "forge")]
struct Arguments {
    /// Port of GitHub's API. The next ones are for archives, Gitee, v3, simple and their storage. 0 selects free ports.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// The address to listen on, which is in every URL that the forge sends.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// A token that both forges accept; may be repeated.
    #[arg(long)]
    token: Vec<String>,
    /// A code that both registries know, for the private package `acme-private`; may be repeated.
    #[arg(long)]
    code: Vec<String>,
    /// The registries send zips themselves; by default they redirect to the storage.
    #[arg(long)]
    direct: bool,
    /// Seconds that a signed address of the storage is valid.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    link_seconds: i64,
    /// The registries answer for a missing package with 200 and its string; by default with 404.
    #[arg(long)]
    missing_200: bool,
    /// Writes a configuration file of the mirror with all upstreams.
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// GitHub requests per hour without a token; the default is GitHub's limit.
    #[arg(long, default_value_t = 60, value_name = "REQUESTS")]
    anonymous_limit: u64,
    /// Adds `bench/pkg` with this many versions, v1.0.0 to v1.0.N-1.
    #[arg(long, default_value_t = 0, value_name = "N")]
    versions: u64,
    /// Size of each version of `bench/pkg`, in bytes.
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    size: u64,
    /// Size of `demo/big`, in bytes.
    #[arg(long, default_value_t = 100 << 20, value_name = "BYTES")]
    big: u64,
    /// Sends every zip with `Content-Length`; by default the first response is chunked, as on GitHub.
    #[arg(long)]
    with_length: bool,
    /// Compresses JSON for clients that accept gzip, as the real hosts do.
    #[arg(long)]
    gzip: bool,
    /// Responds with 502 to every Nth request.
    #[arg(long, value_name = "N")]
    fail_every: Option<u64>,
    /// Sends zips at this many bytes per second at most.
    #[arg(long, value_name = "BYTES")]
    pace: Option<u64>,
    /// Prints no line per request.
    #[arg(long)]
    quiet: bool,
    /// Writes a JSON object per request to this file: host, method, path, headers, status.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let forge = match Forge::start_at(arguments.address, arguments.port).await {
        Ok(forge) => Arc::new(forge),
        Err(error) => {
            eprintln!("forge: ports {} and the five after it: {error}; try --port 0", arguments.port);
            std::process::exit(1);
        }
    };
    forge.keep_log(false);
    packages::add_repositories(&forge, &arguments);
    packages::add_packages(&forge, &arguments);
    configure(&forge, &arguments);
    if let Some(path) = &arguments.write_config
        && let Err(error) = std::fs::write(path, usage::config_file(&forge))
    {
        eprintln!("forge: {}: {error}", path.display());
        std::process::exit(1);
    }
    usage::print(&forge, &arguments);
    observe(&forge, &arguments);
    let lines = forge.clone();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            runtime.block_on(run_line(&lines, &line));
        }
    });
    let _ = tokio::signal::ctrl_c().await;
}

/// Runs a line of standard input and prints what it did.
async fn run_line(forge: &Forge, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [] => {}
        ["release", package, tag] if package.split('/').count() == 2 => {
            forge.repo(package).release(tag, packages::component(package, tag));
            println!("released {package} {tag}");
        }
        ["publish", name, version] => publish(&forge.registry(), name, version, version),
        ["publish", name, version, label] => publish(&forge.registry(), name, version, label),
        ["publish-2x", name, version] => publish(&forge.simple_registry(), name, version, version),
        ["unbuilt", name, version] if is_free(&forge.registry(), name, version) => {
            forge.registry().component(name).unbuilt(version);
            println!("published {name} {version}");
        }
        ["unpublish", name, version] if !name.contains('/') => {
            forge.registry().component(name).remove_version(version);
            println!("unpublished {name} {version}");
        }
        ["down"] => {
            forge.down().await;
            println!("down");
        }
        ["hang"] => {
            forge.fault(Match::any(), Fault::HeadStall).always();
            println!("hangs");
        }
        ["answer"] => {
            forge.clear_faults();
            println!("answers");
        }
        ["up"] => {
            forge.up().await;
            println!("up");
        }
        _ => println!("refused: {line}"),
    }
}

/// True for a plain name and a version that its registry takes.
fn is_free(registry: &Registry, name: &str, version: &str) -> bool {
    !name.contains('/') && registry.component(name).can_publish(version)
}

fn publish(registry: &Registry, name: &str, version: &str, label: &str) {
    if is_free(registry, name, version) {
        packages::publish(registry, name, version, label);
        println!("published {name} {version}");
    } else {
        println!("refused: {name} {version}");
    }
}

fn observe(forge: &Forge, arguments: &Arguments) {
    let quiet = arguments.quiet;
    let log = arguments.log.as_ref().map(|path| match File::create(path) {
        Ok(file) => Mutex::new(file),
        Err(error) => {
            eprintln!("forge: {}: {error}", path.display());
            std::process::exit(1);
        }
    });
    forge.observe(move |seen| {
        let status = seen.status.unwrap_or_default();
        let host = format!("{:?}", seen.host);
        if !quiet {
            println!("{host:9} {} {} {status}", seen.method, seen.path_and_query);
        }
        if let Some(log) = &log {
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers: Vec<_> = seen.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
            let line = serde_json::json!({
                "host": host, "method": seen.method, "path": seen.path_and_query, "headers": headers, "status": status,
            });
            let _ = writeln!(log.lock().unwrap(), "{line}");
        }
    });
}

fn configure(forge: &Forge, arguments: &Arguments) {
    for token in &arguments.token {
        forge.accept_token(token);
    }
    forge.rate_limits(arguments.anonymous_limit, 5000.max(arguments.versions * 4));
    forge.gzip(arguments.gzip);
    if arguments.with_length {
        forge.lengths(Lengths::Always);
        forge.gitee_options(|options| options.with_length = true);
    }
    for registry in [forge.registry(), forge.simple_registry()] {
        registry.options(|options| {
            options.links = Links::Seconds(arguments.link_seconds);
            if arguments.direct {
                options.zips = RegistryZips::Direct;
            }
            if arguments.missing_200 {
                options.missing = Missing::Ok;
            }
        });
    }
    if let Some(nth) = arguments.fail_every {
        forge
            .fault(Match::any(), Fault::status(502, &[("content-type", "text/plain")], "Bad gateway\n"))
            .every_nth(nth);
    }
    if let Some(pace) = arguments.pace {
        let bytes = 64 << 10;
        let pause = Duration::from_micros(bytes * 1_000_000 / pace.max(1));
        let archives = Match::any().when(|seen| seen.contains(".zip") || seen.contains("/zipball/"));
        forge.fault(archives, Fault::Slow { bytes, pause }).always();
    }
}
