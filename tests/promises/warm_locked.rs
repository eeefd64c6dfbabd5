//! `warm --locked` fills exactly what a lock file names, and fails on any difference.

use std::{fs, path::Path};

use crate::{
    forge::{Forge, Host},
    process::{Ended, Launch, blob},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("a", "1")).release("v1.1.0", |r| r.file("a", "2"));
    forge.gitee_repo("devsapp/demo").release("v0.0.1", |r| r);
    forge
}

fn row(upstream: &str, package: &str, version: &str, sha256: &str, commit: &str) -> String {
    format!(
        "\n[[package]]\nupstream = \"{upstream}\"\npackage = \"{package}\"\nkind = \"tag\"\nversion = \"{version}\"\n\
         sha256 = \"{sha256}\"\ncommit = \"{commit}\"\nfirst_seen = \"2024-05-01T00:00:00Z\"\n"
    )
}

async fn warm(forge: &Forge, dir: &Path, rows: &str) -> Ended {
    let file = dir.join("srm-mirror.lock");
    fs::write(&file, format!("# Written by srm-mirror cache lock.\nversion = 1\n{rows}")).expect("written");
    let file = file.to_str().expect("text");
    Launch::over(forge, &dir.join("cache"), &["warm", "--locked", file]).run().await
}

#[tokio::test]
async fn exactly_what_is_locked_is_fetched() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let sum = forge.sha256("devsapp/fc3", "v1.0.0");
    let commit = forge.repo("devsapp/fc3").commit("v1.0.0");
    let gitee = forge.gitee_repo("devsapp/demo").sha256("v0.0.1");
    let rows = row("github", "devsapp/fc3", "v1.0.0", &sum, &commit)
        + &row("gitee", "devsapp/demo", "v0.0.1", &gitee, "").replace("commit = \"\"\n", "");
    let ended = warm(&forge, dir.path(), &rows).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(blob(&dir.path().join("cache"), &sum).exists() && blob(&dir.path().join("cache"), &gitee).exists());
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1, "more than what is locked was fetched");
}

#[tokio::test]
async fn a_lock_file_of_one_mirror_fills_another() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let first = dir.path().join("first");
    let second = dir.path().join("second");
    let file = dir.path().join("srm-mirror.lock");
    let file = file.to_str().expect("text");
    let specs = ["warm", "devsapp/fc3@all", "gitee:devsapp/demo"];
    assert_eq!(Launch::over(&forge, &first, &specs).run().await.code, Some(0));
    let locked = Launch::over(&forge, &first, &["cache", "lock", "--file", file]).run().await;
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let warmed = Launch::over(&forge, &second, &["warm", "--locked", file]).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    assert!(warmed.out.contains("3 fetched"), "{}", warmed.out);
    assert!(blob(&second, &forge.sha256("devsapp/fc3", "v1.1.0")).exists());
}

#[tokio::test]
async fn any_difference_from_the_lock_is_a_failure_that_names_it() {
    let forge = forge().await;
    let sum = forge.sha256("devsapp/fc3", "v1.0.0");
    let commit = forge.repo("devsapp/fc3").commit("v1.0.0");
    for (sum, commit, why) in [
        ("ab".repeat(32), commit.clone(), "is locked"),
        (sum.clone(), "ab".repeat(20), "its commit is"),
        (forge.sha256("devsapp/fc3", "v1.1.0"), commit, "its SHA-256 is"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let ended = warm(&forge, dir.path(), &row("github", "devsapp/fc3", "v1.0.0", &sum, &commit)).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("failed  github:devsapp/fc3@v1.0.0: ") && ended.err.contains(why), "{}", ended.err);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let ended = warm(&forge, dir.path(), &row("github", "devsapp/fc3", "v1.0.0", "short", "")).await;
    assert_eq!(ended.code, Some(64), "{ended:?}");
}

#[tokio::test]
async fn commits_and_branches_are_locked_as_commits_and_filled_as_such() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/fc3").branch("topic", |b| b.file("index.js", b"topic"));
    // A tag without a release, and a branch.
    forge.repo("devsapp/fc3").tag("edge", |t| t.file("a", "tag")).branch("edge", |b| b.file("a", b"branch"));
    let first = dir.path().join("first");
    let second = dir.path().join("second");
    let file = dir.path().join("srm-mirror.lock");
    let locked = file.to_str().expect("text");
    let release = forge.repo("devsapp/fc3").commit("v1.0.0");
    let topic = forge.repo("devsapp/fc3").commit("topic");
    let specs = ["warm", &format!("devsapp/fc3@{release}"), "devsapp/fc3@topic", "devsapp/fc3@refs/tags/edge"];
    let warmed = Launch::over(&forge, &first, &specs).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    let done = Launch::over(&forge, &first, &["cache", "lock", "--file", locked]).run().await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = fs::read_to_string(&file).expect("written");
    assert_eq!((text.matches("kind = \"commit\"").count(), text.matches("kind = \"tag\"").count()), (2, 1), "{text}");
    for commit in [&release, &topic] {
        assert!(text.contains(&format!("version = \"{commit}\"")), "{text}");
    }

    // A branch that has moved no longer matches the lock file.
    forge.repo("devsapp/fc3").branch("topic", |b| b.file("index.js", b"moved"));
    let warmed = Launch::over(&forge, &second, &["warm", "--json", "--locked", locked]).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    assert!(warmed.out.contains("\"fetched\":3"), "{}", warmed.out);
    for line in text.lines().filter_map(|line| line.strip_prefix("sha256 = ")) {
        assert!(blob(&second, line.trim_matches('"')).exists(), "{line}");
    }
    assert!(blob(&second, &forge.sha256("devsapp/fc3", "refs/tags/edge")).exists());

    fs::write(&file, text.replace(&topic, "topic")).expect("written");
    let warmed = Launch::over(&forge, &second, &["warm", "--locked", locked]).run().await;
    assert_eq!(warmed.code, Some(64), "{warmed:?}");
    assert!(warmed.err.contains("\"topic\" is no full commit"), "{}", warmed.err);
}

#[tokio::test]
async fn a_locked_tag_is_fetched_as_a_tag_whatever_its_name() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["latest", "all", "1.0.0", "v1.0.0"];
    for (name, content) in names.iter().zip(["a", "b", "c"]) {
        forge.repo("devsapp/fc3").tag(name, |t| t.file("a", content));
    }
    let sum = |name: &str| forge.sha256("devsapp/fc3", &format!("refs/tags/{name}"));
    let rows = names.map(|name| row("github", "devsapp/fc3", name, &sum(name), "").replace("commit = \"\"\n", ""));
    let ended = warm(&forge, dir.path(), &rows.concat()).await;
    assert!(ended.code == Some(0) && ended.out.contains("4 fetched"), "{ended:?}");
    for name in names {
        assert!(blob(&dir.path().join("cache"), &sum(name)).exists(), "{name}");
    }
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 4, "more than what is locked was fetched");

    let twice = warm(&forge, dir.path(), &[rows[0].clone(), rows[0].clone()].concat()).await;
    assert!(twice.code == Some(64) && twice.err.contains("devsapp/fc3@latest is locked twice"), "{twice:?}");
    // Only v1.1.0 exists, a different version.
    let toggled = row("github", "devsapp/fc3", "1.1.0", &sum("v1.0.0"), "").replace("commit = \"\"\n", "");
    let ended = warm(&forge, dir.path(), &toggled).await;
    assert!(ended.code == Some(1) && ended.err.contains("failed  github:devsapp/fc3@1.1.0"), "{ended:?}");
}
