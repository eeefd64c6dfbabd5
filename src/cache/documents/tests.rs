use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    cache::policy::{Archives, Documents},
    clock::Clock,
    entry::Validators,
    origin::{BoxFuture, Missing},
    storage::{disk, memory},
};

/// Says one thing, and counts how often it is asked.
struct Says {
    result: Result<&'static str, FetchError>,
    asked: AtomicUsize,
}

impl Says {
    fn new(result: Result<&'static str, FetchError>) -> Arc<Self> {
        Arc::new(Self { result, asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }
}

impl Origin for Says {
    type Fetched = FetchedDocument;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        let result = self.result.clone().map(|body| FetchedDocument::Changed {
            body: Bytes::from_static(body.as_bytes()),
            validators: Validators { pages: Vec::new(), asked_as: None, walked_at: None },
        });
        Box::pin(async move { result })
    }
}

fn cache() -> (TempDir, Arc<Cache>) {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = disk::Disk::open(&disk::Config::default(), dir.path()).expect("opens");
    let policies = Documents::default();
    let archives = Archives::default();
    let cache =
        Cache::build(&memory::Config::default(), disk, policies, archives, Clock::default(), TaskTracker::new());
    (dir, cache)
}

fn key() -> Key {
    Key::new("github/devsapp/fc3/releases")
}

#[tokio::test]
async fn who_comes_just_after_a_flight_has_landed_costs_no_second_request() {
    let (_dir, cache) = cache();
    let policy = cache.policies().releases(true);
    let good = Says::new(Ok("[]"));
    cache.document(&key(), policy, good.clone()).await.expect("an answer");
    // As a caller who looked before the first flight landed, and found nothing.
    let (state, joined) = cache.renew(&key(), policy, None, good.clone());
    let late = landed(state).await.expect("an answer");
    assert_eq!((joined, late.how, good.asked()), (false, RenewalSource::Already, 1));

    let bad = Says::new(Err(FetchError::Status(500)));
    cache.clock().advance(Duration::from_secs(3600));
    assert!(cache.document(&key(), policy, bad.clone()).await.expect("stale").status.used_stale);
    let (state, _) = cache.renew(&key(), policy, None, bad.clone());
    assert!(matches!(landed(state).await, Err(FetchError::CoolingDown { .. })));
    assert_eq!(bad.asked(), 1, "the cool-down holds for late callers too");
}

#[tokio::test]
async fn a_block_outlives_the_repository_that_it_was_laid_on() {
    let (_dir, cache) = cache();
    let policy = cache.policies().releases(true);
    cache.document(&key(), policy, Says::new(Ok("[]"))).await.expect("an answer");
    cache.block(&key()).await;
    let gone = Says::new(Err(FetchError::NotFound(Missing::Package)));
    for asked in [1, 1, 2] {
        let failure = cache.document(&key(), policy, gone.clone()).await.expect_err("blocked");
        assert_eq!((failure.error, gone.asked()), (FetchError::Blocked, asked));
        cache.clock().advance(Duration::from_secs(40));
    }
    let back = cache.clock();
    back.advance(Duration::from_secs(60));
    let answer = cache.document(&key(), policy, Says::new(Ok("[]"))).await.expect("lifted");
    assert_eq!(answer.document.meta.standing, UpstreamStatus::Present);
}

#[tokio::test]
async fn a_discarded_document_is_asked_for_anew() {
    let (_dir, cache) = cache();
    let policy = cache.policies().releases(true);
    let good = Says::new(Ok("[]"));
    for asked in [1, 1] {
        cache.document(&key(), policy, good.clone()).await.expect("an answer");
        assert_eq!(good.asked(), asked);
    }
    cache.discard(&key()).await.expect("removed");
    assert!(cache.stored_document(&key()).await.is_none());
    cache.document(&key(), policy, good.clone()).await.expect("an answer");
    assert_eq!(good.asked(), 2);
}

#[tokio::test]
async fn a_refresh_asks_only_for_what_is_stored_and_stale() {
    let (_dir, cache) = cache();
    let policy = cache.policies().releases(true);
    let good = Says::new(Ok("[]"));
    cache.refresh(&key(), policy, good.clone()).await;
    assert_eq!(good.asked(), 0, "nothing is stored");
    cache.document(&key(), policy, good.clone()).await.expect("an answer");
    cache.refresh(&key(), policy, good.clone()).await;
    assert_eq!(good.asked(), 1, "fresh");
}

#[tokio::test]
async fn an_answer_made_while_a_document_was_being_written_is_not_given_again() {
    let (_dir, cache) = cache();
    let key = key();
    let policy = cache.policies().releases(false);
    let document = cache.document(&key, policy, Says::new(Ok("{}"))).await.expect("stored").document;
    let mut keep = std::pin::pin!(cache.keep(&key, &document, true));
    // The disk has threads of its own: it may be done before anybody asks, but not every time.
    let mut tries = 0..1000;
    while futures_util::poll!(&mut keep).is_ready() {
        tries.next().expect("it is never in the middle");
        keep.set(cache.keep(&key, &document, true));
    }
    let made = cache.generations.snapshot(&key);
    keep.await;
    assert!(!made.is_current());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_brings_a_removed_document_back() {
    let (_dir, cache) = cache();
    let policy = cache.policies().releases(false);
    for _ in 0..30 {
        cache.document(&key(), policy, Says::new(Ok("{}"))).await.expect("stored");
        // What is only on disk is copied into memory by whoever reads it.
        cache.documents.remove(&key());
        let stop = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let cache = cache.clone();
                let stop = stop.clone();
                tokio::spawn(async move {
                    while stop.load(Ordering::Acquire) == 0 {
                        cache.stored_document(&key()).await;
                        cache.documents.remove(&key());
                        cache.stored_document(&key()).await;
                    }
                })
            })
            .collect();
        cache.discard(&key()).await.expect("removed");
        stop.store(1, Ordering::Release);
        for reader in readers {
            reader.await.expect("no panic");
        }
        assert!(cache.stored_document(&key()).await.is_none());
    }
}
