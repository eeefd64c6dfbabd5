//! Masks secrets in values before they are printed.

use super::schema;

/// What is printed in place of a secret, as TOML.
const MASK: &str = "\"***\"";

/// A value as TOML with secrets masked: tokens, values of unknown keys that sound like a secret, a proxy's user and
/// password.
pub(super) fn masked(path: &[String], value: &toml::Value) -> String {
    let name = path.last().map_or("", String::as_str);
    match value.as_str() {
        Some(text) if is_token(text) => MASK.into(),
        _ if schema::example(path).is_none() && is_secret_word(name) => MASK.into(),
        Some(text) if name == "proxy" => toml::Value::from(without_password(text)).to_string(),
        _ => value.to_string(),
    }
}

/// True for a text with a prefix that GitHub gives to its tokens.
pub(super) fn is_token(text: &str) -> bool {
    ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"].iter().any(|prefix| text.trim().starts_with(prefix))
}

/// True for the last part of a key that sounds like a secret. No key holds one; users write such keys by mistake.
pub(super) fn is_secret_word(name: &str) -> bool {
    ["token", "secret", "password", "key", "auth"].iter().any(|word| name.to_ascii_lowercase().contains(word))
}

/// A proxy's URL with `***` in place of its user and password.
fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
        None => text.to_owned(),
    }
}
