//! The packages that are published on this mirror: opens their directory and, where mirrors share a bucket, takes over what
//! other mirrors publish there.

use std::{fmt, fs::File, future::pending, io, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::spawn_background;
use crate::{
    archive::ZipVerifier,
    blocking::{BlockingTask, spawn_blocking},
    cache::Cache,
    clock::ClockReading,
    config::Config,
    dialect::HOSTED,
    entry::Digest,
    hosted::{
        HostedFollower, HostedStore, ListedRecord, PrimaryDownloadError, PrimaryObject, PrimaryPage, PrimaryStore,
        PrimaryUnavailable, PrimaryWrite, ZipName,
    },
    registry::hosting::{HostedPackages, follower},
    shared::{BucketError, ChangeListener, HostedObject, HostedObjects, ObjectDownloadError, ObjectWrite, UnmarkedZip},
};

/// The bucket is read after this part of `shared.max_age`, percent. The rest is for the age of cached responses, so that a
/// version is in every list within `shared.max_age` after its publication.
const HOSTED_AGE_PERCENT: u32 = 60;
/// Longest wait at the start for what other mirrors have published.
const FIRST_STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// When to try again after the bucket has failed.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(5);
/// Bytes per read of a zip that is uploaded.
const READ_BYTES_FOR_UPLOAD: usize = 1 << 20;

/// Opens the published packages, if the section is configured. Follows the bucket, if there is one, until `background` is
/// cancelled.
///
/// # Errors
/// When the directory cannot be used.
pub(super) async fn open(
    config: &Config,
    verify: Arc<ZipVerifier>,
    cache: &Cache,
    tasks: &TaskTracker,
    background: &CancellationToken,
) -> anyhow::Result<Option<Arc<HostedPackages>>> {
    let Some(section) = config.hosted.clone() else { return Ok(None) };
    anyhow::ensure!(
        config.access.enabled,
        "upstreams.hosted needs access.enabled = true: packages are published by callers with a token"
    );
    let dir = config.hosted_dir().context("upstreams.hosted.dir is not set")?;
    let primary = cache.bucket().map(|tier| {
        let objects = HostedObjects::new(tier.bucket().clone(), cache.clock().clone());
        let primary = BucketPrimary { objects, runtime: Handle::current(), end: background.clone() };
        Arc::new(primary) as Arc<dyn PrimaryStore>
    });
    let listener = cache.bucket().map(|tier| tier.bucket().notices.listen(HOSTED_AGE_PERCENT));
    let store = spawn_blocking(move || HostedStore::open(&dir, &section, primary)).await??;
    let max_zip_bytes = config.archives.max_size.0;
    let hosted = Arc::new(HostedPackages::new(HOSTED, store, verify, max_zip_bytes, cache.clock().clone()));
    if let Some(listener) = listener {
        let follower = Arc::new(follower(&hosted));
        // Names that others have published must not be taken for names of an upstream.
        match timeout(FIRST_STEP_TIMEOUT, run_step(&follower, HostedFollower::begin)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the mirror starts with its own copy of the published packages");
            }
            Err(_) => tracing::warn!("the mirror starts while it still copies the records of published packages"),
        }
        spawn_background(tasks, background, follow(follower, listener));
    }
    Ok(Some(hosted))
}

/// Takes over what other mirrors publish, and uploads what only this mirror has. Never returns.
async fn follow(follower: Arc<HostedFollower>, mut listener: ChangeListener) {
    let mut is_failing = false;
    let mut uploads: Option<BlockingTask<()>> = None;
    loop {
        let outcome = run_step(&follower, HostedFollower::step).await;
        if let (Err(error), false) = (&outcome, is_failing) {
            tracing::warn!(%error, "what other mirrors have published is not known at present");
        }
        if outcome.is_ok() && is_failing {
            tracing::info!("what other mirrors have published is known again");
        }
        is_failing = outcome.is_err();
        if !is_failing && follower.has_uploads() && uploads.as_ref().is_none_or(BlockingTask::is_finished) {
            let follower = follower.clone();
            uploads = Some(spawn_blocking(move || follower.upload()));
        }
        listener.due(pending()).await;
    }
}

/// Runs a step of the follower on a thread that may block.
async fn run_step(
    follower: &Arc<HostedFollower>,
    step: fn(&HostedFollower) -> Result<(), PrimaryUnavailable>,
) -> Result<(), PrimaryUnavailable> {
    let follower = follower.clone();
    let outcome = spawn_blocking(move || step(&follower)).await;
    // An error is a panic, which has been reported.
    outcome.unwrap_or(Err(PrimaryUnavailable { retry_after: UNAVAILABLE_RETRY }))
}

/// The bucket as the primary store of published packages, for threads that may block.
struct BucketPrimary {
    objects: HostedObjects,
    runtime: Handle,
    /// Cancelled when the runtime is about to end.
    end: CancellationToken,
}

impl fmt::Debug for BucketPrimary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketPrimary").finish_non_exhaustive()
    }
}

impl BucketPrimary {
    /// Waits for a request to the bucket. Blocks.
    fn wait<T>(&self, request: impl Future<Output = Result<T, BucketError>>) -> Result<T, PrimaryUnavailable> {
        match self.runtime.block_on(self.end.run_until_cancelled(request)) {
            Some(answer) => answer.map_err(|error| unavailable(&error)),
            None => Err(PrimaryUnavailable { retry_after: UNAVAILABLE_RETRY }),
        }
    }
}

impl PrimaryStore for BucketPrimary {
    fn note_written(&self) {
        self.objects.notices().note_written();
    }

    fn read(&self, name: &str) -> Result<Option<PrimaryObject>, PrimaryUnavailable> {
        let found = self.wait(self.objects.read(name))?;
        Ok(found.map(|object| PrimaryObject { bytes: object.bytes.into(), tag: object.etag }))
    }

    fn create(&self, name: &str, bytes: Vec<u8>) -> Result<PrimaryWrite, PrimaryUnavailable> {
        self.wait(self.objects.create(name, bytes.into())).map(written)
    }

    fn replace(&self, name: &str, bytes: Vec<u8>, old: &PrimaryObject) -> Result<PrimaryWrite, PrimaryUnavailable> {
        let old = HostedObject { bytes: old.bytes.clone().into(), etag: old.tag.clone() };
        self.wait(self.objects.replace(name, bytes.into(), old)).map(written)
    }

    fn list(&self, folder: &str, after: Option<&str>) -> Result<PrimaryPage, PrimaryUnavailable> {
        let page = self.wait(self.objects.list(folder, after))?;
        let objects = page.objects.into_iter().map(|object| ListedRecord { name: object.name, tag: object.etag });
        Ok(PrimaryPage { objects: objects.collect(), is_last: page.is_last })
    }

    fn unmarked_zip(&self, digest: &Digest) -> Result<ZipName, PrimaryUnavailable> {
        let UnmarkedZip { name, looked_at } = self.wait(self.objects.unmarked_zip(digest))?;
        Ok(ZipName { name, looked_at })
    }

    fn may_be_named(&self, looked_at: &ClockReading) -> bool {
        self.objects.may_be_named(looked_at)
    }

    fn upload(&self, name: &str, zip: &File, len: u64) -> Result<(), PrimaryUnavailable> {
        let file = zip.try_clone().map_err(|error| {
            tracing::error!(%error, "a zip cannot be read");
            PrimaryUnavailable { retry_after: UNAVAILABLE_RETRY }
        })?;
        let file = Arc::new(file);
        self.wait(self.objects.upload(name, len, || read_zip(file.clone(), len)))
    }

    fn download(
        &self,
        name: &str,
        len: u64,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), PrimaryDownloadError> {
        let download = self.objects.download(name, len, write);
        match self.runtime.block_on(self.end.run_until_cancelled(download)) {
            Some(Ok(())) => Ok(()),
            Some(Err(ObjectDownloadError::Write(error))) => Err(PrimaryDownloadError::Write(error)),
            Some(Err(ObjectDownloadError::Bucket(BucketError::Damaged))) => Err(PrimaryDownloadError::Damaged),
            Some(Err(ObjectDownloadError::Bucket(error))) => {
                Err(PrimaryDownloadError::Unavailable(unavailable(&error)))
            }
            None => Err(PrimaryDownloadError::Unavailable(PrimaryUnavailable { retry_after: UNAVAILABLE_RETRY })),
        }
    }
}

fn written(write: ObjectWrite) -> PrimaryWrite {
    match write {
        ObjectWrite::Written => PrimaryWrite::Done,
        ObjectWrite::Refused => PrimaryWrite::Refused,
    }
}

fn unavailable(error: &BucketError) -> PrimaryUnavailable {
    tracing::debug!(%error, "the bucket of the published packages cannot be used");
    let retry_after = match error {
        BucketError::Paused { retry_after } => (*retry_after).max(Duration::from_secs(1)),
        _ => UNAVAILABLE_RETRY,
    };
    PrimaryUnavailable { retry_after }
}

/// The bytes of a zip, read as they are sent.
fn read_zip(file: Arc<File>, len: u64) -> BoxStream<'static, io::Result<Bytes>> {
    stream::unfold((file, 0_u64), move |(file, offset)| async move {
        let most = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(READ_BYTES_FOR_UPLOAD);
        if most == 0 {
            return None;
        }
        let reader = file.clone();
        let read = spawn_blocking(move || {
            let mut bytes = vec![0; most];
            reader.read_exact_at(&mut bytes, offset)?;
            Ok(Bytes::from(bytes))
        });
        let read = read.await.map_err(io::Error::other).flatten();
        let next = if read.is_ok() { offset + most as u64 } else { len };
        Some((read, (file, next)))
    })
    .boxed()
}
