//! Prints the effective configuration: TOML that loads again, with where each value was set.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::json;
use toml::{Table, Value};

use super::{
    Loaded, fleet, hosting, layers,
    masking::masked,
    route_table, schema,
    setting::{SettingSource, dotted},
    sharing,
};

/// Column at which the comments begin; longer values push their comment to the right.
const COMMENT_COLUMN: usize = 44;

impl Loaded {
    /// Every key with its effective value and a comment that says where it was set, then the effective routes as comments.
    /// Secrets are masked.
    pub fn show(&self) -> String {
        let tree = hosting::to_upstreams(Table::try_from(&self.config).unwrap_or_default());
        let mut sections: BTreeMap<Vec<String>, String> = BTreeMap::new();
        let effective = layers::of_tree(tree, &SettingSource::Default);
        for (path, setting) in effective.iter().filter(|(_, setting)| !setting.value.is_table()) {
            let line = self.line(path, &setting.value);
            sections.entry(path[..path.len() - 1].to_vec()).or_default().push_str(&line);
        }
        for path in self.optional_keys().filter(|path| !effective.contains_key(path)) {
            let name = dotted(&path[path.len() - 1..]);
            let section = path[..path.len() - 1].to_vec();
            let _ = writeln!(sections.entry(section).or_default(), "{:COMMENT_COLUMN$}# not set", format!("# {name}"));
        }
        let text = |(path, lines): (Vec<String>, String)| match path.as_slice() {
            [] => lines,
            path => format!("[{}]\n{lines}", dotted(path)),
        };
        let keys = sections.into_iter().map(text).collect::<Vec<_>>().join("\n");
        // The names were checked when the configuration was loaded.
        let routes = self.config.names().map(|names| route_table::commented(&self.config, &names));
        format!("{keys}\n{}", routes.unwrap_or_default())
    }

    /// The same keys as JSON: an array of key, value and source. A key that is not set has neither value nor source.
    pub fn show_json(&self) -> serde_json::Value {
        let tree = hosting::to_upstreams(Table::try_from(&self.config).unwrap_or_default());
        let effective = layers::of_tree(tree, &SettingSource::Default);
        let set = effective.iter().filter(|(_, setting)| !setting.value.is_table());
        let set = set.map(|(path, setting)| {
            let source = self.settings.get(path).map_or(&SettingSource::Default, |setting| &setting.source);
            (path.clone(), json!(masked(path, &setting.value)), json!(source.to_string()))
        });
        let unset = self.optional_keys().filter(|path| !effective.contains_key(path));
        let mut keys: Vec<_> = set.chain(unset.map(|path| (path, json!(null), json!(null)))).collect();
        keys.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let rows = keys
            .into_iter()
            .map(|(path, value, source)| json!({"key": dotted(&path), "value": value, "source": source}));
        rows.collect()
    }

    /// Settings that are valid but probably a mistake, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        [self.ignored_variables.clone(), super::check::warnings(&self.config)].concat()
    }

    /// Of these, the ones about variables that are ignored although they resemble those of a key.
    pub fn ignored_variables(&self) -> &[String] {
        &self.ignored_variables
    }

    fn line(&self, path: &[String], value: &Value) -> String {
        let key = dotted(&path[path.len() - 1..]);
        let source = self.settings.get(path).map_or(&SettingSource::Default, |setting| &setting.source);
        let token = self.token_note(path).unwrap_or_default();
        format!("{:COMMENT_COLUMN$}# {source}{token}\n", format!("{key} = {} ", masked(path, value)))
    }

    /// Whether a key that names a credential holds one; `None` for other keys.
    fn token_note(&self, path: &[String]) -> Option<String> {
        let [section, name, last] = path else { return None };
        if section != "upstreams" || !["token_env", "token_file", "credentials"].contains(&last.as_str()) {
            return None;
        }
        let upstream = self.config.upstreams.get(name)?;
        let held = self.credentials.get(name).map_or(0, Vec::len);
        Some(match last.as_str() {
            "credentials" => format!("; {held} of {} hold a secret", upstream.credentials.len()),
            "token_env" if upstream.token_file.is_some() => "; not used, token_file wins".into(),
            _ if held > 0 => "; holds a token".into(),
            _ => "; holds no token".into(),
        })
    }

    /// The keys without a default, for every configured upstream.
    fn optional_keys(&self) -> impl Iterator<Item = Vec<String>> {
        schema::optional_keys().flat_map(|path| match path.as_slice() {
            path if path.starts_with(&hosting::section()) => self.config.hosted.iter().map(|_| path.to_vec()).collect(),
            [first, ..] if first == fleet::FLEET => self.config.fleet.iter().map(|_| path.clone()).collect(),
            [first, ..] if first == sharing::SHARED => self.config.shared.iter().map(|_| path.clone()).collect(),
            [first, _, last] if first == "upstreams" => {
                let names = self.config.upstreams.keys();
                names.map(|name| vec![first.clone(), name.clone(), last.clone()]).collect()
            }
            _ => vec![path.clone()],
        })
    }
}
