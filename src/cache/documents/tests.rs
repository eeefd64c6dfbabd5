use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::{renewal::RenewalSource, *};
use crate::{
    cache::fakes::TestCache,
    entry::Validators,
    origin::{BoxFuture, Missing},
};

/// Gives one response every time, and counts its requests.
struct FixedDocument {
    response: Result<&'static str, FetchError>,
    requests: AtomicUsize,
}

impl FixedDocument {
    fn new(response: Result<&'static str, FetchError>) -> Arc<Self> {
        Arc::new(Self { response, requests: AtomicUsize::new(0) })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

impl Origin for FixedDocument {
    type Fetched = FetchedDocument;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        self.requests.fetch_add(1, Ordering::AcqRel);
        let response = self.response.clone().map(|body| FetchedDocument::Changed {
            body: Bytes::from_static(body.as_bytes()),
            validators: Validators { pages: Vec::new(), token_fingerprint: None, last_full_fetch: None },
        });
        Box::pin(async move { response })
    }
}

fn key() -> Key {
    Key::new("github/devsapp/fc3/releases")
}

#[tokio::test]
async fn a_request_just_after_a_flight_has_landed_costs_no_second_upstream_request() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let policy = documents.config().releases(true);
    let good = FixedDocument::new(Ok("[]"));
    documents.get(&key(), policy, good.clone()).await.expect("an answer");
    // As a caller that looked the document up before the first flight landed, and found nothing.
    let JoinedFlight { mut flight, collapsed } = documents.renew(&key(), policy, None, good.clone());
    let late = flight.finished().await.into_result().expect("an answer");
    assert_eq!((collapsed, late.source, good.requests()), (false, RenewalSource::EarlierFlight, 1));

    let bad = FixedDocument::new(Err(FetchError::Status(500)));
    test.cache.clock().advance(Duration::from_secs(3600));
    assert!(documents.get(&key(), policy, bad.clone()).await.expect("stale").status.used_stale);
    let mut flight = documents.renew(&key(), policy, None, bad.clone()).flight;
    assert!(matches!(flight.finished().await.into_result(), Err(FetchError::CoolingDown { .. })));
    assert_eq!(bad.requests(), 1, "the cool-down holds for late callers too");
}

#[tokio::test]
async fn a_revalidation_that_vanished_fails_its_requests() {
    let test = TestCache::new();
    let mut flight = test.cache.documents().revalidations.join(&key(), drop).flight;
    assert!(matches!(flight.finished().await.into_result(), Err(FetchError::Unreachable(_))));
}

#[tokio::test]
async fn a_blocked_package_stays_blocked_when_its_repository_disappears() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let policy = documents.config().releases(true);
    documents.get(&key(), policy, FixedDocument::new(Ok("[]"))).await.expect("an answer");
    documents.block(&key()).await;
    let gone = FixedDocument::new(Err(FetchError::NotFound(Missing::Package)));
    for requests in [1, 1, 2] {
        let failure = documents.get(&key(), policy, gone.clone()).await.expect_err("blocked");
        assert_eq!((failure.error, gone.requests()), (FetchError::Blocked, requests));
        test.cache.clock().advance(Duration::from_secs(40));
    }
    test.cache.clock().advance(Duration::from_secs(60));
    let answer = documents.get(&key(), policy, FixedDocument::new(Ok("[]"))).await.expect("lifted");
    assert_eq!(answer.document.meta.upstream_status, UpstreamStatus::Present);
}

#[tokio::test]
async fn a_removed_document_is_fetched_anew() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let policy = documents.config().releases(true);
    let good = FixedDocument::new(Ok("[]"));
    for requests in [1, 1] {
        documents.get(&key(), policy, good.clone()).await.expect("an answer");
        assert_eq!(good.requests(), requests);
    }
    documents.tiers.remove_all(&[key()]).await.expect("removed");
    assert!(documents.tiers.get(&key()).await.is_none());
    documents.get(&key(), policy, good.clone()).await.expect("an answer");
    assert_eq!(good.requests(), 2);
}

#[tokio::test]
async fn a_refresh_revalidates_only_what_is_stored_and_stale() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let policy = documents.config().releases(true);
    let good = FixedDocument::new(Ok("[]"));
    documents.refresh(&key(), policy, good.clone()).await;
    assert_eq!(good.requests(), 0, "nothing is stored");
    documents.get(&key(), policy, good.clone()).await.expect("an answer");
    documents.refresh(&key(), policy, good.clone()).await;
    assert_eq!(good.requests(), 1, "fresh");
}

#[tokio::test]
async fn a_response_made_while_a_document_is_written_is_not_sent_again() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let key = key();
    let policy = documents.config().releases(false);
    let document = documents.get(&key, policy, FixedDocument::new(Ok("{}"))).await.expect("stored").document;
    let store = || documents.tiers.store(&key, &document, DocumentChange::Body);
    let mut storing = std::pin::pin!(store());
    // The disk has threads of its own: a write may be done at the first poll, but not every time.
    let mut tries = 0..1000;
    while futures_util::poll!(&mut storing).is_ready() {
        tries.next().expect("no write was caught in progress");
        storing.set(store());
    }
    let made = test.cache.generation(&key);
    storing.await;
    assert!(!made.is_current());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_brings_a_removed_document_back() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let policy = documents.config().releases(false);
    for _ in 0..30 {
        documents.get(&key(), policy, FixedDocument::new(Ok("{}"))).await.expect("stored");
        // A document that is only on disk is copied into memory by its readers.
        documents.tiers.evict_from_memory(&key());
        let stop = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let tiers = documents.tiers.clone();
                let stop = stop.clone();
                tokio::spawn(async move {
                    while stop.load(Ordering::Acquire) == 0 {
                        tiers.get(&key()).await;
                        tiers.evict_from_memory(&key());
                        tiers.get(&key()).await;
                    }
                })
            })
            .collect();
        documents.tiers.remove_all(&[key()]).await.expect("removed");
        stop.store(1, Ordering::Release);
        for reader in readers {
            reader.await.expect("no panic");
        }
        assert!(documents.tiers.get(&key()).await.is_none());
    }
}

#[tokio::test]
async fn an_import_ends_the_cool_down_also_where_memory_holds_a_newer_document() {
    let test = TestCache::new();
    let documents = test.cache.documents();
    let policy = documents.config().releases(true);
    let answer = documents.get(&key(), policy, FixedDocument::new(Ok("[]"))).await.expect("stored");
    // As if the disk had not taken it: memory alone holds the document.
    test.cache.disk().documents().remove(&key()).await.expect("removed");
    test.cache.clock().advance(Duration::from_secs(3600));
    let bad = FixedDocument::new(Err(FetchError::Status(500)));
    assert!(documents.get(&key(), policy, bad).await.expect("stale").status.used_stale);
    assert!(documents.failures.recent(&key()).is_some(), "cooling down");

    let mut older = answer.document;
    Arc::make_mut(&mut older.meta).validated_at -= Duration::from_secs(60);
    let outcome = documents.import(&key(), older).await.expect("imported");
    assert_eq!(outcome, DocumentImport::OlderThanMemory);
    assert!(documents.failures.recent(&key()).is_none());
    assert!(test.cache.disk().documents().get(&key()).await.expect("readable").is_some());
}
