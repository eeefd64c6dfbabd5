//! A cache on its own small file system that is really full: a tmpfs visible only to the mirror's process.
//!
//! Where mounting is not permitted these tests fail with the reason; `--skip mounted::` skips them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::fs::statvfs;

use crate::{
    eventually::eventually,
    forge::{Forge, Host},
    host::{HostDirs, HostProcess},
    hosted::component_with,
    process::{Launch, Process, is_stored, spooled},
    zips::{blobs, evict, pins},
};

/// Starts a mirror whose cache directory is a file system of that many MiB. Its content ends with the process.
async fn start(launch: Launch, dir: &Path, mebibytes: u64) -> (Process, PathBuf) {
    start_after(":", launch, dir, mebibytes).await
}

/// As [`start`], after a shell command in the new, empty directory.
async fn start_after(first: &str, launch: Launch, dir: &Path, mebibytes: u64) -> (Process, PathBuf) {
    let mount = format!("mount -t tmpfs -o size={mebibytes}m,mode=700 cache \"$0\"");
    let script = format!("{mount} && cd \"$0\" && {{ {first}; cd /; }} && exec \"$@\"");
    let dir = dir.to_str().expect("text");
    let launch = launch.by_way_of(&["unshare", "-rm", "sh", "-c", &script, dir]);
    match launch.try_start().await {
        Ok(mirror) => {
            let seen = PathBuf::from(format!("/proc/{}/root{dir}", mirror.pid()));
            (mirror, seen)
        }
        Err(ended) if ended.err.contains("srm-mirror:") => panic!("the mirror did not start: {}", ended.err),
        Err(ended) => panic!("NOT PROVED HERE: no file system can be mounted for a test (unshare -rm): {}", ended.err),
    }
}

/// Fetches a zip and compares it; true for a hit.
async fn fetch(mirror: &Process, forge: &Forge, n: u64) -> bool {
    let got = mirror.get(&format!("/load/p{n}/zipball/v1.0.0")).await;
    assert_eq!((got.status, got.sha256()), (200, forge.sha256(&format!("load/p{n}"), "v1.0.0")), "p{n}");
    is_stored(&got)
}

fn used(dir: &Path) -> u64 {
    let stat = statvfs(dir).expect("a file system");
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

fn free(dir: &Path) -> u64 {
    let stat = statvfs(dir).expect("a file system");
    stat.f_bavail * stat.f_frsize
}

async fn state(mirror: &Process) -> (u16, String) {
    let ready = mirror.get("/readyz").await;
    (ready.status, ready.json()["status"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn under_load_the_file_system_never_holds_more_than_the_limit() {
    const LIMIT: u64 = 16 << 20;
    let forge = Forge::with_numbered_packages(40, 700_000).await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = Launch::serve(&forge, dir.path()).set("disk.limit", "16MiB").set("memory.archives", "0");
    let (mirror, seen) = start(launch.set("log.level", "warn"), dir.path(), 64).await;
    let most = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let sampler = {
        let most = most.clone();
        let over = over.clone();
        let seen = seen.clone();
        // The file system's own figure includes unlinked files that are still read, at one moment.
        std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                most.fetch_max(used(&seen), Ordering::AcqRel);
                std::thread::yield_now();
            }
        })
    };
    let mirror = Arc::new(mirror);
    let forge = Arc::new(forge);
    let clients: Vec<_> = (0..6)
        .map(|client| {
            let mirror = mirror.clone();
            let forge = forge.clone();
            tokio::spawn(async move {
                for step in 0..25 {
                    fetch(&mirror, &forge, (client * 7 + step * (client + 1)) % 40).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("only good answers");
    }
    over.store(true, Ordering::Release);
    sampler.join().expect("no panic");
    let most = most.load(Ordering::Acquire);
    assert!(most <= LIMIT, "{most} bytes lay on disk, {LIMIT} are allowed");
    assert!(most > LIMIT / 2, "the load did not use the limit: {most}");
    assert!(forge.count(|seen| seen.host == Host::Archive) > 40, "nothing was evicted");
    assert_eq!(state(&mirror).await, (200, "ready".to_owned()));
}

#[tokio::test]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn on_a_full_disk_the_client_gets_every_byte_and_the_mirror_recovers() {
    let forge = Forge::with_numbered_packages(8, 3 << 20).await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = Launch::serve(&forge, dir.path()).set("memory.archives", "0");
    let (mirror, seen) = start(launch, dir.path(), 24).await;
    assert_eq!(state(&mirror).await, (200, "ready".to_owned()));
    // Another process fills the disk.
    let ballast = seen.join("ballast");
    let left = free(&seen);
    std::fs::write(&ballast, vec![7; usize::try_from(left - (1 << 20)).expect("fits")]).expect("written");
    for n in 0..3 {
        fetch(&mirror, &forge, n).await;
    }
    assert_eq!(state(&mirror).await, (200, "degraded".to_owned()), "{}", mirror.err());
    let log = mirror.err();
    assert!(!log.contains("panicked"), "{log}");

    std::fs::remove_file(&ballast).expect("removed");
    fetch(&mirror, &forge, 4).await;
    let stored = || async { fetch(&mirror, &forge, 4).await };
    eventually("there is room again and it is used", stored).await;
    assert_eq!(state(&mirror).await, (200, "ready".to_owned()));
    assert_eq!(mirror.stop().await.code, Some(0));
}

#[tokio::test]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn on_a_disk_smaller_than_the_limit_the_oldest_are_evicted_for_the_newest() {
    let forge = Forge::with_numbered_packages(12, 3 << 20).await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = Launch::serve(&forge, dir.path()).set("memory.archives", "0");
    let (mirror, _seen) = start(launch, dir.path(), 16).await;
    for n in 0..12 {
        fetch(&mirror, &forge, n).await;
    }
    let stored = || async { fetch(&mirror, &forge, 11).await };
    eventually("the newest is stored", stored).await;
}

#[tokio::test]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn a_publication_on_a_full_file_system_is_503_and_leaves_nothing() {
    let dirs = HostDirs::new().await;
    let launch = dirs.launch(&["serve"]);
    let (process, seen) = start(launch, dirs.store.path(), 8).await;
    let mirror = HostProcess { process, token: dirs.token().await };
    mirror.publish("acme-x", "1.0.0").await;
    let names = || {
        let files = crate::process::files(&seen).into_iter().map(|(path, _)| path);
        files.filter(|path| !path.ends_with("ballast")).collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    // At some of these sizes the zip finds no room, at others its folder or its record.
    for kib in [0, 4, 8, 12, 16, 24] {
        let mut ballast = std::fs::File::create(seen.join("ballast")).expect("created");
        while std::io::Write::write_all(&mut ballast, &[7; 4096]).is_ok() {}
        let len = ballast.metadata().expect("a file").len();
        ballast.set_len(len - (kib << 10)).expect("room for a part");
        let zip = component_with("acme-x", "1.1.0", &[("noise.bin", &[7; 9000])]);
        let got = mirror.send(reqwest::Method::PUT, "/acme-x/zipball/1.1.0", zip).await;
        if got.status == 201 {
            // The rest of the room was enough.
            assert!(kib > 0);
            break;
        }
        assert_eq!(got.status, 503, "{kib}: {:?}", got.body);
        assert!(!got.header("retry-after").is_empty(), "{kib}");
        assert_eq!(names(), before, "{kib}: {}", mirror.process.err());
        assert_eq!(mirror.get("/acme-x/flat/1.1.0").await.status, 404);
        assert_eq!(mirror.get("/acme-x/flat/1.0.0").await.status, 200, "what is published goes on");
    }
    // Deletions and marks write short records only; without room they are refused, and nothing changes.
    std::fs::remove_file(seen.join("ballast")).expect("removed");
    mirror.publish("acme-y", "1.0.0").await;
    assert_eq!(dirs.run(&["host", "verify"]).await.code, Some(0));
    assert!(!mirror.process.err().contains("panicked"));
}

async fn starts_on_a_full_disk(killed: bool) {
    let forge = Forge::with_numbered_packages(4, 1 << 20).await;
    let dir = tempfile::tempdir().expect("a directory");
    let kept = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, kept.path()).start().await;
    for n in 0..3 {
        fetch(&mirror, &forge, n).await;
        let stored = || async { fetch(&mirror, &forge, n).await };
        eventually("it is stored", stored).await;
    }
    if killed {
        mirror.kill().await;
    } else {
        assert_eq!(mirror.stop().await.code, Some(0));
    }
    let launch = Launch::serve(&forge, dir.path()).set("memory.archives", "0");
    let fill = format!("cp -a {}/. . && ! dd if=/dev/zero of=ballast bs=4k 2>/dev/null", kept.path().display());
    let (mirror, seen) = start_after(&fill, launch, dir.path(), 12).await;
    let asked = forge.count(|seen| seen.host == Host::Archive);
    // The start may have evicted the least recently used zip; the others are stored.
    for n in 1..3 {
        assert!(fetch(&mirror, &forge, n).await, "p{n}: {}", mirror.err());
    }
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), asked);
    fetch(&mirror, &forge, 3).await;
    std::fs::remove_file(seen.join("ballast")).expect("removed");
    let stored = || async { fetch(&mirror, &forge, 3).await };
    eventually("there is room again and it is used", stored).await;
    assert_eq!(state(&mirror).await, (200, "ready".to_owned()));
    assert_eq!(mirror.stop().await.code, Some(0));
}

#[tokio::test]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn a_start_on_a_full_disk_serves_what_is_stored() {
    starts_on_a_full_disk(false).await;
}

#[tokio::test]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn a_start_on_a_full_disk_after_a_kill_serves_what_is_stored() {
    starts_on_a_full_disk(true).await;
}

#[tokio::test]
#[ignore = "needs a mount namespace; .ci/run runs it where that is permitted"]
async fn on_a_full_disk_what_passes_through_is_pinned_and_other_content_is_refused() {
    let forge = Forge::with_numbered_packages(6, 1 << 20).await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = Launch::serve(&forge, dir.path()).set("memory.archives", "0");
    let (mirror, seen) = start(launch, dir.path(), 16).await;
    // Another process fills the disk to its last byte; no zip is stored that could make room.
    let mut ballast = std::fs::File::create(seen.join("ballast")).expect("created");
    let block = [7; 4096];
    while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
    assert_eq!(free(&seen), 0);
    for n in 0..6 {
        assert!(!fetch(&mirror, &forge, n).await);
    }
    assert_eq!((pins(&seen).len(), blobs(&seen)), (6, 0), "{}", mirror.err());
    forge.repo("load/p5").tag("v1.0.0", |r| r.stored().noise("big.bin", 99, 200_000));
    // Short: it is compared with its pin before its first byte.
    let got = mirror.get("/load/p5/zipball/v1.0.0").await;
    assert_eq!(got.status, 502, "{:?}", got.headers);
    mirror.kill().await;
}

#[tokio::test]
async fn a_new_version_that_cannot_be_pinned_is_503_and_what_is_pinned_goes_on() {
    let forge = Forge::with_numbered_packages(2, 300_000).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    fetch(&mirror, &forge, 0).await;
    eventually("it is stored", || async { fetch(&mirror, &forge, 0).await }).await;
    assert_eq!(mirror.stop().await.code, Some(0));
    // A journal beyond the limit of a file's size: no byte of it can be written.
    let journal = dir.path().join("pins.jsonl");
    let line = std::fs::read_to_string(&journal).expect("text");
    std::fs::write(&journal, line.repeat((9 << 20) / line.len())).expect("written");
    evict(dir.path());
    let script = "trap '' XFSZ; ulimit -f 8192 && exec \"$@\"";
    let launch = Launch::serve(&forge, dir.path()).set("memory.archives", "0");
    let mirror = launch.by_way_of(&["sh", "-c", script, "sh"]).start().await;
    let asked = forge.count(|seen| seen.host == Host::Archive);
    let got = mirror.get("/load/p1/zipball/v1.0.0").await;
    assert_eq!((got.status, got.header("retry-after")), (503, "30"), "{}", mirror.err());
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), asked, "what cannot be served is not fetched");
    assert_eq!(state(&mirror).await, (200, "degraded".to_owned()));
    fetch(&mirror, &forge, 0).await;
    eventually("it is stored again", || async { fetch(&mirror, &forge, 0).await }).await;
}

#[tokio::test]
async fn a_file_size_limit_costs_no_client_a_byte() {
    let forge = Forge::with_numbered_packages(2, 12 << 20).await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("load/small").release("v1.0.0", |r| r.file("index.js", b"1"));
    // The shell's block is 512 or 1024 bytes; either total is smaller than the zip and larger than the index.
    let script = "trap '' XFSZ; ulimit -f 8192 && exec \"$@\"";
    let launch = Launch::serve(&forge, dir.path()).by_way_of(&["sh", "-c", script, "sh"]);
    let mirror = launch.start().await;
    fetch(&mirror, &forge, 0).await;
    fetch(&mirror, &forge, 1).await;
    assert_eq!(state(&mirror).await, (200, "degraded".to_owned()), "{}", mirror.err());
    assert_eq!(mirror.get("/load/small/zipball/v1.0.0").await.status, 200);
    eventually("a write that works is noticed", || async { state(&mirror).await.1 == "ready" }).await;
    eventually("the spool is empty", || async { spooled(dir.path()) == 0 }).await;
}
