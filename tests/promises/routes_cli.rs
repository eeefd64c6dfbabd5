//! `srm-mirror route` says where a name comes from and sets it; bundles carry what was recorded.

use std::path::Path;

use serde_json::{Value, json};
use srm_mirror::dialect::RouteConfig;

use crate::{
    cache_ops::{cache, said},
    forge::Forge,
    mirror::{Mirror, TestResponse, setup},
    process::{Ended, Launch},
};

const GITEE_FIRST: &str = "[{packages = \"acme/*\", upstreams = [\"gitee\", \"github\"]}]";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.gitee_repo("acme/tool").release("1.0.0", |r| r.file("index.js", "gitee"));
    forge.repo("acme/tool").release("1.0.0", |r| r.file("index.js", "github"));
    forge
}

fn routes() -> Vec<RouteConfig> {
    let upstreams = ["gitee", "github"].map(str::to_owned).into();
    vec![RouteConfig { packages: "acme/*".into(), dialect: None, upstreams }]
}

async fn mirror(forge: &Forge, dir: &Path) -> Mirror {
    setup(forge).with(|config| config.routes = routes()).start_in(dir).await
}

/// Runs `route` beside the mirror that holds the directory, or without one.
async fn route(forge: &Forge, dir: &Path, arguments: &[&str]) -> Ended {
    let arguments = [&["route"], arguments].concat();
    Launch::over(forge, dir, &arguments).set("routes", GITEE_FIRST).run().await
}

async fn report(forge: &Forge, dir: &Path, name: &str) -> Value {
    let ended = route(forge, dir, &[name, "--json"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.out).expect("JSON")
}

/// What a report says of a dialect: the rule, the packages that are asked, the recorded upstream.
fn of_dialect(report: &Value, dialect: &str) -> (String, Value, Value) {
    let rows = report["dialects"].as_array().expect("dialects");
    let row = rows.iter().find(|row| row["dialect"] == dialect).expect(dialect);
    (row["rule"].as_str().expect("a rule").to_owned(), row["asked"].clone(), row["recorded"]["upstream"].clone())
}

fn body(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

#[tokio::test]
async fn a_name_is_reported_by_its_route_and_after_its_first_answer_by_its_record() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, dir.path()).await;
    let before = report(&forge, dir.path(), "acme/tool").await;
    let asked = json!(["gitee:acme/tool", "github:acme/tool"]);
    assert_eq!(of_dialect(&before, "srm"), ("configured".into(), asked.clone(), Value::Null));
    assert_eq!(before["dialects"].as_array().expect("dialects").len(), 4);
    let stock = json!({"package": "gitee:acme/tool", "allowed": true, "versions": 0, "documents": 0});
    assert_eq!(before["packages"][0], stock);
    let asked_upstreams = forge.requests().len();

    for path in ["/acme/tool/releases", "/acme/tool/zipball/1.0.0"] {
        assert_eq!(running.get(path).await.status, 200, "{path}");
    }
    let requests = forge.requests().len();
    assert!(asked_upstreams == 0 && requests > 0, "a report asks no upstream");
    crate::eventually::eventually("the zip is stored", async || {
        report(&forge, dir.path(), "acme/tool").await["packages"][0]["versions"] == 1
    })
    .await;
    let after = report(&forge, dir.path(), "ACME/tool").await;
    assert_eq!(of_dialect(&after, "srm"), ("recorded".into(), json!(["gitee:ACME/tool"]), json!("gitee")));
    assert_eq!(
        of_dialect(&after, "v3"),
        ("configured".into(), json!(["gitee:ACME/tool", "github:ACME/tool"]), Value::Null)
    );
    assert!(after["packages"][0]["documents"].as_u64() > Some(0), "{after}");
    let text = route(&forge, dir.path(), &["acme/tool"]).await;
    for line in [
        "recorded: gitee since 2",
        "gitee:acme/tool, then github:acme/tool  table 1 of routes",
        "versions 1, documents ",
    ] {
        assert!(text.out.contains(line), "{line}\n{}", text.out);
    }
    assert_eq!(forge.requests().len(), requests);

    running.stop().await;
    let without = report(&forge, dir.path(), "acme/tool").await;
    assert_eq!(of_dialect(&without, "srm").0, "recorded", "the same without a running mirror");
    assert_eq!(without["packages"][0]["versions"], 1);
}

#[tokio::test]
async fn every_rule_is_named() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = |name: &str| {
        let launch = Launch::over(&forge, dir.path(), &["route", name, "--json"]).set("names.default_owner", "acme");
        launch.set("names.aliases", "{kit = \"gitee:acme/tool\"}").set("packages.deny", "github:acme/secret")
    };
    for (name, rule, asked) in [
        ("kit", "alias", "gitee:acme/tool"),
        ("gitee:acme/tool", "named", "gitee:acme/tool"),
        ("tool", "default-owner", "github:acme/tool"),
        ("other/tool", "default-upstream", "github:other/tool"),
        ("acme/secret", "default-upstream", "github:acme/secret"),
    ] {
        let ended = launch(name).run().await;
        let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{name}: {ended:?}"));
        let (found, packages, _) = of_dialect(&report, "srm");
        assert_eq!((found.as_str(), packages), (rule, json!([asked])), "{name}");
        assert_eq!(report["packages"][0]["allowed"], name != "acme/secret", "{name}");
        let plain = !asked.starts_with(name) && !name.contains(['/', ':']);
        assert_eq!(report["dialects"].as_array().expect("dialects").len(), if plain { 3 } else { 4 }, "{name}");
    }
    for name in ["", "a/b/c", "nowhere:a/b", "a b"] {
        assert_eq!(launch(name).run().await.code, Some(64), "{name}");
    }
    let closed = Launch::over(&forge, dir.path(), &["route", "tool"]).set("packages.allow", "acme/*").run().await;
    assert!(closed.code == Some(0) && closed.out.contains("nothing  no route"), "{closed:?}");
}

#[tokio::test]
async fn a_set_source_holds_at_once_in_the_named_dialect_or_in_all() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, dir.path()).await;
    let source = async |path: &str| {
        let got = running.get(path).await;
        assert_eq!(got.status, 200, "{path}: {}", body(&got));
        if body(&got).contains("/gitee/") { "gitee" } else { "github" }
    };
    let srm = "/acme/tool/releases";
    let simple = "/simple/acme/tool/releases";
    // Asked twice: the second answer comes from the response cache, which must forget it.
    for path in [srm, srm, simple, simple] {
        assert_eq!(source(path).await, "gitee", "{path}");
    }
    let set = route(&forge, dir.path(), &["set", "Acme/Tool", "github", "--dialect", "srm"]).await;
    assert_eq!((set.code, set.out.as_str()), (Some(0), "Acme/Tool in srm: github:Acme/Tool, was gitee\n"), "{set:?}");
    assert_eq!((source(srm).await, source(simple).await), ("github", "gitee"));
    let set = route(&forge, dir.path(), &["set", "acme/tool", "github"]).await;
    assert_eq!((set.code, set.out.lines().count()), (Some(0), 4), "{set:?}");
    assert!(
        set.out.contains("srm: github:acme/tool, as before\n") && set.out.contains("simple: github:acme/tool, was g")
    );
    assert_eq!((source(srm).await, source(simple).await), ("github", "github"));
}

#[tokio::test]
async fn a_source_that_cannot_be_is_refused_and_nothing_is_changed() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, dir.path()).await;
    assert_eq!(running.get("/acme/tool/releases").await.status, 200);
    running.stop().await;
    let rows = "[{packages = \"acme/*\", dialect = \"v3\", upstreams = [\"gitee\"]}]";
    let refused = async |arguments: &[&str]| {
        let arguments = [&["route", "set"], arguments].concat();
        let launch = Launch::over(&forge, dir.path(), &arguments).set("routes", rows);
        let ended = launch.set("names.aliases", "{kit = \"acme/tool\"}").run().await;
        assert_eq!(ended.code, Some(64), "{ended:?}");
        ended.err
    };
    for (arguments, reason) in [
        (&["acme/tool", "gihub"][..], "no upstream is called gihub; the upstreams are "),
        (&["acme/tool", "github"], "table 1 of routes, which decides for acme/tool in v3, does not lead to github"),
        (&["tool", "github"], "github has no package tool: its packages are written owner/repo"),
        (&["kit", "gitee"], "names.aliases decides for kit: it is github:acme/tool"),
        (&["tool", "gitee", "--dialect", "github"], "the github dialect has no package tool from gitee"),
        (&["a b", "gitee"], "letters, digits"),
    ] {
        let said = refused(arguments).await;
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    let report = report(&forge, dir.path(), "acme/tool").await;
    assert_eq!(of_dialect(&report, "srm").2, "gitee");
    assert_eq!(of_dialect(&report, "v3").2, Value::Null);
}

#[tokio::test]
async fn a_source_that_left_its_route_is_reported_as_refused() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, dir.path()).await;
    assert_eq!(running.get("/acme/tool/releases").await.status, 200);
    running.stop().await;
    let rows = "[{packages = \"acme/*\", upstreams = [\"github\"]}]";
    let ended = Launch::over(&forge, dir.path(), &["route", "acme/tool"]).set("routes", rows).run().await;
    let line = ended.out.lines().find(|line| line.trim_start().starts_with("srm")).expect("a line").to_owned();
    assert!(line.contains("nothing") && line.contains("refused: the recorded source gitee since 2"), "{line}");
    assert!(line.contains("which table 1 of routes leaves out; set it with srm-mirror route set"), "{line}");
}

#[tokio::test]
async fn a_bundle_carries_recorded_sources_and_the_local_word_wins() {
    let forge = forge().await;
    let from = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, from.path()).await;
    for path in ["/acme/tool/releases", "/v3/packages/acme__tool/release/latest", "/acme/tool/zipball/1.0.0"] {
        assert_eq!(running.get(path).await.status, 200, "{path}");
    }
    running.stop().await;
    let bundle = from.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    let export = async |pattern: &str| {
        let done = cache(from.path(), &["export", bundle, pattern]).await;
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    };
    export("acme/*").await;

    // There: the v3 name has another source already, and the github dialect none.
    let to = tempfile::tempdir().expect("a directory");
    let none = to.path().join("none");
    let set = route(&forge, &none, &["set", "acme/tool", "github"]).await;
    assert_eq!((set.code, none.exists()), (Some(74), false), "{set:?}");
    let set = route(&forge, to.path(), &["set", "acme/tool", "github", "--dialect", "v3"]).await;
    assert_eq!(set.code, Some(0), "{set:?}");
    for arguments in [&["import", bundle, "--dry-run"][..], &["import", bundle]] {
        let done = cache(to.path(), arguments).await;
        let line = "source  acme/tool in v3 is gitee in the bundle: github is recorded here and stays\n";
        assert!(done.status.code() == Some(0) && said(&done).contains(line), "{}", said(&done));
        assert_eq!(said(&done).matches("source  ").count(), 1, "{}", said(&done));
    }
    let report = report(&forge, to.path(), "acme/tool").await;
    assert_eq!(of_dialect(&report, "srm").2, "gitee");
    assert_eq!(of_dialect(&report, "v3").2, "github");
    assert_eq!(of_dialect(&report, "simple").2, Value::Null);
}

#[tokio::test]
async fn an_imported_source_that_the_routes_do_not_lead_to_is_reported_and_not_recorded() {
    let forge = forge().await;
    let from = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, from.path()).await;
    assert_eq!(running.get("/acme/tool/releases").await.status, 200);
    assert_eq!(running.get("/acme/tool/zipball/1.0.0").await.status, 200);
    running.stop().await;
    let bundle = from.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    assert_eq!(cache(from.path(), &["export", bundle, "*"]).await.status.code(), Some(0));
    let to = tempfile::tempdir().expect("a directory");
    let rows = "[{packages = \"acme/*\", upstreams = [\"github\"]}]";
    let done = Launch::over(&forge, to.path(), &["cache", "import", bundle]).set("routes", rows).run().await;
    let line = "source  acme/tool in srm is gitee in the bundle: the routes of this mirror do not lead there";
    assert!(done.code == Some(0) && done.out.contains(line), "{done:?}");
    let launch = Launch::over(&forge, to.path(), &["route", "acme/tool", "--json"]).set("routes", rows);
    let report: Value = serde_json::from_str(&launch.run().await.out).expect("JSON");
    assert_eq!(of_dialect(&report, "srm"), ("configured".into(), json!(["github:acme/tool"]), Value::Null));
}

#[tokio::test]
async fn the_start_says_where_plain_names_go_and_which_names_an_alias_takes() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let running = mirror(&forge, dir.path()).await;
    assert_eq!(running.get("/acme/tool/releases").await.status, 200);
    running.stop().await;
    let launch = Launch::serve(&forge, dir.path()).set("names.default_owner", "acme").set("log.format", "text");
    let launch = launch.set("names.aliases", "{\"acme/tool\" = \"acme/tool\"}").set("routes", GITEE_FIRST);
    let process = launch.start().await;
    process.signal("TERM").await;
    let ended = process.ended().await;
    assert!(ended.out.contains("\nplain names: owner acme on github\n"), "{}", ended.out);
    let line = ended.err.lines().find(|line| line.contains("an alias takes a name from its recorded source"));
    let line = line.unwrap_or_else(|| panic!("{}", ended.err));
    assert!(line.contains("acme/tool on github") && line.contains("gitee") && line.contains("srm"), "{line}");
}
