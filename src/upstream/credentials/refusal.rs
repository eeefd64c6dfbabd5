//! Recognises responses that refuse the credential, not the request: one pure function per forge, and one for registries.
//!
//! A 403 is about the credential only where a header or the wording says so. What such a response withholds may be
//! public: GitHub's address lists and SAML rules, for example, bind requests with a credential and no others.

use std::fmt;

use http::StatusCode;

use crate::upstream::error_class::ErrorResponse;

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// Unknown, revoked or malformed.
    BadCredential,
    /// It has expired.
    Expired,
    /// It is not authorised for the owner's single sign-on.
    SingleSignOn,
    /// It lives longer than the owner permits.
    Lifetime,
    /// The owner does not permit credentials of its kind.
    TokenKind,
    /// The owner permits only listed addresses, and the mirror's is none of them.
    Address,
    /// The account or the installation is suspended.
    Suspended,
}

/// Whose packages a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalScope {
    /// Those of every owner.
    AllOwners,
    /// Those of the owner that was asked for.
    OneOwner,
}

impl RefusalReason {
    /// The class in logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadCredential => "bad-credential",
            Self::Expired => "expired",
            Self::SingleSignOn => "single-sign-on",
            Self::Lifetime => "lifetime",
            Self::TokenKind => "token-kind",
            Self::Address => "address",
            Self::Suspended => "suspended",
        }
    }

    pub(super) fn scope(self) -> RefusalScope {
        match self {
            Self::BadCredential | Self::Expired => RefusalScope::AllOwners,
            Self::SingleSignOn | Self::Lifetime | Self::TokenKind | Self::Address | Self::Suspended => {
                RefusalScope::OneOwner
            }
        }
    }
}

/// A predicate of the credential.
impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadCredential => "is wrong or revoked",
            Self::Expired => "has expired",
            Self::SingleSignOn => "is not authorised for the single sign-on",
            Self::Lifetime => "lives longer than permitted",
            Self::TokenKind => "is of a kind that is not permitted",
            Self::Address => "is not permitted from this mirror's address",
            Self::Suspended => "is suspended",
        })
    }
}

/// GitHub: every 401; a 403 with `X-GitHub-SSO: required`, or with the wording of an organization's rule.
pub(super) fn github(response: ErrorResponse<'_>) -> Option<RefusalReason> {
    let ErrorResponse { status, headers, text, .. } = response;
    let text = text.to_ascii_lowercase();
    match status {
        StatusCode::UNAUTHORIZED if text.contains("expired") => Some(RefusalReason::Expired),
        StatusCode::UNAUTHORIZED => Some(RefusalReason::BadCredential),
        StatusCode::FORBIDDEN => {
            let sso = headers.get("x-github-sso").is_some_and(|value| value.as_bytes().starts_with(b"required"));
            if sso || text.contains("saml enforcement") || text.contains("saml sso") {
                Some(RefusalReason::SingleSignOn)
            } else if text.contains("ip allow list") {
                Some(RefusalReason::Address)
            } else if text.contains("forbids access via") {
                let lifetime = text.contains("lifetime");
                Some(if lifetime { RefusalReason::Lifetime } else { RefusalReason::TokenKind })
            } else if text.contains("token has expired") || text.contains("token is expired") {
                Some(RefusalReason::Expired)
            } else if text.contains("suspended") {
                Some(RefusalReason::Suspended)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Gitee: every 401. It answers 401 for other reasons too, so one alone is no proof: see
/// [`super::CredentialProfile::confirm`].
pub(super) fn gitee(response: ErrorResponse<'_>) -> Option<RefusalReason> {
    let ErrorResponse { status, text, .. } = response;
    let expired = text.to_ascii_lowercase().contains("expired");
    let reason = if expired { RefusalReason::Expired } else { RefusalReason::BadCredential };
    (status == StatusCode::UNAUTHORIZED).then_some(reason)
}

/// A registry: every 401.
pub(super) fn registry(response: ErrorResponse<'_>) -> Option<RefusalReason> {
    (response.status == StatusCode::UNAUTHORIZED).then_some(RefusalReason::BadCredential)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::upstream::request::RequestKind;

    fn reason(
        of: fn(ErrorResponse<'_>) -> Option<RefusalReason>,
        status: u16,
        headers: &[(&'static str, &'static str)],
        text: &str,
    ) -> Option<RefusalReason> {
        let headers: HeaderMap =
            headers.iter().map(|(n, v)| (n.parse().expect("name"), v.parse().expect("v"))).collect();
        let status = StatusCode::from_u16(status).expect("a status");
        of(ErrorResponse { status, headers: &headers, text, kind: RequestKind::Api })
    }

    #[test]
    fn github_refuses_a_credential_by_status_header_or_wording() {
        use RefusalReason::*;
        let lifetime = "The 'acme' organization forbids access via a fine-grained personal access tokens if the \
                        token's lifetime is greater than 366 days.";
        let kind = "`acme` forbids access via a personal access token (classic). Please use a GitHub App.";
        let address = "Although you appear to have the correct authorization credentials, the `acme` organization has \
                       an IP allow list enabled, and your IP address is not permitted to access this resource.";
        let saml = "Resource protected by organization SAML enforcement. You must grant your Personal Access token \
                    access to this organization.";
        type Case = (u16, &'static [(&'static str, &'static str)], &'static str, Option<RefusalReason>);
        let cases: [Case; 13] = [
            (401, &[], "Bad credentials", Some(BadCredential)),
            (401, &[], "The token has expired", Some(Expired)),
            (403, &[("x-github-sso", "required; url=https://github.com/orgs/acme/sso?x=y")], "", Some(SingleSignOn)),
            (403, &[], saml, Some(SingleSignOn)),
            (403, &[("x-github-sso", "partial-results; organizations=1")], "Forbidden", None),
            (403, &[], lifetime, Some(Lifetime)),
            (403, &[], kind, Some(TokenKind)),
            (403, &[], address, Some(Address)),
            (403, &[], "This installation has been suspended", Some(Suspended)),
            (403, &[], "Resource not accessible by personal access token", None),
            (403, &[], "API rate limit exceeded for user ID 1.", None),
            (404, &[], "Not Found", None),
            (500, &[], saml, None),
        ];
        for (status, headers, text, want) in cases {
            assert_eq!(reason(github, status, headers, text), want, "{status} {text}");
        }
    }

    #[test]
    fn gitee_and_registries_refuse_a_credential_with_401_only() {
        use RefusalReason::*;
        for (text, want) in [
            ("401 Unauthorized: Access token does not exist", BadCredential),
            ("401 Unauthorized: Access token is expired", Expired),
        ] {
            assert_eq!(reason(gitee, 401, &[], text), Some(want));
            assert_eq!(reason(gitee, 403, &[], text), None);
        }
        assert_eq!(reason(registry, 401, &[], "签名校验失败"), Some(BadCredential));
        assert_eq!(reason(registry, 403, &[], "签名校验失败"), None);
    }
}
