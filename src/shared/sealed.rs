//! State of the bucket that only mirrors with one secret can read: sealed by AES-256-GCM ([RFC 5116]) with a key that is
//! derived from the secret ([RFC 5869]).
//!
//! [RFC 5116]: https://www.rfc-editor.org/rfc/rfc5116
//! [RFC 5869]: https://www.rfc-editor.org/rfc/rfc5869

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::value::Secret;

/// Shortest secret, bytes.
pub const MIN_SEALING_SECRET_BYTES: usize = 32;
/// Separates the domain of the derived key from any other use of the secret.
const SEAL_DOMAIN: &[u8] = b"srm-mirror sealed state 1";

/// Seals and opens what all mirrors of a bucket keep secret.
pub struct SealingKey(RandomizedNonceKey);

/// A sealed text, as an object holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedText {
    /// In base64, like the text.
    nonce: String,
    text: String,
}

/// The text was sealed with another key, or for another purpose, or is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot be opened with this key")]
pub struct SealError;

impl SealingKey {
    /// The key of a secret; `None` when that has less than [`MIN_SEALING_SECRET_BYTES`] bytes.
    pub fn of_secret(secret: &Secret) -> Option<Self> {
        let secret = secret.reveal().as_bytes();
        if secret.len() < MIN_SEALING_SECRET_BYTES {
            return None;
        }
        let mut key = [0; 32];
        let derived = Salt::new(HKDF_SHA256, SEAL_DOMAIN).extract(secret);
        derived.expand(&[SEAL_DOMAIN], HKDF_SHA256).ok()?.fill(&mut key).ok()?;
        Some(Self(RandomizedNonceKey::new(&AES_256_GCM, &key).ok()?))
    }

    /// Seals a text for a purpose, which is the kind of the state.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn seal(&self, kind: &str, mut text: Vec<u8>) -> Result<SealedText, SealError> {
        let nonce = self.0.seal_in_place_append_tag(Aad::from(kind), &mut text).map_err(|_| SealError)?;
        Ok(SealedText { nonce: URL_SAFE_NO_PAD.encode(nonce.as_ref()), text: URL_SAFE_NO_PAD.encode(text) })
    }

    /// Opens a text that was sealed for this purpose.
    ///
    /// # Errors
    /// When it was sealed for another one, or with another key, or has changed since.
    pub fn open(&self, kind: &str, sealed: &SealedText) -> Result<Vec<u8>, SealError> {
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError);
        let nonce = Nonce::try_assume_unique_for_key(&decoded(&sealed.nonce)?).map_err(|_| SealError)?;
        let mut text = decoded(&sealed.text)?;
        let len = self.0.open_in_place(nonce, Aad::from(kind), &mut text).map_err(|_| SealError)?.len();
        text.truncate(len);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> SealingKey {
        SealingKey::of_secret(&Secret::new(secret)).expect("a key")
    }

    #[test]
    fn a_sealed_text_opens_with_its_key_for_its_purpose_alone_and_not_when_a_byte_has_changed() {
        let secret = "0123456789abcdef0123456789abcdef";
        let sealed = key(secret).seal("access", b"tokens".to_vec()).expect("sealed");
        assert_eq!(key(secret).open("access", &sealed), Ok(b"tokens".to_vec()));
        assert_eq!(key(secret).open("other", &sealed), Err(SealError));
        assert_eq!(key(&secret.replace('0', "1")).open("access", &sealed), Err(SealError));
        for at in 0..sealed.text.len() {
            let mut text = sealed.text.clone().into_bytes();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            let changed = SealedText { text: String::from_utf8(text).expect("text"), ..sealed.clone() };
            // The last character has bits that stand for nothing: decoders refuse them.
            assert_eq!(key(secret).open("access", &changed), Err(SealError), "{at}");
        }
        let again = key(secret).seal("access", b"tokens".to_vec()).expect("sealed");
        assert_ne!(again.nonce, sealed.nonce);
        assert!(!format!("{sealed:?}").contains("tokens"));
    }

    #[test]
    fn a_secret_of_less_than_32_bytes_is_none() {
        assert!(SealingKey::of_secret(&Secret::new(&"x".repeat(31))).is_none());
    }
}
