//! The exact headers of a zip for a tag, a commit and a branch, on a miss and on a hit.

use std::time::Duration;

use srm_mirror::entry::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    forge::{Forge, Lengths},
    mirror::{Mirror, TestResponse},
    zips::{PACKAGE, TAG, ZIP, blobs, eventually, forge},
};

const TAGGED: &str = "public, max-age=31536000, immutable";
const BRANCHED: &str = "public, max-age=60";

fn same(got: &TestResponse, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(got.header(name), *value, "{name}");
    }
}

async fn settled(mirror: &Mirror, count: usize) {
    eventually("stored", || blobs(mirror.dir()) == count && mirror.cache.archives().running_fills() == 0).await;
}

async fn small() -> Forge {
    let forge = forge(Lengths::Never, |r| r.file("index.js", "1")).await;
    forge.repo(PACKAGE).branch("feature/x", |r| r.file("index.js", "2"));
    forge
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_exactly_the_headers_of_the_contract() {
    let forge = small().await;
    let mirror = Mirror::over(&forge).await;
    let miss = mirror.get(ZIP).await;
    let disposition = r#"attachment; filename="fc3-v1.0.0.zip""#;
    let always = [("content-type", "application/zip"), ("content-disposition", disposition), ("cache-control", TAGGED)];
    same(&miss, &always);
    assert_eq!(miss.cache_status(), "srm-mirror; fwd=uri-miss; fwd-status=200");
    assert!(!miss.header("date").is_empty());

    settled(&mirror, 1).await;
    mirror.clock.advance(Duration::from_secs(90));
    let hit = mirror.get(ZIP).await;
    same(&hit, &always);
    let bytes = forge.zip_bytes(PACKAGE, TAG);
    let digest = forge.sha256(PACKAGE, TAG);
    same(
        &hit,
        &[("content-length", &bytes.len().to_string()), ("etag", &format!("\"{digest}\"")), ("accept-ranges", "bytes")],
    );
    assert_eq!(hit.repr_digest(), Digest::of(&bytes).0);
    assert!((90..100).contains(&hit.header("age").parse::<u64>().expect("seconds")), "{}", hit.header("age"));
    assert!(hit.cache_status().starts_with("srm-mirror; hit"), "{}", hit.cache_status());
    for absent in ["content-encoding", "transfer-encoding", "last-modified", "vary", "set-cookie", "location"] {
        assert_eq!(hit.header(absent), "", "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_cacheable_for_a_minute_and_a_commit_is_immutable() {
    let forge = small().await;
    let mirror = Mirror::over(&forge).await;
    let commit = forge.repo(PACKAGE).commit("feature/x");
    for path in ["feature/x", "feature%2Fx", "refs/heads/feature/x"] {
        let got = mirror.get(&format!("/devsapp/fc3/zipball/{path}")).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        same(
            &got,
            &[
                ("cache-control", BRANCHED),
                ("content-type", "application/zip"),
                ("content-disposition", r#"attachment; filename="fc3-feature-x.zip""#),
            ],
        );
        settled(&mirror, 1).await;
    }
    let got = mirror.get(&format!("/devsapp/fc3/zipball/{commit}")).await;
    same(&got, &[("cache-control", TAGGED)]);
    assert!(got.header("content-disposition").contains(&commit));
}

/// The downloader of the CLIs sends neither `User-Agent` nor `Accept`.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_only_a_host_header_is_answered() {
    let forge = small().await;
    let mirror = Mirror::over(&forge).await;
    for round in ["cold", "stored"] {
        let mut stream = tokio::net::TcpStream::connect(mirror.address).await.expect("a connection");
        let request = format!("GET {ZIP} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", mirror.address);
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{round}: {}", String::from_utf8_lossy(&answer));
        // The first response is chunked: its length is unknown.
        let end: &[u8] = if round == "cold" { b"\r\n0\r\n\r\n" } else { &forge.zip_bytes(PACKAGE, TAG) };
        assert!(answer.ends_with(end), "{round}: {}", String::from_utf8_lossy(&answer));
        settled(&mirror, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_a_client_sends_is_forwarded_upstream() {
    let forge = small().await;
    let mirror = Mirror::over(&forge).await;
    let secrets =
        [("token", "s3cret"), ("sign_code", "s3cret"), ("authorization", "Bearer s3cret"), ("cookie", "s3cret")];
    assert_eq!(mirror.get_with(ZIP, &secrets).await.status, 200);
    for seen in forge.requests() {
        assert!(!format!("{:?}", seen.headers).contains("s3cret"), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_miss_is_marked_collapsed() {
    let forge = forge(Lengths::Never, |r| r.stored().big(1 << 20)).await;
    let gate = forge.gate(crate::zips::zips(), 1000);
    let mirror = Mirror::over(&forge).await;
    let first = mirror.open(ZIP).await;
    let second = mirror.open(ZIP).await;
    let status = |got: &reqwest::Response| got.headers()["cache-status"].to_str().expect("text").to_owned();
    assert!(!status(&first).contains("collapsed"), "{}", status(&first));
    assert!(status(&second).contains("collapsed"), "{}", status(&second));
    gate.open();
    assert_eq!(first.bytes().await.expect("whole"), second.bytes().await.expect("whole"));
}

/// In HTTP/1.0 a body of unknown length ends with the connection: a client cannot tell a broken one from a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_a_length_or_an_error() {
    let ask = async |mirror: &Mirror| {
        let mut stream = tokio::net::TcpStream::connect(mirror.address).await.expect("a connection");
        stream.write_all(format!("GET {ZIP} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        answer
    };
    let head = |answer: &[u8]| {
        let text = String::from_utf8_lossy(answer).to_lowercase();
        text.split("\r\n\r\n").next().unwrap_or_default().to_owned()
    };
    let good = forge(Lengths::Never, |r| r.stored().big(1 << 20)).await;
    let mirror = Mirror::over(&good).await;
    for round in ["cold", "stored"] {
        let answer = ask(&mirror).await;
        let bytes = good.zip_bytes(PACKAGE, TAG);
        assert!(head(&answer).contains(&format!("content-length: {}", bytes.len())), "{round}: {}", head(&answer));
        assert!(answer.ends_with(&bytes), "{round}");
        settled(&mirror, 1).await;
    }
    let bad = forge(Lengths::Never, |r| r.stored().wrong_crc().big(1 << 20)).await;
    let answer = ask(&Mirror::over(&bad).await).await;
    assert!(head(&answer).starts_with("http/1.0 502"), "{}", head(&answer));
}
