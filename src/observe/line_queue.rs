//! Lines of a log on their way to standard error: any thread appends them, one thread writes them in batches.
//!
//! By hand: a queue of lines from a library wakes its thread for every line, which costs a repeated hit a tenth of its time.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait while standard error is blocked. Further lines are dropped and counted.
pub(super) const MAX_QUEUED_BYTES: usize = 4 << 20;
/// A batch of this many bytes is written without further delay.
const BATCH_BYTES: usize = 64 << 10;
/// Longest wait for the last lines when the process ends.
const LAST_LINES_DEADLINE: Duration = Duration::from_secs(1);

/// The end of a queue where lines are appended. Never blocks on the output.
#[derive(Clone)]
pub(super) struct LineQueue(Arc<SharedLines>);

/// The thread that writes the lines. Dropping it writes what is queued.
pub(super) struct LineWriter(Arc<SharedLines>);

struct SharedLines {
    queued: Mutex<QueuedLines>,
    changed: Condvar,
    lost: AtomicUsize,
}

#[derive(Default)]
struct QueuedLines {
    text: Vec<u8>,
    /// No line will follow.
    closed: bool,
    /// The thread has written the last line.
    written: bool,
}

impl LineQueue {
    /// Starts a thread that writes to `output`, each line at most `delay` after it is appended while the output accepts
    /// it.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(
        thread: &str,
        delay: Duration,
        output: impl Write + Send + 'static,
    ) -> io::Result<(Self, LineWriter)> {
        let shared =
            Arc::new(SharedLines { queued: Mutex::default(), changed: Condvar::new(), lost: AtomicUsize::new(0) });
        let lines = shared.clone();
        thread::Builder::new().name(thread.into()).spawn(move || write_batches(&lines, delay, output))?;
        Ok((Self(shared.clone()), LineWriter(shared)))
    }

    /// Appends whole lines; drops and counts them when [`MAX_QUEUED_BYTES`] wait.
    pub(super) fn push(&self, lines: &[u8]) {
        let (before, after) = {
            let mut queued = self.0.queued.lock();
            let before = queued.text.len();
            if before + lines.len() > MAX_QUEUED_BYTES {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            queued.text.extend_from_slice(lines);
            (before, queued.text.len())
        };
        // The thread waits for the first line, and then for a full batch.
        if before == 0 || (before < BATCH_BYTES && after >= BATCH_BYTES) {
            self.0.changed.notify_one();
        }
    }

    /// How many lines were dropped.
    pub(super) fn lost(&self) -> usize {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Write for &LineQueue {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let mut queued = self.0.queued.lock();
        queued.closed = true;
        self.0.changed.notify_all();
        let deadline = Instant::now() + LAST_LINES_DEADLINE;
        // Standard error may be blocked for ever.
        while !queued.written && !self.0.changed.wait_until(&mut queued, deadline).timed_out() {}
    }
}

fn write_batches(lines: &SharedLines, delay: Duration, mut output: impl Write) {
    let mut batch = Vec::new();
    loop {
        {
            let mut queued = lines.queued.lock();
            while queued.text.is_empty() && !queued.closed {
                lines.changed.wait(&mut queued);
            }
            let until = Instant::now() + delay;
            while !queued.closed && queued.text.len() < BATCH_BYTES {
                if lines.changed.wait_until(&mut queued, until).timed_out() {
                    break;
                }
            }
            if queued.text.is_empty() {
                queued.written = true;
                lines.changed.notify_all();
                return;
            }
            mem::swap(&mut queued.text, &mut batch);
        }
        // There is no place to report that standard error fails.
        let _ = output.write_all(&batch).and_then(|()| output.flush());
        batch.clear();
        batch.shrink_to(2 * BATCH_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that says when it is used, and blocks until the other sender is dropped.
    struct BlockedOutput(mpsc::Sender<()>, mpsc::Receiver<()>);

    impl Write for BlockedOutput {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that hands each batch to the test.
    struct SentOutput(mpsc::Sender<Vec<u8>>);

    impl Write for SentOutput {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(lines.to_vec());
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn blocked_standard_error_blocks_no_writer_and_lost_events_are_counted() {
        let (used, writes) = mpsc::channel();
        let (release, blocked) = mpsc::channel();
        let output = BlockedOutput(used, blocked);
        let (queue, writer) = LineQueue::start("log", Duration::ZERO, output).expect("a thread");
        queue.push(b"first\n");
        writes.recv().expect("the thread holds the first line");
        let line = [b'x'; 1 << 10];
        for _ in 0..MAX_QUEUED_BYTES / line.len() + 100 {
            queue.push(&line);
        }
        assert_eq!(queue.lost(), 100);
        let begun = Instant::now();
        drop(writer);
        assert!(begun.elapsed() < 5 * LAST_LINES_DEADLINE, "the end of the process does not wait for ever");
        drop(release);
    }

    #[test]
    fn lines_arrive_in_their_order_and_a_full_batch_does_not_wait() {
        let (sender, batches) = mpsc::channel();
        let delay = Duration::from_secs(3600);
        let (queue, writer) = LineQueue::start("access-log", delay, SentOutput(sender)).expect("a thread");
        queue.push(b"first\n");
        queue.push(&[b'x'; BATCH_BYTES]);
        let batch = batches.recv().expect("a batch");
        assert_eq!((&batch[..6], batch.len()), (&b"first\n"[..], 6 + BATCH_BYTES));
        queue.push(b"last\n");
        drop(writer);
        assert_eq!(batches.recv().expect("the rest at the end"), b"last\n");
    }
}
