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

/// Chunks that may wait for the disk. With a chunk's few hundred KiB, and the buffered bytes, this bounds a fill's memory.
const MAX_QUEUED_CHUNKS: usize = 4;
/// Time between two notifications of the readers. Waking fifty readers for each chunk would hold up the download itself.
const READER_NOTIFY_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes that are reported to the readers before the interval is over.
const MAX_UNREPORTED_BYTES: u64 = 16 << 20;
/// Smallest write, where time allows: some file systems keep the bytes of one write in one large folio, and sending from
/// that costs less than from scattered pages.
const MIN_WRITE_BYTES: u64 = 1 << 20;
/// More chunks than this are not buffered: each may keep a buffer of many KiB alive.
const MAX_BUFFERED_CHUNKS: usize = 256;

/// The callbacks for a spool's growth. Each gets the spool's new length.
pub(super) struct ProgressListeners<V, R> {
    /// Called after every write, so that the verifier has little left to read at the end.
    pub(super) verifier: V,
    /// Called after the first bytes at once, and then every [`READER_NOTIFY_INTERVAL`].
    pub(super) readers: R,
}

impl ProgressListeners<fn(u64), fn(u64)> {
    /// Listeners that do nothing.
    pub(super) fn none() -> Self {
        Self { verifier: |_| {}, readers: |_| {} }
    }
}

enum WriterCommand {
    Write(Bytes),
    Checkpoint(oneshot::Sender<Digest>),
}

/// Handle of the writing thread. Dropping it ends the thread and removes the spool.
pub(super) struct SpoolWriter {
    commands: mpsc::Sender<WriterCommand>,
    thread: JoinHandle<Result<(Spool, Digest), FinishError>>,
}

/// The disk refused a write; the thread has logged the reason.
#[derive(Debug, thiserror::Error)]
#[error("the spool takes no more bytes")]
pub(super) struct SpoolWriteError {
    /// The chunk that was not queued.
    pub(super) chunk: Option<Bytes>,
}

/// Why not all queued bytes are in the spool. The spool is removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FinishError {
    /// The disk refused a write.
    #[error("the spool takes no more bytes")]
    Refused {
        /// Bytes in the spool.
        written: u64,
        /// The queued bytes that follow.
        unwritten: Vec<Bytes>,
    },
    /// The thread has ended without a result.
    #[error("the spool was not written")]
    Lost,
}

impl SpoolWriter {
    /// Starts the thread. `tasks` tracks it, so that shutdown waits until it has removed an aborted download's spool. Must
    /// be called within a tokio runtime.
    pub(super) fn start<V, R>(tasks: &TaskTracker, spool: Spool, listeners: ProgressListeners<V, R>) -> Self
    where
        V: Fn(u64) + Send + 'static,
        R: Fn(u64) + Send + 'static,
    {
        let (commands, queue) = mpsc::channel(MAX_QUEUED_CHUNKS);
        Self { commands, thread: tasks.spawn_blocking(move || write_all(spool, queue, &listeners)) }
    }

    /// Queues a chunk; waits while the queue is full.
    ///
    /// # Errors
    /// When an earlier write failed.
    pub(super) async fn write(&self, chunk: Bytes) -> Result<(), SpoolWriteError> {
        self.commands.send(WriterCommand::Write(chunk)).await.map_err(|refused| match refused.0 {
            WriterCommand::Write(chunk) => SpoolWriteError { chunk: Some(chunk) },
            WriterCommand::Checkpoint(_) => SpoolWriteError { chunk: None },
        })
    }

    /// The digest of everything queued so far.
    ///
    /// # Errors
    /// As [`SpoolWriter::write`].
    pub(super) async fn checkpoint(&self) -> Result<Digest, SpoolWriteError> {
        let (reply, answer) = oneshot::channel();
        let refused = || SpoolWriteError { chunk: None };
        self.commands.send(WriterCommand::Checkpoint(reply)).await.map_err(|_| refused())?;
        answer.await.map_err(|_| refused())
    }

    /// Waits until the queue is written; returns the spool and the digest of all of it.
    ///
    /// # Errors
    /// When a write failed, with what was not written.
    pub(super) async fn finish(self) -> Result<(Spool, Digest), FinishError> {
        drop(self.commands);
        match self.thread.await {
            Ok(finished) => finished,
            Err(_) => Err(FinishError::Lost),
        }
    }
}

fn write_all(
    spool: Spool,
    mut queue: mpsc::Receiver<WriterCommand>,
    listeners: &ProgressListeners<impl Fn(u64), impl Fn(u64)>,
) -> Result<(Spool, Digest), FinishError> {
    let mut buffer = SpoolBuffer { spool, chunks: Vec::new(), len: 0, written: 0, listeners };
    match write_queue(&mut buffer, &mut queue) {
        Ok(digest) => Ok((buffer.spool, digest)),
        Err(_) => Err(buffer.into_refused(queue)),
    }
}

fn write_queue(
    buffer: &mut SpoolBuffer<'_, impl Fn(u64), impl Fn(u64)>,
    queue: &mut mpsc::Receiver<WriterCommand>,
) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut reported = 0;
    let mut reported_at = None::<Instant>;
    loop {
        let unreported = buffer.spool.len() + buffer.len - reported;
        let wait = reported_at.map_or(Duration::ZERO, |at| READER_NOTIFY_INTERVAL.saturating_sub(at.elapsed()));
        if unreported > 0 && (wait.is_zero() || unreported >= MAX_UNREPORTED_BYTES) {
            buffer.flush()?;
            reported = buffer.spool.len();
            reported_at = Some(Instant::now());
            (buffer.listeners.readers)(reported);
            continue;
        }
        // A time-out means that bytes must be reported now.
        let Ok(command) = next_command(queue, (unreported > 0).then_some(wait)) else { continue };
        match command {
            None => break,
            Some(WriterCommand::Write(chunk)) => {
                // Hashed first, while it is in the processor's cache.
                hash.update(&chunk);
                buffer.push(chunk)?;
            }
            // The receiver is gone when the fill was aborted; the queue's end follows.
            Some(WriterCommand::Checkpoint(reply)) => drop(reply.send(Digest(hash.clone().finalize().into()))),
        }
    }
    buffer.flush()?;
    if reported < buffer.spool.len() {
        (buffer.listeners.readers)(buffer.spool.len());
    }
    Ok(Digest(hash.finalize().into()))
}

/// The spool, and the chunks that are not in it yet.
struct SpoolBuffer<'a, V, R> {
    spool: Spool,
    chunks: Vec<Bytes>,
    /// Bytes in the chunks.
    len: u64,
    /// Bytes of earlier chunks, all of them in the spool.
    written: u64,
    listeners: &'a ProgressListeners<V, R>,
}

impl<V: Fn(u64), R> SpoolBuffer<'_, V, R> {
    /// Takes a chunk; flushes once there are enough bytes or too many chunks.
    fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        self.len += chunk.len() as u64;
        self.chunks.push(chunk);
        if self.len >= MIN_WRITE_BYTES || self.chunks.len() >= MAX_BUFFERED_CHUNKS { self.flush() } else { Ok(()) }
    }

    /// What a reader of the spool lacks, after a failed flush.
    fn into_refused(self, mut queue: mpsc::Receiver<WriterCommand>) -> FinishError {
        queue.close();
        let mut unwritten = self.chunks;
        while let Some(command) = queue.blocking_recv() {
            if let WriterCommand::Write(chunk) = command {
                unwritten.push(chunk);
            }
        }
        FinishError::Refused { written: self.written, unwritten }
    }

    /// Writes all chunks to the spool.
    fn flush(&mut self) -> io::Result<()> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        self.spool.append(&self.chunks).inspect_err(|error| {
            tracing::warn!(%error, "cannot write to the spool");
        })?;
        self.chunks.clear();
        self.written += self.len;
        self.len = 0;
        (self.listeners.verifier)(self.spool.len());
        Ok(())
    }
}

/// The next command, within a time if there is one; `None` at the end of the queue.
fn next_command(
    queue: &mut mpsc::Receiver<WriterCommand>,
    within: Option<Duration>,
) -> Result<Option<WriterCommand>, Elapsed> {
    let Some(within) = within else { return Ok(queue.blocking_recv()) };
    Handle::current().block_on(async { timeout(within, queue.recv()).await })
}

#[cfg(test)]
mod tests;
