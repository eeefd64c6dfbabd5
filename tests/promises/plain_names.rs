//! The operator's commands on packages with plain names: listed, kept, removed, counted, bundled; no owner is made up.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    forge::Forge,
    mirror::{Mirror, TestResponse, setup},
    process::{Ended, Launch},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.21").version("0.1.22");
    forge.registry().component("fc3-domain").version("0.0.9");
    forge.simple_registry().component("core").version("0.1.66");
    forge.repo("devsapp/start").release("v1.0.0", |r| r);
    forge
}

const SPECS: [&str; 5] = ["warm", "fc3@all", "fc3-domain", "devsapp/start", "official-2x:core"];

async fn filled(forge: &Forge) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let warmed = Launch::over(forge, dir.path(), &SPECS).run().await;
    assert!(warmed.code == Some(0) && warmed.out.contains("5 fetched"), "{warmed:?}");
    dir
}

async fn cache(forge: &Forge, dir: &Path, arguments: &[&str]) -> Ended {
    Launch::over(forge, dir, &[&["cache"], arguments].concat()).run().await
}

async fn listed(forge: &Forge, dir: &Path, pattern: &str) -> Vec<String> {
    let ended = cache(forge, dir, &["ls", pattern, "--json"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rows = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let name = |row: Value| {
        let text = |key: &str| row[key].as_str().expect("text").to_owned();
        format!("{}:{}@{}", text("upstream"), text("package"), text("version"))
    };
    rows.map(name).collect()
}

#[tokio::test]
async fn a_pattern_selects_plain_names_by_upstream_name_and_version() {
    let forge = forge().await;
    let dir = filled(&forge).await;
    let fc3 = ["official:fc3@0.1.21", "official:fc3@0.1.22"];
    let domain = "official:fc3-domain@0.0.9";
    let core = "official-2x:core@0.1.66";
    let start = "github:devsapp/start@v1.0.0";
    for (pattern, expected) in [
        ("fc3", &fc3[..]),
        ("FC3", &fc3),
        ("official:fc3@0.1.22", &fc3[1..]),
        ("fc*", &[domain, fc3[0], fc3[1]]),
        ("official:*", &[domain, fc3[0], fc3[1]]),
        ("official*:*", &[core, domain, fc3[0], fc3[1]]),
        ("*", &[start, core, domain, fc3[0], fc3[1]]),
        ("*/*", &[start]),
        ("github:*", &[start]),
        ("none", &[]),
    ] {
        assert_eq!(listed(&forge, dir.path(), pattern).await, expected, "{pattern}");
    }
    let table = cache(&forge, dir.path(), &["ls"]).await.out;
    for name in ["official:fc3  ", "official-2x:core  ", "devsapp/start  "] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{name}\n{table}");
    }
}

#[tokio::test]
async fn plain_names_are_kept_removed_counted_and_verified() {
    let forge = forge().await;
    let dir = filled(&forge).await;
    let kept = cache(&forge, dir.path(), &["keep", "official:fc3@0.1.22"]).await;
    assert!(kept.code == Some(0) && kept.out.contains("1 of 1 zips are kept now"), "{kept:?}");
    let stats = cache(&forge, dir.path(), &["stats", "--json"]).await;
    let stats: Value = serde_json::from_str(&stats.out).expect("JSON");
    assert_eq!(stats["upstreams"]["official"]["zips"], 3, "{stats}");
    let names = stats["top"].as_array().expect("packages").iter().map(|package| package["package"].as_str());
    assert!(names.into_iter().any(|name| name == Some("fc3")), "{stats}");

    let blob = crate::process::blob(dir.path(), &forge.registry().component("fc3-domain").sha256("0.0.9"));
    std::fs::write(&blob, "damaged").expect("written");
    let verified = cache(&forge, dir.path(), &["verify", "fc3*"]).await;
    assert!(verified.code == Some(0) && verified.out.contains("mended   official:fc3-domain@0.0.9\n"), "{verified:?}");

    let removed = cache(&forge, dir.path(), &["rm", "fc3", "--yes"]).await;
    assert!(removed.code == Some(0) && removed.out.contains("2 zips, "), "{removed:?}");
    assert_eq!(listed(&forge, dir.path(), "fc*").await, ["official:fc3-domain@0.0.9"]);
    // The recorded source outlives the zips.
    let report = Launch::over(&forge, dir.path(), &["route", "fc3"]).run().await;
    assert!(report.out.contains("recorded: official since 2") && report.out.contains("versions 0, "), "{}", report.out);
    let refused = cache(&forge, dir.path(), &["rm", "", "--yes"]).await;
    assert!(refused.code == Some(64) && refused.err.contains("write '*' for everything"), "{refused:?}");
}

/// A zip's digest, else the tags of the releases: addresses have the port of their mirror.
fn content(got: &TestResponse) -> String {
    if got.body.starts_with(b"PK") {
        return got.sha256();
    }
    let text = String::from_utf8_lossy(&got.body).into_owned();
    text.split("\"tag_name\":").skip(1).filter_map(|rest| rest.split(',').next()).collect()
}

#[tokio::test]
async fn a_bundle_of_plain_names_serves_a_mirror_without_a_registry() {
    let forge = forge().await;
    let from = tempfile::tempdir().expect("a directory");
    let running = setup(&forge).start_in(from.path()).await;
    let paths = [
        "/fc3/releases",
        "/fc3/zipball/0.1.22",
        "/v3/packages/fc3/release/latest",
        "/v3/packages/fc3/zipball/0.1.21",
        "/simple/fc3/releases",
        "/simple/devsapp/core/zipball/0.1.66",
    ];
    let mut bodies = Vec::new();
    for path in paths {
        let got = running.get(path).await;
        assert_eq!(got.status, 200, "{path}");
        bodies.push(content(&got));
    }
    running.stop().await;
    let bundle = from.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    let exported = cache(&forge, from.path(), &["export", bundle]).await;
    assert!(exported.code == Some(0) && exported.out.starts_with("3 zips, "), "{exported:?}");

    let to = tempfile::tempdir().expect("a directory");
    let imported = cache(&forge, to.path(), &["import", bundle]).await;
    assert!(imported.code == Some(0) && !imported.out.contains("source  "), "{imported:?}");
    forge.clear_log();
    let offline = setup(&forge).with(|config| config.mode = srm_mirror::cache::policy::UpstreamMode::Offline);
    let offline = offline.start_in(to.path()).await;
    for (path, expected) in paths.iter().zip(&bodies) {
        let got = offline.get(path).await;
        assert_eq!((got.status, &content(&got)), (200, expected), "{path}");
    }
    assert_eq!(forge.requests().len(), 0);
    let sources = offline.admin(to.path(), "route", json!({"name": "fc3"})).await;
    for dialect in sources[0]["dialects"].as_array().expect("dialects") {
        assert_eq!((dialect["rule"].as_str(), &dialect["asked"]), (Some("recorded"), &json!(["official:fc3"])));
    }
}

#[tokio::test]
async fn the_report_of_a_plain_name_has_the_default_routes() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let report = mirror.admin(mirror.dir(), "route", json!({"name": "fc3"})).await;
    let rows = report[0]["dialects"].as_array().expect("dialects");
    let rows: Vec<_> =
        rows.iter().map(|row| (row["dialect"].as_str(), row["rule"].as_str(), row["asked"].clone())).collect();
    let both = ["official:fc3", "official-2x:fc3"];
    let expected = [
        (Some("srm"), Some("default"), json!(both)),
        (Some("simple"), Some("default"), json!([both[1], both[0]])),
        (Some("v3"), Some("default"), json!([both[0]])),
    ];
    assert_eq!(rows, expected);
    let dropped = mirror.admin(mirror.dir(), "route", json!({"name": "devsapp/core"})).await;
    let simple = dropped[0]["dialects"].as_array().expect("rows").iter().find(|row| row["dialect"] == "simple");
    assert_eq!(simple.expect("a row")["asked"], json!(["official-2x:core", "github:devsapp/core"]));
}

#[tokio::test]
async fn the_source_of_a_plain_name_is_set_and_the_github_dialect_has_none() {
    let forge = forge().await;
    forge.simple_registry().component("fc3").version("9.0.0");
    let dir = tempfile::tempdir().expect("a directory");
    let running = setup(&forge).start_in(dir.path()).await;
    let latest = async |path: &str| running.get(path).await.json();
    assert_eq!(latest("/fc3/releases/latest").await["tag_name"], "0.1.22");
    let set = async |arguments: &[&str]| {
        Launch::over(&forge, dir.path(), &[&["route", "set"], arguments].concat()).run().await
    };
    let done = set(&["fc3", "official-2x"]).await;
    let lines =
        "fc3 in srm: official-2x:fc3, was official\nfc3 in simple: official-2x:fc3\nfc3 in v3: official-2x:fc3\n";
    assert_eq!((done.code, done.out.as_str()), (Some(0), lines), "{done:?}");
    assert_eq!(latest("/fc3/releases/latest").await["tag_name"], "9.0.0");
    for (arguments, reason) in [
        (&["fc3", "github"][..], "github has no package fc3: its packages are written owner/repo"),
        (&["acme/fc3", "official"], "official has no package acme/fc3: its packages have names without a slash"),
        (&["devsapp/core", "official-2x", "--dialect", "github"], "it has repositories of forges only"),
    ] {
        let refused = set(arguments).await;
        assert!(refused.code == Some(64) && refused.err.contains(reason), "{refused:?}");
    }
    let dropped = set(&["devsapp/core", "official-2x"]).await;
    assert!(dropped.code == Some(0) && !dropped.out.contains("github"), "{dropped:?}");
}

#[tokio::test]
async fn the_start_says_where_plain_names_come_from_by_default() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let process = Launch::serve(&forge, dir.path()).start().await;
    let line = "\nplain names: v3 from official; simple from official-2x, then official; srm from official, then official-2x\n";
    assert!(process.out().contains(line), "{}", process.out());
}

/// A mirror whose `dev` is stored, and its bundle.
async fn exported_dev(forge: &Forge) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let warmed = Launch::over(forge, dir.path(), &["warm", "official:fc3@dev", "fc3"]).run().await;
    assert!(warmed.code == Some(0) && warmed.out.contains("fetched official:fc3@dev "), "{warmed:?}");
    let bundle = dir.path().join("bundle.tar").to_str().expect("text").to_owned();
    let exported = cache(forge, dir.path(), &["export", &bundle, "fc3@dev"]).await;
    assert!(exported.code == Some(0) && exported.out.starts_with("1 zips, "), "{exported:?}");
    (dir, bundle)
}

#[tokio::test]
async fn a_moving_version_is_marked_and_cannot_be_locked() {
    let forge = forge().await;
    forge.registry().component("fc3").version("dev");
    let (dir, _) = exported_dev(&forge).await;
    let table = cache(&forge, dir.path(), &["ls"]).await.out;
    let line = table.lines().find(|line| line.contains("dev")).expect("a line");
    assert!(line.starts_with("official:fc3  dev (moving)  ") && !line.contains("pinned"), "{table}");
    let row = cache(&forge, dir.path(), &["ls", "fc3@dev", "--json"]).await.out;
    let row: Value = serde_json::from_str(&row).expect("JSON");
    assert_eq!((&row["kind"], &row["version"], &row["pinned"]), (&json!("moving"), &json!("dev"), &json!(false)));

    let file = dir.path().join("srm-mirror.lock");
    let lock = async |pattern: &str| {
        cache(&forge, dir.path(), &["lock", pattern, "--file", file.to_str().expect("text")]).await
    };
    let left_out = "left out  official:fc3@dev: its content changes\n";
    let locked = lock("fc3").await;
    assert!(locked.code == Some(0) && locked.out.starts_with(left_out), "{locked:?}");
    assert!(locked.out.contains("1 packages in "), "{locked:?}");
    let before = std::fs::read_to_string(&file).expect("written");
    assert!(before.contains("0.1.22") && !before.contains("dev"), "{before}");
    let locked = lock("fc3@dev").await;
    assert!(locked.code == Some(1) && locked.out.starts_with(left_out), "{locked:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), before);
}

#[tokio::test]
async fn an_imported_moving_version_is_served_and_never_replaces_a_later_one() {
    let forge = forge().await;
    let fc3 = forge.registry().component("fc3").version("dev");
    let first = fc3.sha256("dev");
    let (_from, bundle) = exported_dev(&forge).await;
    let offline = async |dir: &Path| {
        let setup = setup(&forge).with(|config| config.mode = srm_mirror::cache::policy::UpstreamMode::Offline);
        let mirror = setup.start_in(dir).await;
        let got = mirror.get("/official/fc3/flat/dev").await;
        assert_eq!(got.status, 200, "{got:?}");
        got.sha256()
    };
    let empty = tempfile::tempdir().expect("a directory");
    let imported = cache(&forge, empty.path(), &["import", &bundle]).await;
    assert!(imported.code == Some(0) && imported.out.contains("1 zips "), "{imported:?}");
    assert_eq!(offline(empty.path()).await, first);

    let fc3 = fc3.republish("dev", |spec| spec.file("dist/index.js", "// the next one"));
    let later = tempfile::tempdir().expect("a directory");
    let warmed = Launch::over(&forge, later.path(), &["warm", "official:fc3@dev"]).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    let imported = cache(&forge, later.path(), &["import", &bundle]).await;
    assert!(imported.code == Some(0) && imported.out.contains("1 zips were here already"), "{imported:?}");
    assert_eq!(offline(later.path()).await, fc3.sha256("dev"));
    assert_ne!(fc3.sha256("dev"), first);
}

#[tokio::test]
async fn the_github_dialect_answers_from_the_forge_whatever_the_routes_say() {
    let forge = forge().await;
    forge.repo("devsapp/core").release("v7.0.0", |r| r);
    let upstreams = ["official-2x", "github"].map(str::to_owned).into();
    let row = srm_mirror::dialect::RouteConfig { packages: "devsapp/*".into(), dialect: None, upstreams };
    let mirror = setup(&forge).with(|config| config.routes = vec![row]).start().await;
    let tag = async |path: &str| mirror.get(path).await.json()["tag_name"].clone();
    assert_eq!(tag("/devsapp/core/releases/latest").await, "0.1.66");
    assert_eq!(tag("/repos/devsapp/core/releases/latest").await, "v7.0.0");
}
