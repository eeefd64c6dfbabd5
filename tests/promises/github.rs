//! GitHub from end to end: all pages, no drafts, upstream order, and GitHub's own `latest`.

use serde_json::Value;

use crate::{
    forge::{Fault, Forge, Match},
    mirror::{TestResponse, setup},
};

fn tags(got: &TestResponse) -> Vec<String> {
    let list = got.json();
    let tag = |release: &Value| release["tag_name"].as_str().expect("text").to_owned();
    list.as_array().expect("a list").iter().map(tag).collect()
}

#[tokio::test]
async fn all_pages_are_one_list_in_upstream_order() {
    let forge = Forge::start().await;
    let mut repo = forge.repo("devsapp/many");
    for n in 0..250 {
        repo = repo.release(&format!("v0.{n}.0"), |r| r);
    }
    let mirror = setup(&forge).start().await;
    let all = mirror.get("/devsapp/many/releases").await;
    let wanted: Vec<String> = (0..250).rev().map(|n| format!("v0.{n}.0")).collect();
    assert_eq!(tags(&all), wanted);
    assert_eq!(forge.requests().len(), 3, "three pages of a hundred");

    for root in ["/devsapp/many", "/repos/devsapp/many", "/api/v3/repos/devsapp/many"] {
        let page = mirror.get(&format!("{root}/releases?per_page=100&page=2")).await;
        assert_eq!(tags(&page), wanted[100..200], "{root}");
        let link = |rel: &str, n: u32| {
            format!("<{}>; rel=\"{rel}\"", mirror.url(&format!("{root}/releases?per_page=100&page={n}")))
        };
        assert_eq!(
            page.header("link"),
            [link("prev", 1), link("next", 3), link("last", 3), link("first", 1)].join(", ")
        );
        assert_eq!(mirror.get(&format!("{root}/releases?page=10")).await.json(), serde_json::json!([]));
        assert_eq!(tags(&mirror.get(&format!("{root}/releases?page=1")).await).len(), 30);
    }
    assert_eq!(forge.requests().len(), 3);

    // Page one stands for the whole list until the hourly walk over all pages.
    mirror.clock.advance(std::time::Duration::from_secs(1200));
    let again = mirror.get("/devsapp/many/releases").await;
    assert_eq!(again.cache_status(), "srm-mirror; fwd=stale; fwd-status=304");
    assert_eq!((tags(&again), forge.requests().len()), (wanted, 4));
}

#[tokio::test]
async fn drafts_are_dropped_prereleases_are_listed_and_nulls_are_replaced() {
    let forge = Forge::start().await;
    forge.accept_token("T0KEN");
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.no_body().no_name().created_at("2021-01-04T07:41:23Z"))
        .release("v1.1.0", |r| r.draft())
        .release("v2.0.0-rc.1", |r| r.prerelease());
    // Only a token with push rights is sent drafts.
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    for root in ["/devsapp/fc3", "/repos/devsapp/fc3", "/github/devsapp/fc3"] {
        let list = mirror.get(&format!("{root}/releases")).await;
        assert_eq!(tags(&list), ["v2.0.0-rc.1", "v1.0.0"], "{root}");
        let rc = &list.json()[0];
        let old = &list.json()[1];
        assert_eq!((&rc["prerelease"], &old["body"], &old["name"]), (&true.into(), &"".into(), &Value::Null), "{root}");
        assert_eq!(old["created_at"], "2021-01-04T07:41:23Z");
        assert_eq!(mirror.get(&format!("{root}/releases/latest")).await.json()["tag_name"], "v1.0.0");
        assert_eq!(mirror.get(&format!("{root}/releases/tags/v1.1.0")).await.status, 404, "a draft");
    }
}

#[tokio::test]
async fn latest_is_fetched_and_not_computed() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v2.0.0", |r| r).release("v3.0.0", |r| r).make_latest("v2.0.0");
    let mirror = setup(&forge).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases/latest").await.json()["tag_name"], "v2.0.0");
    assert_eq!(forge.count(|seen| seen.path() == "/repos/devsapp/fc3/releases/latest"), 1);
    assert_eq!(forge.requests().len(), 1, "the list is another document");
    assert_eq!(tags(&mirror.get("/devsapp/fc3/releases").await), ["v3.0.0", "v2.0.0"]);
}

#[tokio::test]
async fn a_missing_release_and_a_missing_repository_are_distinguished() {
    let forge = Forge::start().await;
    forge.repo("devsapp/empty");
    forge.repo("devsapp/rc").release("v1.0.0-rc", |r| r.prerelease());
    let mirror = setup(&forge).start().await;
    let message = async |path: &str| {
        let got = mirror.get(path).await;
        (got.status, got.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    for name in ["devsapp/empty", "devsapp/rc"] {
        let hint = "a git tag of it can be fetched by its name, as …/zipball/{tag} or as version {tag}";
        let expected = format!("{name} on github has no release; {hint}");
        assert_eq!(message(&format!("/{name}/releases/latest")).await, (404, expected));
    }
    assert_eq!(mirror.get("/devsapp/empty/releases").await.json(), serde_json::json!([]));
    let none = (404, "there is no package devsapp/none on github, or this mirror may not see it".to_owned());
    for rest in ["releases", "releases/latest", "releases/tags/v1", "zipball/v1", "metadata", "metadata/v1"] {
        assert_eq!(message(&format!("/devsapp/none/{rest}")).await, none, "{rest}");
    }
    let missing = message("/devsapp/rc/releases/tags/v9").await;
    assert_eq!(missing, (404, "devsapp/rc on github has no release v9".into()));
}

/// PyGithub raises `UnknownObjectException` for exactly this message; octokit and gh print `errors`.
#[tokio::test]
async fn a_404_of_the_github_dialect_has_githubs_message_and_ours() {
    let forge = Forge::start().await;
    forge.repo("devsapp/rc").release("v1.0.0-rc", |r| r.prerelease());
    let mirror = setup(&forge).start().await;
    let none = "there is no package devsapp/none on github, or this mirror may not see it";
    for (path, why) in [
        ("/repos/devsapp/none", none),
        ("/api/v3/repos/devsapp/none/releases/latest", none),
        ("/repos/devsapp/rc/releases/tags/v9", "devsapp/rc on github has no release v9"),
    ] {
        let got = mirror.get(path).await;
        let errors = [serde_json::json!({ "message": why })];
        let id = got.header("x-request-id");
        let wanted = serde_json::json!({"message": "Not Found", "errors": errors, "status": "404", "request_id": id});
        assert_eq!((got.status, got.json()), (404, wanted), "{path}");
    }
}

#[tokio::test]
async fn aliases_plain_names_and_upstream_prefixes_resolve_to_their_packages() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge.repo("Serverless-Devs/core").release("v2.0.0", |r| r);
    forge.repo("simple/thing").release("v3.0.0", |r| r);
    forge.gitee_repo("devsapp/start").release("v4.0.0", |r| r);
    let mirror = setup(&forge)
        .with(|config| {
            config.names.default_owner = Some("devsapp".into());
            for (key, value) in
                [("short", "devsapp/fc3"), ("devsapp/core", "Serverless-Devs/core"), ("cn", "gitee:devsapp/start")]
            {
                config.names.aliases.insert(key.into(), value.into());
            }
        })
        .start()
        .await;
    for (path, tag, zip) in [
        ("/short/releases/latest", "v1.0.0", "/devsapp/fc3/zipball/v1.0.0"),
        ("/SHORT/releases/latest", "v1.0.0", "/devsapp/fc3/zipball/v1.0.0"),
        ("/fc3/releases/latest", "v1.0.0", "/devsapp/fc3/zipball/v1.0.0"),
        ("/github/devsapp/fc3/releases/latest", "v1.0.0", "/devsapp/fc3/zipball/v1.0.0"),
        ("/devsapp/core/releases/latest", "v2.0.0", "/Serverless-Devs/core/zipball/v2.0.0"),
        ("/core/releases/latest", "v2.0.0", "/Serverless-Devs/core/zipball/v2.0.0"),
        ("/simple/devsapp/core/releases/latest", "v2.0.0", "/simple/github/Serverless-Devs/core/zipball/v2.0.0"),
        ("/github/simple/thing/releases/latest", "v3.0.0", "/github/simple/thing/zipball/v3.0.0"),
        ("/cn/releases/latest", "v4.0.0", "/gitee/devsapp/start/zipball/v4.0.0"),
        ("/gitee/devsapp/start/releases/latest", "v4.0.0", "/gitee/devsapp/start/zipball/v4.0.0"),
        ("//devsapp/fc3/releases/latest", "v1.0.0", "/devsapp/fc3/zipball/v1.0.0"),
    ] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        let value = got.json();
        let value = value.get("Response").unwrap_or(&value);
        assert_eq!((&value["tag_name"], &value["zipball_url"]), (&tag.into(), &mirror.url(zip).into()), "{path}");
        let address = value["zipball_url"].as_str().expect("text").trim_start_matches(&mirror.url("")).to_owned();
        assert_eq!(mirror.get(&address).await.status, 200, "{address} leads to the zip");
    }
}

#[tokio::test]
async fn a_release_is_found_with_and_without_its_leading_v() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("2.0.0", |r| r).release("a/b", |r| r);
    let mirror = setup(&forge).start().await;
    for (asked, tag) in [
        ("v1.0.0", "v1.0.0"),
        ("1.0.0", "v1.0.0"),
        ("2.0.0", "2.0.0"),
        ("v2.0.0", "2.0.0"),
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
    ] {
        for root in ["/devsapp/fc3", "/repos/devsapp/fc3"] {
            assert_eq!(
                mirror.get(&format!("{root}/releases/tags/{asked}")).await.json()["tag_name"],
                tag,
                "{root} {asked}"
            );
        }
    }
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/V1.0.0").await.status, 404, "tags are case-sensitive");
    assert_eq!(
        mirror.get("/DEVSAPP/FC3/releases/tags/v1.0.0").await.status,
        200,
        "package names are not case-sensitive"
    );
    assert_eq!(forge.requests().len(), 1);
}

#[tokio::test]
async fn metadata_of_a_version_reads_its_zip_and_the_metadata_list_fetches_none() {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| {
            r.publish_yaml("Type: Component\nName: fc3-component\nVersion: 1.0.0\n")
                .published_at("2021-01-04T07:41:23Z")
                .body("Notes")
        })
        .release("v1.1.0", |r| r.publish_yaml("Type: Project\nName: other\n"));
    let mirror = setup(&forge).start().await;
    let list = mirror.get("/devsapp/fc3/metadata").await.json();
    assert_eq!(
        (&list[1]["Type"], &list[1]["Name"], &list[1]["Version"]),
        (&Value::Null, &"fc3".into(), &"1.0.0".into())
    );
    assert_eq!(forge.requests().len(), 1, "a list fetches no zips");
    let wanted = serde_json::json!({"Name": "fc3-component", "Type": "Component", "Version": "1.0.0",
        "PublishTime": 1_609_746_083, "VersionBody": "Notes"});
    let record = async |version: &str| {
        let mut record = mirror.get(&format!("/devsapp/fc3/metadata/{version}")).await.json();
        let provenance = record.as_object_mut().and_then(|record| record.remove("Provenance"));
        assert_eq!(provenance.expect("a provenance")["Upstream"], "github");
        record
    };
    assert_eq!(record("1.0.0").await, wanted);
    assert_eq!(forge.requests().len(), 3, "an unknown version fetches its zip");
    assert_eq!(record("v1.0.0").await, wanted);
    assert_eq!(mirror.get("/devsapp/fc3/metadata").await.json()[1], wanted);
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    assert_eq!(forge.requests().len(), 3);
    assert_eq!(mirror.get("/devsapp/fc3/metadata/9.0.0").await.status, 404);
}

#[tokio::test]
async fn a_changed_default_branch_is_visible_within_minutes() {
    let forge = Forge::start().await;
    forge.accept_token("T0KEN");
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    let branch = async || {
        mirror.get("/repos/devsapp/fc3").await.json()["default_branch"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(branch().await, "main");
    forge.repo("devsapp/fc3").default_branch("trunk");
    mirror.clock.advance(std::time::Duration::from_secs(700));
    assert_eq!(branch().await, "trunk", "the visibility check may be a day old, the default branch may not");
    assert_eq!(mirror.get("/repos/devsapp/fc3/zipball/trunk").await.status, 200);
}

#[tokio::test]
async fn an_invalid_later_page_does_not_truncate_the_list() {
    let forge = Forge::start().await;
    let mut repo = forge.repo("devsapp/many");
    for n in 0..150 {
        repo = repo.release(&format!("v0.{n}.0"), |r| r);
    }
    let mirror = setup(&forge).start().await;
    forge.fault(Match::path_contains("page=2"), Fault::Html200);
    assert_eq!(mirror.get("/devsapp/many/releases").await.status, 502);
    mirror.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(tags(&mirror.get("/devsapp/many/releases").await).len(), 150);
}
