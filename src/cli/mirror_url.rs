//! The URL of a mirror as an argument.

use crate::value::BaseUrl;

/// An argument that is no URL of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MirrorUrlError {
    /// A host without `http://`.
    #[error("the scheme is missing; write http://{host}")]
    NoScheme {
        /// The text, which is a host with or without a port and a path.
        host: String,
    },
    /// Anything else.
    #[error("{reason}; write for example http://mirror.example.com:8080")]
    Malformed {
        /// Why it is no URL; does not repeat the text.
        reason: String,
    },
}

/// Parses the URL at which clients reach a mirror.
///
/// # Errors
/// See [`MirrorUrlError`].
pub(super) fn parse(text: &str) -> Result<BaseUrl, MirrorUrlError> {
    let error = match text.parse() {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    let with_scheme = format!("http://{text}");
    let is_host = !text.contains("://") && with_scheme.parse::<BaseUrl>().is_ok();
    if is_host {
        return Err(MirrorUrlError::NoScheme { host: text.to_owned() });
    }
    Err(MirrorUrlError::Malformed { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_scheme_is_shown_with_one_and_no_password_is_repeated() {
        assert!(parse("http://mirror.example.com:8080").is_ok());
        for host in ["mirror.example.com:8080", "mirror", "localhost:8080", "10.0.0.1/srm"] {
            let error = parse(host).expect_err(host).to_string();
            assert!(error.contains(&format!("write http://{host}")), "{error}");
        }
        for text in ["", "http://", "ftp://mirror.example.com", "user:secret@mirror", "http://user:secret@mirror"] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("http://mirror.example.com:8080") && !error.contains("secret"), "{error}");
        }
    }
}
