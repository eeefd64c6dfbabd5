//! What folders cost upstream, and what its trouble changes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_costs_one_list_of_tags_one_of_releases_and_one_zip() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY).tag("x@1.0.0", apps);
    let mirror = with_alias(&forge).start().await;
    for path in ["/start-x/releases", "/start-x/releases/latest", "/v3/packages/start-x/release/latest"] {
        assert_eq!(mirror.get(path).await.status, 200);
    }
    let mut asked = api_requests(&forge);
    asked.sort();
    assert_eq!(asked, ["/releases", "/tags"]);
    for path in ["/start-x/flat/1.0.0", "/start-x/zipball/1.0.0", "/v3/packages/start-x/zipball/1.0.0"] {
        assert_eq!(mirror.get(path).await.status, 200);
    }
    assert_eq!(api_requests(&forge).len(), 3, "the zip alone");
    let miss = mirror.get("/start-x/flat/1.0.0").await;
    assert!(miss.cache_status().starts_with("srm-mirror; hit"), "{}", miss.cache_status());

    // A new version is found when the lists are no longer fresh; a request for it waits for that.
    repository.tag("x@1.1.0", is("new"));
    mirror.clock.advance(Duration::from_secs(301));
    forge.clear_log();
    assert_eq!(code(&mirror.get("/start-x/flat/1.1.0").await), "new");
    assert_eq!(api_requests(&forge).len(), 3);
    // A version that was served needs no list.
    mirror.clock.advance(Duration::from_secs(3600));
    forge.clear_log();
    assert_eq!(mirror.get("/start-x/flat/1.1.0").await.status, 200);
    assert_eq!(forge.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_upstream_is_no_fallback_and_what_is_stored_is_served() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("x@1.0.0", is("tag")).release("v2.0.0", is("release"));
    forge.fault(Match::path("/repos/acme/apps/tags"), Fault::status(500, &[], "")).times(1);
    let mirror = with_alias(&forge).start().await;
    let got = mirror.get("/start-x/releases").await;
    assert_eq!(got.status, 502, "{}", text(&got));
    forge.clear_faults();
    mirror.clock.advance(Duration::from_secs(60));
    assert_eq!(versions(&mirror.get("/start-x/releases").await), ["1.0.0"]);
    assert_eq!(code(&mirror.get("/start-x/flat/1.0.0").await), "tag");
    forge.down().await;
    mirror.clock.advance(Duration::from_secs(3600));
    let stale = mirror.get("/start-x/releases").await;
    assert_eq!(versions(&stale), ["1.0.0"]);
    assert_eq!(code(&mirror.get("/start-x/flat/1.0.0").await), "tag");
    assert_eq!(mirror.get("/start-x/flat/1.9.0").await.status, 502, "it may exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_beyond_the_list_of_a_large_repository_is_found_by_its_name() {
    let forge = Forge::start().await;
    forge.rate_limits(100_000, 100_000);
    let repository = forge.repo(REPOSITORY);
    for n in 0..2001 {
        repository.clone().tag_only(&format!("y@1.0.{n}"));
    }
    repository.tag("x@1.0.0", is("found"));
    let mirror = with_alias(&forge).start().await;
    let release = mirror.get("/v3/packages/start-x/release/tags/1.0.0").await;
    assert_eq!(release.status, 200, "{}", text(&release));
    assert_eq!(code(&mirror.get("/v3/packages/start-x/zipball/1.0.0").await), "found");
    assert_eq!(mirror.get("/start-x/releases/tags/1.0.1").await.status, 404);
}
