use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::{
    cache::fakes::{Bench, bench, body},
    entry::{Document, Key},
    origin::{BoxFuture, FetchedBody, Origin},
};
use futures_util::{StreamExt as _, stream};

/// Counts how often it was asked; sends the same bytes, or nothing ever.
struct Counts {
    asked: AtomicUsize,
    bytes: Option<Bytes>,
}

impl Origin for Counts {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(bytes) = self.bytes.clone() else { return Box::pin(std::future::pending()) };
        let body = stream::iter([Ok(bytes)]).boxed();
        Box::pin(std::future::ready(Ok(FetchedBody { len: None, anonymous: true, body })))
    }
}

fn ask(bench: &Bench, bytes: Option<Bytes>) -> (ArchiveAsk, Arc<Counts>) {
    let origin = Arc::new(Counts { asked: AtomicUsize::new(0), bytes });
    (ArchiveAsk { key: Key::new("k"), origin: origin.clone(), verify: bench.judge.clone() }, origin)
}

/// Waits until nothing is in flight: the tracker counts every fill.
async fn landed(bench: &Bench) {
    bench.cache.tasks.close();
    bench.cache.tasks.wait().await;
    assert_eq!(bench.cache.fills_running(), 0);
}

#[tokio::test]
async fn a_fill_goes_on_when_whoever_asked_is_dropped_at_any_await() {
    for polls in 0..6 {
        let bench = bench();
        let (ask, origin) = ask(&bench, Some(body(1000, 0)));
        {
            let mut request = Box::pin(bench.cache.archive(&ask));
            for _ in 0..polls {
                if futures_util::poll!(&mut request).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        landed(&bench).await;
        // Either the fill was never started, or it went on to its end.
        let asked = origin.asked.load(Ordering::Relaxed);
        assert_eq!(bench.cache.lookup(&ask.key).await.is_some(), asked == 1, "{polls} polls");
    }
}

#[tokio::test]
async fn a_verifier_that_panics_fails_the_fill_and_leaves_nothing_in_flight() {
    let bench = bench();
    bench.judge.panics.store(true, Ordering::Relaxed);
    let (ask, _) = ask(&bench, Some(body(1000, 0)));
    assert!(bench.cache.completed(&ask).await.is_err());
    landed(&bench).await;
    assert!(bench.cache.lookup(&ask.key).await.is_none());
}

#[tokio::test]
async fn a_fill_that_starts_in_a_cool_down_asks_nobody() {
    let bench = bench();
    let (ask, origin) = ask(&bench, Some(body(1000, 0)));
    bench.cache.remember_failure(&ask.key, &FetchError::Unreachable("just now"));
    let (mut state, joined) = bench.cache.fill(&ask);
    assert!(!joined);
    let end = state.wait_for(|state| !matches!(state, FillState::Requested)).await.expect("a final state").clone();
    assert!(matches!(end, FillState::Failed(FetchError::CoolingDown { .. })), "{end:?}");
    assert_eq!(origin.asked.load(Ordering::Relaxed), 0);
    landed(&bench).await;
}

#[tokio::test]
async fn everybody_who_waits_hears_of_a_fill_that_vanished() {
    let bench = bench();
    let (ask, _) = ask(&bench, None);
    let (state, _) = bench.cache.fills.join(&ask.key, FillState::Requested, drop);
    assert!(state.has_changed().is_err(), "closed without a final state");
    assert_eq!(bench.cache.fills_running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_brings_a_removed_zip_back_into_memory() {
    let bench = bench();
    let (ask, _) = ask(&bench, Some(body(1000, 0)));
    for _ in 0..30 {
        bench.cache.completed(&ask).await.expect("stored");
        eventually_landed(&bench).await;
        bench.cache.memory.forget_key(&ask.key);
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let cache = bench.cache.clone();
                let key = ask.key.clone();
                tokio::spawn(async move {
                    while cache.lookup(&key).await.is_some() {
                        cache.memory.forget_key(&key);
                    }
                })
            })
            .collect();
        bench.cache.remove(&ask.key, false).await.expect("removed");
        for reader in readers {
            reader.await.expect("no panic");
        }
        assert!(bench.cache.memory.find(&ask.key).is_none());
    }
}

/// Waits for the fills that run now; others may follow.
async fn eventually_landed(bench: &Bench) {
    while bench.cache.fills_running() > 0 {
        tokio::task::yield_now().await;
    }
}
