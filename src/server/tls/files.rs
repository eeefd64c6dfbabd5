//! Reads certificates and keys from PEM files.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, DnsName, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{CertificateFiles, Config};
use crate::entry::Digest;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("the TLS file {} cannot be read: {}", file.display(), without_errno(source))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file with invalid content.
    #[error("the TLS file {} {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// A predicate that completes "the TLS file …".
        reason: String,
    },
    /// TLS addresses without a certificate.
    #[error("no certificate is configured; make one with `srm-mirror tls init`, or set server.tls.certificates")]
    NoCertificate,
    /// An error of the TLS library.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The text of a system error, without its number.
fn without_errno(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// A digest of the content of all files.
pub(super) type FileFingerprint = Digest;

/// The certificates of a configuration.
pub(super) struct LoadedCertificates {
    pub(super) fingerprint: FileFingerprint,
    pub(super) keys: Vec<Arc<CertifiedKey>>,
}

/// Checks that every certificate of a configuration can be used.
///
/// # Errors
/// The first file that cannot be used.
pub fn load(config: &Config) -> Result<(), TlsError> {
    read(&config.certificates).map(drop)
}

/// Reads every certificate with its key.
///
/// # Errors
/// The first file that cannot be used, and [`TlsError::NoCertificate`] without any.
pub(super) fn read(files: &[CertificateFiles]) -> Result<LoadedCertificates, TlsError> {
    if files.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let mut digests = Vec::new();
    let mut keys = Vec::new();
    for CertificateFiles { cert_file, key_file } in files {
        let cert = bytes(cert_file)?;
        let key = bytes(key_file)?;
        digests.extend_from_slice(&Digest::of(&cert).0);
        digests.extend_from_slice(&Digest::of(&key).0);
        keys.push(Arc::new(certified_key(cert_file, &cert, key_file, &key)?));
    }
    Ok(LoadedCertificates { fingerprint: Digest::of(&digests), keys })
}

fn bytes(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}

fn certified_key(cert_file: &Path, cert: &[u8], key_file: &Path, key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let unusable = |file: &Path, reason: &str| TlsError::Unusable { file: file.to_owned(), reason: reason.into() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|_| unusable(cert_file, "is not valid PEM"))?;
    let Some(leaf) = chain.first() else {
        return Err(unusable(cert_file, "contains no PEM certificate (-----BEGIN CERTIFICATE-----)"));
    };
    ParsedCertificate::try_from(leaf).map_err(|_| unusable(cert_file, "has an invalid certificate first"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            unusable(key_file, "contains no PEM private key (-----BEGIN PRIVATE KEY-----, not encrypted)")
        }
        _ => unusable(key_file, "is not valid PEM"),
    })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            unusable(key_file, &format!("does not match the certificate in {}", cert_file.display()))
        }
        _ => unusable(key_file, "has a key of an unsupported type (supported: ECDSA, Ed25519, RSA)"),
    })
}

/// True when the certificate is valid for the requested host name.
pub(super) fn is_valid_for(key: &CertifiedKey, name: &str) -> bool {
    let leaf = key.end_entity_cert().ok().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    let name = DnsName::try_from(name).map(ServerName::DnsName);
    matches!((leaf, name), (Some(leaf), Ok(name)) if verify_server_name(&leaf, &name).is_ok())
}

/// The key files that users other than owner and group can access.
pub fn world_readable_keys(config: &Config) -> impl Iterator<Item = &Path> {
    let accessible = |file: &&Path| fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
    config.certificates.iter().map(|files| files.key_file.as_path()).filter(accessible)
}
