//! Builds zips whose every field can be wrong, and bodies that arrive in pieces or fail.

use std::{io, ops::Range};

use parking_lot::Mutex;

use crate::origin::Growing;

/// One entry to build.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) deflate: bool,
    /// A data descriptor after the data: whether it has a signature, and whether its sizes have 64 bits.
    pub(super) descriptor: Option<(bool, bool)>,
    /// Sizes and offset in Zip64 extra fields.
    pub(super) wide: bool,
    /// Unix mode; 0 for an entry made on DOS.
    pub(super) mode: u32,
    /// Further extra fields in both headers.
    pub(super) extra: Vec<u8>,
    pub(super) comment: Vec<u8>,
}

impl Item {
    pub(super) fn new(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            data: data.as_ref().to_vec(),
            deflate: true,
            descriptor: None,
            wide: false,
            mode: 0o100_644,
            extra: Vec::new(),
            comment: Vec::new(),
        }
    }

    pub(super) fn dir(name: impl AsRef<[u8]>) -> Self {
        Self { deflate: false, mode: 0, ..Self::new(name, "") }
    }

    pub(super) fn stored(self) -> Self {
        Self { deflate: false, ..self }
    }

    pub(super) fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    pub(super) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(super) fn described(self, signed: bool, wide: bool) -> Self {
        Self { descriptor: Some((signed, wide)), ..self }
    }

    pub(super) fn extra(self, id: u16, data: &[u8]) -> Self {
        let mut extra = self.extra;
        put(&mut extra, &[(id.into(), 2), (data.len() as u64, 2)]);
        extra.extend_from_slice(data);
        Self { extra, ..self }
    }

    fn packed(&self) -> Vec<u8> {
        if !self.deflate {
            return self.data.clone();
        }
        let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
        io::Write::write_all(&mut packer, &self.data).expect("memory");
        packer.finish().expect("memory")
    }
}

/// A zip and the positions of its parts.
#[derive(Clone, Debug)]
pub(super) struct Zip {
    pub(super) bytes: Vec<u8>,
    /// Offsets of the local headers.
    pub(super) locals: Vec<usize>,
    /// The packed data.
    pub(super) data: Vec<Range<usize>>,
    /// Offsets of the central records.
    pub(super) records: Vec<usize>,
    /// Offset of the central directory.
    pub(super) central: usize,
    /// Offset of the first end record.
    pub(super) end: usize,
    /// Offset of the plain end record.
    pub(super) plain_end: usize,
}

impl Zip {
    /// Overwrites bytes.
    pub(super) fn set(mut self, at: usize, with: &[u8]) -> Self {
        self.bytes[at..at + with.len()].copy_from_slice(with);
        self
    }

    /// Inverts one byte.
    pub(super) fn flip(mut self, at: usize) -> Self {
        self.bytes[at] ^= 0xff;
        self
    }

    /// Overwrites a little-endian number of `len` bytes in local header and central record of an entry.
    pub(super) fn both(self, entry: usize, (local, central): (usize, usize), value: u16) -> Self {
        let local = self.locals[entry] + local;
        let central = self.records[entry] + central;
        self.set(local, &value.to_le_bytes()).set(central, &value.to_le_bytes())
    }

    /// Inserts bytes. The stored offsets are not adjusted.
    pub(super) fn insert(mut self, at: usize, with: &[u8]) -> Self {
        self.bytes.splice(at..at, with.iter().copied());
        self
    }
}

fn put(to: &mut Vec<u8>, fields: &[(u64, usize)]) {
    for (value, len) in fields {
        to.extend_from_slice(&value.to_le_bytes()[..*len]);
    }
}

/// Builds a zip, with Zip64 end records if an entry is wide.
pub(super) fn build(items: &[Item], comment: &[u8]) -> Zip {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    let mut records = Vec::new();
    let mut locals = Vec::new();
    let mut data = Vec::new();
    for item in items {
        let packed = item.packed();
        let crc = u64::from(crc32fast::hash(&item.data));
        let offset = bytes.len() as u64;
        let utf8 = std::str::from_utf8(&item.name).is_ok() && !item.name.is_ascii();
        let flags = u64::from(utf8) << 11 | u64::from(item.descriptor.is_some()) << 3;
        let method = if item.deflate { 8 } else { 0 };
        let sizes = (packed.len() as u64, item.data.len() as u64);
        let hidden = if item.descriptor.is_some() { (0, 0, 0) } else { (crc, sizes.0, sizes.1) };
        let none = 0xffff_ffff;
        let narrow = |pair: (u64, u64)| if item.wide { (none, none) } else { pair };
        let mut local_extra = item.extra.clone();
        let mut central_extra = item.extra.clone();
        if item.wide {
            put(&mut local_extra, &[(1, 2), (16, 2), (hidden.2, 8), (hidden.1, 8)]);
            put(&mut central_extra, &[(1, 2), (24, 2), (sizes.1, 8), (sizes.0, 8), (offset, 8)]);
        }
        let stamp = [(0x6c21, 2), (0x5a2b, 2)];
        let shown = narrow((hidden.1, hidden.2));
        locals.push(bytes.len());
        put(&mut bytes, &[(0x0403_4b50, 4), (20, 2), (flags, 2), (method, 2)]);
        put(&mut bytes, &stamp);
        put(&mut bytes, &[(hidden.0, 4), (shown.0, 4), (shown.1, 4)]);
        put(&mut bytes, &[(item.name.len() as u64, 2), (local_extra.len() as u64, 2)]);
        bytes.extend_from_slice(&[&item.name[..], &local_extra].concat());
        data.push(bytes.len()..bytes.len() + packed.len());
        bytes.extend_from_slice(&packed);
        if let Some((signed, wide)) = item.descriptor {
            put(&mut bytes, if signed { &[(0x0807_4b50, 4)] } else { &[] });
            let len = if wide { 8 } else { 4 };
            put(&mut bytes, &[(crc, 4), (sizes.0, len), (sizes.1, len)]);
        }
        let shown = narrow(sizes);
        records.push(directory.len());
        let made_by = if item.mode == 0 { 20 } else { 0x0317 };
        put(&mut directory, &[(0x0201_4b50, 4), (made_by, 2), (20, 2), (flags, 2), (method, 2)]);
        put(&mut directory, &stamp);
        put(&mut directory, &[(crc, 4), (shown.0, 4), (shown.1, 4), (item.name.len() as u64, 2)]);
        put(&mut directory, &[(central_extra.len() as u64, 2), (item.comment.len() as u64, 2), (0, 4)]);
        let offset = if item.wide { none } else { offset };
        put(&mut directory, &[(u64::from(item.mode) << 16, 4), (offset, 4)]);
        directory.extend_from_slice(&[&item.name[..], &central_extra, &item.comment].concat());
    }
    let central = bytes.len();
    let size = directory.len() as u64;
    let count = items.len() as u64;
    let records = records.into_iter().map(|at| at + central).collect();
    bytes.extend_from_slice(&directory);
    let end = bytes.len();
    let wide = items.iter().any(|item| item.wide);
    if wide {
        put(&mut bytes, &[(0x0606_4b50, 4), (44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (count, 8), (count, 8)]);
        put(&mut bytes, &[(size, 8), (central as u64, 8)]);
        put(&mut bytes, &[(0x0706_4b50, 4), (0, 4), (end as u64, 8), (1, 4)]);
    }
    let plain_end = bytes.len();
    let shown = if wide { (0xffff, 0xffff_ffff, 0xffff_ffff) } else { (count, size, central as u64) };
    put(&mut bytes, &[(0x0605_4b50, 4), (0, 2), (0, 2), (shown.0, 2), (shown.0, 2), (shown.1, 4), (shown.2, 4)]);
    put(&mut bytes, &[(comment.len() as u64, 2)]);
    bytes.extend_from_slice(comment);
    Zip { bytes, locals, data, records, central, end, plain_end }
}

/// Entries as a forge sends them: a top folder, texts, a script, a link, non-ASCII names and `publish.yaml`.
pub(super) fn usual() -> Vec<Item> {
    let text = "line of text, again and again\n".repeat(4_000);
    vec![
        Item::dir("o-r-12b27ab/").extra(0x5455, &[1, 1, 2, 3, 4]),
        Item::new("o-r-12b27ab/README.md", &text).extra(0x5455, &[1, 1, 2, 3, 4]),
        Item::new("o-r-12b27ab/publish.yaml", "Type: Component\nName: fc3\nTags: [FC, http]\n"),
        Item::dir("o-r-12b27ab/src/"),
        Item::new("o-r-12b27ab/src/run.sh", "#!/bin/sh\necho run\n").mode(0o100_755),
        Item::new("o-r-12b27ab/src/empty", "").stored(),
        Item::new("o-r-12b27ab/src/link", "../README.md").stored().mode(0o120_777),
        Item::new("o-r-12b27ab/\u{6587}\u{4ef6}.txt", "\u{4f60}\u{597d}").stored(),
    ]
}

/// A body that arrives in steps of random length and may fail.
pub(super) struct Drip {
    bytes: Vec<u8>,
    /// The download fails at this offset.
    fail_at: Option<u64>,
    /// Longest step in bytes; a small generator gives the next length.
    step: u64,
    state: Mutex<u64>,
}

impl Drip {
    pub(super) fn new(bytes: &[u8], step: u64) -> Self {
        Self { bytes: bytes.to_vec(), fail_at: None, step, state: Mutex::new(step | 1) }
    }

    pub(super) fn failing_at(self, offset: usize) -> Self {
        Self { fail_at: Some(offset as u64), ..self }
    }
}

impl Growing for Drip {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = self.fail_at.unwrap_or(self.bytes.len() as u64);
        if offset >= end {
            return if self.fail_at.is_some() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(0) };
        }
        let len = (1 + (*state >> 33) % self.step).min(end - offset).min(buf.len() as u64) as usize;
        buf[..len].copy_from_slice(&self.bytes[offset as usize..offset as usize + len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        if self.fail_at.is_some() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(self.bytes.len() as u64)
    }
}
