//! The credential in a signed address, by which the principal is found when the address is used. It is no secret.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{entry::Digest, peer::SerialNumber};

/// What precedes the claims of a JWT. No id of a token has a dot.
const JWT_PREFIX: &str = "j.";
/// What precedes the description of a certificate.
const CERTIFICATE_PREFIX: &str = "c.";

/// The credential that an address was signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AddressCredential {
    /// The token with this id.
    Token(String),
    /// The claims of a verified JWT; the JWT itself is not stored.
    Jwt(SignedClaims),
    /// The subject of a verified certificate; the certificate itself is not stored.
    Certificate(SignedCertificate),
}

/// The claims of a JWT in an address. The names of the fields are short, so that the address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedClaims {
    /// The configured name of the issuer.
    #[serde(rename = "i")]
    pub(super) issuer: String,
    /// The subject.
    #[serde(rename = "s")]
    pub(super) subject: String,
    /// The groups that rules name, without the name of the issuer.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    /// When the JWT ends, in seconds since 1970.
    #[serde(rename = "e")]
    pub(super) expires_at: i64,
    /// The id of the credential in the log.
    #[serde(rename = "d")]
    pub(super) id: String,
}

/// A client's certificate in an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedCertificate {
    /// Its SHA-256.
    #[serde(rename = "f")]
    pub(super) fingerprint: Digest,
    /// Its subject.
    #[serde(rename = "s")]
    pub(super) subject: String,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "e")]
    pub(super) expires_at: i64,
    /// Its number, by which its authority revokes it.
    #[serde(rename = "n")]
    pub(super) serial: SerialNumber,
}

impl AddressCredential {
    /// Reads the part of an address whose signature holds; `None` for claims of another form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(claims) = text.strip_prefix(JWT_PREFIX) {
            return decode(claims).map(Self::Jwt);
        }
        if let Some(certificate) = text.strip_prefix(CERTIFICATE_PREFIX) {
            return decode(certificate).map(Self::Certificate);
        }
        Some(Self::Token(text.to_owned()))
    }
}

fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

fn encode(prefix: &str, value: &impl Serialize) -> String {
    // Texts, numbers and digests are always JSON.
    let json = serde_json::to_vec(value).unwrap_or_default();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(json))
}

impl SignedClaims {
    /// The part of an address.
    pub(super) fn to_text(&self) -> String {
        encode(JWT_PREFIX, self)
    }
}

impl SignedCertificate {
    /// The part of an address.
    pub(super) fn to_text(&self) -> String {
        encode(CERTIFICATE_PREFIX, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_of_an_address_is_a_token_a_certificate_or_what_a_jwt_said() {
        let claims = SignedClaims {
            issuer: "corp".into(),
            subject: "a.b/ü".into(),
            groups: vec!["dev".into()],
            expires_at: 7,
            id: "0123456789ab".into(),
        };
        let text = claims.to_text();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)), "{text}");
        assert_eq!(AddressCredential::parse(&text), Some(AddressCredential::Jwt(claims)));
        let fingerprint = Digest::of(b"a certificate");
        let serial = SerialNumber::of_der(&[0, 0xff, 7]);
        let certificate = SignedCertificate { fingerprint, subject: "CN=a\\,b".into(), expires_at: 7, serial };
        let parsed = AddressCredential::parse(&certificate.to_text());
        assert_eq!(parsed, Some(AddressCredential::Certificate(certificate)));
        assert_eq!(AddressCredential::parse("0aZ"), Some(AddressCredential::Token("0aZ".into())));
        assert_eq!(AddressCredential::parse("j.!"), None);
        assert_eq!(AddressCredential::parse("j.e30"), None);
        assert_eq!(AddressCredential::parse("c.e30"), None);
    }
}
