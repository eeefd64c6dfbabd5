//! Files that cannot be read or removed at start. A disk error does not show that their content is damaged, so they stay.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tracing::warn;

use super::budget::{Budget, Reservation, allocated_bytes};

/// Files that are named in the log; the others are only counted.
const MAX_LOGGED_FILES: usize = 20;

/// The skipped files of this run. They count against the budget, are not served, and make the mirror degraded.
pub(super) struct SkippedFiles {
    budget: Arc<Budget>,
    count: AtomicUsize,
    /// Lines of the pins or the recorded sources that are damaged.
    damaged_lines: AtomicUsize,
    /// The bytes of the files.
    reservations: Mutex<Vec<Reservation>>,
}

impl SkippedFiles {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, count: AtomicUsize::new(0), damaged_lines: AtomicUsize::new(0), reservations: Mutex::default() }
    }

    /// Records that a file or a folder is left as it is.
    pub(super) fn record(&self, path: &Path, cause: &io::Error) {
        if self.count.fetch_add(1, Ordering::Relaxed) < MAX_LOGGED_FILES {
            warn!(path = %path.display(), %cause, "a file cannot be read or removed; it is left as it is");
        }
        self.account(path);
    }

    /// Counts the bytes of a file that no row describes.
    pub(super) fn account(&self, path: &Path) {
        let bytes = fs::symlink_metadata(path).map_or(0, |stat| allocated_bytes(stat.len()));
        self.reservations.lock().push(self.budget.account_existing(bytes));
    }

    /// Records a damaged line of the pins or the recorded sources, which is left as it is.
    pub(super) fn record_damaged_line(&self) {
        self.damaged_lines.fetch_add(1, Ordering::Relaxed);
    }

    /// What is wrong, in words.
    pub(super) fn describe(&self) -> Vec<String> {
        let files = "files that could not be read or removed, and are left as they are";
        let lines = "damaged lines of pins.jsonl or sources.jsonl";
        let counts = [(files, &self.count), (lines, &self.damaged_lines)];
        let counts = counts.map(|(what, count)| (what, count.load(Ordering::Relaxed)));
        counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")).collect()
    }
}

/// True when a file is missing or has invalid content; false for an error of the disk, which says nothing about it.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
