//! How a secret authenticates one request: as a header, or by signing it.

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, InvalidHeaderValue},
};

use crate::{entry::Digest, upstream::signature::SafetyCode, value::Secret};

/// Hexadecimal digits of a credential's fingerprint.
const FINGERPRINT_DIGITS: usize = 16;

/// How an upstream's API takes its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum CredentialScheme {
    /// `Authorization` with this scheme.
    Authorization(&'static str),
    /// A signature of each request, see [`crate::upstream::signature`].
    Signature,
}

/// A secret, ready to be sent.
pub(super) enum RequestAuth {
    Authorization(HeaderValue),
    Signature(SafetyCode),
}

impl RequestAuth {
    /// # Errors
    /// When the secret has a character that a header cannot carry.
    pub(super) fn new(scheme: CredentialScheme, secret: &Secret) -> Result<Self, InvalidHeaderValue> {
        Ok(match scheme {
            CredentialScheme::Authorization(scheme) => {
                let mut header = HeaderValue::try_from(format!("{scheme} {}", secret.reveal()))?;
                header.set_sensitive(true);
                Self::Authorization(header)
            }
            CredentialScheme::Signature => Self::Signature(SafetyCode::new(secret.clone())),
        })
    }

    /// Adds it to the headers of one request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        match self {
            Self::Authorization(header) => drop(headers.insert(AUTHORIZATION, header.clone())),
            Self::Signature(code) => code.sign(headers),
        }
    }
}

/// Identifies a token or a safety code without revealing it.
pub(super) fn fingerprint(secret: &Secret) -> String {
    first_digits(&format!("srm-mirror token\0{}", secret.reveal()))
}

/// Identifies a GitHub App as it reads one owner's repositories: its tokens change every hour and see the same.
pub(super) fn app_fingerprint(app_id: &str, owner: &str) -> String {
    first_digits(&format!("srm-mirror app\0{app_id}\0{}", owner.to_ascii_lowercase()))
}

/// The first digits of a SHA-256.
fn first_digits(text: &str) -> String {
    let mut digits = Digest::of(text.as_bytes()).to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}
