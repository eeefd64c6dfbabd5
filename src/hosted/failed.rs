//! Publications that failed after the last response that their client reads: kept for a while, so that their publisher
//! finds the reason.
//!
//! No data: a file that cannot be read is left out with a warning. It is bounded by age and number.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::layout::HostedLayout;
use crate::atomic_file::{read_json, write_json};

/// Most entries; beyond that, the oldest are removed.
const MAX_FAILED_PUBLICATIONS: usize = 500;
/// Most entries of one package.
pub(super) const MAX_FAILED_OF_PACKAGE: usize = 20;
/// How long an entry is kept.
const MAX_FAILED_AGE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Most characters of a reason.
const MAX_REASON_CHARS: usize = 1000;
/// Largest file that is read, bytes.
pub(super) const MAX_FAILED_FILE_BYTES: u64 = 16 << 20;
/// Mode of the file less the umask.
const FAILED_FILE_MODE: u32 = 0o644;

/// A publication that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedPublication {
    /// The name of the package.
    pub(crate) package: String,
    /// The version.
    pub(crate) version: String,
    /// The principal who published it.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Timestamp,
    /// Why, in one sentence of ours.
    pub(crate) reason: String,
}

/// The content of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct StoredFailures {
    failed: Vec<FailedPublication>,
}

/// The publications that failed, the newest last; at most one of each version.
#[derive(Debug)]
pub(crate) struct FailedPublications {
    path: PathBuf,
    /// Never held during I/O: connection threads read it.
    list: Mutex<Vec<FailedPublication>>,
    /// Held while the list is changed and written, so that the file gets the changes in their order.
    writing: Mutex<()>,
}

impl FailedPublications {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn open(layout: &HostedLayout) -> io::Result<Self> {
        let folder = layout.uploads();
        fs::create_dir_all(&folder)?;
        // What a kill has left of a file that was being replaced.
        for file in fs::read_dir(&folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|end| end == "partial") {
                fs::remove_file(path)?;
            }
        }
        let path = layout.failed();
        let StoredFailures { failed } = read_json(&path, MAX_FAILED_FILE_BYTES).unwrap_or_else(|error| {
            tracing::warn!(%error, "the list of failed publications cannot be read, and begins empty");
            StoredFailures::default()
        });
        Ok(Self { path, list: Mutex::new(failed), writing: Mutex::default() })
    }

    /// Adds a publication in place of an earlier one of the version. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written; the entry holds until the next start then.
    pub(crate) fn add(&self, mut failed: FailedPublication) -> io::Result<()> {
        failed.shorten();
        let _writing = self.writing.lock();
        let mut list = self.list.lock();
        let now = failed.at;
        list.retain(|entry| !entry.is_of(&failed.package, &failed.version) && entry.is_kept(now));
        let of_package = list.iter().filter(|entry| entry.package.eq_ignore_ascii_case(&failed.package)).count();
        let oldest = if of_package >= MAX_FAILED_OF_PACKAGE {
            list.iter().position(|entry| entry.package.eq_ignore_ascii_case(&failed.package))
        } else {
            (list.len() >= MAX_FAILED_PUBLICATIONS).then_some(0)
        };
        oldest.map(|oldest| list.remove(oldest));
        list.push(failed);
        let changed = list.clone();
        drop(list);
        self.write(changed)
    }

    /// Removes the entry of a version that was published since. Blocks only if there is one.
    pub(crate) fn forget(&self, package: &str, version: &str) {
        let _writing = self.writing.lock();
        let mut list = self.list.lock();
        let count = list.len();
        list.retain(|entry| !entry.is_of(package, version));
        let changed = (list.len() < count).then(|| list.clone());
        drop(list);
        if let Some(Err(error)) = changed.map(|changed| self.write(changed)) {
            tracing::warn!(%error, "the list of failed publications cannot be written");
        }
    }

    /// A copy of the file's content.
    pub(super) fn stored(&self) -> StoredFailures {
        StoredFailures { failed: self.list.lock().clone() }
    }

    /// Those of one package, the newest first.
    pub(crate) fn of_package(&self, package: &str, now: Timestamp) -> Vec<FailedPublication> {
        self.kept(now, |entry| entry.package.eq_ignore_ascii_case(package))
    }

    /// All of them, the newest first.
    pub(crate) fn all(&self, now: Timestamp) -> Vec<FailedPublication> {
        self.kept(now, |_| true)
    }

    fn kept(&self, now: Timestamp, is_asked: impl Fn(&FailedPublication) -> bool) -> Vec<FailedPublication> {
        let list = self.list.lock();
        list.iter().rev().filter(|entry| entry.is_kept(now) && is_asked(entry)).cloned().collect()
    }

    fn write(&self, failed: Vec<FailedPublication>) -> io::Result<()> {
        StoredFailures { failed }.write(&self.path)
    }
}

impl StoredFailures {
    /// Replaces the file. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        write_json(path, FAILED_FILE_MODE, self)
    }

    /// Without what is beyond the limits of the list: the content may come from outside.
    pub(super) fn bounded(mut self) -> Self {
        self.failed.drain(..self.failed.len().saturating_sub(MAX_FAILED_PUBLICATIONS));
        self.failed.iter_mut().for_each(FailedPublication::shorten);
        self
    }
}

impl FailedPublication {
    pub(super) fn shorten(&mut self) {
        if let Some((end, _)) = self.reason.char_indices().nth(MAX_REASON_CHARS) {
            self.reason.truncate(end);
        }
    }

    pub(super) fn is_of(&self, package: &str, version: &str) -> bool {
        self.package.eq_ignore_ascii_case(package) && self.version == version
    }

    pub(super) fn is_kept(&self, now: Timestamp) -> bool {
        now.duration_since(self.at) < MAX_FAILED_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(package: &str, version: usize) -> FailedPublication {
        FailedPublication {
            package: package.into(),
            version: format!("1.0.{version}"),
            by: "token:ci".into(),
            at: Timestamp::from_second(i64::try_from(version).expect("small")).expect("a time"),
            reason: "x".repeat(2000),
        }
    }

    #[test]
    fn failed_publications_are_bounded_survive_a_restart_and_end_with_a_success() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = HostedLayout::new(dir.path().to_owned());
        let list = FailedPublications::open(&layout).expect("opens");
        for version in 0..30 {
            list.add(failed("acme-x", version)).expect("written");
        }
        list.add(failed("other", 30)).expect("written");
        drop(list);
        let list = FailedPublications::open(&layout).expect("opens");
        let now = Timestamp::from_second(31).expect("a time");
        let of_package = list.of_package("ACME-X", now);
        assert_eq!((of_package.len(), of_package[0].version.as_str()), (MAX_FAILED_OF_PACKAGE, "1.0.29"));
        assert_eq!(of_package[0].reason.len(), MAX_REASON_CHARS);
        list.forget("acme-x", "1.0.29");
        assert_eq!(list.of_package("acme-x", now).len(), MAX_FAILED_OF_PACKAGE - 1);
        let others = (0..MAX_FAILED_PUBLICATIONS).map(|package| failed(&format!("p{package}"), 31)).collect();
        StoredFailures { failed: others }.write(&layout.failed()).expect("written");
        let list = FailedPublications::open(&layout).expect("opens");
        for package in 0..3 {
            list.add(failed(&format!("q{package}"), 31)).expect("written");
        }
        let all = list.all(now);
        assert_eq!(
            (all.len(), &*all[0].package, &*all[MAX_FAILED_PUBLICATIONS - 1].package),
            (MAX_FAILED_PUBLICATIONS, "q2", "p3")
        );
        assert_eq!(list.all(now + MAX_FAILED_AGE), []);
    }
}
