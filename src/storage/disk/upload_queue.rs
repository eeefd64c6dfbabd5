//! The upload queue: stored archives that the shared bucket does not have yet. They are never evicted.
//!
//! The queue is a table of the index. An admission writes it with the archive's own row, so a kill loses neither alone;
//! a recovery queues everything that it adopts.

use std::{collections::HashMap, io, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::index::{self, Index, QueuedUpload};
use crate::{
    blocking::run_blocking_io,
    entry::{Digest, Key},
};

/// Entries in memory while the queue is loaded.
const LOADED_STEP: usize = 2000;

/// The archives that wait for their upload. Only [`UploadQueue::load`] blocks.
pub(super) struct UploadQueue {
    index: Arc<Index>,
    waiting: Mutex<Waiting>,
    /// Notified when an archive is queued.
    queued: Notify,
}

/// The queue in memory: eviction looks every blob up in it.
#[derive(Default)]
struct Waiting {
    /// The digest that each queued key waits with.
    digests: HashMap<Key, Digest>,
    blobs: HashMap<Digest, WaitingBlob>,
    bytes: u64,
}

struct WaitingBlob {
    /// Number of queued keys.
    keys: usize,
    /// Bytes on disk.
    cost: u64,
}

/// How full the upload queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadQueueUsage {
    /// Number of archives.
    pub archives: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

impl UploadQueue {
    pub(super) fn new(index: Arc<Index>) -> Self {
        Self { index, waiting: Mutex::default(), queued: Notify::new() }
    }

    /// Reads the queue that an earlier run has left.
    pub(super) fn load(&self) -> io::Result<()> {
        let mut after = String::new();
        loop {
            let step = self.index.read(|txn| {
                let step = index::uploads_after(txn, &after, LOADED_STEP)?;
                step.into_iter().map(|upload| Ok((index::blob_cost(txn, &upload.digest)?, upload))).collect()
            });
            let step: Vec<(u64, QueuedUpload)> = step?;
            let Some((_, last)) = step.last() else { return Ok(()) };
            last.key.as_str().clone_into(&mut after);
            step.into_iter().for_each(|(cost, upload)| self.protect(&upload, cost));
        }
    }

    /// Protects the blob of a queued archive from eviction. The caller holds the digest's lock, or nothing is evicted yet.
    pub(super) fn protect(&self, upload: &QueuedUpload, cost: u64) {
        self.waiting.lock().add(upload, cost);
        self.queued.notify_one();
    }

    /// True for a blob that is not in the bucket yet.
    pub(super) fn protects(&self, digest: &Digest) -> bool {
        self.waiting.lock().blobs.contains_key(digest)
    }

    /// The bytes of protected blobs.
    pub(super) fn bytes(&self) -> u64 {
        self.waiting.lock().bytes
    }

    fn usage(&self) -> UploadQueueUsage {
        let waiting = self.waiting.lock();
        UploadQueueUsage { archives: waiting.digests.len() as u64, bytes: waiting.bytes }
    }
}

impl Waiting {
    fn add(&mut self, upload: &QueuedUpload, cost: u64) {
        match self.digests.insert(upload.key.clone(), upload.digest) {
            Some(old) if old == upload.digest => return,
            Some(old) => self.release(&old),
            None => {}
        }
        let blob = self.blobs.entry(upload.digest).or_insert(WaitingBlob { keys: 0, cost });
        blob.keys += 1;
        if blob.keys == 1 {
            self.bytes += cost;
        }
    }

    fn remove(&mut self, upload: &QueuedUpload) {
        if self.digests.get(&upload.key) == Some(&upload.digest) {
            self.digests.remove(&upload.key);
            self.release(&upload.digest);
        }
    }

    fn release(&mut self, digest: &Digest) {
        let Some(blob) = self.blobs.get_mut(digest) else { return };
        blob.keys -= 1;
        if blob.keys == 0 {
            self.bytes -= blob.cost;
            self.blobs.remove(digest);
        }
    }
}

/// The upload queue of the disk tier. Cheap to clone.
#[derive(Clone)]
pub struct DiskUploads {
    queue: Arc<UploadQueue>,
}

impl DiskUploads {
    pub(super) fn new(queue: Arc<UploadQueue>) -> Self {
        Self { queue }
    }

    /// At most `limit` queued archives behind the key `after`, in order of their keys.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn after(&self, after: &Key, limit: usize) -> io::Result<Vec<QueuedUpload>> {
        let queue = Arc::clone(&self.queue);
        let after = after.clone();
        run_blocking_io(move || queue.index.read(|txn| index::uploads_after(txn, after.as_str(), limit))).await
    }

    /// Removes archives from the queue: they are in the bucket, or no longer stored. One that was queued again with other
    /// bytes stays.
    ///
    /// # Errors
    /// When the index cannot be written; they stay in the queue.
    pub async fn remove(&self, done: Vec<QueuedUpload>) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        run_blocking_io(move || {
            queue.index.write(|txn| index::remove_uploads(txn, &done))?;
            let mut waiting = queue.waiting.lock();
            done.iter().for_each(|upload| waiting.remove(upload));
            Ok(())
        })
        .await
    }

    /// Queues stored archives.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub async fn add(&self, uploads: Vec<QueuedUpload>) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        run_blocking_io(move || {
            queue.index.write(|txn| uploads.iter().try_for_each(|upload| index::put_upload(txn, upload)))?;
            for upload in &uploads {
                let cost = queue.index.read(|txn| index::blob_cost(txn, &upload.digest))?;
                queue.protect(upload, cost);
            }
            Ok(())
        })
        .await
    }

    /// How full the queue is.
    pub fn usage(&self) -> UploadQueueUsage {
        self.queue.usage()
    }

    /// Completes when an archive is queued; at once if one was queued since the last call.
    pub async fn queued(&self) {
        self.queue.queued.notified().await;
    }
}
