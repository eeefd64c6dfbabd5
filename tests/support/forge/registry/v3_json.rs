//! The values in the bodies of the v3 registry.

use serde_json::{Value, json};

use super::{
    super::paths::{Path, encode},
    Fields, Package, Registry, RegistryOptions, Version,
    model::Packages,
};

fn zipball_url(registry: &Registry, options: &RegistryOptions, package: &Package, version: &Version) -> String {
    let base = options.zipball_base.as_deref().unwrap_or(registry.base());
    format!("{base}/packages/{}/zipball/{}", encode(&package.name), encode(&version.tag))
}

/// A release as `latest` and `tags/{v}` show it.
pub fn release_json(registry: &Registry, package: &Package, version: &Version, english: bool) -> Value {
    let options = registry.choices();
    let address = zipball_url(registry, &options, package, version);
    if options.fields == Fields::Certain {
        return json!({"tag_name": version.tag, "zipball_url": address});
    }
    let about = &package.about;
    let pick = |plain: &str, other: &Option<String>| {
        if english { other.clone().unwrap_or_else(|| plain.to_owned()) } else { plain.to_owned() }
    };
    let mut release = json!({
        "id": package.id, "name": package.name, "tag_name": version.tag, "zipball_url": address,
        "description": pick(&about.description, &about.description_en),
        "readme": pick(&about.readme, &about.readme_en),
        "home": about.home, "provider": about.providers, "tags": about.tags, "type": package.kind.word(),
        "category": about.category, "download": about.downloads, "syaml": about.syaml, "platform": 3,
        "version_body": version.spec.body,
    });
    if let Some(time) = options.times.write(version.created_at) {
        release["created_at"] = time.into();
    }
    let first = package.versions.iter().map(|version| version.created_at).min();
    if let Some(time) = first.and_then(|first| options.times.write(first)) {
        release["create"] = time.into();
    }
    release
}

/// A version as the release list shows it.
pub fn version_json(registry: &Registry, package: &Package, version: &Version) -> Value {
    let options = registry.choices();
    let address = zipball_url(registry, &options, package, version);
    let mut row = json!({"platform": 3, "tag_name": version.tag, "zipball_url": address});
    if let Some(time) = options.times.write(version.created_at) {
        row["created_at"] = time.into();
    }
    row
}

/// A package as the catalog shows it.
pub fn row_json(options: &RegistryOptions, packages: &Packages, package: &Package) -> Value {
    let about = &package.about;
    let numbered = |names: &[String], name: &str| names.iter().position(|one| one == name).map_or(0, |at| at + 1);
    let category =
        about.category.as_ref().map(|name| json!({"id": numbered(&packages.categories(), name), "name": name}));
    json!({
        "id": package.id, "type": package.kind.json(options.type_names), "name": package.name,
        "description": about.description, "show": 1,
        "organization": about.organisation.as_ref().map(|name| json!({"id": 1, "name": name})),
        "user": {"id": 1, "username": about.user}, "download": about.downloads, "provider": about.providers,
        "platform": 3, "category": category, "tags": about.tags,
    })
}

/// Names with their numbers, for the menus.
pub fn named(names: &[String]) -> Value {
    names.iter().zip(1..).map(|(name, id)| json!({"id": id, "name": name})).collect()
}

/// The filters of a request for the catalog. All must hold.
pub struct Filter {
    search: Option<String>,
    category: Option<String>,
    tag: Option<String>,
    provider: Option<String>,
    kind: Option<String>,
    platform: Option<String>,
}

impl Filter {
    pub fn of(path: &Path) -> Self {
        let value = |key: &str| path.query(key).filter(|value| !value.is_empty()).map(ToOwned::to_owned);
        Self {
            search: value("search"),
            category: value("category"),
            tag: value("tag"),
            provider: value("provider"),
            kind: value("type"),
            platform: value("platform"),
        }
    }

    fn fits(&self, packages: &Packages, package: &Package) -> bool {
        let holds = |wanted: &Option<String>, test: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(test);
        let about = &package.about;
        let numbered = |names: &[String], name: &str, id: &str| {
            name == id || names.iter().zip(1..).any(|(one, number): (_, u64)| one == name && number.to_string() == id)
        };
        let categories = packages.categories();
        let providers = packages.providers();
        holds(&self.search, &|text| package.name.contains(text) || about.description.contains(text))
            && holds(&self.tag, &|tag| about.tags.iter().any(|one| one == tag))
            && holds(&self.kind, &|kind| package.kind.number().to_string() == kind)
            && holds(&self.platform, &|platform| platform == "3")
            && holds(&self.category, &|id| {
                about.category.as_deref().is_some_and(|name| numbered(&categories, name, id))
            })
            && holds(&self.provider, &|id| about.providers.iter().any(|name| numbered(&providers, name, id)))
    }
}

/// The packages of the catalog that fit, in order of their creation, if they have a version.
pub fn catalog<'a>(packages: &'a Packages, filter: &Filter, signed: bool) -> Vec<&'a Package> {
    let listed = |package: &&Package| !package.versions.is_empty() && (signed || !package.private);
    packages.all.iter().filter(listed).filter(|package| filter.fits(packages, package)).collect()
}
