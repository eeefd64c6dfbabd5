//! Tag lists: names, commits, the time at which each was first seen, limits and renewal.

use serde_json::{Value, json};

use super::*;
use crate::package::RepositoryTags;

const COMMIT: &str = "12b27abb78e04142adfbdc4aa7fa9571ff05d67b";

fn tag_entry(name: &str) -> Value {
    json!({"name": name, "commit": {"sha": COMMIT.to_uppercase(), "url": "https://api.forge.test/1"}, "node_id": "R"})
}

/// Pages as on GitHub, each with one tag and a validator.
fn linked(seen: &RecordedRequest, pages: usize) -> Reply {
    let page = seen.target.split(['?', '&']).find_map(|part| part.strip_prefix("page="));
    let page: usize = page.map_or(1, |page| page.parse().expect("a page"));
    let etag = format!("W/\"page-{page}\"");
    if seen.header("if-none-match") == Some(&etag) {
        return Reply::new(304).with("etag", etag);
    }
    let reply = Reply::json(json!([tag_entry(&format!("x@{page}.0.0"))])).with("etag", etag);
    if page == pages {
        return reply;
    }
    let base = seen.base();
    reply.with("link", format!("<{base}/repositories/7/tags?per_page=100&page={}>; rel=\"next\"", page + 1))
}

fn names(list: &RepositoryTags) -> Vec<&str> {
    list.tags.iter().map(|tag| tag.name.as_str()).collect()
}

#[tokio::test]
async fn tags_have_their_names_and_commits_page_after_page() {
    let server = Server::start(|seen| linked(seen, 3)).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let list: RepositoryTags = get(&upstream, DocumentAsk::Tags).await.expect("a list");
    assert_eq!((names(&list), list.truncated), (vec!["x@1.0.0", "x@2.0.0", "x@3.0.0"], false));
    assert_eq!(list.tags[0].commit.as_deref(), Some(COMMIT));
    assert_eq!(server.take_targets()[0], "/repos/devsapp/fc3/tags?per_page=100");
    let gitee = Server::start(|_| Reply::json(json!([tag_entry("v1"), {"name": "v2", "commit": null}]))).await;
    let list: RepositoryTags =
        get(&anonymous(&config(UpstreamKind::Gitee, &gitee.base())), DocumentAsk::Tags).await.expect("a list");
    assert_eq!((names(&list), list.tags[1].commit.as_deref()), (vec!["v1", "v2"], None));
    assert_eq!(gitee.take_targets(), ["/repos/devsapp/fc3/tags?per_page=100&page=1"]);
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list_and_a_missing_one_none() {
    let server = Server::start(|_| Reply::json(json!([]))).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    assert_eq!(get::<RepositoryTags>(&upstream, DocumentAsk::Tags).await, Ok(RepositoryTags::default()));
    let gone = Server::start(|_| Reply::error(404, "Not Found")).await;
    for kind in [UpstreamKind::Github, UpstreamKind::Gitee] {
        let upstream = anonymous(&config(kind, &gone.base()));
        assert_eq!(error(ask(&upstream, DocumentAsk::Tags, None).await), FetchError::NotFound(Missing::Package));
    }
    let page = Server::start(|_| Reply::json(json!([{"name": ""}, {"name": 7}]))).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &page.base()));
    assert!(matches!(error(ask(&upstream, DocumentAsk::Tags, None).await), FetchError::Invalid(_)));
}

#[tokio::test]
async fn a_tag_keeps_the_time_at_which_it_was_first_seen() {
    let list = Arc::new(Mutex::new(json!([tag_entry("b"), tag_entry("a")])));
    let served = list.clone();
    let server = Server::start(move |_| Reply::json(served.lock().clone())).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let first = stored(ask(&upstream, DocumentAsk::Tags, None).await.expect("a list"));
    let mut old: RepositoryTags = parse(&first);
    let long_ago: Timestamp = "2021-01-04T07:41:23Z".parse().expect("a time");
    old.tags.iter_mut().for_each(|tag| tag.first_seen = long_ago);
    let first = Document { body: serde_json::to_vec(&old).expect("JSON").into(), ..first };
    *list.lock() = json!([tag_entry("c"), tag_entry("a")]);
    // Another credential makes the validators useless, and the times stay.
    for upstream in [upstream.clone(), with_token(&config(UpstreamKind::Github, &server.base()))] {
        let fetched = ask(&upstream, DocumentAsk::Tags, Some(&first)).await.expect("a list");
        let new: RepositoryTags = parse(&stored(fetched));
        assert_eq!(names(&new), ["c", "a"]);
        assert!(new.tags[0].first_seen > long_ago);
        assert_eq!(new.tags[1].first_seen, long_ago);
    }
}

#[tokio::test]
async fn a_tag_list_is_truncated_after_twenty_pages() {
    let server = Server::start(|seen| linked(seen, 22)).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let list: RepositoryTags = get(&upstream, DocumentAsk::Tags).await.expect("a list");
    assert_eq!((list.tags.len(), list.truncated, server.take_targets().len()), (20, true, 20));
}

#[tokio::test]
async fn every_page_is_revalidated_where_an_unchanged_page_costs_no_quota() {
    let server = Server::start(|seen| linked(seen, 3)).await;
    let config = config(UpstreamKind::Github, &server.base());
    for (upstream, requests) in [(with_token(&config), 3), (anonymous(&config), 1)] {
        let list = stored(ask(&upstream, DocumentAsk::Tags, None).await.expect("a list"));
        server.take_targets();
        renewed(ask(&upstream, DocumentAsk::Tags, Some(&list)).await.expect("a renewal"));
        assert_eq!(server.take_targets().len(), requests);
        renewed(ask(&upstream, DocumentAsk::Tags, Some(&long_ago(&list))).await.expect("a renewal"));
        assert_eq!(server.take_targets().len(), 3, "once an hour every page is requested");
    }
}
