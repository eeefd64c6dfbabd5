use std::sync::atomic::Ordering;

use super::*;
use crate::cache::{
    Pinning,
    fakes::{TestCache, body},
};

/// Waits until all fills have landed: the tracker counts every one.
async fn all_landed(test: &TestCache) {
    test.tasks.close();
    test.tasks.wait().await;
    assert_eq!(test.cache.archives().running_fills(), 0);
}

#[tokio::test]
async fn a_fill_continues_when_its_client_is_dropped_at_any_await() {
    for polls in 0..6 {
        let test = TestCache::new();
        let (request, origin) = test.request(Some(body(1000, 0)));
        {
            let mut answer = Box::pin(test.cache.archives().get(&request));
            for _ in 0..polls {
                if futures_util::poll!(&mut answer).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        all_landed(&test).await;
        // Either the fill was never started, or it ran to its end.
        let stored = test.cache.archives().context.tiers.lookup(&request.key).await.is_some();
        assert_eq!(stored, origin.requests() == 1, "{polls} polls");
    }
}

#[tokio::test]
async fn a_verifier_that_panics_fails_the_fill_and_leaves_nothing_in_flight() {
    let test = TestCache::new();
    test.verifier.panics.store(true, Ordering::Relaxed);
    let (request, _) = test.request(Some(body(1000, 0)));
    assert!(test.cache.archives().completed(&request).await.is_err());
    all_landed(&test).await;
    assert!(test.cache.archives().context.tiers.lookup(&request.key).await.is_none());
}

#[tokio::test]
async fn a_fill_that_starts_in_a_cool_down_sends_no_request() {
    let test = TestCache::new();
    let (request, origin) = test.request(Some(body(1000, 0)));
    let archives = test.cache.archives();
    archives.context.failures.remember(&request.key, &FetchError::Unreachable("just now"), Duration::ZERO);
    let JoinedFlight { flight, collapsed } = archives.join_fill(&request);
    assert!(!collapsed);
    let end = FillHandle::new(flight).finished().await;
    assert!(matches!(end, Err(FetchError::CoolingDown { .. })), "{end:?}");
    assert_eq!(origin.requests(), 0);
    all_landed(&test).await;
}

#[tokio::test]
async fn every_client_of_a_fill_that_vanished_gets_an_error() {
    let test = TestCache::new();
    let (request, _) = test.request(None);
    let archives = test.cache.archives();
    let mut fill = FillHandle::new(archives.fills.join(&request.key, drop).flight);
    assert!(matches!(fill.head().await, Err(FetchError::Unreachable(_))));
    assert!(matches!(fill.finished().await, Err(FetchError::Unreachable(_))));
    assert!(matches!(fill.progress(), Err(FetchError::Unreachable(_))));
    fill.landed().await;
    assert_eq!(archives.running_fills(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_brings_a_removed_archive_back_into_memory() {
    let test = TestCache::new();
    let (request, _) = test.request(Some(body(1000, 0)));
    let archives = test.cache.archives();
    for _ in 0..30 {
        archives.completed(&request).await.expect("stored");
        while archives.running_fills() > 0 {
            tokio::task::yield_now().await;
        }
        archives.context.tiers.evict_from_memory(&request.key);
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let tiers = archives.context.tiers.clone();
                let key = request.key.clone();
                tokio::spawn(async move {
                    while tiers.lookup(&key).await.is_some() {
                        tiers.evict_from_memory(&key);
                    }
                })
            })
            .collect();
        archives.remove_all(std::slice::from_ref(&request.key)).await.expect("removed");
        for reader in readers {
            reader.await.expect("no panic");
        }
        assert!(archives.context.tiers.in_memory(&request.key).is_none());
    }
}

#[tokio::test]
async fn a_revision_is_never_pinned_and_replaces_the_ones_stored_before_it() {
    let test = TestCache::new();
    let archives = test.cache.archives();
    let request = |version: &str, revision: &str, seed| {
        let (request, _) = test.request(Some(body(1000, seed)));
        let prefix = format!("p/moving/{version}/");
        let key = Key::new(format!("{prefix}{revision}"));
        ArchiveRequest { key, pinning: Pinning::Revision { prefix: prefix.into() }, ..request }
    };
    let first = request("dev", "a", 1);
    let second = request("dev", "b", 2);
    let others = [request("dev.1", "a", 3), request("dev/x", "a", 4)];
    for request in [&first].into_iter().chain(&others) {
        archives.completed(request).await.expect("stored");
    }
    while archives.running_fills() > 0 {
        tokio::task::yield_now().await;
    }
    let inventory = test.cache.disk().inventory();
    assert!(inventory.set_kept(&first.key, true).await.expect("marked"));
    archives.completed(&second).await.expect("stored");
    all_landed(&test).await;
    let tiers = &archives.context.tiers;
    assert!(tiers.lookup(&first.key).await.is_none());
    for request in [&second].into_iter().chain(&others) {
        assert!(tiers.lookup(&request.key).await.is_some(), "{}", request.key);
        assert_eq!(test.cache.pins().get(&request.key).await, Ok(None));
    }
    assert!(inventory.is_kept(&second.key).await.expect("readable"), "the keep mark passes on");
    assert!(!inventory.is_kept(&first.key).await.expect("readable"));
}
