//! The executable: its output, its exit codes, and that no token appears in any of it.

use std::{fs, net::TcpListener, path::Path};

use crate::{
    forge::{Fault, Forge, Host, Match},
    process::{Launch, files},
};

const TOKEN: &str = "ghp_C0FFEEc0ffeeC0FFEEc0ffeeC0FFEEc0ffee";
const FROM_FILE: &str = "gitee0secret0gitee0secret0gitee0";

#[tokio::test]
async fn serve_needs_no_configuration_and_says_what_it_does() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path().to_str().expect("text");
    // Port 8080 may be in use; all other settings are defaults.
    let launch = Launch::bare(&["serve", "--listen", "127.0.0.1:0"]).variable("HOME", home);
    let mirror = launch.variable("GITHUB_TOKEN", TOKEN).start().await;
    let out = mirror.out();
    for part in [
        format!("listening on http://{}\n", mirror.address),
        format!("caching in {home}/.cache/srm-mirror, at most 50GiB\n"),
        "upstream github (default): https://api.github.com with the token in GITHUB_TOKEN\n".into(),
        "upstream gitee: https://gitee.com/api/v5 without a token (GITEE_TOKEN is not set)\n".into(),
    ] {
        assert!(out.contains(&part), "{part:?} is not in {out}");
    }
    assert_eq!(mirror.get("/healthz").await.status, 200);
    let ended = mirror.stop().await;
    assert_eq!(ended.code, Some(0));
    assert!(!format!("{ended:?}").contains(TOKEN));
}

#[tokio::test]
async fn the_environment_sets_the_thread_count_or_64_and_one_message() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path().to_str().expect("text");
    let serve = |threads| {
        let launch = Launch::bare(&["serve", "--listen", "127.0.0.1:0"]).variable("HOME", home);
        launch.variable("TOKIO_WORKER_THREADS", threads)
    };
    let mirror = serve("1").start().await;
    assert_eq!(mirror.get("/healthz").await.status, 200);
    assert_eq!(mirror.stop().await.code, Some(0));
    for wrong in ["0", "many", "", "1000000"] {
        let ended = serve(wrong).run().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(64), ""), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert!(
            ended.err.contains("config: TOKIO_WORKER_THREADS: ") && ended.err.contains("1 to 256"),
            "{}",
            ended.err
        );
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_64_and_one_message() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("mirror.toml");
    let home = dir.path().to_str().expect("text");
    for (text, parts) in [
        ("[disk]\nlimit = \"50 parsecs\"\n", ["disk.limit", "50 parsecs", "mirror.toml:2", "for example"]),
        ("[disk]\nlimit = \"1MiB\"\n", ["disk.limit", "1MiB", "mirror.toml:2", "4MiB"]),
        ("[server]\nlisten = \"here\"\n", ["server.listen", "here", "mirror.toml:2", "for example"]),
        ("[disk]\nlimt = \"1GiB\"\n", ["disk.limt", "no such key", "mirror.toml:2", "did you mean disk.limit"]),
        (
            "[upstreams.github]\ntoken_file = \"gone\"\n",
            ["upstreams.github.token_file", "gone", "mirror.toml:2", "no such file"],
        ),
    ] {
        fs::write(&file, text).expect("written");
        let name = file.to_str().expect("text");
        for arguments in
            [&["serve", "--config", name][..], &["config", "check", name], &["config", "show", "--config", name]]
        {
            let ended = Launch::bare(arguments).variable("HOME", home).run().await;
            assert_eq!((ended.code, ended.out.as_str()), (Some(64), ""), "{arguments:?}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
            for part in parts {
                let said = ended.err.to_lowercase();
                let part = part.to_lowercase();
                assert!(said.contains(&part), "{part:?} is not in {said}");
            }
        }
    }
    assert!(!dir.path().join(".cache").exists(), "a wrong configuration left something behind");
}

#[tokio::test]
async fn a_port_in_use_is_69_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let name = dir.path().to_str().expect("text");
    let ended = Launch::bare(&["serve", "--listen", &address, "--cache-dir", name]).run().await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.err.contains(&address) && ended.err.contains("--listen"), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

#[tokio::test]
async fn a_second_mirror_on_the_same_directory_names_the_holder() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let first = Launch::serve(&forge, dir.path()).start().await;
    let second = Launch::serve(&forge, dir.path()).run().await;
    assert_eq!(second.code, Some(74), "{second:?}");
    assert!(second.err.contains(&format!("in use by process {}", first.pid())), "{}", second.err);
    assert_eq!(first.get("/healthz").await.status, 200);
    first.kill().await;
    let third = Launch::serve(&forge, dir.path()).start().await;
    assert_eq!(third.stop().await.code, Some(0), "the lock of a killed process still holds");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_74() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let inside = file.join("cache");
    let name = inside.to_str().expect("text");
    let ended = Launch::bare(&["serve", "--listen", "127.0.0.1:0", "--cache-dir", name]).run().await;
    assert_eq!(ended.code, Some(74), "{ended:?}");
    let newer = dir.path().join("newer");
    fs::create_dir(&newer).expect("made");
    fs::write(newer.join("format"), "99\n").expect("written");
    let name = newer.to_str().expect("text");
    let ended = Launch::bare(&["serve", "--listen", "127.0.0.1:0", "--cache-dir", name]).run().await;
    assert_eq!(ended.code, Some(74), "{ended:?}");
    assert!(ended.err.contains("99") && ended.err.contains("newer version"), "{}", ended.err);
}

#[tokio::test]
async fn version_help_and_config_answer_on_standard_output() {
    let home = tempfile::tempdir().expect("a directory");
    let run = |arguments: &'static [&'static str]| {
        let launch = Launch::bare(arguments).variable("HOME", home.path().to_str().expect("text"));
        launch.variable("SRM_MIRROR__DISK__LIMIT", "7GiB").variable("GITHUB_TOKEN", TOKEN).run()
    };
    let version = run(&["--version"]).await;
    assert_eq!((version.code, version.out), (Some(0), format!("srm-mirror {}\n", env!("CARGO_PKG_VERSION"))));
    let help = run(&["--help"]).await;
    assert!(help.code == Some(0) && help.out.contains("Exit codes"), "{help:?}");
    let check = run(&["config", "check"]).await;
    assert!(check.code == Some(0) && check.out.contains("the configuration is valid"), "{check:?}");
    let show = run(&["config", "show"]).await;
    let limit = show.out.lines().find(|line| line.starts_with("limit")).expect("a limit");
    assert!(limit.contains("7GiB") && limit.contains("SRM_MIRROR__DISK__LIMIT"), "{limit}");
    assert!(toml::from_str::<toml::Table>(&show.out).is_ok(), "{}", show.out);
    let rows = run(&["config", "show", "--json"]).await;
    let shown: Vec<serde_json::Value> = serde_json::from_str(&rows.out).expect("an array");
    let limit = shown.iter().find(|row| row["key"] == "disk.limit").expect("a limit");
    let variable = "SRM_MIRROR__DISK__LIMIT";
    assert!(
        limit["value"] == "7GiB" && limit["source"].as_str().is_some_and(|text| text.contains(variable)),
        "{limit}"
    );
    assert!(!show.out.contains(TOKEN) && !check.out.contains(TOKEN) && !rows.out.contains(TOKEN));
    assert_eq!(run(&["sevre"]).await.code, Some(64));
}

/// Everything the mirror writes anywhere while it has tokens, at the most verbose log level.
#[tokio::test]
async fn no_token_is_in_any_output_log_answer_or_file() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let secret = tempfile::tempdir().expect("a directory");
    let file = secret.path().join("token");
    fs::write(&file, format!("{FROM_FILE}\n")).expect("written");
    forge.accept_token(TOKEN);
    forge.accept_token(FROM_FILE);
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"1"));
    forge.repo("devsapp/hidden").release("v1.0.0", |r| r).private();
    forge.gitee_repo("devsapp/demo").release("v1.0.0", |r| r.file("index.js", b"1"));
    let launch = Launch::serve(&forge, dir.path())
        .variable("GITHUB_TOKEN", TOKEN)
        .set("upstreams.gitee.token_file", file.to_str().expect("text"));
    let mut said = String::new();
    for arguments in [["config", "show"], ["config", "check"]] {
        let bare = Launch::bare(&arguments).variable("GITHUB_TOKEN", TOKEN);
        let bare = bare.variable("HOME", dir.path().to_str().expect("text"));
        let shown = bare.set("upstreams.gitee.token_file", file.to_str().expect("text")).run().await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        said += &format!("{shown:?}");
    }
    let mirror = launch.set("log.level", "trace").start().await;
    let paths = [
        "/devsapp/fc3/releases",
        "/devsapp/fc3/releases/latest",
        "/devsapp/fc3/zipball/v1.0.0",
        "/devsapp/fc3/metadata",
        "/devsapp/hidden/releases",
        "/devsapp/none/releases",
        "/gitee/devsapp/demo/releases",
        "/gitee/devsapp/demo/zipball/v1.0.0",
        "/gitee/devsapp/none/zipball/v1.0.0",
        "/readyz",
    ];
    let ask = async |paths: &[&str], said: &mut String| {
        for path in paths {
            let got = mirror.get(path).await;
            *said += &format!("{path} {} {:?} {}\n", got.status, got.headers, String::from_utf8_lossy(&got.body));
        }
    };
    ask(&paths, &mut said).await;
    assert!(said.contains("/gitee/devsapp/demo/zipball/v1.0.0 200"), "{said}");
    // The forge echoes the token, then rejects it, then is down.
    let words = format!("{{\"message\": \"Bad credentials {TOKEN} {FROM_FILE}\"}}");
    let repeat = forge.fault(Match::any(), Fault::status(401, &[("x-echo", TOKEN)], &words)).always();
    ask(&["/devsapp/a/releases", "/devsapp/b/zipball/v1", "/gitee/devsapp/c/releases"], &mut said).await;
    repeat.remove();
    forge.revoke_token(TOKEN);
    ask(&["/devsapp/d/releases", "/devsapp/fc3/zipball/v9"], &mut said).await;
    forge.down().await;
    ask(&["/devsapp/e/releases", "/gitee/devsapp/e/zipball/1"], &mut said).await;
    let asked = forge.requests();
    let sent = |token| asked.iter().any(|seen| seen.header("authorization").contains(token) || seen.contains(token));
    assert!(sent(TOKEN) && sent(FROM_FILE), "the tokens were never used, so this proves nothing");
    assert!(!asked.iter().any(|seen| seen.host == Host::Archive && seen.header("authorization").contains(TOKEN)));
    said += &format!("{:?}", mirror.stop().await);
    assert!(said.contains("TRACE") || said.contains("DEBUG"), "the level did not reach the log");
    for token in [TOKEN, FROM_FILE] {
        assert!(!said.contains(token), "a token was said: {}", around(&said, token));
        in_no_file(dir.path(), token);
    }
}

fn around<'a>(text: &'a str, what: &str) -> &'a str {
    let at = text.find(what).expect("there");
    let begin = text[..at].rfind('\n').map_or(0, |line| line + 1);
    text.get(begin..at + what.len()).unwrap_or_default()
}

fn in_no_file(dir: &Path, token: &str) {
    for (path, _) in files(dir) {
        let bytes = fs::read(&path).expect("a file");
        assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "{} has a token", path.display());
    }
}
