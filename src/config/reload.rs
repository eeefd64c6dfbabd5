//! What differs between two configurations, and which of it a running mirror can take.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{
    Config, hosting, layers,
    masking::masked,
    setting::{SettingSource, dotted},
};
use crate::{observe, server};

/// A key whose value differs between two configurations. Secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedSetting {
    /// The key.
    pub key: String,
    /// Its value before, as TOML; `None` without one.
    pub from: Option<String>,
    /// Its value afterwards, as TOML; `None` without one.
    pub to: Option<String>,
}

impl Config {
    /// The keys whose values differ from those of `self`, in order.
    pub fn changes_to(&self, next: &Self) -> Vec<ChangedSetting> {
        let before = values_of(self);
        let after = values_of(next);
        let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
        let changed = keys.filter(|key| before.get(*key) != after.get(*key));
        let text = |key: &[String], value: Option<&Value>| value.map(|value| masked(key, value).to_string());
        let mut changes: Vec<_> = changed
            .map(|key| ChangedSetting {
                key: dotted(key),
                from: text(key, before.get(key)),
                to: text(key, after.get(key)),
            })
            .collect();
        changes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        changes
    }

    /// The configuration that a mirror which runs with `self` has after it took what it can from `next`: what sizes the
    /// cache and what opens addresses and files stays until a restart.
    pub fn with_reloadable(&self, next: &Self) -> Self {
        let next = next.clone();
        Self {
            mode: self.mode,
            server: server::Config {
                public_url: next.server.public_url,
                known_hosts: next.server.known_hosts,
                client_header: next.server.client_header,
                ..self.server.clone()
            },
            hosted: self.hosted.clone(),
            shared: self.shared.clone(),
            fleet: self.fleet.clone(),
            host: next.host,
            memory: self.memory.clone(),
            disk: self.disk.clone(),
            documents: self.documents.clone(),
            archives: self.archives.clone(),
            log: observe::Config { level: next.log.level, ..self.log.clone() },
            audit: self.audit.clone(),
            names: next.names,
            routes: next.routes,
            clients: next.clients,
            access: next.access,
            packages: next.packages,
            required: next.required,
            upstreams: next.upstreams,
        }
    }
}

/// The values by their keys.
fn values_of(config: &Config) -> BTreeMap<Vec<String>, Value> {
    // With the keys of the file.
    let tree = hosting::to_upstreams(Table::try_from(config).unwrap_or_default());
    let settings = layers::of_tree(tree, &SettingSource::Default);
    // A section without keys is no setting.
    let keys = settings.into_iter().filter(|(_, setting)| !setting.value.is_table());
    keys.map(|(key, setting)| (key, setting.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hosted, value::Period};

    #[test]
    fn what_sizes_the_cache_and_opens_addresses_stays_until_a_restart() {
        let running = Config::default();
        let mut next = running.clone();
        next.disk.limit.0 *= 2;
        next.server.listen.clear();
        next.server.drain = Period::secs(1);
        next.hosted = Some(hosted::Config::default());
        next.server.known_hosts = vec!["mirror.example".into()];
        next.packages.deny = vec!["acme/*".parse().expect("a pattern")];
        next.log.level = "debug".into();
        let taken = running.with_reloadable(&next);
        let keys = |changes: Vec<ChangedSetting>| changes.into_iter().map(|change| change.key).collect::<Vec<_>>();
        assert_eq!(keys(running.changes_to(&taken)), ["log.level", "packages.deny", "server.known_hosts"]);
        assert_eq!(
            keys(taken.changes_to(&next)),
            [
                "disk.limit",
                "server.drain",
                "server.listen",
                "upstreams.hosted.kind",
                "upstreams.hosted.min_free",
                "upstreams.hosted.quota"
            ]
        );
    }

    #[test]
    fn a_change_shows_both_values_and_no_password() {
        let running = Config::default();
        let mut next = running.clone();
        let github = next.upstreams.get_mut("github").expect("an upstream");
        github.api = "https://forge.example/api".parse().expect("an address");
        github.proxy = Some("http://me:hush@proxy.example:3128".into());
        next.names.default_owner = Some("acme".into());
        let changes = running.changes_to(&next);
        assert!(!format!("{changes:?}").contains("hush"), "{changes:?}");
        let owner = ChangedSetting { key: "names.default_owner".into(), from: None, to: Some("\"acme\"".into()) };
        assert!(changes.contains(&owner), "{changes:?}");
        let api = changes.iter().find(|change| change.key == "upstreams.github.api").expect("changed");
        assert_eq!(api.from.as_deref(), Some("\"https://api.github.com\""));
        assert_eq!(running.changes_to(&running), []);
    }
}
