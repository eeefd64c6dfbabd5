//! A list that cannot be had, or not in full, takes away no version that the forge has.

use std::time::Duration;

use srm_mirror::value::ByteSize;

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Match},
    mirror::{Mirror, setup},
};

const NAME: &str = "devsapp/fc3";
const LIST: &str = "/repos/devsapp/fc3/releases";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.rate_limits(1000, 1000);
    forge.repo(NAME).release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    forge
}

/// Both versions have their zip and their JSON, in either spelling.
async fn versions_are_there(mirror: &Mirror, forge: &Forge, what: &str) {
    for version in ["v1.0.0", "v1.1.0"] {
        for asked in [version, version.trim_start_matches('v')] {
            let zip = mirror.get(&format!("/devsapp/fc3/zipball/{asked}")).await;
            assert_eq!((zip.status, zip.sha256()), (200, forge.sha256(NAME, version)), "{what}: {asked}");
            let json = mirror.get(&format!("/devsapp/fc3/releases/tags/{asked}")).await;
            assert_eq!((json.status, json.json()["tag_name"].as_str()), (200, Some(version)), "{what}: {asked}");
        }
    }
}

fn release(tag: &str, more: &str) -> String {
    format!(r#"{{"tag_name":"{tag}","created_at":"2023-01-01T00:00:00Z"{more}}}"#)
}

#[tokio::test]
async fn a_list_that_cannot_be_had_hides_no_tag() {
    for (what, fault) in [
        ("502", Fault::status(502, &[], "")),
        ("a page", Fault::Html200),
        ("cut", Fault::CutAfter(40)),
        ("no JSON", Fault::status(200, &JSON, "<<<")),
        ("one unreadable release", Fault::status(200, &JSON, r#"[{"id": 1}]"#)),
    ] {
        let forge = forge().await;
        forge.fault(Match::path(LIST), fault).always();
        let mirror = Mirror::over(&forge).await;
        versions_are_there(&mirror, &forge, what).await;
        assert_eq!(mirror.get("/devsapp/fc3/zipball/v9.9.9").await.status, 404, "{what}: the forge says so");
    }
}

#[tokio::test]
async fn a_list_over_the_limit_names_the_key_hides_no_version_and_is_not_fetched_again_for_a_minute() {
    let forge = forge().await;
    forge.repo(NAME).edit_release("v1.1.0", |r| r.body(&"long ".repeat(1000)));
    let small = setup(&forge).with(|config| {
        config.upstreams.get_mut("github").expect("github").document_limit = ByteSize(6000);
    });
    let mirror = small.start().await;
    let list = mirror.get("/devsapp/fc3/releases").await;
    let message = list.json()["message"].as_str().expect("a message").to_owned();
    assert_eq!(list.status, 502);
    assert!(message.contains("6000 bytes") && message.contains("upstreams.github.document_limit"), "{message}");
    forge.repo(NAME).edit_release("v1.1.0", |r| r.body("short"));
    let lists = || forge.count(|seen| seen.path() == LIST);
    mirror.clock.advance(Duration::from_secs(50));
    assert_eq!((mirror.get("/devsapp/fc3/releases").await.status, lists()), (502, 1));
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/v1.0.0").await.status, 200);
    mirror.clock.advance(Duration::from_secs(11));
    assert_eq!((mirror.get("/devsapp/fc3/releases").await.status, lists()), (200, 2));
}

#[tokio::test]
async fn a_release_that_cannot_be_read_is_asked_for_by_itself_beside_a_list_that_can() {
    let forge = forge().await;
    let list = format!("[{},{}]", release("v1.1.0", ""), r#"{"tag_name": "v1.0.0"}"#);
    forge.fault(Match::path(LIST), Fault::status(200, &JSON, list)).always();
    let mirror = Mirror::over(&forge).await;
    let shown = mirror.get("/devsapp/fc3/releases").await.json();
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["tag_name"]), (Some(1), &"v1.1.0".into()));
    versions_are_there(&mirror, &forge, "one of two").await;
}

#[tokio::test]
async fn json_that_is_not_quite_json_costs_that_field_and_never_the_release() {
    let forge = forge().await;
    let deep = format!(r#","deep":{}1{}"#, "[".repeat(300), "]".repeat(300));
    let mut list = b"[".to_vec();
    let entries = [
        release("v5", r#","body":"half \ud83d pair""#).into_bytes(),
        [release("v4", "").trim_end_matches('}').as_bytes(), b",\"body\":\"raw \x07 control\"}"].concat(),
        [release("v3", "").trim_end_matches('}').as_bytes(), b",\"body\":\"bad \xff byte\"}"].concat(),
        release("v2", &deep).into_bytes(),
        release("v1", r#","body":"good""#).into_bytes(),
    ];
    list.extend(entries.join(&b','));
    list.push(b']');
    forge.fault(Match::path(LIST), Fault::status(200, &JSON, list)).always();
    let mirror = Mirror::over(&forge).await;
    let shown = mirror.get("/devsapp/fc3/releases").await.json();
    let shown: Vec<_> =
        shown.as_array().expect("a list").iter().map(|r| (r["tag_name"].clone(), r["body"].clone())).collect();
    let expected = [
        ("v5", "half \u{fffd} pair"),
        ("v4", "raw \u{7} control"),
        ("v3", "bad \u{fffd} byte"),
        ("v2", ""),
        ("v1", "good"),
    ];
    assert_eq!(shown, expected.map(|(tag, body)| (tag.into(), body.into())));
}

#[tokio::test]
async fn a_release_beyond_page_one_is_found_at_once_and_the_list_is_walked_whole() {
    let forge = Forge::start().await;
    forge.rate_limits(1000, 1000);
    let mut repo = forge.repo(NAME);
    for n in 0..120 {
        repo = repo.release(&format!("v1.{n}.0"), |r| r.created_at("2023-01-01T00:00:00Z"));
    }
    let mirror = Mirror::over(&forge).await;
    let count = async || mirror.get("/devsapp/fc3/releases").await.json().as_array().map(Vec::len);
    assert_eq!(count().await, Some(120));
    // GitHub orders releases by the date of their commit: this one is on page two.
    forge.repo(NAME).release_last("v0.9.0", |r| r);
    mirror.clock.advance(Duration::from_secs(301));
    let json = mirror.get("/devsapp/fc3/releases/tags/v0.9.0").await;
    assert_eq!((json.status, json.json()["tag_name"].as_str()), (200, Some("v0.9.0")));
    eventually("the list has it", async || count().await == Some(121)).await;

    forge.repo(NAME).release_last("v0.8.0", |r| r);
    mirror.clock.advance(Duration::from_secs(301));
    let zip = mirror.get("/devsapp/fc3/zipball/v0.8.0").await;
    assert_eq!((zip.status, zip.sha256()), (200, forge.sha256(NAME, "v0.8.0")));
    eventually("the list has it", async || count().await == Some(122)).await;
}

#[tokio::test]
async fn a_latest_release_that_the_stored_list_lacks_makes_the_list_stale() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.json()[0]["tag_name"], "v1.1.0");
    forge.repo(NAME).release("v1.2.0", |r| r);
    assert_eq!(mirror.get("/devsapp/fc3/releases/latest").await.json()["tag_name"], "v1.2.0");
    eventually("the list has it", async || mirror.get("/devsapp/fc3/releases").await.json()[0]["tag_name"] == "v1.2.0")
        .await;
    let lists = || forge.count(|seen| seen.path() == LIST);
    let asked = lists();
    assert_eq!(mirror.get("/devsapp/fc3/releases/latest").await.status, 200);
    assert_eq!((lists(), asked), (2, 2), "once");
}
