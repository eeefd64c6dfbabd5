//! Masks secrets in values before they are printed.

use super::{schema, schema::is_secret_word};

/// What is printed in place of a secret.
const MASK: &str = "***";

/// A value with secrets masked: tokens, values of unknown keys that sound like a secret, and the user and password of every
/// URL, in lists and tables too. Its text is TOML.
pub(super) fn masked(path: &[String], value: &toml::Value) -> toml::Value {
    let name = path.last().map_or("", String::as_str);
    match value.as_str() {
        _ if holds_token(value) => MASK.into(),
        _ if schema::example(path).is_none() && is_secret_word(name) => MASK.into(),
        // A proxy without its scheme is refused, and printed with the reason.
        Some(text) if name == "proxy" && !text.contains("://") => mask_user(text).into(),
        _ => without_passwords(value),
    }
}

/// The same value with every text in it as [`without_password`] returns it; a token in it becomes `***`.
fn without_passwords(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) if is_token(text) => MASK.into(),
        toml::Value::String(text) => without_password(text).into(),
        toml::Value::Array(items) => toml::Value::Array(items.iter().map(without_passwords).collect()),
        toml::Value::Table(table) => {
            let member = |(key, value): (&String, &toml::Value)| (key.clone(), without_passwords(value));
            toml::Value::Table(table.iter().map(member).collect())
        }
        other => other.clone(),
    }
}

/// True for a value that is a token, or has one in a list or a table.
fn holds_token(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => is_token(text),
        toml::Value::Array(items) => items.iter().any(holds_token),
        toml::Value::Table(table) => table.values().any(holds_token),
        _ => false,
    }
}

/// True for a text with a prefix that GitHub and this mirror give to their tokens.
pub(super) fn is_token(text: &str) -> bool {
    ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "srmt_"]
        .iter()
        .any(|prefix| text.trim().starts_with(prefix))
}

/// A text with `***` in place of the user and password of a URL, also of one that cannot be parsed because of them.
pub(crate) fn without_password(text: &str) -> String {
    let has_none = |url: url::Url| url.username().is_empty() && url.password().is_none();
    if !text.contains("://") || url::Url::parse(text.trim()).is_ok_and(has_none) {
        return text.to_owned();
    }
    mask_user(text)
}

fn mask_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_is_printed_with_its_password() {
        for (text, expected) in [
            ("https://api.github.com", "https://api.github.com"),
            ("https://host/@scope/x", "https://host/@scope/x"),
            ("https://user:pass@host/api", "https://***@host/api"),
            ("https://pass@host", "https://***@host"),
            ("https://user:pa/ss@host/x", "https://***@host/x"),
            ("https://user:pa@ss@host", "https://***@host"),
            ("socks5://u:p@127.0.0.1:1080", "socks5://***@127.0.0.1:1080"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(without_password(text), expected);
        }
        let value: toml::Value =
            toml::from_str("a = [\"https://u:secret@h\"]\nb = {c = \"ghp_secret\"}").expect("TOML");
        let path = ["routes".to_owned()];
        let shown = masked(&path, &value).to_string();
        assert!(!shown.contains("secret"), "{shown}");
    }
}
