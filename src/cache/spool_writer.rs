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

use crate::{entry::Digest, storage::disk::Spool};

/// Chunks that may wait for the disk; with a chunk's few hundred KiB, and what is held back, this bounds a fill's memory.
const WAITING: usize = 4;

/// Whom a spool's growth is told to.
pub(super) struct ProgressListeners<V, R> {
    /// The verifier hears of every write: it must not be behind when the last of them comes.
    pub(super) verifier: V,
    /// The readers hear of the first bytes at once, and then every [`PAUSE`].
    pub(super) readers: R,
}

impl ProgressListeners<fn(u64), fn(u64)> {
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

/// Writes are of at least this many bytes where time allows: a file system that keeps what one write brings in one piece
/// of memory sends it to every later client with less work than pages from all over.
const LARGE: u64 = 1 << 20;
/// More pieces than this are not held back: each may be the last that keeps a buffer of many KiB.
const PIECES: usize = 256;

enum WriterCommand {
    Write(Bytes),
    Checkpoint(oneshot::Sender<Digest>),
}

/// Handle of the blocking thread. Dropping it ends the thread and with it the spool.
pub(super) struct Writer {
    orders: mpsc::Sender<WriterCommand>,
    thread: JoinHandle<io::Result<(Spool, Digest)>>,
}

/// The disk refused a write; the reason has been logged by the thread that met it.
#[derive(Debug, thiserror::Error)]
#[error("the spool takes no more bytes")]
pub(super) struct Refused;

impl Writer {
    /// Starts the thread, which tells the spool's new length. Who waits for `tasks` waits for the thread, too: it removes the spool of a download
    /// that was given up. Must be called within a tokio runtime.
    pub(super) fn start<V, R>(tasks: &TaskTracker, spool: Spool, told: ProgressListeners<V, R>) -> Self
    where
        V: Fn(u64) + Send + 'static,
        R: Fn(u64) + Send + 'static,
    {
        let (orders, queue) = mpsc::channel(WAITING);
        Self { orders, thread: tasks.spawn_blocking(move || work(spool, queue, &told)) }
    }

    /// Queues a chunk.
    pub(super) async fn write(&self, chunk: Bytes) -> Result<(), Refused> {
        self.orders.send(WriterCommand::Write(chunk)).await.map_err(|_| Refused)
    }

    /// The digest of everything queued so far.
    pub(super) async fn checkpoint(&self) -> Result<Digest, Refused> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(WriterCommand::Checkpoint(reply)).await.map_err(|_| Refused)?;
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
    spool: Spool,
    mut queue: mpsc::Receiver<WriterCommand>,
    tell: &ProgressListeners<impl Fn(u64), impl Fn(u64)>,
) -> io::Result<(Spool, Digest)> {
    let mut hash = Sha256::new();
    let mut out = SpoolBuffer { spool, held: Vec::new(), waiting: 0, tell };
    let mut told = 0;
    let mut told_at = None::<Instant>;
    loop {
        let untold = out.spool.len() + out.waiting - told;
        let rest = told_at.map_or(Duration::ZERO, |at| PAUSE.saturating_sub(at.elapsed()));
        if untold > 0 && (rest.is_zero() || untold >= MOST) {
            out.write()?;
            (told, told_at) = (out.spool.len(), Some(Instant::now()));
            (tell.readers)(told);
            continue;
        }
        // Out of time there is something to tell.
        let Ok(order) = next(&mut queue, (untold > 0).then_some(rest)) else { continue };
        let Some(order) = order else { break };
        match order {
            WriterCommand::Write(chunk) => {
                // While it is in the processor's cache.
                hash.update(&chunk);
                out.hold(chunk)?;
            }
            // Nobody listens any more when the fill was given up; the queue's end follows.
            WriterCommand::Checkpoint(reply) => drop(reply.send(Digest(hash.clone().finalize().into()))),
        }
    }
    out.write()?;
    if told < out.spool.len() {
        (tell.readers)(out.spool.len());
    }
    Ok((out.spool, Digest(hash.finalize().into())))
}

/// The spool, and what is not in it yet.
struct SpoolBuffer<'a, V, R> {
    spool: Spool,
    held: Vec<Bytes>,
    /// Bytes that are held.
    waiting: u64,
    tell: &'a ProgressListeners<V, R>,
}

impl<V: Fn(u64), R> SpoolBuffer<'_, V, R> {
    /// Takes a chunk, and writes all that is held once it is enough, or in too many pieces.
    fn hold(&mut self, chunk: Bytes) -> io::Result<()> {
        self.waiting += chunk.len() as u64;
        self.held.push(chunk);
        if self.waiting >= LARGE || self.held.len() >= PIECES { self.write() } else { Ok(()) }
    }

    /// Writes what is held.
    fn write(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.spool.append(&self.held).inspect_err(|error| {
            tracing::warn!(%error, "cannot write to the spool");
        })?;
        self.held.clear();
        self.waiting = 0;
        (self.tell.verifier)(self.spool.len());
        Ok(())
    }
}

/// The next order, within a time if there is one; `None` at the end.
fn next(queue: &mut mpsc::Receiver<WriterCommand>, within: Option<Duration>) -> Result<Option<WriterCommand>, Elapsed> {
    let Some(within) = within else { return Ok(queue.blocking_recv()) };
    Handle::current().block_on(async { timeout(within, queue.recv()).await })
}

#[cfg(test)]
mod tests;
