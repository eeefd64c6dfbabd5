//! `--with-required`: the packages that a package loads by name at run time.

use std::collections::BTreeSet;

use super::package_spec::RawName;
use crate::{
    config::{Config, RequiredPackages},
    upstream::UpstreamKind,
};

/// The table of required packages, and which upstreams have the packages of the 2.x CLI.
#[derive(Debug)]
pub(super) struct Requirements {
    table: RequiredPackages,
    /// The names of the upstreams of kind `simple`.
    upstreams_2x: BTreeSet<String>,
}

impl Requirements {
    /// The table and the upstreams of a configuration.
    pub(super) fn new(config: &Config) -> Self {
        let upstreams = config.upstreams.iter().filter(|(_, section)| section.kind == UpstreamKind::Simple);
        let upstreams_2x = upstreams.map(|(name, _)| name.clone()).collect();
        Self { table: config.required.clone(), upstreams_2x }
    }

    /// What a package needs that was found at `source`, written `upstream:name`. Without a source, only what its name says.
    ///
    /// A 2.x component finds the others where it comes from; all others are asked by the routes, as at run time.
    pub(super) fn of(&self, package: &RawName, source: Option<&str>) -> Vec<RawName> {
        let written = source.unwrap_or(package.as_str());
        let upstream = written.split_once(':').map(|(upstream, _)| upstream);
        let name = written.split_once(':').map_or(written, |(_, name)| name);
        let upstream_2x = upstream.filter(|upstream| self.upstreams_2x.contains(*upstream));
        let required = self.table.of(name, upstream_2x.is_some());
        let at_source = |required: &str| match upstream_2x {
            Some(upstream) if !required.contains([':', '/']) => RawName::of_checked(format!("{upstream}:{required}")),
            _ => RawName::of_checked(required),
        };
        required.into_iter().map(at_source).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(package: &str, source: Option<&str>) -> Vec<String> {
        let requirements = Requirements {
            table: RequiredPackages::default(),
            upstreams_2x: BTreeSet::from(["official-2x".to_owned()]),
        };
        let required = requirements.of(&RawName::of_checked(package), source);
        required.iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn a_2x_component_needs_the_core_from_its_own_source() {
        assert_eq!(of("oss", Some("official-2x:oss")), ["official-2x:core"]);
        assert_eq!(of("official-2x:domain", None), ["official-2x:fc-default", "official-2x:core"]);
        assert_eq!(of("oss", Some("official:oss")), Vec::<String>::new());
        assert!(of("core", Some("official-2x:core")).is_empty());
    }

    #[test]
    fn other_packages_are_needed_by_plain_name() {
        assert_eq!(of("agentrun", Some("official:agentrun")), ["fc3", "fc3-domain"]);
        assert_eq!(of("FC3", None), ["fc3-domain"]);
        assert_eq!(of("kit", Some("github:devsapp/fc3")), ["fc3-domain"], "an alias");
    }
}
