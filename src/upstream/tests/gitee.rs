//! Gitee: `null` documents, pages instead of zips, and the addresses of a zip.

use serde_json::json;

use super::*;
use crate::package::{BranchHead, Release, Repository};

const SHA: &str = "12b27abb78e04142adfbdc4aa7fa9571ff05d67b";

async fn gitee(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> (Server, Config) {
    let server = Server::start(script).await;
    let config = Config {
        web: Some(server.base().parse().expect("an address")),
        ..config(UpstreamKind::Gitee, &format!("{}/api/v5", server.base()))
    };
    (server, config)
}

#[tokio::test]
async fn gitee_null_is_not_found() {
    let (_server, config) = gitee(|_| Reply::json(json!(null))).await;
    let upstream = anonymous(&config);
    for (what, missing) in [
        (DocumentAsk::Latest, Missing::Release),
        (DocumentAsk::Tag("v1".into()), Missing::Version),
        (DocumentAsk::Branch("main".into()), Missing::Version),
        (DocumentAsk::Repository, Missing::Package),
    ] {
        assert_eq!(error(ask(&upstream, what, None).await), FetchError::NotFound(missing));
    }
    // A list is never null; "not found" would be wrong.
    assert!(matches!(error(ask(&upstream, DocumentAsk::Releases, None).await), FetchError::Invalid(_)));
}

#[tokio::test]
async fn a_gitee_release_is_normalised_and_the_token_is_in_a_header() {
    let (server, config) = gitee(|_| {
        Reply::json(json!({
            "id": 1, "tag_name": "v1", "prerelease": false, "name": "开发", "body": null,
            "created_at": "2023-07-17T21:22:28+08:00", "assets": [{"browser_download_url": "https://forge.test/v1.zip"}]
        }))
    })
    .await;
    let got: Release = get(&with_token(&config), DocumentAsk::Latest).await.expect("a release");
    assert_eq!((got.created_at.to_string().as_str(), got.body.as_str()), ("2023-07-17T13:22:28Z", ""));
    assert_eq!((got.published_at, got.assets[0].name.as_deref(), got.assets[0].size), (None, None, None));
    let seen = &server.seen()[0];
    assert_eq!(seen.header("authorization"), Some("token secret-token"));
    assert_eq!(seen.target, "/api/v5/repos/devsapp/fc3/releases/latest", "no token in the query");
}

#[tokio::test]
async fn gitee_repositories_and_branches_are_normalised() {
    let (_server, config) = gitee(|seen| match seen.target.as_str() {
        "/api/v5/repos/devsapp/fc3/branches/a%2Fb" => Reply::json(json!({"name": "a/b", "commit": {"sha": SHA}})),
        "/api/v5/repos/devsapp/fc3" => Reply::json(json!({
            "full_name": "devsapp/fc3", "private": false, "default_branch": null, "html_url": "https://forge.test/devsapp/fc3.git"
        })),
        _ => Reply::error(404, "Not Found Project"),
    })
    .await;
    let upstream = anonymous(&config);
    assert_eq!(get::<BranchHead>(&upstream, DocumentAsk::Branch("a/b".into())).await.expect("a branch").commit, SHA);
    let repository: Repository = get(&upstream, DocumentAsk::Repository).await.expect("a repository");
    assert_eq!((repository.private, repository.default_branch.as_str()), (false, "master"));
}

#[tokio::test]
async fn gitee_error_responses_become_the_right_fetch_errors() {
    for (status, message, expected) in [
        (403, "Rate Limit Exceeded", FetchError::Throttled { retry_after: Duration::from_secs(60) }),
        (403, "请求过于频繁", FetchError::Throttled { retry_after: Duration::from_secs(60) }),
        (403, "forbidden", FetchError::Status(403)),
        (401, "401 Unauthorized: Access token does not exist", FetchError::Status(401)),
        (400, "reject by mode [ja-p]", FetchError::Status(400)),
        (404, "Not Found Project", FetchError::NotFound(Missing::Package)),
    ] {
        let (_server, config) = gitee(move |_| Reply::error(status, message)).await;
        assert_eq!(error(ask(&with_token(&config), DocumentAsk::Releases, None).await), expected, "{message}");
    }
}

#[tokio::test]
async fn with_a_token_the_zip_comes_from_the_api_by_its_exact_tag() {
    let (server, config) = gitee(|_| Reply::zip()).await;
    let (fetched, bytes) = zip(&with_token(&config), tag("v1")).await.expect("a zip");
    assert_eq!((fetched.anonymous, bytes.as_slice()), (false, &b"PK\x03\x04zip"[..]));
    assert_eq!(server.take_targets(), ["/api/v5/repos/devsapp/fc3/zipball?ref=refs%2Ftags%2Fv1"]);
}

#[tokio::test]
async fn without_a_token_the_zip_comes_from_the_web_page_of_the_tag() {
    let (server, config) = gitee(|_| Reply::zip()).await;
    let (fetched, _) = zip(&anonymous(&config), tag("cli/v1")).await.expect("a zip");
    assert!(fetched.anonymous);
    assert_eq!(server.take_targets(), ["/devsapp/fc3/archive/refs/tags/cli/v1.zip"]);
}

#[tokio::test]
async fn every_address_of_a_zip_is_tried_before_it_fails() {
    let (server, config) = gitee(|seen| match seen.target.as_str() {
        "/devsapp/fc3/repository/archive/v1.zip" => Reply::zip(),
        "/devsapp/fc3/archive/refs/tags/v1.zip" => Reply::html(),
        target if target.contains("/zipball") => Reply::error(401, "登录失效，无权限访问该资源"),
        _ => Reply::error(404, "404 Branch Not Found"),
    })
    .await;
    let (fetched, _) = zip(&with_token(&config), tag("v1")).await.expect("a zip");
    assert!(fetched.anonymous, "web pages are requested without a token");
    let seen = server.seen();
    assert_eq!(
        seen.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(),
        [
            "/api/v5/repos/devsapp/fc3/zipball?ref=refs%2Ftags%2Fv1",
            "/devsapp/fc3/archive/refs/tags/v1.zip",
            "/api/v5/repos/devsapp/fc3/branches/v1",
            "/api/v5/repos/devsapp/fc3/zipball?ref=v1",
            "/devsapp/fc3/repository/archive/v1.zip",
        ]
    );
    for seen in seen {
        assert_eq!(seen.header("authorization").is_some(), seen.target.starts_with("/api/"), "{}", seen.target);
    }
}

#[tokio::test]
async fn a_gitee_branch_is_never_served_as_a_tag() {
    let (server, config) = gitee(|seen| match seen.target.as_str() {
        "/api/v5/repos/devsapp/fc3/branches/main" => Reply::json(json!({"commit": {"sha": SHA}})),
        target if target.contains("refs") => Reply::error(404, "Not Found"),
        _ => Reply::zip(),
    })
    .await;
    for upstream in [with_token(&config), anonymous(&config)] {
        assert_eq!(error(zip(&upstream, tag("main")).await), FetchError::NotFound(Missing::Version));
    }
    assert!(server.take_targets().iter().all(|target| target.contains("refs") || target.contains("branches")));
}

#[tokio::test]
async fn a_login_page_is_invalid_and_not_a_missing_tag() {
    let (_server, config) =
        gitee(|seen| if seen.target.starts_with("/api/") { Reply::error(404, "Not Found") } else { Reply::html() })
            .await;
    let error = error(zip(&anonymous(&config), tag("v1")).await);
    assert_eq!(error, FetchError::Invalid("a page instead of a zip".into()));
    assert!(error.is_trouble());
}

#[tokio::test]
async fn a_tag_without_any_address_is_missing() {
    let (_server, config) = gitee(|_| Reply::error(404, "Not Found")).await;
    assert_eq!(error(zip(&with_token(&config), tag("v1")).await), FetchError::NotFound(Missing::Version));
    let commit = GitRef::Commit(SHA.into());
    assert_eq!(error(zip(&anonymous(&config), commit).await), FetchError::NotFound(Missing::Version));
}
