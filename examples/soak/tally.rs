//! Counts of answers, and the list of what must not happen.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Most violations that are kept with their text.
const MOST_TEXTS: usize = 50;

/// How a request ended that is no violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A whole zip, flat view or list, compared.
    Whole,
    /// A range, compared.
    Range,
    /// A head without a body.
    Head,
    /// 304.
    NotModified,
    /// 416 for a range that is not in the zip.
    NoRange,
    /// 404 for what does not exist.
    Unknown,
    /// 502, 503 or 504.
    Unavailable,
    /// The connection broke.
    Broken,
    /// The client left.
    Aborted,
}

const ENDINGS: [(Ending, &str); 9] = [
    (Ending::Whole, "whole"),
    (Ending::Range, "ranges"),
    (Ending::Head, "heads"),
    (Ending::NotModified, "not_modified"),
    (Ending::NoRange, "no_range"),
    (Ending::Unknown, "unknown"),
    (Ending::Unavailable, "unavailable"),
    (Ending::Broken, "broken"),
    (Ending::Aborted, "aborted"),
];

/// What all clients count together.
#[derive(Default)]
pub(crate) struct SoakCounts {
    endings: [AtomicU64; ENDINGS.len()],
    wrong: AtomicU64,
    violations: AtomicU64,
    texts: Mutex<Vec<String>>,
}

impl SoakCounts {
    pub(crate) fn add(&self, ending: Ending) {
        if let Some(at) = ENDINGS.iter().position(|(known, _)| *known == ending) {
            self.endings[at].fetch_add(1, Relaxed);
        }
    }

    /// Counts a whole answer that is wrong.
    pub(crate) fn wrong(&self, text: &str) {
        self.wrong.fetch_add(1, Relaxed);
        self.violation(format!("wrong answer: {text}"));
    }

    /// Counts anything else that must not happen, and prints it.
    pub(crate) fn violation(&self, text: String) {
        self.violations.fetch_add(1, Relaxed);
        eprintln!("soak: {text}");
        let mut texts = self.texts.lock().expect("no panic");
        if texts.len() < MOST_TEXTS {
            texts.push(text);
        }
    }

    /// Number of whole answers that were wrong.
    pub(crate) fn wrong_answers(&self) -> u64 {
        self.wrong.load(Relaxed)
    }

    /// Number of violations, wrong answers among them.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Relaxed)
    }

    /// The first violations.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts.lock().expect("no panic").clone()
    }

    /// Number of requests by how they ended.
    pub(crate) fn endings(&self) -> serde_json::Map<String, serde_json::Value> {
        let count = |at: usize| self.endings[at].load(Relaxed).into();
        ENDINGS.iter().enumerate().map(|(at, (_, name))| ((*name).to_owned(), count(at))).collect()
    }

    /// Number of requests that ended so.
    pub(crate) fn count(&self, ending: Ending) -> u64 {
        ENDINGS.iter().position(|(known, _)| *known == ending).map_or(0, |at| self.endings[at].load(Relaxed))
    }
}
