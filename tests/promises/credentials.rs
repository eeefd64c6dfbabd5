//! Credentials that are refused, spent, ended or replaced: what is public is served all the same, and it can be seen.

use std::{fs, path::Path, time::Duration};

use srm_mirror::{
    registry::{Gone, Private},
    upstream::CredentialSource,
    value::Secret,
};

use crate::{
    forge::{Fault, Forge, Host, Lengths, Match},
    logs,
    mirror::{Mirror, setup},
    process::Launch,
    zips::{Drink, PACKAGE, ZIP, forge as forge_with_zip, sha256, zips},
};

const MIB: u64 = 1 << 20;

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo(PACKAGE).release("v1.0.0", |r| r);
    forge.repo("acme/tool").release("v1.0.0", |r| r);
    forge
}

/// The tokens of the requests to the API, oldest first; empty for none.
fn tokens(forge: &Forge) -> Vec<String> {
    let to_api = forge.requests().into_iter().filter(|seen| seen.host == Host::GithubApi);
    to_api.map(|seen| seen.header("authorization").trim_start_matches("Bearer ").to_owned()).collect()
}

fn app(dir: &Path, id: &str) -> CredentialSource {
    let file = dir.join("app.pem");
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    fs::write(&file, key.serialize_pem()).expect("a file");
    CredentialSource::of_app(id, &file).expect("an App")
}

async fn stats(mirror: &Mirror) -> serde_json::Value {
    mirror.admin(mirror.dir(), "stats", serde_json::json!({})).await.remove(0)["credentials"].clone()
}

#[tokio::test]
async fn a_bad_token_keeps_nothing_that_is_public_from_the_clients_and_is_reported() {
    let _kept = logs::keep();
    let forge = forge().await;
    let bad = CredentialSource::of_token("LABEL_OF_THE_BAD_ONE", &Secret::new("BADTOKEN77")).expect("a token");
    let mirror = setup(&forge).credential("github", bad).start().await;
    assert_eq!(mirror.get("/readyz").await.json()["status"], "ready");
    for path in ["/devsapp/fc3/releases", "/devsapp/fc3/releases/latest", ZIP, "/acme/tool/zipball/v1.0.0"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    assert_eq!(tokens(&forge).iter().filter(|token| !token.is_empty()).count(), 1, "it is out of use at once");
    let ready = mirror.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    let reason = ready.json()["reasons"][0].as_str().expect("a reason").to_owned();
    for part in ["github", "LABEL_OF_THE_BAD_ONE", "bad-credential"] {
        assert!(reason.contains(part), "{reason}");
    }
    let credential = &stats(&mirror).await[0];
    assert_eq!(
        (
            credential["upstream"].as_str(),
            credential["credential"].as_str(),
            credential["refused"][0]["reason"].as_str()
        ),
        (Some("github"), Some("LABEL_OF_THE_BAD_ONE"), Some("bad-credential"))
    );
    // A package that only a good token might see is not said to be absent.
    let unknown = mirror.get("/devsapp/none/releases").await;
    assert_eq!(unknown.status, 502, "{:?}", unknown.body);
    let said = format!("{reason}{credential}{:?}{:?}", unknown.body, unknown.headers);
    assert!(!said.contains("BADTOKEN77") && logs::lines("BADTOKEN77").is_empty(), "{said}");
    assert_eq!(logs::lines("LABEL_OF_THE_BAD_ONE").len(), 1, "said once");
}

#[tokio::test]
async fn a_token_without_single_sign_on_is_left_out_for_that_owner_alone() {
    let forge = forge().await;
    forge.accept_token("T0KEN");
    let sso = [("x-github-sso", "required; url=https://github.com/orgs/acme/sso?authorization_request=hush")];
    let by_token = Match::path_contains("/repos/acme/").host(Host::GithubApi).header("authorization");
    forge.fault(by_token, Fault::status(403, &sso, "Resource protected by organization SAML enforcement.")).always();
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    assert_eq!(mirror.get("/acme/tool/zipball/v1.0.0").await.status, 200);
    assert_eq!(mirror.get(ZIP).await.status, 200);
    let sent = tokens(&forge);
    assert_eq!(sent[..2], ["T0KEN", ""]);
    assert!(sent.last().is_some_and(|token| token == "T0KEN"), "{sent:?}");
    let reason = mirror.get("/readyz").await.json()["reasons"].to_string();
    assert!(reason.contains("for acme") && reason.contains("single-sign-on") && !reason.contains("hush"), "{reason}");
}

#[tokio::test]
async fn the_second_token_takes_over_when_the_first_has_no_quota_and_keeps_the_package() {
    let forge = forge().await;
    forge.accept_token("T0KEN1");
    forge.accept_token("T0KEN2");
    forge.rate_limits(60, 2);
    let mirror = setup(&forge).token("github", "T0KEN1").token("github", "T0KEN2").start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    assert_eq!(tokens(&forge), ["T0KEN1", "T0KEN1"], "the repository's look and the list");
    forge.rate_limits(60, 4);
    assert_eq!(mirror.get("/acme/tool/releases").await.status, 200);
    assert_eq!(tokens(&forge)[2..], ["T0KEN2", "T0KEN2"]);
    mirror.clock.advance(Duration::from_secs(3600));
    forge.clear_log();
    // Renewed by the token that fetched it: its validators hold, and a 304 costs nothing.
    assert_eq!(mirror.get("/acme/tool/releases").await.status, 200);
    assert!(forge.requests().iter().any(|seen| seen.status == Some(304)), "{:?}", forge.requests());
    assert!(tokens(&forge).iter().all(|token| token == "T0KEN2"), "{:?}", tokens(&forge));
    let rows = stats(&mirror).await;
    assert_eq!((rows[0]["remaining"].as_u64(), rows[1]["credential"].as_str()), (Some(0), Some("GITHUB_TOKEN_2")));
}

#[tokio::test]
async fn a_stored_private_package_is_not_gone_while_its_token_is_refused() {
    let forge = forge().await;
    forge.repo("acme/secret").release("v1.0.0", |r| r).private();
    forge.accept_token("T0KEN");
    let mirror = setup(&forge).token("github", "T0KEN").with(|config| {
        config.packages.private = Private::Serve;
        config.packages.gone = Gone::Follow;
    });
    let mirror = mirror.start().await;
    assert_eq!(mirror.get("/acme/secret/zipball/v1.0.0").await.status, 200);
    assert_eq!(mirror.get("/acme/secret/releases").await.status, 200);
    forge.revoke_token("T0KEN");
    for _ in 0..3 {
        mirror.clock.advance(Duration::from_secs(7200));
        for path in ["/acme/secret/releases", "/acme/secret/zipball/v1.0.0"] {
            let got = mirror.get(path).await;
            assert_eq!(got.status, 200, "{path} {}", got.cache_status());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_by_an_app_is_resumed_with_a_new_token_when_the_old_one_has_ended() {
    let forge = forge_with_zip(Lengths::Always, |r| r.stored().big(4 * MIB)).await;
    forge.install_app("123", "devsapp", 60);
    forge.fault(zips(), Fault::CutAfter(2 * MIB));
    let gate = forge.gate(zips(), 2 * MIB);
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).credential("github", app(dir.path(), "123")).start().await;
    let mut client = Drink::of(mirror.open(ZIP).await);
    client.until(MIB).await;
    let before = forge.app_tokens();
    forge.end_app_tokens();
    gate.open();
    assert_eq!(client.end().await.expect("whole"), sha256(&forge));
    let after = forge.app_tokens();
    assert!(after.len() > before.len(), "{after:?}");
    let last = tokens(&forge).pop().expect("a request");
    assert_eq!(Some(&last), after.last(), "the resumption has the new token");
    assert_eq!(mirror.get("/readyz").await.json()["status"], "ready");
    assert_eq!(stats(&mirror).await[0]["credential"], "app 123 (devsapp)");
}

#[tokio::test]
async fn an_owner_without_the_app_is_served_anonymously_and_its_private_packages_are_absent() {
    let forge = forge().await;
    forge.install_app("123", "acme", 3600);
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).credential("github", app(dir.path(), "123")).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    assert_eq!(mirror.get("/acme/tool/releases").await.status, 200);
    assert_eq!(mirror.get("/devsapp/none/releases").await.status, 404);
    assert_eq!(forge.app_tokens().len(), 1);
}

#[tokio::test]
async fn a_token_file_is_read_again_on_sighup_and_a_broken_one_changes_nothing() {
    let forge = forge().await;
    forge.repo("acme/secret").release("v1.0.0", |r| r).private();
    forge.accept_token("N3WTOKEN");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("github-token");
    fs::write(&file, "0LDTOKEN\n").expect("a file");
    let mut mirror = Launch::serve(&forge, &dir.path().join("cache"))
        .set("upstreams.github.token_file", file.to_str().expect("text"))
        .set("packages.private", "serve")
        .set("server.known_hosts", "127.0.0.1")
        .start()
        .await;
    mirror.logs("the credential github-token is wrong or revoked").await;
    assert_eq!(mirror.get("/readyz").await.json()["status"], "degraded", "before the first request is refused");
    assert_eq!(mirror.get("/acme/unseen/releases").await.status, 502);
    fs::write(&file, "N3WTOKEN\n").expect("a file");
    mirror.signal("HUP").await;
    mirror.logs("the credential has changed and is in use").await;
    assert_eq!(mirror.get("/acme/secret/releases/tags/v1.0.0").await.status, 200);
    fs::write(&file, "two words\n").expect("a file");
    mirror.signal("HUP").await;
    mirror.logs("the previous one stays in use").await;
    forge.repo("acme/other").release("v1.0.0", |r| r).private();
    assert_eq!(mirror.get("/acme/other/releases").await.status, 200);
    let ended = mirror.stop().await;
    assert_eq!(ended.code, Some(0));
    for secret in ["0LDTOKEN", "N3WTOKEN", "two words"] {
        assert!(!ended.err.contains(secret) && !ended.out.contains(secret), "{ended:?}");
    }
}

#[tokio::test]
async fn sighup_never_ends_a_mirror() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    for _ in 0..3 {
        mirror.signal("HUP").await;
        assert_eq!(mirror.get("/healthz").await.status, 200);
    }
    assert_eq!(mirror.stop().await.code, Some(0));
}

#[tokio::test]
async fn config_check_online_says_what_each_credential_may_do_and_fails_for_a_refused_one() {
    let forge = forge().await;
    forge.accept_token("G00DTOKEN");
    forge.install_app("123", "acme", 3600);
    let dir = tempfile::tempdir().expect("a directory");
    let _ = app(dir.path(), "123");
    let key = dir.path().join("app.pem");
    let check = |credentials: String| {
        let launch = Launch::over(&forge, dir.path(), &["config", "check", "--online"]);
        let launch = launch.variable("GOOD", "G00DTOKEN").variable("BAD", "B4DTOKEN");
        launch.set("upstreams.github.credentials", &credentials).run()
    };
    let good = check(format!("[{{ token_env = \"GOOD\" }}, {{ app_id = \"123\", key_file = {key:?} }}]")).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    for line in [
        "upstream github: the credential GOOD is accepted; ",
        "upstream github: the credential app 123 is accepted as app-123; installed for acme (contents: read, metadata: read)\n",
    ] {
        assert!(good.out.contains(line), "{good:?}");
    }
    let bad = check("[{ token_env = \"GOOD\" }, { token_env = \"BAD\" }]".into()).await;
    assert_eq!(bad.code, Some(64), "{bad:?}");
    assert!(bad.out.contains("the credential BAD is wrong or revoked (bad-credential)\n"), "{bad:?}");
    let unknown = check(format!("[{{ app_id = \"124\", key_file = {key:?} }}]")).await;
    assert_eq!(unknown.code, Some(64), "{unknown:?}");
    forge.down().await;
    let down = check("[{ token_env = \"GOOD\" }]".into()).await;
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(down.out.contains("GOOD could not be checked: "), "{down:?}");
    for said in [good, bad, unknown, down] {
        assert!(!format!("{said:?}").contains("DTOKEN"), "{said:?}");
    }
}
