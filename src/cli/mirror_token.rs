//! The token that a command sends to a mirror with `access.enabled`: from `--token-file`, else from the variable
//! `SRM_MIRROR_TOKEN`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use reqwest::{RequestBuilder, header};

use crate::config::{Environment, TOKEN_VARIABLE};

/// Longest token file that is read, bytes; a larger one was named by mistake.
const MAX_TOKEN_FILE_BYTES: u64 = 4096;

/// The token of a mirror's client. `Debug` does not show it.
#[derive(Clone, Debug)]
pub(super) struct MirrorToken {
    /// The value of the `Authorization` field, marked as sensitive.
    authorization: header::HeaderValue,
    /// Where it comes from.
    origin: String,
}

/// Why there is no usable token in a file or variable.
#[derive(Debug, thiserror::Error)]
pub(super) enum MirrorTokenError {
    /// The file cannot be read.
    #[error("--token-file {} cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The text is empty, too long, or has characters that no token has.
    #[error("{0} has no token: it is one line that begins with srmt_, as \"srm-mirror token create\" prints it")]
    NotToken(String),
}

impl MirrorToken {
    /// The token in `file`, else in the variable; `None` without either. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, or has no token.
    pub(super) fn load(file: Option<&Path>, environment: &Environment) -> Result<Option<Self>, MirrorTokenError> {
        if let Some(file) = file {
            let unreadable = |source| MirrorTokenError::Unreadable { file: file.to_owned(), source };
            let text = read(file).map_err(unreadable)?;
            return Self::parse(&text, format!("--token-file {}", file.display())).map(Some);
        }
        let text = environment.get(TOKEN_VARIABLE);
        text.map(|text| Self::parse(text.as_bytes(), TOKEN_VARIABLE.to_owned())).transpose()
    }

    fn parse(text: &[u8], origin: String) -> Result<Self, MirrorTokenError> {
        let token = text.trim_ascii();
        if token.is_empty() || token.len() as u64 > MAX_TOKEN_FILE_BYTES || !token.iter().all(u8::is_ascii_graphic) {
            return Err(MirrorTokenError::NotToken(origin));
        }
        let field = [b"Bearer ", token].concat();
        let Ok(mut authorization) = header::HeaderValue::from_bytes(&field) else {
            return Err(MirrorTokenError::NotToken(origin));
        };
        authorization.set_sensitive(true);
        Ok(Self { authorization, origin })
    }

    /// Adds the token to a request. The request must be for the mirror itself: nothing here compares addresses, and the
    /// client must follow no redirect.
    pub(super) fn authorize(token: Option<&Self>, request: RequestBuilder) -> RequestBuilder {
        match token {
            Some(token) => request.header(header::AUTHORIZATION, token.authorization.clone()),
            None => request,
        }
    }

    /// The sentence for 401: what to set, or which token the mirror refused. `reason` is the mirror's own sentence.
    pub(super) fn refusal(token: Option<&Self>, reason: &str) -> String {
        match token {
            Some(Self { origin, .. }) => format!("{reason} (the token is from {origin})"),
            None => format!(
                "the mirror serves this only to clients with a token: name its file with --token-file, or set {TOKEN_VARIABLE}"
            ),
        }
    }
}

/// The content of a file, with at most one byte more than is allowed.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(MAX_TOKEN_FILE_BYTES + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(text: &str) -> Environment {
        [(TOKEN_VARIABLE, text)].into_iter().collect()
    }

    #[test]
    fn a_file_precedes_the_variable_and_neither_is_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        std::fs::write(&file, "srmt_of-file\n").expect("written");
        let load = |file: Option<&Path>, environment: &Environment| {
            MirrorToken::load(file, environment).expect("a token or none").map(|token| token.authorization)
        };
        assert_eq!(load(Some(&file), &variable("srmt_of-variable")).expect("a token"), "Bearer srmt_of-file");
        assert_eq!(load(None, &variable("srmt_of-variable")).expect("a token"), "Bearer srmt_of-variable");
        assert_eq!(load(None, &variable("")), None);
        let token = MirrorToken::load(Some(&file), &Environment::default()).expect("a token");
        assert!(!format!("{token:?}").contains("srmt_"), "{token:?}");
    }

    #[test]
    fn a_text_that_is_no_token_is_named_and_not_repeated() {
        let long = "x".repeat(5000);
        for text in ["\t", "two words", "line\nline", "ä", long.as_str()] {
            let error = MirrorToken::load(None, &variable(text)).expect_err(text).to_string();
            assert!(error.starts_with("SRM_MIRROR_TOKEN has no token") && !error.contains(text), "{error}");
        }
    }
}
