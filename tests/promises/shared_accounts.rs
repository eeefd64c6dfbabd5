//! Mirrors over one bucket have the same tokens and signing keys: what one creates or revokes, the others know within
//! seconds, and nothing of it can be read in the bucket.
//!
//! With `SRM_MIRROR_TEST_BUCKET`, the tests without faults run over a real service.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use srm_mirror::{
    shared,
    value::{Period, Secret},
};

use crate::{
    access::{self, bearer, create, rule, with_rules},
    bucket::{BucketFault, TestBucket},
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, setup},
};

const LIST: &str = "/devsapp/fc3/releases";

/// A node on which the token `reader` may read a package.
fn node(forge: &Forge, bucket: &TestBucket) -> Setup {
    node_with(forge, bucket.section())
}

fn node_with(forge: &Forge, section: shared::Config) -> Setup {
    let rules = vec![rule(&["devsapp/*"], &["token:reader", "token:other"], false)];
    with_rules(setup(forge), rules).with(|config| config.shared = Some(section))
}

async fn status(mirror: &Mirror, path: &str, token: &str) -> u16 {
    let headers = bearer(token);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    mirror.request(Method::GET, path, &headers).await.expect("a response").status
}

async fn zip_address(mirror: &Mirror, token: &str) -> String {
    let headers = bearer(token);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let list = mirror.request(Method::GET, LIST, &headers).await.expect("a response").json();
    list[0]["zipball_url"].as_str().expect("an address").replace(&mirror.url(""), "")
}

async fn follows(mirror: &Mirror, token: &str, expected: u16) {
    eventually("the other mirror knows", async || status(mirror, LIST, token).await == expected).await;
}

/// Two mirrors that know the token `reader`.
async fn two_mirrors(forge: &Forge, bucket: &TestBucket) -> (Mirror, Mirror, String) {
    let first = node(forge, bucket).start().await;
    let second = node(forge, bucket).start().await;
    let token = access::token(&first, "reader").await;
    follows(&second, &token, 200).await;
    (first, second, token)
}

async fn call(mirror: &Mirror, what: &str, ask: serde_json::Value) -> (u16, String) {
    let got = mirror.control(mirror.dir(), reqwest::Method::POST, &format!("/-/{what}"), ask.to_string()).await;
    (got.status, String::from_utf8_lossy(&got.body).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_one_mirror_creates_or_revokes_is_valid_or_refused_on_all_within_seconds() {
    let bucket = TestBucket::start().await;
    let forge = access::forge().await;
    let first = node(&forge, &bucket).with(TestBucket::by_default).start().await;
    let second = node(&forge, &bucket).with(TestBucket::by_default).start().await;
    let created = Instant::now();
    let token = access::token(&first, "reader").await;
    assert_eq!(status(&first, LIST, &token).await, 200);
    follows(&second, &token, 200).await;
    // 5 s, and what a busy machine adds.
    assert!(created.elapsed() < Duration::from_secs(15), "{:?}", created.elapsed());
    assert_eq!(
        call(
            &second,
            "token/create",
            json!({"name": "reader", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false})
        )
        .await
        .0,
        409
    );

    let revoked = Instant::now();
    assert_eq!(call(&second, "token/revoke", json!({"name": "reader"})).await.0, 200);
    assert_eq!(status(&second, LIST, &token).await, 401);
    follows(&first, &token, 401).await;
    assert!(revoked.elapsed() < Duration::from_secs(15), "{:?}", revoked.elapsed());
    // A mirror that starts later has never had it.
    assert_eq!(status(&node(&forge, &bucket).start().await, LIST, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_one_mirror_has_signed_holds_on_all_also_when_the_key_was_just_made() {
    let bucket = TestBucket::start().await;
    let forge = access::forge().await;
    // At the same moment: one of them makes the first key.
    let (first, second, third) =
        tokio::join!(node(&forge, &bucket).start(), node(&forge, &bucket).start(), node(&forge, &bucket).start());
    let token = access::token(&first, "reader").await;
    follows(&second, &token, 200).await;
    follows(&third, &token, 200).await;
    for signer in [&first, &second, &third] {
        let address = zip_address(signer, &token).await;
        assert!(address.contains("srm="), "{address}");
        for mirror in [&first, &second, &third] {
            assert_eq!(mirror.get(&address).await.status, 200, "{address}");
        }
    }
    assert_eq!(call(&first, "token/rotate-signing-key", json!({})).await.0, 200);
    let address = zip_address(&first, &token).await;
    assert_eq!(second.get(&address).await.status, 200, "signed with a key that the other mirror knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_down_no_token_is_created_and_a_revocation_holds_here_at_once_and_spreads_afterwards() {
    let bucket = TestBucket::scripted().await;
    let forge = access::forge().await;
    let (first, second, token) = two_mirrors(&forge, &bucket).await;

    bucket.script().down();
    let (code, text) = call(
        &first,
        "token/create",
        json!({"name": "other", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false}),
    )
    .await;
    assert_eq!(code, 503, "{text}");
    assert!(text.contains("shared bucket") && text.contains("\"code\":\"bucket\""), "{text}");
    let (code, text) = call(&first, "token/revoke", json!({"name": "reader"})).await;
    assert_eq!(code, 503, "{text}");
    assert!(text.contains("refused by this mirror now"), "{text}");
    assert_eq!((status(&first, LIST, &token).await, status(&second, LIST, &token).await), (401, 200));
    // Killed before it could tell the others, and started without the bucket.
    let dir = first.stop().await.expect("a directory");
    let first = node(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(status(&first, LIST, &token).await, 401);

    bucket.script().up();
    follows(&second, &token, 401).await;
    assert_eq!(status(&first, LIST, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_starts_without_the_bucket_only_with_a_copy_of_the_tokens() {
    let bucket = TestBucket::scripted().await;
    let forge = access::forge().await;
    let first = node(&forge, &bucket).start().await;
    let token = access::token(&first, "reader").await;
    let dir = first.stop().await.expect("a directory");
    bucket.script().down();
    let error = node(&forge, &bucket).start_error().await;
    assert!(error.contains("the tokens are in the shared bucket"), "{error}");
    let first = node(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(status(&first, LIST, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_shows_no_token_and_a_mirror_with_another_secret_does_not_start() {
    let bucket = TestBucket::scripted().await;
    let forge = access::forge().await;
    let first = node(&forge, &bucket).start().await;
    let ask = json!({"name": "reader", "scopes": ["read"], "packages": [], "expires_at": null, "signs": true});
    let code = create(&first, ask).await;
    let sealed = bucket.object("state/accounts.json").expect("the accounts");
    let text = String::from_utf8(sealed.to_vec()).expect("text");
    let hash = srm_mirror::entry::Digest::of(code.as_bytes()).to_string();
    // With their quotation marks, which the sealed text cannot have by chance.
    for secret in [&code, &hash, "\"reader\"", "\"created_at\"", "\"keys\""] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let section = shared::Config { sealing_secret: Some(Secret::new(&"x".repeat(32))), ..bucket.section() };
    let error = node_with(&forge, section).start_error().await;
    assert!(error.contains("shared.secret_file must be the same on every mirror"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_write_had_a_lost_answer_is_created_once() {
    let bucket = TestBucket::scripted().await;
    let forge = access::forge().await;
    let first = node(&forge, &bucket).start().await;
    for fault in [BucketFault::LostAnswer, BucketFault::StatusAfterWrite(500)] {
        bucket.fault_times(1, Method::PUT, "state/accounts", fault);
        let token = access::token(&first, "reader").await;
        assert_eq!(status(&first, LIST, &token).await, 200, "{fault:?}");
        assert_eq!(status(&node(&forge, &bucket).start().await, LIST, &token).await, 200, "{fault:?}");
        assert_eq!(call(&first, "token/revoke", json!({"name": "reader"})).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_tokens_in_the_bucket_brings_no_revoked_token_back() {
    let bucket = TestBucket::scripted().await;
    let forge = access::forge().await;
    let first = node(&forge, &bucket).start().await;
    let token = access::token(&first, "reader").await;
    let old = bucket.object("state/accounts.json").expect("the accounts");
    assert_eq!(call(&first, "token/revoke", json!({"name": "reader"})).await.0, 200);
    let newest = bucket.object("state/accounts.json").expect("the accounts");
    bucket.overwrite("state/accounts.json", old.clone());
    eventually("written again", async || {
        let present = bucket.object("state/accounts.json");
        present.is_some_and(|present| present != old && present != newest)
    })
    .await;
    assert_eq!(status(&first, LIST, &token).await, 401);
    assert_eq!(status(&node(&forge, &bucket).start().await, LIST, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_joins_a_bucket_brings_its_tokens_and_keys_with_it() {
    let bucket = TestBucket::start().await;
    let forge = access::forge().await;
    let rules = || vec![rule(&["devsapp/*"], &["token:reader", "token:other"], false)];
    let alone = with_rules(setup(&forge), rules()).start().await;
    let token = access::token(&alone, "other").await;
    let address = zip_address(&alone, &token).await;
    let dir = alone.stop().await.expect("a directory");

    let first = node(&forge, &bucket).start().await;
    access::token(&first, "reader").await;
    let joined = node(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(status(&joined, LIST, &token).await, 200);
    follows(&first, &token, 200).await;
    assert_eq!(first.get(&address).await.status, 200, "signed before there was a bucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_change_counts_on_one_mirror_alone() {
    let bucket = TestBucket::start().await;
    let forge = access::forge().await;
    let first = node(&forge, &bucket).start().await;
    let ask = json!({"name": "reader", "scopes": ["read"], "packages": [], "expires_at": null, "signs": true});
    let code = create(&first, ask).await;
    let second = node(&forge, &bucket).start().await;
    let signed = access::signed(&second, &code, "nonce");
    let headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // Nothing can be published here: the request is refused after its nonce was used.
    let to = "/v3/packages/releases";
    let got = first.request(Method::POST, to, &headers).await.expect("a response");
    assert_ne!(got.status, 401, "{:?}", got.body);
    let got = second.request(Method::POST, to, &headers).await.expect("a response");
    assert_eq!(got.status, 401, "{:?}", got.body);
    // Reading twice changes nothing, and costs the bucket nothing.
    let signed = access::signed(&second, &code, "other");
    let headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for mirror in [&first, &second] {
        assert_eq!(mirror.request(Method::GET, LIST, &headers).await.expect("a response").status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_does_not_wait_for_a_bucket_that_hangs() {
    let bucket = TestBucket::scripted().await;
    let forge = access::forge().await;
    let section = shared::Config { response_timeout: Period::secs(20), ..bucket.section() };
    let first = node_with(&forge, section).start().await;
    let token = access::token(&first, "reader").await;
    let gate = bucket.gate(Method::GET, "state/accounts");
    let revoke = call(&first, "token/revoke", json!({"name": "reader"}));
    let refused = async {
        gate.reached().await;
        follows(&first, &token, 401).await;
        // Only now may the bucket answer.
        gate.open();
    };
    let ((code, text), ()) = tokio::join!(revoke, refused);
    assert_eq!(code, 200, "{text}");
}
