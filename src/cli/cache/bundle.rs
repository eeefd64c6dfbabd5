//! The bundle: a tar archive of what a mirror hands over, checked to the last byte before anything of it is used.
//!
//! `srm-mirror-bundle.json`, then `documents/{sha256}`, then `blobs/{sha256}`: exactly what the first names, in its order,
//! plain files only.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    archive::ZipVerifier,
    cli::UsageError,
    entry::{Digest, ExportedArchive, ExportedDocument, Key},
    origin::{Growing, Verify as _},
};

/// The name of the first file.
pub(super) const MANIFEST: &str = "srm-mirror-bundle.json";
/// The version of the format.
pub(super) const FORMAT: u32 = 1;
/// Largest manifest, and largest document, bytes.
const LARGEST: u64 = 256 << 20;

/// What is in a bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) documents: Vec<Listed>,
    pub(super) zips: Vec<ExportedArchive>,
}

/// One document in a bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    pub(super) key: Key,
    /// Of the file in the bundle.
    pub(super) sha256: Digest,
    pub(super) len: u64,
}

/// A bundle that was checked.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) file: File,
    /// Each document and where its bytes begin.
    pub(super) documents: Vec<CacheArgs>,
    /// Each zip and where its bytes begin.
    pub(super) zips: Vec<(ExportedArchive, u64)>,
}

/// Where a document lies. Only one of them is in memory at a time.
#[derive(Debug)]
pub(super) struct CacheArgs {
    pub(super) key: Key,
    sha256: Digest,
    offset: u64,
    len: u64,
}

impl Bundle {
    /// Reads a document again.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed since it was checked.
    pub(super) fn document(&self, place: &CacheArgs) -> anyhow::Result<ExportedDocument> {
        let mut text = vec![0; usize::try_from(place.len)?];
        self.file.read_exact_at(&mut text, place.offset).context("cannot read the bundle again")?;
        let same = Digest::of(&text) == place.sha256;
        let document = same.then(|| serde_json::from_slice(&text).ok()).flatten();
        document.ok_or_else(|| UsageError("the bundle was changed while it was read".into()).into())
    }
}

/// Part of a file, as a body.
struct Part<'f> {
    file: &'f File,
    offset: u64,
    len: u64,
}

impl Growing for Part<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(&mut buf[..left], self.offset + offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}

/// The header of a plain file in a bundle.
pub(super) fn header(name: &str, len: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(len);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Zero bytes that follow `len` bytes.
pub(super) fn padding(len: u64) -> usize {
    usize::try_from(len.next_multiple_of(512) - len).unwrap_or(0)
}

/// Reads and checks all of a bundle.
///
/// # Errors
/// [`UsageError`] when the bundle is invalid; [`io::Error`] where it cannot be opened.
pub(super) fn check(path: &Path, verifier: &ZipVerifier) -> anyhow::Result<Bundle> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (documents, zips) = walk(&file, verifier).map_err(|why| UsageError(format!("{}: {why}", path.display())))?;
    Ok(Bundle { file, documents, zips })
}

type Contents = (Vec<CacheArgs>, Vec<(ExportedArchive, u64)>);

/// Reads the first file. What another version wrote is called so before a word of it that is new is complained about.
fn manifest(text: &[u8]) -> Result<Manifest, String> {
    #[derive(Deserialize)]
    struct Form {
        format: u32,
    }
    let malformed = |why| format!("{MANIFEST}: {why}");
    let Form { format } = serde_json::from_slice(text).map_err(malformed)?;
    if format != FORMAT {
        return Err(format!("its format is {format}, this version knows {FORMAT}"));
    }
    serde_json::from_slice(text).map_err(malformed)
}

fn walk(file: &File, verifier: &ZipVerifier) -> Result<Contents, String> {
    let mut archive = tar::Archive::new(file);
    // Raw: long names, links and the like are entries of their own here, and none of them is allowed.
    let mut entries = archive.entries().map_err(|_| "not a bundle")?.raw(true);
    let mut next = |name: &str| -> Result<_, String> {
        let entry = match entries.next() {
            Some(Ok(entry)) => entry,
            Some(Err(_)) => return Err(format!("it is damaged before {name}")),
            None => return Err(format!("it is truncated: {name} is missing")),
        };
        if entry.header().entry_type() != tar::EntryType::Regular || &*entry.path_bytes() != name.as_bytes() {
            return Err(format!("it has something else where {name} should be"));
        }
        Ok(entry)
    };

    let mut first = next(MANIFEST)?;
    let manifest = manifest(&whole(&mut first)?)?;
    drop(first);
    let mut keys = HashSet::new();
    let mut once = |key: &Key| if keys.insert(key.clone()) { Ok(()) } else { Err(format!("it has {key} twice")) };
    let mut documents = Vec::new();
    for Listed { key, sha256, len } in manifest.documents {
        once(&key)?;
        let name = format!("documents/{sha256}");
        let mut entry = next(&name)?;
        let offset = entry.raw_file_position();
        let text = whole(&mut entry)?;
        let document: ExportedDocument = serde_json::from_slice(&text).map_err(|why| format!("{name}: {why}"))?;
        let good = text.len() as u64 == len
            && Digest::of(&text) == sha256
            && document.key == key
            && Digest::of(document.body.as_bytes()) == document.meta.digest;
        if !good {
            return Err(format!("{name} is not what it should be"));
        }
        documents.push(CacheArgs { key, sha256, offset, len });
    }
    let mut zips: Vec<(ExportedArchive, u64)> = Vec::new();
    // Keys may share a blob: what the first of them said of it holds for all.
    let mut blobs: HashMap<Digest, (u64, Digest, u64)> = HashMap::new();
    for claim in manifest.zips {
        once(&claim.key)?;
        let digest = claim.meta.digest;
        let len = claim.meta.len;
        let content = claim.meta.verified.manifest;
        let offset = match blobs.get(&digest) {
            Some((known, ..)) if *known != len => return Err(format!("blobs/{digest} has two lengths")),
            Some((_, known, _)) if *known != content => return Err(format!("blobs/{digest} has two contents")),
            Some((.., offset)) => *offset,
            None => {
                let name = format!("blobs/{digest}");
                let mut entry = next(&name)?;
                let offset = entry.raw_file_position();
                let size = entry.size();
                if size != len || hash(&mut entry)? != digest {
                    return Err(format!("{name} does not have its length or its digest"));
                }
                let found = verifier.verify(&Part { file, offset, len }).map_err(|why| format!("{name}: {why}"))?;
                if found.manifest != content {
                    return Err(format!("{name} has other content than it was said to have"));
                }
                blobs.insert(digest, (len, content, offset));
                offset
            }
        };
        zips.push((claim, offset));
    }
    match entries.next() {
        None => Ok((documents, zips)),
        Some(_) => Err("it has more than it should".into()),
    }
}

fn whole(entry: &mut tar::Entry<'_, &File>) -> Result<Vec<u8>, String> {
    if entry.size() > LARGEST {
        return Err("a part of it is too large".into());
    }
    let mut text = Vec::new();
    let size = entry.size();
    entry.read_to_end(&mut text).map_err(|_| "it is truncated")?;
    if text.len() as u64 == size { Ok(text) } else { Err("it is truncated".into()) }
}

fn hash(entry: &mut tar::Entry<'_, &File>) -> Result<Digest, String> {
    let mut sha = Sha256::new();
    let mut buf = vec![0; 256 << 10];
    loop {
        match entry.read(&mut buf).map_err(|_| "it is truncated")? {
            0 => return Ok(Digest(sha.finalize().into())),
            n => sha.update(&buf[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_of_another_version_is_called_so_whatever_else_it_says() {
        let why = manifest(br#"{"format": 2, "documents": 7, "news": true}"#).expect_err("another version");
        assert_eq!(why, "its format is 2, this version knows 1");
        let why = manifest(br#"{"format": 1, "documents": [], "zips": [], "news": true}"#).expect_err("unknown");
        assert!(why.contains("news"), "{why}");
    }
}
