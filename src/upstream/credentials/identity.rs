//! The identity of a call's requests: a credential, or none.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{HeaderMap, StatusCode};

use super::{
    ANONYMOUS, CredentialProfile,
    credential::{Credential, CredentialForm},
    request_auth::RequestAuth,
};
use crate::upstream::{error_class::ErrorResponse, gate::RateLimiter};

/// The identity of a call's requests: a credential, or none. Cheap to clone.
#[derive(Clone)]
pub(in crate::upstream) enum Identity {
    /// No credential is sent.
    Anonymous(Arc<RateLimiter>),
    Credential(Arc<ActiveCredential>),
}

/// A credential as one call uses it.
pub(in crate::upstream) struct ActiveCredential {
    pub(super) credential: Arc<Credential>,
    pub(super) owner: Option<String>,
    pub(super) auth: Arc<RequestAuth>,
    pub(super) fingerprint: String,
    pub(super) limiter: Arc<RateLimiter>,
    /// Set when a 401 is to be confirmed by asking once more.
    pub(super) ask_again: AtomicBool,
}

impl Identity {
    /// True when requests carry a credential.
    pub(in crate::upstream) fn has_credential(&self) -> bool {
        matches!(self, Self::Credential(_))
    }

    /// Identifies the credential without revealing it; `None` without one.
    pub(in crate::upstream) fn fingerprint(&self) -> Option<&str> {
        match self {
            Self::Anonymous(_) => None,
            Self::Credential(active) => Some(&active.fingerprint),
        }
    }

    /// The quota that requests use.
    pub(in crate::upstream) fn limiter(&self) -> &RateLimiter {
        match self {
            Self::Anonymous(limiter) => limiter,
            Self::Credential(active) => &active.limiter,
        }
    }

    /// Adds the credential to the headers of one request to the API.
    pub(in crate::upstream) fn add_to(&self, headers: &mut HeaderMap) {
        if let Self::Credential(active) = self {
            active.auth.add_to(headers);
        }
    }

    /// Records a response that is no error: the credential is accepted.
    pub(in crate::upstream) fn note_accepted(&self, upstream: &str) {
        let Self::Credential(active) = self else { return };
        let credential = &active.credential;
        credential.doubted.store(false, Ordering::Relaxed);
        let owner = active.owner.as_deref();
        if credential.refusals.is_refused(owner) && credential.refusals.accept(owner) {
            tracing::info!(upstream, credential = credential.label, "the credential is accepted again");
        }
    }

    /// Records an error response to a request with the credential.
    pub(in crate::upstream) fn note_error(
        &self,
        upstream: &str,
        profile: &CredentialProfile,
        response: ErrorResponse<'_>,
    ) {
        let Self::Credential(active) = self else { return };
        let Some(reason) = (profile.refusal)(response) else { return };
        let credential = &active.credential;
        let unauthorized = response.status == StatusCode::UNAUTHORIZED;
        let is_proof = match (&credential.form, active.owner.as_deref()) {
            // A token of an App may have ended or been revoked before its time: the App gets a new one.
            (CredentialForm::App(app), Some(owner)) if unauthorized => {
                if !app.forget_token(owner, &active.auth) {
                    // Another request has replaced the token already: this one only needs the new token.
                    active.ask_again.store(true, Ordering::Relaxed);
                    return;
                }
                false
            }
            _ => !(profile.confirm && unauthorized),
        };
        if !is_proof && !credential.doubted.swap(true, Ordering::Relaxed) {
            active.ask_again.store(true, Ordering::Relaxed);
            return;
        }
        credential.note_refused(upstream, active.owner.as_deref(), reason, response.status.as_u16());
    }

    /// True while no request may be made with this identity: it is refused, or its quota is paused.
    pub(super) fn is_unusable(&self) -> bool {
        let refused = match self {
            Self::Anonymous(_) => false,
            Self::Credential(active) => active.credential.refusals.is_refused(active.owner.as_deref()),
        };
        refused || self.limiter().check().is_err()
    }

    /// The serial number of the credential, or [`ANONYMOUS`].
    pub(super) fn serial(&self) -> u64 {
        match self {
            Self::Anonymous(_) => ANONYMOUS,
            Self::Credential(active) => active.credential.serial,
        }
    }

    /// True once after a 401 that is to be confirmed.
    pub(super) fn take_ask_again(&self) -> bool {
        match self {
            Self::Anonymous(_) => false,
            Self::Credential(active) => active.ask_again.swap(false, Ordering::Relaxed),
        }
    }
}
