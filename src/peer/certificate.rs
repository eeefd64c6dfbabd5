//! The certificates of the two ends of a connection.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::entry::Digest;

/// A certificate whose key the client has, issued by an authority that the mirror trusts and valid when the connection
/// began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject as text ([RFC 4514]), at most [`ClientCertificate::MAX_SUBJECT_BYTES`] long; `None` when it is empty,
    /// longer, or malformed.
    ///
    /// [RFC 4514]: https://www.rfc-editor.org/rfc/rfc4514
    pub subject: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// The last moment at which it is valid.
    pub not_after: Timestamp,
    /// The number that its authority has given it; empty for a malformed certificate.
    pub serial: SerialNumber,
}

impl ClientCertificate {
    /// Longest subject that names a client, bytes of text.
    pub const MAX_SUBJECT_BYTES: usize = 255;
}

/// The number of a certificate: the bytes of a positive number, without leading zeros. Serialises as base64url.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SerialNumber(Box<[u8]>);

impl SerialNumber {
    /// The content of a DER INTEGER.
    pub fn of_der(content: &[u8]) -> Self {
        let start = content.iter().position(|byte| *byte != 0).unwrap_or(content.len());
        Self(content[start..].into())
    }
}

impl Serialize for SerialNumber {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SerialNumber {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        URL_SAFE_NO_PAD.decode(text).map(|bytes| Self::of_der(&bytes)).map_err(de::Error::custom)
    }
}

/// The numbers of clients' certificates that are revoked, whichever authority has issued them. Replaced when the file of
/// revocation lists changes.
#[derive(Debug, Default)]
pub struct RevokedCertificates(ArcSwap<HashSet<SerialNumber>>);

impl RevokedCertificates {
    /// Replaces them all.
    pub fn set(&self, serials: HashSet<SerialNumber>) {
        self.0.store(Arc::new(serials));
    }

    /// True for a number that a revocation list has.
    pub fn contains(&self, serial: &SerialNumber) -> bool {
        self.0.load().contains(serial)
    }
}

/// The certificates that a listener of the mirror uses. Replaced when their files change.
#[derive(Debug, Default)]
pub struct ServerCertificates(ArcSwap<Vec<CertificateEnd>>);

/// A certificate of the mirror, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEnd {
    /// Its subject as text, else its number in the configuration.
    pub name: String,
    /// The last moment at which it, and every one that it is sent with, is valid; `None` when that cannot be read.
    pub not_after: Option<Timestamp>,
}

impl ServerCertificates {
    /// Replaces them all.
    pub fn set(&self, certificates: Vec<CertificateEnd>) {
        self.0.store(Arc::new(certificates));
    }

    /// The present ones, in the order of the configuration; none without TLS.
    pub fn get(&self) -> Arc<Vec<CertificateEnd>> {
        self.0.load_full()
    }
}

/// The certificates of all listeners.
#[derive(Clone, Debug, Default)]
pub struct OwnCertificates {
    /// Those of the listeners for clients.
    pub to_clients: Arc<ServerCertificates>,
    /// That of the listener for the other nodes of the fleet.
    pub to_nodes: Option<Arc<ServerCertificates>>,
}

impl OwnCertificates {
    /// The present certificates, each with a different name.
    pub fn get(&self) -> Vec<CertificateEnd> {
        let to_nodes = self.to_nodes.iter().flat_map(|certificates| certificates.get().to_vec());
        let to_nodes = to_nodes.map(|end| CertificateEnd { name: format!("{} (fleet)", end.name), ..end });
        self.to_clients.get().iter().cloned().chain(to_nodes).collect()
    }
}
