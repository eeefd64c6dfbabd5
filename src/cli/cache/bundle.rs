//! The bundle: a tar archive of what a mirror hands over, checked to the last byte before anything of it is used.
//!
//! `srm-mirror-bundle.json`, then `documents/{sha256}`, then `blobs/{sha256}`: exactly what the first names, in its order,
//! plain files only.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    archive::ZipVerifier,
    cli::Wrong,
    entry::{Claim, Digest, HandedDocument, Key},
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
    pub(super) zips: Vec<Claim>,
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
    pub(super) documents: Vec<HandedDocument>,
    /// Each zip and where its bytes begin.
    pub(super) zips: Vec<(Claim, u64)>,
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
/// [`Wrong`] with what is wrong with it; [`io::Error`] where it cannot be opened.
pub(super) fn check(path: &Path, verifier: &ZipVerifier) -> anyhow::Result<Bundle> {
    let file = File::open(path)?;
    let (documents, zips) = walk(&file, verifier).map_err(|why| Wrong(format!("{}: {why}", path.display())))?;
    Ok(Bundle { file, documents, zips })
}

type Contents = (Vec<HandedDocument>, Vec<(Claim, u64)>);

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
    let manifest: Manifest = serde_json::from_slice(&whole(&mut first)?).map_err(|why| format!("{MANIFEST}: {why}"))?;
    if manifest.format != FORMAT {
        return Err(format!("its format is {}, this version knows {FORMAT}", manifest.format));
    }
    let mut documents = Vec::new();
    for listed in &manifest.documents {
        let name = format!("documents/{}", listed.sha256);
        let text = whole(&mut next(&name)?)?;
        let document: HandedDocument = serde_json::from_slice(&text).map_err(|why| format!("{name}: {why}"))?;
        let good = text.len() as u64 == listed.len
            && Digest::of(&text) == listed.sha256
            && document.key == listed.key
            && Digest::of(document.body.as_bytes()) == document.meta.digest;
        if !good {
            return Err(format!("{name} is not what it should be"));
        }
        documents.push(document);
    }
    let mut zips: Vec<(Claim, u64)> = Vec::new();
    for claim in manifest.zips {
        let same = zips.iter().rev().find(|(earlier, _)| earlier.meta.digest == claim.meta.digest);
        let offset = match same {
            Some((earlier, _)) if earlier.meta.len != claim.meta.len => return Err("one zip has two lengths".into()),
            Some((earlier, offset)) => {
                if earlier.meta.verified.manifest != claim.meta.verified.manifest {
                    return Err("one zip has two contents".into());
                }
                *offset
            }
            None => {
                let name = format!("blobs/{}", claim.meta.digest);
                let mut entry = next(&name)?;
                let (offset, len) = (entry.raw_file_position(), entry.size());
                if len != claim.meta.len || hash(&mut entry)? != claim.meta.digest {
                    return Err(format!("{name} does not have its length or its digest"));
                }
                let found = verifier.verify(&Part { file, offset, len }).map_err(|why| format!("{name}: {why}"))?;
                if found.manifest != claim.meta.verified.manifest {
                    return Err(format!("{name} has other content than it was said to have"));
                }
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
    let (mut sha, mut buf) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match entry.read(&mut buf).map_err(|_| "it is truncated")? {
            0 => return Ok(Digest(sha.finalize().into())),
            n => sha.update(&buf[..n]),
        }
    }
}
