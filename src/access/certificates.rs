//! Mutual TLS: callers whose certificate the server has verified.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    InvalidCredential, Principal,
    address_credential::SignedCertificate,
    principal::{CredentialKey, Scope},
};
use crate::{
    admin_api::Right,
    entry::Digest,
    peer::{ClientCertificate, RevokedCertificates},
    value::bounded_cache::BoundedCache,
};

/// Most bytes of the cached principals of certificates, as estimated.
const MAX_CERTIFICATE_BYTES: u64 = 4 << 20;
/// Estimated bytes of a cached principal beside its texts.
const CERTIFICATE_OVERHEAD_BYTES: usize = 512;

/// Whether the server verifies certificates of clients.
#[derive(Clone, Debug)]
pub(crate) enum CertificateUse {
    /// `server.tls.client_ca_file` is set. Contains the certificates that are revoked at present.
    Verified(Arc<RevokedCertificates>),
    /// Clients are asked for no certificates.
    Unused,
}

/// The callers with certificates.
#[derive(Debug)]
pub(super) struct Certificates {
    certificate_use: CertificateUse,
    /// By fingerprint.
    principals: BoundedCache<Digest, Arc<Principal>>,
}

impl Certificates {
    /// Without cached principals.
    pub(super) fn new(certificate_use: CertificateUse) -> Self {
        Self { certificate_use, principals: BoundedCache::new(MAX_CERTIFICATE_BYTES) }
    }

    /// The principal of a connection's certificate; `None` for one without a subject.
    ///
    /// # Errors
    /// `CertificateExpired`: it was valid when the connection began.
    pub(super) fn identify(
        &self,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Result<Option<Arc<Principal>>, InvalidCredential> {
        let Some(subject) = &certificate.subject else { return Ok(None) };
        if certificate.not_after <= now {
            return Err(InvalidCredential::CertificateExpired);
        }
        if let Some(principal) = self.principals.get(&certificate.fingerprint) {
            return Ok(Some(principal));
        }
        let signed = SignedCertificate {
            fingerprint: certificate.fingerprint,
            subject: subject.clone(),
            expires_at: certificate.not_after.as_second(),
            serial: certificate.serial.clone(),
        };
        let principal = Arc::new(principal(&signed));
        self.principals.insert_weighed(certificate.fingerprint, principal.clone(), weight(&principal));
        Ok(Some(principal))
    }

    /// The principal that a signed address names, while certificates are used and this one has neither ended nor been
    /// revoked.
    pub(super) fn by_address(&self, certificate: &SignedCertificate, now: Timestamp) -> Option<Arc<Principal>> {
        match &self.certificate_use {
            CertificateUse::Unused => return None,
            CertificateUse::Verified(revoked) if revoked.contains(&certificate.serial) => return None,
            CertificateUse::Verified(_) => {}
        }
        let principal = principal(certificate);
        principal.expires_at.is_some_and(|end| now < end).then(|| Arc::new(principal))
    }
}

/// The bytes of memory that a cached principal takes, estimated.
fn weight(principal: &Principal) -> u32 {
    let texts = principal.name.len() + principal.credential.len() + principal.address.len();
    u32::try_from(CERTIFICATE_OVERHEAD_BYTES + texts).unwrap_or(u32::MAX)
}

fn principal(certificate: &SignedCertificate) -> Principal {
    let SignedCertificate { fingerprint, subject, expires_at, .. } = certificate;
    let name = format!("cert:{subject}");
    let credential = fingerprint.to_string();
    Principal {
        key: CredentialKey::of("cert", &credential),
        // Every certificate of a subject counts as the same client.
        client: CredentialKey::of("cert", &name).as_u64(),
        groups: Vec::new(),
        credential: credential.into(),
        scope: Scope { rights: Right::ALL.to_vec(), packages: Vec::new() },
        expires_at: Some(Timestamp::from_second(*expires_at).unwrap_or(Timestamp::MIN)),
        address: certificate.to_text().into(),
        name: name.into(),
    }
}
