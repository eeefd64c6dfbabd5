use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::access::{IssuerConfig, RuleConfig};

const ISSUER: &str = "https://login.example.com/realms/corp";

/// Documents by address. A renewal is a task of the test's runtime.
#[derive(Debug, Default)]
pub(in crate::access) struct ScriptedIssuer {
    documents: Mutex<HashMap<String, Value>>,
    fetches: AtomicUsize,
}

impl KeySource for ScriptedIssuer {
    fn fetch(&self, url: Url) -> BoxFuture<'static, Result<Bytes, KeySourceError>> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let found = self.documents.lock().get(url.as_str()).map(|document| Bytes::from(document.to_string()));
        Box::pin(async move { found.ok_or(KeySourceError::Unreachable) })
    }

    fn spawn(&self, renewal: BoxFuture<'static, ()>) {
        tokio::spawn(renewal);
    }
}

impl ScriptedIssuer {
    fn publish(&self, keys: &[&TestKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        let discovery = json!({"issuer": ISSUER, "jwks_uri": "https://login.example.com/keys"});
        let mut documents = self.documents.lock();
        documents.insert(format!("{ISSUER}/.well-known/openid-configuration"), discovery);
        documents.insert("https://login.example.com/keys".into(), json!({ "keys": keys }));
    }

    fn stop(&self) {
        self.documents.lock().clear();
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

struct TestKey {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl TestKey {
    fn new(id: &'static str) -> Self {
        Self { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key") }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": part(1..33), "y": part(33..65)})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).expect("signs");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

struct Bench {
    issuers: Issuers,
    source: Arc<ScriptedIssuer>,
    clock: Clock,
}

impl Bench {
    fn new(keys: &[&TestKey]) -> Self {
        let table = IssuerConfig {
            name: "corp".into(),
            issuer: ISSUER.into(),
            audience: "srm".into(),
            algorithms: vec!["ES256".into()],
            groups_claim: Some("groups".into()),
            ..IssuerConfig::default()
        };
        let rule = RuleConfig { read: vec!["group:corp:dev".into()], ..RuleConfig::default() };
        let config = Config { enabled: true, issuers: vec![table], rules: vec![rule], ..Config::default() };
        let source = Arc::new(ScriptedIssuer::default());
        source.publish(keys);
        let clock = Clock::default();
        let dyn_source: Arc<dyn KeySource> = source.clone();
        let issuers = Issuers::build(&config, &dyn_source, clock.clone()).expect("valid");
        Self { issuers, source, clock }
    }

    fn claims(&self, seconds: i64) -> Value {
        let now = self.clock.now().as_second();
        json!({"iss": ISSUER, "sub": "anna", "aud": ["x", "srm"], "exp": now + seconds, "groups": ["dev", "other"]})
    }

    async fn ask(&self, token: &str) -> Result<Arc<Principal>, VerificationError> {
        match self.issuers.identify(token)? {
            JwtCaller::Known(principal) => Ok(principal),
            JwtCaller::Pending(jwt) => self.issuers.verify(jwt).await,
        }
    }

    fn is_known(&self, token: &str) -> bool {
        matches!(self.issuers.identify(token), Ok(JwtCaller::Known(_)))
    }
}

fn invalid(fault: JwtFault) -> Option<VerificationError> {
    Some(VerificationError::Invalid(fault.into()))
}

#[tokio::test]
async fn a_verified_token_is_remembered_until_it_ends_with_the_groups_that_rules_name() {
    let key = TestKey::new("a");
    let bench = Bench::new(&[&key]);
    let token = key.sign(&bench.claims(300));
    assert!(!bench.is_known(&token), "no keys yet");
    let anna = bench.ask(&token).await.expect("valid");
    assert_eq!((&*anna.name, &anna.groups[..]), ("oidc:corp:anna", &["corp:dev".into()][..]));
    assert!(bench.is_known(&token));
    let again = bench.ask(&token).await.expect("valid");
    assert!(Arc::ptr_eq(&anna, &again), "it was verified again");
    let other = bench.ask(&key.sign(&bench.claims(301))).await.expect("valid");
    assert!(other.key != anna.key && other.client == anna.client);
    assert_eq!(bench.source.fetches(), 2, "a description and a key set");
    bench.clock.advance(Duration::from_secs(340));
    assert!(bench.is_known(&token));
    bench.clock.advance(Duration::from_secs(21));
    assert_eq!(bench.ask(&token).await.err(), invalid(JwtFault::Expired));
}

#[tokio::test]
async fn requests_for_an_unknown_key_share_one_renewal_in_a_minute() {
    let first = TestKey::new("a");
    let second = TestKey::new("b");
    let bench = Bench::new(&[&first]);
    bench.ask(&first.sign(&bench.claims(9000))).await.expect("valid");
    let old = first.sign(&bench.claims(9000));
    bench.ask(&old).await.expect("valid");
    bench.source.publish(&[&second]);
    let new = second.sign(&bench.claims(9000));
    let asked = futures_util::future::join_all((0..20).map(|_| bench.ask(&new))).await;
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!(bench.source.fetches(), 4, "two renewals");
    assert_eq!(
        bench.ask(&old).await.err(),
        invalid(JwtFault::UnknownKey),
        "remembered, and verified with a key that is gone"
    );
    assert_eq!(bench.source.fetches(), 4, "too early");
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(bench.ask(&old).await.err(), invalid(JwtFault::UnknownKey));
    assert_eq!(bench.source.fetches(), 6);
}

#[tokio::test]
async fn keys_are_renewed_beside_requests_and_hold_for_a_day_of_failures() {
    let key = TestKey::new("a");
    let bench = Bench::new(&[&key]);
    let token = key.sign(&bench.claims(200_000));
    bench.ask(&token).await.expect("valid");
    bench.source.stop();
    bench.clock.advance(Duration::from_secs(3601));
    assert!(bench.is_known(&token), "nothing waits for the renewal");
    tokio::task::yield_now().await;
    assert_eq!(bench.source.fetches(), 3);
    bench.clock.advance(Duration::from_secs(22 * 3600));
    bench.ask(&token).await.expect("valid");
    let unknown = TestKey::new("b").sign(&bench.claims(300));
    assert_eq!(bench.ask(&unknown).await.err(), Some(VerificationError::NoKeys), "the key may be new");
    bench.clock.advance(Duration::from_secs(3600));
    assert!(!bench.is_known(&token));
    assert_eq!(bench.ask(&token).await.err(), Some(VerificationError::NoKeys));
    bench.source.publish(&[&key]);
    let before = bench.source.fetches();
    assert_eq!(bench.ask(&token).await.err(), Some(VerificationError::NoKeys), "tried a moment ago");
    assert_eq!(bench.source.fetches(), before);
    bench.clock.advance(NO_KEYS_RETRY);
    bench.ask(&token).await.expect("valid");
}

#[tokio::test]
async fn a_description_of_another_issuer_or_with_plain_http_keys_is_refused() {
    let key = TestKey::new("a");
    for (issuer, keys) in
        [("https://other.example.com", "https://login.example.com/keys"), (ISSUER, "http://keys.example.com")]
    {
        let bench = Bench::new(&[&key]);
        let discovery = json!({"issuer": issuer, "jwks_uri": keys});
        bench.source.documents.lock().insert(format!("{ISSUER}/.well-known/openid-configuration"), discovery);
        assert_eq!(
            bench.ask(&key.sign(&bench.claims(300))).await.err(),
            Some(VerificationError::NoKeys),
            "{issuer} {keys}"
        );
        assert_eq!(bench.source.fetches(), 1);
    }
}

#[tokio::test]
async fn every_claim_is_checked_after_the_signature() {
    let key = TestKey::new("a");
    let bench = Bench::new(&[&key]);
    let now = bench.clock.now().as_second();
    let cases = [
        ("exp", json!(now - 61), JwtFault::Expired),
        ("exp", json!("soon"), JwtFault::Malformed),
        ("exp", json!(1e300), JwtFault::Malformed),
        ("exp", Value::Null, JwtFault::Malformed),
        ("nbf", json!(now + 90), JwtFault::NotYetValid),
        ("aud", json!("other"), JwtFault::Audience),
        ("aud", json!([]), JwtFault::Audience),
        ("aud", Value::Null, JwtFault::Malformed),
        ("iss", json!("https://login.example.com/realms/other"), JwtFault::Issuer),
        ("iss", json!([ISSUER]), JwtFault::Malformed),
        ("sub", json!(""), JwtFault::Subject),
        ("sub", json!("a\nb"), JwtFault::Subject),
        ("sub", json!("x".repeat(256)), JwtFault::Subject),
        ("pad", json!("x".repeat(8 << 10)), JwtFault::TooLong),
    ];
    for (claim, value, fault) in cases {
        let mut claims = bench.claims(300);
        claims[claim] = value.clone();
        assert_eq!(bench.ask(&key.sign(&claims)).await.err(), invalid(fault), "{claim} {value:.40}");
    }
    let within_leeway = [("exp", json!(now - 50)), ("nbf", json!(now + 50)), ("exp", json!(now as f64 + 9.5))];
    for (claim, value) in within_leeway {
        let mut claims = bench.claims(300);
        claims[claim] = value;
        bench.ask(&key.sign(&claims)).await.expect("valid");
    }
    let mut forged = key.sign(&bench.claims(300));
    let payload = URL_SAFE_NO_PAD.encode(bench.claims(9000).to_string());
    let parts: Vec<_> = forged.split('.').map(str::to_owned).collect();
    forged = format!("{}.{payload}.{}", parts[0], parts[2]);
    assert_eq!(bench.ask(&forged).await.err(), invalid(JwtFault::Signature));
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": "a", "crit": ["x"]}).to_string());
    assert_eq!(bench.ask(&format!("{header}.{payload}.{}", parts[2])).await.err(), invalid(JwtFault::Malformed));
}

#[tokio::test]
async fn an_address_holds_while_its_issuer_is_configured() {
    let key = TestKey::new("a");
    let bench = Bench::new(&[&key]);
    let anna = bench.ask(&key.sign(&bench.claims(300))).await.expect("valid");
    let claims = match crate::access::AddressCredential::parse(&anna.address) {
        Some(crate::access::AddressCredential::Jwt(claims)) => claims,
        other => panic!("{other:?}"),
    };
    let now = bench.clock.now();
    let found = bench.issuers.by_address(&claims, now).expect("valid");
    assert_eq!((&found.name, &found.groups, found.key), (&anna.name, &anna.groups, anna.key));
    assert!(bench.issuers.by_address(&claims, now + jiff::SignedDuration::from_secs(361)).is_none());
    let other = SignedClaims { issuer: "other".into(), ..claims };
    assert!(bench.issuers.by_address(&other, now).is_none());
}
