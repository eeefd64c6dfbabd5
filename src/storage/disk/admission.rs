//! How a spool becomes a blob. A kill between any two steps leaves either nothing or the whole object.

use std::{
    fs, io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use super::{
    NAME, SpoolError,
    blob::BlobFile,
    budget::{Kind, blocks},
    health::DiskArea,
    index::{self, Row},
    quarantine::release_on_close,
    sidecar::Sidecar,
    spool::Spool,
    stage::{self, Staged},
    store::{Store, lock},
};
use crate::sendfile::FileBacked as _;
use crate::{
    entry::{Digest, Key, Meta},
    storage::{Content, Object},
};

/// The steps of an admission, in order. After the last one, and only then, the object is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The bytes are durable in the spool folder.
    BlobSynced,
    /// So is the new sidecar.
    SidecarSynced,
    /// The blob has its name: without a sidecar the next start removes it.
    BlobNamed,
    /// The sidecar has its name: from here the next start adopts the blob.
    SidecarNamed,
    /// Both names are durable.
    FolderSynced,
    /// The index has it.
    Indexed,
}

impl Store {
    /// Admits a spool under a key; `after` is told of every step.
    pub(super) fn admit(&self, key: &Key, spool: Spool, meta: Meta, after: impl FnMut(Step)) -> io::Result<Object> {
        let admitted = self.admit_steps(key, spool, Arc::new(meta), after);
        self.settle();
        self.health.note(&[DiskArea::Blobs, DiskArea::Spool, DiskArea::Staging, DiskArea::Index], admitted)
    }

    fn admit_steps(&self, key: &Key, spool: Spool, meta: Arc<Meta>, mut after: impl FnMut(Step)) -> io::Result<Object> {
        let digest = meta.digest;
        if spool.len() != meta.len {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the spool is not as long as its description says",
            ));
        }
        let blob = Staged::sync(spool.path(), spool.file().file())?;
        let file = spool.disarm();
        after(Step::BlobSynced);

        let marking = self.marking.read().unwrap_or_else(PoisonError::into_inner);
        let stripe = self.stripe(&digest);
        let row = self.row(&digest)?;
        let mut sidecar = Sidecar::default();
        if let Some(row) = &row {
            sidecar = Sidecar::read(&self.layout.sidecar(&digest)).unwrap_or_default();
            sidecar.entries.retain(|entry| row.has(&entry.key));
        }
        // The mark is the key's: it outlives damage and comes along to a new packing.
        let kept = self.index.read(|txn| index::is_key_kept(txn, key))?;
        sidecar.put(key, Meta::clone(&meta), kept);
        let text = sidecar.bytes()?;
        let blob_cost = blocks(meta.len);
        let sidecar_cost = blocks(text.len() as u64);
        // The stored bytes stay only if they are known to be good: else the new ones heal them.
        let stays = row.is_some() && self.is_good(&digest, meta.len);
        let sidecar_charge = if stays {
            Some(self.take(sidecar_cost)?)
        } else {
            file.charge(|charge| charge.as_mut().map_or(Ok(()), |charge| self.fit(charge, blob_cost + sidecar_cost)))?;
            None
        };
        let staged = Staged::write(self.layout.staging(), &[&text])?;
        after(Step::SidecarSynced);

        let mut files = vec![(staged, self.layout.sidecar(&digest))];
        let mut reader = None;
        if stays {
            // Somebody may still be reading this copy: its bytes count until they have done.
            drop(blob);
        } else {
            reader = self.handles.retire(&digest);
            files.insert(0, (blob, self.layout.blob(&digest)));
        }
        let mut named = 0;
        let steps: &[Step] = if stays { &[Step::SidecarNamed] } else { &[Step::BlobNamed, Step::SidecarNamed] };
        let published = stage::publish(&self.layout.shard(digest.0[0]), files, |count| {
            named = count;
            after(steps[count - 1]);
        });
        if published.is_ok() {
            after(Step::FolderSynced);
        }
        let used = self.recent.now();
        let new = Row::new(meta.len, blob_cost + sidecar_cost, used, sidecar.names());
        lock(&self.gone).remove(&digest);
        let indexed = published.and_then(|()| self.index.write(|txn| index::put_blob(txn, &digest, &new, Some(key))));
        let (old, moved) = match indexed {
            Ok(indexed) => indexed,
            Err(error) => {
                if named > 0 {
                    // The old row, if there is one, no longer describes what lies there.
                    self.undo(&digest, row.as_ref(), reader);
                }
                return Err(error);
            }
        };
        after(Step::Indexed);
        self.note_kept(&digest, &new);

        if let Some(row) = &row {
            let freed = if stays { row.cost - blocks(row.len) } else { row.cost };
            release_on_close(reader, self.budget.release(Kind::Blob, freed));
        } else {
            self.objects.fetch_add(1, Ordering::SeqCst);
        }
        let charge = if stays { sidecar_charge } else { file.charge(Option::take) };
        charge.into_iter().for_each(|charge| charge.commit(Kind::Blob));
        self.front.invalidate(old.iter().flat_map(|old| &old.names).chain(&new.names).map(|name| &name.key));
        self.front.keep(key, Arc::clone(&meta), &self.front.snapshot(key));
        lock(&self.sound).insert(digest);
        if !stays {
            file.set_sound();
            self.handles.add(digest, &file, self.recent.of(&digest));
        }
        drop(stripe);
        if let Some(moved) = moved {
            self.detach(&moved, key)?;
        }
        // Only now has the key one home: to mark another key of the old one would write this one there again.
        drop(marking);
        let file = if stays { self.open_blob(&digest)?.unwrap_or(file) } else { file };
        let uses = file.uses().cloned();
        Ok(Object { meta, content: Content::Disk(file), tier: NAME, uses })
    }

    /// Makes a charge exactly `bytes` large.
    fn fit(&self, charge: &mut super::budget::Reservation, bytes: u64) -> Result<(), SpoolError> {
        self.reserve(charge, bytes)?;
        charge.shrink(bytes);
        Ok(())
    }

    /// True when the stored blob was hashed since the start and still has its length.
    fn is_good(&self, digest: &Digest, len: u64) -> bool {
        lock(&self.sound).contains(digest) && fs::metadata(self.layout.blob(digest)).is_ok_and(|stat| stat.len() == len)
    }

    /// Removes what an admission has named when it cannot be completed. The caller holds the stripe.
    fn undo(&self, digest: &Digest, row: Option<&Row>, reader: Option<Arc<BlobFile>>) {
        let removed = stage::remove(&self.layout.blob(digest)).and(stage::remove(&self.layout.sidecar(digest)));
        if removed.is_err() {
            self.doubt.store(true, Ordering::SeqCst);
        }
        lock(&self.sound).remove(digest);
        if let Some(row) = row {
            self.went(digest);
            release_on_close(reader.or_else(|| self.handles.retire(digest)), self.budget.release(Kind::Blob, row.cost));
        } else {
            // A write that failed may have left a row all the same.
            lock(&self.gone).insert(*digest, self.recent.now());
        }
        // A row that stays behind is removed with the next eviction.
        let _ = self.forget();
    }
}
