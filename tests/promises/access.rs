//! Accounts and rules: who gets what, on every route and by every way to an answer; and what others learn, which is nothing.

use std::time::Duration;

use md5::{Digest as _, Md5};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use srm_mirror::{access::RuleConfig, config::Config, registry::Private};

use crate::{
    forge::{Forge, Match, Route},
    logs,
    mirror::{Mirror, Setup, TestResponse, setup},
};

mod closed_lists;
mod zip_addresses;

pub const PUBLIC: &str = "devsapp/fc3";
pub const SECRET: &str = "acme/secret";
pub const OPEN: &str = "open/pkg";

pub async fn forge() -> Forge {
    let forge = Forge::start().await;
    for name in [PUBLIC, OPEN] {
        forge.repo(name).release("v1.0.0", |r| r.publish_yaml("Type: Component\nName: x\n").file("index.js", "1"));
    }
    forge
        .repo(SECRET)
        .release("v1.0.0", |r| r.publish_yaml("Type: Component\nName: hush\n").file("index.js", "1"))
        .private();
    forge.accept_token("T0KEN");
    forge.rate_limits(10_000, 50_000);
    forge
}

pub fn rule(packages: &[&str], read: &[&str], anonymous: bool) -> RuleConfig {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    RuleConfig { packages: owned(packages), read: owned(read), anonymous, ..RuleConfig::default() }
}

pub fn with_rules(setup: Setup, rules: Vec<RuleConfig>) -> Setup {
    setup.with(|config: &mut Config| {
        config.access.enabled = true;
        config.access.rules = rules;
        config.packages.private = Private::Serve;
    })
}

/// Rules for the three packages: an insider reads all, a reader all but the private one, everyone the open one.
fn closed(forge: &Forge) -> Setup {
    let rules = vec![
        rule(&["acme/*"], &["token:insider"], false),
        rule(&["devsapp/*"], &["token:reader", "token:insider"], false),
        rule(&["open/*"], &["token:reader"], true),
    ];
    with_rules(setup(forge).token("github", "T0KEN"), rules)
}

pub async fn create(mirror: &Mirror, ask: Value) -> String {
    let answer = mirror.admin(mirror.dir(), "token/create", ask).await;
    answer[0]["secret"].as_str().expect("a secret").to_owned()
}

pub async fn token(mirror: &Mirror, name: &str) -> String {
    let ask = json!({"name": name, "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
    create(mirror, ask).await
}

async fn revoke(mirror: &Mirror, name: &str) {
    mirror.admin(mirror.dir(), "token/revoke", json!({"name": name})).await;
}

pub fn bearer(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {token}"))]
}

/// The headers by which the command line client signs with a code.
pub fn signed(mirror: &Mirror, code: &str, nonce: &str) -> Vec<(&'static str, String)> {
    let at = mirror.clock.now().as_second().to_string();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    vec![
        ("token", hex(&Md5::digest(code.as_bytes()))),
        ("sign_code", hex(&Sha256::digest(format!("{code}{nonce}{at}").as_bytes()))),
        ("nonce", nonce.to_owned()),
        ("timestamp", at),
    ]
}

async fn get(mirror: &Mirror, path: &str, headers: &[(&'static str, String)]) -> TestResponse {
    send(mirror, Method::GET, path, headers).await
}

async fn send(mirror: &Mirror, method: Method, path: &str, headers: &[(&'static str, String)]) -> TestResponse {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    mirror.request(method, path, &headers).await.expect("a complete response")
}

/// The routes of a repository.
pub fn routes(package: &str) -> Vec<String> {
    let below = ["releases", "releases/latest", "releases/tags/v1.0.0", "metadata", "metadata/v1.0.0"];
    let zips = ["zipball/v1.0.0", "zipball/1.0.0", "zipball/refs/tags/v1.0.0", "flat/v1.0.0", "zipball/main"];
    let mut routes: Vec<String> = below.iter().chain(&zips).map(|rest| format!("/{package}/{rest}")).collect();
    routes.extend(below.iter().chain(&zips).map(|rest| format!("/github/{}/{rest}", package.to_uppercase())));
    let api = ["", "/releases", "/releases/latest", "/releases/tags/v1.0.0", "/zipball/v1.0.0"];
    routes.extend(api.map(|rest| format!("/repos/{package}{rest}")));
    routes.extend(["releases", "zipball/v1.0.0"].map(|rest| format!("/simple/{package}/{rest}")));
    let v3 = package.replace('/', "__");
    let v3_routes = ["release/latest", "release", "release/tags/v1.0.0", "zipball/v1.0.0"];
    routes.extend(v3_routes.map(|rest| format!("/v3/packages/{v3}/{rest}")));
    routes.extend(v3_routes.map(|rest| format!("/v3/packages/github__{v3}/{rest}")));
    routes
}

/// A way to ask for one address.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Get,
    Head,
    Range,
    Condition,
    Again,
}

pub const WAYS: [Way; 5] = [Way::Get, Way::Head, Way::Range, Way::Condition, Way::Again];

impl Way {
    /// The method, and the field that is sent beside the credentials.
    pub fn request(self, etag: &str) -> (Method, Option<(&'static str, String)>) {
        match self {
            Self::Get | Self::Again => (Method::GET, None),
            Self::Head => (Method::HEAD, None),
            Self::Range => (Method::GET, Some(("range", "bytes=0-9".into()))),
            Self::Condition => {
                let etag = if etag.is_empty() { "\"none\"" } else { etag };
                (Method::GET, Some(("if-none-match", etag.to_owned())))
            }
        }
    }
}

async fn ask(
    mirror: &Mirror,
    way: Way,
    path: &str,
    credentials: &[(&'static str, String)],
    etag: &str,
) -> TestResponse {
    let (method, field) = way.request(etag);
    let mut headers = credentials.to_vec();
    headers.extend(field);
    send(mirror, method, path, &headers).await
}

/// Checks that an answer is private to its caller, and that a refusal tells nothing.
fn check(got: &TestResponse, expected: &[u16], about: &str) {
    assert!(expected.contains(&got.status), "{about}: {} {:?}", got.status, got.body);
    assert!(
        got.header("vary").contains("authorization")
            || got.headers.get_all("vary").iter().any(|v| v == "authorization"),
        "{about}"
    );
    assert!(!got.header("cache-control").contains("public"), "{about}: {}", got.header("cache-control"));
    if got.status == 401 {
        let challenges: Vec<_> = got.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges.len(), 2, "{about}");
    }
    if got.status >= 400 {
        let body = String::from_utf8_lossy(&got.body);
        assert!(!body.contains("Notes of") && !body.contains("hush") && !body.contains("T0KEN"), "{about}: {body}");
    }
}

#[tokio::test]
async fn who_may_read_what_holds_on_every_route_and_by_every_way() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let insider = bearer(&token(&mirror, "insider").await);
    let reader = bearer(&token(&mirror, "reader").await);
    let revoked = bearer(&token(&mirror, "revoked").await);
    revoke(&mirror, "revoked").await;
    let wrong = bearer("srmt_000000000000000000000000000000000000");
    let malformed = vec![("authorization", "Digest x".to_owned())];
    let ended = (mirror.clock.now() + Duration::from_secs(1)).to_string();
    let ending = json!({"name": "ended", "scopes": ["read"], "packages": [], "expires_at": ended, "signs": false});
    let ended = bearer(&create(&mirror, ending).await);
    mirror.clock.advance(Duration::from_secs(2));
    let publisher =
        json!({"name": "publisher", "scopes": ["publish"], "packages": [], "expires_at": null, "signs": false});
    let publisher = bearer(&create(&mirror, publisher).await);

    let ok = &[200, 206, 304][..];
    for (package, by) in [
        (PUBLIC, [&[401][..], &[401], ok, ok, &[404]]),
        (SECRET, [&[401], &[401], &[404], ok, &[404]]),
        (OPEN, [ok, &[401], ok, ok, ok]),
        ("acme/none", [&[401], &[401], &[404], &[404], &[404]]),
        ("open/none", [&[404], &[401], &[404], &[404], &[404]]),
        ("else/where", [&[401], &[401], &[404], &[404], &[404]]),
    ] {
        let callers = [
            ("none", vec![]),
            ("wrong", wrong.clone()),
            ("reader", reader.clone()),
            ("insider", insider.clone()),
            ("publisher", publisher.clone()),
        ];
        for path in routes(package) {
            // The insider first: what is stored and cached by then must not be served to others.
            let etag = get(&mirror, &path, &insider).await.header("etag").to_owned();
            for ((name, credentials), expected) in callers.iter().zip(by).rev() {
                for way in WAYS {
                    let got = ask(&mirror, way, &path, credentials, &etag).await;
                    check(&got, expected, &format!("{name} {way:?} {path}"));
                }
            }
        }
        for (name, credentials) in [("revoked", &revoked), ("expired", &ended), ("malformed", &malformed)] {
            let got = get(&mirror, &format!("/{package}/releases"), credentials).await;
            check(&got, &[401], &format!("{name} {package}"));
        }
    }
    assert_eq!(mirror.get("/healthz").await.status, 200);
    assert_eq!(mirror.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_package_that_a_caller_may_not_read_is_answered_like_a_missing_one() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let reader = bearer(&token(&mirror, "reader").await);
    let without_id = |got: &TestResponse, name: &str| {
        let mut body: Value = serde_json::from_slice(&got.body).unwrap_or_default();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("request_id");
        }
        (got.status, got.cache_status().to_owned(), body.to_string().replace(name, "NAME"))
    };
    for credentials in [&reader, &vec![]] {
        for (there, missing) in [("secret", "absent"), ("secret", "Secret2")] {
            for rest in ["releases", "releases/latest", "zipball/v1.0.0", "metadata", "flat/v1.0.0"] {
                let before = forge.requests().len();
                let one = get(&mirror, &format!("/acme/{there}/{rest}"), credentials).await;
                let other = get(&mirror, &format!("/acme/{missing}/{rest}"), credentials).await;
                assert_eq!(without_id(&one, there), without_id(&other, missing), "{rest}");
                assert_eq!(forge.requests().len(), before, "nothing is asked for a caller who may not read");
            }
        }
    }
}

#[tokio::test]
async fn an_anonymous_rule_never_serves_a_private_repository() {
    let forge = forge().await;
    let rules = vec![rule(&["*/*"], &["token:insider"], true)];
    let mirror = with_rules(setup(&forge).token("github", "T0KEN"), rules).start().await;
    let insider = bearer(&token(&mirror, "insider").await);
    for path in routes(SECRET) {
        assert_eq!(get(&mirror, &path, &insider).await.status, 200, "{path}");
        assert_eq!(mirror.get(&path).await.status, 404, "{path}");
    }
    let list = "/v3/packages/releases?page=-1";
    let names = |got: TestResponse| got.json()["body"].as_array().map_or(0, Vec::len);
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    mirror.clock.advance(Duration::from_secs(600));
    let by_insider = names(get(&mirror, list, &insider).await);
    let by_all = names(mirror.get(list).await);
    assert_eq!((by_insider, by_all), (2, 1), "the private repository is listed to whom a rule names");
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_the_next_request_on_the_same_connection() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let reader = bearer(&token(&mirror, "reader").await);
    for path in ["/devsapp/fc3/releases", "/devsapp/fc3/zipball/v1.0.0"] {
        for _ in 0..3 {
            assert_eq!(get(&mirror, path, &reader).await.status, 200, "{path}");
        }
    }
    revoke(&mirror, "reader").await;
    for path in ["/devsapp/fc3/releases", "/devsapp/fc3/zipball/v1.0.0"] {
        assert_eq!(get(&mirror, path, &reader).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_download_under_way_is_joined_only_by_those_who_may_read_it() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let insider = bearer(&token(&mirror, "insider").await);
    let reader = bearer(&token(&mirror, "reader").await);
    let gate = forge.gate(Match::route(Route::Archive), 64);
    let path = "/acme/secret/zipball/v1.0.0";
    let fill = {
        let mirror = &mirror;
        let insider = &insider;
        async move { get(mirror, path, insider).await }
    };
    let others = async {
        gate.reached().await;
        let anonymous = mirror.get(path).await.status;
        let other = get(&mirror, path, &reader).await.status;
        gate.open();
        (anonymous, other)
    };
    let (filled, others) = tokio::join!(fill, others);
    assert_eq!((filled.status, others), (200, (401, 404)));
}

#[tokio::test]
async fn rules_hold_for_the_name_that_a_repository_has_now() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let reader = bearer(&token(&mirror, "reader").await);
    let insider = bearer(&token(&mirror, "insider").await);
    forge.repo(PUBLIC).renamed_to("acme/fc3");
    for rest in ["releases", "zipball/v1.0.0"] {
        assert_eq!(get(&mirror, &format!("/devsapp/fc3/{rest}"), &reader).await.status, 404, "{rest}");
        assert_eq!(get(&mirror, &format!("/devsapp/fc3/{rest}"), &insider).await.status, 200, "{rest}");
    }
}

#[tokio::test]
async fn a_folder_needs_its_own_rule_and_its_repositorys() {
    let forge = forge().await;
    forge.repo("mono/apps").release("v1.0.0", |r| {
        r.file("apps/x/publish.yaml", "Type: Application\nName: x\nVersion: 1.2.3\n")
            .file("apps/x/src/s.yaml", "a: b\n")
    });
    let rules = vec![
        rule(&["start-x"], &["token:both", "token:folder"], false),
        rule(&["mono/*"], &["token:both", "token:repository"], false),
    ];
    let setup = with_rules(setup(&forge), rules).with(|config: &mut Config| {
        config.names.aliases = [("start-x".to_owned(), "github:mono/apps//apps/x".to_owned())].into();
    });
    let mirror = setup.start().await;
    for (name, status) in [("folder", 404), ("repository", 404), ("both", 200)] {
        let credentials = bearer(&token(&mirror, name).await);
        for path in ["/start-x/releases", "/v3/packages/start-x/release/latest"] {
            assert_eq!(get(&mirror, path, &credentials).await.status, status, "{name} {path}");
        }
    }
}

#[tokio::test]
async fn the_signature_of_the_command_line_client_is_accepted_and_foreign_ones_count_as_none() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let ask = json!({"name": "reader", "scopes": ["read"], "packages": [], "expires_at": null, "signs": true});
    let code = create(&mirror, ask).await;
    let signed = |code: &str, nonce: &str| signed(&mirror, code, nonce);
    let latest = "/v3/packages/devsapp__fc3/release/latest";
    let got = get(&mirror, latest, &signed(&code, "one")).await;
    assert_eq!(got.status, 200, "{:?}", got.body);
    let url = got.json()["body"]["zipball_url"].as_str().expect("an address").to_owned();
    assert_eq!(mirror.get(&url.replace(&mirror.url(""), "")).await.status, 200);
    assert_eq!(get(&mirror, latest, &signed(&code, "one")).await.status, 401, "a nonce holds once");
    // Logged in at the official registry.
    assert_eq!(get(&mirror, "/open/pkg/releases", &signed("abcdefSAFETY", "two")).await.status, 200);
    assert_eq!(get(&mirror, latest, &signed("abcdefSAFETY", "three")).await.status, 401);
}

#[tokio::test]
async fn a_refused_zip_says_why_in_the_reason_phrase() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let answer = crate::http_rules::raw(
        mirror.address,
        "GET /v3/packages/devsapp__fc3/zipball/v1.0.0 HTTP/1.1\r\nHost: m\r\n\r\n",
    )
    .await;
    let line = answer.lines().next().expect("a status line");
    assert!(
        line.starts_with("HTTP/1.1 401 this mirror serves devsapp/fc3 v1.0.0 only to clients with a token"),
        "{line}"
    );
}

#[tokio::test]
async fn limits_count_by_credential_where_there_is_one() {
    let forge = forge().await;
    let setup = closed(&forge).with(|config: &mut Config| config.clients.unknown_names_per_minute = Some(2));
    let mirror = setup.start().await;
    let insider = bearer(&token(&mirror, "insider").await);
    let reader = bearer(&token(&mirror, "reader").await);
    let mut last = 0;
    for number in 0..4 {
        last = get(&mirror, &format!("/devsapp/none{number}/releases"), &insider).await.status;
    }
    assert_eq!(last, 429);
    assert_eq!(
        get(&mirror, "/devsapp/none9/releases", &reader).await.status,
        404,
        "another client of the same address"
    );
}

#[tokio::test]
async fn without_access_a_credential_is_not_looked_at() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let got = get(&mirror, "/devsapp/fc3/releases", &bearer("nonsense")).await;
    assert_eq!(got.status, 200);
    assert!(got.header("vary").is_empty() && got.header("cache-control").contains("public"));
    assert!(!String::from_utf8_lossy(&got.body).contains("srm="));
}
