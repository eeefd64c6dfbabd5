//! Names in the configuration: upstreams and what they take from their kind, aliases, patterns, hosts.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{
    Config,
    error::{ConfigError, Source, dotted},
    layers::{self, Setting, Settings},
    schema,
};
use crate::{package::PackageName, upstream, value::BaseUrl};

/// First segments of a path that have a meaning of their own; no upstream and no alias can be called so.
const RESERVED: [&str; 12] =
    ["repos", "api", "simple", "v3", "healthz", "readyz", "metrics", "-", "releases", "zipball", "flat", "metadata"];

/// Adds to what is set every default, those of each upstream by its kind.
pub(super) fn with_defaults(set: Settings) -> Result<Settings, ConfigError> {
    // Serialising our own defaults cannot fail; a test holds that it does not.
    let mut tree = Table::try_from(Config::default()).unwrap_or_default();
    tree.remove("upstreams");
    let mut leaves = layers::of_tree(tree, &Source::Default);
    let upstream_of = |path: &Vec<String>| (path[0] == "upstreams").then(|| path.get(1).cloned()).flatten();
    let known = upstream::defaults();
    let names: BTreeSet<String> = set.keys().filter_map(upstream_of).chain(known.keys().cloned()).collect();
    for name in &names {
        leaves.extend(of_kind(name, &set)?);
    }
    leaves.extend(set.into_iter().filter(|(_, leaf)| !leaf.value.is_table()));
    Ok(leaves)
}

/// The defaults of one upstream.
fn of_kind(name: &str, set: &Settings) -> Result<Settings, ConfigError> {
    let known = upstream::defaults();
    let path = |key: &str| vec!["upstreams".to_owned(), name.to_owned(), key.to_owned()];
    let kind = set.get(&path("kind"));
    let word = kind.and_then(|leaf| leaf.value.as_str()).unwrap_or(name);
    let Some(like) = known.get(word) else {
        return Err(match kind {
            Some(leaf) => {
                let all: Vec<&str> = known.keys().map(String::as_str).collect();
                ConfigError::value(&path("kind"), leaf, format_args!("no such kind; there are {}", all.join(", ")))
            }
            None => {
                let here = set.iter().find(|(path, _)| path.len() > 1 && path[0] == "upstreams" && path[1] == name);
                let source = here.map_or(Source::Default, |(_, leaf)| leaf.source.clone());
                let near = schema::nearest(name, known.keys().map(String::as_str));
                let guess = near.map(|near| format!("; did you mean upstreams.{near}?")).unwrap_or_default();
                let reason = format!("a new upstream needs its kind, for example kind = \"github\"{guess}");
                ConfigError::unknown(&path("kind"), &source, reason)
            }
        });
    };
    let mut table = Table::try_from(like).unwrap_or_default();
    let api = set.get(&path("api")).and_then(|leaf| leaf.value.as_str()?.parse::<BaseUrl>().ok());
    let mut follows = Vec::new();
    if let Some(api) = api.filter(|api| *api != like.api) {
        // The pages of another forge are beside its API, not at the public one.
        if api.origin() != like.api.origin() {
            table.insert("web".into(), Value::from(api.origin().ascii_serialization()));
            follows.push("web");
        }
        // The token of the public forge must not reach another host by default; who sets the API of `github` itself
        // means that very upstream, token and all.
        if name != word {
            table.remove("token_env");
        }
    }
    let leaf = |(key, value): (String, Value)| {
        let source = if follows.contains(&key.as_str()) { Source::Derived("api") } else { Source::Default };
        (path(&key), Setting { value, source })
    };
    Ok(table.into_iter().map(leaf).collect())
}

/// Checks upstream names, `names.*` and the patterns of `packages.*`.
pub(super) fn check(config: &Config, leaves: &Settings) -> Result<(), ConfigError> {
    let wrong = |path: &[&str], reason: String| Err(layers::wrong(leaves, path, reason));
    let there_are = || format!("there are {}", config.upstreams.keys().cloned().collect::<Vec<_>>().join(", "));
    for name in config.upstreams.keys() {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let reason = if name.is_empty() || !name.bytes().all(allowed) {
            "an upstream's name may only have lower-case letters, digits and dashes, for example my-forge"
        } else if RESERVED.contains(&name.as_str()) {
            "this word has a meaning of its own in paths; choose another name, for example my-forge"
        } else {
            continue;
        };
        let path = vec!["upstreams".to_owned(), name.clone()];
        let sources = leaves.iter().filter(|(key, _)| key.starts_with(&path)).map(|(_, leaf)| &leaf.source);
        let source = sources.into_iter().find(|source| source.is_set()).unwrap_or(&Source::Default);
        return Err(ConfigError::unknown(&path, source, reason.into()));
    }

    let names = &config.names;
    if !config.upstreams.contains_key(&names.default_upstream) {
        let near = schema::nearest(&names.default_upstream, config.upstreams.keys().map(String::as_str));
        let guess = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        return wrong(&["names", "default_upstream"], format!("no such upstream; {}{guess}", there_are()));
    }
    if let Some(owner) = &names.default_owner
        && let Err(why) = PackageName::new(owner, "x")
    {
        return wrong(&["names", "default_owner"], why.to_string());
    }
    let mut seen = BTreeSet::new();
    for (alias, target) in &names.aliases {
        let path = ["names", "aliases", alias];
        let (owner, name) = alias.split_once('/').unwrap_or(("x", alias));
        let first = alias.split('/').next().unwrap_or_default().to_ascii_lowercase();
        if let Err(why) = PackageName::new(owner, name) {
            return wrong(&path, format!("not a name: {why}; write name or owner/name, for example fc3"));
        }
        if RESERVED.contains(&first.as_str()) || config.upstreams.contains_key(&first) {
            return wrong(&path, "an alias of this name can never be reached: the word has a meaning in paths".into());
        }
        if !seen.insert(alias.to_ascii_lowercase()) {
            return wrong(&path, "this alias is there twice (names compare without case)".into());
        }
        let (upstream, package) = target.split_once(':').unwrap_or((&names.default_upstream, target));
        if !config.upstreams.contains_key(upstream) {
            return wrong(&path, format!("no such upstream; {}", there_are()));
        }
        if let Err(why) = package.parse::<PackageName>() {
            return wrong(&path, why.to_string());
        }
    }

    let packages = &config.packages;
    let lists = [("allow", &packages.allow), ("deny", &packages.deny), ("private_allow", &packages.private_allow)];
    for (key, patterns) in lists {
        for pattern in patterns {
            let (upstream, rest) = pattern.split_once(':').unwrap_or((&names.default_upstream, pattern));
            let example = "for example [\"devsapp/*\", \"gitee:*/*\"]";
            if !config.upstreams.contains_key(upstream) {
                let reason = format!("\"{pattern}\": no such upstream; {}; {example}", there_are());
                return wrong(&["packages", key], reason);
            }
            if let Err(why) = rest.replace(['*', '?'], "x").parse::<PackageName>() {
                return wrong(&["packages", key], format!("\"{pattern}\" is not owner/repo: {why}; {example}"));
            }
        }
    }
    Ok(())
}

/// Checks `name`, `*.name` or `name:port`.
pub(super) fn check_host(text: &str) -> Result<(), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '[' | ']' | ':');
    let good = !name.is_empty() && name.chars().all(label) && !name.starts_with('.') && !name.contains("..");
    if !good || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("{} is not a host", dotted(&[text.to_owned()])));
    }
    Ok(())
}
