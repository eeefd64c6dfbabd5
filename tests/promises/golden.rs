//! Every JSON response of every dialect with its headers. A change here changes the wire contract.

use std::fmt::Write as _;

use crate::{
    answer_text::without_age,
    forge::{Fault, Forge, Match},
    mirror::{Mirror, TestResponse, setup},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let at = "2021-01-04T07:41:23Z";
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.no_name().no_body().created_at(at).published_at("2021-01-05T00:00:00Z"))
        .release("v1.1.0-rc.1", |r| {
            r.prerelease().created_at(at).published_at("2021-02-01T00:00:00Z").asset(
                "s.tgz",
                "application/gzip",
                b"12345",
            )
        })
        .release("v1.1.0", |r| {
            r.name("One")
                .body("Notes\n\"quoted\"")
                .created_at(at)
                .published_at("2021-03-01T00:00:00Z")
                .publish_yaml("Type: Component\nName: fc3\n")
        });
    forge.gitee_repo("devsapp/demo").release("v0.0.1", |r| r.created_at(at));
    forge.repo("devsapp/blocked").blocked();
    forge
}

/// One response as text, without the parts that differ between runs.
fn told(mirror: &Mirror, forge: &Forge, path: &str, got: &TestResponse) -> String {
    let mut text = format!("GET {path}\n\n{}\n", got.status);
    let mut names: Vec<&str> = got.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    for name in names {
        let value = match name {
            "date" | "x-request-id" | "etag" | "content-length" | "age" => "…".to_owned(),
            "cache-control" => without_age(got.header(name)).to_owned(),
            // A slow machine may see one second less.
            "cache-status" => without_number(got.header(name), "ttl="),
            _ => got.header(name).to_owned(),
        };
        let _ = writeln!(text, "{name}: {value}");
    }
    let body = serde_json::to_string_pretty(&got.json()).expect("JSON");
    let text = format!("{text}\n{body}\n")
        .replace(&mirror.address.to_string(), "mirror.example")
        .replace(&forge.github_api().replace("http://", ""), "api.forge.example")
        .replace(&forge.gitee_web().replace("http://", ""), "gitee.forge.example");
    let id = got.header("x-request-id");
    let first_seen = |line: &str| match line.split_once("\"FirstSeen\": ") {
        Some((indent, _)) => format!("{indent}\"FirstSeen\": …"),
        None => line.to_owned(),
    };
    text.replace(id, "REQUEST-ID").split('\n').map(first_seen).collect::<Vec<_>>().join("\n")
}

/// The text without the digits after `word`.
fn without_number(text: &str, word: &str) -> String {
    match text.split_once(word) {
        Some((before, after)) => format!("{before}{word}…{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => text.to_owned(),
    }
}

async fn check(name: &str, mirror: &Mirror, forge: &Forge, paths: &[&str]) {
    let mut all = String::new();
    for path in paths {
        let got = mirror.get(path).await;
        all.push_str(&told(mirror, forge, path, &got));
        all.push_str("\n--------\n\n");
    }
    insta::assert_snapshot!(name, all);
}

#[tokio::test]
async fn the_srm_dialect() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let paths = [
        "/devsapp/fc3/releases",
        "/devsapp/fc3/releases?per_page=1&page=2",
        "/devsapp/fc3/releases/latest",
        "/devsapp/fc3/releases/tags/1.0.0",
        "/devsapp/fc3/metadata/1.1.0",
        "/devsapp/fc3/metadata",
        "/gitee/devsapp/demo/releases",
    ];
    check("srm", &mirror, &forge, &paths).await;
}

#[tokio::test]
async fn the_github_dialect() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let paths = [
        "/repos/devsapp/fc3",
        "/repos/devsapp/fc3/releases",
        "/api/v3/repos/devsapp/fc3/releases/latest",
        "/repos/devsapp/fc3/releases/tags/v1.0.0",
        "/repos/devsapp/fc3/releases?per_page=2",
        "/repos/gitee/devsapp/demo/releases/latest",
    ];
    check("github", &mirror, &forge, &paths).await;
}

#[tokio::test]
async fn the_simple_and_v3_dialects() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let paths = [
        "/simple/devsapp/fc3/releases",
        "/simple/devsapp/fc3/releases/latest",
        "/simple/devsapp/none/releases",
        "/v3/packages/devsapp__fc3/release/latest",
        "/v3/packages/devsapp__fc3/release/tags/1.0.0",
        "/v3/packages/devsapp__none/release/latest",
    ];
    check("envelopes", &mirror, &forge, &paths).await;
}

#[tokio::test]
async fn a_package_of_a_registry() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.21").version("0.1.22").version("dev");
    drop(fc3.about(|about| {
        about.description = "Function Compute".into();
        about.home = Some("https://fc3.example".into());
        about.downloads = 42;
    }));
    drop(forge.simple_registry().component("core").version("0.1.66"));
    let aliases = [("acme/fc3".to_owned(), "official:fc3".to_owned())];
    let mirror = setup(&forge).with(|config| config.names.aliases = aliases.into()).start().await;
    let paths = [
        "/fc3/releases",
        "/fc3/releases/latest",
        "/official/fc3/releases/tags/0.1.21",
        "/fc3/metadata/0.1.22",
        "/fc3/metadata",
        "/simple/fc3/releases/latest",
        "/simple/devsapp/core/releases",
        "/v3/packages/fc3/release/latest",
        "/v3/packages/fc3/release/tags/0.1.21",
        "/v3/packages/fc3/release?page=1",
        "/v3/packages/core/release/latest",
        "/v3/packages/official-2x__core/release/latest",
        "/v3/packages/releases?search=fc3",
        "/repos/acme/fc3/releases/latest",
        "/repos/acme/fc3/releases/1",
        "/repos/acme/fc3",
    ];
    check("registry", &mirror, &forge, &paths).await;
}

#[tokio::test]
async fn errors() {
    let forge = forge().await;
    let mirror = setup(&forge)
        .with(|config| {
            config.packages.deny = vec!["*/denied".into()];
            if let Some(section) = config.upstreams.get_mut("github") {
                section.response_timeout = srm_mirror::value::Period(std::time::Duration::from_millis(300));
            }
        })
        .start()
        .await;
    let on = |name: &str| Match::path_contains(&format!("/devsapp/{name}/"));
    forge.fault(on("broken"), Fault::status(500, &[], "")).always();
    forge.fault(on("nonsense"), Fault::Html200).always();
    forge.fault(on("refused"), Fault::Refuse).always();
    let silent = forge.fault(on("silent"), Fault::HeadStall).always();
    forge.fault(on("forbidden"), Fault::status(403, &[], "")).always();
    let paths = [
        "/",
        "/devsapp/f%3Cc3/releases",
        "/devsapp/fc3/releases?per_page=x",
        "/devsapp/denied/releases",
        "/devsapp/none/releases",
        "/devsapp/fc3/releases/tags/9.9.9",
        "/devsapp/fc3/zipball/9.9.9",
        "/devsapp/blocked/releases",
        "/devsapp/broken/releases",
        "/devsapp/nonsense/releases",
        "/devsapp/refused/releases",
        "/devsapp/silent/releases",
        "/devsapp/forbidden/releases",
        "/repos/devsapp/none",
        "/v3/packages/releases",
        "/healthz",
        "/readyz",
        "/-/nothing",
    ];
    check("errors", &mirror, &forge, &paths).await;
    silent.release();
    forge.fault(on("limited"), Fault::SecondaryRateLimit { retry_after: None });
    check("limited", &mirror, &forge, &["/devsapp/limited/releases"]).await;
}
