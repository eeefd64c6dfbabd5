//! The paths and names that lead to a package.

use super::{hosting::HostedNames, names::Names, srm::is_route_word, v3};
use crate::package::{DialectName, NameForm, PackageId, PackageName, PackageRef};

impl Names {
    /// True if `/owner/repo/{route word}` always leads to this package in the srm dialect.
    pub(super) fn has_short_path(&self, package: &PackageId) -> bool {
        let Some(owner) = package.name.owner() else { return false };
        let shadowed =
            self.is_reserved(owner) || (is_route_word(package.name.base_name()) && self.alias(owner).is_some());
        !shadowed && self.leads_to(&package.name, DialectName::Srm, package)
    }

    /// True if a name without an upstream leads to this package and to no other.
    pub(super) fn leads_to(&self, name: &PackageName, dialect: DialectName, package: &PackageId) -> bool {
        match self.reference(name.clone()) {
            PackageRef::Id(id) => id == *package,
            PackageRef::Folder(_) => false,
            PackageRef::Routed(name) if HostedNames::of(self).has(package) => {
                HostedNames::of(self).id(&name, dialect).is_some_and(|id| id == *package)
            }
            PackageRef::Routed(name) => self.route(&name, dialect).candidates == std::slice::from_ref(package),
        }
    }

    /// The name of a package in the v3 dialect: an alias, a plain name, `owner__repo`, `{upstream}__name` or
    /// `{upstream}__owner__repo`.
    ///
    /// `None` if the owner contains `__` and no alias exists: then no name can be parsed back.
    pub fn v3_name(&self, package: &PackageId) -> Option<String> {
        v3::name(self, package)
    }

    /// The name in the v3 dialect that leads to this package whatever the routes say: `{upstream}__name` or
    /// `{upstream}__owner__repo`. `None` if it cannot be parsed back.
    pub fn v3_name_on_upstream(&self, package: &PackageId) -> Option<String> {
        v3::name_on_upstream(self, package)
    }

    /// The path of a package below `/repos/` in the github dialect: `owner/repo` or `upstream/owner/repo`; for a plain
    /// name an alias with an owner, or the owner that the registry drops. A plain name without either has no path that
    /// leads to it: `upstream/name`.
    pub fn api_path(&self, package: &PackageId) -> String {
        let leads = |name: &PackageName| self.leads_to(name, DialectName::Github, package);
        let name = match package.name.form() {
            NameForm::Repository => Some(package.name.clone()).filter(leads),
            NameForm::Plain => {
                let aliases = self.aliases().filter(|(_, aliased)| *aliased == package);
                let dropped = self.upstream(&package.upstream).and_then(|upstream| upstream.dropped_owner);
                let with_dropped = dropped.and_then(|owner| PackageName::new(owner, package.name.base_name()).ok());
                let aliases = aliases.filter_map(|(key, _)| PackageName::parse_as(NameForm::Repository, key).ok());
                aliases.chain(with_dropped).find(leads)
            }
        };
        name.map_or_else(|| format!("{}/{}", package.upstream, package.name), |name| name.to_string())
    }
}
