use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{entry::Digest, value::Secret};

mod shared;

fn rule(packages: &[&str], read: &[&str], anonymous: bool) -> RuleConfig {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    RuleConfig { packages: owned(packages), read: owned(read), anonymous, ..RuleConfig::default() }
}

fn config(rules: Vec<RuleConfig>) -> Config {
    let groups = [("dev".to_owned(), vec!["token:ci".to_owned(), "token:dev-*".to_owned()])].into();
    Config { enabled: true, rules, groups, ..Config::default() }
}

fn open(dir: &Path, rules: Vec<RuleConfig>) -> Access {
    open_with(&config(rules), dir, Clock::default())
}

fn open_with(config: &Config, dir: &Path, clock: Clock) -> Access {
    let source: Arc<dyn KeySource> = Arc::new(issuers::tests::ScriptedIssuer::default());
    Access::open(config, dir, clock, &source, CertificateUse::Verified(Arc::default()), None).expect("opens")
}

fn identify(access: &Access, uri: &Uri, headers: &HeaderMap) -> Result<Identified, InvalidCredential> {
    match access.identify(&Method::GET, uri, headers, None)? {
        Identification::Known(identified) => Ok(identified),
        Identification::Pending(_) => panic!("no JWT is sent"),
    }
}

fn id(upstream: &str, name: &str) -> PackageId {
    PackageId { upstream: upstream.into(), name: name.parse().expect("valid") }
}

fn new_token(name: &str) -> NewToken {
    NewToken { name: name.into(), scopes: vec![Right::Read], packages: Vec::new(), expires_at: None, signs: false }
}

fn with_authorization(text: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(text).expect("a value"))])
}

fn bearer(secret: &Secret) -> HeaderMap {
    with_authorization(&format!("Bearer {}", secret.reveal()))
}

fn caller(access: &Access, headers: &HeaderMap) -> Result<Caller, InvalidCredential> {
    identify(access, &Uri::from_static("/devsapp/fc3/releases"), headers).map(|found| found.caller)
}

fn name(caller: &Caller) -> Option<&str> {
    caller.principal().map(|principal| &*principal.name)
}

#[test]
fn the_first_rule_that_matches_decides_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let access = open(
        dir.path(),
        vec![
            rule(&["acme/secret"], &["token:ops"], false),
            rule(&["acme/*", "acme-*"], &["group:dev"], false),
            rule(&["official:*"], &[], true),
            rule(&["devsapp/*"], &["*"], false),
        ],
    );
    let caller = |name: &str| {
        let created = access.account_changes().create(new_token(name)).expect("created");
        caller(&access, &bearer(&created.secret)).expect("valid")
    };
    let ops = caller("ops");
    let developer = caller("dev-anna");
    let other = caller("other");
    for (package, anonymous, by_ops, by_developer, by_other) in [
        (id("github", "Acme/Secret"), Grant::Refused, Grant::Named, Grant::Refused, Grant::Refused),
        (id("github", "acme/web"), Grant::Refused, Grant::Refused, Grant::Named, Grant::Refused),
        (id("official", "acme-web"), Grant::Refused, Grant::Refused, Grant::Named, Grant::Refused),
        (id("official", "fc3"), Grant::Everyone, Grant::Everyone, Grant::Everyone, Grant::Everyone),
        (id("gitee", "devsapp/fc"), Grant::Refused, Grant::Named, Grant::Named, Grant::Named),
        (id("github", "else/where"), Grant::Refused, Grant::Refused, Grant::Refused, Grant::Refused),
    ] {
        let grant = |caller| access.grant(caller, &package, Right::Read);
        let grants = (grant(&Caller::Anonymous), grant(&ops), grant(&developer), grant(&other));
        assert_eq!(grants, (anonymous, by_ops, by_developer, by_other), "{package}");
        assert_eq!(access.grant(&ops, &package, Right::Publish), Grant::Refused);
        assert_eq!(access.grant(&Caller::Operator, &package, Right::Admin), Grant::Named);
    }
}

#[test]
fn a_token_narrows_what_the_rules_give_by_scope_and_by_package() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut all = rule(&["*"], &["*"], false);
    all.publish = vec!["*".into()];
    let access = open(dir.path(), vec![all]);
    let narrow = NewToken { packages: vec!["devsapp/*".into()], ..new_token("narrow") };
    let narrow =
        caller(&access, &bearer(&access.account_changes().create(narrow).expect("created").secret)).expect("valid");
    let publisher = NewToken { scopes: vec![Right::Publish], ..new_token("publisher") };
    let publisher =
        caller(&access, &bearer(&access.account_changes().create(publisher).expect("created").secret)).expect("valid");
    let inside = id("github", "devsapp/fc3");
    let outside = id("github", "acme/web");
    assert_eq!(access.grant(&narrow, &inside, Right::Read), Grant::Named);
    assert_eq!(access.grant(&narrow, &outside, Right::Read), Grant::Refused);
    assert_eq!(access.grant(&narrow, &inside, Right::Publish), Grant::Refused);
    assert_eq!(access.grant(&publisher, &outside, Right::Publish), Grant::Named);
    assert_eq!(access.grant(&publisher, &inside, Right::Read), Grant::Refused);
}

#[test]
fn a_token_is_found_until_it_is_revoked_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let access = open(dir.path(), Vec::new());
    let created = access.account_changes().create(new_token("ci")).expect("created");
    let headers = bearer(&created.secret);
    assert_eq!(name(&caller(&access, &headers).expect("valid")), Some("token:ci"));
    let basic = STANDARD.encode(format!("x-access-token:{}", created.secret.reveal()));
    assert_eq!(
        name(&caller(&access, &with_authorization(&format!("Basic {basic}"))).expect("valid")),
        Some("token:ci")
    );
    assert!(matches!(access.account_changes().create(new_token("ci")), Err(TokenError::Exists(_))));
    drop(access);
    let file = std::fs::read_to_string(dir.path().join("access/tokens.json")).expect("a file");
    assert!(!file.contains(created.secret.reveal()), "the secret is stored in clear");
    let access = open(dir.path(), Vec::new());
    let before = access.generation();
    assert_eq!(name(&caller(&access, &headers).expect("valid")), Some("token:ci"));
    assert!(access.account_changes().list()[0].last_used_at().is_some());
    access.account_changes().revoke("ci").expect("revoked");
    assert!(access.generation() > before);
    assert_eq!(caller(&access, &headers).map(|_| ()), Err(InvalidCredential::UnknownToken));
    assert!(matches!(access.account_changes().revoke("ci"), Err(TokenError::Unknown(_))));
    drop(access);
    assert_eq!(caller(&open(dir.path(), Vec::new()), &headers).map(|_| ()), Err(InvalidCredential::UnknownToken));
}

#[test]
fn files_with_secrets_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let access = open(dir.path(), Vec::new());
    access.account_changes().create(new_token("ci")).expect("created");
    for (name, mode) in [("", 0o700), ("tokens.json", 0o600), ("signing-keys.json", 0o600)] {
        let metadata = std::fs::metadata(dir.path().join("access").join(name)).expect(name);
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn an_expired_token_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Clock::default();
    let access = open_with(&config(Vec::new()), dir.path(), clock.clone());
    let end = clock.now() + SignedDuration::from_secs(60);
    let created =
        access.account_changes().create(NewToken { expires_at: Some(end), ..new_token("ci") }).expect("created");
    let headers = bearer(&created.secret);
    assert!(caller(&access, &headers).is_ok());
    clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(caller(&access, &headers).map(|_| ()), Err(InvalidCredential::Expired));
}

#[test]
fn a_signature_of_the_command_line_client_is_none_unless_it_fits_an_account() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Clock::default();
    let access = open_with(&config(Vec::new()), dir.path(), clock.clone());
    let signing = NewToken { signs: true, ..new_token("anna") };
    let code = access.account_changes().create(signing).expect("created").secret;
    let plain = access.account_changes().create(new_token("ci")).expect("created").secret;
    let signed = |code: &Secret, nonce: &str, at: i64| {
        let code = code.reveal();
        let sign_code = Digest::of(format!("{code}{nonce}{at}").as_bytes()).to_string();
        let fields = [("token", token_text::account_of(code)), ("sign_code", sign_code)];
        let fields = fields.into_iter().chain([("nonce", nonce.to_owned()), ("timestamp", at.to_string())]);
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, HeaderValue::try_from(value).expect("a value"));
        }
        headers
    };
    let now = clock.now().as_second();
    let anna = caller(&access, &signed(&code, "first", now)).expect("valid");
    assert_eq!(name(&anna), Some("token:anna"));
    let refused = Err(InvalidCredential::Signature);
    assert_eq!(caller(&access, &signed(&code, "first", now)).map(|_| ()), refused, "a nonce holds once");
    assert_eq!(caller(&access, &signed(&code, "second", now - 301)).map(|_| ()), refused, "too old");
    assert_eq!(caller(&access, &signed(&code, "third", now + 302)).map(|_| ()), refused, "too new");
    assert!(caller(&access, &signed(&code, "fourth", now - 290)).is_ok());
    let mut wrong = signed(&code, "fifth", now);
    wrong.insert("nonce", HeaderValue::from_static("other"));
    assert_eq!(caller(&access, &wrong).map(|_| ()), refused);
    // Logged in at another registry, or with a token that is no code.
    for code in [&Secret::new("abcdefSAFETY"), &plain] {
        assert!(matches!(caller(&access, &signed(code, "n", now)), Ok(Caller::Anonymous)));
    }
}

#[test]
fn a_signed_address_stands_for_the_present_credential() {
    let dir = tempfile::tempdir().expect("a directory");
    let access = open(dir.path(), Vec::new());
    let created = access.account_changes().create(new_token("ci")).expect("created");
    let principal = caller(&access, &bearer(&created.secret)).expect("valid");
    let zip = "/devsapp/fc3/zipball/1.0.0";
    let query = access.sign(principal.principal().expect("a principal"), &SignedZips::one(zip));
    assert!(!query.contains(created.secret.reveal()));
    let uri: Uri = format!("{zip}{query}").parse().expect("an address");
    // The client sends its headers masked with every zip.
    let masked = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("***"))]);
    let found = identify(&access, &uri, &masked).expect("valid");
    assert!(found.by_address && name(&found.caller) == Some("token:ci"));
    access.account_changes().revoke("ci").expect("revoked");
    let found = identify(&access, &uri, &HeaderMap::new()).expect("none");
    assert!(matches!(found.caller, Caller::Anonymous) && !found.by_address);
}

#[test]
fn without_access_nothing_is_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let access = open_with(&Config::default(), dir.path(), Clock::default());
    let caller = caller(&access, &with_authorization("Bearer nonsense")).expect("not looked at");
    assert_eq!(access.grant(&caller, &id("github", "a/b"), Right::Read), Grant::Everyone);
}

#[test]
fn a_rule_that_cannot_be_used_says_where_it_stands_and_how_to_write_it() {
    let build = |rule: RuleConfig| Rules::build(&config(vec![rule])).expect_err("refused").to_string();
    for (rule, part) in [
        (rule(&[], &["*"], false), "packages is missing"),
        (rule(&["a/b/c"], &["*"], false), "not a pattern of packages"),
        (rule(&["*"], &["ci"], false), "token:ci"),
        (rule(&["*"], &["group:ops"], false), "no group is called so"),
        (rule(&["*"], &["ldap:x"], false), "token:ci"),
    ] {
        let text = build(rule);
        assert!(text.contains("access.rules[1].") && text.contains(part), "{text}");
    }
}

proptest! {
    #[test]
    fn the_verdict_is_that_of_the_first_matching_rule(
        rows in proptest::collection::vec(
            (prop_oneof![Just("*"), Just("a/*"), Just("a/b"), Just("p*"), Just("github:*/*")], 0..4_u8, any::<bool>()),
            0..6,
        ),
        package in prop_oneof![Just(("github", "a/b")), Just(("github", "a/c")), Just(("gitee", "x/y")), Just(("official", "p1"))],
    ) {
        let readers = |kind: u8| match kind { 0 => vec![], 1 => vec!["token:one"], 2 => vec!["group:dev"], _ => vec!["*"] };
        let rules = rows.iter().map(|(pattern, kind, anonymous)| rule(&[pattern], &readers(*kind), *anonymous)).collect();
        let rules = Rules::build(&config(rules)).expect("valid");
        let package = id(package.0, package.1);
        let scope = principal::Scope { rights: vec![Right::Read], packages: Vec::new() };
        let key = principal::CredentialKey::of("token", "1");
        let one = Principal {
            name: "token:one".into(), groups: Vec::new(), credential: "1".into(), scope, expires_at: None, key, client: 1, address: "1".into(),
        };
        let deciding = rows.iter().find(|(pattern, ..)| {
            pattern.parse::<crate::package::PackagePattern>().expect("valid").matches(&package)
        });
        let expected = match deciding {
            Some((_, 1 | 3, _)) => Grant::Named,
            Some((_, _, true)) => Grant::Everyone,
            _ => Grant::Refused,
        };
        prop_assert_eq!(rules.grant(&Caller::Principal(Arc::new(one)), &package, Right::Read), expected);
        let anonymous = if deciding.is_some_and(|(_, _, anonymous)| *anonymous) { Grant::Everyone } else { Grant::Refused };
        prop_assert_eq!(rules.grant(&Caller::Anonymous, &package, Right::Read), anonymous);
    }
}
