//! Where names come from: the report of a name, sources that an operator sets, and sources of bundles.

use std::sync::Arc;

use super::{AdminError, inventory::INDEX_UNREADABLE};
use crate::{
    admin_api::{
        DialectRoute, DialectSource, ErrorCode, ImportSource, ImportedSource, PackageStock, RouteReport, SetRoute,
        SetRouteReport, ShowRoute, SourceRule,
    },
    dialect::{DialectName, Names, PackageId, PackageRef, RouteRule},
    entry::RecordedSource,
    package::{NameForm, PackageName},
    registry::{BucketError, ImportSourceError, Registry, SetSourceError, SourceRecord},
    service::sources::{self, led_to, usable_source},
};

/// Where a name comes from in each dialect, and what is stored of it.
pub(super) async fn show(
    registry: &Arc<Registry>,
    names: &Names,
    request: ShowRoute,
) -> Result<RouteReport, AdminError> {
    let ShowRoute { name } = request;
    let asked = names.parse_package(&name).map_err(|error| AdminError::bad_request(error.to_string()))?;
    // Other texts name their upstream.
    let without_upstream = name.parse::<PackageName>().ok();
    let folder = match &asked {
        PackageRef::Folder(folder) => Some(folder.clone()),
        PackageRef::Id(_) | PackageRef::Routed(_) => None,
    };
    let mut dialects = Vec::new();
    let mut packages: Vec<PackageId> = Vec::new();
    for dialect in dialects_of(without_upstream.as_ref().unwrap_or(asked.name())) {
        let recorded = without_upstream.as_ref().and_then(|name| registry.sources().record_of(name, dialect));
        let DecidedRoute { rule, asked } = match &asked {
            PackageRef::Id(id) if without_upstream.is_none() => DecidedRoute::one(SourceRule::Named, id),
            PackageRef::Id(id) => DecidedRoute::one(SourceRule::Alias, id),
            PackageRef::Folder(folder) => DecidedRoute::one(SourceRule::Alias, &folder.repository),
            PackageRef::Routed(name) => decide_route(registry, names, name, dialect, recorded.as_ref()),
        };
        for package in &asked {
            if !packages.contains(package) {
                packages.push(package.clone());
            }
        }
        let table = without_upstream.as_ref().and_then(|name| names.configured_route(name, dialect));
        let asked = match &folder {
            Some(folder) => vec![folder.spec()],
            None => asked.iter().map(PackageId::spec).collect(),
        };
        dialects.push(DialectRoute { dialect, rule, table, asked, recorded });
    }
    let mut stock = Vec::new();
    for package in packages {
        let counts = registry.inventory().stored_counts(&package).await;
        let counts = counts.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
        stock.push(PackageStock {
            package: package.spec(),
            allowed: registry.sources().is_allowed(&package),
            versions: counts.archives,
            documents: counts.documents,
        });
    }
    Ok(RouteReport { name, dialects, packages: stock })
}

/// The dialects that have names of this form: paths below `/repos/` name repositories only.
fn dialects_of(name: &PackageName) -> impl Iterator<Item = DialectName> + use<> {
    let is_plain = name.form() == NameForm::Plain;
    DialectName::ALL.into_iter().filter(move |dialect| !is_plain || *dialect != DialectName::Github)
}

/// The rule that decides for a name, and the packages that are asked, in order.
struct DecidedRoute {
    rule: SourceRule,
    asked: Vec<PackageId>,
}

impl DecidedRoute {
    fn one(rule: SourceRule, package: &PackageId) -> Self {
        Self { rule, asked: vec![package.clone()] }
    }
}

/// Decides where a name without an alias comes from.
fn decide_route(
    registry: &Registry,
    names: &Names,
    name: &PackageName,
    dialect: DialectName,
    recorded: Option<&RecordedSource>,
) -> DecidedRoute {
    if let Some(id) = sources::hosted(registry, names, name, dialect) {
        let is_published = registry.hosted().is_some_and(|hosted| hosted.published_id(&id.name).is_some());
        let rule = if is_published { SourceRule::Published } else { SourceRule::Reserved };
        return DecidedRoute::one(rule, &id);
    }
    let route = names.route(name, dialect);
    if let Some(recorded) = recorded {
        return match usable_source(names, name, &recorded.upstream, &route) {
            Some(id) => DecidedRoute::one(SourceRule::Recorded, &id),
            None => DecidedRoute { rule: SourceRule::SourceChanged, asked: Vec::new() },
        };
    }
    let rule = match route.rule {
        RouteRule::Configured => SourceRule::Configured,
        RouteRule::DefaultOwner => SourceRule::DefaultOwner,
        RouteRule::Default => SourceRule::Default,
        RouteRule::DefaultUpstream => SourceRule::DefaultUpstream,
        RouteRule::NoRoute => SourceRule::NoRoute,
    };
    DecidedRoute { rule, asked: route.candidates }
}

/// Why an upstream cannot be the source of a name.
#[derive(Debug, thiserror::Error)]
enum UnusableSource {
    #[error("no upstream is called {upstream}; the upstreams are {all}")]
    UnknownUpstream { upstream: String, all: String },
    #[error(
        "{upstream} has no package {name}: its packages are written owner/repo, and names.default_owner is not set"
    )]
    NoOwner { upstream: String, name: PackageName },
    #[error("{upstream} has no package {name}: its packages have names without a slash")]
    NotPlain { upstream: String, name: PackageName },
    #[error(
        "table {table} of routes, which decides for {name} in {dialect}, does not lead to {upstream}; change it first"
    )]
    OffRoute { table: usize, name: PackageName, dialect: &'static str, upstream: String },
    #[error("the github dialect has no package {name} from {upstream}: it has repositories of forges only")]
    NotOfForge { name: PackageName, upstream: String },
}

/// The package that a name would be in a dialect, if its source were this upstream.
///
/// # Errors
/// When requests of the name would then be refused.
fn package_at(
    names: &Names,
    name: &PackageName,
    upstream: &str,
    dialect: DialectName,
) -> Result<PackageId, UnusableSource> {
    let owned = || upstream.to_owned();
    let Some(found) = names.upstream(upstream) else {
        let all = names.upstreams().iter().map(|known| &*known.name).collect::<Vec<_>>().join(", ");
        return Err(UnusableSource::UnknownUpstream { upstream: owned(), all });
    };
    let plain = NameForm::Plain;
    let route = names.route(name, dialect);
    if dialect == DialectName::Github && (name.form() == plain || found.form == plain) {
        // A registry is asked there only where a table of that dialect says so.
        let is_routed = route.candidates.iter().any(|candidate| *candidate.upstream == *upstream);
        if !is_routed {
            return Err(UnusableSource::NotOfForge { name: name.clone(), upstream: owned() });
        }
    }
    if names.id_on(upstream, name).is_none() {
        return Err(match found.form {
            NameForm::Repository => UnusableSource::NoOwner { upstream: owned(), name: name.clone() },
            NameForm::Plain => UnusableSource::NotPlain { upstream: owned(), name: name.clone() },
        });
    }
    let off_route = || UnusableSource::OffRoute {
        table: names.configured_route(name, dialect).unwrap_or_default(),
        name: name.clone(),
        dialect: dialect.as_str(),
        upstream: owned(),
    };
    usable_source(names, name, upstream, &route).ok_or_else(off_route)
}

/// Sets the recorded source of a name in one dialect, or in every one that can have it. Refuses before it changes anything.
pub(super) async fn set(
    registry: &Arc<Registry>,
    names: &Names,
    request: SetRoute,
) -> Result<SetRouteReport, AdminError> {
    let SetRoute { name, upstream, dialect } = request;
    let invalid = |error: &dyn std::error::Error| AdminError::bad_request(error.to_string());
    let name: PackageName = name.parse().map_err(|error| invalid(&error))?;
    let alias = match names.parse_package(&name.to_string()) {
        Ok(PackageRef::Id(id)) => Some(id.spec()),
        Ok(PackageRef::Folder(folder)) => Some(folder.spec()),
        Ok(PackageRef::Routed(_)) | Err(_) => None,
    };
    if let Some(package) = alias {
        let why = format!("names.aliases decides for {name}: it is {package}; change the alias");
        return Err(AdminError::bad_request(why));
    }
    if sources::hosted(registry, names, &name, DialectName::Srm).is_some() {
        let why = format!("{name} belongs to this mirror: it is published here, or [host] reserves it");
        return Err(AdminError::bad_request(why));
    }
    let mut targets = Vec::new();
    for one in dialect.map_or_else(|| dialects_of(&name).collect(), |dialect| vec![dialect]) {
        match package_at(names, &name, &upstream, one) {
            Ok(package) => targets.push((one, package)),
            // Where no dialect is given, those that cannot have the name from there are left out.
            Err(UnusableSource::NotOfForge { .. }) if dialect.is_none() => {}
            Err(error) => return Err(invalid(&error)),
        }
    }
    if let Some(sharing) = registry.sources().sharing() {
        sharing.set(&name, &targets).await.map_err(not_set)?;
    }
    let mut dialects = Vec::new();
    for (dialect, package) in targets {
        let previous = registry.sources().recorded(&name, dialect);
        let led_to = led_to(registry, names, &name, dialect);
        let replaced = registry.sources().replace(&name, dialect, &package, &led_to).await;
        replaced.map_err(|error| AdminError::storage("the source of the name cannot be written", error))?;
        let previous = previous.map(|upstream| upstream.to_string());
        dialects.push(DialectSource { dialect, package: package.spec(), previous });
    }
    Ok(SetRouteReport { dialects })
}

/// The answer where the shared bucket has not taken a source.
fn not_set(error: SetSourceError) -> AdminError {
    match error {
        SetSourceError::TooMany => AdminError::bad_request(error.to_string()),
        SetSourceError::Bucket(BucketError::Damaged) => {
            let message =
                "the record of the source, or what operators have set, is damaged in the bucket: nothing is set";
            AdminError::new(ErrorCode::DamagedInBucket, message)
        }
        SetSourceError::Bucket(error) => {
            let message = format!(
                "{error}: the source is not set on this mirror; whether the others will use it is not known unless the \
                 bucket was down before, so repeat the command when the bucket works"
            );
            AdminError::new(ErrorCode::Bucket, message)
        }
    }
}

/// Records a source of a bundle. What is recorded here stays, and so does a name whose routes lead elsewhere.
pub(super) async fn import(
    registry: &Arc<Registry>,
    names: &Names,
    request: ImportSource,
) -> Result<ImportedSource, AdminError> {
    let ImportSource { source: RecordedSource { name: text, dialect, upstream, .. }, dry_run } = request;
    let name = text.parse::<PackageName>().ok().filter(|name| name.folded() == text);
    let refused = || AdminError::new(ErrorCode::InvalidImport, format!("the recorded name \"{text}\" is malformed"));
    let name = name.ok_or_else(refused)?;
    let known = |local: &str| match local == upstream {
        true => ImportedSource::Known,
        false => ImportedSource::Different { local: local.to_owned() },
    };
    if let Some(local) = registry.sources().recorded(&name, dialect) {
        return Ok(known(&local));
    }
    let Ok(package) = package_at(names, &name, &upstream, dialect) else { return Ok(ImportedSource::OffRoute) };
    if dry_run {
        let Some(sharing) = registry.sources().sharing() else { return Ok(ImportedSource::Recorded) };
        let shared = sharing.find(&name, dialect).await.map_err(|error| not_set(error.into()))?;
        return Ok(shared.map_or(ImportedSource::Recorded, |shared| known(&shared.upstream)));
    }
    let led_to = led_to(registry, names, &name, dialect);
    let search = sources::search_of(names, &name, dialect);
    let imported = registry.sources().import(&name, dialect, &package, &led_to, search).await;
    let imported = imported.map_err(|error| match error {
        ImportSourceError::Io(error) => AdminError::storage("the source of a name cannot be written", error),
        ImportSourceError::Shared(error @ SetSourceError::TooMany) => {
            AdminError::new(ErrorCode::NoSpace, error.to_string())
        }
        ImportSourceError::Shared(error) => not_set(error),
    })?;
    Ok(match imported {
        SourceRecord::Recorded => ImportedSource::Recorded,
        SourceRecord::Known(local) => known(&local),
    })
}
