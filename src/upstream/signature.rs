//! The signature with which a registry recognises its users: four headers, computed from a safety code for each request.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use md5::{Digest as _, Md5};

use crate::{entry::Digest, value::Secret};

/// Characters of a nonce.
const NONCE_LENGTH: usize = 15;

/// The secret that a registry issued to a user.
pub(super) struct SafetyCode(Secret);

impl SafetyCode {
    pub(super) fn new(code: Secret) -> Self {
        Self(code)
    }

    /// Adds the signature of one request, made now with a new nonce.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        let signed = self.signature(&nonce(), Timestamp::now().as_second());
        for (name, value) in signed {
            // Digits and letters only, so always a valid value.
            if let Ok(mut value) = HeaderValue::try_from(value) {
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// The headers for a nonce and a time in seconds since 1970. The registry finds the code by its MD5, and signs with
    /// it as here; method, path and body are not signed.
    fn signature(&self, nonce: &str, timestamp: i64) -> [(&'static str, String); 4] {
        let code = self.0.reveal();
        let sign_code = Digest::of(format!("{code}{nonce}{timestamp}").as_bytes()).to_string();
        let token = Md5::digest(code.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        [("token", token), ("sign_code", sign_code), ("nonce", nonce.to_owned()), ("timestamp", timestamp.to_string())]
    }
}

/// Letters and digits that no earlier request had. The hasher is seeded from the system's randomness.
fn nonce() -> String {
    let random = RandomState::new().hash_one(Timestamp::now());
    format!("{random:016x}")[..NONCE_LENGTH].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_equals_the_one_of_the_official_client() {
        let code = SafetyCode::new(Secret::new("abcdefSAFETY"));
        assert_eq!(
            code.signature("tjmnMnGsHyhkFFS", 1_795_886_162),
            [
                ("token", "23c98323d664dd5714263fae053d8ca7".to_owned()),
                ("sign_code", "b2a3d204dcd596e8f0d695c766e7ef83689620dcc1ef09e8e30a5e2a438e422b".to_owned()),
                ("nonce", "tjmnMnGsHyhkFFS".to_owned()),
                ("timestamp", "1795886162".to_owned()),
            ]
        );
    }

    #[test]
    fn every_nonce_is_new_and_has_fifteen_letters_and_digits() {
        let nonces: std::collections::HashSet<_> = (0..1000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 1000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 15 && nonce.bytes().all(|b| b.is_ascii_alphanumeric())));
    }
}
