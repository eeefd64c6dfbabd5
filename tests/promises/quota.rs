//! The upstream's quota is spent on what helps: what was answered is not asked again, and many unknown names cost two lists.

use std::time::Duration;

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
};

const NAME: &str = "devsapp/fc3";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo(NAME).release("v1.0.0", |r| r).tag_only("nightly").branch("next", |b| b.file("a", "next"));
    forge
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn mirror_setup(forge: &Forge, token: bool) -> crate::mirror::Setup {
    forge.accept_token("T0KEN");
    if token { setup(forge).token("github", "T0KEN") } else { setup(forge) }
}

#[tokio::test]
async fn forty_unknown_versions_cost_at_most_ten_requests() {
    let paths: [fn(usize) -> String; 5] = [
        |n| format!("/devsapp/fc3/zipball/9.9.{n}"),
        |n| format!("/devsapp/fc3/zipball/no-such-{n}"),
        |n| format!("/devsapp/fc3/zipball/refs/tags/9.9.{n}"),
        |n| format!("/devsapp/fc3/zipball/refs/heads/no-{n}"),
        |n| format!("/devsapp/fc3/releases/tags/v9.9.{n}"),
    ];
    for token in [false, true] {
        for path in paths {
            let forge = forge().await;
            let mirror = mirror_setup(&forge, token).start().await;
            for n in 0..40 {
                assert_eq!(mirror.get(&path(n)).await.status, 404, "{}", path(n));
            }
            let asked = forge.requests().len();
            assert!(asked <= 10, "{}: {asked}: {:#?}", path(0), forge.requests());
            // The lists hide nothing that exists.
            assert_eq!(mirror.get("/devsapp/fc3/zipball/nightly").await.sha256(), forge.sha256(NAME, "nightly"));
            assert_eq!(mirror.get("/devsapp/fc3/zipball/next").await.sha256(), forge.sha256(NAME, "next"));
            assert_eq!(mirror.get("/devsapp/fc3/zipball/1.0.0").await.sha256(), forge.sha256(NAME, "v1.0.0"));
        }
    }
}

#[tokio::test]
async fn a_tag_that_is_pushed_after_the_lists_were_fetched_is_found_when_they_are_no_longer_fresh() {
    for (token, fresh) in [(false, 301), (true, 6)] {
        let forge = forge().await;
        let mirror = mirror_setup(&forge, token).start().await;
        for n in 0..5 {
            assert_eq!(mirror.get(&format!("/devsapp/fc3/zipball/none-{n}")).await.status, 404);
        }
        forge.repo(NAME).tag_only("pushed").branch("begun", |b| b.file("a", "begun"));
        mirror.clock.advance(secs(fresh));
        for name in ["pushed", "begun"] {
            let got = mirror.get(&format!("/devsapp/fc3/zipball/{name}")).await;
            assert_eq!((got.status, got.sha256()), (200, forge.sha256(NAME, name)), "{name}, token {token}");
        }
    }
}

#[tokio::test]
async fn a_truncated_list_of_tags_answers_nothing() {
    let forge = Forge::start().await;
    forge.rate_limits(1000, 1000);
    let mut repo = forge.repo(NAME).release("v1.0.0", |r| r);
    for n in 0..2001 {
        repo = repo.tag_only(&format!("t{n:04}"));
    }
    let mirror = Mirror::over(&forge).await;
    for n in 0..3 {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/zipball/none-{n}")).await.status, 404);
    }
    for tag in ["t0000", "t2000"] {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/zipball/{tag}")).await.status, 200, "{tag}");
    }
}

#[tokio::test]
async fn a_polled_unknown_tag_does_not_empty_an_anonymous_hour() {
    for version in ["9.9.9", "no-such-tag"] {
        let forge = forge().await;
        let mirror = Mirror::over(&forge).await;
        for _ in 0..360 {
            assert_eq!(mirror.get(&format!("/devsapp/fc3/zipball/{version}")).await.status, 404);
            mirror.clock.advance(secs(10));
        }
        let used = forge.rate_used(None);
        assert!(used <= 50, "{version}: {used} of 60");
    }
}

#[tokio::test]
async fn without_a_token_an_absence_is_remembered_as_long_as_a_list_is_fresh() {
    for (token, remembered) in [(false, 298), (true, 28)] {
        let forge = forge().await;
        let mirror = mirror_setup(&forge, token).start().await;
        let paths = ["/devsapp/none/releases", "/devsapp/none/releases/latest", "/devsapp/none/zipball/v1"];
        for path in paths {
            assert_eq!(mirror.get(path).await.status, 404);
        }
        forge.clear_log();
        mirror.clock.advance(secs(remembered));
        for path in paths {
            assert_eq!(mirror.get(path).await.status, 404);
        }
        assert_eq!(forge.requests().len(), 0, "token {token}");
        forge.repo("devsapp/none").release("v1", |r| r);
        mirror.clock.advance(secs(4));
        assert_eq!(mirror.get(paths[2]).await.status, 200, "token {token}");
    }
}

#[tokio::test]
async fn the_latest_of_a_package_without_releases_costs_one_request_each_time_it_is_asked_for() {
    let forge = Forge::start().await;
    forge.repo("devsapp/empty").tag_only("v0.1.0");
    forge.repo("devsapp/rc").release("v1.0.0-rc", |r| r.prerelease());
    let mirror = Mirror::over(&forge).await;
    for (name, cost) in [("empty", 1), ("rc", 1)] {
        let path = format!("/devsapp/{name}/releases/latest");
        assert_eq!(mirror.get(&path).await.status, 404);
        for _ in 0..3 {
            mirror.clock.advance(secs(3600));
            forge.clear_log();
            assert_eq!(mirror.get(&path).await.status, 404);
            assert_eq!(forge.requests().len(), cost, "{name}");
            assert_eq!(mirror.get(&path).await.status, 404);
            assert_eq!(forge.requests().len(), cost, "{name}: remembered");
        }
    }
    let got = mirror.get("/devsapp/empty/releases/latest").await;
    let message = got.json()["message"].as_str().expect("a message").to_owned();
    assert!(
        message.contains("devsapp/empty on github has no release") && message.contains("/zipball/{tag}"),
        "{message}"
    );
    assert_eq!(mirror.get("/devsapp/empty/zipball/v0.1.0").await.status, 200);
    forge.repo("devsapp/empty").release("v0.2.0", |r| r);
    mirror.clock.advance(secs(301));
    assert_eq!(mirror.get("/devsapp/empty/releases/latest").await.json()["tag_name"], "v0.2.0");
}
