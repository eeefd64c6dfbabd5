//! Takes in what another mirror hands over: checked as a download is, and never believed.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::{
    Cache,
    pinning::compare_with_pin,
    progress::growing,
    spool_writer::{ProgressListeners, Writer},
};
use crate::{
    entry::{Digest, Document, DocumentMeta, ExportedArchive, Key, Meta, Pin},
    origin::{Verify, VerifyError},
    storage::{Tier as _, disk::PinEvent},
};

/// Why something is not taken in. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not what was claimed, or not good.
    #[error("{0}")]
    Wrong(String),
    /// Other content is pinned under the key.
    #[error("other content was first seen here under this version")]
    Conflict,
    /// There is no room for it.
    #[error("there is no room for it in the cache")]
    NoRoom,
    /// The disk refuses.
    #[error("the cache directory cannot be written")]
    Io(#[from] io::Error),
}

impl Cache {
    /// The largest zip that may be stored, bytes.
    pub fn largest_archive(&self) -> u64 {
        self.archives.max_size.0
    }

    /// True when what is stored under a key is on disk and can be read; that memory has it says nothing of tomorrow.
    pub async fn is_on_disk(&self, key: &Key) -> bool {
        // What cannot be read is as good as absent: whoever hands it over again mends it.
        self.disk.get(key).await.is_ok_and(|object| object.is_some())
    }

    /// Takes in a zip. With `force`, other content that is pinned under the key is forgotten.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(
        &self,
        claim: ExportedArchive,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        verify: Arc<dyn Verify>,
        force: bool,
    ) -> Result<(), ImportError> {
        let ExportedArchive { key, first_seen, meta: claimed } = claim;
        let wrong = |why: &str| ImportError::Wrong(why.to_owned());
        if claimed.len > self.largest_archive() {
            return Err(wrong("it is larger than archives.max_size allows"));
        }
        let pin = self.disk.pin(&key).await?;
        if !force && pin.is_some_and(|pin| pin.verified.manifest != claimed.verified.manifest) {
            return Err(ImportError::Conflict);
        }
        let spool = self.spool(Some(claimed.len)).await.ok_or(ImportError::NoRoom)?;
        let (grower, grown) = growing(spool.file());
        let writer = Writer::start(&self.tasks, spool, ProgressListeners::nobody());
        let mut body = std::pin::pin!(body);
        let mut len = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            len += chunk.len() as u64;
            if len > claimed.len {
                return Err(wrong("it is longer than it was said to be"));
            }
            writer.write(chunk).await.map_err(|_| ImportError::NoRoom)?;
        }
        let (spool, digest) = writer.finish().await.map_err(|_| ImportError::NoRoom)?;
        if len != claimed.len || digest != claimed.digest {
            return Err(wrong("its bytes do not have the digest that they were said to have"));
        }
        grower.advance(len);
        grower.finish();
        let verdict = tokio::task::spawn_blocking(move || verify.verify(&grown)).await.map_err(io::Error::other)?;
        let verified = verdict.map_err(|error| match error {
            VerifyError::Invalid(why) => ImportError::Wrong(why),
            VerifyError::Io(error) => ImportError::Io(error),
        })?;
        if verified.manifest != claimed.verified.manifest {
            return Err(wrong("its content is not what it was said to be"));
        }
        let now = self.clock.now();
        let meta = Meta { stored_at: claimed.stored_at.min(now), verified: verified.clone(), ..claimed };
        let new = Pin { key: key.clone(), digest, len, first_seen: first_seen.min(now), verified };
        // Asked again: while the bytes came, somebody else may have seen the version first.
        let judge = move |old| match compare_with_pin(new.clone(), old) {
            Err(old) if force => {
                tracing::warn!(
                    key = %old.key, "an operator lets an import replace what was first seen"
                );
                Ok(vec![(PinEvent::Forget, *old), (PinEvent::Pin, new)])
            }
            judged => judged,
        };
        self.disk.settle_pin(&key, judge).await?.map_err(|_| ImportError::Conflict)?;
        self.disk.admit(&key, spool, meta).await?;
        self.removals.bump_with(&key, || self.memory.forget_key(&key));
        self.generations.bump(&key);
        self.failures.forget(&key);
        Ok(())
    }

    /// Takes in a document, unless what is stored was confirmed later; true when it was taken and is on disk.
    ///
    /// What it says of how to ask again is dropped: the upstream must not be asked whether something is still so that it
    /// may never have said.
    ///
    /// # Errors
    /// `Wrong` when its body has not the digest that it claims; `NoRoom` and `Io` when it cannot be stored.
    pub async fn import_document(&self, key: &Key, mut document: Document) -> Result<bool, ImportError> {
        if Digest::of(&document.body) != document.meta.digest {
            return Err(ImportError::Wrong("a document does not have the digest that it was said to have".into()));
        }
        if self.disk.documents().get(key).await?.is_some_and(|known| is_as_late(&known, &document.meta)) {
            return Ok(false);
        }
        let later = self.document_in_memory(key).filter(|known| is_as_late(known, &document.meta));
        let meta = Arc::make_mut(&mut document.meta);
        let now = self.clock.now();
        meta.validated_at = meta.validated_at.min(now);
        meta.changed_at = meta.changed_at.min(now);
        (meta.validators.pages, meta.validators.walked_at) = (Vec::new(), None);
        let taken = later.is_none();
        // What the disk did not take when it came is later all the same.
        let document = later.unwrap_or(document);
        self.disk.documents().put(key, &document).await.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => ImportError::NoRoom,
            _ => ImportError::Io(error),
        })?;
        self.generations.bump_with(key, || self.documents.put(key, document));
        self.failures.forget(key);
        Ok(taken)
    }

    /// True when a document is on disk, or one that was confirmed at least as late.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn has_document(&self, key: &Key, meta: &DocumentMeta) -> io::Result<bool> {
        let known = self.disk.documents().get(key).await?;
        Ok(known.is_some_and(|known| known.meta.digest == meta.digest || is_as_late(&known, meta)))
    }
}

fn is_as_late(known: &Document, meta: &DocumentMeta) -> bool {
    known.meta.validated_at >= meta.validated_at
}
