//! Fills a cache directory with generated zips through the disk store.

#![allow(dead_code, unreachable_pub, clippy::missing_panics_doc, missing_docs)]

use std::{convert::Infallible, path::Path, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use srm_mirror::{
    archive::ZipVerifier,
    entry::{Digest, Key, Meta, Pin, Verified},
    origin::{Growing, Verify as _},
    storage::disk::{Config, Disk, PinEvent},
    value::memory_budget::MemoryBudget,
};

use crate::forge::{Data, File, Packing, pack};

/// The default pattern of keys; `{n}` is replaced by the zip's number.
pub const PATTERN: &str = "github/seed/p{n}/tag/v1.0.0";

/// Modification time of every file, in seconds since 1970.
const MODIFIED_AT: i64 = 1_700_000_000;

/// The zip number `n`, of about `size` bytes: one top folder as forges write it, with bytes that depend on `n`.
pub fn zip(n: u64, size: u64) -> Bytes {
    let mut seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    });
    let noise: Vec<u8> = noise.flatten().take(usize::try_from(size).expect("fits")).collect();
    let file = File { mode: 0o100_644, data: Data::Bytes(noise.into()) };
    let packing = Packing { stored: true, commit_comment: false, ..Packing::default() };
    pack(&format!("seed-p{n}-0000000"), "", MODIFIED_AT, [(&"data.bin".to_owned(), &file)], &packing).bytes()
}

/// A complete body for the verifier.
struct Whole(Bytes);

impl Growing for Whole {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).expect("fits")..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// Stores and pins `count` zips of about `size` bytes each, with keys from `pattern`, and closes the directory.
pub async fn fill(dir: &Path, config: &Config, pattern: &str, count: u64, size: u64) {
    const WRITERS: u64 = 16;
    let config = config.clone();
    let path = dir.to_owned();
    let disk = tokio::task::spawn_blocking(move || Disk::open(&config, &path)).await.expect("no panic");
    let disk = disk.expect("a cache directory");
    // Several at once, because each one waits for the disk.
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let disk = disk.clone();
            let pattern = pattern.to_owned();
            tokio::spawn(async move {
                for n in (writer..count).step_by(WRITERS as usize) {
                    store(&disk, pattern.replace("{n}", &n.to_string()), verified_zip(n, size)).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    disk.close().await.expect("closed");
}

/// Pins `versions` versions of each of `packages` packages of an owner, as if their zips had been fetched and evicted. Many at
/// once: a million takes a minute.
pub async fn pin(dir: &Path, config: &Config, owner: &str, packages: u64, versions: u64) {
    /// Pins that are written at once.
    const STEP: u64 = 20_000;
    let config = config.clone();
    let path = dir.to_owned();
    let disk = tokio::task::spawn_blocking(move || Disk::open(&config, &path)).await.expect("no panic");
    let disk = disk.expect("a cache directory");
    let (bytes, verified) = verified_zip(0, 100);
    let first_seen = Timestamp::now();
    let keys = format!("github/{owner}");
    let any_key = Key::new(keys.clone());
    let pinned = move |n: u64| {
        let key = Key::new(format!("{keys}/p{:07}/tag/v1.{}.0", n / versions, n % versions));
        let digest = Digest::of(&n.to_le_bytes());
        (PinEvent::Pin, Pin { key, digest, len: bytes.len() as u64, first_seen, verified: verified.clone() })
    };
    let mut first = 0;
    while first < packages * versions {
        let pinned = pinned.clone();
        let end = (packages * versions).min(first + STEP);
        let events = move |_| Ok::<_, Infallible>((first..end).map(pinned).collect());
        disk.pins().settle(&any_key, events).await.expect("pinned");
        first = end;
    }
    disk.close().await.expect("closed");
}

/// A zip, and what its verification finds.
fn verified_zip(n: u64, size: u64) -> (Bytes, Verified) {
    let bytes = zip(n, size);
    let verifier = ZipVerifier { max_entries: 10, max_inflated: u64::MAX, memory: MemoryBudget::unlimited() };
    let verified = verifier.verify(&Whole(bytes.clone())).expect("a good zip");
    (bytes, verified)
}

async fn store(disk: &Arc<Disk>, key: String, (bytes, verified): (Bytes, Verified)) {
    let mut spool = disk.spool(Some(bytes.len() as u64)).expect("room");
    spool.append(&[&bytes]).expect("written");
    let key = Key::new(key);
    let digest = Digest::of(&bytes);
    let len = bytes.len() as u64;
    let meta = Meta { digest, len, stored_at: Timestamp::now(), anonymous: true, verified: verified.clone() };
    let pin = Pin { key: key.clone(), digest, len, first_seen: meta.stored_at, verified };
    disk.pins().settle(&key, |_| Ok::<_, Infallible>(vec![(PinEvent::Pin, pin)])).await.expect("pinned");
    disk.admit(&key, spool, meta).await.expect("stored");
}
