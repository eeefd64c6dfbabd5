//! 401: which credentials a client needs, or what is wrong with those that it sent.

use http::{HeaderMap, HeaderValue, header};

use super::{ASK_OPERATOR, subject::Subject};
use crate::access::{InvalidCredential, JwtFault};

/// Why a request is not answered without other credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// It has none, and without credentials the package is not served.
    NoCredentials,
    /// The signature in the address does not hold, and there are no other credentials.
    Address,
    /// It has credentials that are not valid.
    Credentials(InvalidCredential),
}

impl Unauthorized {
    /// The sentence for the client. Says nothing about whether a package exists.
    pub(super) fn sentence(self, subject: Subject<'_>) -> String {
        match self {
            Self::NoCredentials => format!(
                "this mirror serves {} only to clients with a token; send it as Authorization: Bearer, or log in with \
                 s registry login --token; {ASK_OPERATOR} for one",
                subject.what()
            ),
            Self::Address => "the address of this zip has expired, or its token was revoked; ask for the release again".into(),
            Self::Credentials(InvalidCredential::Malformed) => {
                "the Authorization field is neither Bearer with a token nor Basic with a token as the password".into()
            }
            Self::Credentials(InvalidCredential::UnknownToken) => {
                format!("this mirror has no such token: it is mistyped, or was revoked; {ASK_OPERATOR}")
            }
            Self::Credentials(InvalidCredential::Expired) => {
                format!("the token has expired; {ASK_OPERATOR} for a new one")
            }
            Self::Credentials(InvalidCredential::CertificateExpired) => {
                "the client's certificate has expired; connect with a new one".into()
            }
            Self::Credentials(InvalidCredential::Signature) => {
                "the signature of the command line client does not hold: the token is another one, the clock differs by \
                 more than 5 minutes, or the request was sent before; log in again with s registry login --token"
                    .into()
            }
            Self::Credentials(InvalidCredential::Jwt(fault)) => {
                format!("the token of the identity provider is not valid: {}", jwt_reason(fault))
            }
        }
    }
}

/// What is wrong with a JWT, and what to do. Repeats nothing of it.
fn jwt_reason(fault: JwtFault) -> &'static str {
    match fault {
        JwtFault::TooLong => "it is longer than 8 KiB; ask for one with fewer claims",
        JwtFault::Malformed => "a part of it is malformed, or iss, sub, aud or exp is missing",
        JwtFault::Issuer => "this mirror accepts no tokens of its issuer",
        JwtFault::Algorithm => "this mirror accepts none of its issuer with this signature algorithm",
        JwtFault::UnknownKey => "its issuer has no such key; get a new one",
        JwtFault::Signature => "its signature does not hold",
        JwtFault::Audience => "it is for another audience; get one for this mirror",
        JwtFault::Expired => "it has expired; get a new one",
        JwtFault::NotYetValid => "it is not valid yet, or a clock is wrong",
        JwtFault::Subject => "its subject is empty or longer than 255 bytes",
    }
}

/// Says which credentials are accepted ([RFC 9110 §11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)).
pub(super) fn add_challenges(headers: &mut HeaderMap) {
    for challenge in ["Bearer realm=\"srm-mirror\"", "Basic realm=\"srm-mirror\", charset=\"UTF-8\""] {
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
}
