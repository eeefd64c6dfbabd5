//! Warming: stores lists and zips before clients ask for them, and reports progress.

use std::sync::Arc;

use futures_util::{Stream, stream};
use jiff::Timestamp;

use super::{AdminError, inventory::INDEX_UNREADABLE};
use crate::{
    admin_api::{
        FailureCode, FilledArchive, FirstSeen, GetFirstSeen, GetStoredState, ReleaseRow, StoredState, UpstreamQuota,
        WarmArchive, WarmEvent, WarmFailure, WarmLists, WarmListsAnswer, WarmedLists,
    },
    dialect::{ApiRequest, DialectName, Names},
    package::{PackageId, PackageRef, Version},
    registry::{
        FillUpdate, Registry, RegistryError,
        resolved::ResolvedVersion,
        warming::{PackageLists, WarmingArchive},
    },
    service::{
        error::{ApiError, whole_seconds},
        found_package::FoundPackage,
        sources::{self, SourceFailure},
    },
};

/// The dialect by whose routes commands find names, unless they name another one.
const COMMAND_DIALECT: DialectName = DialectName::Srm;

/// Stores the release list and the latest release of a package.
pub(super) async fn lists(
    registry: &Arc<Registry>,
    names: &Names,
    request: WarmLists,
) -> Result<WarmListsAnswer, AdminError> {
    let named = parse_package(names, &request.package)?;
    let dialect = request.dialect.unwrap_or(COMMAND_DIALECT);
    let package = match sources::resolve(registry, names, &named, dialect).await {
        Ok(package) => package,
        Err(failed) => {
            let request = ApiRequest::Releases { package: named, page: None };
            return Ok(WarmListsAnswer::Failed(failure(registry, failed.error, &request, failed.package.as_ref())));
        }
    };
    let lists = match &package {
        FoundPackage::Package(package) => registry.warming().lists(package).await,
        FoundPackage::Folder(folder) => registry.folders().lists(folder).await,
    };
    Ok(match lists {
        Ok(lists) => WarmListsAnswer::Stored(warmed_lists(lists, package.id(), quota(registry, package.id()))),
        Err(error) => {
            let request = ApiRequest::Releases { package: named, page: None };
            WarmListsAnswer::Failed(failure(registry, error.into(), &request, Some(package.id())))
        }
    })
}

/// When a version was first seen.
pub(super) async fn first_seen(
    registry: &Arc<Registry>,
    names: &Names,
    request: GetFirstSeen,
) -> Result<FirstSeen, AdminError> {
    let SourcedVersion { package, version } = find_version(registry, names, &request.package, &request.version).await?;
    let first_seen = registry.inventory().first_seen(&package, &version).await;
    let first_seen = first_seen.map_err(|error| AdminError::storage("the pins cannot be read", error))?;
    Ok(FirstSeen { first_seen })
}

/// Whether a version is on disk.
pub(super) async fn stored_state(
    registry: &Arc<Registry>,
    names: &Names,
    request: GetStoredState,
) -> Result<StoredState, AdminError> {
    let SourcedVersion { package, version } = find_version(registry, names, &request.package, &request.version).await?;
    let stored = registry.inventory().is_stored(&package, &version).await;
    let stored = stored.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    Ok(StoredState { stored, limit: registry.inventory().usage().disk.limit })
}

/// Stores the zip of a version. Dropping the stream does not stop the fill.
pub(super) async fn archive(
    registry: &Arc<Registry>,
    names: &Names,
    request: WarmArchive,
) -> Result<impl Stream<Item = WarmEvent> + use<>, AdminError> {
    let named = parse_package(names, &request.package)?;
    let version = parse_version(&request.version)?;
    let request = ApiRequest::Archive { package: named.clone(), version: version.clone() };
    let first = match resolve_version(registry, names, &named, version).await {
        Ok(SourcedVersion { package, version }) => {
            FillStep::Start(FillTarget { registry: registry.clone(), package, version, request })
        }
        Err(failed) => {
            FillStep::Fail(WarmEvent::Failed(failure(registry, failed.error, &request, failed.package.as_ref())))
        }
    };
    Ok(stream::unfold(first, FillStep::next))
}

/// The zip that is filled.
struct FillTarget {
    registry: Arc<Registry>,
    package: PackageId,
    version: Version,
    /// What the command asked for, for error sentences.
    request: ApiRequest,
}

enum FillStep {
    /// No upstream has the package, or its source is not known.
    Fail(WarmEvent),
    Start(FillTarget),
    Follow(FillTarget, Box<WarmingArchive>),
    End,
}

impl FillStep {
    /// The next event, and the step after it.
    async fn next(self) -> Option<(WarmEvent, Self)> {
        let (fill, mut warming) = match self {
            Self::End => return None,
            Self::Fail(event) => return Some((event, Self::End)),
            Self::Follow(fill, warming) => (fill, warming),
            Self::Start(fill) => match fill.registry.warming().archive(&fill.package, &fill.version).await {
                Ok(warming) => (fill, Box::new(warming)),
                Err(error) => return Some((fill.failed(error), Self::End)),
            },
        };
        match warming.next().await {
            Ok(FillUpdate::Progress { bytes, total }) => {
                Some((WarmEvent::Progress { bytes, total }, Self::Follow(fill, warming)))
            }
            Ok(FillUpdate::Stored(meta)) => {
                let (tag, commit) = match warming.resolved {
                    ResolvedVersion::Tag(tag) => (Some(tag), meta.verified.commit.clone()),
                    ResolvedVersion::Moving { .. } => (None, None),
                    ResolvedVersion::Commit(commit) | ResolvedVersion::Branch { commit, .. } => (None, Some(commit)),
                };
                let digest = meta.digest;
                let len = meta.len;
                let quota = Some(quota(&fill.registry, &fill.package));
                let stored = FilledArchive { digest, len, cached: warming.cached, tag, commit, quota };
                Some((WarmEvent::Stored(stored), Self::End))
            }
            Err(error) => Some((fill.failed(error), Self::End)),
        }
    }
}

impl FillTarget {
    fn failed(&self, error: RegistryError) -> WarmEvent {
        WarmEvent::Failed(failure(&self.registry, error.into(), &self.request, Some(&self.package)))
    }
}

fn parse_package(names: &Names, text: &str) -> Result<PackageRef, AdminError> {
    names.parse_package(text).map_err(|error| AdminError::bad_request(error.to_string()))
}

/// A version of the package that is stored: of a folder's version the repository and its version.
struct SourcedVersion {
    package: PackageId,
    version: Version,
}

/// Finds a version of a package at the package's source.
async fn resolve_version(
    registry: &Registry,
    names: &Names,
    named: &PackageRef,
    version: Version,
) -> Result<SourcedVersion, SourceFailure> {
    match sources::resolve(registry, names, named, COMMAND_DIALECT).await? {
        FoundPackage::Package(package) => Ok(SourcedVersion { package, version }),
        FoundPackage::Folder(folder) => {
            let package = folder.repository.clone();
            match registry.folders().locate(&folder, &version).await {
                Ok(located) => Ok(SourcedVersion { package, version: located.version }),
                Err(error) => Err(SourceFailure { error: error.into(), package: Some(package) }),
            }
        }
    }
}

/// As [`resolve_version`], from the texts of a request.
async fn find_version(
    registry: &Registry,
    names: &Names,
    package: &str,
    version: &str,
) -> Result<SourcedVersion, AdminError> {
    let named = parse_package(names, package)?;
    let version = parse_version(version)?;
    resolve_version(registry, names, &named, version).await.map_err(|failed| {
        let request = ApiRequest::Releases { package: named, page: None };
        AdminError::bad_request(failed.error.describe(Some(&request), failed.package.as_ref(), None).message)
    })
}

fn parse_version(text: &str) -> Result<Version, AdminError> {
    text.parse().map_err(|error: crate::package::NameError| AdminError::bad_request(error.to_string()))
}

fn warmed_lists(lists: PackageLists, package: &PackageId, quota: UpstreamQuota) -> WarmedLists {
    let releases = lists.releases.into_iter().map(|listed| ReleaseRow {
        tag: listed.release.tag_name,
        created_at: Some(listed.release.created_at),
        published_at: listed.release.published_at,
        prerelease: listed.release.prerelease,
        stored: listed.stored,
        len: listed.len,
    });
    let package = Some(package.spec());
    WarmedLists { releases: releases.collect(), latest: lists.latest, quota: Some(quota), package }
}

fn failure(registry: &Registry, error: ApiError, request: &ApiRequest, package: Option<&PackageId>) -> WarmFailure {
    let error = error.describe(Some(request), package, None);
    WarmFailure {
        code: error.code.unwrap_or(FailureCode::Other),
        message: error.message,
        retry_after: error.retry_after.map(whole_seconds),
        quota: package.map(|package| quota(registry, package)),
    }
}

/// The quota of the package's upstream.
fn quota(registry: &Registry, package: &PackageId) -> UpstreamQuota {
    let limits = registry.warming().rate_limit(package);
    let until_reset = |reset: Timestamp| u64::try_from(reset.duration_since(Timestamp::now()).as_secs()).unwrap_or(0);
    UpstreamQuota {
        upstream: package.upstream.to_string(),
        remaining: limits.remaining,
        reset_in: limits.reset.map(until_reset),
    }
}
