//! Tells whether what was read of a package is still what is stored.
//!
//! An answer that was made of a package's documents, or of one of its zips, may be given again while their generation
//! holds: one atomic load, where reading them again would take locks. And what was read from disk is copied into memory
//! only while it holds: it may have been removed since. Several packages may share a counter; then an answer is thought
//! over once more than it had to be.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::entry::Key;

/// Counters of changes; a power of two.
const COUNTERS: usize = 1024;

/// The counters of all packages.
pub(super) struct Generations(Arc<[AtomicU64; COUNTERS]>);

/// The state of a package's documents at one moment.
#[derive(Clone)]
pub struct Generation {
    all: Arc<[AtomicU64; COUNTERS]>,
    at: usize,
    seen: u64,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self(Arc::new([const { AtomicU64::new(0) }; COUNTERS]))
    }

    /// The present state of the package that a key belongs to; to be taken before its documents are read.
    pub(super) fn now(&self, key: &Key) -> Generation {
        let at = counter(key);
        Generation { all: self.0.clone(), at, seen: self.0[at].load(Ordering::Acquire) }
    }

    /// Ends every generation: of something that may belong to any package.
    pub(super) fn end_all(&self) {
        for counter in self.0.iter() {
            counter.fetch_add(1, Ordering::Release);
        }
    }

    /// Ends the present generation; to be called after a document of the package has changed, or a key of it leads to
    /// another zip, or to none. A zip that leaves the disk tells so itself ([`crate::storage::WeakObject`]).
    pub(super) fn end(&self, key: &Key) {
        self.0[counter(key)].fetch_add(1, Ordering::Release);
    }
}

impl Generation {
    /// True while no document of the package has changed.
    pub fn holds(&self) -> bool {
        self.all[self.at].load(Ordering::Acquire) == self.seen
    }
}

/// The counter of a key's package, which is all before the third slash (`upstream/owner/repo/…`). FNV-1a: names are
/// short, and whoever makes two of them meet gains nothing.
fn counter(key: &Key) -> usize {
    let package = key.as_str().split_inclusive('/').take(3).flat_map(str::bytes);
    let hash =
        package.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    usize::try_from(hash % COUNTERS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_document_ends_the_generation_of_its_package_and_of_no_other() {
        let generations = Generations::new();
        let now = |key: &str| generations.now(&Key::new(key));
        let list = now("github/a/b/releases");
        let latest = now("github/a/b/latest");
        let other = now("github/a/c/releases");
        assert!(list.holds() && latest.holds() && other.holds());
        generations.end(&Key::new("github/a/b/release/v1/x"));
        assert!(!list.holds() && !latest.holds() && other.holds());
        assert!(now("github/a/b/releases").holds());
    }
}
