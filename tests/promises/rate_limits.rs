//! Rate limits are recognised: not cached as content, not hit a second time, and reported with `Retry-After`.

use std::time::Duration;

use crate::{
    forge::{Fault, Forge, Host, Match},
    mirror::setup,
};

const LIST: &str = "/devsapp/fc3/releases";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge.repo("devsapp/other").release("v1.0.0", |r| r);
    forge
}

#[tokio::test]
async fn an_exhausted_quota_is_503_with_retry_after_and_no_request_until_the_reset() {
    let forge = forge().await;
    forge.rate_limits(1, 5000);
    forge.rate_reset_in(1200);
    let mirror = setup(&forge).start().await;
    assert_eq!(mirror.get(LIST).await.status, 200);
    let limited = mirror.get("/devsapp/other/releases").await;
    assert_eq!(limited.status, 503);
    let wait: u64 = limited.header("retry-after").parse().expect("seconds");
    assert!((1100..=1201).contains(&wait), "{wait}");
    let message = limited.json()["message"].as_str().expect("text").to_owned();
    assert!(message.contains("github limits the mirror's requests") && !message.contains("127.0.0.1"), "{message}");

    let asked = forge.requests().len();
    mirror.clock.advance(Duration::from_secs(10));
    for path in ["/devsapp/other/releases", "/devsapp/more/releases", "/devsapp/fc3/zipball/v1.0.0"] {
        let got = mirror.get(path).await;
        assert_eq!((got.status, got.header("retry-after").is_empty()), (503, false), "{path}");
    }
    mirror.clock.advance(Duration::from_secs(86_400));
    let stale = mirror.get(LIST).await;
    assert_eq!(stale.status, 200);
    assert!(stale.cache_status().ends_with("detail=upstream-throttled"), "{}", stale.cache_status());
    assert!(!stale.cache_status().contains("fwd-status"), "no upstream request: {}", stale.cache_status());
    assert_eq!(forge.requests().len(), asked, "asking on would be a reason to be banned");
}

#[tokio::test]
async fn a_secondary_limit_with_quota_left_is_a_rate_limit() {
    for (retry_after, least) in [(None, 60), (Some("90".to_owned()), 90)] {
        let forge = forge().await;
        let mirror = setup(&forge).start().await;
        forge.fault(Match::any(), Fault::SecondaryRateLimit { retry_after });
        let limited = mirror.get(LIST).await;
        assert_eq!((limited.status, limited.header("retry-after")), (503, least.to_string().as_str()));
        mirror.clock.advance(Duration::from_secs(30));
        assert_eq!(mirror.get(LIST).await.status, 503);
        assert_eq!(forge.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_rate_limit_is_not_stored_and_not_kept_over_a_restart() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    forge.fault(Match::any(), Fault::SecondaryRateLimit { retry_after: None });
    assert_eq!(mirror.get(LIST).await.status, 503);
    mirror.stop().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(LIST).await.status, 200);
}

#[tokio::test]
async fn the_gitee_rate_limit_is_recognised_by_its_wording() {
    let forge = forge().await;
    forge.gitee_repo("devsapp/fc3").release("v1.0.0", |r| r);
    let mirror = setup(&forge).start().await;
    forge.fault(Match::on(crate::forge::Host::Gitee), Fault::gitee_rate_limit());
    let limited = mirror.get("/gitee/devsapp/fc3/releases").await;
    assert_eq!((limited.status, limited.header("retry-after")), (503, "60"));
    assert_eq!(mirror.get(LIST).await.status, 200, "the other forge is not limited");
}

#[tokio::test]
async fn while_the_archive_host_limits_no_quota_of_the_api_is_spent_on_zips() {
    let forge = forge().await;
    forge.repo("devsapp/fc3").release("v2.0.0", |r| r).release("v3.0.0", |r| r);
    let mirror = setup(&forge).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/refs/tags/v1.0.0").await.status, 200);
    let limit = Fault::status(429, &[("retry-after", "90")], "");
    forge.fault(Match::on(Host::Archive), limit).always();
    assert_eq!(mirror.get("/devsapp/fc3/zipball/refs/tags/v2.0.0").await.status, 503);
    let asked = forge.requests().len();
    let limited = mirror.get("/devsapp/fc3/zipball/refs/tags/v3.0.0").await;
    assert_eq!((limited.status, limited.header("retry-after")), (503, "90"));
    assert_eq!(forge.requests().len(), asked);
    assert_eq!(mirror.get(LIST).await.status, 200, "documents are not affected");
}
