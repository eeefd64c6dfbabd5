//! One credential with one secret: how it is sent, its quotas, and for whom it is out of use.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    ANONYMOUS, CredentialProfile, CredentialStatus,
    app::GithubApp,
    refusal::{RefusalReason, RefusalScope},
    refusals::{RefusalNews, RefusalTable},
    request_auth::{RequestAuth, fingerprint},
    source::{CredentialSecret, CredentialSource},
};
use crate::upstream::{RateLimitStatus, gate::RateLimiter};

/// A credential with one secret.
pub(super) struct Credential {
    /// Different for every secret of this process.
    pub(super) serial: u64,
    pub(super) label: String,
    pub(super) form: CredentialForm,
    pub(super) refusals: RefusalTable,
    /// True when the last response was a 401 that is to be confirmed.
    pub(super) doubted: AtomicBool,
}

pub(super) enum CredentialForm {
    Secret { auth: Arc<RequestAuth>, fingerprint: String, limiter: Arc<RateLimiter> },
    App(Box<GithubApp>),
}

impl Credential {
    /// # Errors
    /// When the secret has a character that no header can carry.
    pub(super) fn new(profile: &CredentialProfile, source: &CredentialSource) -> Result<Self, UnsendableCredential> {
        static SERIAL: AtomicU64 = AtomicU64::new(ANONYMOUS + 1);
        let form = match &source.secret {
            CredentialSecret::Token(token) => {
                let auth = RequestAuth::new(profile.scheme, token);
                let auth = auth.map_err(|_| UnsendableCredential { label: source.label.clone() })?;
                CredentialForm::Secret {
                    auth: Arc::new(auth),
                    fingerprint: fingerprint(token),
                    limiter: Arc::default(),
                }
            }
            CredentialSecret::App { app_id, key, .. } => {
                CredentialForm::App(Box::new(GithubApp::new(app_id.clone(), (**key).clone())))
            }
        };
        Ok(Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            label: source.label.clone(),
            form,
            refusals: RefusalTable::default(),
            doubted: AtomicBool::new(false),
        })
    }

    /// Its quotas: one, or one for each owner with a token of a GitHub App.
    pub(super) fn limiters(&self) -> Vec<(Option<String>, Arc<RateLimiter>)> {
        match &self.form {
            CredentialForm::Secret { limiter, .. } => vec![(None, limiter.clone())],
            CredentialForm::App(app) => {
                app.limiters().into_iter().map(|(owner, limiter)| (Some(owner), limiter)).collect()
            }
        }
    }

    /// The quota that requests about this owner's packages use; `None` while it is not known.
    pub(super) fn limiter(&self, owner: Option<&str>) -> Option<Arc<RateLimiter>> {
        match &self.form {
            CredentialForm::Secret { limiter, .. } => Some(limiter.clone()),
            CredentialForm::App(app) => app.limiter(owner?),
        }
    }

    /// Identifies what it sees of this owner's packages; `None` where it is for other owners.
    pub(super) fn fingerprint(&self, owner: Option<&str>) -> Option<String> {
        match &self.form {
            CredentialForm::Secret { fingerprint, .. } => Some(fingerprint.clone()),
            CredentialForm::App(app) => Some(app.fingerprint(owner?)),
        }
    }

    /// One row, or one for each owner with a token of a GitHub App.
    pub(super) fn status(&self) -> Vec<CredentialStatus> {
        let status = |owner: Option<String>, quota, refusals| CredentialStatus {
            label: owner.map_or_else(|| self.label.clone(), |owner| format!("{} ({owner})", self.label)),
            refusals,
            quota,
        };
        let mut rows: Vec<CredentialStatus> =
            self.limiters().into_iter().map(|(owner, limiter)| status(owner, limiter.status(), Vec::new())).collect();
        if rows.is_empty() {
            rows.push(status(None, RateLimitStatus::default(), Vec::new()));
        }
        rows[0].refusals = self.refusals.list();
        rows
    }

    /// Puts the credential out of use, and logs that once.
    pub(super) fn note_refused(&self, upstream: &str, owner: Option<&str>, reason: RefusalReason, status: u16) {
        if self.refusals.record(owner, reason, status) == RefusalNews::New {
            let credential = self.label.as_str();
            let owner = owner.filter(|_| reason.scope() == RefusalScope::OneOwner);
            tracing::warn!(
                upstream,
                credential,
                owner,
                reason = reason.as_str(),
                status,
                "the credential {reason}; it is not used until it changes or is accepted again"
            );
        }
    }
}

/// A secret that no header can carry.
#[derive(Debug, thiserror::Error)]
#[error("{label} has a character that no header can carry")]
pub(in crate::upstream) struct UnsendableCredential {
    label: String,
}
