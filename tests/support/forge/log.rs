//! The log of requests.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use http::HeaderMap;
use tokio::sync::watch;

use super::route::Route;

/// One of the forge's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    GithubApi,
    Archive,
    Gitee,
    /// The v3 registry.
    V3,
    /// The simple registry.
    Simple,
    /// The registries' object storage.
    Storage,
}

/// One request and the state of its response.
#[derive(Clone, Debug)]
pub struct Seen {
    pub host: Host,
    pub method: String,
    pub path_and_query: String,
    pub headers: HeaderMap,
    /// `None` before the response, or if the connection was closed without one.
    pub status: Option<u16>,
    /// Body bytes passed to the connection.
    pub sent: u64,
    /// True once the whole body was passed to the connection.
    pub complete: bool,
}

impl Seen {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// What the request asks for.
    pub fn route(&self) -> Route {
        Route::of(self.host, self.path())
    }

    pub fn query(&self, key: &str) -> Option<String> {
        let query = self.path_and_query.split_once('?')?.1;
        url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
    }

    /// The first value of a header field; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.path_and_query.contains(text)
    }
}

/// The progress of one response body.
#[derive(Debug, Default)]
pub struct Progress {
    pub sent: AtomicU64,
    pub complete: AtomicBool,
}

struct Line {
    number: u64,
    seen: Seen,
    progress: Arc<Progress>,
}

pub struct Log {
    lines: Mutex<Vec<Line>>,
    /// The log is disabled, for a forge that runs for days.
    pub off: AtomicBool,
    changes: watch::Sender<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self { lines: Mutex::default(), off: AtomicBool::new(false), changes: watch::Sender::new(0) }
    }
}

impl Log {
    /// Adds a request and returns its number.
    pub fn arrive(&self, seen: Seen, progress: Arc<Progress>) -> u64 {
        let mut lines = self.lines.lock().unwrap();
        let number = self.changes.borrow().wrapping_add(1);
        if !self.off.load(Ordering::Acquire) {
            lines.push(Line { number, seen, progress });
        }
        self.changes.send_replace(number);
        number
    }

    pub fn answered(&self, number: u64, status: u16) {
        let mut lines = self.lines.lock().unwrap();
        if let Some(line) = lines.iter_mut().rfind(|line| line.number == number) {
            line.seen.status = Some(status);
        }
        // The number also counts changes, so that waiters for a status check again.
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    pub fn all(&self) -> Vec<Seen> {
        let snapshot = |line: &Line| Seen {
            sent: line.progress.sent.load(Ordering::Acquire),
            complete: line.progress.complete.load(Ordering::Acquire),
            ..line.seen.clone()
        };
        self.lines.lock().unwrap().iter().map(snapshot).collect()
    }

    pub fn clear(&self) {
        self.lines.lock().unwrap().clear();
    }

    /// Waits until the log has a request that fits; returns at once if it already has.
    pub async fn wait_for(&self, fits: impl Fn(&Seen) -> bool) -> Seen {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(seen) = self.all().into_iter().find(|seen| fits(seen)) {
                return seen;
            }
            changes.changed().await.expect("the log lives as long as the forge");
        }
    }
}
