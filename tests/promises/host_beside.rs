//! Published packages beside those of upstreams: commands, offline mode, aliases, rules, and large numbers.

use std::{collections::BTreeSet, fs, time::Instant};

use reqwest::Method;
use serde_json::{Value, json};
use srm_mirror::{cache::policy::UpstreamMode, entry::Digest, registry::ModelMode, value::Period};

use crate::{
    eventually::eventually,
    forge::Forge,
    host::{HostDirs, HostProcess},
    hosted::{Host, component, stored_component},
    process::{Launch, is_stored},
};

/// How many versions the large package has.
const MANY_VERSIONS: usize = 5000;

#[tokio::test]
async fn the_inventory_lists_published_versions_beside_cached_ones() {
    let dirs = HostDirs::new().await;
    dirs.forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let mirror = dirs.start().await;
    let digest = mirror.publish("acme-x", "1.0.0").await;
    mirror.publish("acme-x", "dev").await;
    let got = async || mirror.get("/devsapp/fc3/zipball/1.0.0").await;
    eventually("it is stored", async || is_stored(&got().await)).await;
    assert_eq!(dirs.run(&["cache", "keep", "hosted:*@1.0.0"]).await.code, Some(0));
    for sort in ["name", "size", "age", "used", "hits"] {
        let listed = dirs.run(&["cache", "ls", "--json", "--sort", sort]).await;
        let rows: Vec<Value> = listed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let names: BTreeSet<_> = rows.iter().map(|row| (row["upstream"].as_str(), row["version"].as_str())).collect();
        let wanted = [("github", "v1.0.0"), ("hosted", "1.0.0"), ("hosted", "dev")];
        assert_eq!(names, wanted.map(|(upstream, version)| (Some(upstream), Some(version))).into(), "{listed:?}");
        let row = rows.iter().find(|row| row["version"] == "1.0.0").expect("a row");
        assert_eq!((&row["sha256"], &row["pinned"], &row["kept"]), (&json!(digest), &json!(true), &json!(true)));
        assert_eq!(row["findings"], json!([]), "{row}");
    }
    let one = dirs.run(&["cache", "ls", "hosted:*", "--limit", "1"]).await;
    assert!(one.out.contains("hosted:acme-x") && one.out.lines().count() == 2, "{one:?}");
    // The cache's own commands leave them alone.
    for arguments in [&["cache", "rm", "*", "--yes"][..], &["cache", "gc", "--unused", "0s", "--yes"]] {
        dirs.run(arguments).await;
        assert_eq!(mirror.get("/acme-x/flat/1.0.0").await.sha256(), digest, "{arguments:?}");
    }
    assert_eq!(dirs.run(&["host", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_bundle_says_that_it_leaves_published_versions_out_and_takes_none_in() {
    let dirs = HostDirs::new().await;
    dirs.forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let mirror = dirs.start().await;
    mirror.publish("acme-x", "1.0.0").await;
    let got = async || mirror.get("/devsapp/fc3/zipball/1.0.0").await;
    eventually("it is stored", async || is_stored(&got().await)).await;
    let bundle = dirs.cache.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    let says = "1 published versions match and are in no bundle; srm-mirror host export backs them up";
    let all = dirs.run(&["cache", "export", bundle]).await;
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(all.out.contains(says), "{all:?}");
    let none = dirs.run(&["cache", "export", bundle, "hosted:*"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(none.out.contains("no stored zip matches") && none.out.contains(says), "{none:?}");
    let other = dirs.run(&["cache", "export", bundle, "devsapp/*", "--json"]).await;
    assert!(other.out.contains("\"published_left_out\":0"), "{other:?}");
}

#[tokio::test]
async fn a_route_says_that_a_name_is_published_or_reserved_and_that_no_upstream_is_asked() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    mirror.publish("acme-x", "1.0.0").await;
    let asked = dirs.forge.count(|_| true);
    for (name, rule, says, versions) in [
        ("acme-x", "published", "published on this mirror; no upstream is asked", 1),
        ("ACME-X", "published", "published on this mirror; no upstream is asked", 1),
        ("acme-later", "reserved", "reserved for this mirror by [host]; no upstream is asked", 0),
        ("hosted:acme-x", "named", "the name says so", 1),
    ] {
        let report = dirs.run(&["route", name, "--json"]).await;
        let report: Value = serde_json::from_str(&report.out).expect("JSON");
        for row in report["dialects"].as_array().expect("dialects") {
            let package = row["asked"][0].as_str().expect("a package").to_ascii_lowercase();
            let plain = name.trim_start_matches("hosted:").to_ascii_lowercase();
            assert_eq!((&row["rule"], package), (&json!(rule), format!("hosted:{plain}")), "{report}");
        }
        assert_eq!(report["packages"][0]["versions"], versions, "{report}");
        let text = dirs.run(&["route", name]).await.out;
        assert!(text.contains(says), "{text}");
    }
    let set = dirs.run(&["route", "set", "acme-x", "official"]).await;
    assert_eq!(set.code, Some(64), "{set:?}");
    assert!(set.err.contains("acme-x belongs to this mirror"), "{set:?}");
    assert_eq!(dirs.forge.count(|_| true), asked);
}

#[tokio::test]
async fn warm_and_lock_take_published_packages_by_socket_by_address_and_from_a_lock_file() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    let digest = mirror.publish("acme-x", "1.0.0").await;
    mirror.publish("acme-x", "1.1.0").await;
    mirror.publish("acme-x", "dev").await;
    let asked = dirs.forge.count(|_| true);
    let by_socket = dirs.run(&["warm", "acme-x@all"]).await;
    assert_eq!(by_socket.code, Some(0), "{by_socket:?}");
    let address = mirror.process.url("");
    let warm = ["warm", "--server", &address, "acme-x@all", "acme-x@1.0.0"];
    let by_address = Launch::bare(&warm).variable("SRM_MIRROR_TOKEN", &mirror.token).run().await;
    assert_eq!(by_address.code, Some(0), "{by_address:?}");
    let refused = Launch::bare(&warm).run().await;
    assert_ne!(refused.code, Some(0), "without a token: {refused:?}");

    let file = dirs.cache.path().join("srm-mirror.lock");
    let file = file.to_str().expect("text");
    let locked = dirs.run(&["cache", "lock", "--file", file]).await;
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let text = fs::read_to_string(file).expect("a lock file");
    assert!(text.contains("upstream = \"hosted\"") && text.contains(&digest), "{text}");
    assert!(locked.out.contains("left out  hosted:acme-x@dev"), "{locked:?}");
    let by_lock = dirs.run(&["warm", "--locked", file]).await;
    assert_eq!(by_lock.code, Some(0), "{by_lock:?}");
    fs::write(file, text.replace(&digest, &"ab".repeat(32))).expect("written");
    let differs = dirs.run(&["warm", "--locked", file]).await;
    assert_eq!(differs.code, Some(1), "{differs:?}");
    assert_eq!(dirs.forge.count(|_| true), asked, "an upstream was asked");
}

#[tokio::test]
async fn offline_published_packages_are_published_and_served() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config| {
        config.mode = UpstreamMode::Offline;
        config.host.names = vec!["acme-*".into()];
    })
    .await;
    let asked = forge.count(|_| true);
    let zip = component("acme-x", "1.0.0");
    assert_eq!(host.put("acme-x", "1.0.0", zip.clone()).await.status, 201);
    for path in ["/acme-x/flat/1.0.0", "/v3/packages/acme-x/release/latest", "/simple/devsapp/acme-x/releases"] {
        assert_eq!(host.get(path).await.status, 200, "{path}");
    }
    assert_eq!(host.get("/acme-x/flat/1.0.0").await.sha256(), Digest::of(&zip).to_string());
    // Whether an upstream has it cannot be told.
    assert_eq!(host.put("other-x", "1.0.0", component("other-x", "1.0.0")).await.status, 503);
    assert_eq!(forge.count(|_| true), asked);
}

#[tokio::test]
async fn an_alias_leads_to_a_published_package_in_every_dialect() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config| {
        config.host.names = vec!["acme-*".into()];
        config.names.aliases.insert("short".into(), "hosted:acme-x".into());
    })
    .await;
    let zip = component("acme-x", "1.0.0");
    assert_eq!(host.put("acme-x", "1.0.0", zip.clone()).await.status, 201);
    for path in ["/short/flat/1.0.0", "/v3/packages/short/zipball/1.0.0"] {
        assert_eq!(host.get(path).await.sha256(), Digest::of(&zip).to_string(), "{path}");
    }
    assert_eq!(host.get("/simple/short/releases/latest").await.json()["Response"]["tag_name"], "1.0.0");
    let other = host.put("short", "1.1.0", component("short", "1.1.0")).await;
    assert_eq!((other.status, &other.json()["findings"][0]["rule"]), (422, &json!("name-differs")), "{:?}", other.body);
}

#[tokio::test]
async fn ages_blocks_and_the_package_model_apply_to_published_packages() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config| {
        config.host.names = vec!["acme-*".into()];
        config.packages.min_age = Period::secs(3600);
        config.packages.model = ModelMode::Enforce;
    })
    .await;
    assert_eq!(host.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await.status, 201);
    assert_eq!(host.get("/acme-x/flat/1.0.0").await.status, 403, "it is younger than an hour");
    let list = host.get("/acme-x/releases").await;
    assert!(!String::from_utf8_lossy(&list.body).contains("1.0.0"), "{:?}", list.body);
    host.mirror.clock.advance(std::time::Duration::from_secs(7200));
    assert_eq!(host.get("/acme-x/flat/1.0.0").await.status, 200);
    let block = json!({"pattern": "hosted:acme-x@1.0.0", "reason": "it is broken"});
    host.mirror.admin(host.mirror.dir(), "block", block).await;
    let blocked = host.get("/acme-x/flat/1.0.0").await;
    assert_eq!(blocked.status, 403, "{:?}", blocked.body);
    assert!(String::from_utf8_lossy(&blocked.body).contains("it is broken"));
}

#[tokio::test]
async fn a_list_of_five_thousand_versions_is_complete_page_by_page() {
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    mirror.publish("acme-x", "1.0.0").await;
    assert_eq!(mirror.process.stop().await.code, Some(0));
    let folder = dirs.store.path().join("releases/acme-x");
    let record = fs::read_to_string(folder.join("1.0.0.json")).expect("a record");
    for patch in 1..MANY_VERSIONS {
        let version = format!("1.0.{patch}");
        let text = record.replacen("\"version\":\"1.0.0\"", &format!("\"version\":\"{version}\""), 1);
        fs::write(folder.join(format!("{version}.json")), text).expect("written");
    }
    let started = Instant::now();
    let mirror = dirs.start().await;
    println!("start: {:?}", started.elapsed());
    let wanted: BTreeSet<String> = (0..MANY_VERSIONS).map(|patch| format!("1.0.{patch}")).collect();
    for (route, items) in [("/acme-x/releases", ""), ("/v3/packages/acme-x/release", "body")] {
        let mut found = Vec::new();
        for page in 1.. {
            let started = Instant::now();
            let got = mirror.get(&format!("{route}?page={page}")).await;
            assert_eq!(got.status, 200, "{route} {page}: {:?}", got.body);
            if page == 1 {
                println!("{route}, first page: {:?}, {} bytes", started.elapsed(), got.body.len());
            }
            let json = got.json();
            let rows = if items.is_empty() { &json } else { &json[items] };
            let rows = rows.as_array().expect("a list");
            if rows.is_empty() {
                break;
            }
            found.extend(rows.iter().map(|row| row["tag_name"].as_str().expect("a tag").to_owned()));
            assert!(found.len() <= MANY_VERSIONS, "{route}: more than there are");
        }
        assert_eq!(found.len(), MANY_VERSIONS, "{route}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted, "{route}");
    }
    let latest = format!("1.0.{}", MANY_VERSIONS - 1);
    assert_eq!(mirror.get("/acme-x/releases/latest").await.json()["tag_name"], latest);
    assert_eq!(dirs.run(&["cache", "ls", "hosted:*"]).await.out.lines().count(), MANY_VERSIONS + 1);
}

/// A line of `/proc/{pid}/status`, in bytes.
fn memory(mirror: &HostProcess, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mirror.process.pid())).expect("Linux");
    let line = status.lines().find_map(|text| text.strip_prefix(line)).expect("a line");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_length_of_uploads() {
    const UPLOADS: usize = 24;
    const ZIP_BYTES: usize = 6 << 20;
    // Each upload has up to 1 MiB that is not written yet, and as much that is being written.
    const MAX_GROWTH_BYTES: u64 = 72 << 20;
    let dirs = HostDirs::new().await;
    let mirror = dirs.start().await;
    mirror.publish("acme-x", "0.1.0").await;
    let zips: Vec<Vec<u8>> = (0..UPLOADS).map(|number| large(&format!("acme-{number}"), ZIP_BYTES, number)).collect();
    let before = memory(&mirror, "VmRSS:");
    let uploads = zips.into_iter().enumerate().map(|(number, zip)| {
        let path = format!("/acme-{number}/zipball/1.0.0");
        let mirror = &mirror;
        async move { mirror.send(Method::PUT, &path, zip).await.status }
    });
    let statuses = futures_util::future::join_all(uploads).await;
    assert_eq!(statuses, vec![201; UPLOADS]);
    let peak = memory(&mirror, "VmHWM:");
    println!("{UPLOADS} uploads of {ZIP_BYTES} bytes: from {before} to {peak}");
    assert!(peak.saturating_sub(before) < MAX_GROWTH_BYTES, "{before} before, {peak} at most");
}

/// A component with noise in it: a block that is repeated.
fn large(name: &str, bytes: usize, seed: usize) -> Vec<u8> {
    const BLOCK_BYTES: usize = 64 << 10;
    let mut state = seed as u64 + 1;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(BLOCK_BYTES)
    .collect();
    stored_component(name, "1.0.0", &[("noise.bin", &block.repeat(bytes / BLOCK_BYTES))])
}
