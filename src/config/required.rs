//! The `[required]` section: which packages a package loads by name at run time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What every 2.x component loads first.
const CORE: &str = "core";

/// Names of packages, each with the packages that it loads by name at run time. A release does not declare them, so the
/// table is configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequiredPackages(pub BTreeMap<String, Vec<String>>);

impl Default for RequiredPackages {
    fn default() -> Self {
        let row = |(name, required): (&str, &[&str])| {
            (name.to_owned(), required.iter().map(|&required| required.to_owned()).collect())
        };
        let rows: [(&str, &[&str]); 4] = [
            ("fc3", &["fc3-domain"]),
            ("agentrun", &["fc3", "fc3-domain"]),
            ("fc", &["core", "fc-core", "fc-deploy", "fc-plan", "fc-info", "domain", "fc-default"]),
            ("domain", &["fc-default"]),
        ];
        Self(rows.into_iter().map(row).collect())
    }
}

impl RequiredPackages {
    /// What a package loads, as the table writes it: by `owner/name` or a plain name, compared without case. A repository
    /// without a row of its own has that of its last part, because a component has one code under both names.
    ///
    /// `is_2x` adds the core of the 2.x CLI, without which no 2.x component runs.
    pub fn of(&self, name: &str, is_2x: bool) -> Vec<&str> {
        let row = |name: &str| self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let row = row(name).or_else(|| row(name.split_once('/')?.1));
        let mut required: Vec<&str> = row.into_iter().flat_map(|(_, required)| required).map(String::as_str).collect();
        if is_2x && !required.contains(&CORE) && !name.eq_ignore_ascii_case(CORE) {
            required.push(CORE);
        }
        required
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_requires_its_row_and_a_2x_component_the_core() {
        let table = RequiredPackages::default();
        assert_eq!(table.of("FC3", false), ["fc3-domain"]);
        assert_eq!(table.of("devsapp/fc3", false), ["fc3-domain"]);
        assert_eq!(table.of("domain", true), ["fc-default", "core"]);
        assert_eq!(table.of("oss", true), ["core"]);
        assert!(table.of("core", true).is_empty() && table.of("oss", false).is_empty());
        assert_eq!(table.of("fc", true).iter().filter(|name| **name == "core").count(), 1);
    }
}
