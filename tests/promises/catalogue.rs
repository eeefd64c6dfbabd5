//! The catalog of a registry: fetched whole and rarely, filtered and paged here, merged with what is stored.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    answer_text::golden,
    eventually::eventually,
    forge::{Fault, Forge, Host, Match, Route, TypeNames},
    mirror::{Mirror, Setup, TestResponse, setup},
};

const LIST: &str = "/v3/packages/releases?page=-1";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let registry = forge.registry();
    drop(registry.component("fc3").version("0.1.21").version("0.1.22").about(|about| {
        about.description = "函数 Compute, third edition".into();
        about.tags = vec!["FC".into(), "http".into()];
        about.downloads = 42;
        about.organisation = Some("Serverless".into());
    }));
    drop(registry.plugin("dingtalk").version("1.0.0").about(|about| about.category = Some("监控告警".into())));
    drop(registry.application("start-web").version("2.0.0").about(|about| about.providers = vec!["AWS".into()]));
    forge
}

fn body(got: &TestResponse) -> Value {
    assert_eq!(got.status, 200, "{:?}", got.body);
    got.json()["body"].clone()
}

fn names_of(list: &Value) -> Vec<String> {
    let rows = list.as_array().unwrap_or_else(|| panic!("no array: {list}"));
    rows.iter().map(|row| row["name"].as_str().expect("a text").to_owned()).collect()
}

async fn listed(mirror: &Mirror, query: &str) -> Vec<String> {
    names_of(&body(&mirror.get(&format!("/v3/packages/releases{query}")).await))
}

fn catalog_requests(forge: &Forge) -> usize {
    forge.count_of(Route::V3Catalog)
}

fn quick(setup: Setup) -> Setup {
    setup.with(|config| {
        for section in config.upstreams.values_mut() {
            section.response_timeout = srm_mirror::value::Period(Duration::from_millis(300));
        }
    })
}

#[tokio::test]
async fn one_request_without_any_term_serves_every_list_search_filter_and_menu() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get_with("/v3/packages/releases?search=SECRETTERM", &[("token", "CLIENTTOKEN")]).await;
    assert_eq!((body(&first), first.cache_status()), (json!([]), "srm-mirror; fwd=uri-miss; fwd-status=200; stored"));
    for query in
        ["?page=1", "?search=compute", "?category=SECRETTERM", "?provider=SECRETTERM", "?tag=SECRETTERM", "?page=-1"]
    {
        listed(&mirror, query).await;
    }
    assert_eq!(
        body(&mirror.get("/v3/common/categories").await),
        json!([{"id": "基础云服务", "name": "基础云服务"}, {"id": "监控告警", "name": "监控告警"}])
    );
    let providers = json!([{"id": "AWS", "name": "AWS"}, {"id": "阿里云", "name": "阿里云"}]);
    assert_eq!(body(&mirror.get("/v3/common/providers").await), providers);
    let hit = mirror.get(LIST).await;
    assert!(hit.cache_status().starts_with("srm-mirror; hit; ttl="), "{}", hit.cache_status());

    let seen = forge.requests();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].path_and_query, "/v3/packages/releases?page=-1");
    let text = format!("{seen:?}");
    assert!(!text.contains("SECRETTERM") && !text.contains("CLIENTTOKEN"), "{text}");
    insta::assert_snapshot!("catalogue_list", golden(&hit));
}

#[tokio::test]
async fn filters_compare_names_without_case_and_all_of_them_hold() {
    let forge = forge().await;
    for type_names in [TypeNames::Words, TypeNames::Numbers] {
        forge.registry().options(|options| options.type_names = type_names);
        let mirror = Mirror::over(&forge).await;
        for (query, expected) in [
            ("", &["dingtalk", "fc3", "start-web"][..]),
            ("?type=1", &["fc3"]),
            ("?type=2", &["dingtalk"]),
            ("?type=3", &["start-web"]),
            ("?type=Project", &["start-web"]),
            ("?type=application&platform=3&lang=en", &["start-web"]),
            ("?search=THIRD", &["fc3"]),
            ("?search=%E5%87%BD%E6%95%B0", &["fc3"]),
            ("?search=start", &["start-web"]),
            ("?category=%E7%9B%91%E6%8E%A7%E5%91%8A%E8%AD%A6", &["dingtalk"]),
            ("?tag=fc", &["fc3"]),
            ("?provider=aws", &["start-web"]),
            ("?provider=aws&type=1", &[]),
            ("?tag=f", &[]),
        ] {
            assert_eq!(listed(&mirror, query).await, expected, "{query}");
        }
        let rows = body(&mirror.get(LIST).await);
        let types: Vec<_> = rows.as_array().expect("rows").iter().map(|row| row["type"].as_str()).collect();
        assert_eq!(types, [Some("Plugin"), Some("Component"), Some("Project")], "the registry's words");
    }
}

#[tokio::test]
async fn a_page_has_twenty_rows_and_minus_one_is_every_row() {
    let forge = Forge::start().await;
    for number in 0..45 {
        drop(forge.registry().component(&format!("c{number:02}")).version("1.0.0"));
    }
    let mirror = Mirror::over(&forge).await;
    let all = listed(&mirror, "?page=-1").await;
    assert_eq!(all.len(), 45);
    let mut paged = Vec::new();
    for page in 1..=3 {
        paged.extend(listed(&mirror, &format!("?page={page}&platform=3")).await);
        assert_eq!(paged.len(), [20, 40, 45][page - 1]);
    }
    assert_eq!(paged, all);
    assert_eq!(listed(&mirror, "?page=4").await, [""; 0]);
    assert_eq!(listed(&mirror, "?page=-1&search=c0").await.len(), 10);
    assert_eq!(catalog_requests(&forge), 1);
}

#[tokio::test]
async fn concurrent_lists_share_one_fetch() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let gate = forge.gate_head(Match::route(Route::V3Catalog));
    let lists = futures_util::future::join_all((0..20).map(|_| listed(&mirror, "?page=-1")));
    let open = async {
        gate.reached().await;
        gate.open();
    };
    let (lists, ()) = tokio::join!(lists, open);
    assert!(lists.iter().all(|list| list.len() == 3), "{lists:?}");
    assert_eq!(catalog_requests(&forge), 1);
}

#[tokio::test]
async fn after_five_minutes_the_old_list_is_served_while_a_new_one_is_fetched() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(listed(&mirror, "?page=-1").await.len(), 3);
    drop(forge.registry().component("new").version("1.0.0"));
    mirror.clock.advance(Duration::from_secs(295));
    assert_eq!(listed(&mirror, "?page=-1").await.len(), 3);
    assert_eq!(catalog_requests(&forge), 1, "fresh for five minutes");
    mirror.clock.advance(Duration::from_secs(6));
    let stale = mirror.get(LIST).await;
    assert_eq!(names_of(&body(&stale)).len(), 3);
    assert!(stale.cache_status().ends_with("detail=stale-while-revalidate"), "{}", stale.cache_status());
    assert!(stale.header("age").parse::<u64>().expect("a number") >= 300, "{}", stale.header("age"));
    eventually("the new package is listed", async || listed(&mirror, "?page=-1").await.len() == 4).await;
    assert_eq!(catalog_requests(&forge), 2);
}

#[tokio::test]
async fn while_the_fetch_fails_the_list_is_what_is_stored_and_the_registry_is_left_alone() {
    let failures = [
        ("unreachable", Fault::Refuse),
        ("error", Fault::status(500, &[], "SECRET")),
        ("sentence", Fault::v3_error(200, "SECRET")),
        ("html", Fault::Html200),
        ("silent", Fault::HeadStall),
        ("cut", Fault::CutAfter(20)),
    ];
    for (name, fault) in failures {
        let forge = forge().await;
        let mirror = quick(setup(&forge)).start().await;
        assert_eq!(mirror.get("/v3/packages/fc3/zipball/0.1.22").await.status, 200);
        let broken = forge.fault(Match::route(Route::V3Catalog), fault).always();
        let got = mirror.get(LIST).await;
        assert_eq!(names_of(&body(&got)), ["fc3"], "{name}");
        assert!(got.cache_status().ends_with("detail=stored-packages-only"), "{name}: {}", got.cache_status());
        // A connection that breaks before the response is tried again, once.
        let asked = broken.hits();
        assert!(asked <= 2, "{name}: {asked}");
        for _ in 0..3 {
            assert_eq!(listed(&mirror, "").await, ["fc3"], "{name}");
        }
        assert_eq!(broken.hits(), asked, "{name}: no further request within the pause");
        broken.release();
        broken.remove();
        mirror.clock.advance(Duration::from_secs(11));
        assert_eq!(listed(&mirror, "").await, ["dingtalk", "fc3", "start-web"], "{name}");
    }
}

#[tokio::test]
async fn a_list_that_was_fetched_once_is_served_while_the_registry_is_down() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(listed(&mirror, "").await.len(), 3);
    forge.down_host(Host::V3).await;
    mirror.clock.advance(Duration::from_secs(86_400));
    let stale = mirror.get(LIST).await;
    assert_eq!(names_of(&body(&stale)), ["dingtalk", "fc3", "start-web"]);
    assert!(stale.cache_status().ends_with("detail=stale-if-error"), "{}", stale.cache_status());
    assert!(stale.header("age").parse::<u64>().expect("a number") >= 86_400);
}

#[tokio::test]
async fn a_slow_fetch_goes_on_after_the_answer_and_its_list_is_used() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/v3/packages/fc3/zipball/0.1.22").await.status, 200);
    let gate = forge.gate_head(Match::route(Route::V3Catalog));
    let got = mirror.get(LIST).await;
    assert_eq!(names_of(&body(&got)), ["fc3"], "answered although the registry has said nothing yet");
    assert_eq!(got.cache_status(), "srm-mirror; fwd=uri-miss; detail=stored-packages-only");
    gate.open();
    eventually("the list is complete", async || listed(&mirror, "?page=-1").await.len() == 3).await;
    assert_eq!(catalog_requests(&forge), 1);
}

#[tokio::test]
async fn a_name_appears_once_and_leads_to_the_package_of_its_row() {
    let forge = forge().await;
    drop(forge.registry().component("FC3").version("9.0.0"));
    forge.repo("acme/tool").release("2.0.0", |spec| spec.publish_yaml("Type: Component\nDescription: a tool\n"));
    let with_alias = setup(&forge).with(|config| {
        config.names.aliases.insert("start-web".into(), "acme/tool".into());
    });
    let mirror = with_alias.start().await;
    for path in ["/v3/packages/fc3/zipball/0.1.22", "/fc3/zipball/0.1.21", "/acme/tool/zipball/2.0.0"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    let rows = body(&mirror.get(LIST).await);
    // Names of registries compare with case; the alias has taken the name of an official package.
    assert_eq!(names_of(&rows), ["FC3", "dingtalk", "fc3", "start-web"]);
    assert_eq!(rows[3]["description"], "a tool");
    for name in names_of(&rows) {
        let latest = body(&mirror.get(&format!("/v3/packages/{name}/release/latest")).await);
        let expected = match name.as_str() {
            "FC3" => "9.0.0",
            "fc3" => "0.1.22",
            "dingtalk" => "1.0.0",
            _ => "2.0.0",
        };
        assert_eq!(latest["tag_name"], expected, "{name}");
    }
}

#[tokio::test]
async fn packages_that_may_not_be_served_are_not_listed_and_not_asked_for() {
    let forge = forge().await;
    let official = |allow: &'static [&'static str], deny: &'static [&'static str]| {
        setup(&forge).with(move |config| {
            config.names.official = Some(true);
            config.packages.allow = allow.iter().map(|&text| text.to_owned()).collect();
            config.packages.deny = deny.iter().map(|&text| text.to_owned()).collect();
        })
    };
    for (allow, deny, expected, asked) in [
        (&[][..], &["FC*"][..], &["dingtalk", "start-web"][..], 1),
        (&[], &["official:fc3"], &["dingtalk", "start-web"], 1),
        (&["official:start-*"], &[], &["start-web"], 1),
        (&[], &["official:*"], &[], 0),
        (&["github:*"], &[], &[], 0),
    ] {
        forge.clear_log();
        let mirror = official(allow, deny).start().await;
        assert_eq!(listed(&mirror, "?page=-1").await, expected, "{allow:?} {deny:?}");
        assert_eq!(catalog_requests(&forge), asked, "{allow:?} {deny:?}");
    }
    // A private package is listed for no one but its owner, whom the mirror is not.
    drop(forge.registry().component("secret").version("1.0.0").make_private());
    let mirror = Mirror::over(&forge).await;
    assert!(!listed(&mirror, "?page=-1").await.contains(&"secret".to_owned()));
}

#[tokio::test]
async fn without_the_official_routes_only_stored_official_packages_are_listed() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.names.official = Some(false)).start().await;
    assert_eq!(listed(&mirror, "").await, [""; 0]);
    assert_eq!(mirror.get("/official/fc3/zipball/0.1.22").await.status, 200);
    mirror.clock.advance(Duration::from_secs(31));
    assert_eq!(listed(&mirror, "").await, ["official__fc3"]);
    let latest = body(&mirror.get("/v3/packages/official__fc3/release/latest").await);
    assert_eq!(latest["tag_name"], "0.1.22");
    assert_eq!(catalog_requests(&forge), 0);
}

#[tokio::test]
async fn an_offline_mirror_lists_what_is_stored_and_asks_nothing() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/v3/packages/fc3/zipball/0.1.22").await.status, 200);
    mirror.stop().await;
    forge.clear_log();
    let offline = setup(&forge).with(|config| config.mode = srm_mirror::cache::policy::UpstreamMode::Offline);
    let mirror = offline.start_in(dir.path()).await;
    assert_eq!(listed(&mirror, "").await, ["fc3"]);
    assert_eq!(forge.requests().len(), 0);
}

#[tokio::test]
async fn a_mirror_of_a_mirror_lists_what_its_parent_lists() {
    let forge = forge().await;
    forge.repo("acme/tool").release("2.0.0", |spec| spec);
    let parent = Mirror::over(&forge).await;
    assert_eq!(parent.get("/acme/tool/zipball/2.0.0").await.status, 200);
    assert_eq!(listed(&parent, "").await, ["acme__tool", "dingtalk", "fc3", "start-web"]);
    let api = parent.url("/v3");
    let child = setup(&forge).with(move |config| {
        let official = config.upstreams.get_mut("official").expect("a default upstream");
        official.api = api.parse().expect("an address");
    });
    let child = child.start().await;
    let rows = body(&child.get(LIST).await);
    assert_eq!(names_of(&rows), ["dingtalk", "fc3", "official__acme__tool", "start-web"]);
    let parents = body(&parent.get("/v3/packages/releases?search=fc3").await);
    assert_eq!(rows[1], parents[0], "nothing is lost on the way");
    let tool = body(&child.get("/v3/packages/official__acme__tool/release/latest").await);
    assert_eq!(tool["tag_name"], "2.0.0");
}

#[tokio::test]
async fn while_the_registry_limits_requests_the_list_is_what_is_stored_and_nothing_is_asked() {
    for status in [429, 403] {
        let forge = forge().await;
        let mirror = Mirror::over(&forge).await;
        assert_eq!(mirror.get("/v3/packages/fc3/zipball/0.1.22").await.status, 200);
        let limited = Fault::status(status, &[("retry-after", "120"), ("x-ratelimit-remaining", "0")], "{}");
        forge.fault(Match::route(Route::V3Catalog), limited).always();
        for _ in 0..3 {
            let got = mirror.get(LIST).await;
            assert_eq!(names_of(&body(&got)), ["fc3"], "{status}: what is stored");
            assert!(got.cache_status().ends_with("detail=stored-packages-only"), "{}", got.cache_status());
            mirror.clock.advance(Duration::from_secs(2));
        }
        assert_eq!(catalog_requests(&forge), 1, "{status}: within the pause");
        // A list that was fetched before is served in its place.
        forge.clear_faults();
        let mirror = Mirror::over(&forge).await;
        assert_eq!(listed(&mirror, "?page=-1").await.len(), 3);
        let limited = Fault::status(status, &[("retry-after", "120"), ("x-ratelimit-remaining", "0")], "{}");
        forge.fault(Match::route(Route::V3Catalog), limited).always();
        mirror.clock.advance(Duration::from_secs(86_400));
        for _ in 0..3 {
            let stale = mirror.get(LIST).await;
            assert_eq!(names_of(&body(&stale)), ["dingtalk", "fc3", "start-web"], "{status}");
            assert!(stale.cache_status().ends_with("detail=stale-if-error"), "{}", stale.cache_status());
            mirror.clock.advance(Duration::from_secs(2));
        }
        assert_eq!(catalog_requests(&forge), 3, "{status}: one request more for each mirror");
    }
}
