//! Reads the upstreams' tokens from files and variables; no other code does.

use std::{collections::BTreeMap, fs};

use super::{
    Config,
    environment::Environment,
    error::ConfigError,
    layers::{invalid, io_reason},
    setting::Settings,
};
use crate::{upstream, value::Secret};

/// Longest token that is accepted, in bytes; a larger file was named by mistake.
const MAX_TOKEN_BYTES: usize = 4096;

/// Why a token cannot be used. No message contains the token.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("this file cannot be read: {0}")]
    UnreadableFile(String),
    #[error("this file is empty")]
    EmptyFile,
    #[error("the content is not a token: a token is one line of printable characters without spaces")]
    Malformed { key: &'static str },
}

impl TokenError {
    /// The key of the upstream's section whose value is invalid.
    fn key(&self) -> &'static str {
        match self {
            Self::UnreadableFile(_) | Self::EmptyFile => "token_file",
            Self::Malformed { key } => key,
        }
    }
}

/// The token of each upstream: from `token_file`, else from the variable that `token_env` names, else `None`.
///
/// A variable that is unset or empty means no token.
///
/// # Errors
/// When a file cannot be read or is empty, or a token has characters that no header field may have.
pub(super) fn resolve(
    config: &Config,
    environment: &Environment,
    settings: &Settings,
) -> Result<BTreeMap<String, Option<Secret>>, ConfigError> {
    let resolve = |(name, upstream): (&String, &upstream::Config)| {
        let token = read(upstream, environment)
            .map_err(|error| invalid(settings, &["upstreams", name, error.key()], &error))?;
        Ok((name.clone(), token))
    };
    config.upstreams.iter().map(resolve).collect()
}

/// One upstream's token.
fn read(upstream: &upstream::Config, environment: &Environment) -> Result<Option<Secret>, TokenError> {
    let (key, token) = match (&upstream.token_file, &upstream.token_env) {
        (Some(file), _) => {
            let text = fs::read_to_string(file).map_err(|error| TokenError::UnreadableFile(io_reason(&error)))?;
            let token = Secret::new(&text);
            if token.reveal().is_empty() {
                return Err(TokenError::EmptyFile);
            }
            ("token_file", token)
        }
        (None, Some(variable)) => match environment.get(variable).map(Secret::new) {
            Some(token) if !token.reveal().is_empty() => ("token_env", token),
            _ => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let text = token.reveal();
    if text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Malformed { key });
    }
    Ok(Some(token))
}
