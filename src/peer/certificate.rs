//! The certificate of a client.

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
