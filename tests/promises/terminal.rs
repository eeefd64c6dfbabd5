//! On a terminal (a real pseudo-terminal here) destructive commands ask first, and long work shows a progress bar.
//!
//! The terminal is that of `script` (util-linux), which passes the exit code on.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{
    forge::{Forge, Host, Match},
    mirror::setup,
    process::{Launch, blob, files},
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";

async fn forge(content: &str) -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", content));
    forge
}

async fn filled(forge: &Forge, dir: &Path) {
    let ended = Launch::over(forge, dir, &["warm", "--quiet", "devsapp/fc3"]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Runs `cache` on a terminal and types `answer` at the question. Returns the exit code and the terminal's text.
async fn at_terminal(dir: &Path, arguments: &[&str], answer: &str) -> (Option<i32>, String) {
    at_terminal_while(dir, arguments, answer, async || {}).await
}

/// As [`at_terminal`]; `between` happens after the question and before the answer.
async fn at_terminal_while(
    dir: &Path,
    arguments: &[&str],
    answer: &str,
    between: impl AsyncFn(),
) -> (Option<i32>, String) {
    let dir = dir.to_str().expect("text");
    let words = [&[env!("CARGO_BIN_EXE_srm-mirror"), "cache"], arguments, &["--cache-dir", dir]].concat();
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    let command = format!("stty cols 120 rows 40; exec {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-f", "-c", &command, "/dev/null"]);
    script.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = script.spawn().expect("script runs");
    let mut typed = child.stdin.take().expect("piped");
    let mut shown = child.stdout.take().expect("piped");
    let conversation = async {
        let mut text = String::new();
        let mut asked = false;
        let mut buf = [0; 4096];
        loop {
            match shown.read(&mut buf).await {
                Ok(0) | Err(_) => break text,
                Ok(len) => text += &String::from_utf8_lossy(&buf[..len]),
            }
            if !asked && text.contains("[y/N]") {
                asked = true;
                between().await;
                typed.write_all(format!("{answer}\n").as_bytes()).await.expect("typed");
            }
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(60), conversation).await.expect("it ends");
    (child.wait().await.expect("a child").code(), text)
}

#[tokio::test]
async fn on_a_terminal_destructive_commands_ask_and_no_changes_nothing() {
    let forge = forge("1").await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await;
    let zip = blob(dir.path(), &forge.sha256("devsapp/fc3", "v1.0.0"));
    for arguments in [&["rm", "devsapp/fc3"][..], &["rm", "devsapp/fc3", "--forget"], &["gc", "--unused", "0s"]] {
        for answer in ["n", "", "nonsense"] {
            let (code, text) = at_terminal(dir.path(), arguments, answer).await;
            assert!(text.contains("remove them? [y/N]") && text.contains("devsapp/fc3"), "{arguments:?}: {text}");
            assert_eq!((code, zip.exists()), (Some(1), true), "{arguments:?} {answer:?}: {text}");
            assert!(!text.contains("removed"), "{text}");
        }
    }
    let (code, text) = at_terminal(dir.path(), &["rm", "devsapp/fc3", "--dry-run"], "y").await;
    assert_eq!((code, zip.exists(), text.contains("[y/N]")), (Some(0), true, false), "{text}");
    let (code, text) = at_terminal(dir.path(), &["rm", "devsapp/fc3"], "y").await;
    assert_eq!((code, zip.exists()), (Some(0), false), "{text}");
    assert!(text.contains("removed"), "{text}");
}

#[tokio::test]
async fn on_a_terminal_the_yes_flag_asks_nothing() {
    let forge = forge("1").await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await;
    let (code, text) = at_terminal(dir.path(), &["gc", "--unused", "0s", "--yes"], "n").await;
    assert_eq!((code, text.contains("[y/N]")), (Some(0), false), "{text}");
    assert!(!blob(dir.path(), &forge.sha256("devsapp/fc3", "v1.0.0")).exists());
}

#[tokio::test]
async fn on_a_terminal_a_forced_import_asks_before_it_replaces_pinned_content() {
    let one = forge("1").await;
    let other = forge("2").await;
    let from = tempfile::tempdir().expect("a directory");
    let to = tempfile::tempdir().expect("a directory");
    filled(&one, from.path()).await;
    filled(&other, to.path()).await;
    let bundle = from.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    assert_eq!(at_terminal(from.path(), &["export", bundle], "").await.0, Some(0));
    let [first, second] = [one.sha256("devsapp/fc3", "v1.0.0"), other.sha256("devsapp/fc3", "v1.0.0")];
    let there = || [&first, &second].map(|sum| blob(to.path(), sum).exists());
    let (code, text) = at_terminal(to.path(), &["import", bundle, "--force"], "n").await;
    assert_eq!((code, there()), (Some(1), [false, true]), "{text}");
    let (code, text) = at_terminal(to.path(), &["import", bundle, "--force"], "y").await;
    assert_eq!((code, there()), (Some(0), [true, false]), "{text}");
}

#[tokio::test]
async fn verifying_shows_a_bar_at_a_terminal_and_plain_lines_elsewhere() {
    let forge = forge("1").await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    mirror.stop().await;
    assert!(!files(&dir.path().join("blobs")).is_empty());
    let (code, text) = at_terminal(dir.path(), &["verify"], "").await;
    assert!(code == Some(0) && text.contains(" of ") && text.contains("to go"), "{text}");
    assert!(text.contains("0 damaged"), "{text}");
    let plain = crate::cache_ops::cache(dir.path(), &["verify"]).await;
    let text = crate::cache_ops::said(&plain);
    assert!(!text.contains("to go") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn warming_shows_a_bar_for_all_and_one_for_each_download_at_a_terminal() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    for n in 0..3 {
        forge.repo("devsapp/fc3").release(&format!("v1.{n}.0"), |r| r.noise("data.bin", n, 1 << 20));
    }
    let gates = ["v1.1.0", "v1.2.0"].map(|tag| forge.gate(Match::on(Host::Archive).containing(tag), 1 << 19));
    let script = "script -q -e -f -c \"stty cols 120 rows 40; exec '$0' $*\" /dev/null";
    let launch = Launch::over(&forge, dir.path(), &["warm", "--jobs", "2", "devsapp/fc3@all"]);
    let mut command = launch.variable("TERM", "xterm").by_way_of(&["sh", "-c", script]).command();
    let mut child = command.stdin(Stdio::piped()).spawn().expect("script runs");
    let _typed = child.stdin.take();
    let mut shown = child.stdout.take().expect("piped");
    let mut text = String::new();
    let mut buf = [0; 4096];
    let mut held = true;
    let watching = async {
        while let Ok(len @ 1..) = shown.read(&mut buf).await {
            text += &String::from_utf8_lossy(&buf[..len]);
            let bars = ["] 0/3 versions, ", "  devsapp/fc3@v1.2.0 ", "  devsapp/fc3@v1.1.0 ", " 512.00 KiB "];
            if held && bars.iter().all(|bar| text.contains(bar)) {
                held = false;
                gates.iter().for_each(crate::forge::Gate::open);
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), watching).await.is_ok();
    assert!(ended && !held, "{text}");
    assert_eq!(child.wait().await.expect("a child").code(), Some(0), "{text}");
    assert!(text.contains("3 fetched ("), "{text}");
}

#[tokio::test]
async fn yes_removes_what_was_shown_and_nothing_stored_since() {
    let forge = forge("1").await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/fc3").release("v1.1.0", |r| r.file("index.js", "2"));
    let mirror = setup(&forge).start_in(dir.path()).await;
    let stored = async || mirror.admin(dir.path(), "stock", serde_json::json!({})).await;
    let fetch = async |path: &str, count: usize| {
        assert_eq!(mirror.get(path).await.status, 200);
        crate::eventually::eventually("it is stored", async || stored().await.len() == count).await;
    };
    for arguments in [&["rm", "devsapp/fc3"][..], &["rm", "*/*", "--forget"], &["gc", "--unused", "0s"]] {
        fetch(ZIP, 1).await;
        let late = async || {
            fetch("/devsapp/fc3/zipball/v1.1.0", 2).await;
            assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
        };
        let (code, text) = at_terminal_while(dir.path(), arguments, "y", late).await;
        assert!(code == Some(0) && text.contains("1 zips"), "{arguments:?}: {text}");
        let left = stored().await;
        assert!(left.len() == 1 && left[0]["version"] == "v1.1.0", "{arguments:?}: {left:?}");
        assert!(left[0]["pinned"] == true, "{arguments:?}: {left:?}");
        mirror.admin(dir.path(), "rm", serde_json::json!({"pattern": "*/*"})).await;
    }
}
