//! The operator's blocks: versions that a running mirror no longer serves, and why. Durable, and in force at once.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    atomic_file::{JsonFileError, read_json, write_json},
    package::{PackageId, VersionedPattern, VersionedPatternError},
};

/// The file in the cache directory.
const BLOCKS_FILE: &str = "blocks.json";
/// Mode of the file.
const BLOCKS_FILE_MODE: u32 = 0o644;
/// Most blocks.
const MAX_BLOCKS: usize = 10_000;
/// Longest reason, bytes: clients print it.
const MAX_BLOCK_REASON_BYTES: usize = 500;
/// Largest file that is read, bytes.
const MAX_BLOCKS_FILE_BYTES: u64 = 16 << 20;

/// One block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockedPattern {
    /// The pattern of packages and versions.
    pub(crate) pattern: String,
    /// Why, for the clients.
    pub(crate) reason: Arc<str>,
    /// When it was set.
    pub(crate) at: Timestamp,
}

/// Why a block cannot be set or taken away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    /// The pattern cannot be used.
    #[error("{0:?} is {1}")]
    Pattern(String, VersionedPatternError),
    /// The reason is empty, too long, or has control characters.
    #[error("a block needs a reason of 1 to {MAX_BLOCK_REASON_BYTES} bytes on one line, which clients are shown")]
    Reason,
    /// There is no such block.
    #[error("{0} is not blocked; srm-mirror cache blocks shows all")]
    Unknown(String),
    /// There are too many blocks.
    #[error("there are {MAX_BLOCKS} blocks, the most there may be")]
    TooMany,
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has other content than this program writes.
    #[error("{}: not the list of blocks that this program writes; restore it from a backup", .0.display())]
    Invalid(PathBuf),
}

/// A block that was taken away. Remembered, so that the mirrors of a fleet agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LiftedBlock {
    /// The pattern, as it was blocked.
    pub(super) pattern: String,
    /// When it was taken away.
    pub(super) at: Timestamp,
}

/// The content of the file, and of the object in the bucket that the mirrors of a fleet share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredBlocks {
    pub(super) blocks: Vec<BlockedPattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lifted: Vec<LiftedBlock>,
}

#[derive(Debug)]
struct Block {
    pattern: VersionedPattern,
    stored: BlockedPattern,
}

/// The blocks of one mirror.
#[derive(Debug)]
pub(crate) struct Blocks {
    path: PathBuf,
    blocks: ArcSwap<Vec<Block>>,
    /// The blocks that were taken away. Locked while blocks change.
    lifted: Mutex<Vec<LiftedBlock>>,
    /// Notified when this mirror's operator has changed them.
    changed: Notify,
    generation: AtomicU64,
}

impl Blocks {
    /// Reads the file in the cache directory, which this process must hold. Blocks the thread.
    ///
    /// # Errors
    /// When it cannot be read: what was blocked must not be served.
    pub(crate) fn open(cache_dir: &Path) -> Result<Self, BlockError> {
        let path = cache_dir.join(BLOCKS_FILE);
        let stored: StoredBlocks = read_json(&path, MAX_BLOCKS_FILE_BYTES).map_err(|error| match error {
            JsonFileError::Io(source) => BlockError::Io { path: path.clone(), source },
            JsonFileError::TooLarge(_) | JsonFileError::Invalid => BlockError::Invalid(path.clone()),
        })?;
        let blocks = compile(stored.blocks).map_err(|_| BlockError::Invalid(path.clone()))?;
        let blocks = ArcSwap::from_pointee(blocks);
        let lifted = Mutex::new(stored.lifted);
        Ok(Self { path, blocks, lifted, changed: Notify::new(), generation: AtomicU64::new(1) })
    }

    /// A number that changes whenever the blocks change.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// True when nothing is blocked.
    pub(super) fn are_empty(&self) -> bool {
        self.blocks.load().is_empty()
    }

    /// True when a block is about the package.
    pub(super) fn concern(&self, package: &PackageId) -> bool {
        self.blocks.load().iter().any(|block| block.pattern.matches_package(package))
    }

    /// Why a version is blocked, if so.
    pub(in crate::registry) fn reason(&self, package: &PackageId, version: &str) -> Option<Arc<str>> {
        let blocks = self.blocks.load();
        let block = blocks.iter().find(|block| block.pattern.matches(package, version));
        block.map(|block| block.stored.reason.clone())
    }

    /// Every block, in the order in which they were set or merged.
    pub(crate) fn list(&self) -> Vec<BlockedPattern> {
        self.blocks.load().iter().map(|block| block.stored.clone()).collect()
    }

    /// Blocks the versions that a pattern matches; a pattern that is blocked gets the new reason. In force before it is durable.
    /// Blocks the thread.
    ///
    /// # Errors
    /// A pattern or reason that cannot be used; the file system's error, after which the block holds until the next start.
    pub(crate) fn set(&self, pattern: String, reason: &str, at: Timestamp) -> Result<(), BlockError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_BLOCK_REASON_BYTES || reason.contains(char::is_control) {
            return Err(BlockError::Reason);
        }
        let mut lifted = self.lifted.lock();
        let mut stored = StoredBlocks { blocks: self.list(), lifted: lifted.clone() };
        stored.set(BlockedPattern { pattern, reason: reason.into(), at });
        if stored.blocks.len() > MAX_BLOCKS {
            return Err(BlockError::TooMany);
        }
        let replaced = self.replace(&mut lifted, stored);
        self.changed.notify_one();
        replaced
    }

    /// Takes a block away, given exactly as it was set. Blocks the thread.
    ///
    /// # Errors
    /// `Unknown`; the file system's error, after which the block holds again from the next start on.
    pub(crate) fn remove(&self, pattern: &str, at: Timestamp) -> Result<(), BlockError> {
        let mut lifted = self.lifted.lock();
        let mut stored = StoredBlocks { blocks: self.list(), lifted: lifted.clone() };
        if !stored.lift(LiftedBlock { pattern: pattern.to_owned(), at }) {
            return Err(BlockError::Unknown(pattern.to_owned()));
        }
        let replaced = self.replace(&mut lifted, stored);
        self.changed.notify_one();
        replaced
    }

    /// Completes when this mirror's operator changes the blocks, at once if that was since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Applies what other mirrors have changed later than this one. Returns the merged blocks. Blocks the thread.
    ///
    /// # Errors
    /// A pattern of another mirror that cannot be used; the file system's error, after which the merged blocks hold until the
    /// next start.
    pub(crate) fn merge(&self, others: &StoredBlocks) -> Result<StoredBlocks, BlockError> {
        let mut lifted = self.lifted.lock();
        let own = StoredBlocks { blocks: self.list(), lifted: lifted.clone() };
        let merged = own.merged(others);
        if merged != own {
            self.replace(&mut lifted, merged.clone())?;
        }
        Ok(merged)
    }

    fn replace(&self, lifted: &mut Vec<LiftedBlock>, stored: StoredBlocks) -> Result<(), BlockError> {
        let compiled = compile(stored.blocks.clone())?;
        self.blocks.store(Arc::new(compiled));
        lifted.clone_from(&stored.lifted);
        self.generation.fetch_add(1, Ordering::AcqRel);
        write_json(&self.path, BLOCKS_FILE_MODE, &stored)
            .map_err(|source| BlockError::Io { path: self.path.clone(), source })
    }
}

fn compile(stored: Vec<BlockedPattern>) -> Result<Vec<Block>, BlockError> {
    let compile = |stored: BlockedPattern| match stored.pattern.parse() {
        Ok(pattern) => Ok(Block { pattern, stored }),
        Err(error) => Err(BlockError::Pattern(stored.pattern, error)),
    };
    stored.into_iter().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_at_once_and_after_a_restart_until_it_is_taken_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let fc3 = PackageId { upstream: "github".into(), name: "devsapp/fc3".parse().expect("a name") };
        let blocks = Blocks::open(dir.path()).expect("opens");
        let before = blocks.generation();
        blocks.set("devsapp/fc3@1.2.0".into(), "malicious", Timestamp::UNIX_EPOCH).expect("set");
        assert!(blocks.generation() > before && blocks.concern(&fc3));
        assert_eq!(blocks.reason(&fc3, "v1.2.0").as_deref(), Some("malicious"));
        assert_eq!(blocks.reason(&fc3, "1.2.1"), None);
        let blocks = Blocks::open(dir.path()).expect("opens");
        assert_eq!(blocks.reason(&fc3, "1.2.0").as_deref(), Some("malicious"));
        let later = Timestamp::from_second(1).expect("a time");
        assert!(matches!(blocks.remove("devsapp/fc3", later), Err(BlockError::Unknown(_))));
        blocks.remove("devsapp/fc3@1.2.0", later).expect("removed");
        assert!(Blocks::open(dir.path()).expect("opens").list().is_empty());
        for (pattern, reason) in [("a/b/c", "why"), ("a/b", ""), ("a/b", "two\nlines"), ("a/b@", "why")] {
            assert!(blocks.set(pattern.into(), reason, Timestamp::UNIX_EPOCH).is_err(), "{pattern} {reason}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_stops_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(BLOCKS_FILE), "{").expect("written");
        assert!(matches!(Blocks::open(dir.path()), Err(BlockError::Invalid(_))));
    }
}
