//! A component whose entry is not in its zip is refused to the command line clients before a byte of it is sent.

use std::path::Path;

use serde_json::json;
use srm_mirror::registry::Unbuilt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    forge::{Forge, Host, Match, Spec},
    mirror::{Mirror, TestResponse, setup},
    zips::{blobs, eventually},
};

const V3: &str = "/v3/packages/unbuilt/zipball/1.0.0";
const SIMPLE: &str = "/simple/official/unbuilt/zipball/1.0.0";

/// A component of the official registry and one of a forge, both without their build.
async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.registry().component("unbuilt").unbuilt("1.0.0");
    forge.registry().component("fc3").version("0.1.22");
    forge.repo("acme/source").release("1.0.0", source);
    forge
}

fn source(spec: Spec) -> Spec {
    spec.publish_yaml("Type: Component\nName: source\n").file("package.json", "{\"main\": \"./dist/index.js\"}")
}

fn text(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

/// Requests a path over HTTP/1.1 and returns the status line.
async fn status_line(mirror: &Mirror, path: &str) -> String {
    let mut stream = TcpStream::connect(mirror.address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: m\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the connection of a refused zip is closed");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().expect("a status line").to_owned()
}

async fn stored(dir: &Path, mirror: &Mirror, count: usize) {
    eventually("stored", || blobs(dir) == count && mirror.cache.archives().running_fills() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unbuilt_component_is_422_in_the_dialects_of_the_command_lines_and_served_in_the_others() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    for (path, upstream) in [
        (V3, "official"),
        (SIMPLE, "official"),
        ("/v3/packages/acme__source/zipball/1.0.0", "github"),
        ("/simple/acme/source/zipball/1.0.0", "github"),
    ] {
        for _ in 0..2 {
            let got = mirror.get(path).await;
            assert_eq!(got.status, 422, "{path}: {}", text(&got));
            assert!(text(&got).contains("dist/index.js") && text(&got).contains(upstream), "{path}: {}", text(&got));
            assert!(got.json().is_object(), "{path}: no byte of the zip");
        }
        assert_eq!(mirror.head(path).await.status, 422, "{path}");
    }
    for path in [
        "/official/unbuilt/zipball/1.0.0",
        "/official/unbuilt/flat/1.0.0",
        "/acme/source/zipball/1.0.0",
        "/repos/acme/source/zipball/1.0.0",
        "/v3/packages/fc3/zipball/0.1.22",
        "/simple/official/fc3/zipball/0.1.22",
    ] {
        let got = mirror.get(path).await;
        assert_eq!((got.status, got.header("content-type")), (200, "application/zip"), "{path}: {}", text(&got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_known_costs_no_request_also_once_the_zip_is_no_longer_stored() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(V3).await.status, 422);
    stored(dir.path(), &mirror, 1).await;
    forge.clear_log();
    assert_eq!(mirror.get(V3).await.status, 422);
    mirror.admin(dir.path(), "rm", json!({"pattern": "official:unbuilt@*"})).await;
    stored(dir.path(), &mirror, 0).await;
    assert_eq!(mirror.get("/v3/packages/official__unbuilt/zipball/1.0.0").await.status, 422);
    assert_eq!(forge.requests().len(), 0, "the pin has the fact");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_served_is_refused_for_that_and_not_for_its_build() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(V3).await.status, 422);
    stored(dir.path(), &mirror, 1).await;
    mirror.stop().await;
    let denied = setup(&forge).with(|config| config.packages.deny = vec!["official:*".into()]);
    let mirror = denied.start_in(dir.path()).await;
    for path in [V3, SIMPLE, "/v3/packages/official__unbuilt/zipball/1.0.0"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 403, "{path}: {}", text(&got));
        assert!(!text(&got).contains("dist/"), "{path}: {}", text(&got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_serve_unbuilt_components() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.packages.unbuilt = Unbuilt::Serve).start().await;
    for path in [V3, SIMPLE] {
        let got = mirror.get(path).await;
        assert_eq!((got.status, got.header("content-type")), (200, "application/zip"), "{path}: {}", text(&got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_place_of_a_zip_has_its_sentence_as_reason_phrase() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.packages.deny = vec!["acme/secret".into()]).start().await;
    for (path, status, words) in [
        (V3, 422, "unbuilt 1.0.0 on official is not built: its zip has no dist/index.js"),
        ("/acme/none/zipball/1.0.0", 404, "no package acme/none on github"),
        ("/acme/source/flat/9.9.9", 404, "acme/source on github has no version 9.9.9"),
        ("/acme/secret/zipball/1", 403, "acme/secret 1 is not among the packages"),
        ("/acme/source/zipball/%E7%89%88", 404, "has no version ?"),
    ] {
        let line = status_line(&mirror, path).await;
        let phrase = line.strip_prefix(&format!("HTTP/1.1 {status} ")).unwrap_or_else(|| panic!("{path}: {line}"));
        assert!(phrase.contains(words), "{path}: {phrase}");
        assert!(phrase.len() <= 200 && phrase.chars().all(|c| (' '..='~').contains(&c)), "{path}: {phrase}");
    }
    forge.down().await;
    let line = status_line(&mirror, "/acme/source/zipball/1.0.0").await;
    assert!(line.starts_with("HTTP/1.1 502 github cannot be reached for acme/source 1.0.0"), "{line}");
    let long = format!("/acme/{}/zipball/1", "x".repeat(190));
    let line = status_line(&mirror, &long).await;
    assert!(line.ends_with("...") && line.len() <= "HTTP/1.1 502 ".len() + 200, "{line}");
}

/// Asserts that a zip whose download has begun is answered 504 while it goes on. The wait counts from the request: what
/// must be known before the download begins may take all of it.
pub async fn is_late_while_it_arrives(mirror: &Mirror, path: &str) {
    crate::eventually::eventually("the download begins, and goes on after the answer", async || {
        let late = mirror.get(path).await;
        assert_eq!((late.status, late.header("retry-after").is_empty()), (504, false), "{}", text(&late));
        mirror.cache.archives().running_fills() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_simple_zip_whose_directory_does_not_arrive_is_504_while_its_download_goes_on() {
    let forge = forge().await;
    let wait = srm_mirror::value::Period(std::time::Duration::from_millis(100));
    let mirror = setup(&forge).with(|config| config.packages.unbuilt_wait = wait).start().await;
    let gate = forge.gate(Match::on(Host::Archive), 10);
    let path = "/simple/acme/source/zipball/1.0.0";
    is_late_while_it_arrives(&mirror, path).await;
    assert!(status_line(&mirror, path).await.starts_with("HTTP/1.1 504 "));
    gate.open();
    stored(mirror.dir(), &mirror, 1).await;
    assert_eq!(mirror.get(path).await.status, 422, "now it is known that it is not built");
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1);
}
