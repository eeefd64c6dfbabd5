//! `host export`, `import`, `verify` and `prune` over running, stopped and killed mirrors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use reqwest::Method;
use serde_json::{Value, json};
use srm_mirror::entry::Digest;
use tempfile::TempDir;

use crate::{
    eventually::eventually,
    forge::Forge,
    hosted::{component, component_with},
    mirror::TestResponse,
    process::{Ended, Launch, Process, files},
};

mod killed;

/// A cache directory and a directory of published packages, for the program as it is shipped.
pub struct HostDirs {
    pub forge: Forge,
    pub cache: TempDir,
    pub store: TempDir,
}

/// A running program that hosts packages, and the token of its publisher.
pub struct HostProcess {
    pub process: Process,
    pub token: String,
}

impl HostDirs {
    pub async fn new() -> Self {
        let cache = tempfile::tempdir().expect("a directory");
        let store = tempfile::tempdir().expect("a directory");
        Self { forge: Forge::start().await, cache, store }
    }

    /// A command with the configuration of both directories.
    pub fn launch(&self, arguments: &[&str]) -> Launch {
        self.launch_on(self.cache.path(), arguments)
    }

    fn launch_on(&self, cache: &Path, arguments: &[&str]) -> Launch {
        let rules = "[{packages = [\"*\"], read = [\"token:ci\"], publish = [\"token:ci\"], delete = [\"token:ci\"]}]";
        Launch::over(&self.forge, cache, arguments)
            .set("upstreams.hosted.dir", self.store.path().to_str().expect("text"))
            .set("upstreams.hosted.min_free", "0B")
            .set("host.names", "[\"acme-*\"]")
            .set("access.enabled", "true")
            .set("access.rules", rules)
    }

    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.launch(arguments).run().await
    }

    /// Starts the mirror; its publisher is made at the first start.
    pub async fn start(&self) -> HostProcess {
        HostProcess { process: self.launch(&["serve"]).start().await, token: self.token().await }
    }

    pub async fn token(&self) -> String {
        let file = self.cache.path().join("the-token");
        if let Ok(token) = fs::read_to_string(&file) {
            return token;
        }
        let scopes = ["--scope", "read", "--scope", "publish", "--scope", "delete"];
        let created = self.run(&[&["token", "create", "--name", "ci", "--json"], &scopes[..]].concat()).await;
        let created: Value = serde_json::from_str(&created.out).unwrap_or_else(|_| panic!("{created:?}"));
        let token = created["secret"].as_str().expect("a secret").to_owned();
        fs::write(&file, &token).expect("written");
        token
    }

    fn path(&self, name: &str) -> String {
        self.cache.path().join(name).to_str().expect("text").to_owned()
    }
}

impl HostProcess {
    pub async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> TestResponse {
        self.try_send(method, path, body).await.expect("a complete response")
    }

    pub async fn try_send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<TestResponse, reqwest::Error> {
        let request = self.process.client.request(method, self.process.url(path)).bearer_auth(&self.token);
        let response = request.body(body).send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(TestResponse { status, headers, body: response.bytes().await? })
    }

    pub async fn get(&self, path: &str) -> TestResponse {
        self.send(Method::GET, path, Vec::new()).await
    }

    pub async fn publish(&self, name: &str, version: &str) -> String {
        let zip = component(name, version);
        let digest = Digest::of(&zip).to_string();
        let got = self.send(Method::PUT, &format!("/{name}/zipball/{version}"), zip).await;
        assert_eq!(got.status, 201, "{:?}", got.body);
        digest
    }

    async fn delete(&self, name: &str, version: &str) {
        let got = self.send(Method::DELETE, &format!("/{name}/zipball/{version}"), Vec::new()).await;
        assert_eq!(got.status, 200, "{:?}", got.body);
    }
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn export_wipe_import_and_restart_serve_the_same_bytes_and_a_deleted_version_stays_deleted() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    let mut digests = BTreeMap::new();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        digests.insert(version, mirror.publish("acme-x", version).await);
    }
    mirror.delete("acme-x", "1.1.0").await;
    digests.remove("1.1.0");
    let full = dirs.path("sunday.tar");
    let exported = dirs.run(&["host", "export", &full]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert!(exported.out.starts_with("3 versions, 2 zips ("), "{exported:?}");
    digests.insert("1.3.0", mirror.publish("acme-x", "1.3.0").await);
    let more = dirs.path("monday.tar");
    let exported = dirs.run(&["host", "export", &more, "--since", &full, "--json"]).await;
    let report = lines(&exported).remove(0);
    assert_eq!((exported.code, &report["versions"], &report["zips"]), (Some(0), &json!(4), &json!(1)), "{exported:?}");

    // While the mirror holds the directory, nothing is imported.
    let held = dirs.run(&["host", "import", &full, &more]).await;
    assert_eq!(held.code, Some(69), "{held:?}");
    assert!(held.err.contains("is held by another process"), "{held:?}");
    assert_eq!(mirror.process.stop().await.code, Some(0));
    let used = dirs.run(&["host", "import", &full, &more]).await;
    assert_eq!(used.code, Some(64), "{used:?}");
    assert!(used.err.contains("is not empty"), "{used:?}");
    fs::remove_dir_all(dirs.store.path()).expect("wiped");

    let alone = dirs.run(&["host", "import", &more]).await;
    assert_eq!(alone.code, Some(64), "{alone:?}");
    assert!(alone.err.contains("is in none of the files; name the export that this one continues"), "{alone:?}");
    let refused = dirs.launch(&["serve"]).try_start().await.err().expect("an unfinished import is not served");
    assert!(refused.err.contains("was not finished; run srm-mirror host import again"), "{refused:?}");
    let imported = dirs.run(&["host", "import", &more, &full, "--json"]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert_eq!(lines(&imported)[0]["zips"], 3);

    let mirror = dirs.start().await;
    let verified = dirs.run(&["host", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.out.starts_with("4 versions and 3 zips (") && verified.out.ends_with(" verified: 0 damaged\n"));
    for (version, digest) in &digests {
        let got = mirror.get(&format!("/acme-x/flat/{version}")).await;
        assert_eq!((got.status, &got.sha256()), (200, digest), "{version}");
    }
    assert_eq!(mirror.get("/acme-x/flat/1.1.0").await.status, 404);
    let again = mirror.send(Method::PUT, "/acme-x/zipball/1.1.0", component("acme-x", "1.1.0")).await;
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")));
}

#[tokio::test]
async fn an_export_does_not_replace_the_export_that_it_continues() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    mirror.publish("acme-x", "1.0.0").await;
    let full = dirs.path("full.tar");
    assert_eq!(dirs.run(&["host", "export", &full]).await.code, Some(0));
    let before = fs::read(&full).expect("an export");
    let linked = dirs.path("linked.tar");
    fs::hard_link(&full, &linked).expect("linked");
    let symbolic = dirs.path("symbolic.tar");
    std::os::unix::fs::symlink(&full, &symbolic).expect("linked");
    fs::create_dir(dirs.path("folder")).expect("created");
    let spelled = dirs.path("folder/../full.tar");
    for (target, since) in [(&full, &full), (&full, &spelled), (&full, &linked), (&symbolic, &full), (&full, &symbolic)]
    {
        let refused = dirs.run(&["host", "export", target, "--since", since]).await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        assert!(refused.err.contains("is the same file as --since"), "{refused:?}");
        assert_eq!(fs::read(&full).expect("an export"), before, "{target} --since {since}");
    }
    // Without --since, an export replaces an earlier one by one that has every zip.
    let whole = dirs.run(&["host", "export", &full, "--json"]).await;
    assert_eq!((whole.code, &lines(&whole)[0]["zips"]), (Some(0), &json!(1)), "{whole:?}");
}

#[tokio::test]
async fn the_commands_work_without_a_mirror_and_say_what_is_wrong() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    for version in ["1.0.0", "1.1.0"] {
        mirror.publish("acme-x", version).await;
    }
    let full = dirs.path("full.tar");
    // Another cache directory cannot use the same packages.
    let other = tempfile::tempdir().expect("a directory");
    let held = dirs.launch_on(other.path(), &["host", "verify"]).run().await;
    assert_ne!(held.code, Some(0));
    assert!(held.err.contains("is held by another process"), "{held:?}");
    assert_eq!(mirror.process.stop().await.code, Some(0));
    for arguments in [&["host", "export", &full][..], &["host", "verify", "--json"]] {
        let ended = dirs.run(arguments).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let pruned = dirs.run(&["host", "prune", "--keep-last", "1", "--younger-than", "0s"]).await;
    assert_eq!(pruned.code, Some(0), "{pruned:?}");
    assert!(pruned.out.contains("version  acme-x@1.0.0") && !pruned.out.contains("1.1.0"), "{pruned:?}");
    for (arguments, words) in [
        (&["host", "export", &full, "--since", "/nowhere.tar"][..], "/nowhere.tar"),
        (&["host", "prune", "--keep-last", "0", "--younger-than", "1d"], "--keep-last"),
        (&["host", "prune", "a b", "--keep-last", "1", "--younger-than", "1d"], "not a pattern of packages"),
        (&["host", "import", "Cargo.toml", "--dir", "/nowhere"], "is no backup of published packages"),
    ] {
        let ended = dirs.run(arguments).await;
        assert!([64, 74].contains(&ended.code.expect("a code")), "{ended:?}");
        assert!(ended.err.contains(words), "{ended:?}");
    }
    // Without the section nothing can be published.
    let plain = Launch::over(&dirs.forge, other.path(), &["host", "verify"]).run().await;
    assert_eq!(plain.code, Some(64), "{plain:?}");
    assert!(plain.err.contains("nothing is published on this mirror"), "{plain:?}");
}

#[tokio::test]
async fn verification_of_a_running_mirror_names_what_is_damaged_and_it_is_served_no_more() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    let digest = mirror.publish("acme-x", "1.0.0").await;
    mirror.publish("acme-x", "1.1.0").await;
    assert_eq!(mirror.get("/acme-x/flat/1.0.0").await.status, 200);
    let blob = dirs.store.path().join(format!("blobs/{}/{digest}", &digest[..2]));
    let mut bytes = fs::read(&blob).expect("a zip");
    bytes[100] ^= 1;
    fs::write(&blob, &bytes).expect("written");
    let stray = Digest::of(b"stray").to_string();
    fs::create_dir_all(dirs.store.path().join("blobs").join(&stray[..2])).expect("created");
    fs::write(dirs.store.path().join(format!("blobs/{}/{stray}", &stray[..2])), b"stray").expect("written");
    let verified = dirs.run(&["host", "verify"]).await;
    assert_eq!(verified.code, Some(1), "{verified:?}");
    for words in
        ["damaged  acme-x@1.0.0: its zip is damaged", &format!("{stray}: no record names this zip"), "2 damaged"]
    {
        assert!(verified.out.contains(words), "{words}: {verified:?}");
    }
    assert!(!verified.out.contains("1.1.0"));
    let events = lines(&dirs.run(&["host", "verify", "--json"]).await);
    let damaged: Vec<&Value> = events.iter().filter(|event| event["event"] == "damaged").collect();
    let mut kinds: Vec<&str> = damaged.iter().map(|event| event["kind"].as_str().expect("a kind")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["zip-damaged", "zip-without-record"], "{events:?}");
    let exported = dirs.run(&["host", "export", &dirs.path("full.tar")]).await;
    assert_eq!(exported.code, Some(1), "{exported:?}");
    assert!(exported.out.contains(&digest) && !Path::new(&dirs.path("full.tar")).exists(), "{exported:?}");
    // A repeated answer of the last second has the pages that were changed, too: asked until it is over.
    eventually("the damaged zip is refused", async || mirror.get("/acme-x/flat/1.0.0").await.status == 500).await;
    assert_eq!(mirror.get("/acme-x/flat/1.1.0").await.status, 200);
}

#[tokio::test]
async fn pruning_shows_first_what_it_deletes_then_deletes_exactly_that_and_records_it() {
    let dirs = HostDirs::new().await;
    let audit = dirs.path("audit.jsonl");
    let process = dirs.launch(&["serve"]).set("audit.file", &audit).start().await;
    let mirror = HostProcess { process, token: dirs.token().await };
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "2.0.0-rc.1"] {
        mirror.publish("acme-x", version).await;
    }
    mirror.publish("acme-other", "1.0.0").await;
    for more in [b"1", b"2"] {
        let zip = component_with("acme-x", "dev", &[("more.js", more)]);
        assert_eq!(mirror.send(Method::PUT, "/acme-x/zipball/dev", zip).await.status, 201);
    }
    let kept = dirs.run(&["cache", "keep", "hosted:acme-x@1.0.0"]).await;
    assert_eq!(kept.code, Some(0), "{kept:?}");
    let prune = ["host", "prune", "acme-x", "--keep-last", "2", "--younger-than", "0s"];
    let young = dirs.run(&["host", "prune", "--keep-last", "1", "--younger-than", "1h"]).await;
    assert!(young.out.starts_with("0 versions and 0 earlier zips"), "{young:?}");
    let planned = dirs.run(&[&prune[..], &["--dry-run"]].concat()).await;
    assert_eq!(planned.code, Some(0), "{planned:?}");
    let rows = |ended: &Ended| {
        let rows = ended.out.lines().filter(|line| line.contains('@'));
        rows.map(|line| line.split("  ").take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(rows(&planned), ["version acme-x@1.1.0", "earlier acme-x@dev"], "{planned:?}");
    assert_eq!(mirror.get("/acme-x/flat/1.1.0").await.status, 200, "a dry run deletes nothing");
    let pruned = dirs.run(&prune).await;
    assert_eq!((pruned.code, rows(&pruned)), (Some(0), rows(&planned)), "{pruned:?}");
    assert_eq!(pruned.out.lines().count(), planned.out.lines().count());
    assert_eq!(mirror.get("/acme-x/flat/1.1.0").await.status, 404);
    for path in ["/acme-x/flat/1.0.0", "/acme-x/flat/1.3.0", "/acme-x/flat/2.0.0-rc.1", "/acme-x/flat/dev"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    assert_eq!(mirror.get("/acme-x/releases/latest").await.json()["tag_name"], "1.3.0");
    let again = mirror.send(Method::PUT, "/acme-x/zipball/1.1.0", component("acme-x", "1.1.0")).await;
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")), "a tombstone stays");
    let empty = dirs.run(&prune).await;
    assert!(rows(&empty).is_empty(), "{empty:?}");
    assert_eq!(dirs.run(&["host", "verify"]).await.code, Some(0));
    assert_eq!(mirror.process.stop().await.code, Some(0));
    let audit = fs::read_to_string(&audit).expect("a log");
    let acts: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let prunes: Vec<&Value> = acts.iter().filter(|act| act["action"] == "hosted/prune").collect();
    assert_eq!(prunes.len(), 2, "one of each: {audit}");
    assert_eq!((&prunes[0]["request"]["version"], &prunes[0]["outcome"]), (&json!("1.1.0"), &json!("done")));
}
