//! After kill -9 at any moment a start serves no partial object and needs no repair by hand.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use srm_mirror::{
    storage::disk::{self, Disk},
    value::ByteSize,
};
use tokio::sync::watch;

use crate::{
    eventually::eventually,
    forge::{Forge, Gate, Host, Match},
    process::{Dice, Launch, Process, files, is_stored, space, spooled},
};

const ZIP: &str = "/devsapp/fc3/zipball/1.0.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 2 << 20));
    forge
}

/// Kills a mirror while its only download waits at a gate, starts again and checks what is left.
async fn killed_at(gate: impl FnOnce(&Forge) -> Gate, bytes_are_spooled: bool) {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let gate = gate(&forge);
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let client = mirror.client.clone();
    let url = mirror.url(ZIP);
    let waiting = tokio::spawn(async move { client.get(url).send().await?.bytes().await });
    gate.reached().await;
    if bytes_are_spooled {
        eventually("a part is in the spool", || async { spooled(dir.path()) == 1 }).await;
    }
    mirror.kill().await;
    let cut = waiting.await.expect("no panic");
    assert!(cut.is_err(), "a killed transfer looked whole: {} bytes", cut.map_or(0, |bytes| bytes.len()));

    forge.down().await;
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    assert_eq!(spooled(dir.path()), 0, "the spool folder is not swept");
    assert_eq!(mirror.get(ZIP).await.status, 502, "half an object was served");
    mirror.kill().await;

    gate.open();
    forge.up().await;
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, forge.sha256("devsapp/fc3", "v1.0.0")));
    assert_eq!(mirror.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_kill_before_the_first_byte_leaves_nothing() {
    killed_at(|forge| forge.gate_head(Match::on(Host::Archive)), false).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_download_leaves_nothing() {
    killed_at(|forge| forge.gate(Match::on(Host::Archive), 1 << 20), true).await;
}

#[tokio::test]
async fn a_kill_after_the_last_byte_and_before_the_verdict_leaves_nothing() {
    let end = |forge: &Forge| forge.zip_bytes("devsapp/fc3", "v1.0.0").len() as u64;
    killed_at(|forge| forge.gate(Match::on(Host::Archive), end(forge)), true).await;
}

#[tokio::test]
async fn what_was_stored_before_a_kill_is_served_after_it_without_the_forge() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let zip = mirror.get(ZIP).await;
    let list = mirror.get("/devsapp/fc3/releases").await;
    let stored = || async { is_stored(&mirror.get(ZIP).await) };
    eventually("the zip is stored", stored).await;
    mirror.kill().await;
    forge.down().await;
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let again = mirror.get(ZIP).await;
    assert_eq!((again.status, again.sha256()), (200, zip.sha256()));
    assert!(again.cache_status().starts_with("srm-mirror; hit"), "{}", again.cache_status());
    let again = mirror.get("/devsapp/fc3/releases").await;
    assert_eq!(again.json()[0]["tag_name"], list.json()[0]["tag_name"]);
}

const LIMIT: u64 = 6 << 20;
const PACKAGES: u64 = 30;

/// Requests random zips until the connection is cut; compares every whole response with the forge's zip, and counts it.
async fn ask(
    mirror: Arc<Process>,
    sums: Arc<BTreeMap<u64, String>>,
    seed: u64,
    answered: watch::Sender<u64>,
) -> Vec<u64> {
    let mut dice = Dice::new(seed);
    let mut whole = Vec::new();
    loop {
        let n = dice.roll(PACKAGES);
        let Ok(got) = mirror.try_get(&format!("/load/p{n}/zipball/v1.0.0")).await else { return whole };
        assert_eq!((got.status, got.sha256().as_str()), (200, sums[&n].as_str()), "seed {seed}: {:?}", got.headers);
        whole.push(n);
        answered.send_modify(|answered| *answered += 1);
        if whole.len() > 500 {
            return whole;
        }
    }
}

fn pinned(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("pins.jsonl")).expect("the journal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_damage_nothing_and_the_budget_equals_the_disk() {
    let forge = Forge::start().await;
    forge.rate_limits(1_000_000, 1_000_000);
    let mut sums = BTreeMap::new();
    for n in 0..PACKAGES {
        let name = format!("load/p{n}");
        forge.repo(&name).release("v1.0.0", |r| r.noise("data.bin", n, 20_000 + n * 15_000));
        sums.insert(n, forge.sha256(&name, "v1.0.0"));
    }
    let sums = Arc::new(sums);
    let dir = tempfile::tempdir().expect("a directory");
    // The memory cache is off, so that every hit comes from disk.
    let launch = Launch::serve(&forge, dir.path()).set("disk.limit", "6MiB").set("memory.archives", "0");
    let launch = launch.set("log.level", "warn");
    let mut dice = Dice::new(0x5eed);
    let mut served = 0;
    for round in 0..20 {
        let mirror = Arc::new(launch.clone().start().await);
        let answered = watch::Sender::new(0);
        let client = |n: u64| tokio::spawn(ask(mirror.clone(), sums.clone(), 100 * round + n + 1, answered.clone()));
        let clients: Vec<_> = (0..4).map(client).collect();
        // After a random answer, while other clients wait for theirs.
        let last = dice.roll(100);
        answered.subscribe().wait_for(|answered| *answered >= last).await.expect("clients ask");
        mirror.signal("KILL").await;
        let journal = {
            let mut whole = Vec::new();
            for client in clients {
                whole.extend(client.await.expect("only good answers"));
            }
            served += whole.len();
            let journal = pinned(dir.path());
            for n in whole {
                assert!(
                    journal.contains(&format!("load/p{n}/")),
                    "round {round}: p{n} was handed out and is not pinned"
                );
            }
            journal
        };
        let ended = Arc::into_inner(mirror).expect("the clients have ended").ended().await;
        assert!(!ended.err.contains("panicked"), "{}", ended.err);

        let config = disk::Config { limit: ByteSize(LIMIT), documents: ByteSize(LIMIT / 4), ..Default::default() };
        let opened = dir.path().to_owned();
        let path = dir.path().to_owned();
        let disk = tokio::task::spawn_blocking(move || Disk::open(&config, &opened)).await.expect("no panic");
        // Checked while the directory is held: closing shrinks the index.
        let disk = disk.expect("opens by itself");
        assert_eq!(spooled(&path), 0, "round {round}: the spool folder is not swept");
        // The index may still be growing.
        eventually(&format!("round {round}: the budget equals the disk"), async || {
            let usage = disk.usage();
            let lies = space(&path);
            let index = std::fs::metadata(path.join("index.redb")).expect("an index").len();
            assert!(usage.bytes <= LIMIT && lies <= LIMIT, "round {round}: {usage:?}, on disk {lies}");
            // A write may double the index, so twice its length is reserved.
            usage.bytes == lies + index.div_ceil(4096) * 4096
        })
        .await;
        assert!(pinned(&path).starts_with(&journal[..journal.rfind('\n').map_or(0, |at| at + 1)]), "pins were lost");
    }
    assert!(served > 20, "the load did nothing: {served}");
    assert!(files(&dir.path().join("quarantine")).is_empty(), "a kill damaged a blob");
    let mirror = launch.start().await;
    assert_eq!(mirror.get("/readyz").await.json()["status"], "ready");
    ask_all(&mirror, &sums).await;
    assert_eq!(mirror.stop().await.code, Some(0));
}

async fn ask_all(mirror: &Process, sums: &BTreeMap<u64, String>) {
    for (n, sum) in sums {
        let got = mirror.get(&format!("/load/p{n}/zipball/v1.0.0")).await;
        assert_eq!((got.status, &got.sha256()), (200, sum), "p{n}");
    }
}
