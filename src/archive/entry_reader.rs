//! Reads the entries of a zip in sequence from its first byte, and unpacks each one to verify it.

use std::hash::{BuildHasher, RandomState};

use flate2::{Decompress, FlushDecompress, Status};

use super::{
    ZipVerifier, archive_reader::ArchiveReader, extra_fields, format, invalid, le, le16, le32, name, zip64_values,
};
use crate::{
    origin::{Growing, VerifyError},
    value::ByteSize,
};

/// Size of the buffer for unpacked data, in bytes.
const INFLATE_BUFFER_BYTES: usize = 128 << 10;

/// One entry as its local header and its data describe it.
#[derive(Debug)]
pub(super) struct LocalEntry {
    /// Offset of the local header.
    pub(super) offset: u64,
    /// Compressed size in bytes.
    pub(super) packed: u64,
    /// Uncompressed size in bytes.
    pub(super) size: u64,
    /// CRC-32 of the uncompressed bytes.
    pub(super) crc: u32,
    pub(super) flags: u16,
    pub(super) method: u16,
    /// [`EntryReader::hash_name`] of the name: names are long and are only compared.
    pub(super) name_hash: u64,
}

/// The result of [`EntryReader::read_entry`].
#[derive(Debug)]
pub(super) enum NextEntry {
    /// A verified entry.
    Verified(LocalEntry),
    /// An entry whose end only the central directory gives: stored, with a data descriptor.
    UnknownSize,
    /// The beginning of the central directory instead of an entry.
    Directory,
}

/// A parsed local header.
struct LocalHeader {
    /// Length of the header with name and extra fields, in bytes.
    len: usize,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    name_hash: u64,
    is_folder: bool,
}

/// Reads entries in sequence. Holds the position and the totals so far.
pub(super) struct EntryReader<'a> {
    body: ArchiveReader<'a>,
    limits: &'a ZipVerifier,
    inflate: Decompress,
    inflate_buffer: Box<[u8]>,
    name_hasher: RandomState,
    /// Offset of the next entry.
    offset: u64,
    /// Number of verified entries.
    entries: usize,
    /// Their total uncompressed size, in bytes.
    inflated: u64,
}

/// Sizes and CRC of an entry's data, as unpacked.
struct UnpackedData {
    packed: u64,
    size: u64,
    crc: u32,
}

impl<'a> EntryReader<'a> {
    pub(super) fn new(body: &'a dyn Growing, limits: &'a ZipVerifier) -> Self {
        Self {
            body: ArchiveReader::new(body),
            limits,
            inflate: Decompress::new(false),
            inflate_buffer: vec![0; INFLATE_BUFFER_BYTES].into(),
            name_hasher: RandomState::new(),
            offset: 0,
            entries: 0,
            inflated: 0,
        }
    }

    /// Offset of the next entry or of the central directory.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Total uncompressed size of the verified entries, in bytes.
    pub(super) fn inflated(&self) -> u64 {
        self.inflated
    }

    /// Hashes a name for comparison. The seed is random, so that no zip can contain a prepared collision.
    pub(super) fn hash_name(&self, name: &[u8]) -> u64 {
        self.name_hasher.hash_one(name)
    }

    /// Unpacks and verifies the next entry. `packed` is its compressed size by the central directory, if that is known.
    ///
    /// # Errors
    /// If the entry is damaged, is not allowed, or exceeds a limit.
    pub(super) fn read_entry(&mut self, packed: Option<u64>) -> Result<NextEntry, VerifyError> {
        let offset = self.offset;
        self.body.seek(offset);
        let Some(header) = self.peek_header()? else { return Ok(NextEntry::Directory) };
        if self.entries >= self.limits.max_entries {
            return invalid(format!("the zip has more than the {} entries allowed", self.limits.max_entries));
        }
        let has_descriptor = header.flags & format::FLAG_DESCRIPTOR != 0;
        let packed = match (packed, has_descriptor, header.method) {
            (Some(_), ..) => packed,
            (None, false, _) => Some(header.packed),
            (None, true, format::METHOD_DEFLATED) => None,
            (None, true, _) => return Ok(NextEntry::UnknownSize),
        };
        self.body.consume(header.len);
        let max_size = self.limits.max_inflated - self.inflated;
        let found = self.unpack(header.method, packed, max_size, &mut |_| {})?;
        if found.size > max_size {
            return invalid(format!("the zip unpacks to more than the {} allowed", ByteSize(self.limits.max_inflated)));
        }
        // With a descriptor, each field of the header is zero or correct: git writes only the size.
        let is_correct =
            |stated: u64, found: u64| stated == found || has_descriptor && matches!(stated, 0 | format::IN_ZIP64);
        if !is_correct(header.crc.into(), found.crc.into()) {
            return self.invalid_entry("has a wrong CRC");
        }
        if !is_correct(header.size, found.size) || !is_correct(header.packed, found.packed) {
            return self.invalid_entry("has another size than its header says");
        }
        if header.is_folder && found.size != 0 {
            return self.invalid_entry("is a folder with content");
        }
        if has_descriptor {
            let bytes = self.body.peek(24)?;
            match descriptor_len(bytes, &found) {
                Some(len) => self.body.consume(len),
                None if bytes.len() < 12 => return self.invalid_entry("is cut off"),
                None => return self.invalid_entry("has a wrong CRC or size behind its data"),
            }
        }
        self.offset = self.body.offset();
        self.entries += 1;
        self.inflated += found.size;
        let UnpackedData { packed, size, crc } = found;
        let LocalHeader { flags, method, name_hash, .. } = header;
        Ok(NextEntry::Verified(LocalEntry { offset, packed, size, crc, flags, method, name_hash }))
    }

    /// Returns the uncompressed bytes of a verified entry; `None` if they are more than `max_size`.
    ///
    /// # Errors
    /// As for [`EntryReader::read_entry`].
    pub(super) fn read_content(
        &mut self,
        offset: u64,
        packed: u64,
        max_size: u64,
    ) -> Result<Option<Vec<u8>>, VerifyError> {
        self.body.seek(offset);
        let Some(header) = self.peek_header()? else { return Ok(None) };
        self.body.consume(header.len);
        let mut content = Vec::new();
        let found =
            self.unpack(header.method, Some(packed), max_size, &mut |bytes| content.extend_from_slice(bytes))?;
        Ok((found.size <= max_size).then_some(content))
    }

    /// Parses a local header without consuming it; `None` at the beginning of the central directory or of an end record.
    fn peek_header(&mut self) -> Result<Option<LocalHeader>, VerifyError> {
        let fixed = self.body.peek(format::LOCAL_LEN)?;
        let signature = fixed.get(..4).unwrap_or_default();
        if [format::CENTRAL_SIGNATURE, format::END_SIGNATURE, format::END64_SIGNATURE].contains(&signature) {
            return Ok(None);
        }
        if signature.len() == 4 && signature != format::LOCAL_SIGNATURE {
            return invalid("the zip has bytes that belong to no entry");
        }
        if fixed.len() < format::LOCAL_LEN {
            return self.invalid_entry("is cut off");
        }
        let flags = le16(fixed, 6);
        let method = le16(fixed, 8);
        let crc = le32(fixed, 14);
        let mut packed = le(fixed, 18, 4);
        let mut size = le(fixed, 22, 4);
        let name_end = format::LOCAL_LEN + usize::from(le16(fixed, 26));
        let len = name_end + usize::from(le16(fixed, 28));
        if flags & format::REJECTED_FLAGS != 0 {
            return self.invalid_entry("is encrypted or a patch");
        }
        if !matches!(method, format::METHOD_STORED | format::METHOD_DEFLATED) {
            return self.invalid_entry("is packed by a method other than stored or deflated");
        }
        let header = self.body.peek(len)?;
        if header.len() < len {
            return self.invalid_entry("is cut off");
        }
        let name = &header[format::LOCAL_LEN..name_end];
        let extra = &header[name_end..];
        let checked = name::check(name).and_then(|()| check_extra(name, extra));
        let is_folder = name.ends_with(b"/");
        let name_hash = self.name_hasher.hash_one(name);
        if size == format::IN_ZIP64 || packed == format::IN_ZIP64 {
            let mut zip64 = zip64_values(extra);
            for field in [&mut size, &mut packed].into_iter().filter(|field| **field == format::IN_ZIP64) {
                *field = zip64.next().unwrap_or(format::IN_ZIP64);
            }
        }
        if let Err(clause) = checked {
            return self.invalid_entry(clause);
        }
        Ok(Some(LocalHeader { len, flags, method, crc, packed, size, name_hash, is_folder }))
    }

    /// Consumes an entry's data and passes the uncompressed bytes to `to`. Stops early above `max_size` bytes; the returned
    /// `size` is then larger than `max_size`.
    fn unpack(
        &mut self,
        method: u16,
        packed: Option<u64>,
        max_size: u64,
        to: &mut dyn FnMut(&[u8]),
    ) -> Result<UnpackedData, VerifyError> {
        let mut crc = crc32fast::Hasher::new();
        let mut taken = 0_u64;
        let mut size = 0_u64;
        self.inflate.reset(false);
        loop {
            let left = packed.map_or(u64::MAX, |packed| packed - taken);
            let input = if left == 0 { &[] } else { self.body.fill()? };
            if left != 0 && input.is_empty() {
                return self.invalid_entry("is cut off");
            }
            let input = &input[..input.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            let mut ended = false;
            let used = if method == format::METHOD_STORED {
                crc.update(input);
                to(input);
                size += input.len() as u64;
                ended = input.len() as u64 == left;
                input.len()
            } else {
                let in_before = self.inflate.total_in();
                let out_before = self.inflate.total_out();
                let status = self.inflate.decompress(input, &mut self.inflate_buffer, FlushDecompress::None);
                let produced = (self.inflate.total_out() - out_before) as usize;
                let used = (self.inflate.total_in() - in_before) as usize;
                crc.update(&self.inflate_buffer[..produced]);
                to(&self.inflate_buffer[..produced]);
                size += produced as u64;
                match status {
                    Ok(Status::StreamEnd) => ended = true,
                    Ok(_) if produced > 0 || used > 0 => {}
                    Ok(_) | Err(_) => return self.invalid_entry("has broken data"),
                }
                used
            };
            self.body.consume(used);
            taken += used as u64;
            if ended && packed.is_some_and(|packed| packed != taken) {
                return self.invalid_entry("has bytes behind its data");
            }
            if ended || size > max_size {
                return Ok(UnpackedData { packed: taken, size, crc: crc.finalize() });
            }
        }
    }

    /// The error for the current entry; `clause` is the predicate of "entry 7 of the zip".
    fn invalid_entry<T>(&self, clause: &str) -> Result<T, VerifyError> {
        invalid(format!("entry {} of the zip {clause}", self.entries + 1))
    }
}

/// Checks the second name that the extra fields may contain, because some unpackers prefer it.
///
/// It is valid only with the checksum of the first name. Otherwise, as in a local header of a flat view, unpackers must
/// ignore it; it is still checked, because some use it.
///
/// # Errors
/// What is wrong, as the predicate of "entry 7 of the zip".
pub(super) fn check_extra(name: &[u8], extra: &[u8]) -> Result<(), &'static str> {
    for field in extra_fields(extra) {
        let Some((id, data)) = field else { return Err("has broken extra fields") };
        if id == format::UNICODE_PATH_EXTRA_FIELD {
            let second = data.get(5..).ok_or("has broken extra fields")?;
            name::check(second)?;
            if second != name && le32(data, 1) == crc32fast::hash(name) {
                return Err("has two names");
            }
        }
    }
    Ok(())
}

/// Length of the data descriptor at the beginning of `bytes`: with or without signature, sizes in 64 or 32 bits.
///
/// The 64-bit form is tried first, because the 32-bit form of an empty entry is a prefix of its 64-bit form.
fn descriptor_len(bytes: &[u8], found: &UnpackedData) -> Option<usize> {
    [(4, 8), (4, 4), (0, 8), (0, 4)].into_iter().find_map(|(signature_len, size_len)| {
        let len = signature_len + 4 + 2 * size_len;
        let matches = bytes.len() >= len
            && (signature_len == 0 || bytes.starts_with(format::DESCRIPTOR_SIGNATURE))
            && le32(bytes, signature_len) == found.crc
            && le(bytes, signature_len + 4, size_len) == found.packed
            && le(bytes, signature_len + 4 + size_len, size_len) == found.size;
        matches.then_some(len)
    })
}
