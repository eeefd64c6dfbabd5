//! Fills a cache directory with zips for measurements: `cargo run --release -p examples --bin seed -- DIR N SIZE`.
//!
//! The zips are generated, stored and pinned like fetched ones. A mirror on the directory then serves
//! `/seed/p0/zipball/v1.0.0` to `/seed/pN-1/zipball/v1.0.0` without an upstream. `--pinned-packages P --pinned-versions V` pins
//! V versions of each of P more packages, whose zips are not stored: a directory of a million versions takes a minute.

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
    /// Number of packages of which versions are pinned without a zip.
    #[arg(long, default_value_t = 0)]
    pinned_packages: u64,
    /// Number of versions of each of these packages.
    #[arg(long, default_value_t = 20)]
    pinned_versions: u64,
    /// Owner of these packages; their names are p0000000 and so on.
    #[arg(long, default_value = "pinned")]
    pinned_owner: String,
}

#[tokio::main]
async fn main() {
    let Arguments { dir, count, size, key, limit, pinned_packages, pinned_versions, pinned_owner } = Arguments::parse();
    let started = Instant::now();
    let config = Config { limit, ..Config::default() };
    seed::fill(&dir, &config, &key, count, size).await;
    if pinned_packages > 0 {
        seed::pin(&dir, &config, &pinned_owner, pinned_packages, pinned_versions).await;
        println!("{pinned_versions} versions of each of {pinned_packages} packages are pinned");
    }
    // The key github/owner/repo/tag/v1 is served at /github/owner/repo/zipball/v1.
    let last = key.replace("{n}", &count.saturating_sub(1).to_string()).replacen("/tag/", "/zipball/", 1);
    println!("hit /{last}");
    println!("{count} zips of {size} bytes in {} after {:.1?}", dir.display(), started.elapsed());
}
