//! Locks over digests.

use parking_lot::{Mutex, MutexGuard};

use crate::entry::Digest;

/// Number of locks. Two digests that share a lock only wait for each other.
const DIGEST_LOCKS: usize = 64;

/// One lock per digest, up to collisions: one thread at a time publishes, opens or removes the files of a blob.
pub(super) struct DigestLocks(Vec<Mutex<()>>);

impl Default for DigestLocks {
    fn default() -> Self {
        Self((0..DIGEST_LOCKS).map(|_| Mutex::default()).collect())
    }
}

impl DigestLocks {
    /// Locks a digest.
    pub(super) fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        self.of(digest).lock()
    }

    /// Locks a digest if that needs no waiting.
    pub(super) fn try_lock(&self, digest: &Digest) -> Option<MutexGuard<'_, ()>> {
        self.of(digest).try_lock()
    }

    fn of(&self, digest: &Digest) -> &Mutex<()> {
        &self.0[usize::from(digest.0[1]) % DIGEST_LOCKS]
    }
}
