//! `packages.model`: what does not conform to the package model is shown, logged, or refused in every dialect.

use std::path::Path;

use serde_json::{Value, json};
use srm_mirror::{
    config::Config,
    registry::{ModelConfig, ModelMode, Unbuilt},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    cache_ops::{cache, said},
    forge::{Forge, Host, Match, Spec},
    logs,
    mirror::{Mirror, Setup, TestResponse, setup},
    zips::{blobs, eventually},
};

/// The zips of one version in every dialect and form; `{}` is the version.
const ZIPS: [&str; 9] = [
    "/official/fc3/zipball/{}",
    "/official/fc3/flat/{}",
    "/v3/packages/fc3/zipball/{}",
    "/simple/official/fc3/zipball/{}",
    "/acme/source/zipball/{}",
    "/acme/source/flat/{}",
    "/repos/acme/source/zipball/{}",
    "/v3/packages/acme__source/zipball/{}",
    "/simple/acme/source/zipball/{}",
];

/// The files of a component that conforms, in the repository of a forge.
fn conforming(spec: Spec) -> Spec {
    spec.component_files("source", "1.0.0", "one")
}

fn without_readme(spec: Spec) -> Spec {
    spec.without_file("readme.md").without_file("README.md")
}

/// On the official registry and on a forge: 1.0.0 conforms, 2.0.0 has no readme.
async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("1.0.0").version_with("2.0.0", without_readme);
    forge.repo("acme/source").release("1.0.0", conforming).release("2.0.0", |spec| without_readme(conforming(spec)));
    forge
}

fn with_mode(forge: &Forge, mode: ModelMode) -> Setup {
    setup(forge).with(|config: &mut Config| config.packages.model = mode)
}

fn text(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

fn paths(version: &str) -> impl Iterator<Item = String> {
    ZIPS.iter().map(move |path| path.replace("{}", version))
}

async fn is_refused(mirror: &Mirror, path: &str) {
    let got = mirror.get(path).await;
    assert_eq!(got.status, 422, "{path}: {}", text(&got));
    let words = "does not conform to the package model (packages.model): readme.md is missing";
    assert!(text(&got).contains(words), "{path}: {}", text(&got));
    assert!(got.json().is_object(), "{path}: no byte of the zip");
}

async fn stored(dir: &Path, mirror: &Mirror, count: usize) {
    eventually("stored", || blobs(dir) == count && mirror.cache.archives().running_fills() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enforce_refuses_in_every_dialect_what_does_not_conform() {
    let forge = forge().await;
    let mirror = with_mode(&forge, ModelMode::Enforce).start().await;
    for path in paths("2.0.0") {
        for _ in 0..2 {
            is_refused(&mirror, &path).await;
        }
        assert_eq!(mirror.head(&path).await.status, 422, "{path}");
        let range = mirror.get_with(&path, &[("range", "bytes=0-9")]).await;
        assert_eq!(range.status, 422, "{path}");
    }
    for path in paths("1.0.0") {
        let got = mirror.get(&path).await;
        assert_eq!((got.status, got.header("content-type")), (200, "application/zip"), "{path}: {}", text(&got));
    }
    let json = mirror.get("/acme/source/zipball/2.0.0").await.json();
    assert_eq!(json["code"], "not-conforming");
    assert_eq!(mirror.get("/acme/source/releases").await.status, 200, "documents are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_a_commit_and_a_moving_version_are_refused_as_a_tag_is() {
    let forge = forge().await;
    forge.registry().component("fc3").version_with("dev", without_readme);
    let commit = forge.repo("acme/source").commit("2.0.0");
    let mirror = with_mode(&forge, ModelMode::Enforce).start().await;
    for path in [
        "/official/fc3/zipball/dev".to_owned(),
        "/v3/packages/fc3/zipball/dev".to_owned(),
        format!("/acme/source/zipball/{commit}"),
        format!("/v3/packages/acme__source/zipball/{commit}"),
    ] {
        is_refused(&mirror, &path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_join_a_download_are_refused_at_its_end() {
    let forge = forge().await;
    let mirror = with_mode(&forge, ModelMode::Enforce).start().await;
    let gate = forge.gate(Match::on(Host::Archive), 10);
    let asked = ["/acme/source/zipball/2.0.0", "/acme/source/flat/2.0.0", "/repos/acme/source/zipball/2.0.0"];
    let answers = asked.map(|path| mirror.get(path));
    let open = async {
        eventually("downloading", || mirror.cache.archives().running_fills() == 1).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(answers), open);
    for (path, got) in asked.iter().zip(answers) {
        assert_eq!(got.status, 422, "{path}: {}", text(&got));
    }
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1, "one download");
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_of_stored_zips_hold_after_a_restart_and_without_the_zip() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    for path in paths("2.0.0") {
        assert_eq!(mirror.get(&path).await.status, 200, "{path}: off by default");
    }
    stored(dir.path(), &mirror, 2).await;
    mirror.stop().await;
    let mirror = with_mode(&forge, ModelMode::Enforce).start_in(dir.path()).await;
    forge.clear_log();
    for path in paths("2.0.0") {
        is_refused(&mirror, &path).await;
    }
    mirror.admin(dir.path(), "rm", json!({"pattern": "*@2.0.0"})).await;
    stored(dir.path(), &mirror, 0).await;
    for path in paths("2.0.0") {
        is_refused(&mirror, &path).await;
    }
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 0, "the pins have the findings");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_zip_is_refused_too() {
    let forge = forge().await;
    let from = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(from.path()).await;
    assert_eq!(mirror.get("/acme/source/zipball/2.0.0").await.status, 200);
    stored(from.path(), &mirror, 1).await;
    mirror.stop().await;
    let bundle = from.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    let done = cache(from.path(), &["export", bundle]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let to = tempfile::tempdir().expect("a directory");
    let done = cache(to.path(), &["import", bundle]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let mirror = with_mode(&forge, ModelMode::Enforce).start_in(to.path()).await;
    forge.clear_log();
    is_refused(&mirror, "/acme/source/zipball/2.0.0").await;
    is_refused(&mirror, "/acme/source/flat/2.0.0").await;
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_phrase_names_the_findings() {
    let forge = forge().await;
    let mirror = with_mode(&forge, ModelMode::Enforce).start().await;
    let mut stream = TcpStream::connect(mirror.address).await.expect("connects");
    let request = "GET /v3/packages/fc3/zipball/2.0.0 HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let expected = "HTTP/1.1 422 fc3 2.0.0 on official does not conform to the package model (packages.model): readme.md \
                    is missing\r\n";
    assert!(answer.starts_with(expected), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn warn_serves_and_logs_once_and_metadata_shows_the_findings() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    forge.repo("warned/source").release("2.0.0", |spec| without_readme(conforming(spec))).release("1.0.0", conforming);
    let mirror = with_mode(&forge, ModelMode::Warn).start().await;
    for path in ["zipball/2.0.0", "flat/2.0.0", "zipball/2.0.0", "zipball/1.0.0"] {
        assert_eq!(mirror.get(&format!("/warned/source/{path}")).await.status, 200, "{path}");
    }
    let lines = logs::lines("does not conform to the package model");
    let own: Vec<&String> = lines.iter().filter(|line| line.contains("warned/source")).collect();
    assert!(matches!(&own[..], [line] if line.contains("2.0.0") && line.contains("readme.md is missing")), "{own:?}");
    let findings = |version: &str| {
        let path = format!("/warned/source/metadata/{version}");
        let mirror = &mirror;
        async move { mirror.get(&path).await.json()["ModelFindings"].clone() }
    };
    let expected = json!([{"rule": "readme", "subject": "readme.md", "message": "readme.md is missing"}]);
    assert_eq!(findings("2.0.0").await, expected);
    assert_eq!(findings("1.0.0").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn off_shows_findings_to_the_operator_alone() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    forge.repo("quiet/source").release("2.0.0", |spec| spec.file("x", "no package at all"));
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/quiet/source/zipball/2.0.0").await.status, 200);
    stored(dir.path(), &mirror, 1).await;
    assert_eq!(mirror.get("/quiet/source/metadata/2.0.0").await.json()["ModelFindings"], Value::Null);
    let lines = logs::lines("does not conform to the package model");
    assert!(!lines.iter().any(|line| line.contains("quiet/source")), "{lines:?}");
    mirror.stop().await;
    let listed = cache(dir.path(), &["ls", "--json"]).await;
    let row: Value = serde_json::from_slice(&listed.stdout).expect("one row");
    let expected = json!([{"rule": "publish-yaml", "subject": "publish.yaml", "message": "publish.yaml is missing"}]);
    assert_eq!(row["findings"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_packages_may_have_another_mode() {
    let forge = forge().await;
    let entry = |packages: &str, model| ModelConfig { packages: packages.into(), model };
    let entries = vec![entry("acme/*", ModelMode::Off), entry("*", ModelMode::Enforce)];
    let setup = with_mode(&forge, ModelMode::Warn).with(|config: &mut Config| config.packages.model_for = entries);
    let mirror = setup.start().await;
    assert_eq!(mirror.get("/acme/source/zipball/2.0.0").await.status, 200);
    is_refused(&mirror, "/official/fc3/zipball/2.0.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_judged_by_its_own_files() {
    let forge = Forge::start().await;
    let publish = "Edition: 3.0.0\nType: Project\nName: start-x\nProvider: [Others]\nVersion: 1.0.0\nDescription: d\n\
                   Category: c\nService: {x: {}}\nParameters: {}\n";
    forge.repo("acme/apps").tag("x@1.0.0", |spec| {
        spec.file("apps/x/publish.yaml", publish)
            .file("apps/x/src/s.yaml", "edition: 3.0.0")
            .file("apps/x/readme.md", "x")
            .file("apps/y/publish.yaml", publish)
            .file("apps/y/readme.md", "y")
    });
    forge
        .repo("acme/apps")
        .tag("y@1.0.0", |spec| spec.file("apps/y/publish.yaml", publish).file("apps/y/readme.md", "y"));
    let aliases = [("start-x", "github:acme/apps//apps/x"), ("start-y", "github:acme/apps//apps/y")];
    let aliases = aliases.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let setup = with_mode(&forge, ModelMode::Enforce).with(|config: &mut Config| config.names.aliases = aliases);
    let mirror = setup.start().await;
    for path in ["/start-{}/zipball/1.0.0", "/start-{}/flat/1.0.0", "/v3/packages/start-{}/zipball/1.0.0"] {
        let good = mirror.get(&path.replace("{}", "x")).await;
        assert_eq!(good.status, 200, "{path}: {}", text(&good));
        for _ in 0..2 {
            let bad = mirror.get(&path.replace("{}", "y")).await;
            assert_eq!(bad.status, 422, "{path}: {}", text(&bad));
            assert!(text(&bad).contains("src/ is missing"), "{path}: {}", text(&bad));
        }
    }
    let findings = mirror.get("/start-y/metadata/1.0.0").await.json()["ModelFindings"].clone();
    assert_eq!(findings[0]["subject"], "src/", "{findings}");
    let root = mirror.get("/acme/apps/zipball/x@1.0.0").await;
    assert_eq!(root.status, 422, "the root is no package: {}", text(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_served_is_refused_for_that_and_not_for_its_findings() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = with_mode(&forge, ModelMode::Enforce).start_in(dir.path()).await;
    is_refused(&mirror, "/acme/source/zipball/2.0.0").await;
    mirror.stop().await;
    let denied = with_mode(&forge, ModelMode::Enforce).with(|config| config.packages.deny = vec!["acme/*".into()]);
    let mirror = denied.start_in(dir.path()).await;
    let got = mirror.get("/acme/source/zipball/2.0.0").await;
    assert_eq!(got.status, 403, "{}", text(&got));
    assert!(!text(&got).contains("readme"), "{}", text(&got));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_simple_zip_under_enforce_is_504_while_its_download_goes_on() {
    let forge = forge().await;
    let setup = with_mode(&forge, ModelMode::Enforce).with(|config: &mut Config| {
        config.packages.unbuilt = Unbuilt::Serve;
        config.packages.unbuilt_wait = srm_mirror::value::Period(std::time::Duration::from_millis(100));
    });
    let mirror = setup.start().await;
    let gate = forge.gate(Match::on(Host::Archive), 10);
    crate::unbuilt::is_late_while_it_arrives(&mirror, "/simple/acme/source/zipball/1.0.0").await;
    gate.open();
    stored(mirror.dir(), &mirror, 1).await;
    assert_eq!(mirror.get("/simple/acme/source/zipball/1.0.0").await.status, 200);
}
