//! What is stored about a response: its key, its digest, its validators and its pin.
//!
//! Everything here serialises, and nothing assumes which tier holds it.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of a stored thing, a plain string such as `github/devsapp/fc3/tag/v1.0.0`.
///
/// Cheap to clone. Whoever makes a key has already folded what compares without case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

impl Key {
    /// Wraps a text as a key.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest; prints, parses and serialises as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
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

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "not a SHA-256 digest of 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| WRONG)?;
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

/// What verification found out about a body; the cache keeps it and understands only `manifest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Identity of the content, whatever its packing: equal manifests mean equal files.
    pub manifest: Digest,
    /// The commit it was made from, where the body says so.
    pub commit: Option<String>,
    /// Whatever else the verifier wants kept beside the body and its pin; opaque to the cache.
    pub facts: serde_json::Value,
}

/// What is stored about a complete archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// SHA-256 of the bytes: the blob's name and the strong ETag.
    pub digest: Digest,
    /// Length in bytes.
    pub len: u64,
    /// When the bytes were fetched (`Age` counts from here).
    pub stored_at: Timestamp,
    /// True when they were fetched without a token, so everybody may see them upstream.
    pub anonymous: bool,
    /// What verification found out.
    #[serde(flatten)]
    pub verified: Verified,
}

/// What was first seen under a key, kept for ever: a later fetch must have the same content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// The pinned key.
    pub key: Key,
    /// The stored bytes; may change with a new packing of the same content.
    pub digest: Digest,
    /// Their length.
    pub len: u64,
    /// When this key was first seen.
    pub first_seen: Timestamp,
    /// What verification found out when it was first seen; its `manifest` never changes.
    #[serde(flatten)]
    pub verified: Verified,
}

/// What one mirror tells another about a zip that it hands over: nothing of it is believed without a look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedArchive {
    /// Its key.
    pub key: Key,
    /// When the key was first seen.
    pub first_seen: Timestamp,
    /// What is stored about it.
    pub meta: Meta,
}

/// A document that one mirror hands over to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedDocument {
    /// Its key.
    pub key: Key,
    /// What is stored about it.
    pub meta: DocumentMeta,
    /// The normalised JSON, as text.
    pub body: String,
}

/// What is needed to ask an upstream whether a document has changed. Opaque to the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validators {
    /// One entry per upstream page, in order (one for a document of one page).
    pub pages: Vec<PageValidator>,
    /// Fingerprint of the token that fetched it: an ETag is only good for the same token.
    pub asked_as: Option<String>,
    /// When every page was last walked.
    pub walked_at: Option<Timestamp>,
}

/// The validators of one upstream page and how many items it contributed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageValidator {
    /// The address that was asked, without any token.
    pub url: String,
    /// `ETag` as the upstream sent it, `W/` included.
    pub etag: Option<String>,
    /// `Last-Modified` as the upstream sent it.
    pub last_modified: Option<String>,
    /// Number of items of the page that are part of the document.
    pub items: usize,
    /// The next page's address, where there is one.
    pub next: Option<String>,
}

/// What is stored about a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentMeta {
    /// SHA-256 of the body.
    pub digest: Digest,
    /// When the upstream last confirmed it; freshness counts from here.
    pub validated_at: Timestamp,
    /// When its present content was first fetched.
    pub changed_at: Timestamp,
    /// How to ask again.
    pub validators: Validators,
    /// What the upstream last said of the thing itself.
    #[serde(default)]
    pub standing: UpstreamStatus,
}

/// What an upstream last said of something that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamStatus {
    /// It is there.
    #[default]
    Present,
    /// It was there once and is not any more (404).
    Gone,
    /// It is blocked for legal reasons (451).
    Blocked,
}

/// A stored document: a small, complete body and what is stored about it. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What is stored about it.
    pub meta: Arc<DocumentMeta>,
    /// The normalised JSON.
    pub body: bytes::Bytes,
}
