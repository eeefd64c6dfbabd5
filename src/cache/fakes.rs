//! What the cache's own tests put below it: an origin, a verifier, a directory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio_util::task::TaskTracker;

use super::{
    Cache,
    policy::{Archives, Documents},
};
use crate::{
    clock::Clock,
    entry::{Digest, Document, Verified},
    origin::{BoxFuture, FetchError, FetchedBody, Growing, Origin, Verify, VerifyError},
    storage::{
        disk::{self, Disk},
        memory,
    },
};

/// Sends the same bytes every time.
pub(super) struct Sends {
    pub(super) bytes: Bytes,
    pub(super) len: Option<u64>,
}

impl Origin for Sends {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        let pieces: Vec<_> = self.bytes.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let fetched = FetchedBody { len: self.len, anonymous: true, body: stream::iter(pieces).boxed() };
        Box::pin(std::future::ready(Ok(fetched)))
    }
}

/// Says yes until told otherwise; everything has the same manifest.
#[derive(Default)]
pub(super) struct Judge {
    pub(super) refuses_endings: AtomicBool,
    pub(super) panics: AtomicBool,
}

impl Verify for Judge {
    fn prefix_len(&self) -> usize {
        1
    }

    fn prefix(&self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn suffix(&self, _: &[u8], _: u64) -> Result<(), String> {
        if self.refuses_endings.load(Ordering::Relaxed) { Err("a bad ending".into()) } else { Ok(()) }
    }

    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError> {
        assert!(!self.panics.load(Ordering::Relaxed), "asked to panic");
        body.len()?;
        Ok(Verified { manifest: Digest([1; 32]), commit: None, facts: serde_json::Value::Null })
    }
}

/// A cache over a directory of its own.
pub(super) struct Bench {
    pub(super) cache: Arc<Cache>,
    pub(super) judge: Arc<Judge>,
    _dir: tempfile::TempDir,
}

pub(super) fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::open(&disk::Config::default(), dir.path()).expect("opens");
    let memory = memory::Config::default();
    let documents = Documents::default();
    let archives = Archives::default();
    let cache = Cache::build(&memory, disk, documents, archives, Clock::default(), TaskTracker::new());
    Bench { cache, judge: Arc::default(), _dir: dir }
}

/// Some bytes.
pub(super) fn body(len: usize, seed: usize) -> Bytes {
    (0..len).map(|i| ((i * 31) ^ (i >> 7) ^ seed) as u8).collect::<Vec<u8>>().into()
}
