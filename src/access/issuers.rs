//! OpenID Connect: callers whose tokens another server issues and signs.
//!
//! A JWT in the `Authorization` field is checked against the `[[access.issuers]]` table whose issuer it names. The outcome is
//! cached until the token ends or the issuer's keys change. Only a request whose key is not in memory waits.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;

use super::{
    InvalidCredential, Principal,
    address_credential::SignedClaims,
    config::Config,
    issuer_config::IssuerPolicy,
    principal::{CredentialKey, Scope},
    rule_error::RuleError,
    token_text,
};
use crate::{admin_api::Right, clock::Clock, entry::Digest, value::bounded_cache::BoundedCache};

mod issuer_keys;
mod jwt;
mod key_set;

use issuer_keys::{FetchedKeys, IssuerKeys, KeyRenewal};
pub(crate) use issuer_keys::{KeySource, KeySourceError, NO_KEYS_RETRY};
pub(crate) use jwt::UnverifiedJwt;
use jwt::{JWT_LEEWAY, JwtIdentity, has_jwt_form};

/// Most bytes of the cache of verified tokens, as estimated.
const MAX_VERIFIED_JWT_BYTES: u64 = 16 << 20;
/// Estimated bytes of a cached token beside its texts.
const VERIFIED_JWT_OVERHEAD_BYTES: usize = 512;
/// Digits of the id of a JWT in the log: the beginning of its SHA-256.
const JWT_ID_DIGITS: usize = 16;

/// Why a JWT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtFault {
    /// It is longer than the limit.
    TooLong,
    /// A part of it or a claim has another form, or a claim is missing.
    Malformed,
    /// Its `iss` is the issuer of no `[[access.issuers]]` table.
    Issuer,
    /// It is signed with an algorithm that its issuer is not configured for.
    Algorithm,
    /// Its issuer has no such key.
    UnknownKey,
    /// Its signature is wrong.
    Signature,
    /// It is for another audience.
    Audience,
    /// It has expired.
    Expired,
    /// It begins to be valid later.
    NotYetValid,
    /// Its subject is empty or too long.
    Subject,
}

/// Why [`super::Access::verify`] knows no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerificationError {
    /// They are not valid.
    Invalid(InvalidCredential),
    /// The keys of the issuer cannot be fetched.
    NoKeys,
    /// The bucket that the mirrors share cannot be asked.
    NoBucket,
}

/// The caller who sent a JWT.
pub(super) enum JwtCaller {
    /// A principal.
    Known(Arc<Principal>),
    /// Not known without a key that is not in memory.
    Pending(UnverifiedJwt),
}

/// One issuer.
#[derive(Debug)]
struct Issuer {
    policy: IssuerPolicy,
    keys: Arc<IssuerKeys>,
}

/// A token that was verified.
#[derive(Debug)]
struct VerifiedJwt {
    principal: Arc<Principal>,
    issuer: usize,
    /// The serial number of the keys that it was verified with.
    keys_serial: u64,
}

/// The issuers of one mirror.
#[derive(Debug)]
pub(super) struct Issuers {
    issuers: Vec<Issuer>,
    /// The groups that the rules name; a principal is given no others.
    named_groups: HashSet<String>,
    verified: BoundedCache<Digest, Arc<VerifiedJwt>>,
    clock: Clock,
}

impl Issuers {
    /// Compiles the tables. Fetches nothing.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub(super) fn build(config: &Config, source: &Arc<dyn KeySource>, clock: Clock) -> Result<Self, RuleError> {
        let issuer = |policy: IssuerPolicy| {
            let keys = IssuerKeys::new(&policy, source.clone(), clock.clone());
            Issuer { policy, keys }
        };
        let issuers = IssuerPolicy::compile_all(&config.issuers)?.into_iter().map(issuer).collect();
        let rules = config.rules.iter().flat_map(|rule| [&rule.read, &rule.publish, &rule.delete, &rule.admin]);
        let named_groups = rules.flatten().chain(&config.metrics);
        let named_groups = named_groups.filter_map(|text| text.strip_prefix("group:")).map(str::to_owned).collect();
        Ok(Self { issuers, named_groups, verified: BoundedCache::new(MAX_VERIFIED_JWT_BYTES), clock })
    }

    /// True for a token that is to be verified as a JWT of an issuer: there are issuers, and it has the form of a JWT.
    pub(super) fn is_jwt(&self, token: &str) -> bool {
        !self.issuers.is_empty() && !token.starts_with(token_text::TOKEN_PREFIX) && has_jwt_form(token)
    }

    /// The caller who sent a JWT. Waits for nothing.
    ///
    /// # Errors
    /// Why it is not valid.
    pub(super) fn identify(&self, token: &str) -> Result<JwtCaller, InvalidCredential> {
        let digest = Digest::of(token.as_bytes());
        if let Some(jwt) = self.verified.get(&digest) {
            // The keys may have changed since, or be too old.
            if self.issuers[jwt.issuer].keys.usable().is_some_and(|keys| keys.serial == jwt.keys_serial) {
                let has_ended = jwt.principal.expires_at.is_some_and(|end| end <= self.clock.now());
                return if has_ended {
                    Err(JwtFault::Expired.into())
                } else {
                    Ok(JwtCaller::Known(jwt.principal.clone()))
                };
            }
            self.verified.invalidate(&digest);
        }
        let policies: Vec<_> = self.issuers.iter().map(|issuer| &issuer.policy).collect();
        let jwt = UnverifiedJwt::parse(token, &policies)?;
        let Some(keys) = self.issuers[jwt.issuer].keys.usable() else { return Ok(JwtCaller::Pending(jwt)) };
        Ok(match self.verify_with(&keys, &jwt)? {
            Some(principal) => JwtCaller::Known(principal),
            None => JwtCaller::Pending(jwt),
        })
    }

    /// The principal of a JWT whose key was not in memory. Waits for one renewal of its issuer's keys, at most 10 s.
    ///
    /// # Errors
    /// Why it is not valid; that there are no keys.
    pub(super) async fn verify(&self, jwt: UnverifiedJwt) -> Result<Arc<Principal>, VerificationError> {
        let keys = &self.issuers[jwt.issuer].keys;
        match keys.usable() {
            Some(present) => {
                // Another request may have caused a renewal since.
                if let Some(principal) = self.verify_with(&present, &jwt)? {
                    return Ok(principal);
                }
                keys.renew(KeyRenewal::UnknownKey).await;
            }
            None => keys.renew(KeyRenewal::NoKeys).await,
        }
        let present = keys.usable().ok_or(VerificationError::NoKeys)?;
        match self.verify_with(&present, &jwt)? {
            Some(principal) => Ok(principal),
            // After a failed renewal, the key may be a new one of the issuer.
            None if keys.has_failed() => Err(VerificationError::NoKeys),
            None => Err(InvalidCredential::from(JwtFault::UnknownKey).into()),
        }
    }

    /// The principal of a valid token, which is cached; `None` when the keys lack its key.
    fn verify_with(
        &self,
        keys: &FetchedKeys,
        jwt: &UnverifiedJwt,
    ) -> Result<Option<Arc<Principal>>, InvalidCredential> {
        let Some(key) = keys.set.find(jwt.key_id.as_deref(), jwt.algorithm) else { return Ok(None) };
        let policy = &self.issuers[jwt.issuer].policy;
        let JwtIdentity { subject, groups, expires_at } = jwt.verify(key, policy, self.clock.now())?;
        let is_named = |group: &String| self.named_groups.contains(&format!("{}:{group}", policy.name));
        let digest = Digest::of(jwt.text.reveal().as_bytes());
        let claims = SignedClaims {
            issuer: policy.name.as_ref().to_owned(),
            subject,
            groups: groups.into_iter().filter(is_named).collect(),
            expires_at: expires_at.as_second(),
            id: digest.to_string()[..JWT_ID_DIGITS].to_owned(),
        };
        let principal = Arc::new(principal(&claims));
        let verified = VerifiedJwt { principal: principal.clone(), issuer: jwt.issuer, keys_serial: keys.serial };
        let weight = u32::try_from(verified.weight()).unwrap_or(u32::MAX);
        self.verified.insert_weighed(digest, Arc::new(verified), weight);
        Ok(Some(principal))
    }

    /// The principal that a signed address names, while its issuer is configured and its token has not ended.
    pub(super) fn by_address(&self, claims: &SignedClaims, now: Timestamp) -> Option<Arc<Principal>> {
        self.issuers.iter().find(|issuer| *issuer.policy.name == *claims.issuer)?;
        let principal = principal(claims);
        principal.expires_at.is_some_and(|end| now < end).then(|| Arc::new(principal))
    }
}

/// The principal of a verified token.
fn principal(claims: &SignedClaims) -> Principal {
    let SignedClaims { issuer, subject, groups, expires_at, id } = claims;
    let name = format!("oidc:{issuer}:{subject}");
    let address = claims.to_text();
    let end = Timestamp::from_second(*expires_at).unwrap_or(Timestamp::MIN);
    Principal {
        groups: groups.iter().map(|group| format!("{issuer}:{group}").into()).collect(),
        credential: id.as_str().into(),
        scope: Scope { rights: Right::ALL.to_vec(), packages: Vec::new() },
        // Until then this mirror accepts the token.
        expires_at: Some(end.saturating_add(JWT_LEEWAY).unwrap_or(Timestamp::MAX)),
        key: CredentialKey::of("oidc", &address),
        // Every token of a subject counts as the same client.
        client: CredentialKey::of("oidc", &name).as_u64(),
        address: address.into(),
        name: name.into(),
    }
}

impl VerifiedJwt {
    /// The bytes of memory that it takes in the cache, estimated.
    fn weight(&self) -> usize {
        let principal = &self.principal;
        let groups: usize = principal.groups.iter().map(|group| group.len() + size_of::<Arc<str>>()).sum();
        VERIFIED_JWT_OVERHEAD_BYTES + principal.name.len() + principal.address.len() + groups
    }
}

impl From<JwtFault> for InvalidCredential {
    fn from(fault: JwtFault) -> Self {
        Self::Jwt(fault)
    }
}

impl From<InvalidCredential> for VerificationError {
    fn from(invalid: InvalidCredential) -> Self {
        Self::Invalid(invalid)
    }
}

#[cfg(test)]
pub(super) mod tests;
