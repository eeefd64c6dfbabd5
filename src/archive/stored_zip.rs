//! Reads parts of a stored zip: its central directory, and small files that are shown beside the package.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

use super::{
    MAX_CENTRAL_DIRECTORY_BYTES, ZipFacts,
    central::{CentralDirectory, CentralEntry, END_SEARCH_BYTES},
    format, le16,
    view::ViewPlan,
};
use crate::{
    entry::Digest,
    package::FolderPath,
    value::memory_budget::{MemoryShare, MemoryShortage},
};

/// Largest readme that is read, in bytes.
const MAX_README_BYTES: u64 = 256 << 10;
/// Largest `s.yaml` that is read, in bytes.
const MAX_SYAML_BYTES: u64 = 64 << 10;

/// Where the central directory of a stored zip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryFacts {
    /// Its offset in the zip. It ends with the zip.
    pub offset: u64,
    /// SHA-256 of the bytes from there to the end of the zip.
    pub digest: Digest,
}

/// The facts about the flat view of a zip with a top folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlatView {
    /// Length of the view in bytes.
    pub len: u64,
    /// As [`DirectoryFacts::offset`].
    pub central: u64,
    /// As [`DirectoryFacts::digest`].
    pub central_digest: Digest,
}

/// Why a part of a stored zip cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredZipError {
    /// It differs from what was verified.
    #[error("the stored zip is damaged")]
    Damaged,
    /// The zip cannot be read, or ends too early.
    #[error("cannot read the stored zip: {0}")]
    Io(#[from] io::Error),
    /// The memory for requests under way is taken.
    #[error(transparent)]
    NoMemory(#[from] MemoryShortage),
}

/// A small file of a package, shown beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallFile {
    /// `readme.md` in any case, at most 256 KiB.
    Readme,
    /// `s.yaml` or `s.yml`, at most 64 KiB.
    Syaml,
    /// `src/s.yaml` or `src/s.yml`, at most 64 KiB: where applications have it.
    ApplicationSyaml,
}

impl FlatView {
    /// The facts about a planned view.
    pub(super) fn new(central: &CentralDirectory, plan: &ViewPlan) -> Self {
        let DirectoryFacts { offset, digest } = DirectoryFacts::new(central);
        Self { len: plan.len(), central: offset, central_digest: digest }
    }
}

impl DirectoryFacts {
    /// The facts about a parsed directory.
    pub(super) fn new(central: &CentralDirectory) -> Self {
        Self { offset: central.offset, digest: Digest::of(&central.tail) }
    }
}

impl SmallFile {
    /// The `s.yaml` of a package whose `publish.yaml` has this `Type`.
    pub fn syaml_of(kind: Option<&str>) -> Self {
        let is = |name: &str| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(name));
        if is("Application") || is("Project") { Self::ApplicationSyaml } else { Self::Syaml }
    }

    /// True if `name` is the file's name of this preference, 0 or 1.
    fn matches(self, name: &[u8], preference: usize) -> bool {
        match self {
            Self::Readme => preference == 0 && name.eq_ignore_ascii_case(b"readme.md"),
            Self::Syaml => [&b"s.yaml"[..], b"s.yml"].get(preference) == Some(&name),
            Self::ApplicationSyaml => [&b"src/s.yaml"[..], b"src/s.yml"].get(preference) == Some(&name),
        }
    }

    fn max_len(self) -> u64 {
        match self {
            Self::Readme => MAX_README_BYTES,
            Self::Syaml | Self::ApplicationSyaml => MAX_SYAML_BYTES,
        }
    }
}

impl CentralDirectory {
    /// Reads the central directory of a stored zip of `len` bytes, which verification has accepted.
    ///
    /// `read` fills a buffer from an offset of the zip. Reads at most [`MAX_CENTRAL_DIRECTORY_BYTES`]; `memory` grows
    /// by what the directory takes, and must be kept as long as it.
    ///
    /// # Errors
    /// If the directory is damaged, or `read` fails. Facts of earlier releases do not describe the directory of a zip
    /// without a top folder; of that one, only damage to its structure is found.
    pub fn open(
        facts: &ZipFacts,
        len: u64,
        memory: &mut MemoryShare,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> Result<Self, StoredZipError> {
        let known = facts.directory();
        let offset = match known {
            Some(known) => known.offset,
            None => {
                let mut last = vec![0; len.min(END_SEARCH_BYTES) as usize];
                let last_offset = len - last.len() as u64;
                read(&mut last, last_offset)?;
                Self::find_offset(&last, last_offset).map_err(|_| StoredZipError::Damaged)?
            }
        };
        let tail_len = len.checked_sub(offset).filter(|len| *len <= MAX_CENTRAL_DIRECTORY_BYTES);
        let tail_len = tail_len.ok_or(StoredZipError::Damaged)?;
        memory.grow_to_blocking(memory.bytes() + Self::memory_of(tail_len, u64::MAX))?;
        let mut tail = vec![0; tail_len as usize];
        read(&mut tail, offset)?;
        if known.is_some_and(|known| Digest::of(&tail) != known.digest) {
            return Err(StoredZipError::Damaged);
        }
        Self::parse(tail.into(), offset).map_err(|_| StoredZipError::Damaged)
    }

    /// Returns a small file of the content, or of one folder of it; `None` if the zip does not have it, it is larger
    /// than its limit, a link, or not UTF-8.
    ///
    /// `read` fills a buffer from an offset of the zip.
    ///
    /// # Errors
    /// If the file is damaged, or `read` fails.
    pub fn small_file(
        &self,
        file: SmallFile,
        folder: Option<&FolderPath>,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> Result<Option<String>, StoredZipError> {
        let top_len = self.top_folder().map_or(0, |top| top.len() + 1);
        let find = |preference: usize| {
            let is_it = |entry: &&CentralEntry| {
                let name = self.name(entry).get(top_len..);
                let name = match folder {
                    Some(folder) => {
                        name.and_then(|name| name.strip_prefix(folder.as_str().as_bytes())?.strip_prefix(b"/"))
                    }
                    None => name,
                };
                name.is_some_and(|name| file.matches(name, preference))
            };
            self.entries.iter().find(is_it)
        };
        let Some(entry) = (0..2).find_map(find) else { return Ok(None) };
        let content = self.read_file(entry, file.max_len(), read)?;
        Ok(content.and_then(|content| String::from_utf8(content).ok()))
    }

    /// The bytes of a file; `None` if it is a link or has more than `max_len` bytes.
    ///
    /// # Errors
    /// As [`CentralDirectory::small_file`].
    pub(super) fn read_file(
        &self,
        entry: &CentralEntry,
        max_len: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> Result<Option<Vec<u8>>, StoredZipError> {
        // Deflated data is hardly larger than its content: much larger data was crafted.
        if entry.is_symlink || entry.size > max_len || entry.packed > 2 * max_len {
            return Ok(None);
        }
        let mut header = [0; format::LOCAL_LEN];
        read(&mut header, entry.offset)?;
        let data =
            entry.offset + (format::LOCAL_LEN + usize::from(le16(&header, 26)) + usize::from(le16(&header, 28))) as u64;
        if !header.starts_with(format::LOCAL_SIGNATURE) || data + entry.packed > self.offset {
            return Err(StoredZipError::Damaged);
        }
        let mut packed = vec![0; entry.packed as usize];
        read(&mut packed, data)?;
        let content = unpack(entry, packed)
            .filter(|content| content.len() as u64 == entry.size && crc32fast::hash(content) == entry.crc)
            .ok_or(StoredZipError::Damaged)?;
        Ok(Some(content))
    }
}

/// The content of an entry; `None` if its data is broken.
fn unpack(entry: &CentralEntry, packed: Vec<u8>) -> Option<Vec<u8>> {
    if entry.method == format::METHOD_STORED {
        return Some(packed);
    }
    // One byte more than the content: the end of the data is then reached in one call.
    let mut content = Vec::with_capacity(entry.size as usize + 1);
    let status = Decompress::new(false).decompress_vec(&packed, &mut content, FlushDecompress::Finish);
    (status.ok()? == Status::StreamEnd).then_some(content)
}
