//! The pages of one package and of one of its versions.

use std::sync::Arc;

use askama::Template;
use http::{Response, StatusCode, request::Parts};

use super::{
    error_page::absent,
    frame::{Section, WebFrame},
    html,
    packages::{encoded, kind_word, list_without_fetching, shortened},
    shown_version::ShownVersion,
};
use crate::{
    admin_api::RefKind,
    dialect::{DialectName, ExampleTarget, folder_zipball_url, shell_word, unresolved_zipball_url, zipball_url},
    http::body::Body,
    origin::{FetchError, Missing},
    package::{PackageRef, Version},
    registry::{
        CacheFailure, RegistryError,
        catalog::{
            Catalog,
            overview::{KnownVersion, KnownVersions, OverviewSubject, ReleaseNotes},
        },
    },
    service::{
        Service, caller, context::RequestContext, error::ApiError, found_package::FoundPackage, hosts::RequestHost,
        sources, web::text::counted,
    },
    value::text::Moment,
};

/// Versions of one page.
const PAGE_VERSIONS: usize = 50;
/// Most characters of a package's description.
const MAX_LEAD_CHARS: usize = 1_000;

#[derive(Template)]
#[template(path = "package.html")]
struct PackagePage {
    frame: WebFrame,
    package: ShownPackage,
    total: String,
    is_truncated: bool,
    versions: Vec<ShownVersion>,
    newer: Option<u32>,
    older: Option<u32>,
}

#[derive(Template)]
#[template(path = "version.html")]
struct VersionPage {
    frame: WebFrame,
    package: ShownPackage,
    version: ShownVersion,
    first_seen: Option<Moment>,
    notes: Option<ReleaseNotes>,
    /// The address of the zip.
    zip_url: String,
    /// The text by which 3.x clients name this version, as a word of a shell.
    component: Option<String>,
    /// The version in a package spec, for the page that sets clients up.
    set_up: String,
}

/// The head of a package's pages, above its versions.
struct ShownPackage {
    name: String,
    /// The package spec in the address of its page.
    spec: String,
    /// `spec` as a part of a path.
    path: String,
    upstream: String,
    kind: Option<String>,
    description: String,
    tags: Vec<String>,
    /// The folder that the asked name is, and the repository that has it.
    folder: Option<String>,
}

/// Responds with the page of a package.
///
/// # Errors
/// When the caller may not read it, or what is stored cannot be read.
pub(super) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    page: u32,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    let Found::Package { found, known, catalog } = find(service, parts, context, package).await? else {
        return Ok(absent(service, parts, context, host, &nothing_of(package)));
    };
    let total = known.versions.len();
    let last = u32::try_from(total.div_ceil(PAGE_VERSIONS)).unwrap_or(u32::MAX).max(1);
    let page = page.min(last);
    let skipped = (page as usize - 1) * PAGE_VERSIONS;
    let rows = known.versions.into_iter().skip(skipped).take(PAGE_VERSIONS).collect();
    let subject = subject(&found);
    let details = service.registry.catalog().overview().details(subject, rows).await?;
    let shown = ShownPackage::new(service, &found, catalog.as_deref()).await;
    let rows = details.iter().map(|details| ShownVersion::new(subject, details, &shown.path, context.received_at));
    let page = PackagePage {
        frame: WebFrame::new(service, context, host, Section::Packages),
        total: counted(total as u64, "version", "versions"),
        is_truncated: known.is_truncated,
        versions: rows.collect(),
        newer: (page > 1).then(|| page - 1),
        older: (page < last).then(|| page + 1),
        package: shown,
    };
    Ok(html::respond(StatusCode::OK, &page, parts))
}

/// Responds with the page of a version.
///
/// # Errors
/// As [`respond`].
pub(super) async fn respond_version(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    version: &str,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    let Found::Package { found, known, catalog } = find(service, parts, context, package).await? else {
        return Ok(absent(service, parts, context, host, &nothing_of(package)));
    };
    let Some(known) = known.versions.into_iter().find(|known| known.version == version) else {
        let version = shortened(version, 100);
        let message = format!("This mirror knows no version {version} of {}.", package.name());
        return Ok(absent(service, parts, context, host, &message));
    };
    let overview = service.registry.catalog().overview();
    let first_seen = overview.first_seen(found.id(), &known).await?;
    let notes = overview.notes(found.id(), &known).await;
    let subject = subject(&found);
    let details = overview.details(subject, vec![known]).await?;
    let shown = ShownPackage::new(service, &found, catalog.as_deref()).await;
    let Some(details) = details.first() else {
        return Ok(absent(service, parts, context, host, &nothing_of(package)));
    };
    let page = VersionPage {
        frame: WebFrame::new(service, context, host, Section::Packages),
        version: ShownVersion::new(subject, details, &shown.path, context.received_at),
        first_seen: first_seen.map(|at| Moment::new(at, context.received_at)),
        notes,
        zip_url: zip_url(service, &found, &details.known, host),
        component: component(service, &found, &details.known),
        set_up: set_up(service, &shown.spec, &details.known, host),
        package: shown,
    };
    Ok(html::respond(StatusCode::OK, &page, parts))
}

/// Whether a page can show a package.
enum Found {
    /// The package, its versions, and the catalog as it is in memory.
    Package { found: FoundPackage, known: KnownVersions, catalog: Option<Arc<Catalog>> },
    /// Nothing is known of it, or the caller may not see it: the page does not say which.
    Nothing,
}

fn subject(found: &FoundPackage) -> OverviewSubject<'_> {
    match found.folder() {
        Some(folder) => OverviewSubject::Folder(folder),
        None => OverviewSubject::Package(found.id()),
    }
}

/// Finds a package and its versions in what is stored.
async fn find(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
) -> Result<Found, ApiError> {
    let found = match package {
        PackageRef::Folder(folder) => FoundPackage::Folder(folder.clone()),
        package => {
            let asked = sources::asked_packages(&service.registry, &service.names, package, DialectName::Srm);
            let Some(first) = asked.into_iter().next() else { return Ok(Found::Nothing) };
            FoundPackage::Package(first)
        }
    };
    let overview = service.registry.catalog().overview();
    match overview.ensure_shown(found.id()).await {
        Ok(()) => {}
        Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Package), .. })) => {
            return Ok(Found::Nothing);
        }
        Err(error) => return Err(error.into()),
    }
    context.audience = service.registry.documents().audience(found.id()).await;
    match caller::check_found(service, &found, parts, context).await {
        Err(ApiError::Registry(RegistryError::Fetch(CacheFailure {
            error: FetchError::NotFound(Missing::Package),
            ..
        }))) => return Ok(Found::Nothing),
        checked => checked?,
    }
    let known = overview.versions(subject(&found)).await?;
    let catalog = list_without_fetching(service).await?;
    // A folder is known by the configuration.
    let is_listed = || catalog.as_ref().is_some_and(|catalog| catalog.find(found.id()).is_some());
    if known.versions.is_empty() && found.folder().is_none() && !is_listed() {
        return Ok(Found::Nothing);
    }
    Ok(Found::Package { found, known, catalog })
}

/// The address of the zip.
fn zip_url(service: &Service, found: &FoundPackage, known: &KnownVersion, host: &RequestHost<'_>) -> String {
    let version = &known.version;
    match (found.folder(), known.kind) {
        (Some(folder), _) => folder_zipball_url(&host.base(), folder, version, DialectName::Srm),
        (None, RefKind::Commit) => {
            let commit = Version::Commit(version.clone());
            unresolved_zipball_url(&host.base(), &service.names, &found.id().clone().into(), &commit)
        }
        (None, RefKind::Tag | RefKind::Moving) => {
            zipball_url(&host.base(), &service.names, found.id(), version, DialectName::Srm)
        }
    }
}

/// The text by which 3.x clients name a version; `None` for a commit, which has no release.
fn component(service: &Service, found: &FoundPackage, known: &KnownVersion) -> Option<String> {
    let name = match found.folder() {
        Some(folder) => folder.alias.to_string(),
        None if known.kind == RefKind::Commit => return None,
        None => service.names.v3_name(found.id())?,
    };
    Some(shell_word(&format!("{name}@{}", known.version)).into_owned())
}

/// The package spec for the link to the set-up page, percent-encoded: with the version if that page accepts it.
fn set_up(service: &Service, spec: &str, known: &KnownVersion, host: &RequestHost<'_>) -> String {
    let named = format!("{spec}@{}", known.version);
    let can_be_copied = ExampleTarget::parse(host.base(), service.names.clone(), &named).is_ok();
    encoded(if can_be_copied && known.kind != RefKind::Commit { &named } else { spec })
}

fn nothing_of(package: &PackageRef) -> String {
    format!(
        "This mirror has nothing of {} that you may see. Where a client may have it, its first request fetches it.",
        package.name()
    )
}

impl ShownPackage {
    async fn new(service: &Service, found: &FoundPackage, catalog: Option<&Catalog>) -> Self {
        let id = found.id();
        let facts = match found.folder() {
            Some(folder) => service.registry.folders().catalog_facts(folder).await.map(Arc::new),
            None => catalog.and_then(|catalog| catalog.find(id)).map(|entry| entry.facts.clone()),
        };
        let facts = facts.unwrap_or_default();
        let (name, spec, folder) = match found.folder() {
            Some(folder) => {
                let alias = folder.alias.to_string();
                (alias.clone(), alias, Some(format!("{} of {}", folder.path, id.name)))
            }
            None => (id.name.to_string(), id.spec(), None),
        };
        Self {
            path: encoded(&spec),
            name,
            spec,
            upstream: id.upstream.to_string(),
            kind: facts.kind.as_deref().map(kind_word),
            description: shortened(facts.description.as_deref().unwrap_or_default(), MAX_LEAD_CHARS),
            tags: facts.tags.iter().take(20).map(|tag| shortened(tag, 40)).collect(),
            folder,
        }
    }
}
