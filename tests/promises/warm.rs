//! `warm` fetches package specs in every form, and reports what it does.

use std::fs;

use serde_json::Value;

use crate::{
    forge::{Forge, Host},
    mirror::setup,
    process::{Ended, Launch, blob},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let repo = forge.repo("devsapp/fc3");
    let mut repo = repo.tag_only("edge");
    for (tag, day) in [("v1.0.0", "01"), ("v1.1.0", "02"), ("v1.2.0", "03"), ("v2.0.0", "04")] {
        let day = format!("2024-05-{day}T00:00:00Z");
        repo = repo.release(tag, |r| r.file("index.js", tag).created_at(&day).published_at(&day));
    }
    forge.repo("devsapp/fc").release("0.1.35", |r| r);
    forge.gitee_repo("devsapp/demo").release("v0.0.1", |r| r);
    forge
}

/// Runs `warm --json` over its own directory and reads its events.
async fn warm(forge: &Forge, arguments: &[&str]) -> (Ended, Vec<Value>) {
    let dir = tempfile::tempdir().expect("a directory");
    let ended = Launch::over(forge, dir.path(), &[&["warm", "--json"], arguments].concat()).run().await;
    let events = events(&ended);
    (ended, events)
}

fn events(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// The packages of all events of one kind, sorted.
fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e str> {
    let fits = events.iter().filter(|event| event["event"] == kind);
    let mut texts: Vec<_> = fits.map(|event| event["what"].as_str().expect("a text")).collect();
    texts.sort_unstable();
    texts
}

#[tokio::test]
async fn each_version_selector_fetches_its_versions() {
    let forge = forge().await;
    for (spec, fetched) in [
        (&["devsapp/fc3"][..], &["devsapp/fc3@v2.0.0"][..]),
        (&["devsapp/fc3@1.1.0"], &["devsapp/fc3@v1.1.0"]),
        (&["devsapp/fc@v0.1.35"], &["devsapp/fc@0.1.35"]),
        (&["devsapp/fc3@^1.1"], &["devsapp/fc3@v1.1.0", "devsapp/fc3@v1.2.0"]),
        (&["devsapp/fc3@>=1.1, <1.2"], &["devsapp/fc3@v1.1.0"]),
        (&["devsapp/fc3", "--latest", "2"], &["devsapp/fc3@v1.2.0", "devsapp/fc3@v2.0.0"]),
        (&["devsapp/fc3@edge"], &["devsapp/fc3@edge"]),
        (&["gitee:devsapp/demo"], &["gitee:devsapp/demo@v0.0.1"]),
        (
            &["devsapp/fc3@all"],
            &["devsapp/fc3@v1.0.0", "devsapp/fc3@v1.1.0", "devsapp/fc3@v1.2.0", "devsapp/fc3@v2.0.0"],
        ),
        (&["devsapp/fc3@^1", "devsapp/FC3@1.2.0", "--latest", "1"], &["devsapp/fc3@v1.2.0"]),
    ] {
        let (ended, events) = warm(&forge, spec).await;
        assert_eq!((ended.code, of(&events, "fetched")), (Some(0), fetched.to_vec()), "{spec:?}: {ended:?}");
        let summary = events.last().expect("a summary");
        assert_eq!((&summary["event"], &summary["failed"]), (&"summary".into(), &0.into()), "{spec:?}");
    }
}

#[tokio::test]
async fn specs_lists_and_standard_input_combine() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("list");
    let piped = dir.path().join("piped");
    fs::write(&list, "# Monday\ndevsapp/fc3@1.0.0   # the old one\n\nname\n").expect("written");
    fs::write(&piped, "gitee:devsapp/demo\n").expect("written");
    let cache = dir.path().join("cache");
    let list = list.to_str().expect("text");
    let redirect = format!("exec \"$@\" < {}", piped.display());
    let ended = Launch::over(&forge, &cache, &["warm", "--json", "devsapp/fc", "--file", list, "--file", "-"])
        .set("names.aliases", "{name = \"devsapp/fc3\"}")
        .by_way_of(&["sh", "-c", &redirect, "sh"])
        .run()
        .await;
    let events = events(&ended);
    let fetched = ["devsapp/fc3@v1.0.0", "devsapp/fc@0.1.35", "gitee:devsapp/demo@v0.0.1", "name@v2.0.0"];
    assert_eq!((ended.code, of(&events, "fetched")), (Some(0), fetched.to_vec()), "{ended:?}");
    for event in events.iter().filter(|event| event["event"] == "fetched") {
        assert!(blob(&cache, event["digest"].as_str().expect("a digest")).exists(), "{event}");
    }
}

#[tokio::test]
async fn excluded_and_too_young_versions_are_not_fetched() {
    let forge = forge().await;
    forge.repo("devsapp/fc3").release("v3.0.0-beta.1", |r| r.published_at("2024-05-05T00:00:00Z"));
    let now = jiff::Timestamp::now().to_string();
    forge.repo("devsapp/fc3").release("v3.0.0", |r| r.created_at("2024-05-05T00:00:00Z").published_at(&now));
    let arguments = ["devsapp/fc3@all", "devsapp/fc", "--exclude", "@*-beta*", "--exclude", "*/fc"];
    let (ended, events) =
        warm(&forge, &[&arguments[..], &["--exclude", "DevsApp/fc3@v1.*", "--min-age", "3d"]].concat()).await;
    assert_eq!((ended.code, of(&events, "fetched")), (Some(0), vec!["devsapp/fc3@v2.0.0"]), "{ended:?}");
    let skipped = of(&events, "skipped");
    assert!(skipped.contains(&"devsapp/fc") && skipped.contains(&"devsapp/fc3@v3.0.0"), "{skipped:?}");
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1);
}

#[tokio::test]
async fn a_dry_run_lists_the_plan_and_fetches_no_zip() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let run = |arguments: &'static [&'static str]| Launch::over(&forge, dir.path(), arguments).run();
    assert_eq!(run(&["warm", "--quiet", "devsapp/fc3@1.0.0"]).await.code, Some(0));
    let zips = forge.count(|seen| seen.host == Host::Archive);
    let dry = run(&["warm", "--dry-run", "devsapp/fc3@^1.0"]).await;
    let len = indicatif::BinaryBytes(forge.zip_bytes("devsapp/fc3", "v1.0.0").len() as u64).to_string();
    assert_eq!(dry.code, Some(0));
    assert!(dry.out.contains(&format!("is stored:   devsapp/fc3@v1.0.0, {len}\n")), "{}", dry.out);
    assert!(dry.out.contains("would fetch: devsapp/fc3@v1.2.0, of unknown size\n"), "{}", dry.out);
    assert!(dry.out.contains("2 to fetch") && dry.out.contains("1 already stored"), "{}", dry.out);
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), zips);
}

#[tokio::test]
async fn lists_and_latest_are_stored_too_and_answer_without_the_forge() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let ended = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3@1.0.0"]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.json().as_array().map(Vec::len), Some(4));
    assert_eq!(mirror.get("/devsapp/fc3/releases/latest").await.json()["tag_name"], "v2.0.0");
    let zip = mirror.get("/devsapp/fc3/zipball/1.0.0").await;
    assert_eq!((zip.status, zip.sha256()), (200, forge.sha256("devsapp/fc3", "v1.0.0")));
}

#[tokio::test]
async fn without_a_terminal_output_is_plain_and_quiet_prints_only_failures() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let said = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3", "devsapp/none"]).run().await;
    assert_eq!(said.code, Some(1));
    assert!(said.out.starts_with("fetched devsapp/fc3@v2.0.0 "), "{}", said.out);
    assert!(said.out.contains(&forge.sha256("devsapp/fc3", "v2.0.0")) && !said.out.contains('\u{1b}'), "{}", said.out);
    assert!(said.err.starts_with("failed  devsapp/none: there is no package"), "{}", said.err);
    let quiet = Launch::over(&forge, dir.path(), &["warm", "-q", "devsapp/fc3", "devsapp/none"]).run().await;
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.lines().count()), (Some(1), "", 1), "{quiet:?}");
}

#[tokio::test]
async fn bad_input_is_64_and_touches_nothing() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("list");
    fs::write(&list, "devsapp/fc3\na b c\n").expect("written");
    let list = list.to_str().expect("text");
    for arguments in [
        &["warm"][..],
        &["warm", "a/b/c"],
        &["warm", "devsapp/fc3@^x"],
        &["warm", "devsapp/fc3", "--jobs", "0"],
        &["warm", "devsapp/fc3", "--latest", "0"],
        &["warm", "devsapp/fc3", "--min-age", "soon"],
        &["warm", "--file", list],
        &["warm", "--file", "no-such-file"],
        &["warm", "--project", "no-such-folder"],
    ] {
        let ended = Launch::over(&forge, &dir.path().join("cache"), arguments).run().await;
        assert_eq!(ended.code, Some(64), "{arguments:?}: {ended:?}");
    }
    assert!(forge.requests().is_empty() && !dir.path().join("cache").exists());
}
