//! Fills the cache ahead of the clients: the lists of a package, and the archive of a version followed to its end.

use std::sync::Arc;

use super::{
    RegistryError, archive_source::ArchiveSource, authorize::Authorizer, document_policies::MIN_REVALIDATE_AGE,
    moving::MovingVersions, package_documents::PackageDocuments, resolve::VersionResolver, resolved::ResolvedVersion,
    upstreams::Upstreams, version_rules::VersionRules,
};
use crate::{
    cache::{
        ArchiveAvailability, CacheFailure, ServedArchive,
        fill_watcher::{FillUpdate, FillWatcher},
    },
    entry::Meta,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{PackageId, Release, Version},
    upstream::{DocumentAsk, GitRef, RateLimitStatus},
};

/// The release list and the latest release of a package, both stored.
pub struct PackageLists {
    /// Every release, with the availability of its archive.
    pub releases: Vec<ListedRelease>,
    /// The tag that the upstream calls latest.
    pub latest: Option<String>,
    /// What happened in the cache for the release list.
    pub status: CacheStatus,
}

/// A release and the availability of its archive.
pub struct ListedRelease {
    /// The release.
    pub release: Release,
    /// True when its archive is on disk.
    pub stored: bool,
    /// The length of its archive in bytes, when it was ever seen.
    pub len: Option<u64>,
}

/// An archive that is being stored.
pub struct WarmingArchive {
    /// What the version was resolved to.
    pub resolved: ResolvedVersion,
    /// True when it was stored before the request.
    pub cached: bool,
    progress: WarmingProgress,
}

/// How an archive is followed.
enum WarmingProgress {
    /// It is published on this mirror: there is nothing to wait for.
    Hosted(Arc<Meta>),
    /// By its fill.
    Fill(FillWatcher),
}

/// Stores lists and archives that clients have not asked for yet.
pub struct Warming {
    upstreams: Upstreams,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
    moving: Arc<MovingVersions>,
    resolver: Arc<VersionResolver>,
    rules: Arc<VersionRules>,
}

/// What [`Warming`] is built on.
pub(super) struct WarmingParts {
    pub(super) upstreams: Upstreams,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) documents: Arc<PackageDocuments>,
    pub(super) archives: Arc<ArchiveSource>,
    pub(super) moving: Arc<MovingVersions>,
    pub(super) resolver: Arc<VersionResolver>,
    pub(super) rules: Arc<VersionRules>,
}

impl Warming {
    pub(super) fn new(parts: WarmingParts) -> Self {
        let WarmingParts { upstreams, authorizer, documents, archives, moving, resolver, rules } = parts;
        Self { upstreams, authorizer, documents, archives, moving, resolver, rules }
    }

    /// Stores the documents that clients ask for first: the release list, revalidated when older than
    /// [`MIN_REVALIDATE_AGE`], and the latest release. An unchanged list costs one conditional request, and the latest
    /// release then costs none.
    ///
    /// # Errors
    /// See [`RegistryError`]; a package without releases has an empty list.
    pub async fn lists(&self, package: &PackageId) -> Result<PackageLists, RegistryError> {
        self.authorizer.authorize(package).await?;
        let list = match self.documents.releases(package, Some(MIN_REVALIDATE_AGE)).await {
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Release), status })) => {
                return Ok(PackageLists { releases: Vec::new(), latest: None, status });
            }
            list => list?,
        };
        let list = self.rules.filter_releases(package, list).await?;
        let unchanged = list.status.fwd.is_none() || list.status.fwd_status == Some(304) || list.status.used_stale;
        let stored =
            if unchanged { self.documents.stored().document(package, &DocumentAsk::Latest).await } else { None };
        let is_concerned = self.rules.concern(package).await;
        let latest = match stored {
            Some(document) if !is_concerned => {
                serde_json::from_slice(&document.body).ok().map(|latest: Release| latest.tag_name)
            }
            _ => self.fetch_latest(package).await?,
        };
        let mut releases = Vec::with_capacity(list.value.releases.len());
        for release in &list.value.releases {
            let availability = self.availability(package, &release.tag_name).await;
            let ArchiveAvailability { on_disk: stored, len } = availability;
            releases.push(ListedRelease { release: release.clone(), stored, len });
        }
        Ok(PackageLists { releases, latest, status: list.status })
    }

    async fn availability(&self, package: &PackageId, tag: &str) -> ArchiveAvailability {
        if !self.moving.is_moving(package, tag) {
            return self.archives.availability(package, &GitRef::Tag(tag.to_owned())).await;
        }
        match self.moving.stored_reference(package, tag).await {
            Some(reference) => self.archives.availability(package, &reference).await,
            None => ArchiveAvailability::default(),
        }
    }

    async fn fetch_latest(&self, package: &PackageId) -> Result<Option<String>, RegistryError> {
        let latest = match self.documents.release(package, DocumentAsk::Latest, Some(MIN_REVALIDATE_AGE)).await {
            Ok(latest) => self.rules.served_latest(package, latest).await,
            latest => latest,
        };
        match latest {
            Ok(latest) => Ok(Some(latest.value.tag_name.clone())),
            Err(RegistryError::NoVersionAllowed(_)) => Ok(None),
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts or joins the fill of a version, to be followed. Dropping the result does not stop the fill.
    ///
    /// # Errors
    /// As [`VersionResolver::archive`].
    pub async fn archive(&self, package: &PackageId, version: &Version) -> Result<WarmingArchive, RegistryError> {
        let archive = self.resolver.resolve(package, version).await?;
        let reference = archive.resolved.reference();
        let cached = matches!(archive.answer.served, ServedArchive::Stored(_)) && archive.answer.status.fwd.is_none();
        let progress = match &archive.answer.served {
            ServedArchive::Stored(object) if self.archives.is_hosted(package) => {
                WarmingProgress::Hosted(object.meta.clone())
            }
            _ => WarmingProgress::Fill(self.archives.watch(package, reference)?),
        };
        Ok(WarmingArchive { resolved: archive.resolved, cached, progress })
    }

    /// What the package's upstream still allows.
    pub fn rate_limit(&self, package: &PackageId) -> RateLimitStatus {
        self.upstreams.rate_limit(package)
    }
}

impl WarmingArchive {
    /// Waits for the next update. Nothing follows [`FillUpdate::Stored`] or an error.
    ///
    /// # Errors
    /// Why the archive is not stored.
    pub async fn next(&mut self) -> Result<FillUpdate, RegistryError> {
        match &mut self.progress {
            WarmingProgress::Fill(watcher) => Ok(watcher.next().await?),
            WarmingProgress::Hosted(meta) => Ok(FillUpdate::Stored(meta.clone())),
        }
    }
}
