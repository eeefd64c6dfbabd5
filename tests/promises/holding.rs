//! One process holds a cache directory: a second one works through it, waits for it, or says why it cannot.

use crate::{
    forge::{Forge, Host, Match},
    process::{Launch, blob},
};

const ZIP: &str = "/devsapp/fc3/zipball/1.0.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 1 << 20));
    forge.repo("devsapp/start").release("v1.0.0", |r| r);
    forge
}

#[tokio::test]
async fn serve_waits_with_a_message_for_the_command_that_holds_the_directory() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let gate = forge.gate(Match::on(Host::Archive), 1 << 19);
    let warm = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3"]).begin();
    gate.reached().await;
    let mut serve = Launch::serve(&forge, dir.path()).begin();
    serve.wait_for_error_output("waiting until it ends").await;
    assert_eq!(serve.out(), "", "it serves although a command holds the directory");
    gate.open();
    assert_eq!(warm.ended().await.code, Some(0));
    serve.wait_for_output("ready\n").await;
    let out = serve.out();
    let url = out.lines().find_map(|line| line.strip_prefix("listening on ")).expect("an address");
    let got = reqwest::get(format!("{url}{ZIP}")).await.expect("an answer");
    assert_eq!(
        (got.status().as_u16(), &got.headers()["cache-status"]),
        (200, &"srm-mirror; hit; detail=disk".parse().expect("a value"))
    );
    serve.signal("TERM").await;
    let ended = serve.ended().await;
    assert_eq!((ended.code, ended.err.matches("waiting until it ends").count()), (Some(0), 1), "{ended:?}");
}

#[tokio::test]
async fn a_waiting_serve_ends_at_a_signal() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let gate = forge.gate(Match::on(Host::Archive), 1 << 19);
    let warm = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3"]).begin();
    gate.reached().await;
    let mut serve = Launch::serve(&forge, dir.path()).begin();
    serve.wait_for_error_output("waiting until it ends").await;
    serve.signal("TERM").await;
    assert_eq!(serve.ended().await.code, Some(143));
    gate.open();
    assert_eq!(warm.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_second_server_does_not_wait_and_names_the_holder() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let first = Launch::serve(&forge, dir.path()).start().await;
    let second = Launch::serve(&forge, dir.path()).begin().ended().await;
    assert_eq!(second.code, Some(74), "{second:?}");
    assert!(second.err.contains(&format!("in use by process {}", first.pid())), "{}", second.err);
    first.stop().await;
}

#[tokio::test]
async fn a_command_works_through_the_command_that_holds_the_directory() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let gate = forge.gate(Match::on(Host::Archive).containing("fc3"), 1 << 19);
    let first = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3"]).begin();
    gate.reached().await;
    let second = Launch::over(&forge, dir.path(), &["warm", "devsapp/start"]).run().await;
    assert_eq!(second.code, Some(0), "{second:?}");
    let listed = Launch::over(&forge, dir.path(), &["cache", "ls"]).run().await;
    assert!(listed.code == Some(0) && listed.out.contains("devsapp/start"), "{listed:?}");
    gate.open();
    assert_eq!(first.ended().await.code, Some(0));
    assert!(blob(dir.path(), &forge.sha256("devsapp/start", "v1.0.0")).exists());
}
