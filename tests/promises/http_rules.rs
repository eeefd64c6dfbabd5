//! What RFC 9110 to 9112, 9211 and 9530 demand of every answer: hosts, freshness, digests and `Cache-Status`.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Match},
    logs,
    mirror::{Mirror, TestResponse, setup},
    process::{Launch, Process},
    zips::{PACKAGE, ZIP, blobs, zips},
};

const LIST: &str = "/devsapp/fc3/releases";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo(PACKAGE).release("v1.0.0", |r| r.file("index.js", b"1"));
    forge
}

/// Sends one request as these bytes, and returns the whole answer.
pub async fn raw(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("read to the end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_listener_sends_the_address_of_another() {
    let forge = forge().await;
    let mut setup = setup(&forge);
    setup.config.server.listen = ["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().expect("an address")).to_vec();
    let dir = tempfile::tempdir().expect("a directory");
    setup.config.disk.dir = Some(dir.path().to_owned());
    let app =
        srm_mirror::app::App::bind_with_clock(setup.config, setup.credentials, srm_mirror::clock::Clock::default());
    let app = app.await.expect("starts");
    let addresses = app.addresses.clone();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let run = tokio::spawn(app.serve_until(shutdown.clone(), tokio_util::sync::CancellationToken::new()));
    for (head, status) in [
        ("HTTP/1.1\r\nhost: \r\nconnection: close", "400"),
        ("HTTP/1.1\r\nconnection: close", "400"),
        ("HTTP/1.1\r\nhost:\t\r\nconnection: close", "400"),
        ("HTTP/1.1\r\nhost: a\r\nhost: a\r\nconnection: close", "400"),
        ("HTTP/1.0\r\nhost: ", "400"),
        ("HTTP/1.0", "200"),
    ] {
        // Twice each, so that every connection thread may answer from its cache of responses.
        for address in addresses.iter().chain(&addresses).chain(&addresses).chain(&addresses) {
            let answer = raw(*address, &format!("GET {LIST} {head}\r\n\r\n")).await;
            let line = answer.lines().next().unwrap_or_default();
            assert!(line.contains(status), "{head:?}: {line}");
            let foreign = addresses.iter().filter(|other| *other != address);
            for foreign in foreign {
                assert!(!answer.contains(&foreign.to_string()), "{head:?} at {address}: {answer}");
            }
            assert_eq!(status == "200", answer.contains(&format!("http://{address}/")), "{head:?}: {answer}");
        }
    }
    shutdown.cancel();
    run.await.expect("no panic").expect("ends well");
}

#[tokio::test]
async fn the_same_port_can_be_listened_on_for_both_families() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    if TcpStream::connect("[::1]:1").await.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable) {
        return;
    }
    for pair in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"], ["127.0.0.1", "[::]"]] {
        let mirror = on_one_port(&forge, dir.path(), pair).await;
        for host in ["127.0.0.1", "[::1]"] {
            let address = format!("{host}:{}", mirror.address.port()).parse().expect("an address");
            let answer = raw(address, "GET /healthz HTTP/1.0\r\n\r\n").await;
            assert!(answer.contains(" 200 "), "{pair:?} at {host}: {answer}");
        }
        mirror.stop().await;
    }
}

/// A mirror that listens on two addresses with one port. Another test may take a port that was free a moment ago.
async fn on_one_port(forge: &Forge, dir: &Path, hosts: [&str; 2]) -> Process {
    let mut last = None;
    for _ in 0..5 {
        let port = {
            let free = std::net::TcpListener::bind("[::]:0").expect("a free port");
            free.local_addr().expect("an address").port()
        };
        let listen = hosts.map(|host| format!("{host}:{port}")).join(",");
        match Launch::serve(forge, dir).set("server.listen", &listen).try_start().await {
            Ok(mirror) => return mirror,
            Err(ended) => last = Some(ended),
        }
    }
    panic!("{hosts:?}: {last:?}");
}

/// The freshness that a client has left: `max-age` without what `Age` has used up.
fn left(got: &TestResponse) -> i64 {
    let max_age = got.header("cache-control").strip_prefix("public, max-age=").expect("a max-age");
    let max_age = max_age.trim_end_matches(", immutable");
    let age = if got.header("age").is_empty() { "0" } else { got.header("age") };
    max_age.parse::<i64>().expect("seconds") - age.parse::<i64>().expect("seconds")
}

#[tokio::test]
async fn a_client_may_reuse_json_for_a_minute_and_never_longer_than_the_mirror() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(left(&mirror.get(LIST).await), 60);
    // A list without a token is fresh for five minutes.
    mirror.clock.advance(Duration::from_secs(200));
    assert_eq!(left(&mirror.get(LIST).await), 60);
    mirror.clock.advance(Duration::from_secs(60));
    assert!((35..=40).contains(&left(&mirror.get(LIST).await)), "as long as the mirror itself would");
    forge.down().await;
    mirror.clock.advance(Duration::from_secs(1000));
    let stale = mirror.get(LIST).await;
    assert_eq!((stale.status, left(&stale)), (200, 0), "a stale list is asked for again");
}

#[tokio::test]
async fn a_failed_condition_is_stored_by_no_cache() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    mirror.get(LIST).await;
    let failed = mirror.get_with(LIST, &[("if-match", "\"other\"")]).await;
    assert_eq!((failed.status, failed.header("cache-control")), (412, "no-store"));
}

#[tokio::test]
async fn cache_status_names_a_forward_only_where_a_request_was_sent() {
    let forge = forge().await;
    forge.accept_token("t");
    let mirror =
        setup(&forge).with(|config| config.packages.deny = vec!["evil/*".parse().expect("a pattern")]).start().await;
    let asked = forge.requests().len();
    for path in
        ["/evil/x/releases", "/evil/x/zipball/1", "/nothing", "/devsapp/fc3/releases?page=x", "/v3/package/user"]
    {
        assert_eq!(mirror.get(path).await.cache_status(), "srm-mirror", "{path}");
    }
    assert_eq!(forge.requests().len(), asked);
    // A limit: the request that hits it was forwarded, the next ones are not.
    let mirror = Mirror::over(&forge).await;
    let limit = [("retry-after", "100"), ("content-type", "application/json")];
    forge.fault(Match::any(), Fault::status(429, &limit, "{}"));
    let first = mirror.get("/a/b/releases").await;
    assert_eq!((first.status, first.cache_status()), (503, "srm-mirror; fwd=uri-miss"));
    let asked = forge.requests().len();
    for path in ["/c/d/releases", "/c/d/zipball/1"] {
        let paused = mirror.get(path).await;
        assert!(paused.status == 503 && !paused.cache_status().contains("fwd"), "{path}: {}", paused.cache_status());
    }
    assert_eq!(forge.requests().len(), asked);
}

#[tokio::test]
async fn a_refused_download_is_remembered_without_a_forward() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let zips = || Match::any().containing("zip");
    forge.fault(zips(), Fault::Html200);
    assert_eq!(mirror.get(ZIP).await.status, 502);
    let again = mirror.get(ZIP).await;
    assert_eq!((again.status, again.cache_status()), (502, "srm-mirror; detail=cool-down"));
}

#[tokio::test]
async fn no_error_claims_to_be_stored() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    forge.fault(Match::any().containing("zip"), Fault::CutAfter(100)).always();
    for path in ["/devsapp/fc3/flat/v1.0.0", ZIP] {
        if let Ok(got) = mirror.request(reqwest::Method::GET, path, &[]).await {
            assert!(got.status >= 500 && !got.cache_status().contains("stored"), "{path}: {got:?}");
        }
    }
}

#[tokio::test]
async fn only_what_is_stored_already_is_called_stored() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get(LIST).await.cache_status(), "srm-mirror; fwd=uri-miss; fwd-status=200; stored");
    // A zip is stored after its last byte: its verification may fail, and the disk may have no room.
    assert_eq!(mirror.get(ZIP).await.cache_status(), "srm-mirror; fwd=uri-miss; fwd-status=200");
    // A document that cannot be written is in memory alone.
    let spool = mirror.dir().join("spool");
    eventually("stored", async || mirror.cache.archives().running_fills() == 0).await;
    std::fs::remove_dir_all(&spool).expect("the spool folder");
    std::fs::write(&spool, "not a folder").expect("a file in its place");
    forge.repo("devsapp/other").release("v1.0.0", |r| r);
    let other = "/devsapp/other/releases";
    let unwritten = mirror.get(other).await;
    assert_eq!(unwritten.cache_status(), "srm-mirror; fwd=uri-miss; fwd-status=200; detail=memory-only");
    assert!(mirror.get(other).await.cache_status().starts_with("srm-mirror; hit"), "memory has it");
    std::fs::remove_file(&spool).expect("the file");
    std::fs::create_dir(&spool).expect("a folder");
    forge.repo("devsapp/other").release("v2.0.0", |r| r);
    mirror.clock.advance(Duration::from_secs(86_400));
    assert_eq!(mirror.get(other).await.cache_status(), "srm-mirror; fwd=stale; fwd-status=200; stored");
}

#[tokio::test]
async fn an_immutable_zip_has_freshness_left_however_old_it_is() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    eventually("stored", async || mirror.cache.archives().running_fills() == 0).await;
    let half_a_year = 365 * 86_400 / 2;
    for days in [0, 182, 1, 200, 3000] {
        mirror.clock.advance(Duration::from_secs(days * 86_400));
        let hit = mirror.get(ZIP).await;
        let is_hit = hit.cache_status().starts_with("srm-mirror; hit");
        assert!(is_hit && hit.header("cache-control").ends_with(", immutable"), "{hit:?}");
        assert!((half_a_year..=2 * half_a_year).contains(&left(&hit)), "{days}: {}", left(&hit));
    }
}

#[tokio::test]
async fn a_zip_that_finds_no_room_is_not_called_stored() {
    let forge = Forge::start().await;
    forge.repo(PACKAGE).release("v1.0.0", |r| r.stored().big(3 << 20));
    let least = srm_mirror::storage::disk::MIN_DISK_LIMIT;
    let mirror = setup(&forge)
        .with(|config| {
            config.disk.limit = least;
            config.disk.documents = srm_mirror::value::ByteSize(1 << 20);
        })
        .start()
        .await;
    for path in ["/devsapp/fc3/flat/v1.0.0", ZIP] {
        let got = mirror.get(path).await;
        if blobs(mirror.dir()) == 0 {
            assert_eq!(
                (got.status, got.cache_status().contains("stored")),
                (200, false),
                "{path}: {}",
                got.cache_status()
            );
            assert!(got.cache_status().contains("no-room"), "{path}: {}", got.cache_status());
        }
    }
}

#[tokio::test]
async fn a_tag_with_dot_segments_leads_to_a_404_of_its_package() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let release = |tag: &str| {
        json!({"id": 1, "tag_name": tag, "name": tag, "draft": false, "prerelease": false,
        "created_at": "2024-01-01T00:00:00Z", "published_at": "2024-01-01T00:00:00Z", "body": "", "assets": []})
    };
    let tags = ["..", "../../../evil/x/zipball/1", "a/../../../../evil/x/zipball/1", "%2e%2e/x", "./x"];
    let list: Vec<Value> = tags.iter().map(|tag| release(tag)).collect();
    let body = serde_json::to_vec(&list).expect("JSON");
    forge
        .fault(
            Match::path("/repos/devsapp/fc3/releases"),
            Fault::status(200, &[("content-type", "application/json")], body),
        )
        .always();
    for (path, member) in
        [(LIST, "zipball_url"), ("/repos/devsapp/fc3/releases", "url"), ("/repos/devsapp/fc3/releases", "zipball_url")]
    {
        let got = mirror.get(path).await;
        let shown = got.json();
        let shown = shown.as_array().expect("a list");
        assert_eq!(shown.len(), tags.len());
        for release in shown {
            // `Url` removes dot segments as clients do, encoded ones too.
            let url = url::Url::parse(release[member].as_str().expect("a text")).expect("an address");
            assert!(url.path().contains("/devsapp/fc3/"), "{path} {member}: {url}");
            assert!(!url.path().starts_with("/evil"), "{path} {member}: {url}");
        }
    }
}

#[tokio::test]
async fn a_list_that_is_cut_says_so_to_clients_and_in_the_log() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    forge.rate_limits(1_000_000, 1_000_000);
    for number in 0..1001 {
        forge.repo("cut/short").release(&format!("v0.0.{number}"), |r| r);
    }
    let mirror = Mirror::over(&forge).await;
    for path in ["/cut/short/releases", "/cut/short/metadata", "/simple/cut/short/releases"] {
        for _ in 0..2 {
            let got = mirror.get(path).await;
            assert!(
                got.status == 200 && got.cache_status().contains("detail=truncated"),
                "{path}: {}",
                got.cache_status()
            );
        }
    }
    let lines = logs::lines("older ones are not listed");
    assert_eq!(lines.iter().filter(|line| line.contains("cut/short")).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn a_compressed_list_is_read_and_an_endless_one_refused() {
    let forge = forge().await;
    forge.gzip(true);
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get(LIST).await.json()[0]["tag_name"], "v1.0.0");
    mirror.clock.advance(Duration::from_secs(2000));
    assert_eq!(mirror.get(LIST).await.cache_status(), "srm-mirror; fwd=stale; fwd-status=304");
    let zip = mirror.get(ZIP).await;
    assert_eq!(zip.sha256(), forge.sha256(PACKAGE, "v1.0.0"));
    for seen in forge.requests() {
        let coding = seen.headers.get("accept-encoding").and_then(|coding| coding.to_str().ok());
        let expected = if seen.path_and_query.contains("zip") { "identity" } else { "gzip" };
        assert_eq!(coding, Some(expected), "{}", seen.path_and_query);
    }
}

#[tokio::test]
async fn a_head_request_for_a_health_check_is_complete_in_the_log() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let mut lens = Vec::new();
    for path in ["/healthz", "/readyz", "/-/nothing", "/nothing", LIST, "/devsapp/fc3/zipball/v9"] {
        let head = mirror.client.head(mirror.url(path)).send().await.expect("a head");
        let len = |response: &reqwest::Response| {
            response.headers().get("content-length").and_then(|len| len.to_str().ok()).map(str::to_owned)
        };
        let got = mirror.open(path).await;
        lens.push((path, len(&head), len(&got)));
    }
    let ended = mirror.stop().await;
    for (path, head, get) in lens {
        assert!(head.is_some() && head == get, "{path}: {head:?} {get:?}");
    }
    let events = ended.err.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let events: Vec<Value> = events.filter(|event| event["method"] == "HEAD").collect();
    assert_eq!(events.len(), 6, "{events:?}");
    for event in events {
        assert_eq!((&event["outcome"], &event["bytes"]), (&"complete".into(), &0.into()), "{event}");
    }
}

#[tokio::test]
async fn the_log_says_why_a_download_broke_off() {
    let forge = Forge::start().await;
    forge.repo(PACKAGE).release("v1.0.0", |r| r.wrong_crc().big(8 << 20));
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    // Before its head has reached a client, a download that breaks off is an error response.
    let gate = forge.gate(zips(), 64);
    let response = mirror.open(ZIP).await;
    assert_eq!(response.status(), 200);
    gate.open();
    assert!(response.bytes().await.is_err(), "the connection breaks");
    let ended = mirror.stop().await;
    let events: Vec<Value> = ended.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let access = events.iter().find(|event| event["outcome"] == "broken").unwrap_or_else(|| panic!("{}", ended.err));
    assert!(access["reason"].as_str().is_some_and(|reason| reason.contains("CRC")), "{access}");
    let refused = events.iter().filter(|event| event["message"] == "a download was refused or broke off");
    let refused: Vec<&Value> = refused.collect();
    assert!(refused.len() == 1 && refused[0]["error"].as_str().is_some_and(|why| why.contains("CRC")), "{refused:?}");
}

#[tokio::test]
async fn no_password_of_an_address_is_printed() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let address = "https://user:secretpass@forge.example/api";
    for command in [&["config", "show"][..], &["config", "check"], &["serve"]] {
        for key in ["upstreams.github.api", "upstreams.github.web", "server.public_url", "upstreams.github.proxy"] {
            let ended = Launch::over(&forge, dir.path(), command).set(key, address).run().await;
            assert!(!format!("{}{}", ended.out, ended.err).contains("secretpass"), "{command:?} {key}: {ended:?}");
            assert_eq!(ended.code, Some(64), "{command:?} {key}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn a_stored_zip_and_its_errors_have_the_digest_only_of_what_they_send() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get(ZIP).await;
    eventually("stored", async || blobs(mirror.dir()) == 1 && mirror.cache.archives().running_fills() == 0).await;
    let etag = format!("\"{}\"", first.sha256());
    let len = first.body.len();
    for (name, value, status) in [
        ("accept", "*/*", 200),
        ("range", "bytes=0-9", 206),
        ("if-none-match", etag.as_str(), 304),
        ("if-match", "\"other\"", 412),
        ("range", &format!("bytes={len}-"), 416),
    ] {
        for path in [ZIP, "/devsapp/fc3/flat/v1.0.0"] {
            let got = mirror.get_with(path, &[(name, value)]).await;
            if path == ZIP {
                assert_eq!(got.status, status, "{name}: {value}");
            }
            assert_eq!(
                !got.header("repr-digest").is_empty(),
                (200..300).contains(&got.status),
                "{path} {name}: {value}"
            );
        }
    }
}
