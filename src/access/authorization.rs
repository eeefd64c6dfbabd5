//! The `Authorization` field ([RFC 9110 §11.6.2]): a token as Bearer, or as the password of Basic.
//!
//! [RFC 9110 §11.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.2

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};

use super::InvalidCredential;

/// Longest field that is read, bytes: a JWT with many groups.
const MAX_AUTHORIZATION_BYTES: usize = 16 << 10;

/// The token of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a>(pub(super) Cow<'a, str>);

impl<'a> Authorization<'a> {
    /// Reads the field; `None` when it is absent.
    ///
    /// # Errors
    /// `Malformed` for two fields, another scheme, or a value that is not that of its scheme.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Option<Self>, InvalidCredential> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().map_err(|_| InvalidCredential::Malformed)?;
        if values.next().is_some() || text.len() > MAX_AUTHORIZATION_BYTES {
            return Err(InvalidCredential::Malformed);
        }
        let (scheme, rest) = text.trim().split_once(' ').ok_or(InvalidCredential::Malformed)?;
        let rest = rest.trim_start();
        // RFC 9110 §11.1: the scheme is compared without case. GitHub's clients also send `token`.
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        let token = if is("bearer") || is("token") {
            Cow::Borrowed(rest)
        } else if is("basic") {
            Cow::Owned(password(rest).ok_or(InvalidCredential::Malformed)?)
        } else {
            return Err(InvalidCredential::Malformed);
        };
        if token.is_empty() { Err(InvalidCredential::Malformed) } else { Ok(Some(Self(token))) }
    }
}

/// The password of Basic (RFC 7617 §2): what follows the first colon. Any user name is accepted.
fn password(encoded: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_from_bearer_and_from_the_password_of_basic() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().expect("a value"));
            Authorization::of(&headers).map(|token| token.expect("a field").0.into_owned())
        };
        for (text, token) in [
            ("Bearer abc", Ok("abc")),
            ("bEaReR  abc", Ok("abc")),
            ("token abc", Ok("abc")),
            // any:a:b
            ("Basic YW55OmE6Yg==", Ok("a:b")),
            ("Basic YW55", Err(InvalidCredential::Malformed)),
            ("Basic %%", Err(InvalidCredential::Malformed)),
            ("Bearer", Err(InvalidCredential::Malformed)),
            ("Bearer ", Err(InvalidCredential::Malformed)),
            ("Digest abc", Err(InvalidCredential::Malformed)),
        ] {
            assert_eq!(read(text).as_deref(), token.as_ref().map(|token| *token), "{text}");
        }
        assert_eq!(Authorization::of(&HeaderMap::new()), Ok(None));
    }
}
