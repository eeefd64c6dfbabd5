//! Fuzz targets: zips, and views of them.

use std::{io, ops::Range};

use bytes::Bytes;

use super::{
    CentralDirectory, ZipFacts, ZipVerifier, format, le16,
    view::{TopFolder, ViewPlan, ViewSlice, ViewSpec},
};
use crate::{
    entry::Verified,
    origin::{Growing, Verify as _},
    value::memory_budget::MemoryBudget,
};

/// A complete body that returns at most so many bytes per read.
struct SlowBody<'a>(&'a [u8], usize);

impl Growing for SlowBody<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buf.len()).min(self.1);
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

fn verify(zip: &[u8], step: usize) -> Option<Verified> {
    let verifier = ZipVerifier { max_entries: 1000, max_inflated: 1 << 24, memory: MemoryBudget::unlimited() };
    verifier.verify(&SlowBody(zip, step)).ok()
}

/// The bytes of a zip.
///
/// # Panics
/// When the verdict depends on how the bytes arrive, or a view of an accepted zip is none.
pub fn zip_reader(data: &[u8]) {
    let verified = verify(data, usize::MAX);
    assert_eq!(verify(data, 7), verified);
    if let Some(verified) = verified {
        check_views(data, &verified);
    }
}

/// What a zip is made of: for each entry a byte of choices, the length of its name, the name, and a length of its data.
///
/// # Panics
/// As [`zip_reader`].
pub fn view_plans(data: &[u8]) {
    let zip = build(data);
    if let Some(verified) = verify(&zip, usize::MAX) {
        check_views(&zip, &verified);
    }
}

fn check_views(zip: &[u8], verified: &Verified) {
    let facts = ZipFacts::from_value(&verified.facts).expect("facts are read back");
    let mut memory = MemoryBudget::unlimited().share();
    let read = |buf: &mut [u8], offset: u64| SlowBody(zip, usize::MAX).read_at(buf, offset).map(drop);
    let central = CentralDirectory::open(&facts, zip.len() as u64, &mut memory, read).expect("a verified zip opens");
    let top = TopFolder::of_version("name", "1.0.0");
    let mut specs = vec![ViewSpec::Flat, ViewSpec::Foldered { top: top.clone() }];
    for entry in central.entries.iter().take(4) {
        let name = String::from_utf8_lossy(central.name(entry)).into_owned();
        let below = match central.top_folder() {
            Some(_) => name.split_once('/').map(|(_, rest)| rest.to_owned()).unwrap_or_default(),
            None => name,
        };
        if let Some((folder, _)) = below.rsplit_once('/')
            && let Ok(path) = folder.parse()
        {
            specs.push(ViewSpec::Folder { path, top: None });
            let path = folder.parse().expect("parsed before");
            specs.push(ViewSpec::Folder { path, top: Some(top.clone()) });
        }
    }
    for spec in &specs {
        if let Ok(Some(plan)) = central.view_plan(spec) {
            check_plan(zip, &plan, spec, verified);
        }
    }
}

/// True if a name is safe to unpack on every system.
fn is_safe(name: &[u8]) -> bool {
    let has_drive = name.len() >= 2 && name[0].is_ascii_alphabetic() && name[1] == b':';
    let parts = name.split(|byte| matches!(byte, b'/' | b'\\'));
    !has_drive && !name.starts_with(b"/") && !name.starts_with(b"\\") && parts.into_iter().all(|part| part != b"..")
}

/// The names in a directory. Its parser is not used: it also refuses names that are not safe without their first part.
fn names(mut directory: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    while directory.starts_with(format::CENTRAL_SIGNATURE) {
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(le16(directory, at)));
        names.push(&directory[format::CENTRAL_LEN..][..name]);
        directory = &directory[format::CENTRAL_LEN + name + extra + comment..];
    }
    names
}

fn check_plan(zip: &[u8], plan: &ViewPlan, spec: &ViewSpec, verified: &Verified) {
    let view = assemble(zip, plan, 0..plan.len());
    assert_eq!(view.len() as u64, plan.len());
    let offset = CentralDirectory::find_offset(&view, 0).expect("a zip ends with its end record");
    for name in names(&view[offset as usize..]) {
        assert!(is_safe(name), "{spec:?} has {:?}", String::from_utf8_lossy(name));
    }
    let Some(found) = verify(&view, usize::MAX) else {
        // Verification refuses a drive and a root in the first two parts of a name, and the views have one part less.
        let may_be_refused = [b':', b'\\'].iter().any(|byte| view.contains(byte));
        assert!(may_be_refused, "{spec:?} is no zip");
        return;
    };
    let facts = ZipFacts::from_value(&found.facts).expect("facts are read back");
    // The manifest of a flat view whose content is one folder leaves out that folder, too.
    let is_same_content = match spec {
        ViewSpec::Flat => facts.top.is_none(),
        ViewSpec::Foldered { .. } => true,
        ViewSpec::Folder { .. } => false,
    };
    if is_same_content {
        assert_eq!(found.manifest, verified.manifest, "{spec:?} has other content");
    }
    let len = plan.len();
    for (first, last) in [(0, 1), (len / 3, len / 2), (len / 2, len), (len - 1, len + 9), (len + 1, len + 2)] {
        let end = last.min(len);
        let expected = view.get(first as usize..end as usize).unwrap_or_default();
        assert_eq!(assemble(zip, plan, first..last), expected, "{first}..{last} of {len}");
        if !expected.is_empty() {
            let batch = plan.batch(first..end);
            let range = batch.range();
            assert!(range.start == first && range.end <= end && range.end > first, "{range:?}");
            let source = batch.source();
            let read = Bytes::copy_from_slice(&zip[source.start as usize..source.end as usize]);
            let bytes = batch.assemble(read).expect("the bytes that it asked for");
            assert_eq!(bytes, &view[range.start as usize..range.end as usize]);
        }
    }
}

fn assemble(zip: &[u8], plan: &ViewPlan, range: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in plan.slices(range) {
        match slice {
            ViewSlice::Stored(range) => bytes.extend_from_slice(&zip[range.start as usize..range.end as usize]),
            ViewSlice::Generated(range) => bytes.extend_from_slice(&plan.generated()[range]),
        }
    }
    bytes
}

/// Makes a zip of stored entries; most inputs make a valid one.
fn build(mut data: &[u8]) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut central = Vec::new();
    let mut count = 0_u16;
    while let [choices, name_len, rest @ ..] = data {
        let (name, rest) = rest.split_at(usize::from(name_len % 24).min(rest.len()));
        let (size, rest) = rest.split_first().map_or((0, rest), |(size, rest)| (usize::from(*size), rest));
        data = rest;
        // A top folder in common for most inputs.
        let name = if choices & 1 == 0 { [b"top/", name].concat() } else { name.to_vec() };
        let content: Vec<u8> = if name.ends_with(b"/") { Vec::new() } else { vec![*choices; size] };
        let extra: &[u8] = if choices & 2 == 0 { b"" } else { b"UT\x05\0\x01\0\0\0\0" };
        let offset = zip.len() as u32;
        let crc = crc32fast::hash(&content).to_le_bytes();
        let sizes = (content.len() as u32).to_le_bytes();
        let mut common = vec![20, 0, 0, if name.is_ascii() { 0 } else { 8 }, 0, 0, 0, 0, 0x21, 0];
        for part in [&crc[..], &sizes, &sizes, &(name.len() as u16).to_le_bytes(), &(extra.len() as u16).to_le_bytes()]
        {
            common.extend_from_slice(part);
        }
        for part in [format::LOCAL_SIGNATURE, &common, &name, extra, &content] {
            zip.extend_from_slice(part);
        }
        let attributes: u32 = if choices & 4 == 0 { 0 } else { 0o120_777 << 16 };
        let creator = if choices & 4 == 0 { [20, 0] } else { [20, 3] };
        let tail = [&[0; 6][..], &attributes.to_le_bytes(), &offset.to_le_bytes()].concat();
        for part in [format::CENTRAL_SIGNATURE, &creator, &common, &tail, &name, extra] {
            central.extend_from_slice(part);
        }
        count += 1;
        if count == 200 {
            break;
        }
    }
    let offset = (zip.len() as u32).to_le_bytes();
    let counts = [count.to_le_bytes(), count.to_le_bytes()].concat();
    for part in [&central[..], format::END_SIGNATURE, &[0; 4], &counts, &(central.len() as u32).to_le_bytes(), &offset]
    {
        zip.extend_from_slice(part);
    }
    zip.extend_from_slice(&[0; 2]);
    zip
}
