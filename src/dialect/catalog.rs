//! Queries of the catalog of the v3 dialect: filters, a page, and the lists of its menus.

use url::form_urlencoded;

use super::{Reason, page::RowPage};
use crate::package::PackageKind;

/// A request for the catalog. Every filter that is set must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogQuery {
    /// A text that the name or the description must contain.
    pub search: Option<String>,
    /// The category.
    pub category: Option<String>,
    /// One of the tags.
    pub tag: Option<String>,
    /// One of the cloud providers.
    pub provider: Option<String>,
    /// The type.
    pub kind: Option<PackageKind>,
    /// The requested rows.
    pub page: RowPage,
}

/// A list of the values that a filter of the catalog takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogMenu {
    /// The categories.
    Categories,
    /// The cloud providers.
    Providers,
}

impl CatalogQuery {
    /// Parses a query. The last of several parameters of a name wins, and an empty one counts as absent. Parameters that
    /// have no meaning here are ignored: `platform`, `lang`, `sort`.
    pub(super) fn parse(query: &str) -> Result<Self, Reason> {
        let last = |name: &str| {
            let values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            values.last().map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
        };
        let kind = match last("type") {
            None => None,
            Some(text) => match PackageKind::of(&text) {
                None => return Err(Reason::BadRequest("type must be 1, 2 or 3: Component, Plugin or Project".into())),
                kind => kind,
            },
        };
        Ok(Self {
            search: last("search"),
            category: last("category"),
            tag: last("tag"),
            provider: last("provider"),
            kind,
            page: RowPage::parse(query)?,
        })
    }
}
