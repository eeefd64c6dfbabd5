//! The bundle: a tar archive of exported zips and documents, checked to its last byte before any of it is used.
//!
//! It holds `srm-mirror-bundle.json`, then `documents/{sha256}`, then `blobs/{sha256}`: exactly what the manifest names,
//! in its order, as plain files only.

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
    cli::{UsageError, byte_bar::ByteBar},
    entry::{Digest, ExportedArchive, ExportedDocument, Key, RecordedSource},
    origin::{Growing, Verify as _, VerifyError},
};

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;

/// The name of the first file.
pub(super) const MANIFEST_NAME: &str = "srm-mirror-bundle.json";
/// The version of the format.
pub(super) const BUNDLE_FORMAT: u32 = 1;
/// Largest manifest, and largest document, bytes.
const MAX_ENTRY_BYTES: u64 = 256 << 20;

/// The first file of a bundle: what it holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleManifest {
    pub(super) format: u32,
    pub(super) documents: Vec<DocumentEntry>,
    pub(super) zips: Vec<ExportedArchive>,
    /// The recorded sources of names that lead to these packages. Bundles of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<RecordedSource>,
}

/// One document of a manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentEntry {
    pub(super) key: Key,
    /// SHA-256 of the file in the bundle.
    pub(super) sha256: Digest,
    pub(super) len: u64,
}

/// A bundle that was checked.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) file: File,
    pub(super) documents: Vec<BundledDocument>,
    pub(super) zips: Vec<BundledArchive>,
    pub(super) sources: Vec<RecordedSource>,
}

/// A document and its place in the bundle. Only one document is in memory at a time.
#[derive(Debug)]
pub(super) struct BundledDocument {
    pub(super) key: Key,
    sha256: Digest,
    offset: u64,
    len: u64,
}

/// A zip and its place in the bundle.
#[derive(Debug)]
pub(super) struct BundledArchive {
    pub(super) claim: ExportedArchive,
    /// Where its bytes begin.
    pub(super) offset: u64,
}

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
enum BundleError {
    #[error("not a bundle")]
    NoArchive,
    #[error("{MANIFEST_NAME}: {0}")]
    Manifest(serde_json::Error),
    #[error("its format is {0}, this version knows {BUNDLE_FORMAT}")]
    OtherFormat(u32),
    #[error("it is damaged before {0}")]
    DamagedBefore(String),
    #[error("it is truncated: {0} is missing")]
    Missing(String),
    #[error("it is truncated")]
    Truncated,
    #[error("it has something else where {0} should be")]
    Unexpected(String),
    #[error("it has {0} twice")]
    Duplicate(Key),
    #[error("a part of it is too large")]
    TooLarge,
    #[error("{name}: {source}")]
    Document { name: String, source: serde_json::Error },
    #[error("{0} is not what it should be")]
    OtherDocument(String),
    #[error("blobs/{0} has two lengths")]
    TwoLengths(Digest),
    #[error("blobs/{0} has two contents")]
    TwoContents(Digest),
    #[error("{0} does not have its length or its digest")]
    OtherBlob(String),
    #[error("{name}: {source}")]
    Zip { name: String, source: VerifyError },
    #[error("{0} has other content than its claim")]
    OtherContent(String),
    #[error("it has more than it should")]
    Trailing,
}

impl Bundle {
    /// Reads a document again.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed since it was checked.
    pub(super) fn document(&self, document: &BundledDocument) -> anyhow::Result<ExportedDocument> {
        let mut text = vec![0; usize::try_from(document.len)?];
        self.file.read_exact_at(&mut text, document.offset).context("cannot read the bundle again")?;
        let unchanged = Digest::of(&text) == document.sha256;
        let document = unchanged.then(|| serde_json::from_slice(&text).ok()).flatten();
        document.ok_or_else(|| UsageError("the bundle was changed while it was read".into()).into())
    }
}

/// A part of a bundle, as a body to verify.
struct BundleSection<'f> {
    file: &'f File,
    offset: u64,
    len: u64,
}

impl Growing for BundleSection<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(&mut buf[..left], self.offset + offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}

/// Reads and checks a whole bundle.
///
/// # Errors
/// [`UsageError`] with what is wrong with it; [`io::Error`] where it cannot be opened.
pub(super) fn check(path: &Path, verifier: &ZipVerifier, bar: &ByteBar) -> anyhow::Result<Bundle> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let checked = Checker { file: &file, verifier, keys: HashSet::new(), bar }.check();
    let BundleParts { documents, zips, sources } =
        checked.map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
    Ok(Bundle { file, documents, zips, sources })
}

/// Parses the first file.
fn parse_manifest(text: &[u8]) -> Result<BundleManifest, BundleError> {
    /// Read first: a bundle of another format may have fields that this version does not read.
    #[derive(Deserialize)]
    struct FormatOnly {
        format: u32,
    }
    let FormatOnly { format } = serde_json::from_slice(text).map_err(BundleError::Manifest)?;
    if format != BUNDLE_FORMAT {
        return Err(BundleError::OtherFormat(format));
    }
    serde_json::from_slice(text).map_err(BundleError::Manifest)
}

/// What a bundle holds, checked.
struct BundleParts {
    documents: Vec<BundledDocument>,
    zips: Vec<BundledArchive>,
    sources: Vec<RecordedSource>,
}

struct Checker<'b> {
    file: &'b File,
    verifier: &'b ZipVerifier,
    /// The keys so far.
    keys: HashSet<Key>,
    bar: &'b ByteBar,
}

/// What the first claim of a blob says, which further claims must repeat, and where the blob is.
struct CheckedBlob {
    len: u64,
    content: Digest,
    offset: u64,
}

impl Checker<'_> {
    fn check(mut self) -> Result<BundleParts, BundleError> {
        let mut archive = tar::Archive::new(self.file);
        // Raw: long names and links are entries of their own, and none of them is allowed.
        let entries = archive.entries().map_err(|_| BundleError::NoArchive)?.raw(true);
        let mut entries = ExpectedEntries(entries);
        let manifest = parse_manifest(&read_whole(&mut entries.next(MANIFEST_NAME)?)?)?;
        let mut documents = Vec::new();
        for document in manifest.documents {
            documents.push(self.document(document, &mut entries)?);
        }
        self.bar.set_length(manifest.zips.iter().map(|claim| claim.meta.len).fold(0, u64::saturating_add));
        let mut zips: Vec<BundledArchive> = Vec::new();
        let mut blobs = HashMap::new();
        for claim in manifest.zips {
            let offset = self.blob(&claim, &mut blobs, &mut entries)?;
            self.bar.advance(claim.meta.len);
            zips.push(BundledArchive { claim, offset });
        }
        match entries.0.next() {
            None => Ok(BundleParts { documents, zips, sources: manifest.sources }),
            Some(_) => Err(BundleError::Trailing),
        }
    }

    fn document(
        &mut self,
        expected: DocumentEntry,
        entries: &mut ExpectedEntries<'_, '_>,
    ) -> Result<BundledDocument, BundleError> {
        let DocumentEntry { key, sha256, len } = expected;
        self.ensure_new(&key)?;
        let name = format!("documents/{sha256}");
        let mut entry = entries.next(&name)?;
        let offset = entry.raw_file_position();
        let text = read_whole(&mut entry)?;
        let document: ExportedDocument = match serde_json::from_slice(&text) {
            Ok(document) => document,
            Err(source) => return Err(BundleError::Document { name, source }),
        };
        let good = text.len() as u64 == len
            && Digest::of(&text) == sha256
            && document.key == key
            && Digest::of(document.body.as_bytes()) == document.meta.digest;
        if good { Ok(BundledDocument { key, sha256, offset, len }) } else { Err(BundleError::OtherDocument(name)) }
    }

    /// Checks the blob of a claim, once for all its claims. Returns the offset at which it begins.
    fn blob(
        &mut self,
        claim: &ExportedArchive,
        blobs: &mut HashMap<Digest, CheckedBlob>,
        entries: &mut ExpectedEntries<'_, '_>,
    ) -> Result<u64, BundleError> {
        self.ensure_new(&claim.key)?;
        let digest = claim.meta.digest;
        let len = claim.meta.len;
        let content = claim.meta.verified.manifest;
        match blobs.get(&digest) {
            Some(blob) if blob.len != len => return Err(BundleError::TwoLengths(digest)),
            Some(blob) if blob.content != content => return Err(BundleError::TwoContents(digest)),
            Some(blob) => return Ok(blob.offset),
            None => {}
        }
        let name = format!("blobs/{digest}");
        let mut entry = entries.next(&name)?;
        let offset = entry.raw_file_position();
        if entry.size() != len || hash(&mut entry)? != digest {
            return Err(BundleError::OtherBlob(name));
        }
        let found = match self.verifier.verify(&BundleSection { file: self.file, offset, len }) {
            Ok(found) => found,
            Err(source) => return Err(BundleError::Zip { name, source }),
        };
        if found.manifest != content {
            return Err(BundleError::OtherContent(name));
        }
        blobs.insert(digest, CheckedBlob { len, content, offset });
        Ok(offset)
    }

    /// Refuses a key that the bundle has twice.
    fn ensure_new(&mut self, key: &Key) -> Result<(), BundleError> {
        if self.keys.insert(key.clone()) { Ok(()) } else { Err(BundleError::Duplicate(key.clone())) }
    }
}

/// The entries of a tar archive, each of which must be the expected plain file.
struct ExpectedEntries<'a, 'f>(tar::Entries<'a, &'f File>);

impl<'a, 'f> ExpectedEntries<'a, 'f> {
    fn next(&mut self, name: &str) -> Result<tar::Entry<'a, &'f File>, BundleError> {
        let entry = match self.0.next() {
            Some(Ok(entry)) => entry,
            Some(Err(_)) => return Err(BundleError::DamagedBefore(name.to_owned())),
            None => return Err(BundleError::Missing(name.to_owned())),
        };
        if entry.header().entry_type() != tar::EntryType::Regular || &*entry.path_bytes() != name.as_bytes() {
            return Err(BundleError::Unexpected(name.to_owned()));
        }
        Ok(entry)
    }
}

fn read_whole(entry: &mut tar::Entry<'_, &File>) -> Result<Vec<u8>, BundleError> {
    if entry.size() > MAX_ENTRY_BYTES {
        return Err(BundleError::TooLarge);
    }
    let mut text = Vec::new();
    let size = entry.size();
    entry.read_to_end(&mut text).map_err(|_| BundleError::Truncated)?;
    if text.len() as u64 == size { Ok(text) } else { Err(BundleError::Truncated) }
}

fn hash(entry: &mut tar::Entry<'_, &File>) -> Result<Digest, BundleError> {
    let mut sha = Sha256::new();
    let mut buf = vec![0; 256 << 10];
    loop {
        match entry.read(&mut buf).map_err(|_| BundleError::Truncated)? {
            0 => return Ok(Digest(sha.finalize().into())),
            n => sha.update(&buf[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_recorded_sources_is_one_of_an_earlier_version() {
        let old = parse_manifest(br#"{"format": 1, "documents": [], "zips": []}"#).expect("an earlier version");
        assert!(old.sources.is_empty());
        assert_eq!(serde_json::to_string(&old).expect("JSON"), r#"{"format":1,"documents":[],"zips":[]}"#);
    }

    #[test]
    fn a_bundle_of_another_version_is_refused_for_its_version() {
        let why =
            parse_manifest(br#"{"format": 2, "documents": 7, "news": true}"#).expect_err("another version").to_string();
        assert_eq!(why, "its format is 2, this version knows 1");
        let why = parse_manifest(br#"{"format": 1, "documents": [], "zips": [], "news": true}"#).expect_err("unknown");
        assert!(why.to_string().contains("news"), "{why}");
    }
}
