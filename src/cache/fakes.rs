//! What the cache's own tests build on: an origin, a verifier, and a cache over a temporary directory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio_util::task::TaskTracker;

use super::{ArchiveRequest, Asker, Cache, CacheConfig, Pinning, SharedTiers};
use crate::{
    clock::Clock,
    entry::{Digest, Document, Key, Verified},
    origin::{BoxFuture, DownloadPlace, FetchError, FetchedBody, Growing, InvalidContent, Origin, Verify, VerifyError},
    storage::{
        disk::{self, Disk},
        memory,
    },
    value::memory_budget::MemoryBudget,
};

/// Sends the same bytes every time, or never responds; counts its requests.
pub(super) struct CountingOrigin {
    requests: AtomicUsize,
    bytes: Option<Bytes>,
}

impl CountingOrigin {
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Origin for CountingOrigin {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(bytes) = self.bytes.clone() else { return Box::pin(std::future::pending()) };
        let body = stream::iter([Ok(bytes)]).boxed();
        Box::pin(std::future::ready(Ok(FetchedBody {
            len: None,
            anonymous: true,
            body,
            place: DownloadPlace::default(),
        })))
    }
}

/// Accepts everything unless a switch is set; every body has the same manifest.
#[derive(Default)]
pub(super) struct FakeVerifier {
    pub(super) panics: AtomicBool,
}

impl Verify for FakeVerifier {
    fn prefix_len(&self) -> usize {
        1
    }

    fn prefix(&self, _: &[u8]) -> Result<(), InvalidContent> {
        Ok(())
    }

    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError> {
        assert!(!self.panics.load(Ordering::Relaxed), "the test asked for a panic");
        body.len()?;
        Ok(Verified { manifest: Digest([1; 32]), commit: None, facts: serde_json::Value::Null })
    }
}

/// A cache over a temporary directory.
pub(crate) struct TestCache {
    pub(crate) cache: Arc<Cache>,
    pub(super) verifier: Arc<FakeVerifier>,
    pub(super) tasks: TaskTracker,
    _dir: tempfile::TempDir,
}

impl TestCache {
    pub(crate) fn new() -> Self {
        Self::with_disk(&disk::Config::default())
    }

    /// A cache over a disk of this limit.
    pub(super) fn with_disk(config: &disk::Config) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(config, dir.path()).expect("opens");
        let memory = memory::Config::default();
        let tasks = TaskTracker::new();
        let cache = Cache::build(
            &memory,
            MemoryBudget::unlimited(),
            disk,
            SharedTiers::default(),
            CacheConfig::default(),
            Clock::default(),
            tasks.clone(),
        );
        Self { cache, verifier: Arc::default(), tasks, _dir: dir }
    }

    /// A request for an archive of these bytes; without bytes, the origin never responds.
    pub(super) fn request(&self, bytes: Option<Bytes>) -> (ArchiveRequest, Arc<CountingOrigin>) {
        let origin = Arc::new(CountingOrigin { requests: AtomicUsize::new(0), bytes });
        let verify = self.verifier.clone();
        (
            ArchiveRequest {
                key: Key::new("k"),
                origin: origin.clone(),
                verify,
                pinning: Pinning::Pinned,
                negative: std::time::Duration::from_secs(30),
                asker: Asker::Client,
            },
            origin,
        )
    }
}

/// A body of `len` bytes that depends on `seed`.
pub(super) fn body(len: usize, seed: usize) -> Bytes {
    (0..len).map(|i| ((i * 31) ^ (i >> 7) ^ seed) as u8).collect::<Vec<u8>>().into()
}
