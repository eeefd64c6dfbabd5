use std::sync::atomic::Ordering;

use super::*;
use crate::{
    cache::{
        Pinning,
        fakes::{FixedBody, TestCache, body},
    },
    entry::Key,
};

/// Larger than the window.
const LARGE_BYTES: usize = 9 << 20;

impl TestCache {
    fn pool(&self) -> Arc<PassThroughPool> {
        self.cache.archives().pass_throughs()
    }

    /// A spool with these bytes.
    fn spooled(&self, bytes: &[u8]) -> Arc<BlobFile> {
        let mut spool = self.cache.disk().spool(None).expect("room");
        spool.append(&[bytes]).expect("written");
        spool.file()
    }

    /// What a client gets of a body that is sent with this announced length.
    async fn passed(&self, bytes: &Bytes, len: Option<u64>, resume: ResumePoint) -> (Vec<u8>, Option<FetchError>) {
        let origin = Arc::new(FixedBody { bytes: bytes.clone(), len });
        let key = Key::new(format!("of {} bytes", bytes.len()));
        let request = ArchiveRequest {
            key,
            origin,
            verify: self.verifier.clone(),
            pinning: Pinning::Pinned,
            negative: std::time::Duration::from_secs(30),
        };
        let mut got = Vec::new();
        let mut pass_through = match PassThrough::open(&self.pool(), &request, resume).await {
            Ok(pass_through) => pass_through,
            Err(error) => return (got, Some(error)),
        };
        loop {
            match pass_through.next().await {
                Ok(Some(piece)) => got.extend_from_slice(&piece),
                Ok(None) => return (got, None),
                Err(error) => return (got, Some(error)),
            }
        }
    }
}

#[tokio::test]
async fn a_client_continues_where_the_spool_ended() {
    let test = TestCache::new();
    for len in [100_000, LARGE_BYTES] {
        let bytes = body(len, 0);
        let spool = || Some(test.spooled(&bytes[..5000]));
        let resume = ResumePoint { sent_until: 3000, spool: spool(), ..ResumePoint::default() };
        let (got, error) = test.passed(&bytes, None, resume).await;
        assert!(error.is_none() && got == bytes[3000..], "{len}: {error:?}");

        let resume = ResumePoint {
            part_start: 1000,
            sent_until: 2000,
            part_end: Some(2500),
            spool: spool(),
            announced_len: Some(len as u64),
        };
        let (got, error) = test.passed(&bytes, None, resume).await;
        assert!(error.is_none() && got == bytes[2000..2500], "{len}: {error:?}");
    }
}

#[tokio::test]
async fn a_part_beyond_the_end_of_the_spool_is_served() {
    let test = TestCache::new();
    for len in [100_000, LARGE_BYTES] {
        let bytes = body(len, 0);
        let resume = ResumePoint {
            part_start: 50_000,
            sent_until: 50_000,
            part_end: Some(60_000),
            spool: Some(test.spooled(&bytes[..10])),
            announced_len: Some(len as u64),
        };
        let (got, error) = test.passed(&bytes, None, resume).await;
        assert!(error.is_none() && got == bytes[50_000..60_000], "{len}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_that_differs_from_what_the_client_has_is_refused_before_a_byte() {
    let test = TestCache::new();
    for len in [100_000, LARGE_BYTES] {
        let bytes = body(len, 0);
        let spool = Some(test.spooled(&body(5000, 1)));
        let resume = ResumePoint { sent_until: 3000, spool, ..ResumePoint::default() };
        let (got, error) = test.passed(&bytes, None, resume).await;
        assert!(got.is_empty() && matches!(error, Some(FetchError::Invalid(_))), "{len}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_to_the_client_never_reaches_that_length() {
    let test = TestCache::new();
    for len in [100_000, LARGE_BYTES] {
        let bytes = body(len, 0);
        for told in [len - 1, len + 1, len / 2, len * 2] {
            for announced in [None, Some(len as u64)] {
                let resume = ResumePoint { announced_len: Some(told as u64), ..ResumePoint::default() };
                let (got, error) = test.passed(&bytes, announced, resume).await;
                assert!(got.len() < told && error.is_some(), "{len} told {told}: {} and {error:?}", got.len());
            }
        }
    }
}

#[tokio::test]
async fn neither_the_whole_nor_a_part_is_complete_before_the_ending_is_checked() {
    let test = TestCache::new();
    test.verifier.refuses_endings.store(true, Ordering::Relaxed);
    let bytes = body(LARGE_BYTES, 0);
    let (got, error) = test.passed(&bytes, None, ResumePoint::default()).await;
    assert!(got.len() <= LARGE_BYTES - WITHHELD_ENDING_BYTES && error.is_some());
    let resume = ResumePoint { part_end: Some(400_000), ..ResumePoint::default() };
    let (got, error) = test.passed(&bytes, None, resume).await;
    assert!(got.len() < 400_000 && error.is_some(), "{} bytes", got.len());
}

/// Windows are memory: their number is bounded, and each is given back.
#[tokio::test]
async fn windows_are_bounded_and_given_back() {
    let test = TestCache::new();
    let bytes = body(1000, 0);
    for _ in 0..2 * MAX_WINDOWS {
        test.passed(&bytes, None, ResumePoint::default()).await;
    }
    let pool = test.pool();
    assert_eq!(pool.windows.available_permits(), MAX_WINDOWS);
    let origin = Arc::new(FixedBody { bytes, len: None });
    let request = ArchiveRequest {
        key: Key::new("k"),
        origin,
        verify: test.verifier.clone(),
        pinning: Pinning::Pinned,
        negative: std::time::Duration::from_secs(30),
    };
    let mut open = Vec::new();
    for _ in 0..MAX_WINDOWS {
        open.push(PassThrough::open(&pool, &request, ResumePoint::default()).await.expect("opens"));
    }
    let mut next = Box::pin(PassThrough::open(&pool, &request, ResumePoint::default()));
    assert!(futures_util::poll!(&mut next).is_pending());
    open.pop();
    next.await.expect("opens");
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_a_window_until_the_deadline() {
    let test = TestCache::new();
    let pool = test.pool();
    let _taken = pool.windows.clone().acquire_many_owned(MAX_WINDOWS as u32).await.expect("free windows");
    let started = tokio::time::Instant::now();
    let (_, error) = test.passed(&body(1000, 0), None, ResumePoint::default()).await;
    assert_eq!(error, Some(FetchError::NoWindow { retry_after: WINDOW_TIMEOUT }));
    assert_eq!(started.elapsed(), WINDOW_TIMEOUT);
}
