//! GitHub: single documents, error responses and rate limits.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;

use super::*;
use crate::package::{BranchHead, Release, Repository};

const SHA: &str = "12b27abb78e04142adfbdc4aa7fa9571ff05d67b";

#[tokio::test]
async fn requests_carry_api_version_token_and_user_agent() {
    let server = Server::start(|_| Reply::json(release("v1"))).await;
    let upstream = with_token(&config(UpstreamKind::Github, &format!("{}/api/v3", server.base())));
    let got: Release = get(&upstream, DocumentAsk::Latest).await.expect("a release");
    assert_eq!((got.tag_name.as_str(), upstream.has_token()), ("v1", true));
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "/api/v3/repos/devsapp/fc3/releases/latest");
    for (name, expected) in [
        ("accept", Some("application/vnd.github+json")),
        ("accept-encoding", Some("gzip")),
        ("authorization", Some("Bearer secret-token")),
        ("x-github-api-version", Some("2022-11-28")),
        ("via", Some("1.1 srm-mirror-test")),
        ("user-agent", Some(concat!("srm-mirror/", env!("CARGO_PKG_VERSION")))),
        ("referer", None),
        ("cookie", None),
    ] {
        assert_eq!(seen.header(name), expected, "{name}");
    }
}

#[tokio::test]
async fn a_404_for_latest_is_a_missing_release_or_a_missing_package() {
    let server = Server::start(|_| Reply::error(404, "Not Found")).await;
    let error = error(ask(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Latest, None).await);
    assert_eq!(error, FetchError::NotFound(Missing::Release));
    assert_eq!(server.take_targets(), ["/repos/devsapp/fc3/releases/latest"]);
}

#[tokio::test]
async fn a_tag_with_a_slash_is_one_path_segment() {
    let server = Server::start(|_| Reply::json(release("cli/v1+x"))).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let _: Release = get(&upstream, DocumentAsk::Tag("cli/v1 %#".into())).await.expect("a release");
    assert_eq!(server.take_targets(), ["/repos/devsapp/fc3/releases/tags/cli%2Fv1%20%25%23"]);
}

#[tokio::test]
async fn a_single_document_is_renewed_by_its_etag() {
    let server = Server::start(|seen| match seen.header("if-none-match") {
        Some("W/\"1\"") => Reply::new(304),
        _ => Reply::json(release("v1")).with("etag", "W/\"1\""),
    })
    .await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let latest = stored(ask(&upstream, DocumentAsk::Latest, None).await.expect("a release"));
    let validators = renewed(ask(&upstream, DocumentAsk::Latest, Some(&latest)).await.expect("a renewal"));
    assert_eq!(validators.pages, latest.meta.validators.pages);
    // The validators of one document are not used for another.
    stored(ask(&upstream, DocumentAsk::Tag("v1".into()), Some(&latest)).await.expect("a release"));
}

#[tokio::test]
async fn a_branch_resolves_to_its_commit_and_never_to_a_tag() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/repos/devsapp/fc3/commits/heads/main" => Reply::new(200).body(SHA.to_uppercase()).with("etag", "\"1\""),
        "/repos/devsapp/fc3/commits/heads/page" => Reply::html(),
        _ => Reply::error(422, "No commit found for SHA: x"),
    })
    .await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let branch = |name: &str| DocumentAsk::Branch(name.into());
    assert_eq!(get::<BranchHead>(&upstream, branch("main")).await.expect("a branch").commit, SHA);
    assert_eq!(server.seen()[0].header("accept"), Some("application/vnd.github.sha"));
    assert_eq!(error(ask(&upstream, branch("none"), None).await), FetchError::NotFound(Missing::Version));
    assert!(matches!(error(ask(&upstream, branch("page"), None).await), FetchError::Invalid(_)));
}

#[tokio::test]
async fn the_redirect_of_a_renamed_repository_is_followed_with_the_token() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/repos/devsapp/fc3" => Reply::to(301, format!("{}/repositories/515436299", seen.base())),
        "/repositories/515436299" => {
            Reply::json(json!({"id": 1, "full_name": "devsapp/New", "private": true, "default_branch": "main"}))
        }
        _ => Reply::error(404, "Not Found"),
    })
    .await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    let got: Repository = get(&upstream, DocumentAsk::Repository).await.expect("a repository");
    assert_eq!((got.full_name.as_str(), got.private, got.default_branch.as_str()), ("devsapp/New", true, "main"));
    assert_eq!(server.seen()[1].header("authorization"), Some("Bearer secret-token"));
}

#[tokio::test]
async fn an_api_redirect_to_another_origin_is_refused_without_a_request() {
    let elsewhere = Server::start(|_| Reply::json(release("evil"))).await;
    let to = elsewhere.base();
    let server = Server::start(move |_| Reply::to(301, format!("{to}/x"))).await;
    let mut config = config(UpstreamKind::Github, &server.base());
    // Not even when archives may be redirected there.
    config.redirect_hosts = vec![elsewhere.address.to_string()];
    let error = error(ask(&with_token(&config), DocumentAsk::Latest, None).await);
    assert!(matches!(error, FetchError::Refused(_)), "{error:?}");
    assert_eq!(elsewhere.take_targets(), [""; 0]);
}

#[tokio::test]
async fn github_error_responses_become_the_right_fetch_errors() {
    for (reply, expected) in [
        (Reply::error(451, "Repository access blocked"), FetchError::Blocked),
        (Reply::error(403, "Repository access blocked"), FetchError::Blocked),
        (Reply::error(403, "Resource not accessible"), FetchError::Status(403)),
        (Reply::error(401, "Bad credentials"), FetchError::Status(401)),
        (Reply::error(502, "x"), FetchError::Status(502)),
        (Reply::error(404, "Not Found"), FetchError::NotFound(Missing::Version)),
        (Reply::error(508, "x"), FetchError::Loop),
        (Reply::json(release("v1")).with("via", "1.1 proxy, 1.1 srm-mirror-test"), FetchError::Loop),
        (
            Reply::json(release("v1")).with("content-encoding", "br"),
            FetchError::Invalid("a body in a coding that was not asked for".into()),
        ),
        (Reply::new(204), FetchError::Invalid("an unexpected status".into())),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
        assert_eq!(error(ask(&upstream, DocumentAsk::Tag("v1".into()), None).await), expected);
    }
}

#[tokio::test]
async fn a_response_of_another_mirror_is_no_loop() {
    let server = Server::start(|_| Reply::json(release("v1")).with("via", "1.1 srm-mirror-test2")).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let _: Release = get(&upstream, DocumentAsk::Latest).await.expect("a release");
}

#[tokio::test]
async fn after_a_rate_limit_no_request_is_sent_until_the_pause_is_over() {
    let message = "API rate limit exceeded for 192.0.2.1.";
    let server = Server::start(move |_| Reply::error(403, message).with("retry-after", "100")).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let hit = error(ask(&upstream, DocumentAsk::Releases, None).await);
    assert!(matches!(hit, FetchError::Throttled { .. }), "{hit:?}");
    for what in [DocumentAsk::Latest, DocumentAsk::Repository] {
        let error = error(ask(&upstream, what, None).await);
        let FetchError::CoolingDown { cause, retry_after } = error else { panic!("{error:?}") };
        assert!(cause.is_rate_limit() && (99..=100).contains(&retry_after.as_secs()));
        assert!(!cause.to_string().contains("192.0.2.1"));
    }
    assert!(error(zip(&upstream, tag("v1")).await).is_rate_limit());
    assert_eq!(server.take_targets().len(), 1);
}

#[tokio::test]
async fn archive_hosts_have_a_separate_rate_limit() {
    let files = Server::start(|_| Reply::new(429)).await;
    let to = files.base();
    let server = Server::start(move |seen| {
        if seen.target.contains("zipball") { Reply::to(302, format!("{to}/x")) } else { Reply::json(release("v1")) }
    })
    .await;
    let mut config = config(UpstreamKind::Github, &server.base());
    config.redirect_hosts = vec![files.address.to_string()];
    let upstream = anonymous(&config);
    for _ in 0..2 {
        assert!(error(zip(&upstream, tag("v1")).await).is_rate_limit());
    }
    assert_eq!(files.take_targets().len(), 1);
    let _: Release = get(&upstream, DocumentAsk::Latest).await.expect("documents are not limited");
}

#[tokio::test]
async fn a_request_on_a_closed_idle_connection_is_sent_again_once() {
    // The second request meets a hang-up, as on an idle connection that the forge has just closed.
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Relaxed) {
        1 => Reply::new(200).end(ResponseEnd::Hangup),
        _ => Reply::json(release("v1")),
    })
    .await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    for _ in 0..2 {
        let _: Release = get(&upstream, DocumentAsk::Latest).await.expect("a release");
    }
    assert_eq!(server.take_targets().len(), 3);
}

#[tokio::test]
async fn a_request_on_a_new_connection_that_breaks_is_not_sent_again() {
    let server = Server::start(|_| Reply::new(200).end(ResponseEnd::Hangup)).await;
    let error = error(ask(&anonymous(&config(UpstreamKind::Github, &server.base())), DocumentAsk::Latest, None).await);
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
    assert_eq!(server.take_targets().len(), 1);
}
