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

use crate::{clock::Clock, entry::Digest, package::PackageId, peer::ClientCertificate};

mod account_changes;
mod accounts;
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
mod rule_error;
mod rules;
mod signing_keys;
mod token_changes;
mod token_file;
mod token_record;
mod token_text;
mod tokens;
mod upload_addresses;

pub(crate) use crate::admin_api::Right;
pub(crate) use accounts::{AccountsState, AccountsUpdate, SharedAccounts};
pub(crate) use addresses::{SignedZips, UPLOAD_LIFETIME, has_signature};
pub(crate) use certificates::CertificateUse;
pub use config::{Config, RuleConfig};
pub use issuer_config::IssuerConfig;
pub(crate) use issuers::{JwtFault, KeySource, KeySourceError, NO_KEYS_RETRY, VerificationError};
pub(crate) use nonces::NonceUse;
pub(crate) use principal::{Caller, Grant, Principal};
pub use rule_error::{RuleError, RuleErrorReason, RulePlace};
use rules::Rules;
pub(crate) use token_changes::{NewToken, TokenOutcome};
pub(crate) use token_record::{SharedAccountsError, TokenError, TokenRecord};
pub(crate) use upload_addresses::{UploadAddress, UploadClaims};

use accounts::Accounts;
use address_credential::AddressCredential;
use addresses::AddressSigner;
use administration::AdministrationPolicy;
use authorization::Authorization;
use certificates::Certificates;
use cli_signature::CliSignature;
use issuer_config::IssuerPolicy;
use issuers::{Issuers, JwtCaller, UnverifiedJwt};
use nonces::Nonces;
use signing_keys::SigningKeys;
use tokens::Tokens;

/// The folder of tokens and keys in the cache directory.
const ACCESS_DIR: &str = "access";

/// The accounts, rules and keys of one mirror. One per process.
#[derive(Debug)]
pub(crate) struct Access {
    enabled: bool,
    administration: AdministrationPolicy,
    rules: Rules,
    accounts: Arc<Accounts>,
    certificates: Arc<Certificates>,
    issuers: Issuers,
    addresses: AddressSigner,
    nonces: Arc<Nonces>,
    /// Grows with every change of tokens, after which an earlier answer of the rules may be wrong.
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
    /// The tokens and keys cannot be read from the bucket of all mirrors, or not be written.
    #[error(transparent)]
    Accounts(#[from] TokenError),
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
    /// True when the caller is known by the signature in the address, which holds for the zips that it names.
    pub(crate) by_address: bool,
}

/// Who sent a request, or what must be asked first.
#[derive(Debug)]
pub(crate) enum Identification {
    /// The caller is known.
    Known(Identified),
    /// The caller is known after [`Access::verify`] of this.
    Pending(PendingCredential),
}

/// Credentials that cannot be verified without a question to another host.
#[derive(Debug)]
pub(crate) enum PendingCredential {
    /// A JWT whose key is not in memory.
    Jwt(UnverifiedJwt),
    /// The command line client's signature of a change: no other mirror may have seen its nonce.
    Signed {
        /// Who signed.
        principal: Arc<Principal>,
        /// Identifies the account and its nonce.
        nonce: Digest,
    },
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
    /// A JWT is not valid.
    Jwt(JwtFault),
}

/// Reads the accounts that are in the bucket of all mirrors, and makes the first signing key, if there is none. Blocks.
///
/// # Errors
/// When there is neither a copy of the accounts nor a bucket that can be used; when a file cannot be written.
fn prepare_accounts(accounts: &Accounts, addresses: &AddressSigner, clock: &Clock) -> Result<(), OpenAccessError> {
    match accounts.ensure_key(addresses.key_lifetime(), clock.now()) {
        Err(TokenError::Shared(error))
            if error == SharedAccountsError::Unavailable && accounts.can_do_without_bucket() =>
        {
            tracing::warn!(%error, "this mirror starts with its copy of the tokens");
            Ok(())
        }
        Err(error) => Err(OpenAccessError::Accounts(error)),
        Ok(()) => Ok(()),
    }
}

impl Access {
    /// Compiles the section and opens the files in the cache directory, which this process must hold. Blocks. `key_source`
    /// fetches the keys of issuers, when a token needs them; `shared` has the accounts of all mirrors of a bucket.
    ///
    /// # Errors
    /// When a file cannot be read or a rule cannot be used.
    pub(crate) fn open(
        config: &Config,
        cache_dir: &Path,
        clock: Clock,
        key_source: &Arc<dyn KeySource>,
        certificate_use: CertificateUse,
        shared: Option<Arc<dyn SharedAccounts>>,
    ) -> Result<Self, OpenAccessError> {
        let dir = cache_dir.join(ACCESS_DIR);
        let accounts = Arc::new(Accounts::new(Tokens::open(&dir)?, SigningKeys::open(&dir)?, shared));
        let addresses = AddressSigner::new(accounts.keys.clone(), config.address_lifetime.0);
        if config.enabled {
            prepare_accounts(&accounts, &addresses, &clock)?;
        }
        Ok(Self {
            enabled: config.enabled,
            administration: AdministrationPolicy::of(config),
            rules: Rules::build(config)?,
            accounts,
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
        let addresses = AddressSigner::new(self.accounts.keys.clone(), config.address_lifetime.0);
        if config.enabled {
            prepare_accounts(&self.accounts, &addresses, &self.clock)?;
        }
        Ok(Self {
            enabled: config.enabled,
            administration: AdministrationPolicy::of(config),
            rules,
            accounts: self.accounts.clone(),
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

    /// A number that changes with every change of tokens. A cache of answers of the rules keeps it with each answer, and reads
    /// it before the rules are evaluated.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes earlier answers of the rules obsolete.
    fn advance_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Who sent a request, over a connection with this certificate. Reads no file and waits for nothing; the keys of an
    /// issuer may be renewed beside it.
    ///
    /// # Errors
    /// Credentials that are not valid. A signature of the command line client that fits no account is ignored: the client
    /// sends one with every request when it is logged in to another registry.
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
            Some(Authorization(token)) if self.issuers.is_jwt(&token) => match self.issuers.identify(&token)? {
                JwtCaller::Known(principal) => Some(principal),
                JwtCaller::Pending(jwt) => return Ok(Identification::Pending(PendingCredential::Jwt(jwt))),
            },
            Some(Authorization(token)) => Some(self.accounts.tokens.by_secret(&token, now)?),
            None => match cli_signature::verify(headers, &self.accounts.tokens, &self.nonces, now)? {
                // A repeated nonce is of no use to a request that changes nothing, so the bucket is not asked.
                Some(CliSignature { principal, nonce }) if self.accounts.are_shared() && !method.is_safe() => {
                    return Ok(Identification::Pending(PendingCredential::Signed { principal, nonce }));
                }
                signature => signature.map(|signature| signature.principal),
            },
        };
        Ok(known(principal.map_or(Caller::Anonymous, Caller::Principal)))
    }

    /// Who sent a request with these credentials. Waits for the keys of an issuer, at most 10 s, or for the bucket.
    ///
    /// # Errors
    /// Credentials that are not valid; keys that cannot be fetched; a bucket that cannot be asked.
    pub(crate) async fn verify(&self, pending: PendingCredential) -> Result<Caller, VerificationError> {
        match pending {
            PendingCredential::Jwt(jwt) => self.issuers.verify(jwt).await.map(Caller::Principal),
            PendingCredential::Signed { principal, nonce } => match self.accounts.spend(nonce).await {
                Ok(NonceUse::First) => Ok(Caller::Principal(principal)),
                Ok(NonceUse::Repeated) => Err(VerificationError::Invalid(InvalidCredential::Signature)),
                Err(_) => Err(VerificationError::NoBucket),
            },
        }
    }

    /// The principal of the credential in an address, if it is valid now.
    fn principal_of(&self, credential: &AddressCredential, now: Timestamp) -> Option<Arc<Principal>> {
        match credential {
            AddressCredential::Token(id) => self.accounts.tokens.by_id(id, now),
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
        self.rules.deciding_rule(package)
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
}

#[cfg(test)]
mod tests;
