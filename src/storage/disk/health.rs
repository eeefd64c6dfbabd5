//! Whether the disk takes what is written to it.

use std::{array, io, sync::Mutex};

use super::store::lock;

/// What is written: each has a folder or file of its own, and can be in trouble while the others are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskArea {
    /// Bodies that are on their way.
    Spool,
    /// Small files on their way, in the same folder: documents, and what is known of an archive.
    Staging,
    /// Stored archives.
    Blobs,
    /// Stored documents.
    Documents,
    /// The pins journal.
    Pins,
    /// The index.
    Index,
}

/// Number of parts.
const PARTS: usize = 6;

/// The last trouble with writing each part; gone with the next write there that works.
#[derive(Debug)]
pub(super) struct Health {
    trouble: Mutex<[Option<String>; PARTS]>,
}

impl Default for Health {
    fn default() -> Self {
        Self { trouble: Mutex::new(array::from_fn(|_| None)) }
    }
}

impl Health {
    /// Notes how a write went and passes its result on. A failure is trouble with the first of `parts`; a success
    /// proves that all of them can be written.
    pub(super) fn note<T>(&self, parts: &[DiskArea], result: io::Result<T>) -> io::Result<T> {
        match &result {
            Ok(_) => {
                let mut trouble = lock(&self.trouble);
                parts.iter().for_each(|part| trouble[*part as usize] = None);
            }
            Err(error) => self.fails(parts.first().copied().unwrap_or(DiskArea::Index), error),
        }
        result
    }

    /// Notes that a part cannot be written.
    pub(super) fn fails(&self, part: DiskArea, error: &io::Error) {
        let text = match error.kind() {
            io::ErrorKind::StorageFull => "no space on disk".into(),
            _ => format!("the disk cannot be written: {error}"),
        };
        lock(&self.trouble)[part as usize] = Some(text);
    }

    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).iter().flatten().next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_works_clears_only_the_parts_it_has_written() {
        let health = Health::default();
        let full = || Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        assert!(health.note(&[DiskArea::Spool], full()).is_err());
        assert!(health.note(&[DiskArea::Pins, DiskArea::Index], Ok(())).is_ok());
        assert_eq!(health.trouble().as_deref(), Some("no space on disk"));
        assert!(health.note(&[DiskArea::Blobs, DiskArea::Spool, DiskArea::Index], Ok(())).is_ok());
        assert_eq!(health.trouble(), None);
        assert!(health.note(&[DiskArea::Blobs, DiskArea::Spool], full()).is_err());
        assert!(health.note(&[DiskArea::Spool], Ok(())).is_ok());
        assert!(health.trouble().is_some(), "the failure was with the first part");
    }
}
