//! The one writer of a spool: hashes and writes on a blocking thread while the next bytes arrive.

use std::io;

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
    /// Starts the thread; `grown` hears the spool's new length after every write. Who waits for `tasks` waits for the
    /// thread, too: it removes the spool of a download that was given up.
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
    while let Some(order) = queue.blocking_recv() {
        match order {
            Order::Write(chunk) => {
                spool.append(&chunk).inspect_err(|error| {
                    tracing::warn!(target: "srm_mirror::cache", %error, "cannot write to the spool");
                })?;
                grown(spool.len());
                hash.update(&chunk);
            }
            // Nobody listens any more when the fill was given up; the queue's end follows.
            Order::Checkpoint(reply) => drop(reply.send(Digest(hash.clone().finalize().into()))),
        }
    }
    Ok((spool, Digest(hash.finalize().into())))
}
