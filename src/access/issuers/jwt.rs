//! A JWT in a request ([RFC 7519], [RFC 7515]): what is read of it before its signature is verified, and the checks after.
//!
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519
//! [RFC 7515]: https://www.rfc-editor.org/rfc/rfc7515

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::JwtFault;
use crate::{
    access::issuer_config::{IssuerPolicy, algorithm_of},
    value::Secret,
};

/// Longest token that is looked at, bytes.
const MAX_JWT_BYTES: usize = 8 << 10;
/// Longest subject, bytes: OpenID Connect Core 1.0 §2 allows no longer one.
const MAX_SUBJECT_BYTES: usize = 255;
/// Latest second since 1970 that a claim may name; beyond the year 5000.
const MAX_CLAIM_SECOND: f64 = 1e11;
/// How far the issuer's clock may differ from this mirror's.
pub(super) const JWT_LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// A token whose issuer is configured, and whose signature and claims are not verified.
#[derive(Debug)]
pub(crate) struct UnverifiedJwt {
    pub(super) text: Secret,
    /// The index of its issuer among the configured ones.
    pub(super) issuer: usize,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

/// The fields of the header that are read.
#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// The claim that chooses the issuer.
#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

/// The claims that are read of a token with a valid signature.
#[derive(Debug, Deserialize)]
struct JwtClaims {
    iss: String,
    sub: String,
    aud: AudienceClaim,
    exp: f64,
    nbf: Option<f64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AudienceClaim {
    One(String),
    Several(Vec<String>),
}

/// What a valid token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JwtIdentity {
    pub(super) subject: String,
    /// All that the token names, without the name of the issuer.
    pub(super) groups: Vec<String>,
    pub(super) expires_at: Timestamp,
}

/// True for a text that has the form of a signed JWT.
pub(super) fn has_jwt_form(text: &str) -> bool {
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    // The signature of `alg: none` is empty.
    text.matches('.').count() == 2 && text.starts_with("ey") && text.split('.').all(is_part)
}

impl UnverifiedJwt {
    /// Reads header and issuer.
    ///
    /// # Errors
    /// A token that no key could make valid.
    pub(super) fn parse(text: &str, policies: &[&IssuerPolicy]) -> Result<Self, JwtFault> {
        if text.len() > MAX_JWT_BYTES {
            return Err(JwtFault::TooLong);
        }
        let mut parts = text.split('.');
        let header: JoseHeader = decoded(parts.next()).ok_or(JwtFault::Malformed)?;
        let IssuerClaim { iss } = decoded(parts.next()).ok_or(JwtFault::Malformed)?;
        let issuer = policies.iter().position(|policy| policy.issuer == iss).ok_or(JwtFault::Issuer)?;
        // RFC 7515 §4.1.11: an extension that is not understood makes the token invalid.
        if header.crit.is_some() {
            return Err(JwtFault::Malformed);
        }
        let algorithm = algorithm_of(&header.alg).filter(|known| policies[issuer].algorithms.contains(known));
        let algorithm = algorithm.ok_or(JwtFault::Algorithm)?;
        Ok(Self { text: Secret::new(text), issuer, algorithm, key_id: header.kid })
    }

    /// Verifies the signature and the claims; `now` is the present time.
    ///
    /// # Errors
    /// The first check that fails.
    pub(super) fn verify(
        &self,
        key: &DecodingKey,
        policy: &IssuerPolicy,
        now: Timestamp,
    ) -> Result<JwtIdentity, JwtFault> {
        let mut validation = Validation::new(self.algorithm);
        // The claims are checked below, by this mirror's clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims: Map<String, Value> =
            decode(self.text.reveal(), key, &validation).map_err(|_| JwtFault::Signature)?.claims;
        let claims: JwtClaims = serde_json::from_value(Value::Object(claims)).map_err(|_| JwtFault::Malformed)?;
        if claims.iss != policy.issuer {
            return Err(JwtFault::Issuer);
        }
        let is_meant = match &claims.aud {
            AudienceClaim::One(audience) => *audience == policy.audience,
            AudienceClaim::Several(audiences) => audiences.contains(&policy.audience),
        };
        if !is_meant {
            return Err(JwtFault::Audience);
        }
        let expires_at = timestamp(claims.exp).ok_or(JwtFault::Malformed)?;
        if now >= expires_at.saturating_add(JWT_LEEWAY).unwrap_or(Timestamp::MAX) {
            return Err(JwtFault::Expired);
        }
        if let Some(nbf) = claims.nbf {
            let begins_at = timestamp(nbf).ok_or(JwtFault::Malformed)?;
            if now < begins_at.saturating_sub(JWT_LEEWAY).unwrap_or(Timestamp::MIN) {
                return Err(JwtFault::NotYetValid);
            }
        }
        let subject = claims.sub;
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || subject.contains(char::is_control) {
            return Err(JwtFault::Subject);
        }
        let groups = policy.groups_claim.as_ref().and_then(|claim| claims.others.get(claim));
        let groups = match groups {
            Some(Value::String(group)) => vec![group.clone()],
            Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Ok(JwtIdentity { subject, groups, expires_at })
    }
}

fn decoded<T: serde::de::DeserializeOwned>(part: Option<&str>) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part?).ok()?).ok()
}

/// A NumericDate: seconds since 1970, perhaps with a fraction.
fn timestamp(seconds: f64) -> Option<Timestamp> {
    let is_valid = seconds.is_finite() && (0.0..MAX_CLAIM_SECOND).contains(&seconds);
    // In range, so the conversion loses the fraction only.
    is_valid.then(|| Timestamp::from_second(seconds as i64).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_form_of_a_jwt_or_not() {
        for (text, is_jwt) in [
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", true),
            ("eyJhbGci.eyJzdWIi.c2ln-_", true),
            ("srmt_000000000000000000000000000000000000", false),
            ("eyJhbGci.eyJzdWIi", false),
            ("eyJhbGci.eyJzdWIi.c2ln.x", false),
            ("eyJhbGci.eyJz dWIi.c2ln", false),
            ("ab.cd.ef", false),
            ("", false),
        ] {
            assert_eq!(has_jwt_form(text), is_jwt, "{text}");
        }
    }

    #[test]
    fn a_date_is_a_number_of_seconds_within_reason() {
        assert_eq!(timestamp(1.9), Timestamp::from_second(1).ok());
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert_eq!(timestamp(seconds), None, "{seconds}");
        }
    }
}
