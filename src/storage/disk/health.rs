//! Health of the cache directory: which areas the disk fails to write.

use std::{array, io};

use parking_lot::Mutex;

/// A part of the cache directory. Each has its own folder or file, and can fail while the others work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskArea {
    /// Bodies that are being downloaded.
    Spool,
    /// Small files before their rename, in the spool folder: documents and sidecars.
    Staging,
    /// Stored archives.
    Blobs,
    /// Stored documents.
    Documents,
    /// The pins journal and the file of recorded sources.
    Pins,
    /// The index.
    Index,
}

/// Number of areas.
const DISK_AREAS: usize = 6;

/// The last write failure of each area; the next successful write in that area clears it.
#[derive(Debug)]
pub(super) struct DiskHealth {
    failures: Mutex<[Option<String>; DISK_AREAS]>,
}

impl Default for DiskHealth {
    fn default() -> Self {
        Self { failures: Mutex::new(array::from_fn(|_| None)) }
    }
}

impl DiskHealth {
    /// Records the result of a write and returns it. An error is a failure of the first of `areas`; a success proves
    /// that all of them can be written.
    pub(super) fn record<T>(&self, areas: &[DiskArea], result: io::Result<T>) -> io::Result<T> {
        match &result {
            Ok(_) => {
                let mut failures = self.failures.lock();
                areas.iter().for_each(|area| failures[*area as usize] = None);
            }
            Err(error) => self.record_failure(areas.first().copied().unwrap_or(DiskArea::Index), error),
        }
        result
    }

    /// Records that an area cannot be written.
    pub(super) fn record_failure(&self, area: DiskArea, error: &io::Error) {
        let text = match error.kind() {
            io::ErrorKind::StorageFull => "no space on disk".into(),
            _ => format!("the disk cannot be written: {error}"),
        };
        self.failures.lock()[area as usize] = Some(text);
    }

    /// The failure of the first area that has one, in words.
    pub(super) fn failure(&self) -> Option<String> {
        self.failures.lock().iter().flatten().next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successful_write_clears_only_the_areas_it_wrote() {
        let health = DiskHealth::default();
        let full = || Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        assert!(health.record(&[DiskArea::Spool], full()).is_err());
        assert!(health.record(&[DiskArea::Pins, DiskArea::Index], Ok(())).is_ok());
        assert_eq!(health.failure().as_deref(), Some("no space on disk"));
        assert!(health.record(&[DiskArea::Blobs, DiskArea::Spool, DiskArea::Index], Ok(())).is_ok());
        assert_eq!(health.failure(), None);
        assert!(health.record(&[DiskArea::Blobs, DiskArea::Spool], full()).is_err());
        assert!(health.record(&[DiskArea::Spool], Ok(())).is_ok());
        assert!(health.failure().is_some(), "the failure was in the first area");
    }
}
