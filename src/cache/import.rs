//! Takes in what another mirror hands over: checked as a download is, and never believed.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::{
    Cache,
    pinning::judge,
    progress::growing,
    writer::{Told, Writer},
};
use crate::{
    entry::{Claim, Digest, Document, Key, Meta, Pin},
    origin::{Verify, VerifyError},
    tier::disk::PinEvent,
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

    /// Takes in a zip. With `force`, other content that is pinned under the key is forgotten.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(
        &self,
        claim: Claim,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        verify: Arc<dyn Verify>,
        force: bool,
    ) -> Result<(), ImportError> {
        let Claim { key, first_seen, meta: claimed } = claim;
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
        let writer = Writer::start(&self.tasks, spool, Told::nobody());
        let (mut body, mut len) = (std::pin::pin!(body), 0);
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
        let judge = move |old| match judge(new.clone(), old) {
            Err(old) if force => {
                tracing::warn!(
                    target: "srm_mirror::cache", key = %old.key, "an operator lets an import replace what was first seen"
                );
                Ok(vec![(PinEvent::Forget, *old), (PinEvent::Pin, new)])
            }
            judged => judged,
        };
        self.disk.settle_pin(&key, judge).await?.map_err(|_| ImportError::Conflict)?;
        self.disk.admit(&key, spool, meta).await?;
        self.memory.forget_key(&key);
        self.generations.end(&key);
        self.failures.forget(&key);
        Ok(())
    }

    /// Takes in a document, unless what is stored was confirmed later; true when it was taken.
    ///
    /// # Errors
    /// `Wrong` when its body has not the digest that it claims.
    pub async fn import_document(&self, key: &Key, mut document: Document) -> Result<bool, ImportError> {
        if Digest::of(&document.body) != document.meta.digest {
            return Err(ImportError::Wrong("a document does not have the digest that it was said to have".into()));
        }
        let stored = self.stored_document(key).await;
        if stored.is_some_and(|stored| stored.meta.validated_at >= document.meta.validated_at) {
            return Ok(false);
        }
        let (meta, now) = (Arc::make_mut(&mut document.meta), self.clock.now());
        meta.validated_at = meta.validated_at.min(now);
        self.keep(key, &document, true).await;
        self.failures.forget(key);
        Ok(true)
    }
}
