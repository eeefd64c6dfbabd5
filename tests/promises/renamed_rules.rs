//! The rules of `[packages]` hold for the name that a repository has now and for the one of the request; a name that another
//! repository has taken over is served no new versions; what is private is told as if it did not exist.

use std::time::Duration;

use srm_mirror::{config::Config, registry::Private};

use crate::{
    forge::{Forge, Match, Route},
    mirror::{Mirror, Setup, TestResponse, setup},
};

const OLD: &str = "devsapp/fc3";
const NEW: &str = "serverless-devs/fc";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.accept_token("T0KEN");
    forge.rate_limits(1000, 5000);
    forge.repo(OLD).release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    forge
}

fn rules(setup: Setup, change: impl FnOnce(&mut srm_mirror::registry::Config)) -> Setup {
    setup.with(|config: &mut Config| change(&mut config.packages))
}

fn texts(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|&pattern| pattern.to_owned()).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn zip(mirror: &Mirror, name: &str, version: &str) -> TestResponse {
    mirror.get(&format!("/{name}/zipball/{version}")).await
}

#[tokio::test]
async fn deny_and_allow_hold_for_the_present_name_and_for_the_one_that_was_asked() {
    for (allow, deny, served) in [
        (&[][..], &[][..], [true, true]),
        (&[], &["serverless-devs/*"], [false, false]),
        (&[], &["devsapp/*"], [false, true]),
        (&["devsapp/*"], &[], [false, false]),
        (&["serverless-devs/*"], &[], [false, true]),
        (&["devsapp/*", "Serverless-Devs/FC"], &[], [true, true]),
    ] {
        let forge = forge().await;
        forge.repo(OLD).renamed_to(NEW);
        let mirror = rules(setup(&forge), |packages| {
            packages.allow = texts(allow);
            packages.deny = texts(deny);
        });
        let mirror = mirror.start().await;
        for (name, is_served) in [OLD, NEW].into_iter().zip(served) {
            for rest in ["zipball/v1.0.0", "releases", "releases/latest"] {
                let got = mirror.get(&format!("/{name}/{rest}")).await;
                assert_eq!(got.status, if is_served { 200 } else { 403 }, "{allow:?} {deny:?}: {name}/{rest}");
            }
        }
    }
}

#[tokio::test]
async fn a_repository_that_is_renamed_into_a_denied_name_is_refused_within_a_day_stored_or_not() {
    let forge = forge().await;
    let mirror = rules(setup(&forge), |packages| packages.deny = texts(&["serverless-devs/*"])).start().await;
    assert_eq!(zip(&mirror, OLD, "v1.0.0").await.status, 200);
    forge.repo(OLD).renamed_to(NEW);
    mirror.clock.advance(secs(86_401));
    zip(&mirror, OLD, "v1.0.0").await;
    crate::eventually::eventually("the new name is known", async || {
        mirror.clock.advance(secs(2));
        zip(&mirror, OLD, "v1.0.0").await.status == 403
    })
    .await;
}

#[tokio::test]
async fn private_repositories_are_allowed_only_under_both_names() {
    for (patterns, status) in
        [(&["devsapp/*"][..], 404), (&["serverless-devs/*"], 404), (&["devsapp/*", "serverless-devs/*"], 200)]
    {
        let forge = forge().await;
        forge.repo(OLD).private().renamed_to(NEW);
        let mirror = rules(setup(&forge).token("github", "T0KEN"), |packages| packages.private_allow = texts(patterns));
        assert_eq!(zip(&mirror.start().await, OLD, "v1.0.0").await.status, status, "{patterns:?}");
    }
}

#[tokio::test]
async fn a_name_that_was_taken_over_is_served_no_new_version_until_an_operator_accepts_it() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).token("github", "T0KEN").start_in(dir.path()).await;
    let served = zip(&mirror, OLD, "v1.0.0").await;
    assert_eq!(served.status, 200);
    // The owner renames the repository, and another one takes the old name.
    forge.repo(OLD).remove();
    forge.repo(OLD).release("v1.0.0", |r| r.file("a", "evil")).release("v9.0.0", |r| r.file("a", "evil"));
    mirror.clock.advance(secs(86_401));
    assert_eq!(zip(&mirror, OLD, "v1.0.0").await.sha256(), served.sha256(), "what was served before is served");
    for version in ["v9.0.0", "9.0.0", "main", "v1.1.0"] {
        let got = zip(&mirror, OLD, version).await;
        assert_eq!(got.status, 403, "{version}: {:?}", got.body);
        let json = got.json();
        let message = json["message"].as_str().expect("a message");
        assert_eq!(json["code"], "repository-replaced", "{message}");
        assert!(message.contains("srm-mirror cache rm 'github:devsapp/fc3' --forget"), "{message}");
    }
    let latest = mirror.get("/devsapp/fc3/releases/latest").await;
    assert_eq!((latest.status, latest.json()["code"].as_str()), (403, Some("repository-replaced")));
    let list = mirror.get("/devsapp/fc3/releases").await.json();
    let tags: Vec<_> = list.as_array().expect("a list").iter().map(|release| release["tag_name"].clone()).collect();
    assert_eq!(tags, ["v1.0.0"]);

    mirror.admin(dir.path(), "rm", serde_json::json!({"pattern": "github:devsapp/fc3", "forget": true})).await;
    mirror.clock.advance(secs(301));
    assert_eq!(zip(&mirror, OLD, "v9.0.0").await.sha256(), forge.sha256(OLD, "v9.0.0"), "accepted");
    assert_eq!(zip(&mirror, OLD, "v1.0.0").await.sha256(), forge.sha256(OLD, "v1.0.0"));
}

#[tokio::test]
async fn a_renamed_repository_is_the_same_one() {
    let forge = forge().await;
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    assert_eq!(zip(&mirror, OLD, "v1.0.0").await.status, 200);
    forge.repo(OLD).renamed_to(NEW);
    mirror.clock.advance(secs(86_401));
    assert_eq!(zip(&mirror, OLD, "v1.1.0").await.status, 200);
}

#[tokio::test]
async fn a_private_package_and_one_that_does_not_exist_are_answered_alike() {
    let forge = forge().await;
    forge.repo("acme/secret").release("v1.0.0", |r| r).private();
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    for rest in ["releases", "releases/latest", "releases/tags/v1.0.0", "zipball/v1.0.0", "zipball/main", "metadata"] {
        for prefix in ["", "/repos", "/simple/github", "/github"] {
            for round in 0..2 {
                let private = mirror.get(&format!("{prefix}/acme/secret/{rest}")).await;
                let absent = mirror.get(&format!("{prefix}/acme/absent/{rest}")).await;
                assert_eq!((private.status, absent.status), (404, 404), "{prefix}/{rest}");
                let told = |got: &TestResponse| {
                    let mut headers: Vec<_> =
                        got.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
                    headers.retain(|line| !line.starts_with("x-request-id") && !line.starts_with("date"));
                    let id = got.header("x-request-id");
                    let body = String::from_utf8_lossy(&got.body).replace("secret", "absent").replace(id, "ID");
                    (headers, body)
                };
                assert_eq!(told(&private), told(&absent), "{prefix}/{rest}, round {round}");
                mirror.clock.advance(secs(31));
            }
        }
    }
}

#[tokio::test]
async fn what_only_the_token_can_read_is_for_no_shared_cache() {
    let forge = forge().await;
    forge.repo("acme/secret").release("v1.0.0", |r| r).private();
    let serving = rules(setup(&forge).token("github", "T0KEN"), |packages| packages.private = Private::Serve);
    let mirror = serving.start().await;
    for (path, expected) in [
        ("/acme/secret/zipball/v1.0.0", "private, max-age=31536000, immutable"),
        ("/acme/secret/zipball/main", "private, max-age=60"),
        ("/acme/secret/releases", "private, max-age=60"),
        ("/acme/secret/flat/v1.0.0", "private, max-age=31536000, immutable"),
    ] {
        for _ in 0..3 {
            assert_eq!(mirror.get(path).await.header("cache-control"), expected, "{path}");
        }
    }
    let refusing = setup(&forge).token("github", "T0KEN").start().await;
    let public = refusing.get("/devsapp/fc3/zipball/v1.0.0").await;
    assert_eq!(public.header("cache-control"), "public, max-age=31536000, immutable", "its repository is public");
}

#[tokio::test]
async fn the_present_name_costs_one_request_a_day_and_only_where_there_are_rules() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(zip(&mirror, OLD, "v1.0.0").await.status, 200);
    let looks = || forge.count(|seen| seen.route() == Route::GithubApi && seen.path() == "/repos/devsapp/fc3");
    assert_eq!(looks(), 0);
    let mirror = rules(setup(&forge), |packages| packages.deny = texts(&["evil/*"])).start().await;
    for _ in 0..5 {
        assert_eq!(zip(&mirror, OLD, "v1.0.0").await.status, 200);
        mirror.clock.advance(secs(3600));
    }
    assert_eq!(looks(), 1);
    // Without an answer, the name of the request alone counts.
    forge.fault(Match::path("/repos/devsapp/fc3"), crate::forge::Fault::status(502, &[], "")).always();
    let mirror = rules(setup(&forge), |packages| packages.deny = texts(&["evil/*"])).start().await;
    assert_eq!(zip(&mirror, OLD, "v1.0.0").await.status, 200);
}
