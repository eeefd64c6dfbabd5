//! The signed statement with which a GitHub App identifies itself: a JWT by RS256 ([RFC 7519]).
//!
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519

use http::HeaderValue;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::value::Secret;

/// How far back the time of issue is set: GitHub refuses one in its future, and clocks differ.
const BACKDATED_SECONDS: i64 = 60;
/// How long a statement is valid from now. GitHub refuses more than 10 minutes from its own time.
const VALID_SECONDS: i64 = 540;

#[derive(Serialize)]
struct AppClaims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

/// Reads an RSA private key, PKCS #1 or PKCS #8; `None` when the text is none, or cannot sign.
pub(super) fn parse_key(pem: &Secret) -> Option<EncodingKey> {
    let key = EncodingKey::from_rsa_pem(pem.reveal().as_bytes()).ok()?;
    // The content of the key is read only when it signs.
    authorization("check", &key, Timestamp::UNIX_EPOCH).map(|_| key)
}

/// The `Authorization` of a request as the App itself at this time; `None` when the key cannot sign.
pub(super) fn authorization(app_id: &str, key: &EncodingKey, now: Timestamp) -> Option<HeaderValue> {
    let now = now.as_second();
    let claims = AppClaims { iat: now - BACKDATED_SECONDS, exp: now + VALID_SECONDS, iss: app_id };
    let jwt = encode(&Header::new(Algorithm::RS256), &claims, key).ok()?;
    let mut header = HeaderValue::try_from(format!("Bearer {jwt}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
