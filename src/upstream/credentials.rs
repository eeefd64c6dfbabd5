//! The credentials of one upstream: which of them a call is made with, which are out of use, and their quotas.
//!
//! One call ([`crate::upstream::Upstream::document`] or `archive`) has one [`Identity`] for all its requests, because
//! validators and visibility belong to a credential. A call whose credential is refused or paused is made again with the
//! next one, and at last without any: [`attempts::CallAttempts`].

use std::sync::{Arc, atomic::AtomicBool};

use parking_lot::RwLock;

use super::{
    RateLimitStatus,
    gate::{RateLimiter, RateQuota},
};
use crate::{entry::Key, origin::FetchError, package::PackageName, value::bounded_cache::BoundedCache};

mod app;
mod app_jwt;
mod attempts;
mod credential;
mod exchange;
mod files;
pub(super) mod identity;
mod introspection;
pub(super) mod profile;
mod refusal;
mod refusals;
mod request_auth;
mod source;
mod status;

use app::AppAccess;
pub(super) use attempts::NextStep;
use credential::{Credential, CredentialForm, UnsendableCredential};
pub(super) use exchange::CredentialExchange;
pub use files::CredentialReading;
use files::FileState;
use identity::ActiveCredential;
pub(super) use identity::Identity;
pub(super) use profile::{CredentialProfile, GITEE, GITHUB, REGISTRY};
use refusals::CredentialAdmission;
use request_auth::RequestAuth;

pub use refusal::RefusalReason;
pub use refusals::CredentialRefusal;
pub use source::{CredentialConfig, CredentialSource, CredentialSourceError};
pub use status::{
    CredentialGrant, CredentialOutcome, CredentialReport, CredentialStatus, GrantedQuota, InstallationGrant,
};

/// Most packages for which it is remembered who has seen them.
const MAX_SEEN_PACKAGES: u64 = 20_000;
/// Stands for requests without a credential in place of a credential's serial number.
const ANONYMOUS: u64 = 0;

/// The credentials of one upstream, in the order of the configuration.
pub(super) struct CredentialPool {
    profile: &'static CredentialProfile,
    slots: Vec<CredentialSlot>,
    /// The quota of requests without a credential.
    anonymous: Arc<RateLimiter>,
    /// The quota of web pages and archive hosts, which never get a credential.
    archive_hosts: Arc<RateLimiter>,
    /// Who has last seen a package: the serial number of a credential, or [`ANONYMOUS`].
    seen: BoundedCache<Key, u64>,
    exchange: CredentialExchange,
}

/// The place of one credential. Its secret may change.
struct CredentialSlot {
    present: RwLock<Arc<Credential>>,
    file: FileState,
}

/// Whether a credential can be used for a call.
enum Activation {
    Ready(ActiveCredential),
    /// It is for other owners.
    NotForOwner,
    /// It cannot be used now: this would be the result.
    Unusable(FetchError),
}

impl CredentialPool {
    /// # Errors
    /// The label of a secret that has a character which no header can carry.
    pub(super) fn new(
        sources: Vec<CredentialSource>,
        exchange: CredentialExchange,
    ) -> Result<Self, UnsendableCredential> {
        let profile = exchange.profile.credential;
        let slot = |source: CredentialSource| {
            let credential = Credential::new(profile, &source)?;
            Ok(CredentialSlot { present: RwLock::new(Arc::new(credential)), file: FileState::new(source) })
        };
        Ok(Self {
            profile,
            slots: sources.into_iter().map(slot).collect::<Result<_, _>>()?,
            anonymous: Arc::default(),
            archive_hosts: Arc::default(),
            seen: BoundedCache::new(MAX_SEEN_PACKAGES),
            exchange,
        })
    }

    /// True when no credential is configured.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// True while a credential is refused or paused: then a 404 does not mean that something does not exist.
    pub(super) fn is_any_unusable(&self) -> bool {
        self.credentials().iter().any(|credential| {
            credential.refusals.is_refused_anywhere()
                || credential.limiters().iter().any(|(_, limiter)| limiter.check().is_err())
        })
    }

    /// The identity of requests to the API without a credential.
    pub(super) fn anonymous(&self) -> Identity {
        Identity::Anonymous(self.anonymous.clone())
    }

    /// The identity of requests to web pages and archive hosts.
    pub(super) fn archive_hosts(&self) -> Identity {
        Identity::Anonymous(self.archive_hosts.clone())
    }

    /// The state of every credential.
    pub(super) fn status(&self) -> Vec<CredentialStatus> {
        self.credentials().iter().flat_map(|credential| credential.status()).collect()
    }

    /// The best quota of all identities: what the next request may use.
    pub(super) fn rate_limit_status(&self) -> RateLimitStatus {
        let credentials = self.credentials();
        let in_use = credentials.iter().filter(|credential| !credential.refusals.is_refused(None));
        let limiters = in_use.flat_map(|credential| credential.limiters());
        let mut statuses: Vec<RateLimitStatus> = limiters.map(|(_, limiter)| limiter.status()).collect();
        if statuses.is_empty() {
            statuses.push(self.anonymous.status());
        }
        let best = statuses.into_iter().min_by_key(|status| {
            (status.wait.unwrap_or_default(), std::cmp::Reverse(status.remaining.unwrap_or(u64::MAX)))
        });
        best.unwrap_or_default()
    }

    /// The present credentials, in the order of the configuration.
    fn credentials(&self) -> Vec<Arc<Credential>> {
        self.slots.iter().map(|slot| slot.present.read().clone()).collect()
    }

    /// Who has last seen the package.
    fn seen_by(&self, package: &PackageName) -> Option<u64> {
        self.seen.get(&seen_key(package))
    }

    fn note_seen(&self, package: &PackageName, serial: u64) {
        if !self.slots.is_empty() && self.seen_by(package) != Some(serial) {
            self.seen.insert(seen_key(package), serial);
        }
    }

    /// Makes a credential ready for a call about this owner's package. Asks for a token of a GitHub App where none is left.
    async fn activate(&self, credential: &Arc<Credential>, owner: Option<&str>) -> Activation {
        if let CredentialAdmission::Refused(status) = credential.refusals.admit(owner) {
            return Activation::Unusable(FetchError::Status(status));
        }
        let active = |auth: &Arc<RequestAuth>, fingerprint: &str, limiter: &Arc<RateLimiter>| ActiveCredential {
            credential: credential.clone(),
            owner: owner.map(str::to_owned),
            auth: auth.clone(),
            fingerprint: fingerprint.to_owned(),
            limiter: limiter.clone(),
            ask_again: AtomicBool::new(false),
        };
        let active = match &credential.form {
            CredentialForm::Secret { auth, fingerprint, limiter } => active(auth, fingerprint, limiter),
            CredentialForm::App(app) => {
                let Some(owner) = owner else { return Activation::NotForOwner };
                match app.token(owner, &self.exchange).await {
                    AppAccess::Token(token) => active(&token.auth, &token.fingerprint, &token.limiter),
                    AppAccess::NotInstalled => return Activation::NotForOwner,
                    AppAccess::Failed(failure) => {
                        if let Some(reason) = failure.refused {
                            let status = if let FetchError::Status(status) = failure.error { status } else { 401 };
                            credential.note_refused(&self.exchange.upstream, Some(owner), reason, status);
                        }
                        return Activation::Unusable(failure.error);
                    }
                }
            }
        };
        match active.limiter.check() {
            Ok(()) => Activation::Ready(active),
            Err(error) => Activation::Unusable(error),
        }
    }
}

/// True when the quota is used up, as last reported.
fn is_used_up(quota: RateQuota) -> bool {
    let reset_passed = quota.reset.is_none_or(|reset| reset <= jiff::Timestamp::now());
    quota.remaining == Some(0) && !reset_passed
}

fn seen_key(package: &PackageName) -> Key {
    Key::new(package.to_string().to_ascii_lowercase())
}
