//! The keys of the configuration, read from `config.example.toml`: the example file is the schema, so the two cannot
//! differ.

use std::{collections::BTreeMap, sync::LazyLock};

use super::setting::{dotted, owned_path};

/// The text of `config.example.toml`: every key at its default, commented out.
pub const EXAMPLE_CONFIG: &str = include_str!("../../config.example.toml");

/// Values by the path of their key.
type KeyTable = BTreeMap<Vec<String>, toml::Value>;

/// Every key of the example file with its value, keys without a default included.
static SCHEMA_KEYS: LazyLock<KeyTable> = LazyLock::new(|| keys_of(&uncommented(EXAMPLE_CONFIG, ExampleKeys::All)));

/// The keys of a TOML text. A test holds that the example parses; an example that does not has no keys.
fn keys_of(text: &str) -> KeyTable {
    let mut keys = KeyTable::new();
    collect(&mut Vec::new(), &toml::from_str(text).unwrap_or_default(), &mut keys);
    keys
}

fn collect(path: &mut Vec<String>, table: &toml::Table, into: &mut KeyTable) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            toml::Value::Table(table) => collect(path, table, into),
            value => {
                into.insert(path.clone(), value.clone());
            }
        }
        path.pop();
    }
}

/// Which keys of the example file are uncommented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExampleKeys {
    /// Those with a default, `#key = value`.
    WithDefault,
    /// Those without a default too, `#? key = value`.
    All,
}

/// The example's text with these keys uncommented.
pub(super) fn uncommented(text: &str, keys: ExampleKeys) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with("? ") => if keys == ExampleKeys::All { &rest[2..] } else { "" }.to_owned(),
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What the schema has at a path.
#[derive(Debug, PartialEq)]
pub(super) enum SchemaItem {
    /// A key with a value; the value is an example.
    Value(&'static toml::Value),
    /// A section with further keys.
    Section,
    /// Nothing.
    Unknown,
}

/// Looks up a path. All upstreams have the same keys, every alias is a string, and `access.groups` and `required` have any
/// name as key.
pub(super) fn find(path: &[String]) -> SchemaItem {
    let path = generic(path);
    match SCHEMA_KEYS.get(&path) {
        Some(value) => SchemaItem::Value(value),
        None if SCHEMA_KEYS.keys().any(|key| key.starts_with(&path)) => SchemaItem::Section,
        None => SchemaItem::Unknown,
    }
}

/// The path with user-chosen names (upstreams, aliases, groups, required packages) replaced by those of the example file.
fn generic(path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    match path.first().map(String::as_str) {
        // A section of the example (gitee) keeps its own values; keys that it lacks are looked up under github.
        Some("upstreams") if path.len() > 1 && !SCHEMA_KEYS.contains_key(&path) => path[1] = "github".into(),
        Some("names") if path.len() == 3 && path[1] == "aliases" => path[2] = "fc3".into(),
        Some("access") if path.len() == 3 && path[1] == "groups" => path[2] = "dev".into(),
        Some("required") if path.len() == 2 => path[1] = "fc3".into(),
        _ => {}
    }
    path
}

/// The paths of all keys of the example file.
pub(super) fn keys() -> impl Iterator<Item = &'static Vec<String>> + Clone {
    SCHEMA_KEYS.keys()
}

/// An example of a key's value, as TOML; `None` for a section or an unknown key.
pub(super) fn example(path: &[String]) -> Option<String> {
    match find(path) {
        SchemaItem::Value(value) => Some(value.to_string()),
        SchemaItem::Section | SchemaItem::Unknown => None,
    }
}

/// Examples of lists that are empty by default.
const LIST_EXAMPLES: [(&str, &str); 12] = [
    ("routes", r#"[{ packages = "acme/*", upstreams = ["gitee"] }]"#),
    ("access.rules", r#"[{ packages = ["acme/*"], read = ["group:dev"] }]"#),
    ("access.issuers", r#"[{ name = "corp", issuer = "https://login.example.com", audience = "srm-mirror" }]"#),
    ("server.metrics_listen", r#"["127.0.0.1:9464"]"#),
    ("server.known_hosts", r#"["mirror.example.com"]"#),
    ("server.trusted_proxies", r#"["10.0.0.0/8"]"#),
    ("server.tls.listen", r#"["0.0.0.0:443"]"#),
    ("server.tls.certificates", r#"[{ cert_file = "mirror.pem", key_file = "mirror.key" }]"#),
    ("packages.allow", r#"["devsapp/*"]"#),
    ("packages.deny", r#"["devsapp/*"]"#),
    ("packages.private_allow", r#"["acme/*"]"#),
    ("packages.min_age_for", r#"[{ packages = "acme/*", age = "0s" }]"#),
];

/// An example that shows how a key's value is written, for an error; `None` where there is none, or it would show nothing.
pub(super) fn written_example(path: &[String]) -> Option<String> {
    let key = dotted(path);
    let listed = LIST_EXAMPLES.iter().find(|(name, _)| *name == key).map(|(_, example)| (*example).to_owned());
    listed.or_else(|| example(path).filter(|example| !matches!(example.as_str(), "[]" | "\"\"")))
}

/// The keys without a default, `#?` in the example file, less the aliases and groups.
pub(super) fn optional_keys() -> impl Iterator<Item = &'static Vec<String>> {
    static WITH_DEFAULT: LazyLock<KeyTable> =
        LazyLock::new(|| keys_of(&uncommented(EXAMPLE_CONFIG, ExampleKeys::WithDefault)));
    let named_by_users = [owned_path(&["names", "aliases"]), owned_path(&["access", "groups"])];
    let is_named_by_user = move |key: &Vec<String>| named_by_users.iter().any(|section| key.starts_with(section));
    SCHEMA_KEYS.keys().filter(move |key| !WITH_DEFAULT.contains_key(*key) && !is_named_by_user(key))
}

/// Explains an unknown key: a token in the wrong place, a key below a value, or the most similar key.
pub(super) fn explain_unknown(path: &[String]) -> String {
    let parent = &path[..path.len().saturating_sub(1)];
    let name = path.last().map_or("", String::as_str);
    if let SchemaItem::Value(_) = find(parent) {
        return format!("{} is a value, not a section", dotted(parent));
    }
    if parent.first().is_some_and(|first| first == "upstreams") && is_secret_word(name) {
        return "no such key; name the token's variable (token_env) or its file (token_file) instead, or several in credentials".into();
    }
    let section = generic(parent);
    let siblings = SCHEMA_KEYS.keys().filter(|key| key.len() > section.len() && key.starts_with(&section));
    let suggestion = match nearest(name, siblings.map(|key| key[section.len()].as_str())) {
        Some(near) => Some([parent, &[near.to_owned()]].concat()),
        None => SCHEMA_KEYS.keys().find(|key| key.last().is_some_and(|last| last == name)).cloned(),
    };
    match suggestion {
        Some(key) => format!("no such key; did you mean {}?", dotted(&key)),
        None => "no such key; config.example.toml lists all keys".into(),
    }
}

/// The candidate most similar to `word`; `None` where each differs in more than a third of the letters, or in more
/// than three.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let max_distance = (word.len() / 3).clamp(1, 3);
    let distances = candidates.map(|candidate| (strsim::levenshtein(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= max_distance).min().map(|(_, candidate)| candidate)
}

/// True for the last part of a key that sounds like a secret. No key holds one; users write such keys by mistake.
pub(super) fn is_secret_word(name: &str) -> bool {
    ["token", "secret", "password", "key", "auth"].iter().any(|word| name.to_ascii_lowercase().contains(word))
}
