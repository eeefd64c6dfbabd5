//! Zips as `git archive` writes them, stored as segments: small files are compressed once, noise is generated on read.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use flate2::{Compression, write::DeflateEncoder};
use sha2::{Digest, Sha256};

/// Largest piece of one read, and the size of one noise chunk, in bytes.
pub const CHUNK: u64 = 64 << 10;
const POOL: usize = 1 << 20;

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn pool() -> &'static Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    BYTES.get_or_init(|| (0..POOL as u64 / 8).flat_map(|i| mix(i).to_le_bytes()).collect::<Vec<u8>>().into())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Incompressible bytes that depend on seed and length only.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    pub seed: u64,
    pub len: u64,
}

impl Noise {
    fn read(self, offset: u64, max: u64) -> Bytes {
        let within = offset % CHUNK;
        let base = mix(self.seed ^ mix(offset / CHUNK)) % (POOL as u64 - CHUNK);
        let take = max.min(CHUNK - within).min(self.len - offset);
        let start = (base + within) as usize;
        pool().slice(start..start + take as usize)
    }
}

/// The content of one file.
#[derive(Clone, Debug)]
pub enum Data {
    Bytes(Bytes),
    Noise(Noise),
}

impl Data {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Noise(noise) => noise.len,
        }
    }

    fn read(&self, offset: u64, max: u64) -> Bytes {
        match self {
            Self::Bytes(bytes) => {
                let end = (offset + max.min(CHUNK)).min(bytes.len() as u64);
                bytes.slice(offset as usize..end as usize)
            }
            Self::Noise(noise) => noise.read(offset, max),
        }
    }

    fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut at = 0;
        while at < self.len() {
            let piece = self.read(at, CHUNK);
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        hasher.finalize()
    }
}

/// A file of a tree; `mode` is git's: 0o100644, 0o100755 or 0o120000.
#[derive(Clone, Debug)]
pub struct File {
    pub mode: u32,
    pub data: Data,
}

/// How a zip is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Deflate level; a file that does not shrink is stored.
    pub level: u32,
    pub stored: bool,
    /// Sizes and CRC follow the data instead of being in the local header.
    pub descriptors: bool,
    /// The CRC of every file is wrong in both headers.
    pub wrong_crc: bool,
    /// Changes the version-needed field, so that repacked zips differ even if the compressed bytes are equal.
    pub repacked: bool,
    /// Without it the files are at the root.
    pub top_folder: bool,
    /// Folders have entries of their own, as `git archive` writes them.
    pub folder_entries: bool,
    pub commit_comment: bool,
}

impl Default for Packing {
    fn default() -> Self {
        Self {
            level: 6,
            stored: false,
            descriptors: false,
            wrong_crc: false,
            repacked: false,
            top_folder: true,
            folder_entries: true,
            commit_comment: true,
        }
    }
}

/// A finished zip that can be read from any offset.
#[derive(Debug)]
pub struct Archive {
    segments: Vec<(u64, Data)>,
    /// Where this part begins in the segments.
    start: u64,
    len: u64,
    sha256: OnceLock<String>,
}

impl Archive {
    /// Wraps bytes that need not be a zip.
    pub fn raw(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self { segments: vec![(0, Data::Bytes(bytes))], start: 0, len, sha256: OnceLock::new() }
    }

    /// The part of `len` bytes from `start`, without a copy.
    pub fn part(&self, start: u64, len: u64) -> Self {
        assert!(start + len <= self.len, "{start} and {len} bytes of {}", self.len);
        Self { segments: self.segments.clone(), start: self.start + start, len, sha256: OnceLock::new() }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// At most `max` bytes from `offset`; empty only at the end.
    pub fn read(&self, offset: u64, max: u64) -> Bytes {
        if offset >= self.len {
            return Bytes::new();
        }
        let max = max.min(self.len - offset);
        let offset = self.start + offset;
        let index = self.segments.partition_point(|(start, _)| *start <= offset) - 1;
        let (start, data) = &self.segments[index];
        data.read(offset - start, max)
    }

    /// The whole zip in memory.
    pub fn bytes(&self) -> Bytes {
        let mut all = Vec::with_capacity(self.len as usize);
        while (all.len() as u64) < self.len {
            all.extend_from_slice(&self.read(all.len() as u64, CHUNK));
        }
        all.into()
    }

    /// SHA-256 in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let mut hasher = Sha256::new();
            let mut at = 0;
            while at < self.len {
                let piece = self.read(at, CHUNK);
                hasher.update(&piece);
                at += piece.len() as u64;
            }
            hex(&hasher.finalize())
        })
    }
}

/// Packs `files` (path and content, in order) below `top`, with `commit` as comment and `mtime` in seconds since 1970.
pub fn pack<'a>(
    top: &str,
    commit: &str,
    mtime: i64,
    files: impl IntoIterator<Item = (&'a String, &'a File)>,
    packing: &Packing,
) -> Arc<Archive> {
    let mut writer = Writer::new(mtime, packing);
    let top = if packing.top_folder { format!("{top}/") } else { String::new() };
    if packing.top_folder && packing.folder_entries {
        writer.folder(&top);
    }
    let mut folders = BTreeSet::new();
    for (path, file) in files {
        for (at, _) in path.match_indices('/') {
            if packing.folder_entries && folders.insert(path[..=at].to_owned()) {
                writer.folder(&format!("{top}{}", &path[..=at]));
            }
        }
        writer.file(&format!("{top}{path}"), file);
    }
    Arc::new(writer.finish(if packing.commit_comment { commit } else { "" }))
}

struct Writer<'a> {
    packing: &'a Packing,
    mtime: i64,
    dos: (u16, u16),
    segments: Vec<(u64, Data)>,
    len: u64,
    open: Vec<u8>,
    central: Vec<u8>,
    entries: u16,
}

struct Entry<'a> {
    name: &'a str,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    creator: u16,
    attributes: u32,
    descriptor: bool,
}

impl<'a> Writer<'a> {
    fn new(mtime: i64, packing: &'a Packing) -> Self {
        let time = jiff::Timestamp::from_second(mtime).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let day = ((time.year() - 1980) as u16) << 9 | (time.month() as u16) << 5 | time.day() as u16;
        let clock = (time.hour() as u16) << 11 | (time.minute() as u16) << 5 | (time.second() as u16 / 2);
        let segments = Vec::new();
        let open = Vec::new();
        let central = Vec::new();
        Self { packing, mtime, dos: (clock, day), segments, len: 0, open, central, entries: 0 }
    }

    fn push(&mut self, data: Data) {
        let len = data.len();
        if len > 0 {
            self.segments.push((self.len, data));
            self.len += len;
        }
    }

    fn seal(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.push(Data::Bytes(open.into()));
    }

    fn folder(&mut self, name: &str) {
        let method = 0;
        let crc = 0;
        let packed = 0;
        let size = 0;
        let creator = 0;
        let attributes = 16;
        let descriptor = false;
        self.headers(&Entry { name, method, crc, packed, size, creator, attributes, descriptor });
    }

    fn file(&mut self, name: &str, file: &File) {
        let mut method = 0;
        let mut body = file.data.clone();
        if let Data::Bytes(plain) = &file.data
            && !self.packing.stored
            && file.mode != 0o120_000
        {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(self.packing.level));
            encoder.write_all(plain).unwrap();
            let deflated = encoder.finish().unwrap();
            if deflated.len() < plain.len() {
                method = 8;
                body = Data::Bytes(deflated.into());
            }
        }
        let crc = file.data.crc() ^ if self.packing.wrong_crc { 0x5a5a_5a5a } else { 0 };
        // git marks only links and executables as made on Unix.
        let (creator, attributes) = match file.mode {
            0o120_000 => (0x0317, 0o120_777 << 16),
            mode if mode & 0o111 != 0 => (0x0317, mode << 16),
            _ => (0, 0),
        };
        let descriptor = self.packing.descriptors;
        let packed = body.len();
        let size = file.data.len();
        self.headers(&Entry { name, method, crc, packed, size, creator, attributes, descriptor });
        if let Data::Bytes(bytes) = &body {
            self.open.extend_from_slice(bytes);
        } else {
            self.seal();
            self.push(body);
        }
        if descriptor {
            self.open.extend_from_slice(b"PK\x07\x08");
            for field in [crc, packed as u32, size as u32] {
                self.open.extend_from_slice(&field.to_le_bytes());
            }
        }
    }

    fn headers(&mut self, entry: &Entry<'_>) {
        let offset = (self.len + self.open.len() as u64) as u32;
        let needed: u16 = if self.packing.repacked { 20 } else { 10 };
        let flags = if entry.descriptor { 8u16 } else { 0 } | if entry.name.is_ascii() { 0 } else { 0x0800 };
        let common = |out: &mut Vec<u8>, late: bool| {
            for field in [needed, flags, entry.method, self.dos.0, self.dos.1] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            let sizes = [entry.crc, entry.packed as u32, entry.size as u32];
            for field in if late { [0; 3] } else { sizes } {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
            out.extend_from_slice(&9u16.to_le_bytes());
        };
        let stamp = [b"UT\x05\x00\x01".as_slice(), &(self.mtime as u32).to_le_bytes()].concat();
        self.open.extend_from_slice(b"PK\x03\x04");
        common(&mut self.open, entry.descriptor);
        self.open.extend_from_slice(entry.name.as_bytes());
        self.open.extend_from_slice(&stamp);

        self.central.extend_from_slice(b"PK\x01\x02");
        self.central.extend_from_slice(&entry.creator.to_le_bytes());
        common(&mut self.central, false);
        self.central.extend_from_slice(&[0; 6]);
        self.central.extend_from_slice(&entry.attributes.to_le_bytes());
        self.central.extend_from_slice(&offset.to_le_bytes());
        self.central.extend_from_slice(entry.name.as_bytes());
        self.central.extend_from_slice(&stamp);
        self.entries += 1;
    }

    fn finish(mut self, comment: &str) -> Archive {
        let start = (self.len + self.open.len() as u64) as u32;
        let central = std::mem::take(&mut self.central);
        self.open.extend_from_slice(&central);
        self.open.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        self.open.extend_from_slice(&self.entries.to_le_bytes());
        self.open.extend_from_slice(&self.entries.to_le_bytes());
        self.open.extend_from_slice(&(central.len() as u32).to_le_bytes());
        self.open.extend_from_slice(&start.to_le_bytes());
        self.open.extend_from_slice(&(comment.len() as u16).to_le_bytes());
        self.open.extend_from_slice(comment.as_bytes());
        self.seal();
        Archive { segments: self.segments, start: 0, len: self.len, sha256: OnceLock::new() }
    }
}
