//! Certificates and keys from their files.

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

use super::{Config, Files};
use crate::entry::Digest;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("the TLS file {} cannot be read: {}", file.display(), words(source))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("the TLS file {} {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Addresses but no certificate.
    #[error("there is no certificate; make one with `srm-mirror tls init`, or name one in server.tls.certificates")]
    NoCertificate,
    /// The TLS library itself.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The system's words for an error, without its number.
fn words(why: &io::Error) -> String {
    let text = why.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// What the files held, as one digest.
pub(super) type FileFingerprint = Digest;

/// Reads and checks every certificate of a configuration, and forgets them.
///
/// # Errors
/// The first file that cannot be used.
pub fn load(config: &Config) -> Result<(), TlsError> {
    read(&config.certificates).map(drop)
}

/// Reads every certificate with its key.
pub(super) fn read(files: &[Files]) -> Result<(FileFingerprint, Vec<Arc<CertifiedKey>>), TlsError> {
    if files.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let mut seen = Vec::new();
    let mut keys = Vec::new();
    for Files { cert_file, key_file } in files {
        let cert = bytes(cert_file)?;
        let key = bytes(key_file)?;
        seen.extend_from_slice(&Digest::of(&cert).0);
        seen.extend_from_slice(&Digest::of(&key).0);
        keys.push(Arc::new(certified(cert_file, &cert, key_file, &key)?));
    }
    Ok((Digest::of(&seen), keys))
}

fn bytes(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}

fn certified(cert_file: &Path, cert: &[u8], key_file: &Path, key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let unusable = |file: &Path, reason: &str| TlsError::Unusable { file: file.to_owned(), reason: reason.into() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|_| unusable(cert_file, "is not in PEM form"))?;
    let Some(leaf) = chain.first() else {
        return Err(unusable(cert_file, "has no PEM certificate in it (-----BEGIN CERTIFICATE-----)"));
    };
    ParsedCertificate::try_from(leaf)
        .map_err(|_| unusable(cert_file, "begins with a certificate that cannot be read"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|why| match why {
        pem::Error::NoItemsFound => {
            unusable(key_file, "has no PEM private key in it (-----BEGIN PRIVATE KEY-----, not encrypted)")
        }
        _ => unusable(key_file, "is not in PEM form"),
    })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            unusable(key_file, &format!("is not the key of the certificate in {}", cert_file.display()))
        }
        _ => unusable(key_file, "has a key of a kind that cannot be used (ECDSA, Ed25519 and RSA can)"),
    })
}

/// True when the certificate is valid for the name a client asked for.
pub(super) fn is_for(key: &CertifiedKey, name: &str) -> bool {
    let leaf = key.end_entity_cert().ok().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    let name = DnsName::try_from(name).map(ServerName::DnsName);
    matches!((leaf, name), (Some(leaf), Ok(name)) if verify_server_name(&leaf, &name).is_ok())
}

/// The key files that others than their owner and group can read.
pub fn key_seen_by_others(config: &Config) -> impl Iterator<Item = &Path> {
    let open = |file: &&Path| fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
    config.certificates.iter().map(|files| files.key_file.as_path()).filter(open)
}
