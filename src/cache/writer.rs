//! The one writer of a spool: hashes and writes on a blocking thread while the next bytes arrive.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use crate::{entry::Digest, tier::disk::Spool};

/// Chunks that may wait for the disk; with a chunk's few hundred KiB this bounds a fill's memory.
const WAITING: usize = 4;

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
    /// Starts the thread; `grown` hears the spool's new length after the first chunk, every few milliseconds while it
    /// grows, and at its end. Who waits for `tasks` waits for the thread, too: it removes the spool of a download
    /// that was given up. Must be called within a tokio runtime.
    pub(super) fn start(tasks: &TaskTracker, spool: Spool, grown: impl Fn(u64) + Send + 'static) -> Self {
        let (orders, queue) = mpsc::channel(WAITING);
        Self { orders, thread: tasks.spawn_blocking(move || work(spool, queue, grown)) }
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

fn work(mut spool: Spool, mut queue: mpsc::Receiver<Order>, grown: impl Fn(u64)) -> io::Result<(Spool, Digest)> {
    let mut hash = Sha256::new();
    let (mut told, mut told_at) = (0, None::<Instant>);
    loop {
        let untold = spool.len() - told;
        let rest = told_at.map_or(Duration::ZERO, |at| PAUSE.saturating_sub(at.elapsed()));
        let order = if untold > 0 && (rest.is_zero() || untold >= MOST) {
            Next::Nothing
        } else if untold > 0 {
            within(rest, &mut queue)
        } else {
            queue.blocking_recv().map_or(Next::End, Next::Order)
        };
        let order = match order {
            Next::Order(order) => order,
            Next::Nothing => {
                (told, told_at) = (spool.len(), Some(Instant::now()));
                grown(told);
                continue;
            }
            Next::End => break,
        };
        match order {
            Order::Write(chunk) => {
                spool.append(&chunk).inspect_err(|error| {
                    tracing::warn!(target: "srm_mirror::cache", %error, "cannot write to the spool");
                })?;
                hash.update(&chunk);
            }
            // Nobody listens any more when the fill was given up; the queue's end follows.
            Order::Checkpoint(reply) => drop(reply.send(Digest(hash.clone().finalize().into()))),
        }
    }
    if told < spool.len() {
        grown(spool.len());
    }
    Ok((spool, Digest(hash.finalize().into())))
}

/// What comes next in the queue.
enum Next {
    Order(Order),
    /// Nothing within the time.
    Nothing,
    /// Nothing any more.
    End,
}

fn within(time: Duration, queue: &mut mpsc::Receiver<Order>) -> Next {
    let waited = tokio::runtime::Handle::current().block_on(async { tokio::time::timeout(time, queue.recv()).await });
    match waited {
        Ok(order) => order.map_or(Next::End, Next::Order),
        Err(_) => Next::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{Arc, Mutex, mpsc as std_mpsc},
    };

    use super::*;
    use crate::cache::fakes::bench;

    #[tokio::test]
    async fn a_slow_disk_holds_the_download_up_and_not_memory() {
        let bench = bench();
        let spool = bench.cache.disk().spool(None).expect("room");
        let (go, gate) = std_mpsc::channel::<()>();
        let (here, mut stands) = mpsc::unbounded_channel();
        let writer = Writer::start(&tokio_util::task::TaskTracker::new(), spool, move |written| {
            here.send(written).expect("heard");
            // Stands for a write that takes long; a closed channel lets everything go.
            let _ = gate.recv();
        });
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
        let writer = Writer::start(&tokio_util::task::TaskTracker::new(), spool, move |written| {
            tell.lock().expect("sound").push(written);
            let _ = gate.recv();
        });
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
}
