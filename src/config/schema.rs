//! Which keys there are, read from `config.example.toml`: the example is the schema, so neither can go stale alone.

use std::{collections::BTreeMap, sync::LazyLock};

use super::error::dotted;

/// The example file: every key at its default, commented out.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Every key of the example with its value, the ones without default included.
static KEYS: LazyLock<BTreeMap<Vec<String>, toml::Value>> = LazyLock::new(|| {
    let mut keys = BTreeMap::new();
    // A test holds that the example parses; were it broken, every key would be unknown.
    let tree = toml::from_str(&uncommented(EXAMPLE, true)).unwrap_or_default();
    collect(&mut Vec::new(), &tree, &mut keys);
    keys
});

fn collect(at: &mut Vec<String>, table: &toml::Table, into: &mut BTreeMap<Vec<String>, toml::Value>) {
    for (key, value) in table {
        at.push(key.clone());
        match value {
            toml::Value::Table(table) => collect(at, table, into),
            value => {
                into.insert(at.clone(), value.clone());
            }
        }
        at.pop();
    }
}

/// The example with its keys un-commented: those with a default, and on demand also those without.
pub(super) fn uncommented(text: &str, all: bool) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with("? ") => if all { &rest[2..] } else { "" }.to_owned(),
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What a path of the configuration is.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    /// A value, and an example of it.
    Value(&'static toml::Value),
    /// A section that has further keys.
    Section,
    /// Nothing.
    Unknown,
}

/// Looks a path up. Upstreams of every name have the same keys, and every alias is a text.
pub(super) fn find(path: &[String]) -> Kind {
    let path = generic(path);
    match KEYS.get(&path) {
        Some(value) => Kind::Value(value),
        None if KEYS.keys().any(|key| key.starts_with(&path)) => Kind::Section,
        None => Kind::Unknown,
    }
}

/// The path with names that are free to choose replaced by those of the example.
fn generic(path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    match path.first().map(String::as_str) {
        // An own section of the example (gitee) keeps its own values; only what it leaves out is github's.
        Some("upstreams") if path.len() > 1 && !KEYS.contains_key(&path) => path[1] = "github".into(),
        Some("names") if path.len() == 3 && path[1] == "aliases" => path[2] = "fc3".into(),
        _ => {}
    }
    path
}

/// An example of a key's value, as TOML.
pub(super) fn example(path: &[String]) -> Option<String> {
    match find(path) {
        Kind::Value(value) => Some(value.to_string()),
        _ => None,
    }
}

/// True when the key can be left out and then has no value: it stands in the example as `#?`.
pub(super) fn optional_keys() -> impl Iterator<Item = &'static Vec<String>> {
    static WITH_DEFAULT: LazyLock<BTreeMap<Vec<String>, toml::Value>> = LazyLock::new(|| {
        let mut keys = BTreeMap::new();
        let tree = toml::from_str(&uncommented(EXAMPLE, false)).unwrap_or_default();
        collect(&mut Vec::new(), &tree, &mut keys);
        keys
    });
    KEYS.keys().filter(|key| !WITH_DEFAULT.contains_key(*key) && !key.starts_with(&["names".into(), "aliases".into()]))
}

/// True for a last part of a key that would hold a secret, had the configuration such keys.
pub(super) fn is_secret_word(name: &str) -> bool {
    ["token", "secret", "password", "key", "auth"].iter().any(|word| name.to_ascii_lowercase().contains(word))
}

/// What is to be said of a key that does not exist.
pub(super) fn unknown(path: &[String]) -> String {
    let parent = &path[..path.len().saturating_sub(1)];
    let name = path.last().map_or("", String::as_str);
    if let Kind::Value(_) = find(parent) {
        return format!("{} is a value, not a section", dotted(parent));
    }
    if parent.first().is_some_and(|first| first == "upstreams") && is_secret_word(name) {
        return "no such key; a token stands in a variable (token_env) or in a file (token_file), never here".into();
    }
    let place = generic(parent);
    let siblings = KEYS.keys().filter(|key| key.len() > place.len() && key.starts_with(&place));
    let near = nearest(name, siblings.map(|key| key[place.len()].as_str()));
    let guess = match near {
        Some(near) => Some([parent, &[near.to_owned()]].concat()),
        None => KEYS.keys().find(|key| key.last().is_some_and(|last| last == name)).cloned(),
    };
    match guess {
        Some(guess) => format!("no such key; did you mean {}?", dotted(&guess)),
        None => "no such key; config.example.toml has them all".into(),
    }
}

/// The candidate that a misspelt `word` most likely means.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.len() / 3).clamp(1, 3);
    let near = candidates.map(|candidate| (distance(word, candidate), candidate)).filter(|(far, _)| *far <= most);
    near.min().map(|(_, candidate)| candidate)
}

/// Number of letters to insert, remove or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}
