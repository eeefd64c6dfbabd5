//! Release lists: pages, limits and conditional renewal.

use serde_json::{Value, json};

use super::*;

/// The page number in a request target.
fn number(target: &str) -> usize {
    let page = target.split(['?', '&']).find_map(|part| part.strip_prefix("page="));
    page.map_or(1, |page| page.parse().expect("a page"))
}

/// Paging as on GitHub: from page two on, below `/repositories/{id}`.
fn linked(seen: &RecordedRequest, pages: usize) -> Reply {
    let page = number(&seen.target);
    let reply = Reply::json(json!([release(&format!("v{page}"))])).with("etag", format!("W/\"page-{page}\""));
    if page == pages {
        return reply;
    }
    let base = seen.base();
    let next = page + 1;
    reply.with(
        "link",
        format!(
            "<{base}/repositories/7/releases?per_page=100&page={next}>; rel=\"next\", \
             <{base}/repositories/7/releases?per_page=100&page={pages}>; rel=\"last\""
        ),
    )
}

/// The same, with 304 for the validators of the pages in `fresh`.
fn conditional(seen: &RecordedRequest, pages: usize, fresh: &[usize]) -> Reply {
    let page = number(&seen.target);
    let matches = seen.header("if-none-match") == Some(&format!("W/\"page-{page}\""));
    if matches && fresh.contains(&page) {
        // GitHub's 304 drops the weakness mark.
        return Reply::new(304).with("etag", format!("\"page-{page}\""));
    }
    linked(seen, pages)
}

#[tokio::test]
async fn every_page_is_fetched_in_the_upstreams_order() {
    let server = Server::start(|seen| linked(seen, 3)).await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let list: Releases = get(&upstream, DocumentAsk::Releases).await.expect("a list");
    assert_eq!(list.releases.iter().map(|r| r.tag_name.as_str()).collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert!(!list.truncated);
    assert_eq!(
        server.take_targets(),
        [
            "/repos/devsapp/fc3/releases?per_page=100",
            "/repositories/7/releases?per_page=100&page=2",
            "/repositories/7/releases?per_page=100&page=3"
        ]
    );
}

#[tokio::test]
async fn a_list_is_truncated_after_ten_pages() {
    let server = Server::start(|seen| linked(seen, 12)).await;
    let list: Releases =
        get(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Releases).await.expect("a list");
    assert_eq!((list.releases.len(), list.truncated), (10, true));
    assert_eq!(server.take_targets().len(), 10);
}

#[tokio::test]
async fn a_422_after_the_first_thousand_releases_truncates_the_list() {
    let server = Server::start(|seen| match number(&seen.target) {
        3 => Reply::error(422, "Only the first 1000 results are available."),
        _ => linked(seen, 9),
    })
    .await;
    let list: Releases =
        get(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Releases).await.expect("a list");
    assert_eq!((list.releases.len(), list.truncated), (2, true));
}

#[tokio::test]
async fn a_link_to_another_origin_is_not_followed() {
    let elsewhere = Server::start(|_| Reply::json(json!([release("evil")]))).await;
    let link = format!("<{}/repositories/7/releases?page=2>; rel=\"next\"", elsewhere.base());
    let server = Server::start(move |_| Reply::json(json!([release("v1")])).with("link", link.clone())).await;
    let list: Releases =
        get(&with_token(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Releases).await.expect("a list");
    assert_eq!((list.releases.len(), list.truncated), (1, true));
    assert_eq!(elsewhere.take_targets(), [""; 0]);
}

#[tokio::test]
async fn drafts_and_broken_entries_are_skipped() {
    let mut draft = release("v3");
    draft["draft"] = json!(true);
    let page = json!([draft, release("v2"), {"tag_name": null}, release("v1")]);
    let server = Server::start(move |_| Reply::json(page.clone())).await;
    let list = ask(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Releases, None).await;
    assert_eq!(tags(&stored(list.expect("a list"))), ["v2", "v1"]);
}

#[tokio::test]
async fn a_response_that_is_not_a_release_list_is_invalid() {
    for body in ["{}", "null", "[{}]", "[1", "<html></html>", ""] {
        let server = Server::start(move |_| Reply::new(200).body(body)).await;
        let error =
            error(ask(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Releases, None).await);
        assert!(matches!(error, FetchError::Invalid(_)), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn the_size_limit_holds_for_all_pages_together_announced_or_not() {
    for sized in [true, false] {
        let server = Server::start(move |seen| Reply { sized, ..linked(seen, 3) }).await;
        let one = linked(
            &RecordedRequest {
                method: String::new(),
                target: String::new(),
                headers: vec![("host".into(), "h".into())],
            },
            3,
        );
        let limit = one.body.len() as u64 * 5 / 2;
        let config = Config { document_limit: ByteSize(limit), ..config(UpstreamKind::Github, &server.base()) };
        let error = error(ask(&anonymous(&config), DocumentAsk::Releases, None).await);
        assert_eq!(error, FetchError::DocumentTooLarge { limit }, "sized: {sized}");
        assert_eq!(server.take_targets().len(), 3);
    }
}

#[tokio::test]
async fn page_one_unchanged_renews_the_list_with_one_request() {
    let server = Server::start(|seen| conditional(seen, 3, &[1, 2, 3])).await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    server.take_targets();
    let validators = renewed(ask(&upstream, DocumentAsk::Releases, Some(&list)).await.expect("a renewal"));
    assert_eq!(server.take_targets().len(), 1);
    assert_eq!(validators, list.meta.validators, "the validators of a 304 are ignored, its different ETag too");
    assert_eq!(validators.pages[0].etag.as_deref(), Some("W/\"page-1\""));
}

#[tokio::test]
async fn once_an_hour_every_page_is_requested_and_unchanged_ones_are_reused() {
    let server = Server::start(|seen| conditional(seen, 3, &[1, 2, 3])).await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    server.take_targets();
    let validators = renewed(ask(&upstream, DocumentAsk::Releases, Some(&long_ago(&list))).await.expect("a renewal"));
    assert_eq!(server.take_targets().len(), 3);
    assert_eq!(validators.pages, list.meta.validators.pages);
    assert!(validators.last_full_fetch > long_ago(&list).meta.validators.last_full_fetch, "the hour starts again");
}

/// Serves a changed page two with `tag` on it, and 304 for the others.
fn page_two_is(tag: &'static str) -> impl Fn(&RecordedRequest) -> Reply {
    move |seen| {
        let mut reply = conditional(seen, 3, &[1, 3]);
        if number(&seen.target) == 2 {
            reply.body = json!([release(tag), release("v2")]).to_string().into();
        }
        reply
    }
}

#[tokio::test]
async fn a_changed_page_two_is_merged_between_the_stored_pages() {
    let server = Server::start(|seen| linked(seen, 3)).await;
    let base = config(UpstreamKind::Github, "http://api.forge.test");
    let config_at = |server: &Server| Config { address: Some(server.address), ..base.clone() };
    // The address of the API stays the same while the server behind it changes.
    let list = stored(ask(&with_token(&config_at(&server)), DocumentAsk::Releases, None).await.expect("a list"));
    let later = Server::start(page_two_is("v2.1")).await;
    let fetched = ask(&with_token(&config_at(&later)), DocumentAsk::Releases, Some(&long_ago(&list))).await;
    let fresh = stored(fetched.expect("a list"));
    assert_eq!(tags(&fresh), ["v1", "v2.1", "v2", "v3"]);
    assert_eq!(fresh.meta.validators.pages.iter().map(|page| page.items).collect::<Vec<_>>(), [1, 2, 1]);
    let conditions: Vec<_> = later.seen().iter().map(|seen| seen.header("if-none-match").is_some()).collect();
    assert_eq!(conditions, [true, true, true]);
}

#[tokio::test]
async fn a_changed_page_one_fetches_all_pages_with_their_own_validators() {
    let server = Server::start(|seen| conditional(seen, 3, &[2, 3])).await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    server.take_targets();
    let fresh = stored(ask(&upstream, DocumentAsk::Releases, Some(&list)).await.expect("a list"));
    assert_eq!(tags(&fresh), ["v1", "v2", "v3"]);
    assert_eq!(server.take_targets().len(), 3);
}

#[tokio::test]
async fn a_stored_list_that_does_not_match_its_validators_is_fetched_whole() {
    let server = Server::start(|seen| conditional(seen, 2, &[1, 2])).await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let mut list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    list.body = bytes::Bytes::from_static(b"{\"releases\":[],\"truncated\":false}");
    let fresh = stored(ask(&upstream, DocumentAsk::Releases, Some(&long_ago(&list))).await.expect("a list"));
    assert_eq!(tags(&fresh), ["v1", "v2"]);
}

#[tokio::test]
async fn validators_are_not_used_with_another_token() {
    let server = Server::start(|seen| conditional(seen, 1, &[1])).await;
    let config = config(UpstreamKind::Github, &server.base());
    let list = stored(ask(&with_token(&config), DocumentAsk::Releases, None).await.expect("a list"));
    let other = build("forge", &config, vec![token("another")], &process()).expect("valid");
    for upstream in [anonymous(&config), other] {
        let fetched = ask(&upstream, DocumentAsk::Releases, Some(&list)).await.expect("a list");
        assert_ne!(stored(fetched).meta.validators.token_fingerprint, list.meta.validators.token_fingerprint);
        assert_eq!(server.seen().last().expect("a request").header("if-none-match"), None);
    }
    renewed(ask(&with_token(&config), DocumentAsk::Releases, Some(&list)).await.expect("a renewal"));
    let fingerprint = list.meta.validators.token_fingerprint.clone().expect("a fingerprint");
    assert!(fingerprint.len() == 16 && !fingerprint.contains("secret"));
}

#[tokio::test]
async fn another_spelling_of_the_package_uses_the_same_validators() {
    let server = Server::start(|seen| conditional(seen, 3, &[1, 2, 3])).await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let list = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    server.take_targets();
    let name: PackageName = "DevsApp/FC3".parse().expect("a name");
    let fetched = upstream.document(&name, &DocumentAsk::Releases, Some(&long_ago(&list))).await;
    assert_eq!(renewed(fetched.expect("a renewal")).pages, list.meta.validators.pages);
    assert_eq!(server.take_targets()[0], "/repos/DevsApp/FC3/releases?per_page=100");
}

#[tokio::test]
async fn a_304_to_an_unconditional_request_is_invalid() {
    let server = Server::start(|_| Reply::new(304)).await;
    let error =
        error(ask(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Releases, None).await);
    assert!(matches!(error, FetchError::Invalid(_)), "{error:?}");
}

#[tokio::test]
async fn gitee_pages_are_numbered_newest_first() {
    let full: Vec<Value> = (0..100).map(|n| release(&format!("v{n}"))).collect();
    for total in [Some("3"), None] {
        let full = full.clone();
        let server = Server::start(move |seen| {
            let reply = Reply::json(match number(&seen.target) {
                3 => json!([release("last")]),
                _ => json!(full),
            });
            total.into_iter().fold(reply, |reply, total| reply.with("total_page", total))
        })
        .await;
        let list: Releases =
            get(&anonymous(&config(UpstreamKind::Gitee, &server.base())), DocumentAsk::Releases).await.expect("a list");
        assert_eq!((list.releases.len(), list.truncated), (201, false), "total_page: {total:?}");
        let expected = |page| format!("/repos/devsapp/fc3/releases?direction=desc&per_page=100&page={page}");
        assert_eq!(server.take_targets(), [expected(1), expected(2), expected(3)]);
    }
}

#[tokio::test]
async fn gitee_without_a_release_has_an_empty_list() {
    let server = Server::start(|_| Reply::json(json!([])).with("total_page", "5")).await;
    let list: Releases =
        get(&anonymous(&config(UpstreamKind::Gitee, &server.base())), DocumentAsk::Releases).await.expect("a list");
    assert_eq!(list, Releases::default());
    assert_eq!(server.take_targets().len(), 1, "an empty page is the last one");
}
