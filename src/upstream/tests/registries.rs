//! Registries: redirects to object storage, JSON in place of a zip, moving versions, and the signature.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;

use super::*;
use crate::package::{MovingHead, Repository};

const DEV: &str = "/v3/packages/fc3/zipball/dev";

/// A v3 registry that redirects every zip to a new address of `storage`.
async fn registry(storage: &Server) -> (Server, Arc<dyn Upstream>) {
    let to = storage.base();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let number = count.fetch_add(1, Relaxed);
        Reply::to(302, format!("{to}/fc3.zip?Expires=1&Signature=s{number}"))
    })
    .await;
    let mut config = config(UpstreamKind::V3, &format!("{}/v3", server.base()));
    config.redirect_hosts = vec![storage.address.to_string()];
    (server, anonymous(&config))
}

async fn head(upstream: &Arc<dyn Upstream>, stored: Option<&Document>) -> Result<FetchedDocument, FetchError> {
    ask(upstream, DocumentAsk::Moving("dev".into()), stored).await
}

fn revision(document: &Document) -> String {
    parse::<MovingHead>(document).revision
}

#[tokio::test]
async fn a_zip_is_asked_for_at_the_registry_each_time_because_its_address_expires() {
    let storage = Server::start(|_| Reply::zip()).await;
    let (server, upstream) = registry(&storage).await;
    for _ in 0..2 {
        let (fetched, bytes) = zip(&upstream, tag("0.1.22")).await.expect("a zip");
        assert_eq!((fetched.anonymous, bytes.as_slice()), (true, &b"PK\x03\x04zip"[..]));
    }
    assert_eq!(server.take_targets(), ["/v3/packages/fc3/zipball/0.1.22"; 2]);
    assert_eq!(storage.take_targets(), ["/fc3.zip?Expires=1&Signature=s0", "/fc3.zip?Expires=1&Signature=s1"]);
}

#[tokio::test]
async fn a_storage_without_the_object_is_trouble_and_no_absence() {
    for status in [403, 404] {
        let storage =
            Server::start(move |_| Reply::new(status).with("content-type", "application/xml").body("<Error>")).await;
        let (_server, upstream) = registry(&storage).await;
        assert_eq!(error(zip(&upstream, tag("0.1.22")).await), FetchError::Status(status));
    }
}

#[tokio::test]
async fn json_in_place_of_a_zip_is_read_whatever_its_media_type() {
    let missing = json!({"request_id": "r", "body": "未找到指定资源"}).to_string();
    let busy = json!({"request_id": "r", "body": "系统繁忙"}).to_string();
    for media_type in ["application/json", "application/zip"] {
        let absent = missing.clone();
        let server =
            Server::start(move |_| Reply::new(200).with("content-type", media_type).body(absent.clone())).await;
        let upstream = anonymous(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
        assert_eq!(error(zip(&upstream, tag("1.0.0")).await), FetchError::NotFound(Missing::Version));
        assert_eq!(error(head(&upstream, None).await), FetchError::NotFound(Missing::Version));
        // The storage's word is not the registry's.
        let (_server, upstream) = registry(&server).await;
        assert!(error(zip(&upstream, tag("1.0.0")).await).is_trouble(), "{media_type}");
        let trouble = busy.clone();
        let server =
            Server::start(move |_| Reply::new(200).with("content-type", media_type).body(trouble.clone())).await;
        let upstream = anonymous(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
        assert!(matches!(error(zip(&upstream, tag("1.0.0")).await), FetchError::Invalid(_)));
        assert!(matches!(error(head(&upstream, None).await), FetchError::Invalid(_)));
    }
}

#[tokio::test]
async fn a_zip_with_an_odd_media_type_is_a_zip() {
    for media_type in ["application/octet-stream", "application/json", "text/plain"] {
        let server =
            Server::start(move |_| Reply::new(200).with("content-type", media_type).body("PK\u{3}\u{4}zip")).await;
        let upstream = anonymous(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
        let (_, bytes) = zip(&upstream, tag("1.0.0")).await.expect(media_type);
        assert_eq!(bytes, b"PK\x03\x04zip");
    }
}

#[tokio::test]
async fn an_unchanged_moving_version_costs_one_conditional_request() {
    let storage = Server::start(|seen| match seen.header("if-none-match") {
        Some("\"1\"") => Reply::new(304),
        _ => Reply::zip().with("etag", "\"1\"").with("last-modified", "Mon, 01 Jan 2024 01:00:00 GMT"),
    })
    .await;
    let (server, upstream) = registry(&storage).await;
    let first = stored(head(&upstream, None).await.expect("a head"));
    assert_eq!(revision(&first).len(), 40);
    assert!(!first.meta.validators.pages[0].url.contains("Signature"), "the signed address is not stored");
    let validators = renewed(head(&upstream, Some(&first)).await.expect("a renewal"));
    assert_eq!(validators.pages, first.meta.validators.pages);
    assert_eq!(server.take_targets(), [DEV; 2]);
    assert_eq!(storage.seen()[1].header("if-none-match"), Some("\"1\""));
}

#[tokio::test]
async fn a_moving_version_that_was_published_again_has_another_revision() {
    for validator in ["etag", "last-modified"] {
        let count = AtomicUsize::new(0);
        let storage = Server::start(move |_| {
            let number = count.fetch_add(1, Relaxed);
            Reply::zip().with(validator, format!("\"{number}\""))
        })
        .await;
        let (_server, upstream) = registry(&storage).await;
        let first = stored(head(&upstream, None).await.expect("a head"));
        let second = stored(head(&upstream, Some(&first)).await.expect("a head"));
        assert_ne!(revision(&first), revision(&second), "{validator}");
    }
}

#[tokio::test]
async fn without_validators_a_moving_version_changes_every_ten_minutes_and_is_not_asked_for_before() {
    let storage = Server::start(|_| Reply::zip()).await;
    let (server, upstream) = registry(&storage).await;
    let first = stored(head(&upstream, None).await.expect("a head"));
    renewed(head(&upstream, Some(&first)).await.expect("a renewal"));
    assert_eq!(server.take_targets(), [DEV]);
    let second = stored(head(&upstream, Some(&long_ago(&first))).await.expect("a head"));
    assert_ne!(revision(&first), revision(&second));
}

#[tokio::test]
async fn the_archive_of_a_moving_version_is_what_the_registry_has_now() {
    let storage = Server::start(|_| Reply::zip()).await;
    let (server, upstream) = registry(&storage).await;
    let moving = GitRef::Moving { version: "dev".into(), revision: "a".repeat(40) };
    zip(&upstream, moving).await.expect("a zip");
    assert_eq!(server.take_targets(), [DEV]);
}

#[tokio::test]
async fn a_version_moves_where_a_pattern_says_so() {
    let mut section = config(UpstreamKind::V3, "http://127.0.0.1:9/v3");
    section.moving = vec!["dev".into(), "dev.*".into()];
    let upstream = anonymous(&section);
    for (version, moving) in [("dev", true), ("dev.3", true), ("0.1.22", false), ("develop", false)] {
        assert_eq!((upstream.is_moving(version), offline(&upstream).is_moving(version)), (moving, moving), "{version}");
    }
    section.moving = vec!["1.*".into()];
    let refused = build("official", &section, Vec::new(), &process()).err().expect("refused");
    assert_eq!((refused.key, refused.upstream.as_str()), ("moving", "official"));
}

const SIGNATURE: [&str; 4] = ["token", "sign_code", "nonce", "timestamp"];

fn is_signed(seen: &RecordedRequest) -> bool {
    let signed = SIGNATURE.iter().filter(|name| seen.header(name).is_some()).count();
    assert!(signed == 0 || signed == 4, "{seen:?}");
    signed == 4
}

fn envelope(body: serde_json::Value) -> Reply {
    Reply::json(json!({"request_id": "r", "body": body}))
}

#[tokio::test]
async fn with_a_code_every_request_to_the_registry_is_signed_anew_and_none_to_its_storage() {
    let storage = Server::start(|_| Reply::zip()).await;
    let to = storage.base();
    let server = Server::start(move |seen| match seen.target.contains("zipball") {
        true => Reply::to(302, format!("{to}/x")),
        false => envelope(json!({"tag_name": "1.0.0"})),
    })
    .await;
    let mut config = config(UpstreamKind::V3, &format!("{}/v3", server.base()));
    config.redirect_hosts = vec![storage.address.to_string()];
    let upstream = with_token(&config);
    assert!(upstream.has_token());
    for _ in 0..2 {
        ask(&upstream, DocumentAsk::Latest, None).await.expect("a release");
    }
    let (fetched, _) = zip(&upstream, tag("1.0.0")).await.expect("a zip");
    assert!(!fetched.anonymous);
    ask(&upstream, DocumentAsk::Moving("dev".into()), None).await.expect("a head");
    let seen = server.seen();
    assert!(seen.len() == 4 && seen.iter().all(is_signed));
    assert!(seen.iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(seen[0].header("token"), seen[1].header("token"));
    for name in ["nonce", "sign_code"] {
        assert_ne!(seen[0].header(name), seen[1].header(name), "{name}");
    }
    assert!(!format!("{seen:?}").contains("secret-token"));
    assert!(!storage.seen().iter().any(is_signed));
}

#[tokio::test]
async fn a_package_is_private_when_only_the_code_can_see_it() {
    for refusal in [envelope(json!("未找到指定资源")), Reply { status: 403, ..envelope(json!("x")) }] {
        let server = Server::start(move |seen| match is_signed(seen) {
            true => envelope(json!({"tag_name": "1.0.0"})),
            false => refusal.clone(),
        })
        .await;
        let config = config(UpstreamKind::V3, &format!("{}/v3", server.base()));
        let got: Repository = get(&with_token(&config), DocumentAsk::Repository).await.expect("a package");
        assert!(got.private);
        assert!(ask(&anonymous(&config), DocumentAsk::Repository, None).await.is_err());
    }
    let server = Server::start(|_| envelope(json!({"tag_name": "1.0.0"}))).await;
    let upstream = with_token(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
    let got: Repository = get(&upstream, DocumentAsk::Repository).await.expect("a package");
    assert!(!got.private);
    assert!(server.seen().len() == 1 && !is_signed(&server.seen()[0]), "what is public is asked without the code");
}

#[tokio::test]
async fn the_catalog_is_requested_without_the_code() {
    let server = Server::start(|_| envelope(json!([]))).await;
    let upstream = with_token(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
    assert_eq!(upstream.catalog().await, Ok(Vec::new()));
    assert!(!is_signed(&server.seen()[0]));
}

#[tokio::test]
async fn a_refused_code_is_trouble_until_it_is_accepted_again() {
    let accepts = Arc::new(AtomicUsize::new(0));
    let accepted = accepts.clone();
    let server = Server::start(move |_| match accepted.load(Relaxed) {
        0 => Reply { status: 401, ..envelope(json!("签名校验失败")) },
        _ => envelope(json!({"tag_name": "1.0.0"})),
    })
    .await;
    let upstream = with_token(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
    assert_eq!(error(ask(&upstream, DocumentAsk::Latest, None).await), FetchError::Status(401));
    assert!(upstream.is_credential_refused());
    accepts.store(1, Relaxed);
    ask(&upstream, DocumentAsk::Latest, None).await.expect("a release, without the code");
    assert!(upstream.is_credential_refused());
    // After its period, one request tries the code again.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    ask(&upstream, DocumentAsk::Latest, None).await.expect("a release");
    assert!(!upstream.is_credential_refused());
}
