use super::*;
use crate::{
    cache::fakes::{Bench, Sends, bench, body},
    entry::Key,
};
use std::sync::atomic::Ordering;

const LARGE: usize = 9 << 20;

impl Bench {
    /// A spool with these bytes.
    fn spooled(&self, bytes: &[u8]) -> Arc<BlobFile> {
        let mut spool = self.cache.disk().spool(None).expect("room");
        spool.append(&[bytes]).expect("written");
        spool.file()
    }

    /// What a client gets of a body that is sent with this announced length.
    async fn passed(&self, bytes: &Bytes, len: Option<u64>, skip: ResumePoint) -> (Vec<u8>, Option<FetchError>) {
        let origin = Arc::new(Sends { bytes: bytes.clone(), len });
        let key = Key::new(format!("of {} bytes", bytes.len()));
        let ask = ArchiveAsk { key, origin, verify: self.judge.clone() };
        let mut got = Vec::new();
        let mut passing = match PassThrough::open(&self.cache, &ask, skip).await {
            Ok(passing) => passing,
            Err(error) => return (got, Some(error)),
        };
        loop {
            match passing.next().await {
                Ok(Some(part)) => got.extend_from_slice(&part),
                Ok(None) => return (got, None),
                Err(error) => return (got, Some(error)),
            }
        }
    }
}

#[tokio::test]
async fn a_client_goes_on_where_the_spool_ended() {
    let bench = bench();
    for len in [100_000, LARGE] {
        let bytes = body(len, 0);
        let already = || Some(bench.spooled(&bytes[..5000]));
        let skip = ResumePoint { until: 3000, already: already(), ..ResumePoint::default() };
        let (got, error) = bench.passed(&bytes, None, skip).await;
        assert!(error.is_none() && got == bytes[3000..], "{len}: {error:?}");

        let skip =
            ResumePoint { from: 1000, until: 2000, end: Some(2500), already: already(), announced: Some(len as u64) };
        let (got, error) = bench.passed(&bytes, None, skip).await;
        assert!(error.is_none() && got == bytes[2000..2500], "{len}: {error:?}");
    }
}

#[tokio::test]
async fn a_part_beyond_the_end_of_the_spool_is_served() {
    let bench = bench();
    for len in [100_000, LARGE] {
        let bytes = body(len, 0);
        let already = Some(bench.spooled(&bytes[..10]));
        let skip = ResumePoint { from: 50_000, until: 50_000, end: Some(60_000), already, announced: Some(len as u64) };
        let (got, error) = bench.passed(&bytes, None, skip).await;
        assert!(error.is_none() && got == bytes[50_000..60_000], "{len}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_that_differs_from_what_the_client_has_is_refused_before_a_byte() {
    let bench = bench();
    for len in [100_000, LARGE] {
        let bytes = body(len, 0);
        let already = Some(bench.spooled(&body(5000, 1)));
        let skip = ResumePoint { until: 3000, already, ..ResumePoint::default() };
        let (got, error) = bench.passed(&bytes, None, skip).await;
        assert!(got.is_empty() && matches!(error, Some(FetchError::Invalid(_))), "{len}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_the_client_was_told_never_reaches_that_length() {
    let bench = bench();
    for len in [100_000, LARGE] {
        let bytes = body(len, 0);
        for told in [len - 1, len + 1, len / 2, len * 2] {
            for announced in [None, Some(len as u64)] {
                let skip = ResumePoint { announced: Some(told as u64), ..ResumePoint::default() };
                let (got, error) = bench.passed(&bytes, announced, skip).await;
                assert!(got.len() < told && error.is_some(), "{len} told {told}: {} and {error:?}", got.len());
            }
        }
    }
}

#[tokio::test]
async fn neither_the_whole_nor_a_part_is_complete_before_the_ending_has_been_judged() {
    let bench = bench();
    bench.judge.refuses_endings.store(true, Ordering::Relaxed);
    let bytes = body(LARGE, 0);
    let (got, error) = bench.passed(&bytes, None, ResumePoint::default()).await;
    assert!(got.len() <= LARGE - ENDING && error.is_some());
    let skip = ResumePoint { end: Some(400_000), ..ResumePoint::default() };
    let (got, error) = bench.passed(&bytes, None, skip).await;
    assert!(got.len() < 400_000 && error.is_some(), "{} bytes", got.len());
}

/// Windows are memory: there are only so many, and each is given back.
#[tokio::test]
async fn windows_are_bounded_and_given_back() {
    let bench = bench();
    let bytes = body(1000, 0);
    for _ in 0..2 * WINDOWS {
        bench.passed(&bytes, None, ResumePoint::default()).await;
    }
    assert_eq!(bench.cache.windows.available_permits(), WINDOWS);
    let origin = Arc::new(Sends { bytes, len: None });
    let ask = ArchiveAsk { key: Key::new("k"), origin, verify: bench.judge.clone() };
    let mut open = Vec::new();
    for _ in 0..WINDOWS {
        open.push(PassThrough::open(&bench.cache, &ask, ResumePoint::default()).await.expect("opens"));
    }
    let mut next = Box::pin(PassThrough::open(&bench.cache, &ask, ResumePoint::default()));
    assert!(futures_util::poll!(&mut next).is_pending());
    open.pop();
    next.await.expect("opens");
}
