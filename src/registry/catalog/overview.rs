//! What is known of one package: its versions, each with its zip, its release and what the rules say of it. Read from what is
//! stored; no upstream is asked.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    admin_api::RefKind,
    archive::ZipFacts,
    cache::{Cache, CacheFailure, InventoryEntry},
    entry::Key,
    hosted::{HostedVersion, VersionState},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{ModelFinding, PackageId, Release, semantic},
    registry::{
        Blocks, RegistryError,
        archive_source::ArchiveSource,
        authorize::{Authorizer, Visibility},
        keys::{archive_key, parse_archive_key, tag_prefix},
        not_found,
        package_documents::PackageDocuments,
        upstreams::Upstreams,
    },
    upstream::{DocumentAsk, GitRef},
};

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
    blocks: Arc<Blocks>,
}

/// What [`PackageOverview`] is built on.
pub(in crate::registry) struct OverviewParts {
    pub(in crate::registry) cache: Arc<Cache>,
    pub(in crate::registry) authorizer: Arc<Authorizer>,
    pub(in crate::registry) documents: Arc<PackageDocuments>,
    pub(in crate::registry) archives: Arc<ArchiveSource>,
    pub(in crate::registry) upstreams: Upstreams,
    pub(in crate::registry) blocks: Arc<Blocks>,
}

/// A version of which a zip, a pin, a release or a publication is known.
#[derive(Clone, Debug)]
pub(crate) struct KnownVersion {
    /// Its name.
    pub(crate) version: String,
    /// What it was fetched by.
    pub(crate) kind: RefKind,
    /// What its zip is stored under.
    reference: GitRef,
    /// When it was released, as its release list says.
    pub(crate) released_at: Option<Timestamp>,
    /// True where the release list calls it a prerelease.
    pub(crate) is_prerelease: bool,
    /// True when its content is pinned, stored or not.
    pub(crate) is_pinned: bool,
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
    /// Why the operator has blocked it.
    pub(crate) blocked: Option<Arc<str>>,
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
        let OverviewParts { cache, authorizer, documents, archives, upstreams, blocks } = parts;
        Self { cache, authorizer, documents, archives, upstreams, blocks }
    }

    /// Checks that a package may be shown, as the catalog does. Only where stored documents do not say whether it is public
    /// is its upstream asked.
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

    /// The versions that are known. Reads a bounded part of the index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn versions(&self, package: &PackageId) -> Result<KnownVersions, RegistryError> {
        let mut known = Collected::default();
        if let Some(hosted) = self.upstreams.hosted(package) {
            known.is_truncated = false;
            for version in hosted.store().package(package.name.base_name()).iter().flat_map(|found| found.versions()) {
                let reference = GitRef::Tag(version.version.to_string());
                known.at(reference).hosted = Some(version.clone());
            }
            return Ok(known.sorted());
        }
        let inventory = self.cache.disk().inventory();
        let stored = inventory.first_keys_with_prefix(&format!("{}/", package.key_prefix()), MAX_KNOWN_VERSIONS).await;
        let stored = stored.map_err(unreadable)?;
        let pins = self.cache.disk().pins();
        let pinned = pins.first_keys_with_prefix(&tag_prefix(package), MAX_KNOWN_VERSIONS).await.map_err(unreadable)?;
        known.is_truncated = stored.len() == MAX_KNOWN_VERSIONS || pinned.len() == MAX_KNOWN_VERSIONS;
        for key in &stored {
            known.note(key);
        }
        for key in &pinned {
            if let Some(version) = known.note(key) {
                version.is_pinned = true;
            }
        }
        if let Some(list) = self.documents.stored().releases(package).await {
            known.is_truncated |= list.truncated;
            for release in &list.releases {
                let version = known.at(GitRef::Tag(release.tag_name.clone()));
                version.released_at = Some(release.published_at.unwrap_or(release.created_at));
                version.is_prerelease = release.prerelease;
            }
        }
        Ok(known.sorted())
    }

    /// These versions in detail. Call it for the versions of one page: it reads a file for each.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn details(
        &self,
        package: &PackageId,
        versions: Vec<KnownVersion>,
    ) -> Result<Vec<VersionDetails>, RegistryError> {
        let keys = versions.iter().map(|known| archive_key(package, &known.reference)).collect();
        let entries = self.cache.disk().inventory().entries(keys).await.map_err(unreadable)?;
        let mut zips: HashMap<Key, InventoryEntry> =
            entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let mut details = Vec::new();
        for known in versions {
            let zip = zips.remove(&archive_key(package, &known.reference));
            let is_served = known.hosted.as_ref().is_some_and(HostedVersion::is_served);
            let findings = if zip.is_some() || is_served {
                let meta = self.archives.stored_meta(package, &known.reference).await;
                meta.and_then(|meta| ZipFacts::model_findings_in(&meta.verified.facts))
            } else {
                None
            };
            let blocked = self.blocks.reason(package, &known.version);
            details.push(VersionDetails { known, zip, blocked, findings });
        }
        Ok(details)
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
        let pin = self.archives.pin(package, &version.reference).await;
        let pin = pin.map_err(|error| CacheFailure { error, status: CacheStatus::generated() })?;
        Ok(pin.map(|pin| pin.first_seen))
    }

    /// The notes of a release, as far as a stored document has them.
    pub(crate) async fn notes(&self, package: &PackageId, version: &KnownVersion) -> Option<ReleaseNotes> {
        let release = match self.upstreams.hosted(package) {
            Some(hosted) => {
                let document = hosted.document(package, &DocumentAsk::Tag(version.version.clone())).await.ok()?;
                Arc::new(serde_json::from_slice::<Release>(&document.document.body).ok()?)
            }
            None => {
                let stored = self.documents.stored();
                stored.release(package, &version.version, &CacheStatus::generated()).await?.value
            }
        };
        let mut characters = release.body.char_indices();
        let end = characters.nth(MAX_NOTE_CHARS).map(|(at, _)| at);
        let text = release.body[..end.unwrap_or(release.body.len())].trim();
        (!text.is_empty()).then(|| ReleaseNotes { text: text.to_owned(), is_cut: end.is_some() })
    }
}

impl KnownVersion {
    /// What became of its publication, where it is not an ordinary one.
    pub(crate) fn hosted_state(&self) -> Option<&VersionState> {
        self.hosted.as_ref().map(|hosted| &hosted.state)
    }
}

/// Versions by kind and name, while they are collected.
#[derive(Default)]
struct Collected {
    versions: BTreeMap<String, KnownVersion>,
    is_truncated: bool,
}

impl Collected {
    /// The version of an archive's key; `None` for another key.
    fn note(&mut self, key: &Key) -> Option<&mut KnownVersion> {
        let (_, reference) = parse_archive_key(key)?;
        Some(self.at(reference))
    }

    fn at(&mut self, reference: GitRef) -> &mut KnownVersion {
        let (kind, version) = match &reference {
            GitRef::Tag(version) => (RefKind::Tag, version),
            GitRef::Commit(version) => (RefKind::Commit, version),
            GitRef::Moving { version, .. } => (RefKind::Moving, version),
        };
        let version = version.clone();
        // A moving version is one row: that of a tag, where its release list has it.
        let id = if kind == RefKind::Commit { format!("/{version}") } else { version.clone() };
        let known = self.versions.entry(id).or_insert_with(|| KnownVersion {
            version,
            kind,
            reference: reference.clone(),
            released_at: None,
            is_prerelease: false,
            is_pinned: false,
            hosted: None,
        });
        if kind == RefKind::Moving {
            known.kind = kind;
            known.reference = reference;
        }
        known
    }

    fn sorted(self) -> KnownVersions {
        let mut versions: Vec<KnownVersion> = self.versions.into_values().collect();
        versions.sort_by_cached_key(|known| {
            let number = if known.kind == RefKind::Tag { semantic(&known.version) } else { None };
            Reverse((number, known.kind == RefKind::Moving, known.version.clone()))
        });
        KnownVersions { versions, is_truncated: self.is_truncated }
    }
}

fn unreadable(error: io::Error) -> RegistryError {
    tracing::error!(%error, "the index of the cache cannot be read");
    let error = FetchError::PinsUnavailable { retry_after: UNREADABLE_RETRY };
    RegistryError::Fetch(CacheFailure { error, status: CacheStatus::generated() })
}
