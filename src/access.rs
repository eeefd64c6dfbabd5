//! Who asks, and what they may do: from the credentials of a request to a caller, and from a caller and a package to a
//! grant.
//!
//! Knows neither packages' contents nor upstreams. [`Access::identify`] runs before every cache of answers, and the rules
//! are evaluated for every request, also for one whose answer is cached. Without `access.enabled` every caller may read
//! everything, and nothing is checked.
//!
//! A client proves who it is by, in this order: the signature in a zip's address ([`addresses`]), its certificate
//! ([`certificates`]), a token of this mirror or of an OpenID Connect provider ([`issuers`]) as Bearer or as the password
//! of Basic ([RFC 6750], [RFC 7617]), or the signature of the 3.x command line client ([`cli_signature`]). The first that a
//! request has decides; the others are not looked at.
//!
//! [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750
//! [RFC 7617]: https://www.rfc-editor.org/rfc/rfc7617

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;

use crate::{clock::Clock, package::PackageId, peer::ClientCertificate, value::Secret};

mod address_credential;
mod addresses;
mod administration;
mod authorization;
mod certificates;
mod cli_signature;
mod config;
mod issuer_config;
mod issuers;
mod nonces;
mod principal;
mod rules;
mod token_file;
mod token_text;
mod tokens;
mod upload_addresses;

pub(crate) use crate::admin_api::Right;
pub(crate) use addresses::{SignedZips, has_signature};
pub(crate) use certificates::CertificateUse;
pub use config::{Config, RuleConfig, RuleError, RuleErrorReason, RulePlace};
pub use issuer_config::IssuerConfig;
pub(crate) use issuers::{JwtFault, KeySource, KeySourceError, NO_KEYS_RETRY, UnverifiedJwt, VerificationError};
pub(crate) use principal::{Caller, Grant, Principal};
use rules::Rules;
pub(crate) use tokens::{NewToken, TokenError, TokenOutcome, TokenRecord};
pub(crate) use upload_addresses::{UPLOAD_LIFETIME, UploadAddress, UploadClaims};

use address_credential::AddressCredential;
use addresses::AddressSigner;
use administration::AdministrationPolicy;
use authorization::Authorization;
use certificates::Certificates;
use issuer_config::IssuerPolicy;
use issuers::{Issuers, JwtCaller};
use nonces::Nonces;
use tokens::Tokens;

/// The folder of tokens and keys in the cache directory.
const DIR: &str = "access";

/// The accounts, rules and keys of one mirror. One per process.
#[derive(Debug)]
pub(crate) struct Access {
    enabled: bool,
    administration: AdministrationPolicy,
    rules: Rules,
    tokens: Arc<Tokens>,
    certificates: Arc<Certificates>,
    issuers: Issuers,
    addresses: AddressSigner,
    nonces: Arc<Nonces>,
    /// Bumped by every change after which an earlier verdict may not hold.
    generation: AtomicU64,
    clock: Clock,
}

/// Why `access/` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenAccessError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file has other content than this program writes.
    #[error("{} cannot be read: {reason}; restore it from a backup, or remove it, which makes all its tokens or signed \
             addresses invalid", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong. No content of the file.
        reason: &'static str,
    },
    /// A rule cannot be used.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// Checks the issuers, patterns, principals and groups of the section.
///
/// # Errors
/// The first value that cannot be used.
pub(crate) fn check(config: &Config) -> Result<(), RuleError> {
    IssuerPolicy::compile_all(&config.issuers)?;
    Rules::build(config)?;
    rules::check_administrators(config)
}

/// Who sent a request.
#[derive(Debug)]
pub(crate) struct Identified {
    /// The caller.
    pub(crate) caller: Caller,
    /// True when the signature in the address says so: the address holds for one zip.
    pub(crate) by_address: bool,
}

/// What the credentials of a request say of its caller.
#[derive(Debug)]
pub(crate) enum Identification {
    /// The caller.
    Known(Identified),
    /// A JWT whose key is not in memory; [`Access::verify`] waits for it.
    Pending(UnverifiedJwt),
}

/// Credentials that are there and are not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidCredential {
    /// The `Authorization` field is malformed, or its scheme is neither Bearer nor Basic.
    Malformed,
    /// No such token, or it is revoked.
    UnknownToken,
    /// The token has expired.
    Expired,
    /// The command line client's signature does not fit its account, or its time or nonce does not hold.
    Signature,
    /// The client's certificate has expired since the connection began.
    CertificateExpired,
    /// A JWT does not hold.
    Jwt(JwtFault),
}

impl Access {
    /// Compiles the section and opens the files in the cache directory, which this process must hold. Blocks. `key_source`
    /// fetches the keys of issuers, when a token needs them.
    ///
    /// # Errors
    /// When a file cannot be read or a rule cannot be used.
    pub(crate) fn open(
        config: &Config,
        cache_dir: &Path,
        clock: Clock,
        key_source: &Arc<dyn KeySource>,
        certificate_use: CertificateUse,
    ) -> Result<Self, OpenAccessError> {
        let dir = cache_dir.join(DIR);
        let addresses = AddressSigner::open(&dir, config.address_lifetime.0)?;
        if config.enabled {
            addresses.ensure_key(clock.now())?;
        }
        Ok(Self {
            enabled: config.enabled,
            administration: AdministrationPolicy::of(config),
            rules: Rules::build(config)?,
            tokens: Arc::new(Tokens::open(&dir)?),
            certificates: Arc::new(Certificates::new(certificate_use)),
            issuers: Issuers::build(config, key_source, clock.clone())?,
            addresses,
            nonces: Arc::default(),
            generation: AtomicU64::new(1),
            clock,
        })
    }

    /// The same accounts, keys and remembered nonces under another section. Both values may be used at once; changes of
    /// tokens are made through one of them and hold for both. May write a file: blocks.
    ///
    /// # Errors
    /// When a rule cannot be used, or the first signing key cannot be written.
    pub(crate) fn reconfigured(
        &self,
        config: &Config,
        key_source: &Arc<dyn KeySource>,
    ) -> Result<Self, OpenAccessError> {
        let rules = Rules::build(config)?;
        let issuers = Issuers::build(config, key_source, self.clock.clone())?;
        let addresses = self.addresses.with_lifetime(config.address_lifetime.0);
        if config.enabled {
            addresses.ensure_key(self.clock.now())?;
        }
        Ok(Self {
            enabled: config.enabled,
            administration: AdministrationPolicy::of(config),
            rules,
            tokens: self.tokens.clone(),
            certificates: self.certificates.clone(),
            issuers,
            addresses,
            nonces: self.nonces.clone(),
            generation: AtomicU64::new(1),
            clock: self.clock.clone(),
        })
    }

    /// False when every caller may read everything.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// True when callers may publish over unencrypted connections from other machines: `access.allow_plaintext`.
    pub(crate) fn allows_plaintext(&self) -> bool {
        self.administration.allows_plaintext
    }

    /// Changes with every change of tokens and rules. Read it before the evaluation that it is remembered with.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn bump(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Who sent a request, over a connection with this certificate. Reads no file and waits for nothing; the keys of an
    /// issuer may be renewed beside it.
    ///
    /// # Errors
    /// Credentials that are not valid. A signature that fits no account is none: the command line client sends one with
    /// every request when it is logged in elsewhere.
    pub(crate) fn identify(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Identification, InvalidCredential> {
        let known = |caller| Identification::Known(Identified { caller, by_address: false });
        if !self.enabled {
            return Ok(known(Caller::Anonymous));
        }
        let now = self.clock.now();
        let in_address = self.addresses.verify(method, uri, now);
        if let Some(principal) = in_address.and_then(|credential| self.principal_of(&credential, now)) {
            let caller = Caller::Principal(principal);
            return Ok(Identification::Known(Identified { caller, by_address: true }));
        }
        if let Some(certificate) = certificate
            && let Some(principal) = self.certificates.identify(certificate, now)?
        {
            return Ok(known(Caller::Principal(principal)));
        }
        let principal = match Authorization::of(headers)? {
            Some(Authorization(token)) if self.issuers.accept(&token) => match self.issuers.identify(&token)? {
                JwtCaller::Known(principal) => Some(principal),
                JwtCaller::Pending(jwt) => return Ok(Identification::Pending(jwt)),
            },
            Some(Authorization(token)) => Some(self.tokens.by_secret(&token, now)?),
            None => cli_signature::verify(headers, &self.tokens, &self.nonces, now)?,
        };
        Ok(known(principal.map_or(Caller::Anonymous, Caller::Principal)))
    }

    /// Who sent a request with a JWT whose key was not in memory. Waits for the keys of its issuer, at most 10 s.
    ///
    /// # Errors
    /// A token that is not valid; keys that cannot be fetched.
    pub(crate) async fn verify(&self, jwt: UnverifiedJwt) -> Result<Caller, VerificationError> {
        self.issuers.verify(jwt).await.map(Caller::Principal)
    }

    /// The principal of the credential in an address, if it is valid now.
    fn principal_of(&self, credential: &AddressCredential, now: Timestamp) -> Option<Arc<Principal>> {
        match credential {
            AddressCredential::Token(id) => self.tokens.by_id(id, now),
            AddressCredential::Jwt(claims) => self.issuers.by_address(claims, now),
            AddressCredential::Certificate(certificate) => self.certificates.by_address(certificate, now),
        }
    }

    /// What a caller may do with a package: the first rule whose pattern matches decides.
    pub(crate) fn grant(&self, caller: &Caller, package: &PackageId, right: Right) -> Grant {
        if !self.enabled { Grant::Everyone } else { self.rules.grant(caller, package, right) }
    }

    /// True when a caller may read the figures of the mirror: `access.metrics`.
    pub(crate) fn may_read_metrics(&self, caller: &Caller) -> bool {
        !self.enabled || self.rules.may_read_metrics(caller)
    }

    /// The number of the rule that decides for a package, counted from 1; `None`: no rule matches.
    pub(crate) fn deciding_rule(&self, package: &PackageId) -> Option<usize> {
        self.rules.deciding(package)
    }

    /// False when no caller without credentials may read anything.
    pub(crate) fn has_anonymous_rules(&self) -> bool {
        !self.enabled || self.rules.have_anonymous()
    }

    /// True when the rules may treat one package other than another.
    pub(crate) fn distinguishes_packages(&self) -> bool {
        self.enabled && self.rules.distinguish_packages()
    }

    /// The query that makes these zips' addresses valid without other credentials, for as long as the principal's
    /// credential is valid and at most for `access.address_lifetime`.
    pub(crate) fn sign(&self, principal: &Principal, zips: &SignedZips) -> String {
        self.addresses.sign(principal, zips, self.clock.now())
    }

    /// Creates a token. The secret is in the answer and nowhere else, unless the token is one for the command line client.
    /// Blocks.
    ///
    /// # Errors
    /// A name that is taken or malformed; the file system's error.
    pub(crate) fn create_token(&self, new: NewToken) -> Result<TokenOutcome, TokenError> {
        let created = self.tokens.create(new, self.clock.now())?;
        self.bump();
        Ok(created)
    }

    /// Replaces the code of the command line client that a principal signs with; the earlier one does not hold any more.
    /// Returns the new one. Blocks.
    ///
    /// # Errors
    /// When the principal has no such code; the file system's error, after which the earlier code holds.
    pub(crate) fn renew_code(&self, principal: &Principal) -> Result<Secret, TokenError> {
        let renewed = self.tokens.renew_code(&principal.credential, self.clock.now());
        self.bump();
        renewed
    }

    /// Every token, by name. No secrets.
    pub(crate) fn list_tokens(&self) -> Vec<Arc<TokenRecord>> {
        self.tokens.list()
    }

    /// Removes a token: the next request with it is refused. Blocks.
    ///
    /// # Errors
    /// When there is no such token; the file system's error, after which the token is refused until the next start.
    pub(crate) fn revoke_token(&self, name: &str) -> Result<(), TokenError> {
        let revoked = self.tokens.revoke(name);
        self.bump();
        revoked
    }

    /// Replaces the key that signs addresses. Addresses that the last key signed hold until they expire. Blocks.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn rotate_signing_key(&self) -> Result<(), OpenAccessError> {
        self.addresses.rotate(self.clock.now())
    }

    /// Writes when each token was last used, if that has changed. Blocks.
    pub(crate) fn save_uses(&self) {
        if let Err(error) = self.tokens.save_uses() {
            tracing::warn!(%error, "the last uses of the tokens cannot be written");
        }
    }
}

#[cfg(test)]
mod tests;
