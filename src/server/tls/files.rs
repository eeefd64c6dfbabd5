//! Reads certificates, keys and authorities of clients from PEM files.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, DnsName, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use webpki::BorrowedCertRevocationList;

use super::{
    ALPN_PROTOCOLS, CertResolver, CertificateFiles, ClientAuth, Config,
    certificate_fields::{certificate_end, make_names_unique},
};
use crate::{
    entry::Digest,
    peer::{CertificateEnd, SerialNumber},
    value::io_reason::io_reason,
};

/// What is wrong with a revocation list that cannot be parsed.
const MALFORMED_LIST: &str = "has a revocation list that is malformed";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("the TLS file {} cannot be read: {}", file.display(), io_reason(source))]
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
    /// Clients are to be verified by no authority.
    #[error(
        "server.tls.client_auth and client_crl_file need the authorities of clients: set server.tls.client_ca_file"
    )]
    NoClientAuthority,
    /// An error of the TLS library.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

impl TlsError {
    /// The key of `[server.tls]` that the error is about.
    pub fn key(&self, config: &Config) -> &'static str {
        let file = match self {
            Self::Unreadable { file, .. } | Self::Unusable { file, .. } => Some(file),
            Self::NoClientAuthority => return "client_ca_file",
            Self::NoCertificate | Self::Setup(_) => None,
        };
        match file {
            file @ Some(_) if file == config.client_ca_file.as_ref() => "client_ca_file",
            file @ Some(_) if file == config.client_crl_file.as_ref() => "client_crl_file",
            _ => "certificates",
        }
    }
}

/// A digest of the content of all files.
pub(super) type FileFingerprint = Digest;

/// The content of the files of a configuration.
pub(super) struct LoadedFiles {
    /// The fingerprint of all files.
    pub(super) fingerprint: FileFingerprint,
    /// The fingerprint of the files by which clients are verified.
    pub(super) client_fingerprint: FileFingerprint,
    /// When the certificates end.
    pub(super) certificates: Vec<CertificateEnd>,
    /// The clients' certificates that are revoked.
    pub(super) revoked: HashSet<SerialNumber>,
    /// The settings of new connections.
    pub(super) server: Arc<ServerConfig>,
}

/// Checks that every file of a configuration can be used.
///
/// # Errors
/// The first file that cannot be used.
pub fn load(config: &Config) -> Result<(), TlsError> {
    read(config).map(drop)
}

/// Reads every certificate with its key, and the authorities of clients.
///
/// # Errors
/// The first file that cannot be used, and [`TlsError::NoCertificate`] without any.
pub(super) fn read(config: &Config) -> Result<LoadedFiles, TlsError> {
    if config.certificates.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let mut digests = Vec::new();
    let mut keys = Vec::new();
    for CertificateFiles { cert_file, key_file } in &config.certificates {
        let cert = read_file(cert_file)?;
        let key = read_file(key_file)?;
        digests.extend_from_slice(&Digest::of(&cert).0);
        digests.extend_from_slice(&Digest::of(&key).0);
        keys.push(Arc::new(parse_certified_key(cert_file, &cert, key_file, &key)?));
    }
    let end = |(at, key): (usize, &Arc<CertifiedKey>)| certificate_end(key.cert.iter().map(|der| der.as_ref()), at + 1);
    let certificates = make_names_unique(keys.iter().enumerate().map(end).collect());
    let mut client_digests = Vec::new();
    let ClientVerification { verifier, revoked } = build_client_verification(config, &mut client_digests)?;
    let client_fingerprint = Digest::of(&client_digests);
    digests.extend_from_slice(&client_fingerprint.0);
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    // Sessions are resumed from this value's own memory: none outlives the authorities that it was verified with.
    let mut server = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(CertResolver::new(keys)));
    server.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    let fingerprint = Digest::of(&digests);
    Ok(LoadedFiles { fingerprint, client_fingerprint, certificates, revoked, server: Arc::new(server) })
}

/// How clients are verified.
struct ClientVerification {
    verifier: Arc<dyn ClientCertVerifier>,
    revoked: HashSet<SerialNumber>,
}

/// Builds the verification of clients by `client_ca_file`, `client_crl_file` and `client_auth`; adds the digests of the files
/// to `digests`.
fn build_client_verification(config: &Config, digests: &mut Vec<u8>) -> Result<ClientVerification, TlsError> {
    let mut revoked = HashSet::new();
    let Some(ca_file) = &config.client_ca_file else {
        let is_unused = config.client_auth == ClientAuth::Optional && config.client_crl_file.is_none();
        let verifier = WebPkiClientVerifier::no_client_auth();
        return if is_unused { Ok(ClientVerification { verifier, revoked }) } else { Err(TlsError::NoClientAuthority) };
    };
    let unusable = |file: &Path, reason: &str| TlsError::Unusable { file: file.to_owned(), reason: reason.into() };
    let ca = read_file(ca_file)?;
    digests.extend_from_slice(&Digest::of(&ca).0);
    let mut authorities = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&ca) {
        let authority = authority.map_err(|_| unusable(ca_file, "is not valid PEM"))?;
        let added = authorities.add(authority);
        added.map_err(|_| unusable(ca_file, "has a certificate that is malformed"))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::new(aws_lc_rs::default_provider()));
    if let Some(crl_file) = &config.client_crl_file {
        let text = read_file(crl_file)?;
        digests.extend_from_slice(&Digest::of(&text).0);
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let lists = lists.map_err(|_| unusable(crl_file, "is not valid PEM"))?;
        if lists.is_empty() {
            return Err(unusable(crl_file, "contains no PEM revocation list (-----BEGIN X509 CRL-----)"));
        }
        for list in &lists {
            let serials = revoked_serials(list).ok_or_else(|| unusable(crl_file, MALFORMED_LIST))?;
            revoked.extend(serials);
        }
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if config.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| match (error, &config.client_crl_file) {
        (VerifierBuilderError::InvalidCrl(_), Some(crl_file)) => unusable(crl_file, MALFORMED_LIST),
        _ => unusable(ca_file, "contains no PEM certificate of an authority (-----BEGIN CERTIFICATE-----)"),
    })?;
    Ok(ClientVerification { verifier, revoked })
}

/// The numbers on a revocation list; `None` for one that is malformed.
fn revoked_serials(list: &CertificateRevocationListDer<'_>) -> Option<Vec<SerialNumber>> {
    let list = BorrowedCertRevocationList::from_der(list).ok()?;
    list.into_iter().map(|revoked| Some(SerialNumber::of_der(revoked.ok()?.serial_number))).collect()
}

fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}

/// Parses a certificate with its chain, and its key.
fn parse_certified_key(cert_file: &Path, cert: &[u8], key_file: &Path, key: &[u8]) -> Result<CertifiedKey, TlsError> {
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
