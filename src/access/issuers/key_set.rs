//! The public keys of an issuer: a JWK set ([RFC 7517]).
//!
//! [RFC 7517]: https://www.rfc-editor.org/rfc/rfc7517

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::access::issuer_config::algorithm_of;

/// Most keys of a set; further ones are ignored.
const MAX_ISSUER_KEYS: usize = 100;

/// A key as the issuer publishes it. Symmetric keys have no field here and are never used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct PublishedKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The form of the document.
#[derive(Deserialize)]
struct PublishedKeys {
    keys: Vec<Value>,
}

/// A key set.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<VerificationKey>,
}

#[derive(Debug)]
struct VerificationKey {
    published: PublishedKey,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a key set. Keys of other kinds, for encryption, or that are malformed are left out.
    ///
    /// `None` when the text is no key set.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let PublishedKeys { keys } = serde_json::from_slice(text).ok()?;
        let keys = keys.into_iter().take(MAX_ISSUER_KEYS).filter_map(VerificationKey::build);
        Some(Self { keys: keys.collect() })
    }

    /// True when both have the same keys in the same order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let published = |set: &Self| set.keys.iter().map(|key| key.published.clone()).collect::<Vec<_>>();
        published(self) == published(other)
    }

    /// The key for a token with this id and algorithm. A token without an id is verified only where a single key fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let is_meant = |key: &&VerificationKey| id.is_none_or(|id| key.published.kid.as_deref() == Some(id));
        let mut found = self.keys.iter().filter(is_meant).filter(|key| key.fits(algorithm));
        let first = found.next()?;
        (id.is_some() || found.next().is_none()).then_some(&first.key)
    }
}

impl VerificationKey {
    fn build(value: Value) -> Option<Self> {
        let published: PublishedKey = serde_json::from_value(value).ok()?;
        if published.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let PublishedKey { kty, crv, n, e, x, y, .. } = &published;
        let key = match (kty.as_str(), crv.as_deref()) {
            ("RSA", _) => DecodingKey::from_rsa_components(n.as_deref()?, e.as_deref()?),
            ("EC", Some("P-256" | "P-384")) => DecodingKey::from_ec_components(x.as_deref()?, y.as_deref()?),
            ("OKP", Some("Ed25519")) => DecodingKey::from_ed_components(x.as_deref()?),
            _ => return None,
        };
        Some(Self { key: key.ok()?, published })
    }

    /// True when the key is for the algorithm: of its kind, and not published for another one.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let published = &self.published;
        let curve = match algorithm {
            Algorithm::ES256 => Some("P-256"),
            Algorithm::ES384 => Some("P-384"),
            Algorithm::EdDSA => Some("Ed25519"),
            _ => None,
        };
        let is_of_kind = match algorithm.family() {
            AlgorithmFamily::Rsa => published.kty == "RSA",
            AlgorithmFamily::Ec => published.kty == "EC" && published.crv.as_deref() == curve,
            AlgorithmFamily::Ed => published.kty == "OKP" && published.crv.as_deref() == curve,
            AlgorithmFamily::Hmac => false,
        };
        is_of_kind && published.alg.as_deref().is_none_or(|name| algorithm_of(name) == Some(algorithm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_id_and_only_for_its_algorithm() {
        let text = br#"{"keys": [
            {"kty": "RSA", "kid": "a", "alg": "RS256", "use": "sig", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "b", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "c", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "kid": "d", "crv": "P-256", "x": "AQAB", "y": "AQAB"},
            {"kty": "oct", "kid": "e", "k": "AQAB"},
            {"kty": "RSA", "kid": "f"},
            17
        ]}"#;
        let set = KeySet::parse(text).expect("a key set");
        let found = |id: Option<&str>, algorithm| set.find(id, algorithm).is_some();
        assert!(found(Some("a"), Algorithm::RS256) && found(Some("b"), Algorithm::PS384));
        assert!(!found(Some("a"), Algorithm::RS512), "published for another algorithm");
        for id in ["c", "e", "f", "none"] {
            assert!(!found(Some(id), Algorithm::RS256) && !found(Some(id), Algorithm::HS256), "{id}");
        }
        assert!(found(Some("d"), Algorithm::ES256) && !found(Some("d"), Algorithm::ES384));
        assert!(found(None, Algorithm::ES256), "the only one");
        assert!(!found(None, Algorithm::RS256), "one of two");
        assert!(KeySet::parse(b"<html>").is_none() && KeySet::parse(b"{}").is_none());
        let other = KeySet::parse(br#"{"keys": []}"#).expect("an empty set");
        assert!(set.is_same(&KeySet::parse(text).expect("a key set")) && !set.is_same(&other));
    }
}
