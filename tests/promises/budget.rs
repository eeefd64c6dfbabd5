//! Bytes on disk never exceed the limit, eviction is by least recent use, and a zip being read is not cut.

use std::path::Path;

use srm_mirror::{config::Config, value::ByteSize};

use crate::{
    eventually::eventually,
    forge::{Forge, Host},
    mirror::{Mirror, setup},
    process::{blob, space},
};

const LIMIT: u64 = 12 << 20;

fn small(config: &mut Config) {
    config.disk.limit = ByteSize(LIMIT);
    config.disk.documents = ByteSize(LIMIT / 4);
}

async fn fetch(mirror: &Mirror, forge: &Forge, n: u64) {
    let got = mirror.get(&format!("/load/p{n}/zipball/v1.0.0")).await;
    assert_eq!((got.status, got.sha256()), (200, sum(forge, n)), "p{n}");
}

fn sum(forge: &Forge, n: u64) -> String {
    forge.sha256(&format!("load/p{n}"), "v1.0.0")
}

fn stored(dir: &Path, forge: &Forge, n: u64) -> bool {
    blob(dir, &sum(forge, n)).exists()
}

fn archives(forge: &Forge) -> usize {
    forge.count(|seen| seen.host == Host::Archive)
}

#[tokio::test]
async fn files_never_exceed_the_limit_and_the_most_recent_stay() {
    let forge = Forge::with_numbered_packages(40, 900_000).await;
    let mirror = setup(&forge).with(small).start().await;
    for n in 0..40 {
        fetch(&mirror, &forge, n).await;
        let lies = space(mirror.dir());
        assert!(lies <= LIMIT, "p{n}: {lies} bytes of {LIMIT}");
    }
    let dir = mirror.stop().await.expect("its own");
    let kept: Vec<u64> = (0..40).filter(|n| stored(dir.path(), &forge, *n)).collect();
    assert!(kept.len() > 4, "the limit is hardly used: {kept:?}");
    assert_eq!(kept, (40 - kept.len() as u64..40).collect::<Vec<_>>(), "not the least recently used went");
}

#[tokio::test]
async fn a_zip_used_from_memory_is_not_evicted_from_disk() {
    let forge = Forge::with_numbered_packages(30, 900_000).await;
    let mirror = setup(&forge).with(small).start().await;
    fetch(&mirror, &forge, 0).await;
    let hot = || async { mirror.head("/load/p0/zipball/v1.0.0").await.cache_status().contains("memory") };
    eventually("it is in memory", hot).await;
    fetch(&mirror, &forge, 1).await;
    for n in 2..30 {
        fetch(&mirror, &forge, n).await;
        let hot = mirror.get("/load/p0/zipball/v1.0.0").await;
        assert!(hot.cache_status().contains("memory"), "{}", hot.cache_status());
    }
    assert!(stored(mirror.dir(), &forge, 0), "the hottest one was evicted");
    assert!(!stored(mirror.dir(), &forge, 1), "the load did not fill the limit");
}

#[tokio::test]
async fn a_pin_outlives_its_zip_and_judges_what_is_fetched_again() {
    let forge = Forge::with_numbered_packages(20, 900_000).await;
    let none = |config: &mut Config| {
        small(config);
        config.memory.archives = ByteSize(0);
        config.memory.archive_max = ByteSize(0);
    };
    let mirror = setup(&forge).with(none).start().await;
    for n in 0..20 {
        fetch(&mirror, &forge, n).await;
    }
    assert!(!stored(mirror.dir(), &forge, 0) && !stored(mirror.dir(), &forge, 1));
    let asked = archives(&forge);
    fetch(&mirror, &forge, 0).await;
    assert_eq!(archives(&forge), asked + 1);
    forge.repo("load/p1").tag("v1.0.0", |t| t.noise("data.bin", 99, 900_000));
    let got = mirror.get("/load/p1/zipball/v1.0.0").await;
    assert_eq!(got.status, 502);
    assert!(String::from_utf8_lossy(&got.body).contains("pin-mismatch"), "{:?}", got.body);
    // The same files in another packing are the same content.
    assert!(!stored(mirror.dir(), &forge, 2));
    forge.repo("load/p2").repack("v1.0.0");
    fetch(&mirror, &forge, 2).await;
}

#[tokio::test]
async fn eviction_never_cuts_a_zip_that_is_being_read() {
    const LARGE: u64 = 24 << 20;
    let forge = Forge::with_numbered_packages(20, 2 << 20).await;
    forge.repo("load/large").release("v1.0.0", |r| r.noise("data.bin", 7, LARGE));
    let limit = |config: &mut Config| {
        config.disk.limit = ByteSize(36 << 20);
        config.disk.documents = ByteSize(4 << 20);
    };
    let mirror = setup(&forge).with(limit).start().await;
    let large = forge.sha256("load/large", "v1.0.0");
    assert_eq!(mirror.get("/load/large/zipball/v1.0.0").await.sha256(), large);
    // The client pauses with more left to read than the kernel's buffers hold.
    let slow = mirror.open("/load/large/zipball/v1.0.0").await;
    for n in 0..20 {
        fetch(&mirror, &forge, n).await;
        let lies = space(mirror.dir());
        assert!(lies <= 36 << 20, "{lies}");
    }
    let bytes = slow.bytes().await.expect("a whole answer");
    assert_eq!(srm_mirror::entry::Digest::of(&bytes).to_string(), large);
}

#[tokio::test]
async fn a_zip_larger_than_the_limit_passes_through_whole_and_is_not_stored() {
    let forge = Forge::with_numbered_packages(1, 900_000).await;
    forge.repo("load/large").release("v1.0.0", |r| r.noise("data.bin", 7, LIMIT + (2 << 20)));
    let mirror = setup(&forge).with(small).start().await;
    fetch(&mirror, &forge, 0).await;
    let got = mirror.get("/load/large/zipball/v1.0.0").await;
    assert_eq!((got.status, got.sha256()), (200, forge.sha256("load/large", "v1.0.0")));
    assert!(space(mirror.dir()) <= LIMIT);
    assert_eq!(mirror.get("/readyz").await.status, 200);
}
