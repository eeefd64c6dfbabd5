//! What is known of one package: its versions, each with its zip, its release and what the rules say of it. Read from what is
//! stored; no upstream is asked.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    admin_api::RefKind,
    archive::ZipFacts,
    cache::{Cache, CacheFailure, InventoryEntry},
    entry::{Key, UpstreamStatus},
    hosted::{HostedVersion, VersionState},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{FolderPackage, ModelFinding, PackageId, Release},
    registry::{
        RegistryError, VersionRefusal,
        archive_source::ArchiveSource,
        authorize::{Authorizer, Visibility},
        folders::{
            FolderPackages,
            known::{PinnedFolder, known_versions},
        },
        keys::{archive_key, tag_prefix},
        moving::MovingVersions,
        not_found,
        package_documents::PackageDocuments,
        upstreams::Upstreams,
        version_rules::{KnownRules, VersionRules, published_at},
    },
    upstream::{DocumentAsk, GitRef},
};

mod collected;

use collected::CollectedVersions;

/// Most stored zips, and most pinned tags, of one package that are read: some 10 ms.
pub(crate) const MAX_KNOWN_VERSIONS: usize = 5_000;
/// Most characters of release notes that are shown.
const MAX_NOTE_CHARS: usize = 20_000;

/// When to ask again after the index could not be read.
const UNREADABLE_RETRY: Duration = Duration::from_secs(30);

/// Reads what is known of single packages.
pub(crate) struct PackageOverview {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
    upstreams: Upstreams,
    rules: Arc<VersionRules>,
    moving: Arc<MovingVersions>,
    folders: Arc<FolderPackages>,
}

/// What [`PackageOverview`] is built on.
pub(in crate::registry) struct OverviewParts {
    pub(in crate::registry) cache: Arc<Cache>,
    pub(in crate::registry) authorizer: Arc<Authorizer>,
    pub(in crate::registry) documents: Arc<PackageDocuments>,
    pub(in crate::registry) archives: Arc<ArchiveSource>,
    pub(in crate::registry) upstreams: Upstreams,
    pub(in crate::registry) rules: Arc<VersionRules>,
    pub(in crate::registry) moving: Arc<MovingVersions>,
    pub(in crate::registry) folders: Arc<FolderPackages>,
}

/// What is looked at: a package, or a folder of one.
#[derive(Clone, Copy)]
pub(crate) enum OverviewSubject<'a> {
    /// A package of an upstream.
    Package(&'a PackageId),
    /// A folder of a repository.
    Folder(&'a FolderPackage),
}

/// A version of which a zip, a pin, a release or a publication is known.
#[derive(Clone, Debug)]
pub(crate) struct KnownVersion {
    /// Its name.
    pub(crate) version: String,
    /// What it was fetched by.
    pub(crate) kind: RefKind,
    /// What its zip is stored under; of a folder's version the zip of the repository.
    reference: GitRef,
    /// When it was released, by its upstream's clock.
    pub(crate) released_at: Option<Timestamp>,
    /// True where the release list calls it a prerelease.
    pub(crate) is_prerelease: bool,
    /// True when its content is pinned, stored or not.
    pub(crate) is_pinned: bool,
    /// What the pin of a folder's version says; `None` for a version of a package.
    folder_pin: Option<PinnedFolder>,
    /// Its publication on this mirror.
    pub(crate) hosted: Option<HostedVersion>,
}

/// The versions of a package, the newest first.
#[derive(Debug, Default)]
pub(crate) struct KnownVersions {
    /// The versions: by semantic version, then those without one by name.
    pub(crate) versions: Vec<KnownVersion>,
    /// True when there are more than [`MAX_KNOWN_VERSIONS`] zips or pins, or the release list is not whole.
    pub(crate) is_truncated: bool,
}

/// One version in detail.
#[derive(Clone, Debug)]
pub(crate) struct VersionDetails {
    /// What it is.
    pub(crate) known: KnownVersion,
    /// What the index says of its zip; `None` where none is stored in the cache.
    pub(crate) zip: Option<InventoryEntry>,
    /// Why the rules about versions refuse it.
    pub(crate) refusal: Option<VersionRefusal>,
    /// True when its upstream has withdrawn it, and it is not served for that.
    pub(crate) is_withdrawn: bool,
    /// True when a request for its zip is sent to its upstream while none is stored.
    pub(crate) is_fetched: bool,
    /// Where its zip does not conform to the package model; `None` where that is not known.
    pub(crate) findings: Option<Vec<ModelFinding>>,
}

/// The text of a release.
#[derive(Clone, Debug)]
pub(crate) struct ReleaseNotes {
    /// The upstream's text, cut off after some thousand characters.
    pub(crate) text: String,
    /// True when it is cut off.
    pub(crate) is_cut: bool,
}

impl PackageOverview {
    pub(in crate::registry) fn new(parts: OverviewParts) -> Self {
        let OverviewParts { cache, authorizer, documents, archives, upstreams, rules, moving, folders } = parts;
        Self { cache, authorizer, documents, archives, upstreams, rules, moving, folders }
    }

    /// Checks that a package may be shown, as the catalog does. Its upstream is asked only where stored documents do not say
    /// whether the package is public.
    ///
    /// # Errors
    /// `NotFound(Package)` for a package that may not be served; the upstream's failure.
    pub(crate) async fn ensure_shown(&self, package: &PackageId) -> Result<(), RegistryError> {
        let absent = || not_found(Missing::Package, CacheStatus::generated());
        match self.authorizer.visibility(package).await {
            Visibility::Visible => Ok(()),
            Visibility::Hidden => Err(absent()),
            Visibility::Unknown { .. } => match self.authorizer.authorize(package).await {
                Ok(_) => Ok(()),
                Err(RegistryError::Forbidden) => Err(absent()),
                Err(error) => Err(error),
            },
        }
    }

    /// True when patterns or a block refuse the name of a package's version.
    pub(crate) fn is_refused_by_name(&self, package: &PackageId, version: &str) -> bool {
        KnownRules(&self.rules).refuses_name(package, version)
    }

    /// The versions that are known. Reads a bounded part of the index.
    ///
    /// # Errors
    /// When the index or a folder's pins cannot be read.
    pub(crate) async fn versions(&self, subject: OverviewSubject<'_>) -> Result<KnownVersions, RegistryError> {
        match subject {
            OverviewSubject::Package(package) => self.package_versions(package).await,
            OverviewSubject::Folder(folder) => {
                let known = known_versions(&self.folders, folder).await?;
                let mut versions = CollectedVersions::new(known.is_truncated);
                known.versions.into_iter().for_each(|version| versions.add_folder_version(version));
                Ok(versions.sorted())
            }
        }
    }

    async fn package_versions(&self, package: &PackageId) -> Result<KnownVersions, RegistryError> {
        let mut known = CollectedVersions::default();
        if let Some(hosted) = self.upstreams.hosted(package) {
            for version in hosted.store().package(package.name.base_name()).iter().flat_map(|found| found.versions()) {
                let reference = GitRef::Tag(version.version.to_string());
                known.entry(reference).hosted = Some(version.clone());
            }
            self.resolve_moving(package, &mut known).await;
            return Ok(known.sorted());
        }
        let inventory = self.cache.disk().inventory();
        let stored = inventory.first_keys_with_prefix(&format!("{}/", package.key_prefix()), MAX_KNOWN_VERSIONS).await;
        let stored = stored.map_err(unreadable)?;
        let pins = self.cache.disk().pins();
        let pinned = pins.first_keys_with_prefix(&tag_prefix(package), MAX_KNOWN_VERSIONS).await.map_err(unreadable)?;
        known.is_truncated = stored.len() == MAX_KNOWN_VERSIONS || pinned.len() == MAX_KNOWN_VERSIONS;
        for key in &stored {
            known.entry_of_key(key);
        }
        for key in &pinned {
            if let Some(version) = known.entry_of_key(key) {
                version.is_pinned = true;
            }
        }
        if let Some(list) = self.documents.stored().releases(package).await {
            known.is_truncated |= list.truncated;
            for release in &list.releases {
                let version = known.entry(GitRef::Tag(release.tag_name.clone()));
                version.released_at = published_at(package, release);
                version.is_prerelease = release.prerelease;
            }
        }
        self.resolve_moving(package, &mut known).await;
        Ok(known.sorted())
    }

    /// Sets moving versions to their present revision, unpinned, whatever was pinned under their names before.
    async fn resolve_moving(&self, package: &PackageId, known: &mut CollectedVersions) {
        for version in known.iter_mut() {
            if version.kind != RefKind::Commit && self.moving.is_moving(package, &version.version) {
                version.kind = RefKind::Moving;
                version.is_pinned = false;
                let present = self.moving.stored_reference(package, &version.version).await;
                version.reference = present.unwrap_or_else(|| version.reference.clone());
            }
        }
    }

    /// These versions in detail. Call it for the versions of one page: it reads a file for each.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn details(
        &self,
        subject: OverviewSubject<'_>,
        versions: Vec<KnownVersion>,
    ) -> Result<Vec<VersionDetails>, RegistryError> {
        let rules = KnownRules(&self.rules);
        let package = subject.package();
        let keys = versions.iter().map(|known| archive_key(package, &known.reference)).collect();
        let entries = self.cache.disk().inventory().entries(keys).await.map_err(unreadable)?;
        let mut zips: HashMap<Key, InventoryEntry> =
            entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let is_asked = !self.documents.is_offline()
            && self.upstreams.hosted(package).is_none()
            && self.documents.stored().upstream_status(package).await == UpstreamStatus::Present;
        let mut details = Vec::new();
        for mut known in versions {
            // Several versions of a folder may be of one commit.
            let key = archive_key(package, &known.reference);
            let zip = if subject.is_folder() { zips.get(&key).cloned() } else { zips.remove(&key) };
            if known.kind == RefKind::Commit {
                known.is_pinned = self.first_seen(package, &known).await?.is_some();
            }
            let findings = self.findings(subject, &known, zip.is_some()).await;
            let KnownVersion { version, reference, .. } = &known;
            let published_at = known.hosted.as_ref().map(|hosted| hosted.published_at).or(known.released_at);
            let refusal = match subject {
                OverviewSubject::Package(package) => rules.refusal(package, reference, published_at).await?,
                OverviewSubject::Folder(folder) => {
                    rules.folder_refusal(folder, version, reference, published_at).await?
                }
            };
            let is_withdrawn = rules.is_withdrawn(package, reference).await;
            let is_fetched = is_asked && refusal.is_none() && !is_withdrawn;
            details.push(VersionDetails { known, zip, refusal, is_withdrawn, is_fetched, findings });
        }
        Ok(details)
    }

    /// Where a version does not conform to the package model; `None` where that is not known.
    async fn findings(
        &self,
        subject: OverviewSubject<'_>,
        known: &KnownVersion,
        is_stored: bool,
    ) -> Option<Vec<ModelFinding>> {
        let OverviewSubject::Package(package) = subject else {
            return known.folder_pin.as_ref()?.facts.model.clone();
        };
        let is_served = known.hosted.as_ref().is_some_and(HostedVersion::is_served);
        if !is_stored && !is_served {
            return None;
        }
        let meta = self.archives.stored_meta(package, &known.reference).await?;
        ZipFacts::model_findings_in(&meta.verified.facts)
    }

    /// When the content of a version was first seen.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(crate) async fn first_seen(
        &self,
        package: &PackageId,
        version: &KnownVersion,
    ) -> Result<Option<Timestamp>, RegistryError> {
        if let Some(pinned) = &version.folder_pin {
            return Ok(Some(pinned.first_seen));
        }
        if !version.is_pinned && version.kind != RefKind::Commit {
            return Ok(None);
        }
        let pin = self.archives.pin(package, &version.reference).await;
        let pin = pin.map_err(|error| CacheFailure { error, status: CacheStatus::generated() })?;
        Ok(pin.map(|pin| pin.first_seen))
    }

    /// The notes of a release, as far as a stored document has them. Those of a folder's version are those of its tag.
    pub(crate) async fn notes(&self, package: &PackageId, version: &KnownVersion) -> Option<ReleaseNotes> {
        let tag = match &version.reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => tag,
            GitRef::Commit(_) => return None,
        };
        let release = match self.upstreams.hosted(package) {
            Some(hosted) => {
                let document = hosted.document(package, &DocumentAsk::Tag(tag.clone())).await.ok()?;
                Arc::new(serde_json::from_slice::<Release>(&document.document.body).ok()?)
            }
            None => {
                let stored = self.documents.stored();
                stored.release(package, tag, &CacheStatus::generated()).await?.value
            }
        };
        let mut characters = release.body.char_indices();
        let end = characters.nth(MAX_NOTE_CHARS).map(|(at, _)| at);
        let text = release.body[..end.unwrap_or(release.body.len())].trim();
        (!text.is_empty()).then(|| ReleaseNotes { text: text.to_owned(), is_cut: end.is_some() })
    }
}

impl<'a> OverviewSubject<'a> {
    /// The package that is stored and checked: of a folder its repository.
    pub(crate) fn package(self) -> &'a PackageId {
        match self {
            Self::Package(package) => package,
            Self::Folder(folder) => &folder.repository,
        }
    }

    fn is_folder(self) -> bool {
        matches!(self, Self::Folder(_))
    }
}

impl KnownVersion {
    /// What its zip was made from: `tag v1.0.0`.
    pub(crate) fn origin(&self) -> String {
        match &self.reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => format!("tag {tag}"),
            GitRef::Commit(commit) => format!("commit {commit}"),
        }
    }

    /// The state of its publication; `None` for a version that was not published on this mirror.
    pub(crate) fn hosted_state(&self) -> Option<&VersionState> {
        self.hosted.as_ref().map(|hosted| &hosted.state)
    }
}

fn unreadable(error: io::Error) -> RegistryError {
    tracing::error!(%error, "the index of the cache cannot be read");
    let error = FetchError::PinsUnavailable { retry_after: UNREADABLE_RETRY };
    RegistryError::Fetch(CacheFailure { error, status: CacheStatus::generated() })
}
