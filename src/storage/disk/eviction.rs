//! How blobs leave: evicted, removed or set aside. Files go first and their rows after: a kill in between leaves rows
//! without files, which the next start removes, and it works on a disk that is too full to write the index.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use tracing::{debug, warn};

use super::{
    blob::BlobFile,
    budget::{Kind, blocks},
    health::DiskArea,
    index::{self, BLOBS, Row},
    quarantine::release_on_close,
    sidecar::Sidecar,
    stage::{self, Staged},
    store::{Store, lock},
};
use crate::entry::{Digest, Key};

impl Store {
    /// Frees at least `missing` bytes if it can: damaged files first, then blobs, least recently used first, those
    /// nobody reads before those that are read. Returns the bytes freed at once: what is being read stays counted until
    /// its last reader is gone.
    pub(super) fn evict(&self, missing: u64) -> u64 {
        let _one = lock(&self.evicting);
        let mut freed = 0;
        while freed < missing && self.quarantine.evictable() > 0 {
            let before = self.quarantine.bytes();
            match self.quarantine.discard_oldest() {
                Ok(true) => freed += before.saturating_sub(self.quarantine.bytes()),
                Ok(false) => break,
                Err(cause) => warn!(%cause, "a damaged file that was set aside cannot be removed"),
            }
        }
        let used = |digest: &Digest| self.recent.is_used(digest);
        let read = |digest: &Digest| self.handles.is_read(digest);
        freed += self.evict_but(missing.saturating_sub(freed), |digest| used(digest) || read(digest));
        if freed < missing && self.flush().is_ok() {
            freed += self.evict_but(missing - freed, read);
            freed += self.evict_but(missing.saturating_sub(freed), |_| false);
        }
        if freed > 0
            && let Err(cause) = self.forget()
        {
            warn!(%cause, "evicted blobs are still in the index");
        }
        freed
    }

    /// Unlinks blobs that are not to be spared, in order of use, until `missing` bytes are unlinked.
    fn evict_but(&self, missing: u64, spare: impl Fn(&Digest) -> bool) -> u64 {
        let mut victims = Vec::new();
        let mut sum = 0;
        let picked = self.index.read(|txn| {
            BLOBS.by_use(txn, |digest, cost| {
                if sum < missing && !self.is_gone(&digest) && !self.is_kept(&digest) && !spare(&digest) {
                    sum += cost;
                    victims.push(digest);
                }
                sum < missing
            })
        });
        if let Err(cause) = picked {
            warn!(%cause, "nothing can be evicted");
        }
        let mut freed = 0;
        for digest in victims {
            let Some(_stripe) = self.try_stripe(&digest) else { continue };
            match self.row(&digest).and_then(|row| row.map(|row| self.unlink(&digest, &row)).transpose()) {
                Ok(Some(bytes)) => {
                    debug!(%digest, bytes, "a blob was evicted");
                    freed += bytes;
                }
                Ok(None) => {}
                Err(cause) => warn!(%digest, %cause, "a blob cannot be evicted"),
            }
        }
        freed
    }

    /// Forgets a key and that it was kept; the blob goes with its last key.
    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        let _marking = self.marking.write().unwrap_or_else(PoisonError::into_inner);
        let found = self.index.read(|txn| index::find(txn, key))?;
        let removed = found.map_or(Ok(()), |digest| self.detach(&digest, key)).and_then(|()| self.unmark(key));
        self.settle();
        if let Err(error) = &removed {
            self.health.fails(DiskArea::Blobs, error);
        }
        removed
    }

    /// Takes a key from a blob; the blob goes with its last key.
    pub(super) fn detach(&self, digest: &Digest, key: &Key) -> io::Result<()> {
        let _stripe = self.stripe(digest);
        let Some(mut row) = self.row(digest)? else { return Ok(()) };
        row.names.retain(|name| name.key != *key);
        if row.names.is_empty() {
            self.unlink(digest, &row)?;
            return self.forget();
        }
        let mut sidecar = Sidecar::read(&self.layout.sidecar(digest))?;
        sidecar.remove(key);
        self.rewrite(digest, row, &mut sidecar)?;
        self.front.invalidate([key]);
        Ok(())
    }

    /// Marks what is stored under a key as never to be evicted, or as any other; false when nothing is. A mark that waits
    /// for what is not stored is taken away all the same.
    pub(super) fn keep(&self, key: &Key, kept: bool) -> io::Result<bool> {
        let _marking = self.marking.write().unwrap_or_else(PoisonError::into_inner);
        let Some(digest) = self.index.read(|txn| index::find(txn, key))? else {
            return if kept { Ok(false) } else { self.unmark(key).map(|()| false) };
        };
        let _stripe = self.stripe(&digest);
        let Some(row) = self.row(&digest)? else { return Ok(false) };
        let mut sidecar = Sidecar::read(&self.layout.sidecar(&digest))?;
        // A kill may have left the sidecar changed and the row not.
        let differs = row.names.iter().any(|name| name.key == *key && name.kept != kept);
        if sidecar.keep(key, kept) || differs {
            self.rewrite(&digest, row, &mut sidecar)?;
        }
        Ok(true)
    }

    /// Forgets that a key is kept.
    fn unmark(&self, key: &Key) -> io::Result<()> {
        if self.index.read(|txn| index::is_key_kept(txn, key))? {
            self.index.write(|txn| index::unmark_key(txn, key))?;
        }
        Ok(())
    }

    /// Replaces a blob's sidecar and makes its row agree. The caller holds the stripe.
    fn rewrite(&self, digest: &Digest, mut row: Row, sidecar: &mut Sidecar) -> io::Result<()> {
        let keys = sidecar.entries.iter().map(|entry| &entry.key);
        for key in self.index.read(|txn| index::left(txn, digest, keys))? {
            sidecar.remove(&key);
        }
        let text = sidecar.bytes()?;
        let charge = self.take(blocks(text.len() as u64))?;
        let staged = Staged::write(self.layout.staging(), &[&text])?;
        let folder = self.layout.shard(digest.0[0]);
        stage::publish(&folder, vec![(staged, self.layout.sidecar(digest))], |_| {})?;
        let before = row.cost;
        row.cost = blocks(row.len) + charge.bytes();
        row.names = sidecar.names();
        let written = self.index.write(|txn| index::put_blob(txn, digest, &row, None));
        self.note_kept(digest, &row);
        if written.is_err() {
            self.doubt.store(true, Ordering::SeqCst);
        }
        drop(self.budget.release(Kind::Blob, before - blocks(row.len)));
        charge.commit(Kind::Blob);
        written.map(drop)
    }

    /// Makes a row say what its sidecar says, which a kill may have left newer; false when there is no good sidecar.
    pub(super) fn believe_sidecar(&self, digest: &Digest) -> io::Result<bool> {
        let _marking = self.marking.write().unwrap_or_else(PoisonError::into_inner);
        let _stripe = self.stripe(digest);
        // What is gone is not damaged.
        let Some(old) = self.row(digest)? else { return Ok(true) };
        let Some(mut row) = self.adopt(digest) else { return Ok(false) };
        (row.used, row.tally) = (old.used, old.tally);
        let left = self.index.read(|txn| index::left(txn, digest, row.names.iter().map(|name| &name.key)))?;
        row.names.retain(|name| !left.contains(&name.key));
        self.index.write(|txn| index::put_blob(txn, digest, &row, None))?;
        self.note_kept(digest, &row);
        // These bytes lie there already, whether they fit or not.
        self.budget.account_existing(row.cost.saturating_sub(old.cost)).commit(Kind::Blob);
        drop(self.budget.release(Kind::Blob, old.cost.saturating_sub(row.cost)));
        self.front.invalidate(old.names.iter().chain(&row.names).map(|name| &name.key));
        Ok(true)
    }

    /// Moves a damaged blob out of the way. `still` is asked under the blob's lock whether it is still as bad as it
    /// was found to be: somebody else may have healed it.
    pub(super) fn set_aside(&self, digest: &Digest, why: &str, still: impl FnOnce() -> bool) -> io::Result<()> {
        let _stripe = self.stripe(digest);
        let Some(row) = self.row(digest)? else { return Ok(()) };
        if !still() {
            return Ok(());
        }
        warn!(%digest, keys = row.names.len(), why, "a damaged blob is set aside");
        let reader = self.handles.retire(digest);
        let path = self.layout.blob(digest);
        let len = std::fs::metadata(&path).map(|stat| stat.len());
        stage::remove(&self.layout.sidecar(digest))?;
        self.went(digest);
        let mut charge = self.budget.release(Kind::Blob, row.cost);
        match len {
            Ok(len) => charge.shrink(blocks(len)),
            // Its file was unlinked by somebody else: it still takes its space while it is read.
            Err(_) => charge.shrink(blocks(row.len)),
        }
        self.quarantine.take(&path, charge, reader.as_ref())?;
        self.forget()?;
        self.settle();
        Ok(())
    }

    /// As [`Store::set_aside`], for a blob that was judged by an open file.
    pub(super) fn set_file_aside(&self, digest: &Digest, why: &str, file: &Arc<BlobFile>) -> io::Result<()> {
        self.set_aside(digest, why, || self.handles.get(digest).is_some_and(|open| Arc::ptr_eq(&open, file)))
    }

    /// Removes the rows of all unlinked blobs.
    pub(super) fn forget(&self) -> io::Result<()> {
        let gone = lock(&self.gone).clone();
        if gone.is_empty() {
            return Ok(());
        }
        let removed = self.index.write(|txn| {
            let mut removed = Vec::new();
            for (digest, since) in &gone {
                // It may have been admitted again since; whoever does that takes it off the list first.
                if lock(&self.gone).get(digest) == Some(since) {
                    removed.extend(index::remove_blob(txn, digest)?);
                }
            }
            Ok(removed)
        })?;
        self.front.invalidate(removed.iter().flat_map(|row| &row.names).map(|name| &name.key));
        lock(&self.gone).retain(|digest, since| gone.get(digest) != Some(since));
        Ok(())
    }

    /// Removes a blob's files and returns the bytes this frees at once. The caller holds the stripe and calls
    /// [`Store::forget`] afterwards.
    fn unlink(&self, digest: &Digest, row: &Row) -> io::Result<u64> {
        let reader = self.handles.retire(digest);
        stage::remove(&self.layout.blob(digest))?;
        stage::remove(&self.layout.sidecar(digest))?;
        self.went(digest);
        let freed = if reader.is_some() { 0 } else { row.cost };
        release_on_close(reader, self.budget.release(Kind::Blob, row.cost));
        Ok(freed)
    }

    /// Notes that a blob's files are gone though its row is there.
    pub(super) fn went(&self, digest: &Digest) {
        lock(&self.gone).insert(*digest, self.recent.now());
        lock(&self.sound).remove(digest);
        lock(&self.kept).remove(digest);
        self.recent.forget(digest);
        self.objects.fetch_sub(1, Ordering::SeqCst);
    }

    /// Remembers whether a blob is never evicted.
    pub(super) fn note_kept(&self, digest: &Digest, row: &Row) {
        let mut all = lock(&self.kept);
        if row.is_kept() {
            all.insert(*digest, row.cost);
        } else {
            all.remove(digest);
        }
    }

    fn is_kept(&self, digest: &Digest) -> bool {
        lock(&self.kept).contains_key(digest)
    }

    pub(super) fn is_gone(&self, digest: &Digest) -> bool {
        lock(&self.gone).contains_key(digest)
    }

    /// The row of a blob whose files are there. The caller holds the stripe.
    pub(super) fn row(&self, digest: &Digest) -> io::Result<Option<Row>> {
        // Asked in this order: [`Store::forget`] takes no stripe, removes the row first and the note that the files are
        // gone after. Read before it and asked after it, a row of files long gone would look like one of files that
        // are there, and its bytes would be given back twice.
        if self.is_gone(digest) {
            return Ok(None);
        }
        self.index.read(|txn| BLOBS.get(txn, digest))
    }
}
