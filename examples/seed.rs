//! Fills a cache directory with zips for measurements: `cargo run --release -p examples --bin seed -- DIR N SIZE`.
//!
//! The zips are generated, stored and pinned like fetched ones. A mirror on the directory then serves
//! `/seed/p0/zipball/v1.0.0` to `/seed/pN-1/zipball/v1.0.0` without an upstream.

#[path = "../tests/support/forge.rs"]
mod forge;
#[path = "../tests/support/seed.rs"]
mod seed;

use std::{path::PathBuf, time::Instant};

use clap::Parser;
use srm_mirror::{storage::disk::Config, value::ByteSize};

/// Fills a cache directory with generated zips.
#[derive(Parser)]
#[command(name = "seed")]
struct Arguments {
    /// The cache directory; must not be in use by a mirror.
    dir: PathBuf,
    /// Number of zips.
    count: u64,
    /// Size of each zip, in bytes.
    size: u64,
    /// Pattern of the keys; {n} is the number of the zip.
    #[arg(long, default_value = seed::PATTERN)]
    key: String,
    /// Size limit of the directory, as disk.limit.
    #[arg(long, default_value = "50GiB")]
    limit: ByteSize,
}

#[tokio::main]
async fn main() {
    let Arguments { dir, count, size, key, limit } = Arguments::parse();
    let started = Instant::now();
    seed::fill(&dir, &Config { limit, ..Config::default() }, &key, count, size).await;
    // The key github/owner/repo/tag/v1 is served at /github/owner/repo/zipball/v1.
    let last = key.replace("{n}", &count.saturating_sub(1).to_string()).replacen("/tag/", "/zipball/", 1);
    println!("hit /{last}");
    println!("{count} zips of {size} bytes in {} after {:.1?}", dir.display(), started.elapsed());
}
