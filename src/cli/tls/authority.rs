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

/// A request for a certificate.
pub(super) struct CertificateRequest {
    /// Host names and IP addresses.
    pub(super) names: Vec<String>,
    /// Days that the certificate is valid.
    pub(super) days: u16,
    /// Replace an existing certificate.
    pub(super) force: bool,
    /// Replace an existing authority.
    pub(super) new_ca: bool,
}

/// An issued certificate; the paths are absolute.
pub(super) struct IssuedCertificate {
    /// The certificate of the authority.
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    /// The private key of the certificate.
    pub(super) key: PathBuf,
    /// The names, in lower case.
    pub(super) names: Vec<String>,
    /// The last day of validity.
    pub(super) until: Date,
    /// The authority was made for this certificate.
    pub(super) new_ca: bool,
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
    #[error("the authority in {} cannot be used: {reason}; --new-ca makes a new one, which every client must then trust", dir.display())]
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

/// Issues a certificate into `dir`, from the authority there or from a new one. Writes the files only after the
/// certificate was checked.
///
/// # Errors
/// When a name is invalid, a file exists, the authority cannot be used, or a file cannot be written.
pub(super) fn init(dir: &Path, request: &CertificateRequest) -> Result<IssuedCertificate, TlsInitError> {
    let names = checked_names(&request.names)?;
    fs::create_dir_all(dir).map_err(at(dir))?;
    let dir = fs::canonicalize(dir).map_err(at(dir))?;
    let stem = names[0].replace('*', "_").replace(':', "-");
    // A certificate for a host called "ca" must not overwrite the authority.
    let stem = if stem == "ca" { "ca-host".to_owned() } else { stem };
    let ca_file = dir.join("ca.pem");
    let ca_key = dir.join("ca.key");
    let cert_file = dir.join(format!("{stem}.pem"));
    let key_file = dir.join(format!("{stem}.key"));
    if !request.force
        && let Some(existing) = [&cert_file, &key_file].into_iter().find(|file| file.exists())
    {
        return Err(TlsInitError::Exists(existing.clone()));
    }
    let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
    let new_ca = request.new_ca || !(ca_file.exists() || ca_key.exists());
    let (key, root, pem) = if new_ca {
        let key = KeyPair::generate()?;
        let root = authority_params(&key, &names, today)?.self_signed(&key)?;
        (key, root.der().clone(), root.pem())
    } else {
        let (key, root) = load_authority(&dir, &ca_file, &ca_key)?;
        (key, root, String::new())
    };
    // rcgen reads only the subject and the key usages of the issuer, which `authority_subject` derives from the key.
    let issuer = Issuer::new(authority_subject(&key), key);
    let until = today.checked_add(i32::from(request.days).days())?;
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf_params(&names, today, until)?.signed_by(&leaf_key, &issuer)?;
    verify_as_client(&dir, &root, leaf.der(), &names)?;

    if new_ca {
        write(&ca_key, &issuer.key().serialize_pem(), 0o600)?;
        write(&ca_file, &pem, 0o644)?;
    }
    write(&key_file, &leaf_key.serialize_pem(), 0o600)?;
    write(&cert_file, &leaf.pem(), 0o600)?;
    Ok(IssuedCertificate { ca: ca_file, cert: cert_file, key: key_file, names, until, new_ca })
}

/// The names in lower case, without duplicates.
fn checked_names(given: &[String]) -> Result<Vec<String>, TlsInitError> {
    let mut names: Vec<String> = Vec::new();
    for name in given {
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        let bare = lower.strip_prefix("*.").unwrap_or(&lower);
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

/// Parameters of an authority that can sign for these names only.
fn authority_params(key: &KeyPair, names: &[String], today: Date) -> Result<CertificateParams, TlsInitError> {
    let mut params = authority_subject(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    set_validity(&mut params, today, today.checked_add(AUTHORITY_YEARS.years())?)?;
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
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
    Ok(params)
}

/// Parameters of a server certificate.
fn leaf_params(names: &[String], today: Date, until: Date) -> Result<CertificateParams, TlsInitError> {
    let mut params = CertificateParams::new(names.to_vec())?;
    set_validity(&mut params, today, until)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "srm-mirror");
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
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
    let unusable = |reason: &str| TlsInitError::Authority { dir: dir.to_owned(), reason: reason.into() };
    for file in [ca, key] {
        if !file.exists() {
            return Err(unusable(&format!("{} is missing", file.display())));
        }
    }
    let key_text = fs::read_to_string(key).map_err(at(key))?;
    let pair = KeyPair::from_pem(&key_text).map_err(|_| unusable("ca.key is not a key made by this program"))?;
    let root = CertificateDer::from_pem_slice(&fs::read(ca).map_err(at(ca))?);
    Ok((pair, root.map_err(|_| unusable("ca.pem has no certificate"))?))
}

/// Verifies the certificate for every name, as a client that trusts the authority does.
fn verify_as_client(
    dir: &Path,
    root: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    names: &[String],
) -> Result<(), TlsInitError> {
    use rustls::{CertificateError, Error};
    let unusable = |reason: String| TlsInitError::Authority { dir: dir.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned()).map_err(|_| unusable("ca.pem is not a certificate authority".into()))?;
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
                return Err(unusable("ca.pem does not belong to ca.key, or was not made by this program".into()));
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
