//! A private authority in a directory, and the certificates it issues.

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
    cli::{INTERNAL, IO, USAGE, atomic_file::AtomicFile},
    entry::Digest,
};

/// How long an authority is valid, in years.
const CA_YEARS: i32 = 10;

/// What is to be made.
pub(super) struct Wanted {
    /// Host names and addresses.
    pub(super) names: Vec<String>,
    /// Days the certificate is valid.
    pub(super) days: u16,
    /// Replace a certificate.
    pub(super) force: bool,
    /// Replace the authority.
    pub(super) new_ca: bool,
}

/// What was made; paths are absolute.
pub(super) struct Made {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// The names, checked and in lower case.
    pub(super) names: Vec<String>,
    /// The last day on which the certificate is valid.
    pub(super) until: Date,
    /// The authority is a new one.
    pub(super) new_ca: bool,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InitError {
    /// A name that no certificate can have.
    #[error("{0} is no host name and no IP address; write for example --name registry.devsapp.cn")]
    Name(String),
    /// A file that would be overwritten.
    #[error("{} is there already; --force replaces the certificate, another --dir keeps both", .0.display())]
    Exists(PathBuf),
    /// Half an authority, or one of other making.
    #[error("the authority in {} cannot be used: {reason}; --new-ca makes a new one, which every client must trust anew", dir.display())]
    Authority {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name outside of what the authority was made for.
    #[error(
        "the authority in {} was made for other names and cannot sign for all of {names}; use another --dir, or \
         --new-ca for a new authority, which every client must trust anew",
        dir.display()
    )]
    OtherNames {
        /// Where it is.
        dir: PathBuf,
        /// What was asked for.
        names: String,
    },
    /// A file that cannot be written or read.
    #[error("{}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The certificate library itself.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The calendar.
    #[error("the certificate cannot be made: {0}")]
    Date(#[from] jiff::Error),
}

impl InitError {
    /// The exit code of the program.
    pub(in crate::cli) fn exit_code(&self) -> u8 {
        match self {
            Self::Name(_) | Self::Exists(_) | Self::Authority { .. } | Self::OtherNames { .. } => USAGE,
            Self::File { .. } => IO,
            Self::Certificate(_) | Self::Date(_) => INTERNAL,
        }
    }
}

/// Makes a certificate in `dir`, and an authority where there is none. Nothing is written unless all can be made.
pub(super) fn init(dir: &Path, wanted: &Wanted) -> Result<Made, InitError> {
    let names = names(&wanted.names)?;
    fs::create_dir_all(dir).map_err(at(dir))?;
    let dir = fs::canonicalize(dir).map_err(at(dir))?;
    let stem = names[0].replace('*', "_").replace(':', "-");
    // A certificate for a host called "ca" must not land on the authority.
    let stem = if stem == "ca" { "ca-host".to_owned() } else { stem };
    let ca_file = dir.join("ca.pem");
    let ca_key = dir.join("ca.key");
    let cert_file = dir.join(format!("{stem}.pem"));
    let key_file = dir.join(format!("{stem}.key"));
    if !wanted.force
        && let Some(there) = [&cert_file, &key_file].into_iter().find(|file| file.exists())
    {
        return Err(InitError::Exists(there.clone()));
    }
    let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
    let new_ca = wanted.new_ca || !(ca_file.exists() || ca_key.exists());
    let (key, root, pem) = if new_ca {
        let key = KeyPair::generate()?;
        let root = authority(&key, &names, today)?.self_signed(&key)?;
        (key, root.der().clone(), root.pem())
    } else {
        let (key, root) = stored(&dir, &ca_file, &ca_key)?;
        (key, root, String::new())
    };
    // Only the subject and the usages are read from the parameters; these follow from the key.
    let issuer = Issuer::new(subject(&key), key);
    let until = today.checked_add(i32::from(wanted.days).days())?;
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf(&names, today, until)?.signed_by(&leaf_key, &issuer)?;
    check(&dir, &root, leaf.der(), &names)?;

    if new_ca {
        write(&ca_key, &issuer.key().serialize_pem(), 0o600)?;
        write(&ca_file, &pem, 0o644)?;
    }
    write(&key_file, &leaf_key.serialize_pem(), 0o600)?;
    write(&cert_file, &leaf.pem(), 0o600)?;
    Ok(Made { ca: ca_file, cert: cert_file, key: key_file, names, until, new_ca })
}

/// Checks the names and puts them into lower case.
fn names(given: &[String]) -> Result<Vec<String>, InitError> {
    let mut names: Vec<String> = Vec::new();
    for name in given {
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        let bare = lower.strip_prefix("*.").unwrap_or(&lower);
        let good = lower.parse::<IpAddr>().is_ok()
            || matches!(ServerName::try_from(bare), Ok(ServerName::DnsName(_)) if !bare.is_empty());
        if !good {
            return Err(InitError::Name(name.clone()));
        }
        if !names.contains(&lower) {
            names.push(lower);
        }
    }
    if names.is_empty() { Err(InitError::Name(String::new())) } else { Ok(names) }
}

/// What an authority with this key is called. It follows from the key alone, so that no certificate needs to be read
/// in order to issue another one.
fn subject(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    let id = Digest::of(key.der_bytes()).to_string();
    name.push(DnType::CommonName, format!("srm-mirror private authority {}", &id[..12]));
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// An authority that can sign for these names only.
fn authority(key: &KeyPair, names: &[String], today: Date) -> Result<CertificateParams, InitError> {
    let mut params = subject(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    limit(&mut params, today, today.checked_add(CA_YEARS.years())?)?;
    let addresses: Vec<IpAddr> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let hosts = names.iter().filter(|name| name.parse::<IpAddr>().is_err());
    // A permitted host permits the names below it, too; a star says nothing more.
    let hosts = hosts.map(|name| GeneralSubtree::DnsName(name.trim_start_matches("*.").to_owned()));
    let mut permitted: Vec<_> = hosts.collect();
    let mut excluded = Vec::new();
    // A kind of name that is not mentioned is not limited at all (RFC 5280 §4.2.1.10).
    if permitted.is_empty() {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    let all = [CidrSubnet::from_v4_prefix([0; 4], 0), CidrSubnet::from_v6_prefix([0; 16], 0)];
    if addresses.is_empty() {
        excluded.extend(all.map(GeneralSubtree::IpAddress));
    }
    let one = |ip: IpAddr| CidrSubnet::from_addr_prefix(ip, if ip.is_ipv4() { 32 } else { 128 });
    permitted.extend(addresses.into_iter().map(|ip| GeneralSubtree::IpAddress(one(ip))));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
    Ok(params)
}

fn leaf(names: &[String], today: Date, until: Date) -> Result<CertificateParams, InitError> {
    let mut params = CertificateParams::new(names.to_vec())?;
    limit(&mut params, today, until)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "srm-mirror");
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Valid from the day before `today`, for clocks that are late, to the end of `until`.
fn limit(params: &mut CertificateParams, today: Date, until: Date) -> Result<(), InitError> {
    let day = |date: Date| date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    params.not_before = day(today.yesterday()?);
    params.not_after = day(until.tomorrow()?);
    Ok(())
}

/// The authority that the directory has.
fn stored(dir: &Path, ca: &Path, key: &Path) -> Result<(KeyPair, CertificateDer<'static>), InitError> {
    let unusable = |reason: &str| InitError::Authority { dir: dir.to_owned(), reason: reason.into() };
    for file in [ca, key] {
        if !file.exists() {
            return Err(unusable(&format!("{} is missing", file.display())));
        }
    }
    let key_text = fs::read_to_string(key).map_err(at(key))?;
    let pair = KeyPair::from_pem(&key_text).map_err(|_| unusable("ca.key is no key this program has made"))?;
    let root = CertificateDer::from_pem_slice(&fs::read(ca).map_err(at(ca))?);
    Ok((pair, root.map_err(|_| unusable("ca.pem has no certificate in it"))?))
}

/// Sees with a client's eyes whether the certificate is good for every name.
fn check(dir: &Path, root: &CertificateDer<'_>, leaf: &CertificateDer<'_>, names: &[String]) -> Result<(), InitError> {
    use rustls::{CertificateError, Error};
    let unusable = |reason: String| InitError::Authority { dir: dir.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned()).map_err(|_| unusable("ca.pem is no authority".into()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|why| unusable(why.to_string()))?;
    for name in names {
        // A star stands for any one label.
        let host = name.replace('*', "any");
        let host = ServerName::try_from(host).map_err(|_| InitError::Name(name.clone()))?;
        match verifier.verify_server_cert(leaf, &[], &host, &[], UnixTime::now()) {
            Ok(_) => {}
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                return Err(unusable("ca.pem does not belong to ca.key, or was not made by this program".into()));
            }
            Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                return Err(unusable("it has expired".into()));
            }
            Err(why) if why.to_string().contains("NameConstraintViolation") => {
                return Err(InitError::OtherNames { dir: dir.to_owned(), names: names.join(", ") });
            }
            Err(why) => return Err(unusable(why.to_string())),
        }
    }
    Ok(())
}

fn at(file: &Path) -> impl FnOnce(io::Error) -> InitError {
    let file = file.to_owned();
    move |source| InitError::File { file, source }
}

/// Replaces a file atomically, so that a running mirror never reads a part of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), InitError> {
    let replace = || {
        let file = AtomicFile::create(path, mode)?;
        file.file().write_all(text.as_bytes())?;
        file.publish()
    };
    replace().map_err(at(path))
}
