//! The simple registry: envelopes, absence, and the two addresses of a package.

use serde_json::{Value, json};

use super::*;
use crate::package::{Release, Repository};

fn envelope(status: u16, value: Value) -> Reply {
    Reply { status, ..Reply::json(json!({ "Response": value })) }
}

fn refusal(status: u16, code: &str) -> Reply {
    envelope(status, json!({"Error": {"Code": code, "Message": "a message"}}))
}

fn row(tag: &str) -> Value {
    json!({"tag_name": tag, "name": tag, "published_at": "2024-01-01T09:00:00+08:00", "zipball_url": "u", "body": "notes"})
}

async fn simple(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> (Server, Arc<dyn Upstream>) {
    let server = Server::start(script).await;
    let upstream = anonymous(&config(UpstreamKind::Simple, &format!("{}/simple", server.base())));
    (server, upstream)
}

#[tokio::test]
async fn releases_and_the_latest_one_are_normalised() {
    let (server, upstream) = simple(|seen| match seen.target.as_str() {
        "/simple/fc3/releases" => envelope(200, json!([row("0.1.2"), {"name": "no tag"}, row("0.1.1")])),
        "/simple/fc3/releases/latest" => envelope(200, row("0.1.2")),
        _ => refusal(404, "NotFound"),
    })
    .await;
    let latest: Release = get(&upstream, DocumentAsk::Latest).await.expect("a release");
    let published = latest.published_at.map(|time| time.to_string());
    assert_eq!((published.as_deref(), latest.body.as_str()), (Some("2024-01-01T01:00:00Z"), "notes"));
    assert_eq!(latest.created_at.to_string(), "2024-01-01T01:00:00Z");
    let list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    assert_eq!(tags(&list), ["0.1.2", "0.1.1"]);
    let one: Release = get(&upstream, DocumentAsk::Tag("0.1.1".into())).await.expect("a release");
    assert_eq!(one.tag_name, "0.1.1");
    let absent = ask(&upstream, DocumentAsk::Tag("9".into()), None).await;
    assert_eq!(error(absent), FetchError::NotFound(Missing::Version));
    assert_eq!(server.take_targets()[..2], ["/simple/fc3/releases/latest", "/simple/fc3/releases"]);
}

#[tokio::test]
async fn a_package_is_found_at_the_address_with_its_provider_too() {
    let (server, upstream) = simple(|seen| match seen.target.as_str() {
        "/simple/devsapp/fc3/releases/latest" => envelope(200, row("0.1.2")),
        "/simple/devsapp/fc3/zipball/0.1.2" => Reply::zip(),
        _ => refusal(404, "NotFound"),
    })
    .await;
    let _: Release = get(&upstream, DocumentAsk::Latest).await.expect("a release");
    let (fetched, bytes) = zip(&upstream, tag("0.1.2")).await.expect("a zip");
    assert_eq!((fetched.anonymous, fetched.len, bytes.as_slice()), (true, Some(7), &b"PK\x03\x04zip"[..]));
    assert_eq!(
        server.take_targets(),
        [
            "/simple/fc3/releases/latest",
            "/simple/devsapp/fc3/releases/latest",
            "/simple/fc3/zipball/0.1.2",
            "/simple/devsapp/fc3/zipball/0.1.2"
        ]
    );
}

#[tokio::test]
async fn absence_is_a_404_or_the_known_code_and_any_other_error_is_trouble() {
    let bare = Reply::json(json!({"Error": {"Code": "NotFound", "Message": "x"}}));
    let html = Reply { status: 404, ..Reply::html() };
    for reply in [refusal(200, "NotFound"), refusal(404, "NotFound"), refusal(404, "x"), bare, html] {
        let (_server, upstream) = simple(move |_| reply.clone()).await;
        for (what, missing) in [
            (DocumentAsk::Releases, Missing::Package),
            (DocumentAsk::Latest, Missing::Package),
            (DocumentAsk::Repository, Missing::Package),
        ] {
            assert_eq!(error(ask(&upstream, what, None).await), FetchError::NotFound(missing));
        }
        assert_eq!(error(zip(&upstream, tag("9.9.9")).await), FetchError::NotFound(Missing::Version));
    }
    for reply in [
        refusal(200, "InternalError"),
        envelope(200, json!({"Error": "NotFound"})),
        envelope(200, json!("NotFound")),
        envelope(200, json!(null)),
        refusal(500, "NotFound"),
        refusal(403, "NotFound"),
        Reply::html(),
        Reply::json(json!([])),
    ] {
        let (_server, upstream) = simple(move |_| reply.clone()).await;
        for what in [DocumentAsk::Releases, DocumentAsk::Latest, DocumentAsk::Repository] {
            let error = error(ask(&upstream, what, None).await);
            assert!(error.is_trouble(), "{error:?}");
        }
        assert!(error(zip(&upstream, tag("1.0.0")).await).is_trouble());
    }
}

#[tokio::test]
async fn a_package_without_a_latest_release_is_told_from_a_missing_one() {
    for (list, expected) in [(json!([row("dev")]), Missing::Release), (json!([]), Missing::Package)] {
        let (_server, upstream) = simple(move |seen| match seen.target.as_str() {
            "/simple/fc3/releases" => envelope(200, list.clone()),
            _ => refusal(404, "NotFound"),
        })
        .await;
        assert_eq!(error(ask(&upstream, DocumentAsk::Latest, None).await), FetchError::NotFound(expected));
        if expected == Missing::Release {
            let got: Repository = get(&upstream, DocumentAsk::Repository).await.expect("a package");
            assert!(!got.private);
        }
    }
}

#[tokio::test]
async fn a_simple_registry_has_no_catalog() {
    let (server, upstream) = simple(|_| Reply::new(500)).await;
    assert_eq!(upstream.catalog().await, Ok(Vec::new()));
    assert_eq!(server.take_targets(), [""; 0]);
}
