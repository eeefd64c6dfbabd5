//! The signature of the 3.x command line client: `token`, `sign_code`, `nonce` and `timestamp`.
//!
//! `token` is the MD5 of the account's code, by which the account is found; `sign_code` is the SHA-256 of code, nonce and
//! timestamp. Method, path and body are not signed: only the time window and the nonces keep a copied signature from being
//! used.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::HeaderMap;
use jiff::Timestamp;

use super::{
    InvalidCredential, NonceUse, Principal,
    nonces::{Nonces, SIGNATURE_WINDOW},
    tokens::{SigningAccount, Tokens},
};
use crate::entry::Digest;

/// Longest nonce that is accepted, bytes. The client's have 15.
const MAX_NONCE_BYTES: usize = 128;

/// The SHA-256 that proves the code.
fn sign_code(code: &str, nonce: &str, timestamp: &str) -> String {
    Digest::of(format!("{code}{nonce}{timestamp}").as_bytes()).to_string()
}

/// A signature that holds, unless another mirror has seen its nonce.
#[derive(Debug)]
pub(super) struct CliSignature {
    /// Who signed.
    pub(super) principal: Arc<Principal>,
    /// Identifies the account and its nonce.
    pub(super) nonce: Digest,
}

/// The signature of the request; `None` without a signature, or when it fits no account of this mirror.
///
/// # Errors
/// `Signature` when it fits an account and is wrong, is older or newer than the window, or was used before.
pub(super) fn verify(
    headers: &HeaderMap,
    tokens: &Tokens,
    nonces: &Nonces,
    now: Timestamp,
) -> Result<Option<CliSignature>, InvalidCredential> {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(account) = field("token") else { return Ok(None) };
    let Some(SigningAccount { principal, code }) = tokens.by_account(account, now) else { return Ok(None) };
    let (Some(signature), Some(nonce), Some(timestamp)) = (field("sign_code"), field("nonce"), field("timestamp"))
    else {
        return Err(InvalidCredential::Signature);
    };
    let expected = sign_code(code.reveal(), nonce, timestamp);
    let is_equal = verify_slices_are_equal(expected.as_bytes(), signature.as_bytes()).is_ok();
    let signed_at = timestamp.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
    let is_recent = signed_at.is_some_and(|at| now.duration_since(at).abs() <= SIGNATURE_WINDOW);
    if !is_equal || !is_recent || nonce.is_empty() || nonce.len() > MAX_NONCE_BYTES {
        return Err(InvalidCredential::Signature);
    }
    let nonce = Digest::of(format!("{account}\0{nonce}").as_bytes());
    if nonces.note(nonce, now) == NonceUse::Repeated {
        return Err(InvalidCredential::Signature);
    }
    Ok(Some(CliSignature { principal, nonce }))
}

#[cfg(test)]
mod tests {
    use super::{super::token_text::account_of, *};

    #[test]
    fn account_and_signature_are_those_of_the_official_client() {
        assert_eq!(account_of("abcdefSAFETY"), "23c98323d664dd5714263fae053d8ca7");
        assert_eq!(
            sign_code("abcdefSAFETY", "tjmnMnGsHyhkFFS", "1795886162"),
            "b2a3d204dcd596e8f0d695c766e7ef83689620dcc1ef09e8e30a5e2a438e422b"
        );
    }
}
