//! A reader of zips that shares nothing with the mirror: names, checksums and stored bytes of the entries.

use std::collections::BTreeMap;

/// The entries by their names.
pub(crate) type Entries = BTreeMap<String, ZipEntry>;

/// What a view must not change of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ZipEntry {
    method: u16,
    crc: u32,
    packed: Vec<u8>,
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn size(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(long(bytes, at)?).ok()
}

/// The entries of a zip without zip64; `None` if it is none.
pub(crate) fn read(zip: &[u8]) -> Option<Entries> {
    let end = zip.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    let count = short(zip, end + 10)?;
    let mut at = size(zip, end + 16)?;
    let mut entries = Entries::new();
    for _ in 0..count {
        if zip.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let method = short(zip, at + 10)?;
        let crc = long(zip, at + 16)?;
        let packed = size(zip, at + 20)?;
        let [name, extra, comment] = [28, 30, 32].map(|field| short(zip, at + field).map(usize::from));
        let local = size(zip, at + 42)?;
        let text = String::from_utf8_lossy(zip.get(at + 46..at + 46 + name?)?).into_owned();
        let data = local + 30 + usize::from(short(zip, local + 26)?) + usize::from(short(zip, local + 28)?);
        let packed = zip.get(data..data + packed)?.to_vec();
        entries.insert(text, ZipEntry { method, crc, packed });
        at += 46 + name? + extra? + comment?;
    }
    Some(entries)
}
