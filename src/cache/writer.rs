//! The one writer of a spool: hashes and writes on a blocking thread while the next bytes arrive.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{entry::Digest, tier::disk::Spool};

/// Chunks that may wait for the disk; with a chunk's few hundred KiB this bounds a fill's memory.
const WAITING: usize = 4;

/// Whom a spool's growth is told to.
pub(super) struct Told<V, R> {
    /// The verifier hears of every chunk: it must not be behind when the last of them comes.
    pub(super) verifier: V,
    /// The readers hear of the first bytes at once, and then every [`PAUSE`].
    pub(super) readers: R,
}

impl Told<fn(u64), fn(u64)> {
    /// Nobody.
    pub(super) fn nobody() -> Self {
        Self { verifier: |_| {}, readers: |_| {} }
    }
}

/// Readers are told of the first bytes at once, and then of more after this long: fifty that are woken for each chunk do
/// little else than wake up, and hold up the download itself.
const PAUSE: Duration = Duration::from_millis(20);
/// So much is told sooner.
const MOST: u64 = 16 << 20;

enum Order {
    Write(Bytes),
    Checkpoint(oneshot::Sender<Digest>),
}

/// Handle of the blocking thread. Dropping it ends the thread and with it the spool.
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<io::Result<(Spool, Digest)>>,
}

/// The disk refused a write; the reason has been logged by the thread that met it.
#[derive(Debug, thiserror::Error)]
#[error("the spool takes no more bytes")]
pub(super) struct Refused;

impl Writer {
    /// Starts the thread, which tells the spool's new length. Who waits for `tasks` waits for the thread, too: it removes the spool of a download
    /// that was given up. Must be called within a tokio runtime.
    pub(super) fn start<V, R>(tasks: &TaskTracker, spool: Spool, told: Told<V, R>) -> Self
    where
        V: Fn(u64) + Send + 'static,
        R: Fn(u64) + Send + 'static,
    {
        let (orders, queue) = mpsc::channel(WAITING);
        Self { orders, thread: tasks.spawn_blocking(move || work(spool, queue, &told)) }
    }

    /// Queues a chunk.
    pub(super) async fn write(&self, chunk: Bytes) -> Result<(), Refused> {
        self.orders.send(Order::Write(chunk)).await.map_err(|_| Refused)
    }

    /// The digest of everything queued so far.
    pub(super) async fn checkpoint(&self) -> Result<Digest, Refused> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Checkpoint(reply)).await.map_err(|_| Refused)?;
        answer.await.map_err(|_| Refused)
    }

    /// Waits for the queue to be written; returns the spool and the digest of all of it.
    pub(super) async fn finish(self) -> Result<(Spool, Digest), Refused> {
        drop(self.orders);
        match self.thread.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) | Err(_) => Err(Refused),
        }
    }
}

fn work(
    mut spool: Spool,
    mut queue: mpsc::Receiver<Order>,
    tell: &Told<impl Fn(u64), impl Fn(u64)>,
) -> io::Result<(Spool, Digest)> {
    let mut hash = Sha256::new();
    let (mut told, mut told_at) = (0, None::<Instant>);
    loop {
        let untold = spool.len() - told;
        let rest = told_at.map_or(Duration::ZERO, |at| PAUSE.saturating_sub(at.elapsed()));
        if untold > 0 && (rest.is_zero() || untold >= MOST) {
            (told, told_at) = (spool.len(), Some(Instant::now()));
            (tell.readers)(told);
            continue;
        }
        // Out of time there is something to tell.
        let Ok(order) = next(&mut queue, (untold > 0).then_some(rest)) else { continue };
        let Some(order) = order else { break };
        match order {
            Order::Write(chunk) => {
                spool.append(&chunk).inspect_err(|error| {
                    tracing::warn!(target: "srm_mirror::cache", %error, "cannot write to the spool");
                })?;
                (tell.verifier)(spool.len());
                hash.update(&chunk);
            }
            // Nobody listens any more when the fill was given up; the queue's end follows.
            Order::Checkpoint(reply) => drop(reply.send(Digest(hash.clone().finalize().into()))),
        }
    }
    if told < spool.len() {
        (tell.readers)(spool.len());
    }
    Ok((spool, Digest(hash.finalize().into())))
}

/// The next order, within a time if there is one; `None` at the end.
fn next(queue: &mut mpsc::Receiver<Order>, within: Option<Duration>) -> Result<Option<Order>, Elapsed> {
    let Some(within) = within else { return Ok(queue.blocking_recv()) };
    Handle::current().block_on(async { timeout(within, queue.recv()).await })
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{Arc, Mutex, mpsc as std_mpsc},
    };

    use super::*;
    use crate::cache::fakes::bench;

    fn readers<R>(readers: R) -> Told<fn(u64), R> {
        Told { verifier: |_| {}, readers }
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
        assert!(told.len() <= 2, "{told:?}");
    }

    #[tokio::test]
    async fn the_verifier_hears_of_every_chunk_and_of_many_bytes_the_readers_hear_soon() {
        let bench = bench();
        let spool = bench.cache.disk().spool(None).expect("room");
        let told = Arc::new(Mutex::new([const { Vec::new() }; 2]));
        let [verifier, readers] = [0, 1].map(|who| {
            let told = told.clone();
            move |written| told.lock().expect("sound")[who].push(written)
        });
        let writer = Writer::start(&tokio_util::task::TaskTracker::new(), spool, Told { verifier, readers });
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
}
