//! Signed addresses of zips: the command line clients send no credentials with the request for a zip.
//!
//! The query `srm={form}.{key}.{expiry}.{credential}.{mac}` follows the path. `form` says whether one zip is meant or
//! every version of a package, as in a list, whose answer has one signature; `expiry` is a second since 1970 in
//! hexadecimal digits; `credential` is an [`AddressCredential`], no secret; `mac` is the HMAC-SHA-256 ([RFC 2104]) of
//! all of these and of the percent-decoded path, which names dialect, upstream, package and version. The scheme and host
//! are not signed: a proxy may change them.
//!
//! [RFC 2104]: https://www.rfc-editor.org/rfc/rfc2104

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Uri};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;

use super::{Principal, address_credential::AddressCredential, signing_keys::SigningKeys};

/// How long an upload address holds, and the reservation that it belongs to.
pub(crate) const UPLOAD_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// The query parameter of a signature, with its equals sign.
const SIGNATURE_PARAMETER: &str = "srm=";
/// Part of every signed text, so that no signature of another use of the keys is valid here.
const ZIP_DOMAIN: &str = "srm-mirror zip address 1";
/// Longest query that is looked at, bytes.
const MAX_QUERY_BYTES: usize = 2048;
/// What precedes the version in the path of a zip.
const VERSION_PREFIXES: [&str; 2] = ["/zipball/", "/flat/"];

/// The zips that one signature is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignedZips {
    /// One zip, by its percent-decoded path.
    Zip(String),
    /// Every version of a package, by the path up to the version.
    Package(String),
}

impl SignedZips {
    /// The zip at an address without scheme and host.
    pub(crate) fn one(address: &str) -> Self {
        Self::Zip(decoded(address))
    }

    /// Every version of the package whose zip is at an address.
    pub(crate) fn all_versions(address: &str) -> Self {
        let path = decoded(address);
        let end = version_start(&path).unwrap_or(path.len());
        Self::Package(path[..end].to_owned())
    }

    fn form(&self) -> char {
        match self {
            Self::Zip(_) => 'z',
            Self::Package(_) => 'p',
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Zip(path) | Self::Package(path) => path,
        }
    }
}

/// Signs and verifies addresses.
pub(super) struct AddressSigner {
    lifetime: Duration,
    keys: Arc<SigningKeys>,
}

impl std::fmt::Debug for AddressSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressSigner").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl AddressSigner {
    /// Signs with these keys, also after they have changed.
    pub(super) fn new(keys: Arc<SigningKeys>, lifetime: Duration) -> Self {
        Self { lifetime, keys }
    }

    /// For how long a key is needed after the next one was made.
    pub(super) fn key_lifetime(&self) -> SignedDuration {
        SignedDuration::try_from(self.lifetime).unwrap_or(SignedDuration::MAX).max(UPLOAD_LIFETIME)
    }

    /// The query with a question mark before it; empty when there is no key, or when it would be longer than
    /// [`MAX_QUERY_BYTES`]. It ends with the principal's credential: if that has ended, it does not verify.
    pub(super) fn sign(&self, principal: &Principal, zips: &SignedZips, now: Timestamp) -> String {
        let end = now.saturating_add(self.lifetime).unwrap_or(Timestamp::MAX);
        let end = principal.expires_at.map_or(end, |expires| expires.min(end)).as_second();
        let claims = format!("{end:x}.{}", principal.address);
        self.seal(ZIP_DOMAIN, zips.form(), &claims, zips.path()).unwrap_or_default()
    }

    /// The query that contains `claims` and proves that this mirror has signed them for `subject`, with a question mark before
    /// it; `None` when there is no key, or when it would be longer than [`MAX_QUERY_BYTES`]. Every use of the keys has a
    /// `domain` of its own.
    pub(super) fn seal(&self, domain: &str, form: char, claims: &str, subject: &str) -> Option<String> {
        let keys = self.keys.load();
        let key = keys.signing()?;
        let sealed = format!("{form}.{}.{claims}", key.id);
        let mac = hmac::sign(&key.key, &message(domain, &sealed, subject));
        let query = format!("?{SIGNATURE_PARAMETER}{sealed}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()));
        // Longer ones would be refused when they are used.
        (query.len() <= MAX_QUERY_BYTES).then_some(query)
    }

    /// True when this mirror, or another of its bucket, has signed the query's claims for `subject`.
    pub(super) fn has_sealed(&self, domain: &str, query: &SealedQuery<'_>, subject: &str) -> bool {
        let Ok(mac) = URL_SAFE_NO_PAD.decode(query.mac) else { return false };
        let keys = self.keys.load();
        let Some(key) = keys.by_id(query.key) else { return false };
        // The comparison takes the same time for every wrong MAC.
        hmac::verify(&key.key, &message(domain, query.sealed, subject), &mac).is_ok()
    }

    /// The credential that the address of a request was signed for; `None` when it is not signed, or not for this zip,
    /// or no longer.
    pub(super) fn verify(&self, method: &Method, uri: &Uri, now: Timestamp) -> Option<AddressCredential> {
        let query = SealedQuery::of(uri)?;
        if *method != Method::GET && *method != Method::HEAD {
            return None;
        }
        let (end, credential) = query.claims.split_once('.')?;
        let end = i64::from_str_radix(end, 16).ok()?;
        let path = decoded(uri.path());
        // One doubled slash at the start is accepted in every path.
        let path = if path.starts_with("//") { &path[1..] } else { &path[..] };
        let version_start = version_start(path)?;
        let signed = match query.form {
            "z" => path,
            "p" => &path[..version_start],
            _ => return None,
        };
        let is_valid = self.has_sealed(ZIP_DOMAIN, &query, signed) && now.as_second() < end;
        if is_valid { AddressCredential::parse(credential) } else { None }
    }
}

/// The query of a signed address, `{form}.{key}.{claims}.{mac}`, before its MAC is verified.
pub(super) struct SealedQuery<'a> {
    pub(super) form: &'a str,
    key: &'a str,
    pub(super) claims: &'a str,
    /// All that precedes the MAC.
    sealed: &'a str,
    mac: &'a str,
}

impl<'a> SealedQuery<'a> {
    /// Reads the query of an address; `None` when it has no signature.
    pub(super) fn of(uri: &'a Uri) -> Option<Self> {
        let (sealed, mac) = signature(uri)?.rsplit_once('.')?;
        let (form, rest) = sealed.split_once('.')?;
        let (key, claims) = rest.split_once('.')?;
        Some(Self { form, key, claims, sealed, mac })
    }
}

/// True when an address has a signature, valid or not.
pub(crate) fn has_signature(uri: &Uri) -> bool {
    signature(uri).is_some()
}

/// The signature in the query of an address, if it has one.
fn signature(uri: &Uri) -> Option<&str> {
    uri.query()?.strip_prefix(SIGNATURE_PARAMETER).filter(|claims| claims.len() <= MAX_QUERY_BYTES)
}

/// The text that is signed. No part but the last can contain a zero byte.
fn message(domain: &str, sealed: &str, subject: &str) -> Vec<u8> {
    [domain, "\0", sealed, "\0", subject].concat().into_bytes()
}

fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Where the version begins in the path of a zip.
fn version_start(path: &str) -> Option<usize> {
    let start = |prefix: &str| path.find(prefix).map(|at| at + prefix.len());
    VERSION_PREFIXES.into_iter().filter_map(start).min()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::access::{
        Right,
        principal::{CredentialKey, Scope},
        signing_keys,
    };

    fn principal(expires_at: Option<Timestamp>) -> Principal {
        let scope = Scope { rights: vec![Right::Read], packages: Vec::new() };
        let key = CredentialKey::of("token", "id");
        let name = "token:ci".into();
        let address = "id".into();
        Principal { name, groups: Vec::new(), credential: "id".into(), scope, expires_at, key, client: 1, address }
    }

    fn signer(dir: &Path) -> AddressSigner {
        let keys = Arc::new(SigningKeys::open(dir).expect("opens"));
        let signer = AddressSigner::new(keys, Duration::from_secs(900));
        if signer.keys.stored().is_empty() {
            rotate(&signer, Timestamp::UNIX_EPOCH);
        }
        signer
    }

    fn rotate(signer: &AddressSigner, now: Timestamp) {
        let keys = signing_keys::rotate(&signer.keys.stored(), signer.key_lifetime(), now).expect("a key");
        signer.keys.take_over(keys, Duration::ZERO).expect("written");
    }

    fn uri(path: &str, query: &str) -> Uri {
        format!("{path}{query}").parse().expect("an address")
    }

    #[test]
    fn an_address_holds_for_its_zip_alone_until_it_expires() {
        let dir = tempfile::tempdir().expect("a directory");
        let signer = signer(dir.path());
        let start = Timestamp::UNIX_EPOCH;
        let zip = "/v3/packages/official__fc3/zipball/1.0.0%2Bb";
        let query = signer.sign(&principal(None), &SignedZips::one(zip), start);
        let credential = |method: Method, path: &str, query: &str, seconds: i64| {
            signer.verify(&method, &uri(path, query), start + SignedDuration::from_secs(seconds))
        };
        for path in [zip, "/v3/packages/official__fc3/zipball/1.0.0+b", "//v3/packages/official__fc3/zipball/1.0.0+b"] {
            let expected = Some(AddressCredential::Token("id".into()));
            assert_eq!(credential(Method::GET, path, &query, 899), expected, "{path}");
        }
        assert!(credential(Method::HEAD, zip, &query, 0).is_some());
        assert_eq!(credential(Method::PUT, zip, &query, 0), None);
        assert_eq!(credential(Method::GET, zip, &query, 900), None);
        for path in [
            "/v3/packages/official__fc3/zipball/1.0.1",
            "/v3/packages/official__fc2/zipball/1.0.0+b",
            "/simple/official/fc3/zipball/1.0.0+b",
            "/official/fc3/flat/1.0.0+b",
            "/v3/packages/official__fc3/release/latest",
        ] {
            assert_eq!(credential(Method::GET, path, &query, 0), None, "{path}");
        }
        for at in 5..query.len() {
            let mut other = query.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).expect("text");
            // The last base64 character of the MAC has unused bits.
            let is_same = at == query.len() - 1;
            assert!(credential(Method::GET, zip, &other, 0).is_none() || is_same, "{at}");
        }
    }

    #[test]
    fn the_signature_of_a_list_holds_for_every_version_of_its_package_and_form() {
        let dir = tempfile::tempdir().expect("a directory");
        let signer = signer(dir.path());
        let zips = SignedZips::all_versions("/simple/github/devsapp/fc3/zipball/x");
        assert_eq!(zips, SignedZips::Package("/simple/github/devsapp/fc3/zipball/".into()));
        let query = signer.sign(&principal(None), &zips, Timestamp::UNIX_EPOCH);
        let holds = |path: &str| signer.verify(&Method::GET, &uri(path, &query), Timestamp::UNIX_EPOCH).is_some();
        assert!(holds("/simple/github/devsapp/fc3/zipball/1.0.0") && holds("/simple/github/devsapp/fc3/zipball/v/2"));
        assert!(!holds("/simple/github/devsapp/fc2/zipball/1.0.0") && !holds("/devsapp/fc3/zipball/1.0.0"));
    }

    #[test]
    fn an_address_ends_with_its_credential() {
        let dir = tempfile::tempdir().expect("a directory");
        let signer = signer(dir.path());
        let end = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10);
        let zip = "/devsapp/fc3/zipball/1";
        let query = signer.sign(&principal(Some(end)), &SignedZips::one(zip), Timestamp::UNIX_EPOCH);
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        assert!(signer.verify(&Method::GET, &uri(zip, &query), at(9)).is_some());
        assert!(signer.verify(&Method::GET, &uri(zip, &query), at(10)).is_none());
    }

    #[test]
    fn an_address_that_would_be_too_long_to_be_read_is_not_signed() {
        let dir = tempfile::tempdir().expect("a directory");
        let signer = signer(dir.path());
        let sign = |bytes: usize| {
            let principal = Principal { address: "x".repeat(bytes).into(), ..principal(None) };
            signer.sign(&principal, &SignedZips::one("/devsapp/fc3/zipball/1"), Timestamp::UNIX_EPOCH)
        };
        assert!(sign(1800).len() > 1800 && sign(2048).is_empty());
    }

    #[test]
    fn keys_survive_a_restart_and_a_rotation_until_what_they_signed_has_expired() {
        let dir = tempfile::tempdir().expect("a directory");
        let zip = "/devsapp/fc3/zipball/1";
        let start = Timestamp::UNIX_EPOCH;
        let query = signer(dir.path()).sign(&principal(None), &SignedZips::one(zip), start);
        let signer = Arc::new(signer(dir.path()));
        let holds = |seconds| {
            signer.verify(&Method::GET, &uri(zip, &query), start + SignedDuration::from_secs(seconds)).is_some()
        };
        assert!(holds(1));
        rotate(&signer, start + SignedDuration::from_secs(2));
        assert!(holds(3));
        rotate(&signer, start + SignedDuration::from_secs(2000));
        rotate(&signer, start + SignedDuration::from_secs(4000));
        assert!(!holds(3), "the key is gone");
    }
}
