//! The stored records: key, digest, metadata of archives and documents, pin.
//!
//! These types are part of the on-disk format and of the bundle format. None of them depends on a storage tier.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::package::DialectName;

/// The key of a stored archive or document, such as `github/devsapp/fc3/tag/v1.0.0`.
///
/// Cheap to clone. Keys compare exactly: the caller folds the case of owner and repository before it makes a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

impl Key {
    /// A key with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of the key that names its package: `upstream:name`, else `upstream/owner/repository`.
    pub(crate) fn package(&self) -> &str {
        let first = self.0.split('/').next().unwrap_or_default();
        let segments = if first.contains(':') { 1 } else { 3 };
        let end = self.0.match_indices('/').nth(segments - 1).map_or(self.0.len(), |(at, _)| at);
        &self.0[..end]
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes per read of a file that is hashed.
const HASH_BUFFER_BYTES: usize = 256 << 10;

/// A SHA-256 digest. Displays and serialises as 64 lower-case hexadecimal digits; parses either case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A digest that no other call returns, in this process or another: for names.
    pub(crate) fn unique() -> Self {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        Self::of(format!("{:?} {} {call}", SystemTime::now(), std::process::id()).as_bytes())
    }

    /// The digest of a whole file, wherever its cursor stands. Blocks.
    ///
    /// # Errors
    /// The file system's error.
    pub fn of_file(file: &File) -> io::Result<Self> {
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        let mut buf = vec![0; HASH_BUFFER_BYTES];
        let mut offset = 0;
        loop {
            match file.read_at(&mut buf, offset) {
                Ok(0) => return Ok(Self(hasher.finalize().into())),
                Ok(len) => {
                    hasher.update(&buf[..len]);
                    offset += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// The text is not a SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest of 64 hexadecimal digits")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The result of verifying an archive. The cache interprets only `manifest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Digest of the content, independent of its packing: equal manifests mean equal files.
    pub manifest: Digest,
    /// The commit that the archive was made from, if the archive names it.
    pub commit: Option<String>,
    /// Further results of the verifier, stored with the archive and its pin; opaque to the cache.
    pub facts: serde_json::Value,
}

/// The metadata of a complete archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// SHA-256 of the bytes: the blob's file name and the strong `ETag`.
    pub digest: Digest,
    /// Length in bytes.
    pub len: u64,
    /// When the bytes were fetched; `Age` counts from here.
    pub stored_at: Timestamp,
    /// True if the bytes were fetched without a token, so upstream they are public.
    pub anonymous: bool,
    /// The result of verification.
    #[serde(flatten)]
    pub verified: Verified,
}

/// What was first seen under a key. Pins are never evicted: a later fetch must have the same content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// The pinned key.
    pub key: Key,
    /// Digest of the stored bytes; changes with a new packing of the same content.
    pub digest: Digest,
    /// Length of the stored bytes.
    pub len: u64,
    /// When this key was first seen.
    pub first_seen: Timestamp,
    /// The result of the first verification; its `manifest` never changes.
    #[serde(flatten)]
    pub verified: Verified,
}

impl Pin {
    /// True for the same content, first seen at the same time: also in a later packing.
    pub fn is_same_sight(&self, other: &Self) -> bool {
        self.first_seen == other.first_seen && self.verified.manifest == other.verified.manifest
    }
}

/// The description of an archive in a bundle. The importing mirror verifies all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedArchive {
    /// Its key.
    pub key: Key,
    /// When the exporting mirror first saw the key.
    pub first_seen: Timestamp,
    /// Its metadata.
    pub meta: Meta,
}

/// A document in a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedDocument {
    /// Its key.
    pub key: Key,
    /// Its metadata.
    pub meta: DocumentMeta,
    /// The normalised JSON, as text.
    pub body: String,
}

/// From which upstream a name without an upstream was first served in a dialect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSource {
    /// The name, in lower case.
    pub name: String,
    /// The dialect that it was requested in.
    pub dialect: DialectName,
    /// The upstream.
    pub upstream: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The validators for a conditional request to the upstream. Opaque to the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validators {
    /// One entry per upstream page, in order; one entry for a document of one page.
    pub pages: Vec<PageValidator>,
    /// Fingerprint of the token that fetched the document: an `ETag` is valid only for the same token.
    #[serde(rename = "asked_as")]
    pub token_fingerprint: Option<String>,
    /// When all pages were last fetched.
    #[serde(rename = "walked_at")]
    pub last_full_fetch: Option<Timestamp>,
}

/// The validators of one upstream page, and how many items of the document come from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageValidator {
    /// The URL of the page, without a token.
    pub url: String,
    /// `ETag` as the upstream sent it, `W/` included.
    pub etag: Option<String>,
    /// `Last-Modified` as the upstream sent it.
    pub last_modified: Option<String>,
    /// Number of items of the page that are part of the document.
    pub items: usize,
    /// The URL of the next page, if there is one.
    pub next: Option<String>,
}

/// The metadata of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentMeta {
    /// SHA-256 of the body.
    pub digest: Digest,
    /// When the upstream last confirmed the document; freshness counts from here.
    pub validated_at: Timestamp,
    /// When its present content was first fetched.
    pub changed_at: Timestamp,
    /// The validators for the next conditional request.
    pub validators: Validators,
    /// What the upstream last answered about the described package.
    #[serde(default, rename = "standing")]
    pub upstream_status: UpstreamStatus,
}

/// What an upstream last answered about something that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamStatus {
    /// The upstream has it.
    #[default]
    Present,
    /// The upstream had it before and now answers 404.
    Gone,
    /// The upstream answers 451: blocked for legal reasons.
    Blocked,
}

/// A stored document: its complete body and its metadata. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its metadata.
    pub meta: Arc<DocumentMeta>,
    /// The normalised JSON.
    pub body: bytes::Bytes,
}
