//! The scripted forge of the tests, started by hand: GitHub, its archive host and Gitee on loopback, with demo packages.
//!
//! `cargo run --example forge`, then the lines it prints in another terminal. Ctrl-C ends it.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/forge.rs"]
mod forge;

use std::time::Duration;

use clap::Parser;
use forge::{Fault, Forge, Lengths, Match, Spec};

/// GitHub and Gitee on loopback, with real zips made on the fly.
#[derive(Parser)]
#[command(name = "forge")]
struct Arguments {
    /// The API's port; archives are on the next one, Gitee on the one after. 0 takes free ports.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// A token that both forges take; may be given more than once.
    #[arg(long)]
    token: Vec<String>,
    /// GitHub requests an hour without a token, as the real one allows them.
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
    /// Sends every zip with `Content-Length`; without it the first time is chunked, as on GitHub.
    #[arg(long)]
    with_length: bool,
    /// Answers 502 to every Nth request.
    #[arg(long, value_name = "N")]
    fail_every: Option<u64>,
    /// Sends zips no faster than this many bytes a second.
    #[arg(long, value_name = "BYTES")]
    pace: Option<u64>,
    /// Prints no line per request.
    #[arg(long)]
    quiet: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let forge = match Forge::start_at(arguments.port).await {
        Ok(forge) => forge,
        Err(error) => {
            eprintln!("forge: ports {} and the two after it: {error}; try --port 0", arguments.port);
            std::process::exit(1);
        }
    };
    forge.keep_log(false);
    fill(&forge, &arguments);
    behave(&forge, &arguments);
    greet(&forge, &arguments);
    if !arguments.quiet {
        forge.observe(|seen| {
            let status = seen.status.unwrap_or_default();
            println!("{:9} {} {} {status}", format!("{:?}", seen.host), seen.method, seen.path_and_query);
        });
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn behave(forge: &Forge, arguments: &Arguments) {
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

fn component(version: &'static str) -> impl Fn(Spec) -> Spec {
    move |release| {
        let number = version.trim_start_matches('v');
        release
            .publish_yaml(&format!(
                "Edition: 3.0.0\nType: Component\nName: fc3\nVersion: {number}\nProvider:\n  - Alibaba Cloud\n\
                 Description: A demo component\nTags:\n  - demo\nCategory: Basic Cloud Service\nService:\n  - Function Compute\n"
            ))
            .file("package.json", format!("{{\"name\": \"fc3\", \"version\": \"{number}\", \"main\": \"dist/index.js\"}}\n"))
            .file(
                "dist/index.js",
                format!(
                    "'use strict';\nclass Fc3 {{\n  async deploy() {{ console.log('fc3 {number} deployed'); return {{ version: '{number}' }}; }}\n}}\n\
                     module.exports = Fc3;\nmodule.exports.default = Fc3;\n"
                ),
            )
            .noise("dist/data.bin", number.len() as u64, 200_000)
            .body(&format!("## fc3 {number}\n\n- a demo release\n"))
    }
}

fn fill(forge: &Forge, arguments: &Arguments) {
    forge
        .repo("devsapp/fc3")
        .release("v0.1.0", component("v0.1.0"))
        .release("v0.1.1", component("v0.1.1"))
        .release("v0.2.0-rc.1", |release| component("v0.2.0-rc.1")(release).prerelease())
        .release("v0.2.0", component("v0.2.0"))
        .release("v0.3.0", |release| component("v0.3.0")(release).draft())
        .tag_only("v0.0.9")
        .branch("dev", |branch| branch.file("README.md", "the dev branch\n"));
    forge.repo("devsapp/start-fc3").release("1.0.0", |release| {
        release
            .publish_yaml("Edition: 3.0.0\nType: Project\nName: start-fc3\nVersion: 1.0.0\nDescription: A demo application\n")
            .file(
                "src/s.yaml",
                "edition: 3.0.0\nname: start-fc3\naccess: default\nresources:\n  hello:\n    component: fc3\n    props:\n      region: cn-hangzhou\n",
            )
            .file("src/code/index.js", "exports.handler = async () => 'hello';\n")
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
        .release("v1.0.0", component("v1.0.0"));
    let mut bench = (arguments.versions > 0).then(|| forge.repo("bench/pkg"));
    for n in 0..arguments.versions {
        bench = bench
            .map(|repo| repo.release(&format!("v1.0.{n}"), |release| release.noise("data.bin", n, arguments.size)));
    }
}

fn greet(forge: &Forge, arguments: &Arguments) {
    let (api, archive) = (forge.github_api(), forge.archive_host());
    let (gitee, web) = (forge.gitee_api(), forge.gitee_web());
    println!("github api   {api}");
    println!("archive host http://{archive}");
    println!("gitee        {gitee}");
    println!("\nStart the mirror against it with\n");
    println!("export SRM_MIRROR__UPSTREAMS__GITHUB__API={api}");
    println!("export SRM_MIRROR__UPSTREAMS__GITHUB__REDIRECT_HOSTS='[\"{archive}\"]'");
    println!("export SRM_MIRROR__UPSTREAMS__GITEE__API={gitee}");
    println!("export SRM_MIRROR__UPSTREAMS__GITEE__WEB={web}");
    if let Some(token) = arguments.token.first() {
        println!("export GITHUB_TOKEN={token} GITEE_TOKEN={token}");
    }
    println!("cargo run --release -- serve --cache-dir target/demo-cache\n");
    println!("and ask it for");
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
