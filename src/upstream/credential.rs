//! The credential of an upstream: a forge's token, or the safety code that signs requests to a registry.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, InvalidHeaderValue},
};

use super::signature::SafetyCode;
use crate::{entry::Digest, value::Secret};

/// Hexadecimal digits of a credential's fingerprint.
const FINGERPRINT_DIGITS: usize = 16;

/// How an upstream's API takes its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CredentialScheme {
    /// `Authorization` with this scheme.
    Authorization(&'static str),
    /// A signature of each request, see [`super::signature`].
    Signature,
}

/// A credential, ready to be sent.
pub(super) struct Credential {
    form: CredentialForm,
    fingerprint: String,
    /// The last response to it was 401.
    rejected: AtomicBool,
}

enum CredentialForm {
    Authorization(HeaderValue),
    Signature(SafetyCode),
}

impl Credential {
    /// # Errors
    /// When the secret has a character that a header cannot carry.
    pub(super) fn new(scheme: CredentialScheme, secret: &Secret) -> Result<Self, InvalidHeaderValue> {
        let form = match scheme {
            CredentialScheme::Authorization(scheme) => {
                let mut header = HeaderValue::try_from(format!("{scheme} {}", secret.reveal()))?;
                header.set_sensitive(true);
                CredentialForm::Authorization(header)
            }
            CredentialScheme::Signature => CredentialForm::Signature(SafetyCode::new(secret.clone())),
        };
        Ok(Self { form, fingerprint: fingerprint(secret), rejected: AtomicBool::new(false) })
    }

    /// Adds it to the headers of one request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        match &self.form {
            CredentialForm::Authorization(header) => drop(headers.insert(AUTHORIZATION, header.clone())),
            CredentialForm::Signature(code) => code.sign(headers),
        }
    }

    /// Identifies the credential without revealing it.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// True when the last response to it was 401.
    pub(super) fn is_rejected(&self) -> bool {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Records a success with the credential.
    pub(super) fn note_accepted(&self) {
        if self.is_rejected() {
            self.rejected.store(false, Ordering::Relaxed);
        }
    }

    /// Logs that the upstream answers 401, once until it accepts the credential again. It stays in use: one 401 is no
    /// proof, because Gitee answers 401 in outages too.
    pub(super) fn note_rejected(&self, upstream: &str) {
        if !self.rejected.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream, "the token is probably wrong or expired (401)");
        }
    }
}

/// The first digits of a labelled SHA-256.
fn fingerprint(secret: &Secret) -> String {
    let mut text = Digest::of(format!("srm-mirror token\0{}", secret.reveal()).as_bytes()).to_string();
    text.truncate(FINGERPRINT_DIGITS);
    text
}
