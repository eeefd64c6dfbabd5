//! Walks a zip from its first byte, entry by entry, unpacking each to see that it is whole.

use std::hash::{BuildHasher, RandomState};

use flate2::{Decompress, FlushDecompress, Status};

use super::{ZipVerifier, extra_fields, invalid, le, le16, le32, name, sign, source::Source};
use crate::{
    origin::{Growing, VerifyError},
    value::ByteSize,
};

/// Bytes unpacked at once.
const OUT: usize = 128 << 10;

/// One entry as it lies in the zip: what its header says and its data turned out to be.
#[derive(Debug)]
pub(super) struct Local {
    /// Offset of the local header.
    pub(super) offset: u64,
    /// Packed bytes.
    pub(super) packed: u64,
    /// Unpacked bytes.
    pub(super) size: u64,
    /// CRC-32 of the unpacked bytes.
    pub(super) crc: u32,
    pub(super) flags: u16,
    pub(super) method: u16,
    /// [`Walk::hash`] of the name: names are long and this is only compared.
    pub(super) name: u64,
}

/// What a step of the walk came to.
#[derive(Debug)]
pub(super) enum Step {
    /// An entry that is whole.
    Entry(Local),
    /// Only the central directory can say where this entry's data ends (stored, with a descriptor behind it).
    Unsized,
    /// No entry but the beginning of the central directory.
    End,
}

/// A local header.
struct Header {
    /// Its length, name and extra fields included.
    len: usize,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    name: u64,
    folder: bool,
}

/// The walk: where it is and what it has counted so far.
pub(super) struct Walk<'a> {
    source: Source<'a>,
    limits: &'a ZipVerifier,
    inflate: Decompress,
    out: Box<[u8]>,
    hasher: RandomState,
    /// Where the next entry begins.
    at: u64,
    /// Entries that were whole.
    pub(super) entries: usize,
    /// Bytes they unpacked to.
    pub(super) inflated: u64,
}

/// What unpacking an entry's data came to.
struct Measured {
    packed: u64,
    size: u64,
    crc: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(body: &'a dyn Growing, limits: &'a ZipVerifier) -> Self {
        Self {
            source: Source::new(body),
            limits,
            inflate: Decompress::new(false),
            out: vec![0; OUT].into(),
            hasher: RandomState::new(),
            at: 0,
            entries: 0,
            inflated: 0,
        }
    }

    /// Where the next entry, or the central directory, begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// A name as it is compared; seeded at random, so that nobody can make two names look the same.
    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Unpacks the next entry. `packed` is its length by the central directory, where that has been read.
    ///
    /// # Errors
    /// When the entry is not whole, is not allowed, or goes over a limit.
    pub(super) fn entry(&mut self, packed: Option<u64>) -> Result<Step, VerifyError> {
        let offset = self.at;
        self.source.seek(offset);
        let Some(header) = self.header()? else { return Ok(Step::End) };
        if self.entries >= self.limits.max_entries {
            return invalid(format!("the zip has more than the {} entries allowed", self.limits.max_entries));
        }
        let described = header.flags & sign::FLAG_DESCRIPTOR != 0;
        let packed = match (packed, described, header.method) {
            (Some(_), ..) => packed,
            (None, false, _) => Some(header.packed),
            (None, true, sign::DEFLATED) => None,
            (None, true, _) => return Ok(Step::Unsized),
        };
        self.source.consume(header.len);
        let room = self.limits.max_inflated - self.inflated;
        let found = self.unpack(header.method, packed, room, &mut |_| {})?;
        if found.size > room {
            return invalid(format!("the zip unpacks to more than the {} allowed", ByteSize(self.limits.max_inflated)));
        }
        // Behind a descriptor's entry the header has zeroes, or the truth: git writes the size and nothing else.
        let claim = |claimed: u64, found: u64| claimed == found || described && matches!(claimed, 0 | sign::IN_ZIP64);
        if !claim(header.crc.into(), found.crc.into()) {
            return self.wrong("has a wrong CRC");
        }
        if !claim(header.size, found.size) || !claim(header.packed, found.packed) {
            return self.wrong("has another size than its header says");
        }
        if header.folder && found.size != 0 {
            return self.wrong("is a folder with content");
        }
        if described {
            let bytes = self.source.peek(24)?;
            match descriptor_len(bytes, &found) {
                Some(len) => self.source.consume(len),
                None if bytes.len() < 12 => return self.wrong("is cut off"),
                None => return self.wrong("has a wrong CRC or size behind its data"),
            }
        }
        self.at = self.source.offset();
        self.entries += 1;
        self.inflated += found.size;
        let Measured { packed, size, crc } = found;
        let Header { flags, method, name, .. } = header;
        Ok(Step::Entry(Local { offset, packed, size, crc, flags, method, name }))
    }

    /// The unpacked bytes of an entry that was found whole, at most `max` of them, else `None`.
    ///
    /// # Errors
    /// As [`Walk::entry`].
    pub(super) fn content(&mut self, offset: u64, packed: u64, max: u64) -> Result<Option<Vec<u8>>, VerifyError> {
        self.source.seek(offset);
        let Some(header) = self.header()? else { return Ok(None) };
        self.source.consume(header.len);
        let mut content = Vec::new();
        let found = self.unpack(header.method, Some(packed), max, &mut |bytes| content.extend_from_slice(bytes))?;
        Ok((found.size <= max).then_some(content))
    }

    /// Reads a local header without consuming it; `None` where something else begins that may follow the last entry.
    fn header(&mut self) -> Result<Option<Header>, VerifyError> {
        let fixed = self.source.peek(sign::LOCAL_LEN)?;
        let first = fixed.get(..4).unwrap_or_default();
        if [sign::CENTRAL, sign::END, sign::END64].contains(&first) {
            return Ok(None);
        }
        if first.len() == 4 && first != sign::LOCAL {
            return invalid("the zip has bytes that belong to no entry");
        }
        if fixed.len() < sign::LOCAL_LEN {
            return self.wrong("is cut off");
        }
        let flags = le16(fixed, 6);
        let method = le16(fixed, 8);
        let crc = le32(fixed, 14);
        let mut packed = le(fixed, 18, 4);
        let mut size = le(fixed, 22, 4);
        let name_end = sign::LOCAL_LEN + usize::from(le16(fixed, 26));
        let len = name_end + usize::from(le16(fixed, 28));
        if flags & sign::FLAGS_REFUSED != 0 {
            return self.wrong("is encrypted or a patch");
        }
        if !matches!(method, sign::STORED | sign::DEFLATED) {
            return self.wrong("is packed by a method other than stored or deflated");
        }
        let whole = self.source.peek(len)?;
        if whole.len() < len {
            return self.wrong("is cut off");
        }
        let path = &whole[sign::LOCAL_LEN..name_end];
        let extra = &whole[name_end..];
        let judged = name::check(path).and_then(|()| check_extra(path, extra));
        let folder = path.ends_with(b"/");
        let name = self.hasher.hash_one(path);
        if size == sign::IN_ZIP64 || packed == sign::IN_ZIP64 {
            let wide = extra_fields(extra).flatten().find(|(id, ..)| *id == sign::EXTRA_ZIP64);
            let mut wide = wide.map(|(_, data, _)| data).unwrap_or_default().chunks_exact(8).map(|v| le(v, 0, 8));
            for field in [&mut size, &mut packed].into_iter().filter(|field| **field == sign::IN_ZIP64) {
                *field = wide.next().unwrap_or(sign::IN_ZIP64);
            }
        }
        if let Err(clause) = judged {
            return self.wrong(clause);
        }
        Ok(Some(Header { len, flags, method, crc, packed, size, name, folder }))
    }

    /// Consumes an entry's data. Stops early when it unpacks to more than `room`: `size` is then larger than that.
    fn unpack(
        &mut self,
        method: u16,
        packed: Option<u64>,
        room: u64,
        to: &mut dyn FnMut(&[u8]),
    ) -> Result<Measured, VerifyError> {
        let mut crc = crc32fast::Hasher::new();
        let mut taken = 0_u64;
        let mut size = 0_u64;
        self.inflate.reset(false);
        loop {
            let left = packed.map_or(u64::MAX, |packed| packed - taken);
            let input = if left == 0 { &[] } else { self.source.fill()? };
            if left != 0 && input.is_empty() {
                return self.wrong("is cut off");
            }
            let input = &input[..input.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            let mut ended = false;
            let used = if method == sign::STORED {
                crc.update(input);
                to(input);
                size += input.len() as u64;
                ended = input.len() as u64 == left;
                input.len()
            } else {
                let in_before = self.inflate.total_in();
                let out_before = self.inflate.total_out();
                let status = self.inflate.decompress(input, &mut self.out, FlushDecompress::None);
                let made = (self.inflate.total_out() - out_before) as usize;
                let used = (self.inflate.total_in() - in_before) as usize;
                crc.update(&self.out[..made]);
                to(&self.out[..made]);
                size += made as u64;
                match status {
                    Ok(Status::StreamEnd) => ended = true,
                    Ok(_) if made > 0 || used > 0 => {}
                    Ok(_) | Err(_) => return self.wrong("has broken data"),
                }
                used
            };
            self.source.consume(used);
            taken += used as u64;
            if ended && packed.is_some_and(|packed| packed != taken) {
                return self.wrong("has bytes behind its data");
            }
            if ended || size > room {
                return Ok(Measured { packed: taken, size, crc: crc.finalize() });
            }
        }
    }

    /// The verdict on the entry at hand.
    fn wrong<T>(&self, clause: &str) -> Result<T, VerifyError> {
        invalid(format!("entry {} of the zip {clause}", self.entries + 1))
    }
}

/// Looks into the extra fields for a second name, which some unpackers prefer.
///
/// It counts where it has the checksum of the first; elsewhere (in a local header of a flat view, say) it is to be
/// ignored, but as some may not, it must be harmless.
pub(super) fn check_extra(name: &[u8], extra: &[u8]) -> Result<(), &'static str> {
    for field in extra_fields(extra) {
        let Some((id, data, _)) = field else { return Err("has broken extra fields") };
        if id == sign::EXTRA_UNICODE_PATH {
            let second = data.get(5..).ok_or("has broken extra fields")?;
            name::check(second)?;
            if second != name && le32(data, 1) == crc32fast::hash(name) {
                return Err("has two names");
            }
        }
    }
    Ok(())
}

/// Length of the descriptor at the beginning of `bytes`: with signature or without, sizes of 64 bits or of 32.
///
/// The wide form goes first: an empty entry's narrow one is the beginning of its wide one, never the other way round.
fn descriptor_len(bytes: &[u8], found: &Measured) -> Option<usize> {
    [(4, 8), (4, 4), (0, 8), (0, 4)].into_iter().find_map(|(signed, wide)| {
        let len = signed + 4 + 2 * wide;
        let fits = bytes.len() >= len
            && (signed == 0 || bytes.starts_with(sign::DESCRIPTOR))
            && le32(bytes, signed) == found.crc
            && le(bytes, signed + 4, wide) == found.packed
            && le(bytes, signed + 4 + wide, wide) == found.size;
        fits.then_some(len)
    })
}
