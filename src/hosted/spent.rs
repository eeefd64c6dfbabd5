//! Upload addresses that were used: a file marks each as spent before its zip is judged, and only one caller can make it.
//!
//! An address holds for a reservation, and reservations end with the process, so a start removes every mark.

use std::{collections::VecDeque, fs, io, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{durable_files::DurableFiles, layout::HostedLayout};

/// Most marks; beyond that, the oldest is removed. Its reservation has ended, so its address stays unusable.
const MAX_SPENT_MARKS: usize = 10_000;

/// The marks of one directory.
#[derive(Debug)]
pub(crate) struct SpentUploads {
    folder: PathBuf,
    files: Arc<DurableFiles>,
    /// The ids of the marks with the time until which each is needed, the oldest first.
    marks: Mutex<VecDeque<(Timestamp, String)>>,
}

impl SpentUploads {
    /// Removes the marks of an earlier process. Blocks.
    ///
    /// # Errors
    /// When the file system fails.
    pub(super) fn open(layout: &HostedLayout, files: &Arc<DurableFiles>) -> io::Result<Self> {
        let folder = layout.spent();
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, files: files.clone(), marks: Mutex::default() })
    }

    /// Marks a reservation's address as spent until it expires. `id` has letters and digits only. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when it is spent; the file system's error.
    pub(crate) fn mark(&self, id: &str, expires_at: Timestamp, now: Timestamp) -> io::Result<()> {
        let file = self.files.create(&self.folder.join(id))?;
        self.files.sync(&file)?;
        self.files.sync_folder(&self.folder)?;
        let mut marks = self.marks.lock();
        marks.push_back((expires_at, id.to_owned()));
        while marks.len() > MAX_SPENT_MARKS || marks.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, oldest)) = marks.pop_front() else { break };
            // The next start removes one that stays.
            let _ = self.files.remove(&self.folder.join(oldest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn an_address_is_spent_once_and_its_mark_is_removed_when_it_has_expired_and_at_a_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = HostedLayout::new(dir.path().to_owned());
        let files = Arc::new(DurableFiles::default());
        let spent = SpentUploads::open(&layout, &files).expect("opens");
        let count = || fs::read_dir(layout.spent()).expect("a folder").count();
        let start = Timestamp::UNIX_EPOCH;
        let end = start + SignedDuration::from_secs(10);
        spent.mark("a", end, start).expect("the first");
        let again = spent.mark("a", end, start).expect_err("the second");
        assert_eq!((again.kind(), count()), (io::ErrorKind::AlreadyExists, 1));
        spent.mark("b", end + SignedDuration::from_secs(10), end).expect("another");
        assert_eq!(count(), 1);
        SpentUploads::open(&layout, &files).expect("opens");
        assert_eq!(count(), 0);
    }
}
