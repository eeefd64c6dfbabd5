//! The v3 dialect's list of packages: the packages of the catalog under the names that 3.x clients use, filtered and
//! paged here, so that no search term leaves the mirror; and the lists of its menus.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::{Response, header, request::Parts};
use parking_lot::Mutex;

use super::json::JsonAnswer;
use crate::{
    access::{Grant, Right},
    dialect::{ApiRequest, CatalogMenu, CatalogQuery, Dialect, DialectName, HostedNames, Names, PackageId, RowPage},
    http::{body::Body, cache_status::CacheStatus},
    package::{CatalogPackage, NameForm, PackageKind, PackageName},
    registry::{
        Registry,
        catalog::{Catalog, CatalogAnswer, CatalogEntry, SearchText, SearchWords},
    },
    service::{
        Service, caller,
        context::RequestContext,
        error::ApiError,
        found_package::FoundPackage,
        headers::NO_STORE,
        render::{self, CatalogRow},
        sources,
    },
};

/// The rows of the latest catalog, computed once per catalog.
#[derive(Default)]
pub(in crate::service) struct SearchIndex(Mutex<Option<IndexedCatalog>>);

struct IndexedCatalog {
    catalog: Arc<Catalog>,
    rows: Arc<Vec<SearchRow>>,
}

struct SearchRow {
    /// Whose row it is, for the rules.
    subject: FoundPackage,
    may_be_private: bool,
    name: String,
    facts: Arc<CatalogPackage>,
    text: SearchText,
}

/// A package or folder with what a list says of it.
struct ListedPackage {
    subject: FoundPackage,
    facts: Arc<CatalogPackage>,
}

impl SearchIndex {
    async fn rows(&self, registry: &Registry, names: &Names, catalog: &Arc<Catalog>) -> Arc<Vec<SearchRow>> {
        if let Some(indexed) = &*self.0.lock()
            && Arc::ptr_eq(&indexed.catalog, catalog)
        {
            return indexed.rows.clone();
        }
        let mut folders = Vec::new();
        for folder in names.folders() {
            if let Some(facts) = registry.folders().catalog_facts(folder).await {
                let row = ListedPackage { subject: FoundPackage::Folder(folder.clone()), facts: Arc::new(facts) };
                folders.push((folder.alias.to_string(), row));
            }
        }
        let mut rows = search_rows(registry, names, &catalog.packages, folders);
        for row in &mut rows {
            row.may_be_private = registry.documents().may_be_private(row.subject.id()).await;
        }
        let rows = Arc::new(rows);
        *self.0.lock() = Some(IndexedCatalog { catalog: catalog.clone(), rows: rows.clone() });
        rows
    }
}

/// Responds to a request that names no package: the catalog, one of its menus, or the client's own packages.
///
/// # Errors
/// When the catalog cannot be read.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    request: &ApiRequest,
) -> Result<Response<Body>, ApiError> {
    let names = &service.names;
    let registry = &service.registry;
    if let ApiRequest::OwnPackages(page) = request {
        return Ok(own_packages(service, parts, context, *page).await);
    }
    let upstreams = names.upstreams_of_plain_names(DialectName::V3);
    let named = names.aliases().map(|(_, package)| package.clone());
    let CatalogAnswer { catalog, age, status } = registry.catalog().list(named, &upstreams).await?;
    let rows = service.search_index.rows(registry, names, &catalog).await;
    let caller = &context.caller;
    let may_list = |row: &SearchRow| caller::may_list(&service.access, caller, &row.subject, row.may_be_private);
    let json = match request {
        ApiRequest::Catalog(query) => {
            let filter = RowFilter::new(query);
            let found = rows.iter().filter(|row| filter.matches(row) && may_list(row));
            let found: Vec<CatalogRow<'_>> =
                found.map(|row| CatalogRow { name: &row.name, facts: &row.facts }).collect();
            render::packages(query.page.slice(&found))
        }
        ApiRequest::Menu(menu) => render::menu(menu_entries(*menu, rows.iter().filter(|row| may_list(row)))),
        _ => return Err(ApiError::NotJson),
    };
    Ok(JsonAnswer::new(Dialect::V3, &json, age, status).into_response(Dialect::V3, parts, context))
}

/// The packages that are published here and that the caller may read or publish. Without a place for published packages the
/// list is empty, and no error, which the client would end with.
async fn own_packages(service: &Service, parts: &Parts, context: &mut RequestContext, page: RowPage) -> Response<Body> {
    let published = match service.registry.hosted() {
        Some(hosted) => hosted.catalog().await,
        None => Vec::new(),
    };
    let is_shown = |row: &CatalogRow<'_>| {
        let id = PackageName::plain(row.name)
            .ok()
            .and_then(|name| HostedNames::of(&service.names).id(&name, DialectName::V3));
        id.is_some_and(|id| {
            let may = |right| service.access.grant(&context.caller, &id, right) != Grant::Refused;
            may(Right::Read) || may(Right::Publish)
        })
    };
    let rows = published.iter().map(|facts| CatalogRow { name: &facts.name, facts });
    let rows: Vec<CatalogRow<'_>> = rows.filter(is_shown).collect();
    let json = render::packages(page.slice(&rows));
    let answer = JsonAnswer::new(Dialect::V3, &json, Duration::ZERO, CacheStatus::generated());
    let mut response = answer.into_response(Dialect::V3, parts, context);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The filters of a query, in lower case.
struct RowFilter {
    search: SearchWords,
    category: Option<String>,
    tag: Option<String>,
    provider: Option<String>,
    kind: Option<PackageKind>,
}

impl RowFilter {
    fn new(query: &CatalogQuery) -> Self {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        Self {
            search: SearchWords::new(query.search.as_deref().unwrap_or_default()),
            category: lower(&query.category),
            tag: lower(&query.tag),
            provider: lower(&query.provider),
            kind: query.kind,
        }
    }

    /// True when every filter that is set matches.
    fn matches(&self, row: &SearchRow) -> bool {
        let facts = &row.facts;
        let is = |wanted: &str, text: &String| text.to_lowercase() == wanted;
        let kind = || facts.kind.as_deref().and_then(PackageKind::of);
        self.search.are_in(&row.text)
            && self.kind.is_none_or(|wanted| kind() == Some(wanted))
            && self.category.as_ref().is_none_or(|wanted| facts.category.iter().any(|text| is(wanted, text)))
            && self.tag.as_ref().is_none_or(|wanted| facts.tags.iter().any(|text| is(wanted, text)))
            && self.provider.as_ref().is_none_or(|wanted| facts.provider.iter().any(|text| is(wanted, text)))
    }
}

/// The values that occur, each once, in order.
fn menu_entries<'a>(menu: CatalogMenu, rows: impl Iterator<Item = &'a SearchRow>) -> BTreeSet<&'a str> {
    let values = rows.flat_map(|row| match menu {
        CatalogMenu::Categories => row.facts.category.as_slice(),
        CatalogMenu::Providers => row.facts.provider.as_slice(),
    });
    values.map(String::as_str).collect()
}

/// A row for every alias, `folders` among them, and one for every package without an alias, ordered by name.
///
/// A package that only its upstream lists has a row if its plain name leads to it, or would, if it could be written.
fn search_rows(
    registry: &Registry,
    names: &Names,
    packages: &[CatalogEntry],
    folders: Vec<(String, ListedPackage)>,
) -> Vec<SearchRow> {
    let owners = owners_of_plain_names(registry, names, packages);
    let mut rows: BTreeMap<String, ListedPackage> = BTreeMap::new();
    for entry in packages {
        let listed =
            || ListedPackage { subject: FoundPackage::Package(entry.package.clone()), facts: entry.facts.clone() };
        let aliases = names.aliases().filter(|(alias, package)| !alias.contains('/') && **package == entry.package);
        let count = rows.len();
        rows.extend(aliases.map(|(alias, _)| (alias.to_owned(), listed())));
        if rows.len() > count {
            continue;
        }
        let plain = entry.package.name.base_name();
        let name = match entry.package.name.form() {
            NameForm::Repository => names.v3_name(&entry.package),
            NameForm::Plain if owners.get(plain) == Some(&&entry.package) && !plain.contains("__") => {
                Some(plain.to_owned())
            }
            NameForm::Plain if entry.is_known || owners.get(plain) == Some(&&entry.package) => {
                names.v3_name_on_upstream(&entry.package)
            }
            NameForm::Plain => None,
        };
        if let Some(name) = name {
            rows.insert(name, listed());
        }
    }
    // An alias takes its name from every package of that name.
    rows.extend(folders);
    let row = |(name, ListedPackage { subject, facts }): (String, ListedPackage)| {
        let text = SearchText::new(&name, facts.description.as_deref());
        SearchRow { subject, may_be_private: false, name, facts, text }
    };
    rows.into_iter().map(row).collect()
}

/// For each plain name the package among these that the routes lead to.
fn owners_of_plain_names<'a>(
    registry: &Registry,
    names: &Names,
    packages: &'a [CatalogEntry],
) -> BTreeMap<&'a str, &'a PackageId> {
    let mut by_name: BTreeMap<&str, Vec<&PackageId>> = BTreeMap::new();
    for package in packages.iter().map(|entry| &entry.package) {
        if package.name.form() == NameForm::Plain {
            by_name.entry(package.name.base_name()).or_default().push(package);
        }
    }
    let owner = |(name, packages): (&'a str, Vec<&'a PackageId>)| {
        let owner = sources::listed_source(registry, names, &packages.first()?.name, DialectName::V3, |id| {
            packages.contains(&id)
        });
        let owner = owner.and_then(|owner| packages.into_iter().find(|package| **package == owner));
        Some((name, owner?))
    };
    by_name.into_iter().filter_map(owner).collect()
}
