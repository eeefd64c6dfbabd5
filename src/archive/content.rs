//! The files of a package by their paths, below the zip's top folder.

use super::{
    central::{CentralDirectory, CentralEntry},
    entry_reader::EntryReader,
};
use crate::origin::VerifyError;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentNode {
    File,
    Folder,
    Link,
    Absent,
}

/// The files of a package. Paths have no slash at either end; the empty path is the root.
pub(super) trait Content {
    /// What is at `path`.
    fn node(&self, path: &str) -> ContentNode;

    /// The bytes of the file at `path`; `None` if it is no file or has more than `max_size` bytes.
    ///
    /// # Errors
    /// If the zip cannot be read.
    fn read(&mut self, path: &str, max_size: u64) -> Result<Option<Vec<u8>>, VerifyError>;
}

/// The content of a zip whose entries are verified.
pub(super) struct ZipContent<'a, 'b> {
    pub(super) reader: &'a mut EntryReader<'b>,
    pub(super) central: &'a CentralDirectory,
    /// The zip's top folder, without slash.
    pub(super) top: Option<&'a [u8]>,
    /// [`CentralDirectory::by_name`].
    pub(super) by_name: &'a [u32],
}

impl<'a> ZipContent<'a, '_> {
    /// The first entry, in the order of the names, whose name is not less than `name`.
    fn first_from(&self, name: &[u8]) -> Option<&'a CentralEntry> {
        let entry = |index: &u32| &self.central.entries[*index as usize];
        let place = self.by_name.partition_point(|index| self.central.name(entry(index)) < name);
        self.by_name.get(place).map(entry)
    }

    /// The name in the zip of `path`.
    fn name_of(&self, path: &str) -> Vec<u8> {
        match self.top {
            Some(top) => [top, b"/", path.as_bytes()].concat(),
            None => path.as_bytes().to_vec(),
        }
    }

    fn entry(&self, path: &str) -> Option<&'a CentralEntry> {
        let name = self.name_of(path);
        self.first_from(&name).filter(|entry| self.central.name(entry) == name)
    }
}

impl Content for ZipContent<'_, '_> {
    fn node(&self, path: &str) -> ContentNode {
        if path.is_empty() {
            return ContentNode::Folder;
        }
        match self.entry(path) {
            Some(entry) if entry.is_symlink => ContentNode::Link,
            Some(_) => ContentNode::File,
            None => {
                // The entry of a folder, or one below it.
                let below = [&self.name_of(path)[..], b"/"].concat();
                let first = self.first_from(&below);
                let is_folder = first.is_some_and(|entry| self.central.name(entry).starts_with(&below));
                if is_folder { ContentNode::Folder } else { ContentNode::Absent }
            }
        }
    }

    fn read(&mut self, path: &str, max_size: u64) -> Result<Option<Vec<u8>>, VerifyError> {
        match self.entry(path) {
            Some(entry) if !entry.is_symlink && entry.size <= max_size => {
                self.reader.read_content(entry.offset, entry.packed, max_size)
            }
            _ => Ok(None),
        }
    }
}
