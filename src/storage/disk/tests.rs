//! Tests of the disk tier.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{
    entry::{Digest, Pin, Verified},
    storage::TierStats,
};

mod admission;
mod damage;
mod documents;
mod eviction;
mod keeping;
mod pins;
mod reads;
mod removal;
mod scale;
mod skipping;
mod sources;
mod space;

/// A cache directory and the open tier over it.
struct Rig {
    dir: TempDir,
    disk: Arc<Disk>,
}

fn config(limit_mib: u64) -> Config {
    Config { limit: ByteSize::mib(limit_mib), documents: ByteSize::mib(1), ..Config::default() }
}

fn rig(limit_mib: u64) -> Rig {
    let dir = TempDir::new().expect("a folder");
    let disk = Disk::open(&config(limit_mib), dir.path()).expect("opens");
    Rig { dir, disk }
}

impl Rig {
    /// Closes the tier and opens it again.
    async fn restart(self) -> Self {
        self.disk.close().await.expect("closes");
        self.crash()
    }

    /// Opens the tier again without closing it.
    fn crash(self) -> Self {
        let Self { dir, disk } = self;
        let limit = disk.budget.limit() >> 20;
        drop(disk);
        let disk = Disk::open(&config(limit), dir.path()).expect("opens again");
        Self { dir, disk }
    }

    fn path(&self, of: &str) -> PathBuf {
        self.dir.path().join(of)
    }
}

/// A copy of the directory: what a kill at this moment leaves.
fn killed_copy(dir: &Path) -> TempDir {
    let copy = TempDir::new().expect("a folder");
    copy_into(dir, copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let name = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            fs::create_dir(&name).expect("made");
            copy_into(&path, &name);
        } else {
            fs::copy(&path, &name).expect("copied");
        }
    }
}

fn key(name: &str) -> Key {
    Key::new(format!("github/o/{name}/tag/v1"))
}

/// Pseudorandom bytes, different for each seed.
fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}

fn meta(bytes: &[u8]) -> Meta {
    Meta {
        digest: Digest::of(bytes),
        len: bytes.len() as u64,
        stored_at: Timestamp::UNIX_EPOCH,
        anonymous: true,
        verified: verified(bytes),
    }
}

fn verified(bytes: &[u8]) -> Verified {
    Verified { manifest: Digest::of(bytes), commit: None, facts: serde_json::json!({"type": "Component"}) }
}

fn filled(disk: &Disk, bytes: &[u8]) -> Spool {
    let mut spool = disk.spool(Some(bytes.len() as u64)).expect("space");
    spool.append(&[bytes]).expect("written");
    spool
}

async fn store(disk: &Disk, name: &str, bytes: &[u8]) -> Object {
    let spool = filled(disk, bytes);
    disk.admit(&key(name), spool, meta(bytes)).await.expect("admitted")
}

async fn get(disk: &Disk, name: &str) -> Option<Object> {
    disk.get(&key(name)).await.expect("works").inspect(Object::record_use)
}

async fn bytes_of(object: &Object) -> Vec<u8> {
    let len = usize::try_from(object.meta.len).expect("small");
    object.read(0, len).await.expect("readable").to_vec()
}

/// Appends an event to the pins journal.
async fn record(disk: &Disk, pin: &Pin, event: PinEvent) {
    let events = vec![(event, pin.clone())];
    disk.pins().settle(&pin.key, |_| Ok::<_, Infallible>(events)).await.expect("recorded");
}

/// The files in a folder and its subfolders.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// The bytes that the files in the directory count without the spools; the index counts its reservation.
fn on_disk(disk: &Disk, dir: &Path) -> u64 {
    let cost = |path: &PathBuf| {
        let stat = fs::metadata(path).expect("there");
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            // Its space is allocated ahead.
            return std::os::unix::fs::MetadataExt::blocks(&stat) * 512;
        }
        let len = budget::allocated_bytes(stat.len());
        if !path.ends_with("index.redb") {
            return len;
        }
        let reserved = disk.index.reservation().bytes();
        assert!(reserved >= len, "the index is larger than what is reserved for it");
        reserved
    };
    files(dir).iter().filter(|path| !path.starts_with(dir.join("spool"))).map(cost).sum()
}
