//! Change counters: they show whether the stored content of a package changed after it was read.
//!
//! Every cache in front of slower storage follows one protocol. A reader takes a [`Generation`] before it reads, and
//! caches what it found with [`Generation::run_if_current`]. A writer first changes what is stored, then calls
//! [`Generations::bump_with`] to drop the cached copy. So a cache never gets back what a writer has replaced or removed.
//! A response that was made of a package's documents or archives may be sent again while [`Generation::is_current`]:
//! one atomic load, where reading them again takes locks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::entry::Key;

/// Number of counters; a power of two. Packages that share one invalidate each other needlessly, never wrongly.
const GENERATION_COUNTERS: usize = 1024;

#[derive(Debug)]
struct GenerationCounter {
    changes: AtomicU64,
    /// Held by readers that cache what they found, and by writers that drop it.
    publishing: Mutex<()>,
}

type Counters = Arc<[GenerationCounter; GENERATION_COUNTERS]>;

/// The change counters of all packages. Clones share them.
#[derive(Clone, Debug)]
pub struct Generations(Counters);

/// The state of one package's counter at one moment.
#[derive(Clone, Debug)]
pub struct Generation {
    counters: Counters,
    index: usize,
    seen: u64,
}

impl Default for Generations {
    fn default() -> Self {
        Self(Arc::new(
            [const { GenerationCounter { changes: AtomicU64::new(0), publishing: Mutex::new(()) } };
                GENERATION_COUNTERS],
        ))
    }
}

impl Generations {
    /// The present generation of the package that a key belongs to. Call it before reading what is stored.
    pub fn snapshot(&self, key: &Key) -> Generation {
        let index = counter_index(key);
        Generation { counters: self.0.clone(), index, seen: self.0[index].changes.load(Ordering::Acquire) }
    }

    /// Ends the present generation of a key's package. Call it after the change of what is stored.
    pub fn bump(&self, key: &Key) {
        self.bump_with(key, || ());
    }

    /// As [`Generations::bump`], and drops the cached copy in `drop_cached` before any reader can cache another one.
    pub fn bump_with<T>(&self, key: &Key, drop_cached: impl FnOnce() -> T) -> T {
        self.0[counter_index(key)].bump_with(drop_cached)
    }

    /// Ends the present generation of every package.
    pub fn bump_all(&self) {
        for counter in self.0.iter() {
            counter.bump_with(|| ());
        }
    }
}

impl GenerationCounter {
    fn bump_with<T>(&self, drop_cached: impl FnOnce() -> T) -> T {
        let _publishing = self.publishing.lock();
        self.changes.fetch_add(1, Ordering::Release);
        drop_cached()
    }
}

impl Generation {
    /// True while nothing of the package has changed since [`Generations::snapshot`].
    pub fn is_current(&self) -> bool {
        self.counters[self.index].changes.load(Ordering::Acquire) == self.seen
    }

    /// Runs `cache` if the generation is current, with [`Generations::bump_with`] locked out; else does nothing.
    /// `cache` must not bump.
    pub fn run_if_current(&self, cache: impl FnOnce()) {
        let _publishing = self.counters[self.index].publishing.lock();
        if self.is_current() {
            cache();
        }
    }
}

/// The counter of a key's package. FNV-1a is enough: names are short, and a collision only costs a recomputation.
fn counter_index(key: &Key) -> usize {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.package().bytes().fold(0xcbf2_9ce4_8422_2325, add);
    usize::try_from(hash % GENERATION_COUNTERS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_document_ends_the_generation_of_its_package_and_of_no_other() {
        let generations = Generations::default();
        let snapshot = |key: &str| generations.snapshot(&Key::new(key));
        let list = snapshot("github/a/b/releases");
        let latest = snapshot("github/a/b/latest");
        let other = snapshot("github/a/c/releases");
        assert!(list.is_current() && latest.is_current() && other.is_current());
        generations.bump(&Key::new("github/a/b/release/v1/x"));
        assert!(!list.is_current() && !latest.is_current() && other.is_current());
        assert!(snapshot("github/a/b/releases").is_current());
        generations.bump_all();
        assert!(!other.is_current());
    }

    #[test]
    fn a_reader_caches_nothing_that_changed_after_its_snapshot() {
        let generations = Generations::default();
        let key = Key::new("github/a/b/releases");
        let mut cached = None;
        let before = generations.snapshot(&key);
        before.run_if_current(|| cached = Some(1));
        assert_eq!(cached, Some(1));
        generations.bump_with(&key, || cached = None);
        before.run_if_current(|| cached = Some(1));
        assert_eq!(cached, None);
    }
}
