//! The v3 registry: envelopes, absence, pages of a release list, the catalog.

use serde_json::{Value, json};

use super::*;
use crate::package::{Release, Repository};

const MISSING: &str = "未找到指定资源";

fn envelope(status: u16, body: Value) -> Reply {
    Reply { status, ..Reply::json(json!({"request_id": "r-1", "body": body})) }
}

fn row(tag: &str) -> Value {
    json!({
        "platform": 3, "tag_name": tag, "created_at": "2024-01-01T09:00:00+08:00",
        "zipball_url": format!("https://api.devsapp.cn/v3/packages/fc3/zipball/{tag}")
    })
}

async fn v3(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> (Server, Arc<dyn Upstream>) {
    let server = Server::start(script).await;
    let upstream = anonymous(&config(UpstreamKind::V3, &format!("{}/v3", server.base())));
    (server, upstream)
}

/// A registry whose list has `pages` pages; then comes what `after` answers.
fn paged(pages: usize, after: fn(usize) -> Reply) -> impl Fn(&RecordedRequest) -> Reply {
    move |seen| {
        let page = seen.target.split("page=").nth(1).and_then(|page| page.parse().ok());
        match page {
            Some(page) if page <= pages => {
                envelope(200, json!([row(&format!("1.{page}.1")), row(&format!("1.{page}.0"))]))
            }
            Some(page) => after(page),
            None => envelope(200, row("1.1.1")),
        }
    }
}

#[tokio::test]
async fn a_release_is_normalised_and_keeps_what_the_registry_says_of_its_package() {
    let (server, upstream) = v3(|_| {
        envelope(
            200,
            json!({
                "name": "fc3", "tag_name": "0.1.22", "created_at": "2024-01-01T09:00:00+08:00", "readme": "# fc3",
                "zipball_url": "https://x.test/?Signature=s", "version_body": "notes", "provider": ["aliyun"], "syaml": "x"
            }),
        )
    })
    .await;
    let got: Release = get(&upstream, DocumentAsk::Latest).await.expect("a release");
    assert_eq!((got.tag_name.as_str(), got.created_at.to_string().as_str()), ("0.1.22", "2024-01-01T01:00:00Z"));
    assert_eq!((got.body.as_str(), got.prerelease), ("notes", false));
    assert_eq!(got.rest.keys().collect::<Vec<_>>(), ["readme", "provider", "syaml"]);
    let _: Release = get(&upstream, DocumentAsk::Tag("0.1.22".into())).await.expect("a release");
    assert_eq!(server.seen()[0].header("accept"), Some("application/json"));
    for name in ["authorization", "token", "sign_code", "nonce", "timestamp"] {
        assert_eq!(server.seen()[0].header(name), None, "{name}");
    }
    assert_eq!(server.take_targets(), ["/v3/packages/fc3/release/latest", "/v3/packages/fc3/release/tags/0.1.22"]);
}

#[tokio::test]
async fn a_release_without_a_date_keeps_the_time_at_which_it_was_first_seen() {
    let (_server, upstream) = v3(|seen| match seen.target.contains("page=") {
        true if seen.target.ends_with("page=1") => envelope(200, json!([{"tag_name": "2.0.0"}, {"tag_name": "1.0.0"}])),
        true => envelope(200, json!([])),
        false => envelope(200, json!({"tag_name": "1.0.0"})),
    })
    .await;
    for what in [DocumentAsk::Tag("1.0.0".into()), DocumentAsk::Releases] {
        let first = stored(ask(&upstream, what.clone(), None).await.expect("a document"));
        let second = stored(ask(&upstream, what.clone(), Some(&first)).await.expect("a document"));
        assert_eq!(first.body, second.body, "{what:?}");
    }
}

#[tokio::test]
async fn absence_is_a_404_or_the_known_text_and_any_other_text_is_trouble() {
    let html = Reply { status: 404, ..Reply::html() };
    let known = [envelope(200, json!(MISSING)), envelope(404, json!(MISSING)), envelope(400, json!(MISSING)), html];
    for reply in known {
        let (_server, upstream) = v3(move |_| reply.clone()).await;
        for (what, missing) in [
            (DocumentAsk::Releases, Missing::Package),
            (DocumentAsk::Latest, Missing::Package),
            (DocumentAsk::Tag("9.9.9".into()), Missing::Version),
            (DocumentAsk::Repository, Missing::Package),
        ] {
            assert_eq!(error(ask(&upstream, what, None).await), FetchError::NotFound(missing));
        }
        assert_eq!(error(zip(&upstream, tag("9.9.9")).await), FetchError::NotFound(Missing::Version));
    }
    for reply in [
        envelope(200, json!("系统繁忙")),
        envelope(200, json!(format!("{MISSING}。"))),
        envelope(200, json!(null)),
        envelope(200, json!(7)),
        envelope(500, json!(MISSING)),
        envelope(403, json!(MISSING)),
        envelope(401, json!("x")),
        envelope(429, json!("x")),
        Reply::json(json!({"message": "x"})),
        Reply::html(),
        Reply::new(200).body("{\"body\": ["),
    ] {
        let (_server, upstream) = v3(move |_| reply.clone()).await;
        for what in [DocumentAsk::Releases, DocumentAsk::Latest, DocumentAsk::Tag("1".into()), DocumentAsk::Repository]
        {
            let error = error(ask(&upstream, what, None).await);
            assert!(error.is_trouble(), "{error:?}");
            assert!(!error.to_string().contains("系统"), "{error}");
        }
        assert!(error(zip(&upstream, tag("1.0.0")).await).is_trouble());
    }
}

#[tokio::test]
async fn a_package_without_a_latest_release_is_told_from_a_missing_one() {
    for (list, expected) in [(json!([row("dev")]), Missing::Release), (json!([]), Missing::Package)] {
        let (server, upstream) = v3(move |seen| match seen.target.as_str() {
            "/v3/packages/fc3/release/latest" => envelope(404, json!(MISSING)),
            _ => envelope(200, list.clone()),
        })
        .await;
        assert_eq!(error(ask(&upstream, DocumentAsk::Latest, None).await), FetchError::NotFound(expected));
        assert_eq!(server.take_targets()[1..], ["/v3/packages/fc3/release?page=1"]);
    }
}

#[tokio::test]
async fn a_list_is_walked_until_an_empty_a_repeated_or_a_missing_page() {
    let ends: [fn(usize) -> Reply; 3] = [
        |_| envelope(200, json!([])),
        |_| envelope(200, json!([row("1.3.1"), row("1.3.0")])),
        |_| envelope(404, json!(MISSING)),
    ];
    for after in ends {
        let (server, upstream) = v3(paged(3, after)).await;
        let document = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
        assert_eq!(tags(&document), ["1.1.1", "1.1.0", "1.2.1", "1.2.0", "1.3.1", "1.3.0"]);
        assert!(!parse::<Releases>(&document).truncated);
        let pages = (1..=4).map(|page| format!("/v3/packages/fc3/release?page={page}"));
        assert_eq!(server.take_targets(), pages.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_truncated_after_a_hundred_pages() {
    let (server, upstream) = v3(paged(usize::MAX, |_| Reply::new(500))).await;
    let list: Releases = get(&upstream, DocumentAsk::Releases).await.expect("a list");
    assert!(list.truncated);
    assert_eq!((list.releases.len(), server.take_targets().len()), (200, 100));
}

#[tokio::test]
async fn trouble_on_a_later_page_fails_the_list_and_a_large_list_is_refused() {
    let (_server, upstream) = v3(paged(2, |_| envelope(200, json!("系统繁忙")))).await;
    assert!(error(ask(&upstream, DocumentAsk::Releases, None).await).is_trouble());
    let server = Server::start(paged(usize::MAX, |_| Reply::new(500))).await;
    let mut config = config(UpstreamKind::V3, &format!("{}/v3", server.base()));
    config.document_limit = ByteSize(2000);
    let error = error(ask(&anonymous(&config), DocumentAsk::Releases, None).await);
    assert_eq!(error, FetchError::DocumentTooLarge { limit: 2000 });
}

#[tokio::test]
async fn an_unchanged_first_page_renews_the_list_until_the_next_walk_is_due() {
    let (server, upstream) = v3(|seen| {
        if seen.header("if-none-match") == Some("\"1\"") {
            return Reply::new(304);
        }
        paged(2, |_| envelope(200, json!([])))(seen).with("etag", "\"1\"")
    })
    .await;
    let list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    server.take_targets();
    let validators = renewed(ask(&upstream, DocumentAsk::Releases, Some(&list)).await.expect("a renewal"));
    assert_eq!(validators, list.meta.validators);
    assert_eq!(server.take_targets(), ["/v3/packages/fc3/release?page=1"]);
    stored(ask(&upstream, DocumentAsk::Releases, Some(&long_ago(&list))).await.expect("a list"));
    assert_eq!(server.take_targets().len(), 3);
}

#[tokio::test]
async fn an_empty_list_is_no_package_unless_there_is_a_latest_release() {
    for exists in [true, false] {
        let (_server, upstream) = v3(move |seen| match seen.target.contains("page=") {
            true => envelope(200, json!([])),
            false if exists => envelope(200, row("1.0.0")),
            false => envelope(200, json!(MISSING)),
        })
        .await;
        let list = ask(&upstream, DocumentAsk::Releases, None).await;
        if exists {
            assert_eq!(tags(&stored(list.expect("an empty list"))), [""; 0]);
        } else {
            assert_eq!(error(list), FetchError::NotFound(Missing::Package));
        }
    }
}

#[tokio::test]
async fn a_package_that_answers_without_a_code_is_public() {
    let (_server, upstream) = v3(|_| envelope(200, row("1.0.0"))).await;
    let got: Repository = get(&upstream, DocumentAsk::Repository).await.expect("a package");
    assert_eq!((got.full_name.as_str(), got.private, got.default_branch.as_str()), ("fc3", false, ""));
}

#[tokio::test]
async fn commits_and_branches_do_not_exist_and_cost_no_request() {
    let (server, upstream) = v3(|_| Reply::zip()).await;
    let missing = FetchError::NotFound(Missing::Version);
    assert_eq!(error(ask(&upstream, DocumentAsk::Branch("main".into()), None).await), missing);
    assert_eq!(error(zip(&upstream, GitRef::Commit("a".repeat(40))).await), missing);
    assert_eq!(server.take_targets(), [""; 0]);
}

#[tokio::test]
async fn the_catalog_is_one_request_without_a_search_term() {
    let (server, upstream) = v3(|_| {
        envelope(200, json!([{"name": "fc3", "type": "Component", "tags": ["a"]}, {"id": 1}, {"name": "p", "type": 3}]))
    })
    .await;
    let packages = upstream.catalog().await.expect("a catalog");
    let shown: Vec<_> = packages.iter().map(|package| (package.name.as_str(), package.kind.as_deref())).collect();
    assert_eq!(shown, [("fc3", Some("Component")), ("p", Some("Project"))]);
    assert_eq!(server.take_targets(), ["/v3/packages/releases?page=-1"]);
    for reply in
        [envelope(200, json!("x")), envelope(200, json!({})), envelope(200, json!([{"id": 1}])), Reply::new(500)]
    {
        let (_server, upstream) = v3(move |_| reply.clone()).await;
        assert!(error(upstream.catalog().await).is_trouble());
    }
}
