//! Takes archives from other mirrors: verified like a download, whatever their description says.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;

use super::{
    ArchiveTiers, BackgroundTasks, BucketTier, PinRecords, Pinning,
    bucket_import::{BucketImport, SettledImport},
    fill_context::FillContext,
    import_error::ImportError,
    negative_cache::NegativeCache,
    pins::{PinConflict, pin_of},
    progress::growing_spool,
    spool_writer::{ProgressListeners, SpoolWriter},
};
use crate::{
    blocking::spawn_blocking,
    clock::Clock,
    entry::{Digest, ExportedArchive, Meta, Verified},
    origin::Verify,
    storage::disk::Spool,
};

/// Imports archives into the tiers.
pub struct ArchiveImporter {
    tiers: Arc<ArchiveTiers>,
    /// If there is one, it decides on the content, and what is imported is uploaded to it.
    bucket: Option<Arc<BucketTier>>,
    pins: PinRecords,
    failures: NegativeCache,
    max_archive_bytes: u64,
    clock: Clock,
    tasks: BackgroundTasks,
}

impl ArchiveImporter {
    pub(super) fn new(context: &FillContext) -> Self {
        Self {
            tiers: context.tiers.clone(),
            bucket: context.bucket.clone(),
            pins: context.pins.clone(),
            failures: context.failures.clone(),
            max_archive_bytes: context.limits.max_size.0,
            clock: context.clock.clone(),
            tasks: context.tasks.clone(),
        }
    }

    /// The largest archive that may be stored, in bytes.
    pub fn max_archive_bytes(&self) -> u64 {
        self.max_archive_bytes
    }

    /// Imports an archive. A revision is not pinned, and replaces the ones that were stored before it.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(
        &self,
        exported: ExportedArchive,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        verify: Arc<dyn Verify>,
        pinning: Pinning,
        on_conflict: PinConflict,
    ) -> Result<(), ImportError> {
        let ExportedArchive { key, first_seen, meta: exported } = exported;
        if exported.len > self.max_archive_bytes {
            return Err(invalid("the archive is larger than archives.max_size allows"));
        }
        if pinning == Pinning::Pinned {
            self.pins.check_import(&key, &exported.verified, on_conflict).await?;
        }
        let (spool, verified) = self.receive(&exported, body, verify).await?;
        let now = self.clock.now();
        // With a bucket, it is dated now, so that a removal before the import, which is read later, does not remove it.
        // Revisions keep their dates: they are compared by age.
        let is_new = self.bucket.is_some() && pinning == Pinning::Pinned;
        let date = |date: Timestamp| if is_new { now } else { date.min(now) };
        let stored_at = date(exported.stored_at);
        let meta = Meta { stored_at, verified, ..exported };
        let pin = (pinning == Pinning::Pinned).then(|| pin_of(&key, date(first_seen), &meta));
        let SettledImport { spool, meta, upload } = match self.bucket.clone() {
            Some(bucket) => {
                let import = BucketImport { bucket, pins: self.pins.clone(), key: key.clone(), meta, on_conflict };
                self.tasks.ask_bucket(Box::pin(import.settle(spool, pin))).await?
            }
            None => {
                if let Some(pin) = pin {
                    // Compares once more: a request may have pinned the version while the bytes arrived.
                    self.pins.settle_import(pin, on_conflict).await?;
                }
                SettledImport { spool, meta, upload: None }
            }
        };
        self.tiers.replace(&key, spool, meta, upload).await?;
        self.failures.forget(&key);
        if let Pinning::Revision { prefix } = pinning {
            self.tiers.supersede(&key, &prefix, stored_at).await;
        }
        Ok(())
    }

    /// Writes the body to a spool and verifies it.
    async fn receive(
        &self,
        exported: &Meta,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        verify: Arc<dyn Verify>,
    ) -> Result<(Spool, Verified), ImportError> {
        let spool = self.tiers.open_spool(Some(exported.len)).await.ok_or(ImportError::NoRoom)?;
        let (progress_writer, spool_view) = growing_spool(spool.file());
        let writer = SpoolWriter::start(&self.tasks.tracker, spool, ProgressListeners::none());
        let mut body = std::pin::pin!(body);
        let mut len = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            len += chunk.len() as u64;
            if len > exported.len {
                return Err(invalid("the archive is longer than its description says"));
            }
            writer.write(chunk).await?;
        }
        let (spool, digest): (Spool, Digest) = writer.finish().await?;
        if len != exported.len || digest != exported.digest {
            return Err(invalid("the archive does not have the digest of its description"));
        }
        progress_writer.advance(len);
        progress_writer.finish();
        let verified = spawn_blocking(move || verify.verify(&spool_view)).await.map_err(io::Error::other)??;
        if verified.manifest != exported.verified.manifest {
            return Err(invalid("the archive does not have the content of its description"));
        }
        Ok((spool, verified))
    }
}

fn invalid(reason: &str) -> ImportError {
    ImportError::Invalid(reason.to_owned())
}
