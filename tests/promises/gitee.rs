//! Gitee from end to end: release order, time zones, its form of 404, and web pages in place of zips.

use crate::{
    forge::{Forge, GiteeZips},
    mirror::setup,
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.accept_token("gitee_T0KEN");
    forge
        .gitee_repo("example/demo")
        .release("v1.0.0", |r| r.created_at("2022-12-31T20:00:00Z").no_body())
        .release("v1.1.0", |r| r.created_at("2023-02-01T00:00:00Z"));
    forge
}

#[tokio::test]
async fn the_gitee_list_is_newest_first_in_utc_with_urls_of_the_mirror() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let list = mirror.get("/gitee/example/demo/releases").await.json();
    assert_eq!((&list[0]["tag_name"], &list[1]["tag_name"]), (&"v1.1.0".into(), &"v1.0.0".into()));
    assert_eq!((&list[1]["created_at"], &list[1]["body"]), (&"2022-12-31T20:00:00Z".into(), &"".into()));
    assert_eq!(list[1]["zipball_url"], mirror.url("/gitee/example/demo/zipball/v1.0.0"));
    assert_eq!(mirror.get("/example/demo/releases").await.status, 404, "paths without an upstream belong to github");
    let latest = mirror.get("/gitee/example/demo/releases/latest").await.json();
    assert_eq!(latest["tag_name"], "v1.1.0");
}

#[tokio::test]
async fn a_gitee_200_with_null_is_404() {
    let forge = forge().await;
    forge.gitee_repo("example/empty");
    let mirror = setup(&forge).start().await;
    for path in ["releases/tags/v9", "zipball/v9", "metadata/v9"] {
        assert_eq!(mirror.get(&format!("/gitee/example/demo/{path}")).await.status, 404, "{path}");
    }
    assert_eq!(mirror.get("/gitee/example/empty/releases/latest").await.status, 404);
    assert_eq!(mirror.get("/gitee/example/none/releases").await.status, 404);
    let null = crate::forge::Fault::status(200, &[("content-type", "application/json")], "null");
    forge.fault(crate::forge::Match::path_contains("/releases/latest"), null).always();
    let missing = mirror.get("/gitee/example/demo/releases/latest").await;
    assert_eq!(missing.status, 404, "{:?}", missing.body);
}

#[tokio::test]
async fn a_gitee_zip_comes_from_the_api_with_a_token_and_from_the_web_without() {
    for token in [true, false] {
        for zips in [GiteeZips::Direct, GiteeZips::RedirectToWeb] {
            let forge = forge().await;
            forge.gitee_options(|options| options.zips = zips);
            let setup = setup(&forge);
            let mirror = if token { setup.token("gitee", "gitee_T0KEN") } else { setup }.start().await;
            let got = mirror.get("/gitee/example/demo/zipball/v1.0.0").await;
            assert_eq!(got.status, 200, "token {token}: {:?}", got.body);
            assert!(got.body.starts_with(b"PK"));
            let by_api = forge.count(|seen| seen.path().starts_with("/api/v5") && seen.path().ends_with("/zipball"));
            assert_eq!(by_api > 0, token);
            for seen in forge.requests() {
                let with = seen.headers.contains_key("authorization");
                // A redirect within the API's origin keeps the token; the web host never gets it.
                let may = token && (seen.path().starts_with("/api/v5") || zips == GiteeZips::RedirectToWeb);
                assert_eq!(with, may, "{}", seen.path_and_query);
                assert!(!seen.path_and_query.contains("T0KEN"), "the token is a header");
            }
        }
    }
}

#[tokio::test]
async fn an_html_page_instead_of_a_zip_is_502_and_never_cached() {
    let forge = forge().await;
    forge.gitee_options(|options| options.html_archives = true);
    let mirror = setup(&forge).start().await;
    let got = mirror.get("/gitee/example/demo/zipball/v1.0.0").await;
    assert_eq!((got.status, got.header("content-type")), (502, "application/json; charset=utf-8"), "{:?}", got.body);
    assert_eq!(got.header("connection"), "close");
    forge.gitee_options(|options| options.html_archives = false);
    mirror.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(mirror.get("/gitee/example/demo/zipball/v1.0.0").await.status, 200);
}

#[tokio::test]
async fn a_gitee_branch_with_a_slash_is_found_and_revalidated() {
    let forge = forge().await;
    forge.gitee_repo("example/demo").branch("dev/next", |b| b.file("a", "1"));
    let mirror = setup(&forge).token("gitee", "gitee_T0KEN").start().await;
    let first = mirror.get("/gitee/example/demo/zipball/refs/heads/dev/next").await;
    assert_eq!((first.status, first.header("cache-control")), (200, "public, max-age=60"), "{:?}", first.body);
    forge.gitee_repo("example/demo").branch("dev/next", |b| b.file("a", "2"));
    mirror.clock.advance(std::time::Duration::from_secs(61));
    let second = mirror.get("/gitee/example/demo/zipball/refs/heads/dev/next").await;
    assert_eq!(second.status, 200);
    assert_ne!(first.sha256(), second.sha256());
}
