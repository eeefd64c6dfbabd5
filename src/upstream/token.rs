//! The token of an upstream.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, header::InvalidHeaderValue};

use crate::{entry::Digest, value::Secret};

/// Hexadecimal digits of a token's fingerprint.
const FINGERPRINT_DIGITS: usize = 16;

/// A token, ready to be sent.
pub(super) struct ApiToken {
    header: HeaderValue,
    fingerprint: String,
    /// The last response to it was 401.
    rejected: AtomicBool,
}

impl ApiToken {
    /// # Errors
    /// When the token has a character that a header cannot carry.
    pub(super) fn new(scheme: &str, token: &Secret) -> Result<Self, InvalidHeaderValue> {
        let mut header = HeaderValue::try_from(format!("{scheme} {}", token.reveal()))?;
        header.set_sensitive(true);
        Ok(Self { header, fingerprint: fingerprint(token), rejected: AtomicBool::new(false) })
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Identifies the token without revealing it.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// True when the last response to it was 401.
    pub(super) fn is_rejected(&self) -> bool {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Records a success with the token.
    pub(super) fn note_accepted(&self) {
        if self.is_rejected() {
            self.rejected.store(false, Ordering::Relaxed);
        }
    }

    /// Logs that the upstream answers 401, once until it accepts the token again. The token stays in use: one 401 is no proof, because
    /// Gitee answers 401 in outages too.
    pub(super) fn note_rejected(&self, upstream: &str) {
        if !self.rejected.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream, "the token is probably wrong or expired (401)");
        }
    }
}

/// The first digits of a labelled SHA-256.
fn fingerprint(token: &Secret) -> String {
    let mut text = Digest::of(format!("srm-mirror token\0{}", token.reveal()).as_bytes()).to_string();
    text.truncate(FINGERPRINT_DIGITS);
    text
}
