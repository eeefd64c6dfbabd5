//! The scripted forge of the tests as a program: GitHub, its archive host and Gitee on loopback, with demo packages.
//!
//! Run `cargo run --release -p examples --bin forge`, then run the printed commands in another terminal. Ctrl-C ends it. A line
//! `release devsapp/fc3 v0.3.0` on standard input publishes that release.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/forge.rs"]
mod forge;

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser;
use forge::{Fault, Forge, Lengths, Match, Spec};

/// GitHub and Gitee on loopback, with generated zips.
#[derive(Parser)]
#[command(name = "forge")]
struct Arguments {
    /// Port of the API; archives use the next port and Gitee the one after. 0 selects free ports.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// A token that both forges accept; may be repeated.
    #[arg(long)]
    token: Vec<String>,
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
    let forge = match Forge::start_at(arguments.port).await {
        Ok(forge) => Arc::new(forge),
        Err(error) => {
            eprintln!("forge: ports {} and the two after it: {error}; try --port 0", arguments.port);
            std::process::exit(1);
        }
    };
    forge.keep_log(false);
    add_packages(&forge, &arguments);
    configure(&forge, &arguments);
    print_usage(&forge, &arguments);
    observe(&forge, &arguments);
    let lines = forge.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            run_line(&lines, &line);
        }
    });
    let _ = tokio::signal::ctrl_c().await;
}

/// Runs a line of standard input: `release OWNER/REPO TAG` publishes a release.
fn run_line(forge: &Forge, line: &str) {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [] => {}
        ["release", package, tag] if package.split('/').count() == 2 => {
            forge.repo(package).release(tag, component(package, tag));
            println!("released {package} {tag}");
        }
        _ => println!("unknown line; write: release OWNER/REPO TAG"),
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
    if arguments.with_length {
        forge.lengths(Lengths::Always);
        forge.gitee_options(|options| options.with_length = true);
    }
    if let Some(nth) = arguments.fail_every {
        forge
            .fault(Match::any(), Fault::status(502, &[("content-type", "text/plain")], "Bad gateway\n"))
            .every_nth(nth);
    }
    if let Some(pace) = arguments.pace {
        let bytes = 64 << 10;
        let pause = Duration::from_micros(bytes * 1_000_000 / pace.max(1));
        let archives = Match::any().when(|seen| seen.contains("legacy.zip") || seen.contains(".zip"));
        forge.fault(archives, Fault::Slow { bytes, pause }).always();
    }
}

/// A component that prints its version when it is deployed.
fn component(package: &str, tag: &str) -> impl FnOnce(Spec) -> Spec + use<> {
    let name = package.rsplit('/').next().unwrap_or(package).to_owned();
    let number = tag.trim_start_matches('v').to_owned();
    move |release| {
        let release = if number.contains('-') { release.prerelease() } else { release };
        release
            .publish_yaml(&format!(
                "Edition: 3.0.0\nType: Component\nName: {name}\nVersion: {number}\nProvider:\n  - Alibaba Cloud\n\
                 Description: A demo component\nTags:\n  - demo\nCategory: Basic Cloud Service\nService:\n  - Function Compute\n"
            ))
            .file("package.json", format!("{{\"name\": \"{name}\", \"version\": \"{number}\", \"main\": \"dist/index.js\"}}\n"))
            .file(
                "dist/index.js",
                format!(
                    "'use strict';\nclass Demo {{\n  async deploy() {{ console.log('{name} {number} deployed'); return {{ version: '{number}' }}; }}\n}}\n\
                     module.exports = Demo;\nmodule.exports.default = Demo;\n"
                ),
            )
            .noise("dist/data.bin", number.len() as u64, 200_000)
            .body(&format!("## {name} {number}\n\n- a demo release\n"))
    }
}

/// An application in the form that `s init` of both CLIs unpacks.
fn application(edition: &'static str) -> impl FnOnce(Spec) -> Spec {
    move |release| {
        release
            .publish_yaml(&format!(
                "Edition: {edition}\nType: Project\nName: start-fc3\nVersion: 1.0.0\nDescription: A demo application\n"
            ))
            .file(
                "src/s.yaml",
                format!(
                    "edition: {edition}\nname: start-fc3\naccess: default\nresources:\n  hello:\n    component: fc3\n    props:\n      region: cn-hangzhou\n"
                ),
            )
            .file("src/code/index.js", "exports.handler = async () => 'hello';\n")
    }
}

fn add_packages(forge: &Forge, arguments: &Arguments) {
    let fc3 = |tag| component("devsapp/fc3", tag);
    forge
        .repo("devsapp/fc3")
        .release("v0.1.0", fc3("v0.1.0"))
        .release("v0.1.1", fc3("v0.1.1"))
        .release("v0.2.0-rc.1", fc3("v0.2.0-rc.1"))
        .release("v0.2.0", fc3("v0.2.0"))
        .release("v0.3.0", |release| fc3("v0.3.0")(release).draft())
        .tag_only("v0.0.9")
        .branch("dev", |branch| branch.file("README.md", "the dev branch\n"));
    // Tags without a `v`.
    let plain = |tag| component("demo/plain", tag);
    forge.repo("demo/plain").release("1.0.0", plain("1.0.0")).release("1.1.0", plain("1.1.0"));
    forge.repo("devsapp/start-fc3").release("1.0.0", application("3.0.0")).branch("main", application("3.0.0"));
    // The 2.x CLI installs this package, at a fixed version, with every component.
    forge.repo("Serverless-Devs/core").release("0.1.66", |release| {
        release
            .file(
                "package.json",
                "{\"name\": \"@serverless-devs/core\", \"version\": \"0.1.66\", \"main\": \"index.js\"}\n",
            )
            .file("index.js", "module.exports = {};\n")
    });
    forge.repo("demo/big").release("v1.0.0", |release| release.noise("big.bin", 1, arguments.big));
    forge.repo("demo/private").release("v1.0.0", |release| release).private();
    forge.repo("demo/old-name").release("v1.0.0", |release| release).renamed_to("demo/new-name");
    forge.repo("demo/blocked").blocked();
    forge
        .gitee_repo("devsapp/start-demo")
        .release("0.0.1", |release| release.body("第一个版本"))
        .release("v1.0.0-rc.1", |release| release.prerelease().no_body())
        .release("release/1.0.0", |release| release.body("第一行\r\n第二行"))
        .release("v1.0.0", component("devsapp/start-demo", "v1.0.0"));
    let mut bench = (arguments.versions > 0).then(|| forge.repo("bench/pkg"));
    for n in 0..arguments.versions {
        bench = bench
            .map(|repo| repo.release(&format!("v1.0.{n}"), |release| release.noise("data.bin", n, arguments.size)));
    }
}

fn print_usage(forge: &Forge, arguments: &Arguments) {
    let api = forge.github_api();
    let archive = forge.archive_host();
    let gitee = forge.gitee_api();
    let web = forge.gitee_web();
    println!("github api   {api}");
    println!("archive host http://{archive}");
    println!("gitee        {gitee}");
    println!("\nStart the mirror with it as upstream:\n");
    println!("export SRM_MIRROR__UPSTREAMS__GITHUB__API={api}");
    println!("export SRM_MIRROR__UPSTREAMS__GITHUB__REDIRECT_HOSTS='[\"{archive}\"]'");
    println!("export SRM_MIRROR__UPSTREAMS__GITEE__API={gitee}");
    println!("export SRM_MIRROR__UPSTREAMS__GITEE__WEB={web}");
    if let Some(token) = arguments.token.first() {
        println!("export GITHUB_TOKEN={token} GITEE_TOKEN={token}");
    }
    println!("cargo run --release -- serve --cache-dir target/demo-cache\n");
    println!("then request:");
    println!("  curl -i http://127.0.0.1:8080/devsapp/fc3/releases/latest");
    println!("  curl -iOJ http://127.0.0.1:8080/devsapp/fc3/zipball/v0.2.0");
    println!("  curl -o /dev/null http://127.0.0.1:8080/demo/big/zipball/v1.0.0   # {} bytes", arguments.big);
    println!("  curl -i http://127.0.0.1:8080/gitee/devsapp/start-demo/releases");
    if arguments.versions > 0 {
        println!("  curl -i http://127.0.0.1:8080/bench/pkg/releases   # {} versions", arguments.versions);
        if arguments.token.is_empty() && arguments.anonymous_limit < arguments.versions {
            println!("  (give --token or a larger --anonymous-limit to fetch them all within an hour)");
        }
    }
    println!("\nSHA-256 of demo/big v1.0.0: {}", forge.sha256("demo/big", "v1.0.0"));
    println!("Ctrl-C ends it.\n");
}
