//! A package whose repository is renamed, removed or blocked at its upstream.

use std::time::Duration;

use srm_mirror::registry::policy::Gone;

use crate::{
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, setup},
};

const NAME: &str = "devsapp/fc3";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo(NAME).release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    forge
}

async fn filled(mirror: &Mirror) {
    for rest in ["releases", "releases/latest", "zipball/v1.0.0"] {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/{rest}")).await.status, 200, "{rest}");
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test]
async fn a_renamed_repository_is_followed_by_its_number() {
    let forge = forge().await;
    forge.repo(NAME).renamed_to("serverless-devs/fc");
    let mirror = setup(&forge).start().await;
    for name in ["devsapp/fc3", "serverless-devs/fc"] {
        let list = mirror.get(&format!("/{name}/releases")).await;
        assert_eq!(list.json().as_array().map(Vec::len), Some(2), "{name}");
        assert_eq!(
            list.json()[0]["zipball_url"],
            mirror.url(&format!("/{name}/zipball/v1.1.0")),
            "the name that was asked"
        );
        let zip = mirror.get(&format!("/{name}/zipball/v1.0.0")).await;
        assert_eq!(zip.sha256(), forge.sha256("serverless-devs/fc", "v1.0.0"), "{name}");
    }
}

#[tokio::test]
async fn a_package_that_is_gone_is_still_served_and_marked() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    filled(&mirror).await;
    forge.repo(NAME).remove();
    mirror.clock.advance(secs(3600));
    for rest in ["releases", "releases/latest", "releases/tags/v1.0.0", "zipball/v1.0.0"] {
        let got = mirror.get(&format!("/devsapp/fc3/{rest}")).await;
        assert_eq!(got.status, 200, "{rest}");
        assert!(got.cache_status().ends_with("detail=upstream-gone"), "{rest}: {}", got.cache_status());
    }
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.1.0").await.status, 404, "listed, but its zip was never seen");

    // The upstream is asked again once in five minutes, not at every request.
    let lists = || forge.count(|seen| seen.path() == "/repos/devsapp/fc3/releases");
    let asked = lists();
    mirror.clock.advance(secs(280));
    for rest in ["releases", "zipball/v1.0.0"] {
        mirror.get(&format!("/devsapp/fc3/{rest}")).await;
    }
    assert_eq!(lists(), asked);
    mirror.stop().await;

    let mirror = setup(&forge).start_in(dir.path()).await;
    mirror.clock.advance(secs(7200));
    forge.repo(NAME).release("v1.0.0", |r| r).release("v2.0.0", |r| r);
    // A stored zip is served at once and starts the check that finds the package again.
    assert!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.cache_status().ends_with("upstream-gone"));
    eventually("the package is back", async || {
        mirror.get("/devsapp/fc3/zipball/v1.0.0").await.cache_status().ends_with("detail=memory")
    })
    .await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.json()[0]["tag_name"], "v2.0.0");
}

#[tokio::test]
async fn gone_follow_makes_stored_packages_404_until_they_return() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.packages.gone = Gone::Follow).start().await;
    filled(&mirror).await;
    forge.repo(NAME).remove();
    mirror.clock.advance(secs(3600));
    for rest in ["releases", "releases/latest", "zipball/v1.0.0"] {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/{rest}")).await.status, 404, "{rest}");
    }
    forge.repo(NAME).release("v1.0.0", |r| r);
    mirror.clock.advance(secs(3600));
    for rest in ["zipball/v1.0.0", "releases", "releases/latest"] {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/{rest}")).await.status, 200, "{rest}");
    }
}

#[tokio::test]
async fn a_block_is_451_at_once_for_everything_that_is_stored() {
    for met_by in ["releases", "releases/latest", "zipball/v1.1.0", "zipball/refs/heads/main"] {
        let forge = forge().await;
        let dir = tempfile::tempdir().expect("a directory");
        let mirror = setup(&forge).start_in(dir.path()).await;
        filled(&mirror).await;
        forge.repo(NAME).blocked();
        // Every stale document is revalidated.
        if met_by.starts_with("releases") {
            mirror.clock.advance(secs(3600));
        }
        assert_eq!(mirror.get(&format!("/devsapp/fc3/{met_by}")).await.status, 451, "{met_by}");
        for rest in
            ["zipball/v1.0.0", "releases", "releases/latest", "releases/tags/v1.0.0", "metadata", "metadata/v1.0.0"]
        {
            let got = mirror.get(&format!("/devsapp/fc3/{rest}")).await;
            assert_eq!(got.status, 451, "met by {met_by}: {rest}: {}", got.cache_status());
            assert!(got.json()["message"].as_str().is_some_and(|text| text.contains("legal reasons")));
        }
        mirror.stop().await;
        forge.down().await;
        let mirror = setup(&forge).start_in(dir.path()).await;
        for rest in ["zipball/v1.0.0", "releases", "releases/latest"] {
            assert_eq!(
                mirror.get(&format!("/devsapp/fc3/{rest}")).await.status,
                451,
                "{rest}, after a restart, forge down"
            );
        }
    }
}

#[tokio::test]
async fn a_block_that_is_lifted_is_noticed_by_a_request_for_a_zip_alone() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    filled(&mirror).await;
    let fault = crate::forge::Fault::status(451, &[], r#"{"message":"Repository access blocked"}"#);
    let blocked = forge.fault(crate::forge::Match::any(), fault).always();
    mirror.clock.advance(secs(3600));
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 451);
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 451);
    assert_eq!(blocked.hits(), 1, "what was said a moment ago is not asked again");
    blocked.remove();
    mirror.clock.advance(secs(301));
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
}

#[tokio::test]
async fn a_block_where_nothing_is_stored_is_passed_on() {
    let forge = forge().await;
    forge.repo(NAME).blocked();
    let mirror = setup(&forge).start().await;
    for rest in ["releases", "releases/latest", "zipball/v1.0.0", "metadata/v1.0.0"] {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/{rest}")).await.status, 451, "{rest}");
    }
    assert_eq!(mirror.get("/repos/devsapp/fc3").await.status, 451);
}
