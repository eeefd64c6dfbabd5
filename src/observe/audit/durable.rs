//! Lines that are on disk before the act that they record.

use std::{
    sync::mpsc::TrySendError,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{AUDIT_RETRY_INTERVAL, AuditEvent, AuditLog, AuditMessage, AuditWriter};

/// Longest wait until a line is on disk.
pub const AUDIT_DEADLINE: Duration = Duration::from_secs(5);
/// The pause between two attempts to write a line.
const DURABLE_ATTEMPT_INTERVAL: Duration = Duration::from_millis(250);
/// The pause before a full queue is tried again.
const FULL_QUEUE_INTERVAL: Duration = Duration::from_millis(5);

/// The audit log could not be written in time: the act that was to be recorded must not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit log of this mirror cannot be written, so nothing was changed; try again when audit.file can be written"
)]
pub struct AuditUnwritable;

/// A line whose writing is waited for.
pub(super) struct DurableLine {
    line: Vec<u8>,
    /// Receives whether the line is on disk; closed when nothing waits for it any longer.
    done: oneshot::Sender<DurableOutcome>,
}

/// The outcome of writing a line.
enum DurableOutcome {
    Written,
    Failed,
}

impl AuditLog {
    /// Writes a line, and returns when it is on disk: only then may the caller do the act that it records. A file that cannot
    /// be written is tried again until [`AUDIT_DEADLINE`].
    ///
    /// After an error, or when the future is dropped, the line may be written or not.
    ///
    /// # Errors
    /// [`AuditUnwritable`] at the deadline.
    pub async fn record_before(&self, event: &AuditEvent<'_>) -> Result<(), AuditUnwritable> {
        self.record_within(event, AUDIT_DEADLINE).await
    }

    async fn record_within(&self, event: &AuditEvent<'_>, deadline: Duration) -> Result<(), AuditUnwritable> {
        // Writing a value without maps of other keys than texts does not fail.
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        let attempts = async {
            while !self.write_durably(&line).await {
                sleep(DURABLE_ATTEMPT_INTERVAL).await;
            }
        };
        timeout(deadline, attempts).await.map_err(|_| AuditUnwritable)
    }

    /// One attempt; false when it failed.
    async fn write_durably(&self, line: &[u8]) -> bool {
        let (done, outcome) = oneshot::channel();
        let mut message = AuditMessage::Durable(DurableLine { line: line.to_owned(), done });
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return matches!(outcome.await, Ok(DurableOutcome::Written)),
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => message = back,
            }
            sleep(FULL_QUEUE_INTERVAL).await;
        }
    }
}

impl AuditWriter {
    /// Writes a line and waits for the disk, also shortly after a failure.
    pub(super) fn write_durable(&mut self, line: DurableLine) {
        let DurableLine { line, done } = line;
        // The caller has given up, and does nothing.
        if done.is_closed() {
            return;
        }
        self.reopen_if_asked();
        let outcome = match self.output.write(&line).and_then(|()| self.output.sync()) {
            Ok(()) => {
                self.tried_at = None;
                DurableOutcome::Written
            }
            Err(error) => {
                if self.tried_at.is_none_or(|at| at.elapsed() >= AUDIT_RETRY_INTERVAL) {
                    self.tried_at = Some(Instant::now());
                    tracing::error!(%error, "the audit log cannot be written");
                }
                DurableOutcome::Failed
            }
        };
        let _ = done.send(outcome);
        self.report();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use jiff::Timestamp;

    use super::*;
    use crate::{observe::AuditConfig, value::ByteSize};

    /// Shorter than the deadline of acts, and longer than one attempt.
    const SHORT: Duration = Duration::from_millis(400);

    fn open(path: &Path) -> AuditLog {
        let config = AuditConfig { file: Some(path.to_owned()), max_size: ByteSize::mib(1), files: 2 };
        AuditLog::open(&config).expect("opens").expect("a log")
    }

    fn event() -> AuditEvent<'static> {
        AuditEvent::new(Timestamp::UNIX_EPOCH, "publish", "publish", "begun")
    }

    #[tokio::test]
    async fn a_line_is_in_the_file_before_the_act_begins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.jsonl");
        let log = open(&path);
        log.record_before(&event()).await.expect("written");
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.ends_with("}\n") && text.contains("\"begun\""), "{text}");
    }

    /// A log whose folder is gone, and the folder.
    fn without_folder(dir: &Path) -> (AuditLog, PathBuf) {
        let folder = dir.join("folder");
        fs::create_dir(&folder).expect("created");
        let log = open(&folder.join("audit.jsonl"));
        fs::remove_dir_all(&folder).expect("removed");
        log.reopen();
        (log, folder)
    }

    #[tokio::test]
    async fn nothing_is_done_while_the_file_cannot_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, folder) = without_folder(dir.path());
        assert_eq!(log.record_within(&event(), SHORT).await, Err(AuditUnwritable));
        fs::create_dir(&folder).expect("created");
        log.record_before(&event()).await.expect("written again");
        assert_eq!(fs::read_to_string(folder.join("audit.jsonl")).expect("a file").lines().count(), 1);
    }

    #[tokio::test]
    async fn a_file_that_can_be_written_within_the_deadline_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, folder) = without_folder(dir.path());
        let record = event();
        let recorded = log.record_before(&record);
        // Attempts are made in turn: when this one has failed, so has the first one of the line above.
        let mended = async {
            assert!(!log.write_durably(b"{}\n").await);
            fs::create_dir(&folder).expect("created");
        };
        let (recorded, ()) = tokio::join!(recorded, mended);
        assert_eq!(recorded, Ok(()));
    }

    #[tokio::test]
    async fn a_full_file_system_is_an_error_and_not_a_lost_line() {
        // Every write to this device fails as on a full file system. Not on every system.
        if !Path::new("/dev/full").exists() {
            return;
        }
        let log = open(Path::new("/dev/full"));
        assert_eq!(log.record_within(&event(), SHORT).await, Err(AuditUnwritable));
        assert_eq!(log.lost(), 0, "nothing is counted that was not done");
    }

    #[tokio::test]
    async fn a_log_that_does_not_answer_is_given_up_at_the_deadline() {
        let (queue, messages) = std::sync::mpsc::sync_channel(1);
        let log = AuditLog { queue, ..open(Path::new("-")) };
        tokio::time::pause();
        assert_eq!(log.record_before(&event()).await, Err(AuditUnwritable));
        drop(messages);
    }
}
