//! The packages that are published on this mirror, as the use cases see them: documents and archives like those of an
//! upstream, made of the records and read from the store. Nothing of them goes through the cache.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{RegistryError, not_found};
use crate::{
    blocking::spawn_blocking,
    cache::{ArchiveAnswer, ArchiveAvailability, Object, ServedArchive, documents::DocumentAnswer},
    clock::Clock,
    entry::{Digest, Document, DocumentMeta, Key, Meta, UpstreamStatus, Validators},
    hosted::{
        HostedPackage, HostedStore, HostedVersion, ReleaseRecord, VersionNumber, discard_copy, is_copy, on_zip_removal,
    },
    http::cache_status::CacheStatus,
    origin::{Missing, Verify},
    package::{MovingHead, PackageId, PackageName, Release, Releases, Repository},
    upstream::{DocumentAsk, GitRef},
    value::bounded_cache::BoundedCache,
};

mod copied;
mod publishable_version;
mod publishing;
mod publishing_error;
mod reservations;
mod reserved_upload;
mod shared_reservations;
mod shared_tasks;
mod upkeep;
mod uploads;
mod upstream;

pub(crate) use crate::hosted::FailedPublication;
use copied::CopiedPackages;
pub(crate) use copied::{NameUse, find_new, follower};
pub(crate) use publishable_version::PublishableVersion;
pub(crate) use publishing::{PublicationDetails, RunningUpload, check_is_new, manifest_digest};
pub(crate) use publishing_error::{NotReserved, PublishingError, VERSION_UNWRITABLE};
pub(crate) use reservations::{AnnouncedPackage, NewReservation, ReservedVersions};
pub(crate) use reserved_upload::{ReservedUpload, all_failed_publications, failed_publications, record_failure};
pub(crate) use shared_reservations::{check_reservation, reserve_version};
pub(crate) use upkeep::HostedUpkeep;
use uploads::Uploads;
pub(super) use upstream::HostedUpstream;

pub(crate) use crate::hosted::{Prunable, PruneOutcome, PrunedPart, RetentionCheck, RetentionRule};

/// What `Cache-Status` calls the store.
const HOSTED_TIER: &str = "hosted";
/// How long a response may be sent again without reading the store, in seconds. Every change ends that at once.
const HOSTED_FRESH_SECONDS: i64 = 1;
/// Largest number of open zips without readers.
const MAX_OPEN_ZIPS: u64 = 128;
/// Largest size of all lists in memory, in bytes.
const MAX_HOSTED_LIST_BYTES: u64 = 16 << 20;
/// What an entry of that cache needs besides its texts, in bytes.
const LIST_OVERHEAD_BYTES: usize = 256;
/// Digits of a digest that identify what a moving version is at present.
const HOSTED_REVISION_DIGITS: usize = 40;

/// The published packages of the upstream of this name.
pub(crate) struct HostedPackages {
    upstream: Arc<str>,
    store: Arc<HostedStore>,
    /// Zips that were opened a short time ago, so that a hit need not open them again.
    open: BoundedCache<Digest, Object>,
    /// The release lists of packages.
    lists: BoundedCache<Key, HostedList>,
    uploads: Uploads,
    /// What is looked up and downloaded where the store is a copy.
    copied: CopiedPackages,
    /// The versions whose zips are to follow.
    pub(crate) reserved: ReservedVersions,
    verify: Arc<dyn Verify>,
    max_zip_bytes: u64,
}

/// The release list of one package.
#[derive(Clone)]
struct HostedList {
    /// [`HostedStore::changes`] before the list was made: it is current while that is the same.
    changes: u64,
    document: Document,
}

impl HostedPackages {
    /// The packages of a store.
    ///
    /// Every zip must pass `verify` before it is published, and may have at most `max_zip_bytes`.
    pub(crate) fn new(
        upstream: &str,
        store: HostedStore,
        verify: Arc<dyn Verify>,
        max_zip_bytes: u64,
        clock: Clock,
    ) -> Self {
        let open = BoundedCache::<_, Object>::new(MAX_OPEN_ZIPS);
        let removed = open.clone();
        on_zip_removal(&store, move |digest| removed.discard(digest));
        Self {
            upstream: upstream.into(),
            store: Arc::new(store),
            open,
            lists: BoundedCache::new(MAX_HOSTED_LIST_BYTES),
            uploads: Uploads::default(),
            copied: CopiedPackages::new(clock),
            reserved: ReservedVersions::default(),
            verify,
            max_zip_bytes,
        }
    }

    /// The name of the upstream.
    pub(crate) fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// Largest zip that can be published, in bytes.
    pub(crate) fn max_zip_bytes(&self) -> u64 {
        self.max_zip_bytes
    }

    /// The store.
    pub(super) fn store(&self) -> &Arc<HostedStore> {
        &self.store
    }

    /// The package of this name, in any case, under the name of its first publication; `None` for a name that was never
    /// published. A package whose versions are all deleted still counts as published.
    pub(crate) fn published_id(&self, name: &PackageName) -> Option<PackageId> {
        let package = self.store.package(name.base_name())?;
        let name = PackageName::plain(&package.name).ok()?;
        Some(PackageId { upstream: self.upstream.clone(), name })
    }

    /// A document of a package, made of its records.
    ///
    /// # Errors
    /// `NotFound`; [`RegistryError::DamagedZip`] for a record that cannot be read; [`RegistryError::HostedUnavailable`] where
    /// this store is a copy and the primary store cannot be asked.
    pub(super) async fn document(
        &self,
        package: &PackageId,
        ask: &DocumentAsk,
    ) -> Result<DocumentAnswer, RegistryError> {
        let absent = |missing| not_found(missing, status());
        let known = self.store.package(package.name.base_name());
        let asked_version = match ask {
            DocumentAsk::Tag(version) | DocumentAsk::Moving(version) => Some(version.as_str()),
            _ => None,
        };
        let is_known = |known: &Arc<HostedPackage>| asked_version.is_none_or(|asked| known.version(asked).is_some());
        let known = if known.as_ref().is_some_and(is_known) {
            known
        } else {
            copied::look_up(self, package.name.base_name(), asked_version).await?;
            self.store.package(package.name.base_name())
        };
        let published = known.ok_or_else(|| absent(Missing::Package))?;
        match ask {
            DocumentAsk::Releases => Ok(self.release_list(package)),
            DocumentAsk::Latest => {
                let latest = published.latest().ok_or_else(|| absent(Missing::Release))?;
                self.release(package, latest).await
            }
            DocumentAsk::Tag(tag) => {
                let version = published.version(tag).filter(|version| version.is_served());
                self.release(package, version.ok_or_else(|| absent(Missing::Version))?).await
            }
            DocumentAsk::Repository => Ok(answer(&Repository {
                full_name: published.name.clone(),
                private: false,
                default_branch: String::new(),
                rest: serde_json::Map::new(),
            })),
            DocumentAsk::Moving(tag) => {
                let version = published.version(tag).filter(|version| version.is_served());
                let version = version.ok_or_else(|| absent(Missing::Version))?;
                Ok(answer(&MovingHead { revision: revision(version) }))
            }
            DocumentAsk::Tags | DocumentAsk::Branches | DocumentAsk::Branch(_) => Err(absent(Missing::Version)),
        }
    }

    /// The release list. Made again only after a change.
    fn release_list(&self, package: &PackageId) -> DocumentAnswer {
        // Read before the package: a list that is made during a change is made again.
        let changes = self.store.changes();
        let name = package.name.folded();
        if let Some(list) = self.lists.get(&Key::new(name.as_str())).filter(|list| list.changes == changes) {
            return DocumentAnswer { document: list.document, age: Duration::ZERO, status: status() };
        }
        let published = self.store.package(&name).unwrap_or_default();
        let releases = published.listed().into_iter().map(|version| release(version, String::new())).collect();
        let list = answer(&Releases { releases, ..Releases::default() });
        let weight = name.len() + list.document.body.len() + LIST_OVERHEAD_BYTES;
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.lists.insert_weighed(Key::new(name), HostedList { changes, document: list.document.clone() }, weight);
        list
    }

    async fn release(&self, package: &PackageId, version: &HostedVersion) -> Result<DocumentAnswer, RegistryError> {
        let record = self.record(package, version).await?;
        Ok(answer(&release(version, record.form.version_body)))
    }

    async fn record(&self, package: &PackageId, version: &HostedVersion) -> Result<ReleaseRecord, RegistryError> {
        let store = self.store.clone();
        let name = package.name.base_name().to_owned();
        let number = version.version.clone();
        let record = spawn_blocking(move || store.record(&name, &number)).await.map_err(io::Error::other);
        record.flatten().map_err(|error| damaged(package, &version.version, &error))
    }

    /// The version of a reference, if it is served.
    fn version(&self, package: &PackageId, reference: &GitRef) -> Option<HostedVersion> {
        let published = self.store.package(package.name.base_name())?;
        match reference {
            GitRef::Tag(tag) => published.version(tag).filter(|version| version.is_served()).cloned(),
            GitRef::Moving { version, revision: wanted } => published
                .version(version)
                .filter(|version| version.is_served() && revision(version) == *wanted)
                .cloned(),
            GitRef::Commit(_) => None,
        }
    }

    /// The archive of a reference.
    ///
    /// # Errors
    /// `NotFound(Version)`; [`RegistryError::DamagedZip`] for a record or a zip that cannot be read; where this store is a
    /// copy, also what keeps the zip from being downloaded.
    pub(super) async fn archive(
        &self,
        package: &PackageId,
        reference: &GitRef,
    ) -> Result<ArchiveAnswer, RegistryError> {
        let mut version = self.version(package, reference);
        if version.is_none()
            && let Some(asked) = asked_version(reference)
        {
            copied::look_up(self, package.name.base_name(), Some(asked)).await?;
            version = self.version(package, reference);
        }
        let version = version.ok_or_else(|| not_found(Missing::Version, status()))?;
        let object = match self.open.get(&version.digest) {
            Some(object) => {
                self.store.note_use(&version.digest);
                object
            }
            None => self.open(package, &version).await?,
        };
        Ok(ArchiveAnswer { served: ServedArchive::Stored(object), age: Duration::ZERO, status: status() })
    }

    /// Opens a zip. Its bytes are compared with its digest the first time after a start. Where this store is a copy, a zip
    /// that is missing or damaged is downloaded.
    async fn open(&self, package: &PackageId, version: &HostedVersion) -> Result<Object, RegistryError> {
        let record = self.record(package, version).await?;
        let digest = version.digest;
        let blob = record.blob.clone();
        let meta = Arc::new(Meta {
            digest,
            len: version.len,
            stored_at: version.published_at,
            anonymous: true,
            verified: record.verified,
        });
        let mut object = open_here(&self.store, meta.clone()).await;
        if object.is_err() && is_copy(&self.store) {
            copied::download(self, package, version, blob).await?;
            object = open_here(&self.store, meta).await;
        }
        let object = object.map_err(|error| damaged(package, &version.version, &error))?;
        self.open.insert(digest, object.clone());
        Ok(object)
    }

    /// Whether a reference is served, and the length of its zip.
    pub(super) fn availability(&self, package: &PackageId, reference: &GitRef) -> ArchiveAvailability {
        let version = self.version(package, reference);
        ArchiveAvailability { on_disk: version.is_some(), len: version.map(|version| version.len) }
    }

    /// The reference of the present revision of a moving version.
    pub(super) fn moving_reference(&self, package: &PackageId, version: &str) -> Option<GitRef> {
        let published = self.store.package(package.name.base_name())?;
        let found = published.version(version).filter(|version| version.is_served())?;
        Some(GitRef::Moving { version: version.to_owned(), revision: revision(found) })
    }
}

/// The version that a reference names; `None` for a commit.
fn asked_version(reference: &GitRef) -> Option<&str> {
    match reference {
        GitRef::Tag(version) | GitRef::Moving { version, .. } => Some(version),
        GitRef::Commit(_) => None,
    }
}

/// Opens a zip in the directory of this mirror, as [`HostedPackages::open`] does.
async fn open_here(store: &Arc<HostedStore>, meta: Arc<Meta>) -> io::Result<Object> {
    let store = store.clone();
    let opened = spawn_blocking(move || {
        let digest = meta.digest;
        let file = store.open_zip(&digest)?;
        if !store.is_checked(&digest) {
            if Digest::of_file(&file)? != digest {
                discard_copy(&store, &digest);
                return Err(io::ErrorKind::InvalidData.into());
            }
            store.set_checked(&digest);
        }
        Ok(Object::of_file(file, meta, HOSTED_TIER))
    });
    opened.await.map_err(io::Error::other).flatten()
}

fn status() -> CacheStatus {
    CacheStatus::hit(Some(HOSTED_FRESH_SECONDS)).detail(HOSTED_TIER)
}

/// The error for a record or a zip of the store that cannot be read.
fn damaged(package: &PackageId, version: &str, error: &io::Error) -> RegistryError {
    tracing::error!(%package, version, %error, "a published version cannot be read");
    RegistryError::DamagedZip { status: status().failed() }
}

fn release(version: &HostedVersion, body: String) -> Release {
    let is_prerelease = match version.version.parse::<VersionNumber>() {
        Ok(number) => number.semantic().is_none_or(|semantic| !semantic.pre.is_empty()),
        Err(_) => true,
    };
    Release {
        tag_name: version.version.to_string(),
        name: Some(version.version.to_string()),
        created_at: version.published_at,
        published_at: Some(version.published_at),
        prerelease: is_prerelease,
        body,
        assets: Vec::new(),
        rest: serde_json::Map::new(),
    }
}

fn revision(version: &HostedVersion) -> String {
    let mut digits = version.digest.to_string();
    digits.truncate(HOSTED_REVISION_DIGITS);
    digits
}

/// A document that was made just now.
fn answer(value: &impl Serialize) -> DocumentAnswer {
    // None of the values has a map with keys that are no text: writing them cannot fail.
    let body = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    let now = Timestamp::now();
    let meta = DocumentMeta {
        digest: Digest::of(&body),
        validated_at: now,
        changed_at: now,
        validators: Validators::default(),
        upstream_status: UpstreamStatus::Present,
    };
    DocumentAnswer { document: Document { meta: Arc::new(meta), body }, age: Duration::ZERO, status: status() }
}
