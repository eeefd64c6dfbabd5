//! Where a fill puts its body: a spool on disk while there is room, and memory from then on.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    fill_context::{FillContext, FillFailure},
    fill_state::{FillState, publish_moved, publish_written},
    memory_room::{MemoryBody, whole_body},
    progress::{ProgressWriter, growing_spool},
    spool_writer::{FinishError, ProgressListeners, SpoolWriter},
};
use crate::{
    blocking::{BlockingTask, spawn_blocking},
    entry::{Digest, Verified},
    origin::{FetchError, Verify, VerifyError},
    storage::{BlobFile, disk::Spool},
};

/// A body that arrives.
pub(super) enum BodyStore {
    /// In a spool, verified beside the download.
    Spool(SpooledBody),
    /// In memory, verified at the end.
    Memory(MemoryBody),
}

/// A body that arrives in a spool.
pub(super) struct SpooledBody {
    writer: SpoolWriter,
    verdict: BlockingTask<Result<Verified, VerifyError>>,
    /// Fails the verifier when it is dropped before the end.
    progress: Arc<ProgressWriter>,
    parts: SpoolParts,
}

/// What is needed to move a spool to memory.
struct SpoolParts {
    file: Arc<BlobFile>,
    state: watch::Sender<FillState>,
    announced: Option<u64>,
}

/// Where a whole body is.
pub(super) enum StoredBody {
    /// Complete, to be admitted.
    Spool(Spool),
    /// For the clients that wait for it.
    Memory(Bytes),
}

/// A whole and verified body.
pub(super) struct ReceivedBody {
    pub(super) stored: StoredBody,
    pub(super) digest: Digest,
    pub(super) verified: Verified,
}

impl BodyStore {
    /// Starts the writer and the verifier of a spool. Its growth is published in `state`.
    pub(super) fn spool(
        context: &FillContext,
        spool: Spool,
        announced: Option<u64>,
        verify: &Arc<dyn Verify>,
        state: watch::Sender<FillState>,
    ) -> Self {
        let file = spool.file();
        let (progress, spool_view) = growing_spool(spool.file());
        let progress = Arc::new(progress);
        let verify = verify.clone();
        let verdict = spawn_blocking(move || verify.verify(&spool_view));
        let verifier_progress = progress.clone();
        let readers_state = state.clone();
        let listeners = ProgressListeners {
            verifier: move |written| verifier_progress.advance(written),
            readers: move |written| publish_written(&readers_state, written),
        };
        let writer = SpoolWriter::start(&context.tasks.tracker, spool, listeners);
        Self::Spool(SpooledBody { writer, verdict, progress, parts: SpoolParts { file, state, announced } })
    }

    /// True while the body is in its spool, where clients may read it.
    pub(super) fn is_spooled(&self) -> bool {
        matches!(self, Self::Spool(_))
    }

    /// Takes the next bytes. A spool that takes no more is moved to memory.
    ///
    /// # Errors
    /// When neither disk nor memory takes them.
    pub(super) async fn write(self, context: &FillContext, chunk: Bytes) -> Result<Self, FillFailure> {
        match self {
            Self::Spool(body) => match body.writer.write(chunk).await {
                Ok(()) => Ok(Self::Spool(body)),
                Err(refused) => body.into_memory(context, refused.chunk).await.map(Self::Memory),
            },
            Self::Memory(mut body) => {
                body.write(&chunk).await?;
                Ok(Self::Memory(body))
            }
        }
    }

    /// The digest of everything so far, and the store, which may have moved.
    ///
    /// # Errors
    /// As [`BodyStore::write`].
    pub(super) async fn checkpoint(self, context: &FillContext) -> Result<(Self, Digest), FillFailure> {
        let body = match self {
            Self::Spool(body) => match body.writer.checkpoint().await {
                Ok(digest) => return Ok((Self::Spool(body), digest)),
                Err(_) => body.into_memory(context, None).await?,
            },
            Self::Memory(body) => body,
        };
        let digest = body.digest();
        Ok((Self::Memory(body), digest))
    }

    /// Why the verifier has refused a body that is still arriving; `None` while it reads. It never accepts before the end.
    /// After a refusal, the body cannot be used any more.
    pub(super) async fn early_refusal(&mut self) -> Option<FillFailure> {
        match self {
            Self::Spool(body) if body.verdict.is_finished() => Some(match (&mut body.verdict).await {
                Ok(Err(error)) => error.into(),
                Ok(Ok(_)) | Err(_) => FillFailure::Failed(unverifiable()),
            }),
            _ => None,
        }
    }

    /// Ends the body and waits for its verification.
    ///
    /// # Errors
    /// When neither disk nor memory takes its last bytes, and when it is not valid.
    pub(super) async fn finish(
        self,
        context: &FillContext,
        verify: &Arc<dyn Verify>,
    ) -> Result<ReceivedBody, FillFailure> {
        let body = match self {
            Self::Spool(SpooledBody { writer, verdict, progress, parts }) => match writer.finish().await {
                Ok((spool, digest)) => {
                    progress.finish();
                    let verified = verdict_of(verdict).await?;
                    return Ok(ReceivedBody { stored: StoredBody::Spool(spool), digest, verified });
                }
                Err(error) => parts.into_memory(context, error, None).await?,
            },
            Self::Memory(body) => body,
        };
        let digest = body.digest();
        let bytes = body.into_bytes();
        let verifier = verify.clone();
        let whole = bytes.clone();
        let verified = verdict_of(spawn_blocking(move || verifier.verify(&whole_body(whole)))).await?;
        Ok(ReceivedBody { stored: StoredBody::Memory(bytes), digest, verified })
    }
}

impl SpooledBody {
    /// Moves a body of which a write was refused, and the chunk after it, to memory.
    async fn into_memory(self, context: &FillContext, last: Option<Bytes>) -> Result<MemoryBody, FillFailure> {
        let error = self.writer.finish().await.err().unwrap_or(FinishError::Lost);
        self.parts.into_memory(context, error, last).await
    }
}

impl SpoolParts {
    /// Copies the bytes in the spool, and those that were not written any more, to memory.
    async fn into_memory(
        self,
        context: &FillContext,
        error: FinishError,
        last: Option<Bytes>,
    ) -> Result<MemoryBody, FillFailure> {
        let FinishError::Refused { written, unwritten } = error else { return Err(FillFailure::SpoolUnreadable) };
        // Readers leave the spool as soon as they have sent what is in it.
        publish_moved(&self.state, written);
        let mut body = context.memory.body(self.announced)?;
        body.write_spooled(&self.file, written).await?;
        for chunk in unwritten.iter().chain(&last) {
            body.write(chunk).await?;
        }
        Ok(body)
    }
}

async fn verdict_of(verdict: BlockingTask<Result<Verified, VerifyError>>) -> Result<Verified, FillFailure> {
    match verdict.await {
        Ok(verdict) => Ok(verdict?),
        Err(_) => Err(FillFailure::Failed(unverifiable())),
    }
}

fn unverifiable() -> FetchError {
    FetchError::Invalid("the body could not be verified".into())
}
