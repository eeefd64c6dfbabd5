//! The first page: the packages that are here, with a search, under the state of the mirror.

use std::{sync::Arc, time::Duration};

use askama::Template;
use http::{Response, StatusCode, request::Parts};
use percent_encoding::utf8_percent_encode;

use super::{
    frame::{Section, WebFrame},
    html,
};
use crate::{
    dialect::{DialectName, HOSTED, PackageSearch, UNRESERVED},
    http::body::Body,
    package::{FolderPackage, PackageKind},
    registry::catalog::{Catalog, CatalogEntry},
    service::{
        Service, caller, context::RequestContext, error::ApiError, found_package::FoundPackage, hosts::RequestHost,
    },
};

/// Packages of one page.
const PAGE_ROWS: usize = 50;
/// Most packages that are looked at for one page: some milliseconds.
const MAX_EXAMINED: usize = 20_000;
/// Most packages of one page whose stored documents are read for the access rules.
const MAX_CHECKED: usize = 500;
/// Longest wait for the packages to be collected again. Until then an older collection is shown.
const COLLECTION_PATIENCE: Duration = Duration::from_millis(200);
/// Most characters of a description.
const MAX_DESCRIPTION_CHARS: usize = 200;

#[derive(Template)]
#[template(path = "packages.html")]
struct PackagesPage<'a> {
    frame: WebFrame,
    search: &'a PackageSearch,
    rows: Vec<ListedLine>,
    /// The query of the page behind this one.
    next: Option<String>,
    /// The query of the first page; `None` on it.
    first: Option<String>,
    /// The query of the same search among all packages or, if it is that, among those that are here.
    other: String,
    /// False until the packages were collected for the first time since the start.
    is_collected: bool,
}

/// A package of the list.
struct ListedLine {
    name: String,
    /// What its page is addressed by, percent-encoded.
    path: String,
    upstream: String,
    kind: Option<String>,
    description: String,
    newest: Option<String>,
    /// The repository and the folder of it that it is.
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
    let catalog = catalog_at_hand(service).await?;
    let is_collected = catalog.is_some();
    let mut list = RowList::new(service, context, search);
    if search.after.is_none() {
        list.add_folders().await;
    }
    if let Some(catalog) = &catalog {
        list.add_packages(catalog).await;
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

/// The packages as far as they are known without waiting.
pub(super) async fn catalog_at_hand(service: &Service) -> Result<Option<Arc<Catalog>>, ApiError> {
    let names = &service.names;
    let named = names.aliases().map(|(_, package)| package.clone()).collect();
    let upstreams = names.upstreams_of_plain_names(DialectName::V3);
    Ok(service.registry.catalog().at_hand(named, upstreams, COLLECTION_PATIENCE).await?)
}

/// The rows of one page, while they are collected.
struct RowList<'a> {
    service: &'a Service,
    context: &'a RequestContext,
    search: &'a PackageSearch,
    rows: Vec<ListedLine>,
    /// The key behind which the next page begins.
    next: Option<String>,
    checked: usize,
}

impl<'a> RowList<'a> {
    fn new(service: &'a Service, context: &'a RequestContext, search: &'a PackageSearch) -> Self {
        Self { service, context, search, rows: Vec::new(), next: None, checked: 0 }
    }

    /// Adds the folders of repositories that are packages. The configuration names them all.
    async fn add_folders(&mut self) {
        let folders: Vec<Arc<FolderPackage>> = self.service.names.folders().cloned().collect();
        for folder in folders {
            let alias = folder.alias.to_string();
            if self.rows.len() < PAGE_ROWS
                && contains(&alias, &self.search.text)
                && self.may_list(FoundPackage::Folder(folder.clone())).await
            {
                self.rows.push(ListedLine {
                    path: encoded(&alias),
                    name: alias,
                    upstream: folder.repository.upstream.to_string(),
                    kind: None,
                    description: String::new(),
                    newest: None,
                    folder: Some(format!("{} of {}", folder.path, folder.repository.name)),
                });
            }
        }
    }

    /// Adds the packages of the catalog that the page has room for, and notes where the next page begins.
    async fn add_packages(&mut self, catalog: &Catalog) {
        let start = self.search.after.as_deref().map_or(0, |after| catalog.position_after(after));
        let packages = &catalog.packages[start..];
        let mut last: Option<&CatalogEntry> = None;
        for (examined, entry) in packages.iter().enumerate() {
            let is_full = self.rows.len() >= PAGE_ROWS || examined >= MAX_EXAMINED || self.checked >= MAX_CHECKED;
            if is_full {
                self.next = last.map(|last| last.package.key_prefix());
                return;
            }
            last = Some(entry);
            if self.is_wanted(entry) && self.may_list(FoundPackage::Package(entry.package.clone())).await {
                self.rows.push(row(entry));
            }
        }
    }

    fn is_wanted(&self, entry: &CatalogEntry) -> bool {
        let is_here = entry.is_known || *entry.package.upstream == *HOSTED;
        let text = &self.search.text;
        let has_text = || {
            contains(entry.package.name.base_name(), text)
                || entry.facts.description.as_deref().is_some_and(|description| contains(description, text))
                || contains(&entry.package.spec(), text)
        };
        (is_here || self.search.all) && (text.is_empty() || has_text())
    }

    /// True when the access rules let the caller see the package in a list.
    async fn may_list(&mut self, subject: FoundPackage) -> bool {
        let access = &self.service.access;
        let caller = &self.context.caller;
        if caller::may_list(access, caller, &subject, true) {
            return true;
        }
        if !caller::may_list(access, caller, &subject, false) {
            return false;
        }
        self.checked += 1;
        !self.service.registry.documents().may_be_private(subject.id()).await
    }
}

fn row(entry: &CatalogEntry) -> ListedLine {
    let facts = &entry.facts;
    let description = facts.description.as_deref().unwrap_or_default();
    ListedLine {
        name: entry.package.name.to_string(),
        path: encoded(&entry.package.spec()),
        upstream: entry.package.upstream.to_string(),
        kind: facts.kind.as_deref().map(kind_word),
        description: shortened(description, MAX_DESCRIPTION_CHARS),
        newest: entry.newest.clone(),
        folder: None,
    }
}

/// What a package calls its kind, in the mirror's word where it has one.
pub(super) fn kind_word(word: &str) -> String {
    match PackageKind::of(word) {
        Some(kind) => kind.registry_word().to_owned(),
        None => shortened(word, 40),
    }
}

/// A package as a part of a path.
pub(super) fn encoded(package: &str) -> String {
    utf8_percent_encode(package, UNRESERVED).to_string()
}

/// The first characters of a text.
pub(super) fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// True when `text` contains `wanted`. Letters of ASCII count without their case.
fn contains(text: &str, wanted: &str) -> bool {
    let wanted = wanted.as_bytes();
    wanted.is_empty() || text.as_bytes().windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
}
