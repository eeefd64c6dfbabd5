//! The host names that the mirror accepts, and the addresses it builds from them.

use srm_mirror::config::Config;

use crate::{
    answer_text::golden,
    forge::Forge,
    mirror::{Mirror, TestResponse, setup},
};

const LATEST: &str = "/v3/packages/devsapp__fc3/release/latest";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", "1"));
    forge
}

async fn with(forge: &Forge, change: impl FnOnce(&mut Config)) -> Mirror {
    setup(forge).with(change).start().await
}

fn proxies(list: &[&str]) -> Vec<srm_mirror::value::Network> {
    list.iter().map(|text| text.parse().expect("a network")).collect()
}

/// The scheme and authority of the release's zip.
fn base(got: &TestResponse) -> String {
    let url = got.json()["body"]["zipball_url"].as_str().expect("a text").to_owned();
    url.strip_suffix("/v3/packages/github__devsapp__fc3/zipball/v1.0.0").expect("the zip's path").to_owned()
}

#[tokio::test]
async fn every_dialect_is_answered_under_any_host_name_by_default() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    for (host, path, zip) in [
        ("registry.devsapp.cn", "/simple/devsapp/fc3/releases/latest", "/simple/github/devsapp/fc3/"),
        ("api.devsapp.cn", LATEST, "/v3/packages/github__devsapp__fc3/"),
        ("api.github.com", "/repos/devsapp/fc3/releases/latest", "/devsapp/fc3/"),
        ("ghe.example:8443", "/api/v3/repos/devsapp/fc3/releases/latest", "/devsapp/fc3/"),
        ("github.com", "/devsapp/fc3/releases/latest", "/devsapp/fc3/"),
    ] {
        let got = mirror.get_with(path, &[("host", host)]).await;
        let text = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!(got.status, 200, "{text}");
        assert!(text.contains(&format!("\"http://{host}{zip}")), "{text}");
    }
}

#[tokio::test]
async fn public_url_takes_precedence_over_every_host_name() {
    let forge = forge().await;
    let public = Some("https://mirror.example/srm".parse().expect("an address"));
    let mirror = with(&forge, |config| {
        config.server.public_url = public;
        config.server.trusted_proxies = proxies(&["127.0.0.1"]);
    })
    .await;
    let headers = [("host", "other"), ("x-forwarded-host", "third"), ("x-forwarded-proto", "http")];
    for _ in 0..2 {
        assert_eq!(base(&mirror.get_with(LATEST, &headers).await), "https://mirror.example/srm");
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_sets_the_forwarded_host() {
    let forge = forge().await;
    let headers = [("host", "inner"), ("x-forwarded-host", "mirror.example"), ("x-forwarded-proto", "https")];
    for (list, expected) in [
        (&["127.0.0.1"][..], "https://mirror.example"),
        (&["10.0.0.0/8", "127.0.0.0/8"], "https://mirror.example"),
        (&["10.0.0.0/8", "::1"], "http://inner"),
        (&[], "http://inner"),
    ] {
        let mirror = with(&forge, |config| config.server.trusted_proxies = proxies(list)).await;
        assert_eq!(base(&mirror.get_with(LATEST, &headers).await), expected, "{list:?}");
    }
}

#[tokio::test]
async fn an_unknown_host_name_is_421_where_names_are_configured() {
    let forge = forge().await;
    let mirror = with(&forge, |config| {
        config.server.known_hosts = vec!["api.devsapp.cn".into(), "*.mirror.example".into()];
    })
    .await;
    for host in ["api.devsapp.cn", "API.devsapp.cn:8080", "a.mirror.example"] {
        let got = mirror.get_with(LATEST, &[("host", host)]).await;
        assert_eq!((got.status, base(&got)), (200, format!("http://{host}")));
    }
    let asked = forge.requests().len();
    let evil = [("host", "evil.example")];
    for (name, path) in [
        ("v3", LATEST),
        ("simple", "/simple/devsapp/fc3/releases"),
        ("srm", "/devsapp/fc3/releases"),
        ("zip", "/devsapp/fc3/zipball/v1.0.0"),
        ("nowhere", "/nowhere"),
    ] {
        insta::assert_snapshot!(format!("misdirected_{name}"), golden(&mirror.get_with(path, &evil).await));
    }
    // A name that only a trusted proxy may set.
    let headers = [("host", "evil.example"), ("x-forwarded-host", "api.devsapp.cn")];
    assert_eq!(mirror.get_with(LATEST, &headers).await.status, 421);
    assert_eq!(forge.requests().len(), asked);
    // Health checks and scrapers use the IP address.
    assert_eq!(mirror.get_with("/healthz", &evil).await.status, 200);
    assert_eq!(mirror.get_with("/readyz", &evil).await.status, 200);
}

#[tokio::test]
async fn a_response_cached_for_one_host_name_is_not_sent_under_another() {
    let forge = forge().await;
    let mirror = with(&forge, |config| config.server.known_hosts = vec!["a.example".into(), "b.example".into()]).await;
    for _ in 0..2 {
        for host in ["a.example", "b.example", "a.example:8080"] {
            assert_eq!(base(&mirror.get_with(LATEST, &[("host", host)]).await), format!("http://{host}"));
        }
    }
}
