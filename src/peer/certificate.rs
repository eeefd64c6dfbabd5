//! The certificates of the two ends of a connection.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

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
}

impl ClientCertificate {
    /// Longest subject that names a client, bytes of text.
    pub const MAX_SUBJECT_BYTES: usize = 255;
}

/// The certificates that the mirror shows to its clients, as they are in use. Replaced when their files change.
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
