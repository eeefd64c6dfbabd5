//! Callers: principals with their rights, and clients without credentials.

use std::{str::FromStr, sync::Arc};

use jiff::Timestamp;
use wildmatch::WildMatch;

use crate::{
    admin_api::Right,
    entry::Digest,
    package::{PackageId, PackagePattern},
};

/// The kinds of credentials, as they stand before the colon of a principal's name.
const PRINCIPAL_SOURCES: [&str; 3] = ["token", "cert", "oidc"];
/// What stands before the colon of a group in a rule.
const GROUP_SOURCE: &str = "group";

/// A client with valid credentials: a person or a program.
#[derive(Debug)]
pub(crate) struct Principal {
    /// The source and the name, such as `token:ci`, `cert:CN=ci,O=Acme` or `oidc:corp:anna`.
    pub(crate) name: Arc<str>,
    /// The groups that it belongs to, as the credential says: those that rules name. Groups of the configuration are part of
    /// the rules.
    pub(crate) groups: Vec<Arc<str>>,
    /// The id of its credential.
    pub(crate) credential: Arc<str>,
    /// What the credential is limited to.
    pub(crate) scope: Scope,
    /// When the credential ends; `None`: never.
    pub(crate) expires_at: Option<Timestamp>,
    /// Identifies its credential.
    pub(crate) key: CredentialKey,
    /// Identifies the client, and is the same for all its credentials.
    pub(crate) client: u64,
    /// Its credential as the text in a signed address, see `AddressCredential`.
    pub(super) address: Arc<str>,
}

/// Identifies a credential in the keys of caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CredentialKey(pub(crate) [u8; 16]);

impl CredentialKey {
    /// The key of a credential of a source.
    pub(super) fn of(source: &str, id: &str) -> Self {
        let digest = Digest::of(format!("{source}\0{id}").as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&digest.0[..16]);
        Self(key)
    }

    /// The same as a number.
    pub(crate) fn as_u64(self) -> u64 {
        self.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// What a credential is limited to: it narrows what the rules give.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The rights that it may use.
    pub(crate) rights: Vec<Right>,
    /// The packages that it may be used for; empty: all.
    pub(crate) packages: Vec<PackagePattern>,
}

impl Scope {
    /// True when the credential may be used for this package and right.
    pub(super) fn permits(&self, package: &PackageId, right: Right) -> bool {
        let matches = || self.packages.is_empty() || self.packages.iter().any(|pattern| pattern.matches(package));
        self.rights.contains(&right) && matches()
    }
}

/// Who sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) enum Caller {
    /// A client without credentials.
    #[default]
    Anonymous,
    /// A client with valid credentials.
    Principal(Arc<Principal>),
    /// The owner of the cache directory, through its control socket: may do everything.
    Operator,
}

impl Caller {
    /// The principal, if it is one.
    pub(crate) fn principal(&self) -> Option<&Arc<Principal>> {
        match self {
            Self::Principal(principal) => Some(principal),
            Self::Anonymous | Self::Operator => None,
        }
    }
}

/// Whether the rules let a caller do something with a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    /// It may not.
    Refused,
    /// It may, as every client may. Private repositories are excluded.
    Everyone,
    /// It may, because a rule names the caller.
    Named,
}

/// A pattern of principals in a rule: `token:ci`, `token:ci-*`, `cert:CN=ci,O=Acme`, `oidc:corp:anna`, `group:dev`,
/// `group:corp:dev`, or `*`.
#[derive(Clone, Debug)]
pub(super) enum PrincipalPattern {
    /// Everyone with valid credentials.
    Anyone,
    /// Principals, by source and name.
    Name(WildMatch),
    /// The members of a group.
    Group(String),
}

/// A text that is no pattern of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a principal; write for example \"token:ci\", \"group:dev\", or \"*\" for everyone with valid credentials")]
pub struct PrincipalPatternError;

impl FromStr for PrincipalPattern {
    type Err = PrincipalPatternError;

    fn from_str(text: &str) -> Result<Self, PrincipalPatternError> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        match text.split_once(':') {
            Some((GROUP_SOURCE, name)) if !name.is_empty() => Ok(Self::Group(name.to_owned())),
            Some((source, name)) if PRINCIPAL_SOURCES.contains(&source) && !name.is_empty() => {
                Ok(Self::Name(WildMatch::new(text)))
            }
            _ => Err(PrincipalPatternError),
        }
    }
}
