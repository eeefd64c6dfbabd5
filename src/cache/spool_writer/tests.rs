use std::{
    pin::pin,
    sync::{Arc, mpsc as std_mpsc},
};

use parking_lot::Mutex;

use super::*;
use crate::{
    cache::fakes::{TestCache, body},
    storage::disk,
};

fn for_readers<R>(readers: R) -> ProgressListeners<fn(u64), R> {
    ProgressListeners { verifier: |_| {}, readers }
}

#[tokio::test]
async fn a_slow_disk_delays_the_download_and_does_not_fill_memory() {
    let test = TestCache::new();
    let spool = test.cache.disk().spool(None).expect("room");
    let (release, gate) = std_mpsc::channel::<()>();
    let (notify, mut notified) = mpsc::unbounded_channel();
    let writer = SpoolWriter::start(
        &tokio_util::task::TaskTracker::new(),
        spool,
        for_readers(move |written| {
            notify.send(written).expect("received");
            // Stands for a slow write; a closed channel opens the gate.
            let _ = gate.recv();
        }),
    );
    let chunk = Bytes::from(vec![7; 300 << 10]);
    writer.write(chunk.clone()).await.expect("taken");
    assert_eq!(notified.recv().await, Some(chunk.len() as u64));
    for _ in 0..MAX_QUEUED_CHUNKS {
        writer.write(chunk.clone()).await.expect("queued");
    }
    {
        let mut next = pin!(writer.write(chunk.clone()));
        assert!(futures_util::poll!(&mut next).is_pending(), "more than {MAX_QUEUED_CHUNKS} chunks are queued");
        drop(release);
        next.await.expect("taken");
    }
    let (spool, digest) = writer.finish().await.expect("written");
    assert_eq!((spool.len(), digest), (6 * chunk.len() as u64, Digest::of(&chunk.repeat(6))));
}

#[tokio::test]
async fn small_chunks_do_not_wake_the_readers_each_and_every_byte_is_reported() {
    let test = TestCache::new();
    let spool = test.cache.disk().spool(None).expect("room");
    let reports = Arc::new(Mutex::new(Vec::new()));
    let (release, gate) = std_mpsc::channel::<()>();
    let recorded = reports.clone();
    let begun = Instant::now();
    let writer = SpoolWriter::start(
        &tokio_util::task::TaskTracker::new(),
        spool,
        for_readers(move |written| {
            recorded.lock().push(written);
            let _ = gate.recv();
        }),
    );
    // The thread is stopped at its first report while the other chunks are queued, and then finds them all.
    for _ in 0..=MAX_QUEUED_CHUNKS {
        writer.write(Bytes::from(vec![1; 1000])).await.expect("taken");
    }
    drop(release);
    let (spool, _) = writer.finish().await.expect("written");
    let reports = reports.lock().clone();
    assert_eq!(reports.last(), Some(&spool.len()));
    // On an overloaded machine, more intervals go by.
    let intervals = begun.elapsed().as_millis() / READER_NOTIFY_INTERVAL.as_millis();
    assert!(reports.len() as u128 <= 2 + intervals, "{reports:?}");
}

#[tokio::test]
async fn the_verifier_is_notified_of_every_write_and_the_readers_soon_of_many_bytes() {
    let test = TestCache::new();
    let spool = test.cache.disk().spool(None).expect("room");
    let reports = Arc::new(Mutex::new([const { Vec::new() }; 2]));
    let [verifier, readers] = [0, 1].map(|who| {
        let reports = reports.clone();
        move |written| reports.lock()[who].push(written)
    });
    let writer =
        SpoolWriter::start(&tokio_util::task::TaskTracker::new(), spool, ProgressListeners { verifier, readers });
    let chunk = Bytes::from(vec![1; 1 << 20]);
    for _ in 0..40 {
        writer.write(chunk.clone()).await.expect("taken");
    }
    writer.finish().await.expect("written");
    let [verifier, readers] = reports.lock().clone();
    assert_eq!(verifier, (1..=40).map(|chunks| chunks << 20).collect::<Vec<u64>>());
    let steps = readers.iter().zip(&readers[1..]).map(|(from, to)| to - from);
    assert!(readers[0] <= MAX_UNREPORTED_BYTES && readers.last() == Some(&(40 << 20)), "{readers:?}");
    assert!(steps.max() <= Some(MAX_UNREPORTED_BYTES), "{readers:?}");
}

#[tokio::test]
async fn small_chunks_are_written_together_unless_a_reader_waits_for_them() {
    let test = TestCache::new();
    let spool = test.cache.disk().spool(None).expect("room");
    let file = spool.file();
    let reports = Arc::new(Mutex::new([const { Vec::new() }; 2]));
    let [verifier, readers] = [0, 1].map(|who| {
        let reports = reports.clone();
        move |written| reports.lock()[who].push(written)
    });
    let writer =
        SpoolWriter::start(&tokio_util::task::TaskTracker::new(), spool, ProgressListeners { verifier, readers });
    // One chunk is larger than a usual write.
    let pieces = (0..500_u32).map(|n| if n == 250 { 5_000_000 } else { 1 + (n * 7919) % 30_011 });
    let mut whole = Vec::new();
    let mut checkpoints = Vec::new();
    for (n, len) in pieces.enumerate() {
        let piece: Vec<u8> = (0..len).map(|at| (at as usize * 31 + n) as u8).collect();
        whole.extend_from_slice(&piece);
        writer.write(piece.into()).await.expect("taken");
        if n % 100 == 99 {
            checkpoints.push((writer.checkpoint().await.expect("counted"), Digest::of(&whole)));
        }
    }
    let (spool, digest) = writer.finish().await.expect("written");
    assert_eq!((spool.len(), digest), (whole.len() as u64, Digest::of(&whole)));
    assert!(file.read(0, whole.len()).await.expect("readable") == whole, "the spool holds other bytes");
    assert!(checkpoints.iter().all(|(reported, actual)| reported == actual), "buffered chunks count, too");
    let [verifier, readers] = reports.lock().clone();
    assert_eq!(verifier.last(), Some(&spool.len()));
    for (n, written) in verifier.iter().enumerate() {
        let write = written - n.checked_sub(1).map_or(0, |before| verifier[before]);
        assert!(
            write >= MIN_WRITE_BYTES || readers.contains(written),
            "a write of {write} bytes was not reported: {readers:?}"
        );
    }
}

#[tokio::test]
async fn many_tiny_chunks_are_not_held_back() {
    let test = TestCache::new();
    let spool = test.cache.disk().spool(None).expect("room");
    let reports = Arc::new(Mutex::new(vec![0]));
    let verifier = {
        let reports = reports.clone();
        move |written| reports.lock().push(written)
    };
    let writer = SpoolWriter::start(
        &tokio_util::task::TaskTracker::new(),
        spool,
        ProgressListeners { verifier, readers: |_| {} },
    );
    for _ in 0..10 * MAX_BUFFERED_CHUNKS {
        writer.write(Bytes::from_static(b"tiny")).await.expect("taken");
    }
    writer.finish().await.expect("written");
    let reports = reports.lock().clone();
    assert_eq!(reports.last(), Some(&(10 * MAX_BUFFERED_CHUNKS as u64 * 4)));
    let steps = reports.iter().zip(&reports[1..]).map(|(from, to)| to - from);
    assert!(steps.max() <= Some(MAX_BUFFERED_CHUNKS as u64 * 4), "{reports:?}");
}

#[tokio::test]
async fn a_refused_write_loses_no_byte_that_was_queued() {
    let config =
        disk::Config { limit: disk::MIN_DISK_LIMIT, documents: disk::MIN_DISK_LIMIT, ..disk::Config::default() };
    let test = TestCache::with_disk(&config);
    let spool = test.cache.disk().spool(None).expect("room");
    let file = spool.file();
    let writer = SpoolWriter::start(&tokio_util::task::TaskTracker::new(), spool, ProgressListeners::none());
    let whole = body(2 * usize::try_from(disk::MIN_DISK_LIMIT.0).expect("small"), 0);
    let mut rest = whole.clone();
    let mut refused = None;
    while !rest.is_empty() && refused.is_none() {
        let chunk = rest.split_to(rest.len().min(700_001));
        refused = writer.write(chunk).await.err().and_then(|error| error.chunk);
    }
    let Err(FinishError::Refused { written, unwritten }) = writer.finish().await else { panic!("it was not refused") };
    assert!(written > 0 && written <= disk::MIN_DISK_LIMIT.0, "{written}");
    let mut kept = file.read(0, usize::try_from(written).expect("small")).await.expect("readable").to_vec();
    unwritten.iter().chain(&refused).for_each(|chunk| kept.extend_from_slice(chunk));
    assert!(kept == whole[..whole.len() - rest.len()], "{} of {} bytes", kept.len(), whole.len() - rest.len());
}
