//! Callers with tokens of an OpenID Connect provider: which tokens hold, what its keys and its failures change, and the
//! addresses of zips.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use srm_mirror::{
    access::{IssuerConfig, RuleConfig},
    config::Config,
};

use crate::{
    eventually::eventually,
    forge::Forge,
    issuer::{self, Answers, Provider, SigningKey},
    logs,
    mirror::{Mirror, Setup, TestResponse, setup},
};

const PACKAGE: &str = "/devsapp/fc3/releases/latest";
const TEAM: &str = "/acme/web/releases/latest";
const HOUR: Duration = Duration::from_secs(3600);

async fn forge() -> Forge {
    let forge = Forge::start().await;
    for name in ["devsapp/fc3", "acme/web"] {
        forge.repo(name).release("v1.0.0", |r| r.publish_yaml("Type: Component\nName: x\n").file("index.js", "1"));
    }
    forge
}

/// The issuer `corp`: `anna` may read `devsapp/*`, the group `dev` may read `acme/*`.
fn with_issuer(forge: &Forge, provider: &Provider) -> Setup {
    let table = IssuerConfig {
        name: "corp".into(),
        issuer: provider.url(),
        audience: "srm".into(),
        groups_claim: Some("groups".into()),
        ..IssuerConfig::default()
    };
    let rule = |packages: &str, read: &str| RuleConfig {
        packages: vec![packages.into()],
        read: vec![read.into()],
        ..RuleConfig::default()
    };
    let rules = vec![rule("devsapp/*", "oidc:corp:anna"), rule("acme/*", "group:corp:dev")];
    setup(forge).with(|config: &mut Config| {
        config.access.enabled = true;
        config.access.issuers = vec![table];
        config.access.rules = rules;
    })
}

/// The claims of a token of `anna` that ends after these seconds.
fn claims(mirror: &Mirror, provider: &Provider, seconds: i64) -> Value {
    let now = mirror.clock.now().as_second();
    json!({"iss": provider.url(), "sub": "anna", "aud": "srm", "iat": now, "exp": now + seconds, "groups": ["dev", "x"]})
}

async fn get(mirror: &Mirror, path: &str, token: &str) -> TestResponse {
    let value = format!("Bearer {token}");
    mirror.get_with(path, &[("authorization", value.as_str())]).await
}

async fn status(mirror: &Mirror, path: &str, token: &str) -> u16 {
    get(mirror, path, token).await.status
}

#[tokio::test]
async fn a_token_of_an_issuer_is_a_principal_with_the_groups_of_its_claim() {
    let _kept = logs::keep();
    let forge = forge().await;
    let provider = Provider::start().await;
    let mirror = with_issuer(&forge, &provider).start().await;
    let anna = SigningKey::First.sign(&claims(&mirror, &provider, 300));
    let with = |key: &str, value: Value| {
        let mut claims = claims(&mirror, &provider, 300);
        claims[key] = value;
        SigningKey::First.sign(&claims)
    };
    let other = with("sub", json!("otto"));
    let guest = with("groups", json!(["guests", "corp:dev"]));
    for (token, by_name, by_group) in [(&anna, 200, 200), (&other, 404, 200), (&guest, 200, 404)] {
        for _ in 0..2 {
            assert_eq!(
                (status(&mirror, PACKAGE, token).await, status(&mirror, TEAM, token).await),
                (by_name, by_group)
            );
        }
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("any:{anna}")));
    assert_eq!(mirror.get_with(PACKAGE, &[("authorization", basic.as_str())]).await.status, 200);
    assert_eq!(mirror.get(PACKAGE).await.status, 401);
    assert_eq!(provider.requests(), 2, "one description and one key set for all requests");
    let signature = anna.rsplit('.').next().expect("three parts");
    assert!(logs::lines(signature).is_empty(), "a token is in the log");
    eventually("the access event names the principal", async || {
        logs::lines("oidc:corp:otto").iter().any(|line| line.contains("srm_mirror::access"))
    })
    .await;
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_401() {
    let forge = forge().await;
    let provider = Provider::start().await;
    let mirror = with_issuer(&forge, &provider).start().await;
    let now = mirror.clock.now().as_second();
    let valid = claims(&mirror, &provider, 300);
    let with = |key: &str, value: Value| {
        let mut claims = valid.clone();
        claims[key] = value;
        claims
    };
    let first = SigningKey::First;
    let good = first.sign(&valid);
    let forged = {
        let other = first.sign(&with("sub", json!("otto")));
        let signature = other.rsplit('.').next().expect("three parts");
        format!("{}.{signature}", good.rsplit_once('.').expect("three parts").0)
    };
    for (about, token, part) in [
        ("wrong audience", first.sign(&with("aud", json!("other"))), "audience"),
        ("wrong issuer", first.sign(&with("iss", json!("https://login.example.com"))), "issuer"),
        ("expired", first.sign(&with("exp", json!(now - 61))), "expired"),
        ("not yet valid", first.sign(&with("nbf", json!(now + 120))), "not valid yet"),
        ("no end", first.sign(&with("exp", Value::Null)), "exp"),
        ("alg none", issuer::unsigned(&valid), "algorithm"),
        ("key confusion", issuer::signed_with_secret(&valid, &first.public_pem()), "algorithm"),
        ("forged", forged, "signature"),
        ("a key that the issuer does not have", SigningKey::Second.sign(&valid), "no such key"),
        ("oversized", first.sign(&with("pad", json!("x".repeat(8 << 10)))), "8 KiB"),
        ("no JWT", "eyJhbGciOiJub25lIn0".into(), "no such token"),
    ] {
        for _ in 0..2 {
            let got = get(&mirror, PACKAGE, &token).await;
            let body = String::from_utf8_lossy(&got.body).into_owned();
            assert_eq!(got.status, 401, "{about}: {body}");
            assert!(body.contains(part) && got.headers.contains_key("www-authenticate"), "{about}: {body}");
        }
    }
    assert_eq!(status(&mirror, PACKAGE, &good).await, 200);
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_fetched_when_a_token_names_it_and_a_removed_one_ends_its_tokens() {
    let forge = forge().await;
    let provider = Provider::start().await;
    let mirror = with_issuer(&forge, &provider).start().await;
    let old = SigningKey::First.sign(&claims(&mirror, &provider, 9000));
    assert_eq!(status(&mirror, PACKAGE, &old).await, 200);
    provider.set(Answers::Keys(vec![SigningKey::First, SigningKey::Second]));
    let new = SigningKey::Second.sign(&claims(&mirror, &provider, 9000));
    let asked = (0..10).map(|_| status(&mirror, PACKAGE, &new));
    assert_eq!(futures_util::future::join_all(asked).await, vec![200; 10]);
    assert_eq!(provider.requests(), 4, "all share one renewal");
    assert_eq!(status(&mirror, PACKAGE, &old).await, 200);
    provider.set(Answers::Keys(vec![SigningKey::Second]));
    mirror.clock.advance(HOUR + Duration::from_secs(1));
    eventually("the removed key is forgotten", async || status(&mirror, PACKAGE, &old).await == 401).await;
    assert_eq!(status(&mirror, PACKAGE, &new).await, 200);
}

#[tokio::test]
async fn while_the_issuer_is_down_its_keys_hold_for_a_day_and_then_its_tokens_are_503() {
    let forge = forge().await;
    let provider = Provider::start().await;
    let mirror = with_issuer(&forge, &provider).start().await;
    let token = SigningKey::First.sign(&claims(&mirror, &provider, 200_000));
    assert_eq!(status(&mirror, PACKAGE, &token).await, 200);
    provider.set(Answers::Status(500));
    mirror.clock.advance(23 * HOUR);
    assert_eq!(status(&mirror, PACKAGE, &token).await, 200);
    let unseen = SigningKey::First.sign(&claims(&mirror, &provider, 300));
    assert_eq!(status(&mirror, PACKAGE, &unseen).await, 200, "verified with the keys in memory");
    mirror.clock.advance(HOUR);
    for _ in 0..2 {
        let got = get(&mirror, PACKAGE, &token).await;
        assert_eq!((got.status, got.header("retry-after")), (503, "10"), "{:?}", got.body);
        assert!(!String::from_utf8_lossy(&got.body).contains(&provider.url()), "{:?}", got.body);
    }
    assert_eq!(mirror.get(PACKAGE).await.status, 401, "without a token nothing has changed");
    provider.set(Answers::Keys(vec![SigningKey::First]));
    mirror.clock.advance(Duration::from_secs(10));
    assert_eq!(status(&mirror, PACKAGE, &token).await, 200);
}

#[tokio::test]
async fn keys_behind_a_redirect_or_in_an_endless_document_are_not_used() {
    let forge = forge().await;
    let provider = Provider::start().await;
    for answers in [Answers::Redirect, Answers::Endless, Answers::Status(404)] {
        provider.set(answers.clone());
        let mirror = with_issuer(&forge, &provider).start().await;
        let token = SigningKey::First.sign(&claims(&mirror, &provider, 300));
        assert_eq!(status(&mirror, PACKAGE, &token).await, 503, "{answers:?}");
    }
}

#[tokio::test]
async fn the_address_of_a_zip_stands_for_what_the_token_said_and_ends_with_it() {
    let forge = forge().await;
    let provider = Provider::start().await;
    let mirror = with_issuer(&forge, &provider).start().await;
    let token = SigningKey::First.sign(&claims(&mirror, &provider, 120));
    let address = async |path: &str| {
        let latest = get(&mirror, path, &token).await.json();
        latest["zipball_url"].as_str().expect("an address").replace(&mirror.url(""), "")
    };
    let by_name = address(PACKAGE).await;
    let by_group = address(TEAM).await;
    for path in [&by_name, &by_group] {
        assert!(path.contains("?srm=") && token.split('.').all(|part| !path.contains(part)), "{path}");
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
        assert_eq!(mirror.request(Method::HEAD, path, &[]).await.expect("a response").status, 200, "{path}");
        let other = path.replacen("/zipball/", "/flat/", 1);
        assert_eq!(mirror.get(&other).await.status, 401, "{other}");
    }
    // Two minutes, and one for clocks that differ.
    mirror.clock.advance(Duration::from_secs(150));
    assert_eq!(mirror.get(&by_name).await.status, 200);
    mirror.clock.advance(Duration::from_secs(31));
    assert_eq!(mirror.get(&by_name).await.status, 401);
}

#[tokio::test]
async fn the_address_of_a_zip_ends_when_its_issuer_is_no_longer_configured() {
    let forge = forge().await;
    let provider = Provider::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = with_issuer(&forge, &provider).start_in(dir.path()).await;
    let token = SigningKey::First.sign(&claims(&mirror, &provider, 900));
    let latest = get(&mirror, TEAM, &token).await.json();
    let path = latest["zipball_url"].as_str().expect("an address").replace(&mirror.url(""), "");
    mirror.stop().await;
    let mirror = with_issuer(&forge, &provider).start_in(dir.path()).await;
    assert_eq!(mirror.get(&path).await.status, 200, "it survives a restart");
    mirror.stop().await;
    let without = with_issuer(&forge, &provider).with(|config: &mut Config| {
        config.access.issuers.clear();
        config.access.rules =
            vec![RuleConfig { packages: vec!["*".into()], read: vec!["*".into()], ..RuleConfig::default() }];
    });
    let mirror = without.start_in(dir.path()).await;
    assert_eq!(mirror.get(&path).await.status, 401);
    assert_eq!(status(&mirror, TEAM, &token).await, 401);
}
