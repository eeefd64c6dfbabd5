//! Tokens: the one place that reads them, from a file or a variable.

use std::{collections::BTreeMap, fs};

use super::{
    Config,
    check::unreadable,
    error::ConfigError,
    layers::{Environment, Settings, wrong},
};
use crate::{upstream, value::Secret};

/// Longest token that is believed to be one, in bytes; a larger file is a mistake.
const LONGEST: usize = 4096;

/// The token of each upstream: from `token_file`, else from the variable that `token_env` names, else `None`.
///
/// A variable that is not set, or empty, is no token and no error. The tokens themselves are in no message.
///
/// # Errors
/// When a file cannot be read or is empty, or a token could not be sent in a header.
pub(super) fn resolve(
    config: &Config,
    environment: &Environment,
    leaves: &Settings,
) -> Result<BTreeMap<String, Option<Secret>>, ConfigError> {
    let resolve = |(name, upstream): (&String, &upstream::Config)| {
        let token = one(upstream, environment).map_err(|(key, why)| wrong(leaves, &["upstreams", name, key], why))?;
        Ok((name.clone(), token))
    };
    config.upstreams.iter().map(resolve).collect()
}

/// One token, or the key that is wrong and why.
fn one(upstream: &upstream::Config, environment: &Environment) -> Result<Option<Secret>, (&'static str, String)> {
    let (key, token) = match (&upstream.token_file, &upstream.token_env) {
        (Some(file), _) => {
            let text = fs::read_to_string(file).map_err(|why| ("token_file", unreadable(&why)))?;
            let token = Secret::new(&text);
            if token.reveal().is_empty() {
                return Err(("token_file", "this file is empty".into()));
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
    if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = "what it holds is no token: that is one line of printable characters without spaces";
        return Err((key, reason.into()));
    }
    Ok(Some(token))
}
