//! Parses the end of a zip: the central directory, the Zip64 records and the end record.

use bytes::Bytes;

use super::{
    MAX_CENTRAL_DIRECTORY_BYTES, archive_reader::read_exact, entry_reader::check_extra, format, invalid, le, le16,
    le32, name, zip64_values,
};
use crate::{
    origin::{Growing, VerifyError},
    value::memory_budget::MemoryShare,
};

/// Bytes at the end of a zip in which the end records are searched: a comment has at most 64 KiB, and the Zip64 records
/// directly precede the end record.
pub(super) const END_SEARCH_BYTES: u64 = 66 << 10;

/// One entry of the central directory.
#[derive(Clone, Debug)]
pub(super) struct CentralEntry {
    /// Position in the tail.
    pub(super) position: u32,
    pub(super) name_len: u16,
    pub(super) extra_len: u16,
    pub(super) comment_len: u16,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    /// Compressed size in bytes.
    pub(super) packed: u64,
    /// Uncompressed size in bytes.
    pub(super) size: u64,
    /// Offset of the local header in the zip.
    pub(super) offset: u64,
    /// True for a symbolic link.
    pub(super) is_symlink: bool,
}

/// The parsed tail of a zip, from the central directory to the last byte.
#[derive(Debug)]
pub struct CentralDirectory {
    /// The bytes of the tail.
    pub(super) tail: Bytes,
    /// Offset of the tail in the zip, which is the end of the last entry.
    pub(super) offset: u64,
    /// The entries in the order of the directory.
    pub(super) entries: Vec<CentralEntry>,
    /// Indices into `entries`, in the order of the offsets.
    pub(super) by_offset: Vec<u32>,
    /// Position of the end records in the tail.
    pub(super) end: usize,
    /// Position of the plain end record in the tail; equal to `end` without a Zip64 record.
    pub(super) plain_end: usize,
}

/// The parsed end records: the plain one, preceded by the Zip64 ones if present.
struct EndRecords {
    /// Position of the first end record.
    start: usize,
    /// Position of the plain end record.
    plain: usize,
    /// Number of entries.
    count: u64,
    /// Offset of the central directory in the zip.
    central: u64,
}

impl CentralDirectory {
    /// Reads and parses the tail of a complete zip of `len` bytes.
    ///
    /// # Errors
    /// If the end records are missing or inconsistent, or if a limit is exceeded.
    pub(super) fn read(
        body: &dyn Growing,
        len: u64,
        max_entries: usize,
        memory: &mut MemoryShare,
    ) -> Result<Self, VerifyError> {
        let mut last = vec![0; len.min(END_SEARCH_BYTES) as usize];
        let last_offset = len - last.len() as u64;
        read_exact(body, &mut last, last_offset)?;
        let end =
            EndRecords::find(&last, last_offset).map_err(|clause| VerifyError::Invalid(format!("the zip {clause}")))?;
        if end.count > max_entries as u64 {
            return invalid(format!("the zip has more than the {max_entries} entries allowed"));
        }
        let tail_len = len - end.central;
        if tail_len > MAX_CENTRAL_DIRECTORY_BYTES {
            return invalid(format!(
                "the zip has a central directory of more than {} MiB",
                MAX_CENTRAL_DIRECTORY_BYTES >> 20
            ));
        }
        memory.grow_to_blocking(memory.bytes() + Self::memory_of(tail_len, end.count))?;
        let mut tail = vec![0; tail_len as usize];
        read_exact(body, &mut tail, end.central)?;
        Self::parse(tail.into(), end.central).map_err(|clause| VerifyError::Invalid(format!("the zip {clause}")))
    }

    /// Bytes that a directory of `tail_len` bytes with `count` entries takes while its zip is examined, the sorted
    /// names and the plan of a view included.
    pub(super) fn memory_of(tail_len: u64, count: u64) -> u64 {
        const ENTRY_BYTES: u64 = 3 * size_of::<CentralEntry>() as u64 + 64;
        let count = count.min(tail_len / format::CENTRAL_LEN as u64);
        tail_len.saturating_add(count.saturating_mul(ENTRY_BYTES))
    }

    /// Finds the offset of the central directory by the last bytes of a zip, which begin at `offset`, and checks the end
    /// records in them.
    ///
    /// # Errors
    /// What is wrong, as the predicate of "the zip".
    pub(super) fn find_offset(last: &[u8], offset: u64) -> Result<u64, &'static str> {
        EndRecords::find(last, offset).map(|end| end.central)
    }

    /// Parses a tail that begins with the central directory, at `offset` in the zip.
    ///
    /// # Errors
    /// What is wrong, as the predicate of "the zip".
    pub(super) fn parse(tail: Bytes, offset: u64) -> Result<Self, &'static str> {
        const BROKEN_DIRECTORY: &str = "has a broken central directory";
        let end = EndRecords::find(&tail, offset)?;
        if end.central != offset {
            return Err(BROKEN_DIRECTORY);
        }
        let directory = &tail[..end.start];
        let mut entries = Vec::with_capacity((end.count as usize).min(directory.len() / format::CENTRAL_LEN));
        let mut position = 0;
        while position < directory.len() && entries.len() as u64 <= end.count {
            let entry = CentralEntry::parse(directory, position).ok_or(BROKEN_DIRECTORY)?;
            let name = entry.name_in(directory);
            name::check(name).and_then(|()| check_extra(name, entry.extra_in(directory)))?;
            position += entry.len();
            entries.push(entry);
        }
        if entries.len() as u64 != end.count {
            return Err("has another number of entries than its end record says");
        }
        let mut by_offset: Vec<u32> = (0..entries.len() as u32).collect();
        by_offset.sort_unstable_by_key(|index| entries[*index as usize].offset);
        let central = Self { tail, offset, entries, by_offset, end: end.start, plain_end: end.plain };
        central.check_layout()?;
        Ok(central)
    }

    /// Checks that the entries begin at the first byte, do not overlap, and end before the central directory.
    fn check_layout(&self) -> Result<(), &'static str> {
        let first = self.by_offset.first().map_or(self.offset, |index| self.entries[*index as usize].offset);
        if first != 0 {
            return Err("has bytes before its first entry");
        }
        for (place, index) in self.by_offset.iter().enumerate() {
            let entry = &self.entries[*index as usize];
            let header_len = (format::LOCAL_LEN + usize::from(entry.name_len)) as u64;
            let min_end = entry.offset.checked_add(header_len).and_then(|data| data.checked_add(entry.packed));
            if min_end.is_none_or(|end| end > self.end_of(place)) {
                return Err("has entries that overlap");
            }
        }
        Ok(())
    }

    /// The end of the entry at `place` in [`CentralDirectory::by_offset`]: the next entry or the directory.
    pub(super) fn end_of(&self, place: usize) -> u64 {
        self.by_offset.get(place + 1).map_or(self.offset, |next| self.entries[*next as usize].offset)
    }

    /// The entries in the order of their offsets.
    pub(super) fn entries_by_offset(&self) -> impl ExactSizeIterator<Item = &CentralEntry> {
        self.by_offset.iter().map(|index| &self.entries[*index as usize])
    }

    /// The raw name of an entry.
    pub(super) fn name(&self, entry: &CentralEntry) -> &[u8] {
        entry.name_in(&self.tail)
    }

    /// Indices into `entries`, in the order of the names.
    pub(super) fn by_name(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_unstable_by_key(|index| self.name(&self.entries[*index as usize]));
        order
    }

    /// The top folder of all entries, without its slash.
    pub(super) fn top_folder(&self) -> Option<&[u8]> {
        name::top_folder(self.entries.iter().map(|entry| self.name(entry)))
    }

    /// The zip's comment.
    pub(super) fn comment(&self) -> &[u8] {
        self.tail.get(self.plain_end + format::END_LEN..).unwrap_or_default()
    }
}

impl CentralEntry {
    /// Parses the entry at `position`; `None` if it is malformed.
    fn parse(directory: &[u8], position: usize) -> Option<Self> {
        let fixed = directory.get(position..position + format::CENTRAL_LEN)?;
        let attributes = le32(fixed, 38);
        let mut entry = Self {
            position: u32::try_from(position).ok()?,
            name_len: le16(fixed, 28),
            extra_len: le16(fixed, 30),
            comment_len: le16(fixed, 32),
            flags: le16(fixed, 8),
            method: le16(fixed, 10),
            crc: le32(fixed, 16),
            packed: le(fixed, 20, 4),
            size: le(fixed, 24, 4),
            offset: le(fixed, 42, 4),
            is_symlink: false,
        };
        if !fixed.starts_with(format::CENTRAL_SIGNATURE) || !matches!(le16(fixed, 34), 0 | 0xffff) {
            return None;
        }
        directory.get(position..position + entry.len())?;
        // Unix (3) and macOS (19) store the file's mode in the upper half; zero means that none was stored.
        let mode = if matches!(fixed[5], 3 | 19) { attributes >> 16 } else { 0 };
        let is_folder = entry.name_in(directory).ends_with(b"/");
        match (mode & 0o170_000, is_folder) {
            (0, _) | (0o100_000, false) | (0o040_000, true) => {}
            (0o120_000, false) => entry.is_symlink = true,
            _ => return None,
        }
        let mut zip64 = zip64_values(entry.extra_in(directory));
        for field in [&mut entry.size, &mut entry.packed, &mut entry.offset] {
            if *field == format::IN_ZIP64 {
                *field = zip64.next()?;
            }
        }
        Some(entry)
    }

    /// Length of the whole entry in bytes.
    pub(super) fn len(&self) -> usize {
        let variable = [self.name_len, self.extra_len, self.comment_len];
        format::CENTRAL_LEN + variable.into_iter().map(usize::from).sum::<usize>()
    }

    fn name_in<'a>(&self, directory: &'a [u8]) -> &'a [u8] {
        let start = self.position as usize + format::CENTRAL_LEN;
        directory.get(start..start + usize::from(self.name_len)).unwrap_or_default()
    }

    fn extra_in<'a>(&self, directory: &'a [u8]) -> &'a [u8] {
        let start = self.position as usize + format::CENTRAL_LEN + usize::from(self.name_len);
        directory.get(start..start + usize::from(self.extra_len)).unwrap_or_default()
    }
}

impl EndRecords {
    /// Finds the end records in the last bytes of a zip, which begin at `offset`.
    ///
    /// The last signature counts and its comment must end the zip: a comment that contains another one would let two
    /// readers see two different zips.
    fn find(bytes: &[u8], offset: u64) -> Result<Self, &'static str> {
        const INCONSISTENT: &str = "has an end record that does not fit";
        let plain = bytes
            .windows(4)
            .rposition(|four| four == format::END_SIGNATURE)
            .ok_or("is cut off: it has no end record")?;
        let record = &bytes[plain..];
        if record.len() < format::END_LEN {
            return Err("is cut off in its end record");
        }
        match (record.len() - format::END_LEN).cmp(&usize::from(le16(record, 20))) {
            std::cmp::Ordering::Less => return Err("is cut off in its comment"),
            std::cmp::Ordering::Greater => return Err("has bytes behind its end"),
            std::cmp::Ordering::Equal => {}
        }
        if !matches!((le16(record, 4), le16(record, 6)), (0 | 0xffff, 0 | 0xffff))
            || le16(record, 8) != le16(record, 10)
        {
            return Err("is one of several disks");
        }
        let mut count = le(record, 10, 2);
        let mut size = le(record, 12, 4);
        let mut central = le(record, 16, 4);
        let mut start = plain;
        let locator = plain.checked_sub(format::LOCATOR64_LEN).map(|locator| &bytes[locator..plain]);
        if let Some(locator) = locator.filter(|locator| locator.starts_with(format::LOCATOR64_SIGNATURE)) {
            let zip64_start = le(locator, 8, 8)
                .checked_sub(offset)
                .and_then(|position| usize::try_from(position).ok())
                .ok_or(INCONSISTENT)?;
            let zip64 = bytes.get(zip64_start..plain - format::LOCATOR64_LEN).ok_or(INCONSISTENT)?;
            let is_valid = zip64.len() >= format::END64_LEN
                && zip64.starts_with(format::END64_SIGNATURE)
                && le(zip64, 4, 8) == zip64.len() as u64 - 12
                && (le32(zip64, 16), le32(zip64, 20)) == (0, 0)
                && le(zip64, 24, 8) == le(zip64, 32, 8);
            // A plain field has the same value, or the marker for "see the Zip64 record".
            let merge = |plain: &mut u64, zip64: u64, marker: u64| {
                let is_consistent = *plain == zip64 || *plain == marker;
                *plain = zip64;
                is_consistent
            };
            if !is_valid
                || !merge(&mut count, le(zip64, 32, 8), 0xffff)
                || !merge(&mut size, le(zip64, 40, 8), format::IN_ZIP64)
                || !merge(&mut central, le(zip64, 48, 8), format::IN_ZIP64)
            {
                return Err(INCONSISTENT);
            }
            start = zip64_start;
        }
        if central.checked_add(size) != offset.checked_add(start as u64) {
            return Err(INCONSISTENT);
        }
        Ok(Self { start, plain, count, central })
    }
}
