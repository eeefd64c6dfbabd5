//! The administration API over the network: closed by default, for administrators alone, and every act is recorded before it
//! is done.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use srm_mirror::{access::RuleConfig, config::Config};

use crate::{
    access::create,
    bucket::{BucketFault, TestBucket},
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, TestResponse, setup},
    process::{Launch, is_stored},
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    forge
}

fn rule(packages: &str, admin: &[&str]) -> RuleConfig {
    let admin = admin.iter().map(|&name| name.to_owned()).collect();
    RuleConfig { packages: vec![packages.into()], read: vec!["*".into()], admin, ..RuleConfig::default() }
}

/// A mirror with two rules. `token:ops` is an administrator; `token:half` is named by one rule only.
fn administered(forge: &Forge) -> Setup {
    setup(forge).with(|config: &mut Config| {
        config.access.enabled = true;
        config.access.remote_admin = true;
        config.access.rules = vec![
            rule("acme/*", &["token:ops", "token:narrow"]),
            rule("*", &["token:ops", "token:half", "token:narrow"]),
        ];
    })
}

async fn token(mirror: &Mirror, name: &str, scopes: &[&str], packages: &[&str]) -> String {
    let ask = json!({"name": name, "scopes": scopes, "packages": packages, "expires_at": null, "signs": false});
    format!("Bearer {}", create(mirror, ask).await)
}

async fn administrator(mirror: &Mirror) -> String {
    token(mirror, "ops", &["read", "admin"], &[]).await
}

async fn ask(mirror: &Mirror, route: &str, body: Value, fields: &[(&str, &str)]) -> TestResponse {
    let mut request = mirror.client.post(mirror.url(&format!("/-/{route}"))).body(body.to_string());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    TestResponse { status, headers, body: response.bytes().await.expect("a body") }
}

async fn act(mirror: &Mirror, credentials: &str, route: &str, body: Value) -> TestResponse {
    ask(mirror, route, body, &[("authorization", credentials), JSON]).await
}

fn text(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

#[tokio::test]
async fn administration_over_the_network_is_off_by_default_for_every_caller() {
    let forge = forge().await;
    let setup = administered(&forge).with(|config: &mut Config| config.access.remote_admin = false);
    let mirror = setup.start().await;
    let ops = administrator(&mirror).await;
    for credentials in [&ops[..], ""] {
        let fields = [("authorization", credentials), JSON];
        let got = ask(&mirror, "ping", json!({}), if credentials.is_empty() { &fields[1..] } else { &fields }).await;
        assert_eq!(got.status, 404, "{}", text(&got));
    }
}

#[tokio::test]
async fn only_a_principal_whom_every_rule_names_as_admin_finds_the_api() {
    let forge = forge().await;
    let mirror = administered(&forge).start().await;
    let ops = administrator(&mirror).await;
    let reader = token(&mirror, "reader", &["read", "admin"], &[]).await;
    let half = token(&mirror, "half", &["read", "admin"], &[]).await;
    let narrow = token(&mirror, "narrow", &["read", "admin"], &["*"]).await;
    let missing = act(&mirror, &ops, "nothing", json!({})).await;
    assert_eq!((missing.status, missing.json()["code"].clone()), (404, json!("no-such-route")));
    for route in ["ping", "stats", "rm", "gc", "token/create", "token/list", "block", "export", "import/zip", "nothing"]
    {
        let anonymous = ask(&mirror, route, json!({}), &[JSON]).await;
        assert_eq!(anonymous.status, 401, "{route}: {}", text(&anonymous));
        assert!(anonymous.headers.contains_key("www-authenticate"), "{route}");
        let wrong = act(&mirror, "Bearer srmt_000000000000000000000000000000000000", route, json!({})).await;
        assert_eq!(wrong.status, 401, "{route}");
        let unknown = mirror.request(Method::POST, "/-", &[("authorization", &reader)]).await.expect("an answer");
        for credentials in [&reader, &half, &narrow] {
            let got = act(&mirror, credentials, route, json!({})).await;
            // Nothing tells the API from a page that does not exist.
            assert_eq!((got.status, text(&got)), (404, text(&unknown)), "{route}");
        }
    }
    let scoped = token(&mirror, "scoped", &["read"], &[]).await;
    assert_eq!(act(&mirror, &scoped, "ping", json!({})).await.status, 404);
    let pong = act(&mirror, &ops, "ping", json!({})).await;
    assert_eq!((pong.status, pong.json()["pid"].clone()), (200, json!(std::process::id())));
    assert_eq!(pong.header("cache-control"), "no-store");
    let list = act(&mirror, &ops, "token/list", json!({})).await;
    assert!(list.json()["tokens"].as_array().is_some_and(|tokens| tokens.len() == 5), "{}", text(&list));
}

#[tokio::test]
async fn an_administrators_token_needs_a_way_that_is_not_in_clear() {
    let forge = forge().await;
    let proxied = |setup: Setup| {
        setup
            .with(|config: &mut Config| config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")])
    };
    let mirror = proxied(administered(&forge)).start().await;
    let ops = administrator(&mirror).await;
    let by_proxy = async |mirror: &Mirror, ops: &str, proto: &str| {
        ask(mirror, "ping", json!({}), &[("authorization", ops), JSON, ("x-forwarded-proto", proto)]).await
    };
    let refused = by_proxy(&mirror, &ops, "http").await;
    assert_eq!((refused.status, refused.json()["code"].clone()), (403, json!("plaintext")));
    assert!(text(&refused).contains("access.allow_plaintext"), "{}", text(&refused));
    assert_eq!(by_proxy(&mirror, &ops, "https").await.status, 200);
    assert_eq!(act(&mirror, &ops, "ping", json!({})).await.status, 200, "the proxy does not say how it was asked");
    let setup = proxied(administered(&forge));
    let mirror = setup.with(|config: &mut Config| config.access.allow_plaintext = true).start().await;
    let ops = administrator(&mirror).await;
    assert_eq!(by_proxy(&mirror, &ops, "http").await.status, 200);
}

#[tokio::test]
async fn what_a_page_of_another_site_can_make_a_browser_send_is_refused() {
    let forge = forge().await;
    let mirror = administered(&forge).start().await;
    let ops = administrator(&mirror).await;
    for media_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
    {
        let media_type = media_type.map(|value| ("content-type", value));
        let fields: Vec<_> = [("authorization", ops.as_str())].into_iter().chain(media_type).collect();
        let got = ask(&mirror, "gc", json!({}), &fields).await;
        assert_eq!((got.status, got.json()["code"].clone()), (400, json!("bad-request")), "{media_type:?}");
    }
    let fields = [("authorization", ops.as_str()), ("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(ask(&mirror, "ping", json!({}), &fields).await.status, 200);
    let read = mirror.get_with("/-/ping", &[("authorization", &ops)]).await;
    assert!(read.status >= 400, "administration is POST alone: {}", read.status);
}

#[tokio::test]
async fn a_block_and_a_revocation_over_the_network_hold_from_the_next_request_on_also_on_kept_connections() {
    let forge = forge().await;
    let mirror = administered(&forge).start().await;
    let ops = administrator(&mirror).await;
    let reader = token(&mirror, "reader", &["read"], &[]).await;
    for _ in 0..2 {
        assert_eq!(mirror.get_with(ZIP, &[("authorization", &reader)]).await.status, 200);
    }
    let block = json!({"pattern": "devsapp/fc3@1.0.0", "reason": "see SEC-21"});
    assert_eq!(act(&mirror, &ops, "block", block).await.status, 200);
    let refused = mirror.get_with(ZIP, &[("authorization", &reader)]).await;
    assert!(refused.status == 403 && text(&refused).contains("SEC-21"), "{}", refused.status);
    // The client keeps its connection.
    assert_eq!(act(&mirror, &ops, "token/revoke", json!({"name": "ops"})).await.status, 200);
    assert_eq!(act(&mirror, &ops, "ping", json!({})).await.status, 401);
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn every_act_over_the_network_is_recorded_with_its_principal_before_and_after_and_every_refusal() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("audit.jsonl");
    let forge = forge().await;
    let mirror = administered(&forge).with(|config: &mut Config| config.audit.file = Some(file.clone())).start().await;
    let ops = administrator(&mirror).await;
    let reader = token(&mirror, "reader", &["read"], &[]).await;
    let kept = act(&mirror, &ops, "keep", json!({"pattern": "devsapp/*", "kept": true, "dry_run": false})).await;
    assert_eq!(kept.status, 200, "{}", text(&kept));
    let block = json!({"pattern": "devsapp/fc3@9.9.9", "reason": "a test"});
    assert_eq!(act(&mirror, &ops, "block", block).await.status, 200);
    assert_eq!(act(&mirror, &ops, "unblock", json!({"pattern": "c/d"})).await.status, 400);
    assert_eq!(act(&mirror, &reader, "rm", json!({"pattern": "*"})).await.status, 404);
    assert_eq!(ask(&mirror, "rm", json!({"pattern": "*"}), &[JSON]).await.status, 401);
    eventually("the lines", async || lines(&file).iter().filter(|line| line["event"] == "request").count() == 5).await;
    let lines = lines(&file);
    let acts: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "administration" && line["principal"] == "token:ops")
        .map(|line| {
            assert!(
                line["credential"].is_string() && line["client"] == "127.0.0.1" && line["peer"].is_string(),
                "{line}"
            );
            (line["action"].as_str().expect("text"), line["outcome"].as_str().expect("text"))
        })
        .collect();
    let expected =
        [("keep", "begun"), ("keep", "done"), ("block", "done"), ("unblock", "begun"), ("unblock", "failed")];
    assert_eq!(acts, expected);
    let requests: Vec<_> = lines.iter().filter(|line| line["event"] == "request").collect();
    let refused: Vec<_> = requests.iter().filter(|line| line["action"] == "rm").collect();
    assert_eq!(refused.len(), 2);
    assert_eq!((&refused[0]["principal"], &refused[0]["status"]), (&json!("token:reader"), &json!(404)));
    assert_eq!((&refused[1]["principal"], &refused[1]["status"]), (&Value::Null, &json!(401)));
    let all = fs::read_to_string(&file).expect("a file");
    assert!(!all.contains("srmt_"), "a secret is in the audit log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_the_bucket_over_the_network_is_recorded_before_and_after() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("audit.jsonl");
    let bucket = TestBucket::scripted().await;
    let forge = forge().await;
    let section = bucket.section();
    let mirror = administered(&forge).with(|config: &mut Config| {
        config.audit.file = Some(file.clone());
        config.shared = Some(section);
    });
    let mirror = mirror.start().await;
    let ops = administrator(&mirror).await;
    let acts = || {
        let of_push = lines(&file).into_iter().filter(|line| line["action"] == "shared/push");
        let acts = of_push.filter(|line| line["event"] == "administration" && line["principal"] == "token:ops");
        acts.map(|line| line["outcome"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let pushed = act(&mirror, &ops, "shared/push", json!({})).await;
    assert_eq!(pushed.status, 200, "{}", text(&pushed));
    eventually("recorded", async || acts() == ["begun", "done"]).await;
    assert_eq!(mirror.get_with(ZIP, &[("authorization", &ops)]).await.status, 200);
    bucket.fault(Method::GET, "pins", BucketFault::Status(403));
    bucket.fault(Method::PUT, "pins", BucketFault::Status(403));
    let pushed = act(&mirror, &ops, "shared/push", json!({})).await;
    assert!(text(&pushed).contains("\"stopped\""), "{}", text(&pushed));
    eventually("recorded", async || acts() == ["begun", "done", "begun", "failed"]).await;
}

#[tokio::test]
async fn nothing_is_changed_over_the_network_while_the_audit_log_cannot_be_written_but_a_block_holds() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path().join("logs");
    fs::create_dir(&dir).expect("created");
    let forge = forge().await;
    let file = dir.join("audit.jsonl");
    let mirror = administered(&forge).with(|config: &mut Config| config.audit.file = Some(file.clone())).start().await;
    let ops = administrator(&mirror).await;
    assert_eq!(mirror.get_with(ZIP, &[("authorization", &ops)]).await.status, 200);
    fs::remove_dir_all(&dir).expect("removed");
    mirror.reload.request();
    // From here on every line fails; the first one may still go to the file that was removed.
    let block = json!({"pattern": "devsapp/fc3@1.1.0", "reason": "see SEC-22"});
    eventually("the log is closed", async || {
        mirror.get_with(ZIP, &[("authorization", &ops)]).await;
        let new = json!({"name": "late", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
        let got = act(&mirror, &ops, "token/create", new).await;
        if got.status == 200 {
            act(&mirror, &ops, "token/revoke", json!({"name": "late"})).await;
        }
        got.status == 503 && got.json()["code"] == "audit-unwritable"
    })
    .await;
    let pushed = act(&mirror, &ops, "shared/push", json!({})).await;
    assert_eq!((pushed.status, pushed.json()["code"].clone()), (503, json!("audit-unwritable")));
    let list = act(&mirror, &ops, "token/list", json!({})).await;
    assert!(!text(&list).contains("late"), "{}", text(&list));
    assert_eq!(act(&mirror, &ops, "block", block).await.status, 200);
    let refused = mirror.get_with("/devsapp/fc3/zipball/v1.1.0", &[("authorization", &ops)]).await;
    assert_eq!(refused.status, 403);
    // The owner of the directory can still act: that is what frees a full disk.
    mirror.admin(mirror.dir(), "gc", json!({"pattern": null, "dry_run": false, "plan": null, "unused": null})).await;
}

#[tokio::test]
async fn the_commands_work_from_elsewhere_with_an_administrators_token() {
    let forge = forge().await;
    let mirror = administered(&forge).start().await;
    let ops = administrator(&mirror).await;
    let ops = ops.trim_start_matches("Bearer ").to_owned();
    let reader = token(&mirror, "reader", &["read"], &[]).await;
    eventually("the zip is stored", async || is_stored(&mirror.get_with(ZIP, &[("authorization", &reader)]).await))
        .await;
    let url = mirror.url("");
    let run = async |arguments: &[&str], token: &str| {
        let launch = Launch::bare(&[arguments, &["--server", &url]].concat());
        launch.variable("SRM_MIRROR_TOKEN", token).run().await
    };
    for (arguments, said) in [
        (&["cache", "ls"][..], "devsapp/fc3"),
        (&["cache", "stats"], "zips"),
        (&["status"], "ready: srm-mirror"),
        (&["cache", "block", "devsapp/fc3@1.1.0", "--reason", "see SEC-23"], "is blocked"),
        (&["cache", "blocks"], "SEC-23"),
        (&["cache", "verify", "--no-fetch"], ""),
        (&["cache", "keep", "devsapp/*"], ""),
        (&["route", "devsapp/fc3"], "github"),
        (&["token", "list"], "reader"),
        (&["token", "create", "--name", "made", "--json"], "srmt_"),
        (&["cache", "rm", "devsapp/*", "--yes"], ""),
    ] {
        let ended = run(arguments, &ops).await;
        assert!(ended.code == Some(0) && ended.out.contains(said), "{arguments:?}: {ended:?}");
    }
    let bundle = tempfile::tempdir().expect("a directory");
    let bundle = bundle.path().join("bundle.tar");
    eventually("the zip is stored", async || is_stored(&mirror.get_with(ZIP, &[("authorization", &reader)]).await))
        .await;
    let bundle = bundle.to_str().expect("text");
    let exported = run(&["cache", "export", bundle], &ops).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let removed = run(&["cache", "rm", "devsapp/*", "--forget", "--yes"], &ops).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let imported = run(&["cache", "import", bundle], &ops).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let before = forge.requests().len();
    assert_eq!(mirror.get_with(ZIP, &[("authorization", &reader)]).await.status, 200);
    assert_eq!(forge.requests().len(), before, "the zip came with the bundle");
    for (token, said) in
        [(reader.trim_start_matches("Bearer "), "access.remote_admin"), ("srmt_wrong", "from SRM_MIRROR_TOKEN")]
    {
        let ended = run(&["cache", "ls"], token).await;
        assert!(ended.code == Some(1) && ended.err.contains(said), "{ended:?}");
    }
}
