//! A changed configuration is applied to new requests without a restart: all or nothing, and no request fails by it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::{
    eventually::eventually,
    forge::{Forge, Host, Match},
    plain_client,
    process::{Ended, Launch, Process},
};

const ZIP: &str = "/devsapp/fc3/zipball/1.0.0";
const LEN: u64 = 2 << 20;

/// A mirror with a configuration file.
struct Bench {
    forge: Forge,
    dir: tempfile::TempDir,
    mirror: Process,
}

impl Bench {
    async fn start(config: &str) -> Self {
        let forge = Forge::start().await;
        forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, LEN));
        forge.repo("acme/tool").release("v1.0.0", |r| r);
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("mirror.toml"), config).expect("written");
        let launch = Launch::serve(&forge, &cache_dir(dir.path()));
        let config_file = dir.path().join("mirror.toml");
        let mirror = launch.variable("SRM_MIRROR_CONFIG", config_file.to_str().expect("text")).start().await;
        Self { forge, dir, mirror }
    }

    fn configure(&self, config: &str) {
        fs::write(self.dir.path().join("mirror.toml"), config).expect("written");
    }

    /// Runs a command beside the mirror, without its configuration.
    async fn command(&self, arguments: &[&str]) -> Ended {
        let dir = cache_dir(self.dir.path());
        Launch::bare(arguments).argument("--cache-dir").argument(dir.to_str().expect("text")).run().await
    }

    async fn reload(&self) -> Value {
        let ended = self.command(&["reload", "--json"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).expect("JSON")
    }

    /// As [`Bench::reload`], over the control socket, without a process of its own.
    async fn mirror_reload(&self) -> Value {
        let socket = cache_dir(self.dir.path()).join("control.sock");
        let client = plain_client::builder().unix_socket(socket).build().expect("a client");
        let response = client.post("http://srm-mirror/-/reload").body("{}").send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
    }

    async fn status(&self, path: &str) -> u16 {
        self.mirror.get(path).await.status
    }
}

fn cache_dir(dir: &Path) -> PathBuf {
    dir.join("cache")
}

#[tokio::test]
async fn a_reload_applies_rules_names_and_limits_to_the_next_request() {
    let bench = Bench::start("").await;
    assert_eq!(bench.status(ZIP).await, 200);
    assert_eq!(bench.status("/tool/releases/latest").await, 404);
    bench.configure(
        "[packages]\ndeny = [\"devsapp/*\"]\n[names]\ndefault_owner = \"acme\"\n[clients]\nunknown_names_per_minute = 1\n",
    );
    let report = bench.reload().await;
    let keys: Vec<_> = report["changed"].as_array().expect("a list").iter().map(|change| &change["key"]).collect();
    assert_eq!(keys, ["clients.unknown_names_per_minute", "names.default_owner", "packages.deny"], "{report}");
    assert_eq!(report["changed"][2]["to"], json!("[\"devsapp/*\"]"));
    assert_eq!(report["needs_restart"], json!([]));
    assert_eq!(bench.status(ZIP).await, 403, "the answer was cached before the rule");
    assert_eq!(bench.status("/tool/releases/latest").await, 200);
    assert_eq!([bench.status("/acme/none/releases").await, bench.status("/acme/none2/releases").await], [404, 429]);

    bench.configure("");
    bench.reload().await;
    let fetched = bench.forge.count(|seen| seen.host == Host::Archive);
    assert_eq!(bench.status(ZIP).await, 200);
    assert_eq!(bench.forge.count(|seen| seen.host == Host::Archive), fetched, "what is stored was fetched again");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing() {
    let mut bench = Bench::start("[packages]\ndeny = [\"acme/*\"]\n").await;
    let bad = [
        ("[packages]\ndeny = []\nalow = [\"devsapp/*\"]\n", "alow"),
        ("[packages]\ndeny = [\"\"]\n", "packages.deny"),
        ("[names.aliases]\nfc3 = \"nowhere:devsapp/fc3\"\n", "nowhere"),
        ("[packages\n", "mirror.toml"),
    ];
    for (config, part) in bad {
        bench.configure(config);
        let ended = bench.command(&["reload"]).await;
        assert_eq!(ended.code, Some(64), "{config}: {ended:?}");
        assert!(ended.err.contains(part), "{config}: {ended:?}");
        assert_eq!([bench.status(ZIP).await, bench.status("/acme/tool/releases").await], [200, 403], "{config}");
    }
    bench.mirror.signal("HUP").await;
    bench.mirror.logs("the configuration is not reloaded").await;
    assert_eq!([bench.status(ZIP).await, bench.status("/acme/tool/releases").await], [200, 403]);
    fs::remove_file(bench.dir.path().join("mirror.toml")).expect("removed");
    assert_eq!(bench.command(&["reload"]).await.code, Some(64));
    assert_eq!(bench.status("/acme/tool/releases").await, 403);
}

#[tokio::test]
async fn a_setting_that_needs_a_restart_is_named_and_the_others_are_applied() {
    let bench = Bench::start("").await;
    bench.configure("[server]\nmax_connections = 17\n[disk]\ndocuments = \"64MiB\"\n[packages]\ndeny = [\"acme/*\"]\n");
    for _ in 0..2 {
        let ended = bench.command(&["reload"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.contains("server.max_connections: 4096 -> 17 (at the next start)"), "{ended:?}");
        assert!(ended.out.contains("disk.documents: "), "{ended:?}");
    }
    assert_eq!(bench.status("/acme/tool/releases").await, 403);
}

#[tokio::test]
async fn sighup_applies_the_configuration_and_the_log_level() {
    let mut bench = Bench::start("").await;
    bench.configure("[packages]\ndeny = [\"acme/*\"]\n[log]\nlevel = \"info,srm_mirror::access=off\"\n");
    bench.mirror.signal("HUP").await;
    bench.mirror.logs("configuration reloaded").await;
    let before = bench.mirror.err().len();
    assert_eq!(bench.status("/acme/tool/releases").await, 403);
    bench.mirror.signal("HUP").await;
    let reloaded = async || bench.mirror.err()[before..].contains("configuration reloaded");
    eventually("the configuration is reloaded again", reloaded).await;
    let again = bench.mirror.err();
    assert!(!again[before..].contains("/acme/tool/releases"), "{}", &again[before..]);
}

#[tokio::test]
async fn a_transfer_under_way_ends_whole_while_new_requests_follow_the_new_rules() {
    let bench = Bench::start("").await;
    let gate = bench.forge.gate(Match::on(Host::Archive), LEN / 2);
    let response = bench.mirror.open(ZIP).await;
    assert_eq!(response.status(), 200);
    gate.reached().await;
    bench.configure("[packages]\ndeny = [\"devsapp/*\"]\n");
    bench.reload().await;
    assert_eq!(bench.status(ZIP).await, 403);
    gate.open();
    let bytes = response.bytes().await.expect("a whole transfer");
    assert_eq!(srm_mirror::entry::Digest::of(&bytes).to_string(), bench.forge.sha256("devsapp/fc3", "v1.0.0"));
}

#[tokio::test]
async fn an_upstream_can_be_added_and_an_unchanged_one_keeps_its_state() {
    let bench = Bench::start("").await;
    assert_eq!(bench.status(ZIP).await, 200);
    let connections = bench.forge.connections();
    bench.configure(&format!(
        "[upstreams.second]\nkind = \"github\"\napi = \"{}\"\nredirect_hosts = [\"{}\"]\n",
        bench.forge.github_api(),
        bench.forge.archive_host()
    ));
    bench.reload().await;
    assert_eq!(bench.status("/acme/tool/releases").await, 200);
    assert_eq!(bench.forge.connections(), connections, "the connection of an unchanged upstream was not used again");
    assert_eq!(bench.status("/second/acme/tool/releases").await, 200);
}

#[tokio::test]
async fn tokens_hold_across_a_reload_and_a_revocation_after_it_is_in_force_at_once() {
    const RULES: &str = "[access]\nenabled = true\n[[access.rules]]\npackages = [\"acme/*\"]\nread = [\"token:ci\"]\n";
    let bench = Bench::start(RULES).await;
    let ended = bench.command(&["token", "create", "--name", "ci"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let token = ended.out.lines().find(|line| line.starts_with("srmt_")).expect("a token").to_owned();
    let status = async || {
        let request = bench.mirror.client.get(bench.mirror.url("/acme/tool/releases")).bearer_auth(&token);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(status().await, 200);
    bench.configure(&RULES.replace("token:ci", "token:other"));
    bench.reload().await;
    assert_ne!(status().await, 200, "the new rule names another principal");
    bench.configure(RULES);
    bench.reload().await;
    assert_eq!(status().await, 200);
    assert_eq!(bench.command(&["token", "revoke", "ci"]).await.code, Some(0));
    assert_eq!(status().await, 401);
}

#[tokio::test]
async fn no_request_fails_while_the_configuration_is_reloaded_a_hundred_times() {
    let bench = Bench::start("").await;
    assert_eq!(bench.status(ZIP).await, 200);
    let running = AtomicBool::new(true);
    let client = async || {
        let mut answers = 0_u32;
        while running.load(Ordering::Relaxed) {
            let path = if answers.is_multiple_of(4) { ZIP } else { "/devsapp/fc3/releases" };
            assert_eq!(bench.status(path).await, 200);
            answers += 1;
        }
        answers
    };
    let reloads = async {
        for number in 0..100 {
            bench.configure(if number % 2 == 0 { "[packages]\ndeny = [\"acme/*\"]\n" } else { "" });
            let body = bench.mirror_reload().await;
            assert_eq!(body["changed"].as_array().map(Vec::len), Some(1), "{body}");
        }
        running.store(false, Ordering::Relaxed);
    };
    let (answers, other_answers, ()) = tokio::join!(client(), client(), reloads);
    assert!(answers > 0 && other_answers > 0);
}

#[tokio::test]
async fn without_a_running_mirror_reload_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().to_str().expect("text");
    let ended = Launch::bare(&["reload", "--cache-dir", dir]).run().await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.err.contains("no mirror runs on the cache directory"), "{ended:?}");
}
