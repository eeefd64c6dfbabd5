//! Every field of ours that is a structured field ([RFC 9651]) parses as one, in every kind of answer, and says nothing
//! that contradicts another field.
//!
//! [RFC 9651]: https://www.rfc-editor.org/rfc/rfc9651

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use sfv::{Dictionary, Item, List, ListEntry, Parser};
use srm_mirror::value::Period;

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Match},
    mirror::{Mirror, TestResponse, setup},
    zips::blobs,
};

const LIST: &str = "/devsapp/fc3/releases";
const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const ETAG: &str = "\"0000\"";

/// Fields that are structured, or can be parsed as if they were: each with its type.
const FIELDS: [(&str, Kind); 9] = [
    ("cache-status", Kind::List),
    ("repr-digest", Kind::Dictionary),
    ("cache-control", Kind::Dictionary),
    ("accept-ranges", Kind::List),
    ("allow", Kind::List),
    ("age", Kind::Integer),
    ("content-length", Kind::Integer),
    ("retry-after", Kind::Integer),
    ("content-type", Kind::Item),
];

#[derive(Clone, Copy)]
enum Kind {
    List,
    Dictionary,
    Integer,
    Item,
}

/// Answers of every kind, by name.
#[derive(Default)]
struct Checked {
    kinds: BTreeSet<String>,
}

impl Checked {
    /// Checks an answer. `kind` begins with its status.
    fn check(&mut self, kind: &str, got: &TestResponse) {
        let what = format!("{kind}: {got:?}");
        assert!(kind.starts_with(&got.status.to_string()), "{what}");
        for (name, field_kind) in FIELDS {
            let lines: Vec<_> = got.headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII")).collect();
            assert!(lines.len() <= 1, "{what}");
            for line in lines {
                assert_field(field_kind, line, &format!("{name}: {what}"));
            }
        }
        check_cache_status(got, &what);
        let success = (200..300).contains(&got.status);
        assert!(success || got.header("repr-digest").is_empty(), "{what}");
        assert!(got.status < 400 || got.header("cache-control") == "no-store", "{what}");
        let waits = got.header("retry-after");
        assert!(waits.is_empty() || (got.status >= 500 && waits != "0"), "{what}");
        assert!(got.status != 503 || !waits.is_empty(), "{what}");
        self.kinds.insert(kind.to_owned());
    }
}

/// Fails with `what` unless the line is of this kind.
fn assert_field(kind: Kind, line: &str, what: &str) {
    let unwrap = |parsed: Result<(), sfv::Error>| parsed.unwrap_or_else(|error| panic!("{error}: {what}"));
    match kind {
        Kind::List => unwrap(Parser::new(line).parse::<List>().map(drop)),
        Kind::Dictionary => unwrap(Parser::new(line).parse::<Dictionary>().map(drop)),
        Kind::Item => unwrap(Parser::new(line).parse::<Item>().map(drop)),
        Kind::Integer => {
            let item = Parser::new(line).parse::<Item>().unwrap_or_else(|error| panic!("{error}: {what}"));
            assert!(item.bare_item.as_integer().is_some_and(|number| i64::from(number) >= 0), "no number: {what}");
        }
    }
}

/// RFC 9211: one member of ours; `hit` excludes `fwd` and all that belongs to it.
fn check_cache_status(got: &TestResponse, what: &str) {
    let field = got.header("cache-status");
    if field.is_empty() {
        assert!(got.header("content-type") == "application/json", "only pages of operations have none: {what}");
        return;
    }
    let list: List = Parser::new(field).parse().expect("parsed before");
    let [ListEntry::Item(member)] = &list[..] else { panic!("{what}") };
    assert_eq!(member.bare_item.as_token().map(sfv::TokenRef::as_str), Some("srm-mirror"), "{what}");
    let has = |key: &str| member.params.contains_key(key);
    assert!(!(has("hit") && has("fwd")), "{what}");
    for of_forward in ["fwd-status", "stored", "collapsed"] {
        assert!(has("fwd") || !has(of_forward), "{of_forward}: {what}");
    }
    let known = ["hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "detail"];
    assert!(member.params.keys().all(|key| known.contains(&key.as_str())), "{what}");
    let ttl = member.params.get("ttl").map(|ttl| i64::from(ttl.as_integer().expect("an Integer")));
    if let (Some(ttl), Some(max_age)) = (ttl, got.header("cache-control").strip_prefix("public, max-age=")) {
        // What is fresh for a client is fresh in the mirror.
        let max_age: i64 = max_age.split(',').next().and_then(|text| text.parse().ok()).expect("seconds");
        let age: i64 = got.header("age").parse().expect("seconds");
        assert!(max_age - age <= ttl.max(0), "{what}");
    }
}

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.rate_limits(1_000_000, 1_000_000);
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"1")).release("v1.0.1", |r| r.big(1 << 20));
    forge.registry().component("fc3").version("0.1.22");
    forge.registry().component("broken").unbuilt("1.0.0");
    forge
}

async fn start(forge: &Forge) -> Mirror {
    setup(forge)
        .with(|config| {
            config.packages.deny = vec!["evil/*".parse().expect("a pattern")];
            config.server.known_hosts = vec!["127.0.0.1".into()];
            for section in config.upstreams.values_mut() {
                section.response_timeout = Period(Duration::from_millis(300));
            }
        })
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_structured_field_of_every_kind_of_answer_parses() {
    let forge = forge().await;
    let mirror = start(&forge).await;
    let mut checked = Checked::default();
    let flat = "/devsapp/fc3/flat/v1.0.0";
    let latest = "/v3/packages/fc3/release/latest";
    for (kind, path) in [
        ("200 list, miss", LIST),
        ("200 list, hit", LIST),
        ("200 page", "/repos/devsapp/fc3/releases?per_page=1"),
        ("200 of a registry", latest),
        ("200 simple", "/simple/devsapp/fc3/releases/latest"),
        ("200 metadata", "/devsapp/fc3/metadata"),
        ("200 repository", "/repos/devsapp/fc3"),
        ("200 catalog", "/v3/packages/releases"),
        ("200 empty list", "/v3/package/user"),
        ("200 health", "/healthz"),
        ("200 ready", "/readyz"),
        ("200 zip, miss", ZIP),
        ("200 flat", flat),
        ("200 branch", "/devsapp/fc3/zipball/main"),
        ("400 query", "/devsapp/fc3/releases?page=x"),
        ("400 path", "/devsapp/fc3/zipball/a..b"),
        ("403", "/evil/x/releases"),
        ("404 package", "/devsapp/none/releases"),
        ("404 remembered", "/devsapp/none/releases"),
        ("404 version", "/devsapp/fc3/zipball/v9"),
        ("404 path", "/nowhere"),
        ("404 page of operations", "/-/nothing"),
        ("422", "/v3/packages/broken/zipball/1.0.0"),
    ] {
        checked.check(kind, &mirror.get(path).await);
    }
    eventually("the zips are stored", async || {
        blobs(mirror.dir()) >= 2 && mirror.cache.archives().running_fills() == 0
    })
    .await;
    for path in [LIST, ZIP, flat] {
        let got = mirror.get(path).await;
        let etag = got.header("etag").to_owned();
        checked.check("200 hit", &got);
        for (kind, field, value) in [
            ("304", "if-none-match", etag.as_str()),
            ("412", "if-match", ETAG),
            (if path == LIST { "200 whole" } else { "206" }, "range", "bytes=0-1"),
            (if path == LIST { "200 whole" } else { "416" }, "range", "bytes=99999999-"),
        ] {
            checked.check(kind, &mirror.get_with(path, &[(field, value)]).await);
        }
        checked.check("200 head", &mirror.head(path).await);
    }
    checked.check("404 head", &mirror.head("/devsapp/none/releases").await);
    let post = mirror.request(Method::POST, LIST, &[]).await.expect("an answer");
    checked.check("405", &post);
    checked.check("421", &mirror.get_with(LIST, &[("host", "other.example")]).await);
    checked.check("508", &mirror.get_with(LIST, &[("via", &format!("1.1 {}", via(&forge)))]).await);

    mirror.clock.advance(Duration::from_secs(400));
    checked.check("200 stale while it is revalidated", &mirror.get(LIST).await);
    eventually("revalidated", async || mirror.get(LIST).await.cache_status().contains("hit; ttl=")).await;
    mirror.clock.advance(Duration::from_secs(2000));
    checked.check("200 revalidated", &mirror.get(LIST).await);
    trouble(&forge, &mirror, &mut checked).await;
    assert!(checked.kinds.len() > 40, "{:?}", checked.kinds);
}

/// The name by which the mirror's own requests are recognised.
fn via(forge: &Forge) -> String {
    let seen = forge.requests();
    let via = seen.iter().find_map(|seen| seen.headers.get("via")).and_then(|via| via.to_str().ok());
    via.and_then(|via| via.split_whitespace().nth(1)).expect("a name").to_owned()
}

/// Answers while the forge fails, hangs, limits and lies.
async fn trouble(forge: &Forge, mirror: &Mirror, checked: &mut Checked) {
    let json = [("content-type", "application/json")];
    for (what, fault, status) in [
        ("page", Fault::Html200, "502"),
        ("status", Fault::status(500, &json, "{}"), "502"),
        ("no JSON", Fault::status(200, &json, "<<<"), "502"),
        ("unknown coding", Fault::status(200, &[("content-encoding", "br")], "x"), "502"),
        ("blocked", Fault::status(451, &json, "{}"), "451"),
        ("silence", Fault::HeadStall, "504"),
    ] {
        let package = what.replace(' ', "-");
        // One for each: no earlier failure has opened a breaker.
        let fresh = start(forge).await;
        for path in [format!("/t/{package}/releases"), format!("/t/{package}z/zipball/v1")] {
            let planned = forge.fault(Match::any(), fault.clone()).always();
            checked.check(&format!("{status} {what}"), &fresh.get(&path).await);
            let again = fresh.get(&path).await;
            checked.check(&format!("{} {what} again", again.status), &again);
            planned.remove();
            planned.release();
        }
    }
    forge.fault(Match::path("/repos/devsapp/fc3/releases"), Fault::status(500, &json, "{}")).always();
    mirror.clock.advance(Duration::from_secs(100_000));
    checked.check("200 stale", &mirror.get(LIST).await);
    checked.check("200 stale, not forwarded", &mirror.get(LIST).await);
    forge.clear_faults();
    forge.fault(Match::any(), Fault::status(429, &[("retry-after", "100")], "{}"));
    checked.check("503 limit", &mirror.get("/t/limit/releases").await);
    checked.check("503 pause", &mirror.get("/t/pause/releases").await);
    checked.check("503 pause, zip", &mirror.get("/t/pause/zipball/v1").await);
    mirror.clock.advance(Duration::from_secs(200_000));
    checked.check("200 stale in a pause", &mirror.get(LIST).await);
    checked.check("200 stored in a pause", &mirror.get(ZIP).await);
}
