//! Renders the catalog of the v3 dialect and its menus.

use serde::Serialize;

use super::{PLATFORM, to_json};
use crate::package::{CatalogPackage, PackageKind};

/// A package of the catalog.
#[derive(Clone, Debug)]
pub struct CatalogRow<'a> {
    /// The name that 3.x clients use.
    pub name: &'a str,
    /// What is known of it. Its `name` is not shown.
    pub facts: &'a CatalogPackage,
}

/// A row without unknown fields, as the registry writes it.
#[derive(Serialize)]
struct PackageRow<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    provider: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<Named<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<Named<'a>>,
    platform: u8,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct User<'a> {
    username: &'a str,
}

/// An entry of a menu. The catalog is filtered by the name, so that is its id, too.
#[derive(Serialize)]
struct MenuEntry<'a> {
    id: &'a str,
    name: &'a str,
}

impl<'a> PackageRow<'a> {
    fn new(row: &CatalogRow<'a>) -> Self {
        let CatalogPackage { name: _, kind, description, category, tags, provider, download, user, organization } =
            row.facts;
        Self {
            kind: kind.as_deref().map(|word| PackageKind::of(word).map_or(word, |kind| kind.registry_word())),
            name: row.name,
            description: description.as_deref(),
            provider,
            category: category.as_deref().map(|name| Named { name }),
            tags,
            download: *download,
            user: user.as_deref().map(|username| User { username }),
            organization: organization.as_deref().map(|name| Named { name }),
            platform: PLATFORM,
        }
    }
}

/// A JSON array of packages, in the given order.
pub fn packages(rows: &[CatalogRow<'_>]) -> String {
    to_json(&rows.iter().map(PackageRow::new).collect::<Vec<_>>())
}

/// A JSON array of menu entries, `{id, name}`, in the given order.
pub fn menu<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    to_json(&names.into_iter().map(|name| MenuEntry { id: name, name }).collect::<Vec<_>>())
}
