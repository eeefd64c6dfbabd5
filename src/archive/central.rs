//! The end of a zip: end record, Zip64 records and the central directory.

use bytes::Bytes;

use super::{
    MAX_CENTRAL_DIRECTORY_BYTES, extra_fields, invalid, le, le16, le32, local::check_extra, name, sign,
    source::read_exact,
};
use crate::origin::{Growing, VerifyError};

/// Where the end record is looked for: its comment has at most 64 KiB, and the Zip64 records stand right before it.
const WINDOW: u64 = 66 << 10;

/// One entry as the central directory has it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Where the record begins in the tail.
    pub(super) at: u32,
    pub(super) name_len: u16,
    pub(super) extra_len: u16,
    pub(super) comment_len: u16,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    /// Packed bytes.
    pub(super) packed: u64,
    /// Unpacked bytes.
    pub(super) size: u64,
    /// Offset of the local header.
    pub(super) offset: u64,
    pub(super) link: bool,
}

/// The tail of a zip, from the central directory to the last byte, parsed.
#[derive(Debug)]
pub(super) struct Central {
    /// The bytes.
    pub(super) tail: Bytes,
    /// Offset of the tail in the zip, which is where the last entry ends.
    pub(super) at: u64,
    /// The entries in the directory's own order.
    pub(super) records: Vec<Record>,
    /// Indices of the entries by offset.
    pub(super) by_offset: Vec<u32>,
    /// Where the end records begin in the tail.
    pub(super) end: usize,
    /// Where the plain end record begins in the tail; `end` where there is no Zip64 one.
    pub(super) plain_end: usize,
}

/// The end records: where they are and what they say.
struct End {
    /// Position of the first of them.
    start: usize,
    /// Position of the plain one.
    plain: usize,
    /// Number of entries.
    count: u64,
    /// Offset of the central directory in the zip.
    central: u64,
}

impl Central {
    /// Reads and parses the end of a complete zip of `len` bytes.
    ///
    /// # Errors
    /// When the end is not there, is not consistent, or goes over a limit.
    pub(super) fn read(body: &dyn Growing, len: u64, max_entries: usize) -> Result<Self, VerifyError> {
        let mut window = vec![0; len.min(WINDOW) as usize];
        let window_at = len - window.len() as u64;
        read_exact(body, &mut window, window_at)?;
        let end = End::find(&window, window_at).map_err(|clause| VerifyError::Invalid(format!("the zip {clause}")))?;
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
        let mut tail = vec![0; tail_len as usize];
        read_exact(body, &mut tail, end.central)?;
        Self::parse(tail.into(), end.central).map_err(|clause| VerifyError::Invalid(format!("the zip {clause}")))
    }

    /// That the last bytes of a zip, which begin at offset `at`, have end records that fit.
    ///
    /// # Errors
    /// What is wrong, to stand after "the zip".
    pub(super) fn check_end(last: &[u8], at: u64) -> Result<(), &'static str> {
        End::find(last, at).map(drop)
    }

    /// Parses a tail that begins at offset `at` with the central directory.
    ///
    /// # Errors
    /// What is wrong, to stand after "the zip".
    pub(super) fn parse(tail: Bytes, at: u64) -> Result<Self, &'static str> {
        const BROKEN: &str = "has a broken central directory";
        let end = End::find(&tail, at)?;
        if end.central != at {
            return Err(BROKEN);
        }
        let directory = &tail[..end.start];
        let mut records = Vec::with_capacity((end.count as usize).min(directory.len() / sign::CENTRAL_LEN));
        let mut position = 0;
        while position < directory.len() && records.len() as u64 <= end.count {
            let record = Record::parse(directory, position).ok_or(BROKEN)?;
            let name = record.name_in(directory);
            name::check(name).and_then(|()| check_extra(name, record.extra_in(directory)))?;
            position += record.len();
            records.push(record);
        }
        if records.len() as u64 != end.count {
            return Err("has another number of entries than its end record says");
        }
        let mut by_offset: Vec<u32> = (0..records.len() as u32).collect();
        by_offset.sort_unstable_by_key(|index| records[*index as usize].offset);
        let central = Self { tail, at, records, by_offset, end: end.start, plain_end: end.plain };
        central.check_layout()?;
        Ok(central)
    }

    /// That the entries begin at the first byte, do not overlap and end before the central directory.
    fn check_layout(&self) -> Result<(), &'static str> {
        let first = self.by_offset.first().map_or(self.at, |index| self.records[*index as usize].offset);
        if first != 0 {
            return Err("has bytes before its first entry");
        }
        for (place, index) in self.by_offset.iter().enumerate() {
            let record = &self.records[*index as usize];
            let head = (sign::LOCAL_LEN + usize::from(record.name_len)) as u64;
            let least = record.offset.checked_add(head).and_then(|data| data.checked_add(record.packed));
            if least.is_none_or(|least| least > self.end_of(place)) {
                return Err("has entries that overlap");
            }
        }
        Ok(())
    }

    /// Where the region of the entry at `place` of [`Central::by_offset`] ends: at the next one, or at the directory.
    pub(super) fn end_of(&self, place: usize) -> u64 {
        self.by_offset.get(place + 1).map_or(self.at, |next| self.records[*next as usize].offset)
    }

    /// The entries in the order of their offsets.
    pub(super) fn in_place(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.by_offset.iter().map(|index| &self.records[*index as usize])
    }

    /// The raw name of an entry.
    pub(super) fn name(&self, record: &Record) -> &[u8] {
        record.name_in(&self.tail)
    }

    /// Indices of the entries by name.
    pub(super) fn by_name(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.records.len() as u32).collect();
        order.sort_unstable_by_key(|index| self.name(&self.records[*index as usize]));
        order
    }

    /// The folder that everything is in, without its slash.
    pub(super) fn top(&self) -> Option<&[u8]> {
        name::top(self.records.iter().map(|record| self.name(record)))
    }

    /// The zip's comment.
    pub(super) fn comment(&self) -> &[u8] {
        self.tail.get(self.plain_end + sign::END_LEN..).unwrap_or_default()
    }
}

impl Record {
    /// Parses the record at `at`; `None` when it is broken.
    fn parse(directory: &[u8], at: usize) -> Option<Self> {
        let fixed = directory.get(at..at + sign::CENTRAL_LEN)?;
        let attributes = le32(fixed, 38);
        let mut record = Self {
            at: u32::try_from(at).ok()?,
            name_len: le16(fixed, 28),
            extra_len: le16(fixed, 30),
            comment_len: le16(fixed, 32),
            flags: le16(fixed, 8),
            method: le16(fixed, 10),
            crc: le32(fixed, 16),
            packed: le(fixed, 20, 4),
            size: le(fixed, 24, 4),
            offset: le(fixed, 42, 4),
            link: false,
        };
        if !fixed.starts_with(sign::CENTRAL) || !matches!(le16(fixed, 34), 0 | 0xffff) {
            return None;
        }
        directory.get(at..at + record.len())?;
        // Unix (3) and macOS (19) keep the file's mode in the upper half; zero there means nothing was kept.
        let mode = if matches!(fixed[5], 3 | 19) { attributes >> 16 } else { 0 };
        let folder = record.name_in(directory).ends_with(b"/");
        match (mode & 0o170_000, folder) {
            (0, _) | (0o100_000, false) | (0o040_000, true) => {}
            (0o120_000, false) => record.link = true,
            _ => return None,
        }
        let wide = extra_fields(record.extra_in(directory)).flatten().find(|(id, ..)| *id == sign::EXTRA_ZIP64);
        let mut wide = wide.map(|(_, data, _)| data).unwrap_or_default().chunks_exact(8).map(|v| le(v, 0, 8));
        for field in [&mut record.size, &mut record.packed, &mut record.offset] {
            if *field == sign::IN_ZIP64 {
                *field = wide.next()?;
            }
        }
        Some(record)
    }

    /// Bytes of the whole record.
    pub(super) fn len(&self) -> usize {
        let tail = [self.name_len, self.extra_len, self.comment_len];
        sign::CENTRAL_LEN + tail.into_iter().map(usize::from).sum::<usize>()
    }

    fn name_in<'a>(&self, directory: &'a [u8]) -> &'a [u8] {
        let start = self.at as usize + sign::CENTRAL_LEN;
        directory.get(start..start + usize::from(self.name_len)).unwrap_or_default()
    }

    fn extra_in<'a>(&self, directory: &'a [u8]) -> &'a [u8] {
        let start = self.at as usize + sign::CENTRAL_LEN + usize::from(self.name_len);
        directory.get(start..start + usize::from(self.extra_len)).unwrap_or_default()
    }
}

impl End {
    /// Finds the end records in the last bytes of a zip, which begin at offset `at`.
    ///
    /// The last signature is the one: a comment that has it could make two readers see two different zips.
    fn find(bytes: &[u8], at: u64) -> Result<Self, &'static str> {
        const WRONG: &str = "has an end record that does not fit";
        let plain = bytes.windows(4).rposition(|four| four == sign::END).ok_or("is cut off: it has no end record")?;
        let record = &bytes[plain..];
        if record.len() < sign::END_LEN {
            return Err("is cut off in its end record");
        }
        match (record.len() - sign::END_LEN).cmp(&usize::from(le16(record, 20))) {
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
        let locator = plain.checked_sub(sign::LOCATOR64_LEN).map(|locator| &bytes[locator..plain]);
        if let Some(locator) = locator.filter(|locator| locator.starts_with(sign::LOCATOR64)) {
            let wide_at = le(locator, 8, 8).checked_sub(at).and_then(|at| usize::try_from(at).ok()).ok_or(WRONG)?;
            let wide = bytes.get(wide_at..plain - sign::LOCATOR64_LEN).ok_or(WRONG)?;
            let fits = wide.len() >= sign::END64_LEN
                && wide.starts_with(sign::END64)
                && le(wide, 4, 8) == wide.len() as u64 - 12
                && (le32(wide, 16), le32(wide, 20)) == (0, 0)
                && le(wide, 24, 8) == le(wide, 32, 8);
            // A plain field has the same value, or says that the wide one has it.
            let agree = |plain: &mut u64, wide: u64, none: u64| {
                let same = *plain == wide || *plain == none;
                *plain = wide;
                same
            };
            if !fits
                || !agree(&mut count, le(wide, 32, 8), 0xffff)
                || !agree(&mut size, le(wide, 40, 8), sign::IN_ZIP64)
                || !agree(&mut central, le(wide, 48, 8), sign::IN_ZIP64)
            {
                return Err(WRONG);
            }
            start = wide_at;
        }
        if central.checked_add(size) != at.checked_add(start as u64) {
            return Err(WRONG);
        }
        Ok(Self { start, plain, count, central })
    }
}
