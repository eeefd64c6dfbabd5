//! Many stored zips: the mirror starts, serves them, and rebuilds a lost index.

use std::time::Instant;

use srm_mirror::{entry::Digest, storage::disk::Config};

use crate::{forge::Forge, process::Launch, seed};

const SIZE: u64 = 600;

async fn starts_over(count: u64) {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let begun = Instant::now();
    seed::fill(dir.path(), &Config::default(), seed::PATTERN, count, SIZE).await;
    println!("stored {count} zips in {:.1?}", begun.elapsed());
    forge.down().await;
    for what in ["after a clean end", "after a kill", "without its index"] {
        if what == "without its index" {
            std::fs::remove_file(dir.path().join("index.redb")).expect("removed");
        }
        let begun = Instant::now();
        let mirror = Launch::serve(&forge, dir.path()).start().await;
        println!("a start over {count} zips {what}: {:.1?}", begun.elapsed());
        for n in [0, 1, count / 2, count - 1] {
            let got = mirror.get(&format!("/seed/p{n}/zipball/v1.0.0")).await;
            assert_eq!((got.status, got.sha256()), (200, Digest::of(&seed::zip(n, SIZE)).to_string()), "{what}");
            assert!(got.cache_status().starts_with("srm-mirror; hit"), "{}", got.cache_status());
        }
        mirror.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_start_over_a_thousand_zips_serves_them_with_the_forge_down() {
    starts_over(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "storing them takes a minute; to be run with --ignored"]
async fn a_start_over_ten_thousand_zips_serves_them_with_the_forge_down() {
    starts_over(10_000).await;
}
