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
    let (forge, dir) = (forge().await, tempfile::tempdir().expect("a directory"));
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
async fn any_difference_is_a_failure_that_says_what_differs() {
    let forge = forge().await;
    let (sum, commit) = (forge.sha256("devsapp/fc3", "v1.0.0"), forge.repo("devsapp/fc3").commit("v1.0.0"));
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
