//! A private certificate authority in a directory, and the certificates that it issues.

use std::{
    fs, io,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{ToSpan, Zoned, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, date_time_ymd,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    atomic_file::AtomicFile,
    cli::{INTERNAL, IO, USAGE},
    entry::Digest,
};

/// Validity of an authority, in years.
const AUTHORITY_YEARS: i32 = 10;

/// What certificates are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificatePurpose {
    /// One, for all names of a server. Its authority can sign for these names alone.
    Server,
    /// One for each node of a fleet, which is server and client to the others. Its authority can sign for any name: each of its
    /// certificates makes a node, whatever its name.
    Nodes,
}

/// A request for certificates.
pub(super) struct CertificateRequest {
    /// What they are for.
    pub(super) purpose: CertificatePurpose,
    /// Host names and IP addresses.
    pub(super) names: Vec<String>,
    /// Days that a certificate is valid.
    pub(super) days: u16,
    /// Replace existing certificates.
    pub(super) force: bool,
    /// Replace an existing authority.
    pub(super) new_ca: bool,
}

/// What was issued; the paths are absolute.
pub(super) struct IssuedCertificates {
    /// The certificate of the authority.
    pub(super) ca: PathBuf,
    /// At least one.
    pub(super) certificates: Vec<IssuedCertificate>,
    /// The last day of validity.
    pub(super) until: Date,
    /// The authority is new.
    pub(super) new_ca: bool,
}

/// An issued certificate; the paths are absolute.
pub(super) struct IssuedCertificate {
    pub(super) cert: PathBuf,
    /// The private key of the certificate.
    pub(super) key: PathBuf,
    /// The names, in lower case.
    pub(super) names: Vec<String>,
}

impl CertificatePurpose {
    /// The name of the authority's files, without their endings.
    fn authority(self) -> &'static str {
        match self {
            Self::Server => "ca",
            Self::Nodes => "nodes-ca",
        }
    }
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum TlsInitError {
    /// Not a host name or an IP address.
    #[error("{0} is not a host name or an IP address; write for example --name registry.devsapp.cn")]
    Name(String),
    /// The file exists and `force` is not set.
    #[error("{} exists already; --force replaces the certificate, another --dir keeps both", .0.display())]
    Exists(PathBuf),
    /// The authority is incomplete, damaged, expired, or not made by this program.
    #[error("the authority in {} cannot be used: {reason}; --new-ca makes a new one, which every client (or node) must then trust", dir.display())]
    Authority {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The authority was made for other names.
    #[error(
        "the authority in {} was made for other names and cannot sign for all of {names}; use another --dir, or \
         --new-ca for a new authority, which every client must then trust",
        dir.display()
    )]
    OtherNames {
        /// The directory.
        dir: PathBuf,
        /// The requested names.
        names: String,
    },
    /// A file cannot be read or written.
    #[error("{}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The certificate library fails.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A date is out of range.
    #[error("the certificate cannot be made: {0}")]
    Date(#[from] jiff::Error),
}

impl TlsInitError {
    /// The exit code of the program.
    pub(in crate::cli) fn exit_code(&self) -> u8 {
        match self {
            Self::Name(_) | Self::Exists(_) | Self::Authority { .. } | Self::OtherNames { .. } => USAGE,
            Self::File { .. } => IO,
            Self::Certificate(_) | Self::Date(_) => INTERNAL,
        }
    }
}

/// Issues certificates into `dir`, from the authority there or from a new one. Writes the files only after the certificates
/// were checked.
///
/// # Errors
/// When a name is invalid, a file exists, the authority cannot be used, or a file cannot be written.
pub(super) fn init(dir: &Path, request: &CertificateRequest) -> Result<IssuedCertificates, TlsInitError> {
    let names = checked_names(&request.names, request.purpose)?;
    fs::create_dir_all(dir).map_err(at(dir))?;
    let dir = fs::canonicalize(dir).map_err(at(dir))?;
    let certificates: Vec<_> = match request.purpose {
        CertificatePurpose::Server => vec![files_for(&dir, names.clone())],
        CertificatePurpose::Nodes => names.iter().map(|name| files_for(&dir, vec![name.clone()])).collect(),
    };
    let files: Vec<_> = certificates.iter().flat_map(|certificate| [&certificate.cert, &certificate.key]).collect();
    if !request.force
        && let Some(existing) = files.into_iter().find(|file| file.exists())
    {
        return Err(TlsInitError::Exists(existing.clone()));
    }
    let authority = request.purpose.authority();
    let ca_file = dir.join(format!("{authority}.pem"));
    let ca_key = dir.join(format!("{authority}.key"));
    let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
    let new_ca = request.new_ca || !(ca_file.exists() || ca_key.exists());
    let (key, root, pem) = if new_ca {
        let key = KeyPair::generate()?;
        let root = authority_params(&key, request.purpose, &names, today)?.self_signed(&key)?;
        (key, root.der().clone(), root.pem())
    } else {
        let (key, root) = load_authority(&dir, &ca_file, &ca_key)?;
        (key, root, String::new())
    };
    // rcgen reads only the subject and the key usages of the issuer, which `authority_subject` derives from the key.
    let issuer = Issuer::new(authority_subject(&key), key);
    let until = today.checked_add(i32::from(request.days).days())?;
    let mut texts = Vec::new();
    for certificate in &certificates {
        let leaf_key = KeyPair::generate()?;
        let leaf = leaf_params(&certificate.names, request.purpose, today, until)?.signed_by(&leaf_key, &issuer)?;
        verify_as_client(&dir, authority, &root, leaf.der(), &certificate.names)?;
        texts.push((leaf_key.serialize_pem(), leaf.pem()));
    }

    if new_ca {
        write(&ca_key, &issuer.key().serialize_pem(), 0o600)?;
        write(&ca_file, &pem, 0o644)?;
    }
    for (certificate, (key, cert)) in certificates.iter().zip(texts) {
        write(&certificate.key, &key, 0o600)?;
        write(&certificate.cert, &cert, 0o600)?;
    }
    Ok(IssuedCertificates { ca: ca_file, certificates, until, new_ca })
}

/// Where the certificate for these names is written.
fn files_for(dir: &Path, names: Vec<String>) -> IssuedCertificate {
    let stem = names[0].replace('*', "_").replace(':', "-");
    // A certificate for a host called "ca" must not overwrite the authority.
    let is_authority =
        [CertificatePurpose::Server, CertificatePurpose::Nodes].iter().any(|purpose| purpose.authority() == stem);
    let stem = if is_authority { format!("{stem}-host") } else { stem };
    IssuedCertificate { cert: dir.join(format!("{stem}.pem")), key: dir.join(format!("{stem}.key")), names }
}

/// The names in lower case, without duplicates.
fn checked_names(given: &[String], purpose: CertificatePurpose) -> Result<Vec<String>, TlsInitError> {
    let mut names: Vec<String> = Vec::new();
    for name in given {
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        // A node has one name.
        let bare = lower.strip_prefix("*.").filter(|_| purpose == CertificatePurpose::Server).unwrap_or(&lower);
        let valid = lower.parse::<IpAddr>().is_ok()
            || matches!(ServerName::try_from(bare), Ok(ServerName::DnsName(_)) if !bare.is_empty());
        if !valid {
            return Err(TlsInitError::Name(name.clone()));
        }
        if !names.contains(&lower) {
            names.push(lower);
        }
    }
    if names.is_empty() { Err(TlsInitError::Name(String::new())) } else { Ok(names) }
}

/// Subject and key usages of an authority. They depend on the key alone, so that issuing a certificate needs only the
/// authority's key.
fn authority_subject(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    let id = Digest::of(key.der_bytes()).to_string();
    name.push(DnType::CommonName, format!("srm-mirror private authority {}", &id[..12]));
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Parameters of an authority that can sign for the names that its use allows.
fn authority_params(
    key: &KeyPair,
    purpose: CertificatePurpose,
    names: &[String],
    today: Date,
) -> Result<CertificateParams, TlsInitError> {
    let mut params = authority_subject(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    set_validity(&mut params, today, today.checked_add(AUTHORITY_YEARS.years())?)?;
    params.name_constraints = (purpose == CertificatePurpose::Server).then(|| constraints(names));
    Ok(params)
}

/// Permits these names alone.
fn constraints(names: &[String]) -> NameConstraints {
    let addresses: Vec<IpAddr> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let hosts = names.iter().filter(|name| name.parse::<IpAddr>().is_err());
    // A permitted host name permits all names below it, so a wildcard adds nothing.
    let hosts = hosts.map(|name| GeneralSubtree::DnsName(name.trim_start_matches("*.").to_owned()));
    let mut permitted: Vec<_> = hosts.collect();
    let mut excluded = Vec::new();
    // A kind of name without a constraint is not limited at all (RFC 5280 §4.2.1.10).
    if permitted.is_empty() {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    let all_addresses = [CidrSubnet::from_v4_prefix([0; 4], 0), CidrSubnet::from_v6_prefix([0; 16], 0)];
    if addresses.is_empty() {
        excluded.extend(all_addresses.map(GeneralSubtree::IpAddress));
    }
    let single = |ip: IpAddr| CidrSubnet::from_addr_prefix(ip, if ip.is_ipv4() { 32 } else { 128 });
    permitted.extend(addresses.into_iter().map(|ip| GeneralSubtree::IpAddress(single(ip))));
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

/// Parameters of a certificate.
fn leaf_params(
    names: &[String],
    purpose: CertificatePurpose,
    today: Date,
    until: Date,
) -> Result<CertificateParams, TlsInitError> {
    let mut params = CertificateParams::new(names.to_vec())?;
    set_validity(&mut params, today, until)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "srm-mirror");
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if purpose == CertificatePurpose::Nodes {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Valid from the day before `today`, for clients whose clock is slow, to the end of `until`.
fn set_validity(params: &mut CertificateParams, today: Date, until: Date) -> Result<(), TlsInitError> {
    let day = |date: Date| date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    params.not_before = day(today.yesterday()?);
    params.not_after = day(until.tomorrow()?);
    Ok(())
}

/// Reads the key and the certificate of an existing authority.
fn load_authority(dir: &Path, ca: &Path, key: &Path) -> Result<(KeyPair, CertificateDer<'static>), TlsInitError> {
    let unusable = |file: &Path, wrong: &str| TlsInitError::Authority {
        dir: dir.to_owned(),
        reason: format!("{} {wrong}", file.display()),
    };
    for file in [ca, key] {
        if !file.exists() {
            return Err(unusable(file, "is missing"));
        }
    }
    let key_text = fs::read_to_string(key).map_err(at(key))?;
    let pair = KeyPair::from_pem(&key_text).map_err(|_| unusable(key, "is not a key made by this program"))?;
    let root = CertificateDer::from_pem_slice(&fs::read(ca).map_err(at(ca))?);
    Ok((pair, root.map_err(|_| unusable(ca, "has no certificate"))?))
}

/// Verifies the certificate for every name, as a client that trusts the authority does.
fn verify_as_client(
    dir: &Path,
    authority: &str,
    root: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    names: &[String],
) -> Result<(), TlsInitError> {
    use rustls::{CertificateError, Error};
    let unusable = |reason: String| TlsInitError::Authority { dir: dir.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    roots
        .add(root.clone().into_owned())
        .map_err(|_| unusable(format!("{authority}.pem is not a certificate authority")))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| unusable(error.to_string()))?;
    for name in names {
        // A wildcard stands for one label.
        let host = name.replace('*', "any");
        let host = ServerName::try_from(host).map_err(|_| TlsInitError::Name(name.clone()))?;
        match verifier.verify_server_cert(leaf, &[], &host, &[], UnixTime::now()) {
            Ok(_) => {}
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                let wrong =
                    format!("{authority}.pem does not belong to {authority}.key, or was not made by this program");
                return Err(unusable(wrong));
            }
            Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                return Err(unusable("it has expired".into()));
            }
            // rustls has no variant for this error of its verifier.
            Err(error) if error.to_string().contains("NameConstraintViolation") => {
                return Err(TlsInitError::OtherNames { dir: dir.to_owned(), names: names.join(", ") });
            }
            Err(error) => return Err(unusable(error.to_string())),
        }
    }
    Ok(())
}

/// Adds the path to an I/O error.
fn at(file: &Path) -> impl FnOnce(io::Error) -> TlsInitError {
    let file = file.to_owned();
    move |source| TlsInitError::File { file, source }
}

/// Replaces a file atomically, so that a running mirror never reads a part of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsInitError> {
    let replace = || {
        let file = AtomicFile::create(path, mode)?;
        file.file().write_all(text.as_bytes())?;
        file.publish()
    };
    replace().map_err(at(path))
}
