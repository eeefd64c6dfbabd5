//! The first page: the state of the mirror, and the packages that it has, with a search.

use std::{sync::Arc, time::Duration};

use askama::Template;
use http::{Response, StatusCode, request::Parts};
use percent_encoding::utf8_percent_encode;

use super::{
    frame::{Section, WebFrame},
    html,
};
use crate::{
    access::{Access, Caller},
    dialect::{DialectName, HOSTED, PATH_ENCODE_SET, PackageSearch},
    http::body::Body,
    package::{FolderPackage, PackageKind},
    registry::catalog::{Catalog, CatalogEntry, SearchWords},
    service::{
        Service,
        caller::{self, ListVisibility},
        context::RequestContext,
        error::ApiError,
        found_package::FoundPackage,
        hosts::RequestHost,
    },
};

/// Packages of one page.
const PAGE_ROWS: usize = 50;
/// Most packages that match the search and whose access rules are evaluated for one page: some 20 ms.
const MAX_EXAMINED_PACKAGES: usize = 20_000;
/// Most packages of one page whose stored documents are read for the access rules.
const MAX_CHECKED_PACKAGES: usize = 500;
/// Longest wait for a new collection of the packages; after it, an older one is shown.
const COLLECTION_PATIENCE: Duration = Duration::from_millis(200);
/// Most characters of a description.
const MAX_DESCRIPTION_CHARS: usize = 200;

#[derive(Template)]
#[template(path = "packages.html")]
struct PackagesPage<'a> {
    frame: WebFrame,
    search: &'a PackageSearch,
    rows: Vec<ListedLine>,
    /// The query of the next page.
    next: Option<String>,
    /// The query of the first page; `None` on it.
    first: Option<String>,
    /// The query of the same search with the other choice: among all packages, or among those that this mirror has.
    other: String,
    /// False until the packages were collected for the first time since the start.
    is_collected: bool,
}

/// A package of the list.
struct ListedLine {
    name: String,
    /// The package spec in the address of its page, percent-encoded.
    path: String,
    upstream: String,
    kind: Option<String>,
    description: String,
    newest: Option<String>,
    /// The folder and its repository, for a folder that is a package.
    folder: Option<String>,
}

/// Responds with the page.
///
/// # Errors
/// When the pins cannot be read.
pub(super) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &RequestContext,
    search: &PackageSearch,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    let catalog = list_without_fetching(service).await?;
    let is_collected = catalog.is_some();
    let mut list = RowList::new(service, context, search);
    list.add_folders().await;
    if let Some(catalog) = catalog.filter(|_| list.next.is_none()) {
        list.add_packages(catalog).await?;
    }
    let page = PackagesPage {
        frame: WebFrame::new(service, context, host, Section::Packages),
        search,
        next: list.next.map(|after| search.query(Some(&after))),
        rows: list.rows,
        first: search.after.is_some().then(|| search.query(None)),
        other: PackageSearch { all: !search.all, after: None, ..search.clone() }.query(None),
        is_collected,
    };
    Ok(html::respond(StatusCode::OK, &page, parts))
}

/// The catalog, from what is stored and in memory.
pub(super) async fn list_without_fetching(service: &Service) -> Result<Option<Arc<Catalog>>, ApiError> {
    let names = &service.names;
    let named = names.aliases().map(|(_, package)| package.clone()).collect();
    let upstreams = names.upstreams_of_plain_names(DialectName::V3);
    Ok(service.registry.catalog().list_without_fetching(named, upstreams, COLLECTION_PATIENCE).await?)
}

/// The rows of one page, while they are collected.
struct RowList<'a> {
    service: &'a Service,
    context: &'a RequestContext,
    search: &'a PackageSearch,
    words: SearchWords,
    rows: Vec<ListedLine>,
    /// The key of the last package that was looked at.
    last: Option<String>,
    /// The key after which the next page begins.
    next: Option<String>,
    /// Packages whose stored documents were read.
    checked: usize,
}

impl<'a> RowList<'a> {
    fn new(service: &'a Service, context: &'a RequestContext, search: &'a PackageSearch) -> Self {
        let words = SearchWords::new(&search.text);
        Self { service, context, search, words, rows: Vec::new(), last: None, next: None, checked: 0 }
    }

    /// True when the page has no room for the package with this key; records then where the next page begins.
    fn ends_before(&mut self, key: impl FnOnce() -> String) -> bool {
        let is_full = self.rows.len() >= PAGE_ROWS || self.checked >= MAX_CHECKED_PACKAGES;
        if is_full {
            self.next = self.last.take();
        } else {
            self.last = Some(key());
        }
        is_full
    }

    /// Adds the configured folders of repositories that are packages. They are listed before the packages.
    async fn add_folders(&mut self) {
        let after = self.search.after.as_deref().unwrap_or_default();
        let folders: Vec<(String, Arc<FolderPackage>)> = self.service.names.folders().map(folder_key).collect();
        for (key, folder) in folders.into_iter().filter(|(key, _)| **key > *after) {
            if self.ends_before(|| key) {
                return;
            }
            // Its pins and documents are read.
            self.checked += 1;
            let Some(facts) = self.service.registry.folders().catalog_facts(&folder).await else { continue };
            let alias = folder.alias.to_string();
            let is_wanted = self.words.are_in(&alias, facts.description.as_deref());
            if is_wanted && self.may_list(FoundPackage::Folder(folder.clone())).await {
                self.rows.push(ListedLine {
                    path: encoded(&alias),
                    name: alias,
                    upstream: folder.repository.upstream.to_string(),
                    kind: facts.kind.as_deref().map(kind_word),
                    description: shortened(facts.description.as_deref().unwrap_or_default(), MAX_DESCRIPTION_CHARS),
                    newest: None,
                    folder: Some(format!("{} of {}", folder.path, folder.repository.name)),
                });
            }
        }
    }

    /// Adds the packages of the catalog that the page has room for.
    async fn add_packages(&mut self, catalog: Arc<Catalog>) -> Result<(), ApiError> {
        let scan = PackageScan {
            start: self.search.after.as_deref().map_or(0, |after| catalog.position_after(after)),
            catalog: catalog.clone(),
            words: self.words.clone(),
            all: self.search.all,
            access: self.service.access.clone(),
            caller: self.context.caller.clone(),
        };
        let ScannedPackages { found, last } = self.service.scans.run(move || scan.run()).await?;
        for ScannedPackage { index, visibility } in found {
            let entry = &catalog.packages[index];
            if self.ends_before(|| entry.package.key_prefix()) {
                return Ok(());
            }
            if visibility == ListVisibility::Shown
                || self.is_public(&FoundPackage::Package(entry.package.clone())).await
            {
                self.rows.push(row(self.service, entry));
            }
        }
        self.next = last.map(|index| catalog.packages[index].package.key_prefix());
        Ok(())
    }

    /// True when the access rules let the caller see the package in a list.
    async fn may_list(&mut self, subject: FoundPackage) -> bool {
        match caller::list_visibility(&self.service.access, &self.context.caller, &subject) {
            ListVisibility::Shown => true,
            ListVisibility::ShownIfPublic => self.is_public(&subject).await,
            ListVisibility::Hidden => false,
        }
    }

    /// True when stored documents show that the package is public.
    async fn is_public(&mut self, subject: &FoundPackage) -> bool {
        self.checked += 1;
        !self.service.registry.documents().may_be_private(subject.id()).await
    }
}

/// Finds the packages of one page. Runs on a blocking thread: a catalog may have a million packages.
struct PackageScan {
    catalog: Arc<Catalog>,
    start: usize,
    words: SearchWords,
    /// True to find also the packages that are only in the lists of upstreams.
    all: bool,
    access: Arc<Access>,
    caller: Caller,
}

/// What a scan finds.
struct ScannedPackages {
    found: Vec<ScannedPackage>,
    /// The index of the last package that was examined, if the scan ended before the catalog did.
    last: Option<usize>,
}

/// A package that a scan has found.
struct ScannedPackage {
    /// The index in the catalog.
    index: usize,
    /// [`ListVisibility::Shown`] or [`ListVisibility::ShownIfPublic`].
    visibility: ListVisibility,
}

impl PackageScan {
    /// Finds one package more than a page has room for, if there are so many: then another page follows.
    fn run(self) -> ScannedPackages {
        let mut found = Vec::new();
        let mut shown = 0;
        for (examined, index) in self.catalog.texts.find(&self.words, self.start).enumerate() {
            let entry = &self.catalog.packages[index];
            if self.all || entry.is_known || *entry.package.upstream == *HOSTED {
                let subject = FoundPackage::Package(entry.package.clone());
                match caller::list_visibility(&self.access, &self.caller, &subject) {
                    ListVisibility::Hidden => {}
                    visibility => {
                        shown += usize::from(visibility == ListVisibility::Shown);
                        found.push(ScannedPackage { index, visibility });
                    }
                }
            }
            let has_enough = shown > PAGE_ROWS || found.len() > PAGE_ROWS + MAX_CHECKED_PACKAGES;
            if has_enough || examined + 1 >= MAX_EXAMINED_PACKAGES {
                return ScannedPackages { found, last: Some(index) };
            }
        }
        ScannedPackages { found, last: None }
    }
}

/// A folder with the key of its place in the list. It begins with a slash, as no key of a package does, and so comes first.
fn folder_key(folder: &Arc<FolderPackage>) -> (String, Arc<FolderPackage>) {
    (format!("/{}", folder.alias.folded()), folder.clone())
}

fn row(service: &Service, entry: &CatalogEntry) -> ListedLine {
    let facts = &entry.facts;
    let description = facts.description.as_deref().unwrap_or_default();
    let overview = service.registry.catalog().overview();
    ListedLine {
        name: entry.package.name.to_string(),
        path: encoded(&entry.package.spec()),
        upstream: entry.package.upstream.to_string(),
        kind: facts.kind.as_deref().map(kind_word),
        description: shortened(description, MAX_DESCRIPTION_CHARS),
        newest: entry.newest.clone().filter(|newest| !overview.is_refused_by_name(&entry.package, newest)),
        folder: None,
    }
}

/// The type of a package, in the registry's word where that is known.
pub(super) fn kind_word(word: &str) -> String {
    match PackageKind::of(word) {
        Some(kind) => kind.registry_word().to_owned(),
        None => shortened(word, 40),
    }
}

/// A package as a part of a path.
pub(super) fn encoded(package: &str) -> String {
    utf8_percent_encode(package, PATH_ENCODE_SET).to_string()
}

/// The first characters of a text.
pub(super) fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}
