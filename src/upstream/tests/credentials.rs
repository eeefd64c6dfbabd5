//! Which credential a call is made with, and what follows when it is refused, paused or ends.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use serde_json::json;

use super::*;

/// A public repository, as every identity sees it.
fn public() -> Reply {
    Reply::json(json!({"full_name": "devsapp/fc3", "private": false, "default_branch": "main"})).with("etag", "W/\"1\"")
}

fn not_found() -> Reply {
    Reply::error(404, "Not Found")
}

fn bad_credentials() -> Reply {
    Reply::error(401, "Bad credentials")
}

fn sent_token(seen: &RecordedRequest) -> Option<&str> {
    seen.header("authorization").map(|value| value.split(' ').next_back().expect("a token"))
}

/// The tokens of the requests since the last call; empty for none.
fn take_tokens(server: &Server) -> Vec<String> {
    let seen = std::mem::take(&mut *server.seen.lock());
    seen.iter().map(|seen| sent_token(seen).unwrap_or_default().to_owned()).collect()
}

fn with_tokens(kind: UpstreamKind, server: &Server, tokens: &[&str]) -> Arc<dyn Upstream> {
    let sources = tokens.iter().map(|text| CredentialSource::of_token(text, &Secret::new(text)).expect("a token"));
    build("forge", &config(kind, &server.base()), sources.collect(), &process()).expect("a valid section")
}

async fn repository(upstream: &Arc<dyn Upstream>) -> Result<Document, FetchError> {
    Ok(stored(ask(upstream, DocumentAsk::Repository, None).await?))
}

async fn repository_of(upstream: &Arc<dyn Upstream>, name: &str) -> Result<FetchedDocument, FetchError> {
    upstream.document(&name.parse().expect("a name"), &DocumentAsk::Repository, None).await
}

fn reasons(upstream: &Arc<dyn Upstream>) -> Vec<(Option<String>, RefusalReason)> {
    let refusals = upstream.credentials().into_iter().flat_map(|status| status.refusals);
    refusals.map(|refusal| (refusal.owner, refusal.reason)).collect()
}

#[tokio::test]
async fn what_is_public_is_served_without_a_credential_that_is_refused() {
    let server = Server::start(|seen| if sent_token(seen).is_some() { bad_credentials() } else { public() }).await;
    let upstream = with_tokens(UpstreamKind::Github, &server, &["bad"]);
    for expected in [&["bad", ""][..], &[""]] {
        let document = repository(&upstream).await.expect("a repository");
        assert_eq!(document.meta.validators.token_fingerprint, None);
        assert_eq!(take_tokens(&server), expected);
    }
    assert_eq!(reasons(&upstream), [(None, RefusalReason::BadCredential)]);
    assert!(upstream.is_credential_refused() && upstream.has_token());
}

#[tokio::test]
async fn a_404_is_trouble_while_a_credential_is_refused_or_paused() {
    let server = Server::start(|seen| match sent_token(seen) {
        Some("bad") => bad_credentials(),
        Some("spent") => Reply::error(429, "rate limit").with("retry-after", "60"),
        _ => not_found(),
    })
    .await;
    for (tokens, expected) in [
        (&["bad"][..], FetchError::Status(401)),
        (&["bad", "good"], FetchError::Status(401)),
        (&["good", "bad"], FetchError::Status(401)),
        (&["good", "spent"], FetchError::Throttled { retry_after: Duration::from_secs(60) }),
        (&["bad", "spent"], FetchError::Throttled { retry_after: Duration::from_secs(60) }),
        (&["good", "other"], FetchError::NotFound(Missing::Package)),
        (&["good"], FetchError::NotFound(Missing::Package)),
        (&[], FetchError::NotFound(Missing::Package)),
    ] {
        let upstream = with_tokens(UpstreamKind::Github, &server, tokens);
        assert_eq!(repository(&upstream).await.expect_err("nothing"), expected, "{tokens:?}");
        let healthy = expected == FetchError::NotFound(Missing::Package);
        assert_eq!(upstream.is_credential_refused(), !healthy, "{tokens:?}");
    }
    take_tokens(&server);
    let upstream = with_tokens(UpstreamKind::Github, &server, &["good"]);
    let _ = repository(&upstream).await;
    assert_eq!(take_tokens(&server), ["good"], "a credential sees what is public: nothing is asked twice");
}

#[tokio::test]
async fn an_owners_rule_puts_a_credential_out_of_use_for_that_owner_alone() {
    let server = Server::start(|seen| match sent_token(seen) {
        Some(_) if seen.target.starts_with("/repos/acme/") => {
            Reply::error(403, "Resource protected by organization SAML enforcement.")
                .with("x-github-sso", "required; url=https://github.com/orgs/acme/sso")
        }
        _ => public(),
    })
    .await;
    let upstream = with_tokens(UpstreamKind::Github, &server, &["token"]);
    repository_of(&upstream, "acme/tool").await.expect("public");
    repository_of(&upstream, "ACME/other").await.expect("public");
    repository_of(&upstream, "devsapp/fc3").await.expect("public");
    assert_eq!(take_tokens(&server), ["token", "", "", "token"]);
    assert_eq!(reasons(&upstream), [(Some("acme".to_owned()), RefusalReason::SingleSignOn)]);
}

#[tokio::test]
async fn a_package_stays_with_its_credential_while_that_has_quota() {
    let server = Server::start(|seen| {
        if seen.header("if-none-match").is_some() {
            return Reply::new(304);
        }
        let remaining = if sent_token(seen) == Some("one") { "0" } else { "4000" };
        public().with("x-ratelimit-remaining", remaining).with("x-ratelimit-reset", "99999999999")
    })
    .await;
    let upstream = with_tokens(UpstreamKind::Github, &server, &["one", "two"]);
    let by_one = repository(&upstream).await.expect("a repository");
    // The first has no quota left: another package is asked for with the second, and stays with it.
    repository_of(&upstream, "devsapp/other").await.expect("a repository");
    let by_two = repository(&upstream).await.expect("a repository");
    assert_eq!(take_tokens(&server), ["one", "two", "two"]);
    assert_ne!(by_one.meta.validators.token_fingerprint, by_two.meta.validators.token_fingerprint);
    ask(&upstream, DocumentAsk::Repository, Some(&by_two)).await.expect("a renewal");
    let seen = server.seen();
    assert!(sent_token(&seen[0]) == Some("two") && seen[0].header("if-none-match").is_some());
    take_tokens(&server);

    // After a restart, the stored document says whose validators it has.
    let upstream = with_tokens(UpstreamKind::Github, &server, &["one", "two"]);
    ask(&upstream, DocumentAsk::Repository, Some(&by_two)).await.expect("a renewal");
    assert_eq!(take_tokens(&server), ["two"]);
}

#[tokio::test]
async fn a_paused_credential_makes_way_for_the_next_and_the_quotas_are_reported() {
    let server = Server::start(|seen| match sent_token(seen) {
        Some("one") => Reply::error(403, "API rate limit exceeded").with("retry-after", "600"),
        _ => public().with("x-ratelimit-remaining", "4000"),
    })
    .await;
    let upstream = with_tokens(UpstreamKind::Github, &server, &["one", "two"]);
    repository(&upstream).await.expect("a repository");
    repository(&upstream).await.expect("a repository");
    assert_eq!(take_tokens(&server), ["one", "two", "two"]);
    let [one, two] = &upstream.credentials()[..] else { panic!("two") };
    assert_eq!((one.label.as_str(), one.quota.wait), ("one", Some(Duration::from_secs(600))));
    assert_eq!((two.label.as_str(), two.quota.wait, two.quota.remaining), ("two", None, Some(4000)));
    assert_eq!(upstream.rate_limit_status(), two.quota);
}

#[tokio::test]
async fn a_private_package_is_found_with_the_credential_that_sees_it() {
    let server = Server::start(|seen| if sent_token(seen) == Some("two") { public() } else { not_found() }).await;
    let upstream = with_tokens(UpstreamKind::Github, &server, &["one", "two"]);
    repository(&upstream).await.expect("a repository");
    repository(&upstream).await.expect("a repository");
    assert_eq!(take_tokens(&server), ["one", "two", "two"], "it is remembered who sees it");
}

#[tokio::test]
async fn gitee_is_asked_once_more_before_its_401_counts() {
    let requests = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(1));
    let limit = refused.clone();
    let server = Server::start(move |seen| match sent_token(seen) {
        Some(_) if requests.fetch_add(1, Relaxed) < limit.load(Relaxed) => Reply::error(401, "401 Unauthorized"),
        _ => public(),
    })
    .await;
    let upstream = with_tokens(UpstreamKind::Gitee, &server, &["token"]);
    repository(&upstream).await.expect("a repository");
    assert_eq!((take_tokens(&server), reasons(&upstream)), (vec!["token".into(), "token".into()], vec![]));
    refused.store(usize::MAX, Relaxed);
    repository(&upstream).await.expect("a repository");
    assert_eq!(take_tokens(&server), ["token", "token", ""]);
    assert_eq!(reasons(&upstream), [(None, RefusalReason::BadCredential)]);
}

#[tokio::test]
async fn a_credential_whose_file_has_changed_is_in_use_again() {
    let server = Server::start(|seen| if sent_token(seen) == Some("new") { public() } else { bad_credentials() }).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "old").expect("a file");
    let source = CredentialSource::of_token_file(&file).expect("a token");
    let upstream =
        build("forge", &config(UpstreamKind::Github, &server.base()), vec![source], &process()).expect("valid");
    assert!(repository(&upstream).await.is_err());
    for (text, tokens) in [("new", &["new"][..]), ("not a token", &["new"]), ("", &["new"])] {
        take_tokens(&server);
        std::fs::write(&file, text).expect("a file");
        upstream.read_credential_files(CredentialReading::Periodic);
        repository(&upstream).await.expect("a repository");
        assert_eq!(
            (take_tokens(&server), reasons(&upstream)),
            (tokens.iter().map(ToString::to_string).collect(), vec![])
        );
    }
}

/// The API of a forge where one App is installed for `acme`. Its tokens last this many seconds.
async fn app_server(seconds: Arc<AtomicU64>) -> Server {
    let issued = AtomicUsize::new(0);
    Server::start(move |seen| {
        let by_app = sent_token(seen).is_some_and(|token| token.matches('.').count() == 2);
        match (seen.method.as_str(), seen.target.as_str()) {
            ("GET", "/users/acme/installation") if by_app => Reply::json(json!({"id": 7})),
            ("GET", "/users/down/installation") => Reply::new(500),
            ("GET", "/repos/down/none") => not_found(),
            ("POST", "/app/installations/7/access_tokens") if by_app => {
                let ends = Timestamp::now() + Duration::from_secs(seconds.load(Relaxed));
                let number = issued.fetch_add(1, Relaxed) + 1;
                let mut reply = Reply::json(json!({"token": format!("ghs_{number}"), "expires_at": ends.to_string()}));
                reply.status = 201;
                reply
            }
            ("GET", "/app") if by_app => Reply::json(json!({"slug": "my-app"})),
            ("GET", "/app/installations?per_page=100") if by_app => {
                Reply::json(json!([{"account": {"login": "acme"}, "permissions": {"contents": "read"}}]))
            }
            ("GET", target) if target.starts_with("/repos/") && sent_token(seen) == Some("ghs_4") => bad_credentials(),
            ("GET", target) if target.starts_with("/repos/") && !by_app => public(),
            _ => not_found(),
        }
    })
    .await
}

fn app(server: &Server) -> Arc<dyn Upstream> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("app.pem");
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    std::fs::write(&file, key.serialize_pem()).expect("a file");
    let source = CredentialSource::of_app("123", &file).expect("an App");
    build("forge", &config(UpstreamKind::Github, &server.base()), vec![source], &process()).expect("valid")
}

#[tokio::test]
async fn an_app_uses_one_token_per_owner_and_renews_it_before_it_ends() {
    let seconds = Arc::new(AtomicU64::new(3600));
    let server = app_server(seconds.clone()).await;
    let upstream = app(&server);
    let both = tokio::join!(repository_of(&upstream, "acme/a"), repository_of(&upstream, "acme/b"));
    both.0.expect("a repository");
    both.1.expect("a repository");
    assert_eq!(server.take_targets().iter().filter(|target| !target.starts_with("/repos/")).count(), 2);
    let stored = stored(repository_of(&upstream, "acme/a").await.expect("a repository"));
    assert_eq!(server.seen().len(), 1, "the token is used again");

    seconds.store(60, Relaxed);
    let upstream = app(&server);
    take_tokens(&server);
    let again = repository_of(&upstream, "acme/a").await.expect("a repository");
    let again = super::stored(again);
    assert_eq!(
        again.meta.validators.token_fingerprint, stored.meta.validators.token_fingerprint,
        "the same App sees the same, with every token"
    );
    repository_of(&upstream, "acme/a").await.expect("a repository");
    assert_eq!(
        take_tokens(&server).into_iter().filter(|token| token.starts_with("ghs_")).collect::<Vec<_>>(),
        ["ghs_2", "ghs_3"]
    );
    let labels: Vec<String> = upstream.credentials().into_iter().map(|status| status.label).collect();
    assert_eq!(labels, ["app 123 (acme)"]);

    // A token that is refused before its time is replaced; the App stays in use.
    repository_of(&upstream, "acme/a").await.expect("a repository");
    let sent = take_tokens(&server).into_iter().filter(|token| token.starts_with("ghs_")).collect::<Vec<_>>();
    assert_eq!((sent, reasons(&upstream)), (vec!["ghs_4".to_owned(), "ghs_5".to_owned()], vec![]));
}

#[tokio::test]
async fn an_owner_without_the_app_is_asked_anonymously_and_a_failed_exchange_is_trouble() {
    let server = app_server(Arc::new(AtomicU64::new(3600))).await;
    let upstream = app(&server);
    for _ in 0..2 {
        repository_of(&upstream, "devsapp/fc3").await.expect("public");
    }
    let targets = server.take_targets();
    assert_eq!(targets, ["/users/devsapp/installation", "/repos/devsapp/fc3", "/repos/devsapp/fc3"]);
    repository_of(&upstream, "down/public").await.expect("public");
    assert_eq!(error(repository_of(&upstream, "down/none").await), FetchError::Status(500));
}

#[tokio::test]
async fn an_upstream_tells_what_each_credential_may_do() {
    let server = app_server(Arc::new(AtomicU64::new(3600))).await;
    let [report] = &app(&server).report_credentials().await[..] else { panic!("one") };
    assert_eq!(
        format!("{} {}", report.label, report.outcome),
        "app 123 is accepted as my-app; installed for acme (contents: read)"
    );
    let server = Server::start(|seen| match (sent_token(seen), seen.target.as_str()) {
        (Some("good"), "/rate_limit") => Reply::json(json!({}))
            .with("x-oauth-scopes", "repo")
            .with("github-authentication-token-expiration", "2026-08-01 10:00:00 UTC")
            .with("x-ratelimit-limit", "5000")
            .with("x-ratelimit-remaining", "4999"),
        _ => bad_credentials(),
    })
    .await;
    let upstream = with_tokens(UpstreamKind::Github, &server, &["good", "bad"]);
    let reports = upstream.report_credentials().await;
    assert_eq!(reasons(&upstream), [(None, RefusalReason::BadCredential)], "known before a request is refused");
    let lines: Vec<String> = reports.iter().map(|report| format!("{} {}", report.label, report.outcome)).collect();
    assert_eq!(
        lines,
        [
            "good is accepted; scopes: repo; expires 2026-08-01T10:00:00Z; 4999 of 5000 requests left this hour",
            "bad is wrong or revoked (bad-credential)",
        ]
    );
}
