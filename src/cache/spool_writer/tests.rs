use std::{
    pin::pin,
    sync::{Arc, Mutex, mpsc as std_mpsc},
};

use super::*;
use crate::cache::fakes::bench;

fn readers<R>(readers: R) -> ProgressListeners<fn(u64), R> {
    ProgressListeners { verifier: |_| {}, readers }
}

#[tokio::test]
async fn a_slow_disk_holds_the_download_up_and_not_memory() {
    let bench = bench();
    let spool = bench.cache.disk().spool(None).expect("room");
    let (go, gate) = std_mpsc::channel::<()>();
    let (here, mut stands) = mpsc::unbounded_channel();
    let writer = Writer::start(
        &tokio_util::task::TaskTracker::new(),
        spool,
        readers(move |written| {
            here.send(written).expect("heard");
            // Stands for a write that takes long; a closed channel lets everything go.
            let _ = gate.recv();
        }),
    );
    let chunk = Bytes::from(vec![7; 300 << 10]);
    writer.write(chunk.clone()).await.expect("taken");
    assert_eq!(stands.recv().await, Some(chunk.len() as u64));
    for _ in 0..WAITING {
        writer.write(chunk.clone()).await.expect("may wait");
    }
    {
        let mut next = pin!(writer.write(chunk.clone()));
        assert!(futures_util::poll!(&mut next).is_pending(), "more than {WAITING} chunks wait");
        drop(go);
        next.await.expect("taken");
    }
    let (spool, digest) = writer.finish().await.expect("written");
    assert_eq!((spool.len(), digest), (6 * chunk.len() as u64, Digest::of(&chunk.repeat(6))));
}

#[tokio::test]
async fn small_chunks_do_not_wake_the_readers_each_and_none_is_left_untold() {
    let bench = bench();
    let spool = bench.cache.disk().spool(None).expect("room");
    let told = Arc::new(Mutex::new(Vec::new()));
    let (go, gate) = std_mpsc::channel::<()>();
    let tell = told.clone();
    let begun = Instant::now();
    let writer = Writer::start(
        &tokio_util::task::TaskTracker::new(),
        spool,
        readers(move |written| {
            tell.lock().expect("sound").push(written);
            let _ = gate.recv();
        }),
    );
    // The thread stands at its first report while the others queue up, and finds them all waiting.
    for _ in 0..=WAITING {
        writer.write(Bytes::from(vec![1; 1000])).await.expect("taken");
    }
    drop(go);
    let (spool, _) = writer.finish().await.expect("written");
    let told = told.lock().expect("sound").clone();
    assert_eq!(told.last(), Some(&spool.len()));
    // A machine that has no time for us lets a pause go by.
    let pauses = begun.elapsed().as_millis() / PAUSE.as_millis();
    assert!(told.len() as u128 <= 2 + pauses, "{told:?}");
}

#[tokio::test]
async fn the_verifier_hears_of_every_write_and_of_many_bytes_the_readers_hear_soon() {
    let bench = bench();
    let spool = bench.cache.disk().spool(None).expect("room");
    let told = Arc::new(Mutex::new([const { Vec::new() }; 2]));
    let [verifier, readers] = [0, 1].map(|who| {
        let told = told.clone();
        move |written| told.lock().expect("sound")[who].push(written)
    });
    let writer = Writer::start(&tokio_util::task::TaskTracker::new(), spool, ProgressListeners { verifier, readers });
    let chunk = Bytes::from(vec![1; 1 << 20]);
    for _ in 0..40 {
        writer.write(chunk.clone()).await.expect("taken");
    }
    writer.finish().await.expect("written");
    let [verifier, readers] = told.lock().expect("sound").clone();
    assert_eq!(verifier, (1..=40).map(|chunks| chunks << 20).collect::<Vec<u64>>());
    let steps = readers.iter().zip(&readers[1..]).map(|(from, to)| to - from);
    assert!(readers[0] <= MOST && readers.last() == Some(&(40 << 20)), "{readers:?}");
    assert!(steps.max() <= Some(MOST), "{readers:?}");
}

#[tokio::test]
async fn what_comes_in_small_pieces_is_written_in_large_ones_unless_somebody_waits_for_it() {
    let bench = bench();
    let spool = bench.cache.disk().spool(None).expect("room");
    let file = spool.file();
    let told = Arc::new(Mutex::new([const { Vec::new() }; 2]));
    let [verifier, readers] = [0, 1].map(|who| {
        let told = told.clone();
        move |written| told.lock().expect("sound")[who].push(written)
    });
    let writer = Writer::start(&tokio_util::task::TaskTracker::new(), spool, ProgressListeners { verifier, readers });
    // One is larger than what is written at once.
    let pieces = (0..500_u32).map(|n| if n == 250 { 5_000_000 } else { 1 + (n * 7919) % 30_011 });
    let mut whole = Vec::new();
    let mut so_far = Vec::new();
    for (n, len) in pieces.enumerate() {
        let piece: Vec<u8> = (0..len).map(|at| (at as usize * 31 + n) as u8).collect();
        whole.extend_from_slice(&piece);
        writer.write(piece.into()).await.expect("taken");
        if n % 100 == 99 {
            so_far.push((writer.checkpoint().await.expect("counted"), Digest::of(&whole)));
        }
    }
    let (spool, digest) = writer.finish().await.expect("written");
    assert_eq!((spool.len(), digest), (whole.len() as u64, Digest::of(&whole)));
    assert!(file.read(0, whole.len()).await.expect("readable") == whole, "other bytes are in the spool");
    assert!(so_far.iter().all(|(said, is)| said == is), "what waits to be written counts, too");
    let [verifier, readers] = told.lock().expect("sound").clone();
    assert_eq!(verifier.last(), Some(&spool.len()));
    for (n, written) in verifier.iter().enumerate() {
        let write = written - n.checked_sub(1).map_or(0, |before| verifier[before]);
        assert!(write >= LARGE || readers.contains(written), "{write} bytes were written for nobody: {readers:?}");
    }
}

#[tokio::test]
async fn many_tiny_pieces_are_not_held_back() {
    let bench = bench();
    let spool = bench.cache.disk().spool(None).expect("room");
    let told = Arc::new(Mutex::new(vec![0]));
    let verifier = {
        let told = told.clone();
        move |written| told.lock().expect("sound").push(written)
    };
    let writer =
        Writer::start(&tokio_util::task::TaskTracker::new(), spool, ProgressListeners { verifier, readers: |_| {} });
    for _ in 0..10 * PIECES {
        writer.write(Bytes::from_static(b"tiny")).await.expect("taken");
    }
    writer.finish().await.expect("written");
    let told = told.lock().expect("sound").clone();
    assert_eq!(told.last(), Some(&(10 * PIECES as u64 * 4)));
    let steps = told.iter().zip(&told[1..]).map(|(from, to)| to - from);
    assert!(steps.max() <= Some(PIECES as u64 * 4), "{told:?}");
}
