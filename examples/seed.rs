//! Fills a cache directory with zips for measurements: `cargo run --release -p examples --bin seed -- DIR N SIZE`.
//!
//! The zips are made on the fly, stored and pinned as if they had been fetched. A mirror on the directory then serves
//! `/seed/p0/zipball/v1.0.0` to `/seed/pN-1/zipball/v1.0.0` without asking any forge.

#[path = "../tests/support/forge.rs"]
#[allow(dead_code, reason = "only its packer is used here")]
mod forge;
#[path = "../tests/support/seed.rs"]
mod seed;

use std::{path::PathBuf, time::Instant};

use clap::Parser;
use srm_mirror::{storage::disk::Config, value::ByteSize};

/// Fills a cache directory with zips that no forge ever sent.
#[derive(Parser)]
#[command(name = "seed")]
struct Arguments {
    /// The cache directory; no mirror may hold it.
    dir: PathBuf,
    /// How many zips.
    count: u64,
    /// Size of each, in bytes.
    size: u64,
    /// The keys; {n} is the zip's number.
    #[arg(long, default_value = seed::PATTERN)]
    key: String,
    /// The limit of the directory, as disk.limit.
    #[arg(long, default_value = "50GiB")]
    limit: ByteSize,
}

#[tokio::main]
async fn main() {
    let Arguments { dir, count, size, key, limit } = Arguments::parse();
    let started = Instant::now();
    seed::fill(&dir, &Config { limit, ..Config::default() }, &key, count, size).await;
    // github/owner/repo/tag/v1 is asked for as /github/owner/repo/zipball/v1.
    let last = key.replace("{n}", &count.saturating_sub(1).to_string()).replacen("/tag/", "/zipball/", 1);
    println!("hit /{last}");
    println!("{count} zips of {size} bytes in {} after {:.1?}", dir.display(), started.elapsed());
}
