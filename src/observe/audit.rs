//! The audit log: who was sent what, what was refused and why, and every administrative act; one JSON object per line.
//!
//! A thread of its own writes the lines, to a file that it rotates by size, or to standard error. Lines about requests
//! wait for nothing: one that finds the queue full is lost, and counted.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::value::ByteSize;

mod durable;
mod output;

use durable::DurableLine;
pub use durable::{AUDIT_DEADLINE, AuditUnwritable};
use output::AuditOutput;

/// Lines that wait for the thread: about 4 MB.
const MAX_QUEUED_LINES: usize = 8192;
/// The pause before a file that could not be written is tried again, and the shortest time between two warnings about lost
/// lines.
const AUDIT_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The `[audit]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The file; `-` is standard error. `None`: no audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The file is renamed to `{file}.1` when it is larger than this.
    pub max_size: ByteSize,
    /// How many renamed files are kept.
    pub files: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { file: None, max_size: ByteSize::mib(100), files: 9 }
    }
}

/// One line. A field that is `None` is absent.
#[derive(Debug, Serialize)]
pub struct AuditEvent<'a> {
    /// When it ended.
    pub time: Timestamp,
    /// `request` or `administration`.
    pub event: &'static str,
    /// The request id, as sent to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a str>,
    /// The id of its credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<&'a str>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The other end of the connection: the proxy, where the client came through one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The method of a request, or the route of an administrative act.
    pub action: &'a str,
    /// The upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// The package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<&'a str>,
    /// The version, as requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// The kind of resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<&'a str>,
    /// SHA-256 of the zip, where it was known when the answer began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<&'a str>,
    /// The number of the `[[access.rules]]` table that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Status code; `None` if the client left before the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the body that were passed to the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How it ended.
    pub outcome: &'a str,
    /// The code of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// The sentence of a refusal or an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// What an administrative act was asked to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<&'a serde_json::Value>,
}

impl<'a> AuditEvent<'a> {
    /// A line of which only this is known; every other field is `None`.
    pub fn new(time: Timestamp, event: &'static str, action: &'a str, outcome: &'a str) -> Self {
        Self {
            time,
            event,
            request_id: None,
            principal: None,
            credential: None,
            client: None,
            peer: None,
            action,
            upstream: None,
            package: None,
            version: None,
            resource: None,
            sha256: None,
            rule: None,
            status: None,
            bytes: None,
            outcome,
            code: None,
            reason: None,
            request: None,
        }
    }
}

enum AuditMessage {
    Line(Vec<u8>),
    /// Answered when it is on disk.
    Durable(DurableLine),
    /// Answered when every earlier line is written.
    Flush(SyncSender<()>),
}

/// The audit log of the process. Clones share it.
#[derive(Clone, Debug)]
pub struct AuditLog {
    queue: SyncSender<AuditMessage>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
}

impl AuditLog {
    /// Opens the file and starts the thread; `None` when the section names no file.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn open(config: &AuditConfig) -> io::Result<Option<Self>> {
        let Some(path) = &config.file else { return Ok(None) };
        let mut output = AuditOutput::new(path, config);
        output.open()?;
        let (queue, messages) = sync_channel(MAX_QUEUED_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let reopen = Arc::new(AtomicBool::new(false));
        let writer =
            AuditWriter { output, messages, lost: lost.clone(), reopen: reopen.clone(), reported: 0, tried_at: None };
        thread::Builder::new().name("audit-log".into()).spawn(move || writer.run())?;
        Ok(Some(Self { queue, lost, reopen }))
    }

    /// Writes a line, if the queue has room. Waits for nothing.
    pub fn record(&self, event: &AuditEvent<'_>) {
        // Writing a value without maps of other keys than texts does not fail.
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(AuditMessage::Line(line))
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were lost because the queue was full or the file could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Opens the file again before the next line is written, after something else has renamed it. Does not wait.
    pub fn reopen(&self) {
        // Not in the queue, which may be full.
        self.reopen.store(true, Ordering::Release);
    }

    /// Waits until every earlier line is written, at most for `within`. Blocks.
    pub fn flush(&self, within: Duration) {
        let (done, written) = sync_channel(1);
        let deadline = Instant::now() + within;
        let mut message = AuditMessage::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(Duration::from_millis(5));
            message = back;
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The thread that writes the lines.
struct AuditWriter {
    output: AuditOutput,
    messages: Receiver<AuditMessage>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    /// Lost lines that the process log has reported.
    reported: u64,
    /// When a write last failed.
    tried_at: Option<Instant>,
}

impl AuditWriter {
    /// Writes until every handle is gone.
    fn run(mut self) {
        loop {
            match self.messages.recv_timeout(AUDIT_RETRY_INTERVAL) {
                Ok(AuditMessage::Line(line)) => self.write(&line),
                Ok(AuditMessage::Durable(line)) => self.write_durable(line),
                // The waiting side may have given up.
                Ok(AuditMessage::Flush(done)) => drop(done.try_send(())),
                Err(RecvTimeoutError::Timeout) => self.report(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Writes a line. After a failure, lines are lost until it is time to try again.
    fn write(&mut self, line: &[u8]) {
        self.reopen_if_asked();
        if self.tried_at.is_some_and(|at| at.elapsed() < AUDIT_RETRY_INTERVAL) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.output.write(line) {
            Ok(()) => self.tried_at = None,
            Err(error) => {
                self.tried_at = Some(Instant::now());
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the audit log cannot be written");
            }
        }
        self.report();
    }

    /// Closes the file where that was asked for: the next line opens it again.
    fn reopen_if_asked(&mut self) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.output.close();
        }
    }

    fn report(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.reported && self.tried_at.is_none() {
            tracing::error!(lines = lost - self.reported, "lines of the audit log were lost");
            self.reported = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn event(action: &str) -> AuditEvent<'_> {
        AuditEvent {
            request_id: Some("r1"),
            principal: Some("token:ci"),
            status: Some(200),
            bytes: Some(1),
            ..AuditEvent::new(Timestamp::UNIX_EPOCH, "request", action, "complete")
        }
    }

    fn open(path: &Path, max_size: u64, files: u32) -> AuditLog {
        let config = AuditConfig { file: Some(path.to_owned()), max_size: ByteSize(max_size), files };
        AuditLog::open(&config).expect("opens").expect("a log")
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_are_json_in_a_file_of_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.jsonl");
        let log = open(&path, 1 << 20, 3);
        log.record(&event("GET"));
        log.record(&event("HEAD"));
        log.flush(LONG);
        let text = fs::read_to_string(&path).expect("a file");
        let actions: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["action"].to_string())
            .collect();
        assert_eq!(actions, ["\"GET\"", "\"HEAD\""]);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_file_is_rotated_by_size_and_reopened_on_request() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.jsonl");
        let line = serde_json::to_vec(&event("GET")).expect("JSON").len() as u64 + 1;
        let log = open(&path, line * 2, 2);
        for _ in 0..9 {
            log.record(&event("GET"));
        }
        log.flush(LONG);
        let lines = |name: &str| fs::read_to_string(dir.path().join(name)).map_or(0, |text| text.lines().count());
        assert_eq!((lines("audit.jsonl"), lines("audit.jsonl.1"), lines("audit.jsonl.2")), (1, 2, 2));
        assert!(!dir.path().join("audit.jsonl.3").exists());
        fs::rename(&path, dir.path().join("moved")).expect("renamed");
        log.reopen();
        log.record(&event("GET"));
        log.flush(LONG);
        assert_eq!((lines("moved"), lines("audit.jsonl"), log.lost()), (1, 1, 0));
    }

    #[test]
    fn a_line_after_a_part_of_one_begins_on_a_line_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.jsonl");
        for (before, lines) in [("{\"time\":\"20", 3), ("{}\n", 3), ("", 2)] {
            fs::write(&path, before).expect("written");
            let log = open(&path, 1 << 20, 3);
            log.record(&event("GET"));
            log.record(&event("HEAD"));
            log.flush(LONG);
            let text = fs::read_to_string(&path).expect("a file");
            let added = text.lines().rev().take(2);
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.starts_with(before) && text.ends_with('\n'), "{text}");
            for line in added {
                serde_json::from_str::<serde_json::Value>(line).expect("JSON");
            }
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("folder/audit.jsonl");
        fs::create_dir(dir.path().join("folder")).expect("created");
        let log = open(&path, 1 << 20, 2);
        fs::remove_dir_all(dir.path().join("folder")).expect("removed");
        log.reopen();
        log.record(&event("GET"));
        log.record(&event("GET"));
        log.flush(LONG);
        assert_eq!(log.lost(), 2);
    }
}
