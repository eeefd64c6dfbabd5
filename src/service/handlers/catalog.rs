//! The v3 dialect's list of packages: the packages of the catalog under the names that 3.x clients use, filtered and
//! paged here, so that no search term leaves the mirror; and the lists of its menus.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
        catalog::{Catalog, CatalogAnswer, CatalogEntry, SearchTexts, SearchWords},
    },
    service::{
        Service,
        caller::{self, ListVisibility},
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
    rows: Arc<SearchRows>,
}

/// Rows, and the texts that a search finds them by, in the same order.
#[derive(Default)]
struct SearchRows {
    rows: Vec<SearchRow>,
    texts: SearchTexts,
}

struct SearchRow {
    /// The package of the row, for the access rules.
    subject: FoundPackage,
    may_be_private: bool,
    name: String,
    facts: Arc<CatalogPackage>,
}

/// A package or folder with what a list says of it.
struct ListedPackage {
    subject: FoundPackage,
    facts: Arc<CatalogPackage>,
}

impl SearchIndex {
    /// The rows of a catalog: the cached ones, or newly made ones.
    ///
    /// # Errors
    /// When the rows cannot be made.
    async fn rows(&self, service: &Service, catalog: &Arc<Catalog>) -> Result<Arc<SearchRows>, ApiError> {
        if let Some(indexed) = &*self.0.lock()
            && Arc::ptr_eq(&indexed.catalog, catalog)
        {
            return Ok(indexed.rows.clone());
        }
        let registry = service.registry.clone();
        let names = service.names.clone();
        let mut folders = Vec::new();
        for folder in names.folders() {
            if let Some(facts) = registry.folders().catalog_facts(folder).await {
                let row = ListedPackage { subject: FoundPackage::Folder(folder.clone()), facts: Arc::new(facts) };
                folders.push((folder.alias.to_string(), row));
            }
        }
        let listed = catalog.clone();
        let made = move || search_rows(&registry, &names, &listed.packages, folders);
        let mut rows = service.scans.run(made).await?;
        if service.access.is_enabled() {
            for row in &mut rows.rows {
                row.may_be_private = service.registry.documents().may_be_private(row.subject.id()).await;
            }
        }
        let rows = Arc::new(rows);
        *self.0.lock() = Some(IndexedCatalog { catalog: catalog.clone(), rows: rows.clone() });
        Ok(rows)
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
    let rows = service.search_index.rows(service, &catalog).await?;
    let access = service.access.clone();
    let caller = context.caller.clone();
    let may_list = move |row: &SearchRow| match caller::list_visibility(&access, &caller, &row.subject) {
        ListVisibility::Shown => true,
        ListVisibility::ShownIfPublic => !row.may_be_private,
        ListVisibility::Hidden => false,
    };
    let json = match request {
        ApiRequest::Catalog(query) => {
            let query = query.clone();
            let scan = move || render::packages(query.page.slice(&rows.find(&RowFilter::new(&query), may_list)));
            service.scans.run(scan).await?
        }
        ApiRequest::Menu(menu) => {
            let menu = *menu;
            let scan = move || render::menu(menu_entries(menu, rows.rows.iter().filter(|row| may_list(row))));
            service.scans.run(scan).await?
        }
        _ => return Err(ApiError::NotJson),
    };
    Ok(JsonAnswer::new(Dialect::V3, &json, age, status).into_response(Dialect::V3, parts, context))
}

/// Responds with the packages that are published here and that the caller may read or publish. On a mirror without published
/// packages, the list is empty: after an error the client would end.
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

    /// True when every filter that is set matches, the words of the search aside.
    fn matches(&self, facts: &CatalogPackage) -> bool {
        let is = |wanted: &str, text: &String| text.to_lowercase() == wanted;
        let kind = || facts.kind.as_deref().and_then(PackageKind::of);
        self.kind.is_none_or(|wanted| kind() == Some(wanted))
            && self.category.as_ref().is_none_or(|wanted| facts.category.iter().any(|text| is(wanted, text)))
            && self.tag.as_ref().is_none_or(|wanted| facts.tags.iter().any(|text| is(wanted, text)))
            && self.provider.as_ref().is_none_or(|wanted| facts.provider.iter().any(|text| is(wanted, text)))
    }
}

impl SearchRows {
    /// Finds the rows that match a filter and may be listed.
    fn find(&self, filter: &RowFilter, may_list: impl Fn(&SearchRow) -> bool) -> Vec<CatalogRow<'_>> {
        let rows = self.texts.find(&filter.search, 0).map(|index| &self.rows[index]);
        let found = rows.filter(|row| filter.matches(&row.facts) && may_list(row));
        found.map(|row| CatalogRow { name: &row.name, facts: &row.facts }).collect()
    }
}

/// The values of a menu that occur in these rows, each once, in order.
fn menu_entries<'a>(menu: CatalogMenu, rows: impl Iterator<Item = &'a SearchRow>) -> BTreeSet<&'a str> {
    let values = rows.flat_map(|row| match menu {
        CatalogMenu::Categories => row.facts.category.as_slice(),
        CatalogMenu::Providers => row.facts.provider.as_slice(),
    });
    values.map(String::as_str).collect()
}

/// A row for every alias, `folders` among them, and one for every package without an alias, ordered by name.
///
/// A package that is only in its upstream's list has a row if requests of its plain name lead to it. A name with `__`, which
/// cannot be a plain name in the v3 dialect, is written with its upstream.
fn search_rows(
    registry: &Registry,
    names: &Names,
    packages: &[CatalogEntry],
    folders: Vec<(String, ListedPackage)>,
) -> SearchRows {
    let owners = owners_of_plain_names(registry, names, packages);
    let mut aliases: HashMap<String, Vec<&str>> = HashMap::new();
    for (alias, package) in names.aliases().filter(|(alias, _)| !alias.contains('/')) {
        aliases.entry(package.key_prefix()).or_default().push(alias);
    }
    let mut rows: BTreeMap<String, ListedPackage> = BTreeMap::new();
    for entry in packages {
        let listed =
            || ListedPackage { subject: FoundPackage::Package(entry.package.clone()), facts: entry.facts.clone() };
        if let Some(aliases) = aliases.get(&entry.package.key_prefix()) {
            rows.extend(aliases.iter().map(|alias| ((*alias).to_owned(), listed())));
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
    // A folder's alias wins over a package of the same name.
    rows.extend(folders);
    let mut found = SearchRows::default();
    for (name, ListedPackage { subject, facts }) in rows {
        found.texts.push(&name, facts.description.as_deref());
        found.rows.push(SearchRow { subject, may_be_private: false, name, facts });
    }
    found
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
