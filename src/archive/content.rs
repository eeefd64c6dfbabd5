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

    /// True if a file or link at the root has this name in any case.
    fn has_file_in_any_case(&self, name: &str) -> bool;

    /// The bytes of the file at `path`; `None` if it is no file or has more than `max_size` bytes.
    ///
    /// # Errors
    /// If the zip cannot be read.
    fn read(&mut self, path: &str, max_size: u64) -> Result<Option<Vec<u8>>, VerifyError>;
}

/// The entries of a zip below one folder, found by their paths.
pub(super) struct ContentIndex<'a> {
    central: &'a CentralDirectory,
    /// [`CentralDirectory::by_name`].
    by_name: &'a [u32],
    /// What the names of all entries begin with: empty, or with a slash at its end.
    root: Vec<u8>,
}

impl<'a> ContentIndex<'a> {
    /// The entries below the zip's top folder, if it has one, and in it below `folder`.
    pub(super) fn new(central: &'a CentralDirectory, by_name: &'a [u32], folder: Option<&str>) -> Self {
        let parts = central.top_folder().into_iter().chain(folder.map(str::as_bytes));
        let root = parts.flat_map(|part| [part, b"/"].concat()).collect();
        Self { central, by_name, root }
    }

    /// The first entry, in the order of the names, whose name is not less than `name`.
    fn first_from(&self, name: &[u8]) -> Option<&'a CentralEntry> {
        let entry = |index: &u32| &self.central.entries[*index as usize];
        let place = self.by_name.partition_point(|index| self.central.name(entry(index)) < name);
        self.by_name.get(place).map(entry)
    }

    /// The name in the zip of `path`.
    fn name_of(&self, path: &str) -> Vec<u8> {
        [&self.root[..], path.as_bytes()].concat()
    }

    /// True if there is no entry but that of the folder itself.
    pub(super) fn is_empty(&self) -> bool {
        let below = |index: &u32| self.central.name(&self.central.entries[*index as usize]);
        let place = self.by_name.partition_point(|index| below(index) <= &self.root[..]);
        self.by_name.get(place).is_none_or(|index| !below(index).starts_with(&self.root))
    }

    /// The entry of the file or link at `path`.
    pub(super) fn entry(&self, path: &str) -> Option<&'a CentralEntry> {
        let name = self.name_of(path);
        self.first_from(&name).filter(|entry| self.central.name(entry) == name)
    }

    /// As [`Content::has_file_in_any_case`].
    pub(super) fn has_file_in_any_case(&self, name: &str) -> bool {
        let below_root = |index: &u32| self.central.name(&self.central.entries[*index as usize]);
        let first = self.by_name.partition_point(|index| below_root(index) < &self.root[..]);
        let mut names = self.by_name[first..].iter().map_while(|index| below_root(index).strip_prefix(&self.root[..]));
        names.any(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// What is at `path`.
    pub(super) fn node(&self, path: &str) -> ContentNode {
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
}

/// The content of a zip whose entries are verified.
pub(super) struct ZipContent<'a, 'b> {
    pub(super) reader: &'a mut EntryReader<'b>,
    pub(super) index: ContentIndex<'a>,
}

impl Content for ZipContent<'_, '_> {
    fn node(&self, path: &str) -> ContentNode {
        self.index.node(path)
    }

    fn has_file_in_any_case(&self, name: &str) -> bool {
        self.index.has_file_in_any_case(name)
    }

    fn read(&mut self, path: &str, max_size: u64) -> Result<Option<Vec<u8>>, VerifyError> {
        match self.index.entry(path) {
            Some(entry) if !entry.is_symlink && entry.size <= max_size => {
                self.reader.read_content(entry.offset, entry.packed, max_size)
            }
            _ => Ok(None),
        }
    }
}
