//! The effective configuration for a person: TOML that can be loaded again, with where each value was set.

use std::{collections::BTreeMap, fmt::Write as _};

use toml::{Table, Value};

use super::{
    Loaded,
    error::{Source, dotted, shown},
    layers, schema,
};

/// Column at which the remarks begin, where the value leaves room.
const REMARKS: usize = 44;

impl Loaded {
    /// Every key with its effective value and, as a remark, where it was set. Secrets are masked.
    pub fn show(&self) -> String {
        let tree = Table::try_from(&self.config).unwrap_or_default();
        let mut sections: BTreeMap<Vec<String>, String> = BTreeMap::new();
        let effective = layers::of_tree(tree, &Source::Default);
        for (path, leaf) in effective.iter().filter(|(_, leaf)| !leaf.value.is_table()) {
            let line = self.line(path, &leaf.value);
            sections.entry(path[..path.len() - 1].to_vec()).or_default().push_str(&line);
        }
        for path in self.unset().filter(|path| !effective.contains_key(path)) {
            let name = dotted(&path[path.len() - 1..]);
            let section = path[..path.len() - 1].to_vec();
            let _ = writeln!(sections.entry(section).or_default(), "{:REMARKS$}# not set", format!("# {name}"));
        }
        let text = |(path, lines): (Vec<String>, String)| match path.as_slice() {
            [] => lines,
            path => format!("[{}]\n{lines}", dotted(path)),
        };
        sections.into_iter().map(text).collect::<Vec<_>>().join("\n")
    }

    /// What is allowed but probably not meant, one sentence each.
    pub fn doubts(&self) -> Vec<String> {
        super::check::doubts(&self.config)
    }

    fn line(&self, path: &[String], value: &Value) -> String {
        let key = dotted(&path[path.len() - 1..]);
        let source = self.leaves.get(path).map_or(&Source::Default, |leaf| &leaf.source);
        let token = match (path, value.as_str()) {
            ([section, name, last], Some(_)) if section == "upstreams" && last.starts_with("token_") => {
                let used =
                    self.config.upstreams.get(name).is_some_and(|u| last == "token_file" || u.token_file.is_none());
                match self.tokens.get(name) {
                    Some(Some(_)) if used => "; holds a token",
                    _ if used => "; holds no token",
                    _ => "; not used, token_file wins",
                }
            }
            _ => "",
        };
        format!("{:REMARKS$}# {source}{token}\n", format!("{key} = {} ", shown(path, value)))
    }

    /// The keys that may be left out and have no default, of every upstream there is.
    fn unset(&self) -> impl Iterator<Item = Vec<String>> {
        schema::optional_keys().flat_map(|path| match path.as_slice() {
            [first, _, last] if first == "upstreams" => {
                let names = self.config.upstreams.keys();
                names.map(|name| vec![first.clone(), name.clone(), last.clone()]).collect()
            }
            _ => vec![path.clone()],
        })
    }
}
