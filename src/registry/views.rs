//! The use cases by subject.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;

use super::{
    Answer, Registry, RegistryError,
    catalog::Catalog,
    inventory::{Item, Selection, Sort},
    resolve::Archive,
    transfer::{DocumentImport, ImportPlan},
    warm::{Lists, WarmingArchive},
};
use crate::{
    cache::{Checked, DiskUsage, ImportError, InventoryEntry, Object, Usage},
    entry::{Digest, DocumentMeta, ExportedArchive, ExportedDocument, Key, Pin},
    origin::FetchError,
    package::{Metadata, PackageId, Release, Releases, Repository, Version},
    upstream::RateLimitStatus,
};

/// Release lists, releases and the repository of a package.
#[derive(Clone, Copy)]
pub struct ReleaseDocuments<'r>(pub(super) &'r Registry);

impl ReleaseDocuments<'_> {
    /// See [`Registry`].
    pub async fn releases(&self, package: &PackageId) -> Result<Answer<Releases>, RegistryError> {
        self.0.releases(package).await
    }

    /// See [`Registry`].
    pub async fn latest(&self, package: &PackageId) -> Result<Answer<Release>, RegistryError> {
        self.0.latest(package).await
    }

    /// See [`Registry`].
    pub async fn release(&self, package: &PackageId, version: &str) -> Result<Answer<Release>, RegistryError> {
        self.0.release(package, version).await
    }

    /// See [`Registry`].
    pub async fn repository(&self, package: &PackageId) -> Result<Answer<Repository>, RegistryError> {
        self.0.repository(package).await
    }
}

/// Zips of versions.
#[derive(Clone, Copy)]
pub struct VersionResolver<'r>(pub(super) &'r Registry);

impl VersionResolver<'_> {
    /// See [`Registry`].
    pub async fn archive(&self, package: &PackageId, version: &Version) -> Result<Archive, RegistryError> {
        self.0.archive(package, version).await
    }

    /// Sets a stored zip aside that its reader found damaged: the next request fetches it again.
    pub async fn quarantine(&self, object: &Object) {
        self.0.cache.quarantine(object).await;
    }
}

/// Metadata records of the Serverless Registry Model.
#[derive(Clone, Copy)]
pub struct MetadataRecords<'r>(pub(super) &'r Registry);

impl MetadataRecords<'_> {
    /// See [`Registry`].
    pub async fn list(&self, package: &PackageId) -> Result<Answer<Vec<Metadata>>, RegistryError> {
        self.0.metadata_list(package).await
    }

    /// See [`Registry`].
    pub async fn record(&self, package: &PackageId, version: &str) -> Result<Answer<Metadata>, RegistryError> {
        self.0.metadata_record(package, version).await
    }
}

/// The list of packages that may be shown.
#[derive(Clone, Copy)]
pub struct CatalogService<'r>(pub(super) &'r Registry);

impl CatalogService<'_> {
    /// See [`Registry`].
    pub async fn list(
        &self,
        named: impl Iterator<Item = PackageId>,
    ) -> Result<(Arc<Catalog>, Duration), RegistryError> {
        self.0.known(named).await
    }
}

/// What the tiers hold, and what the bytes on disk are made of.
#[derive(Clone, Copy, Debug)]
pub struct CacheUsage {
    /// The memory tier.
    pub memory: Usage,
    /// The disk tier.
    pub disk: Usage,
    /// The disk tier by kind of file.
    pub disk_areas: DiskUsage,
}

/// What is stored.
#[derive(Clone, Copy)]
pub struct Inventory<'r>(pub(super) &'r Registry);

impl Inventory<'_> {
    /// The selected zips that are stored.
    pub async fn list(&self, selection: &Selection, sort: Sort) -> io::Result<Vec<InventoryEntry>> {
        self.0.stock(selection, sort).await
    }

    /// The keys of the stored documents of the selected packages; none where versions are selected.
    pub async fn document_keys(&self, selection: &Selection) -> io::Result<Vec<Key>> {
        self.0.stocked_documents(selection).await
    }

    /// The selected keys that are pinned.
    pub async fn pinned_keys(&self, selection: &Selection) -> io::Result<BTreeSet<Key>> {
        self.0.pins_of(selection).await
    }

    /// The selected keys that are kept while nothing is stored under them.
    pub async fn kept_missing_keys(&self, selection: &Selection) -> io::Result<BTreeSet<Key>> {
        self.0.waiting_marks(selection).await
    }

    /// The pin of a key.
    pub async fn pin(&self, key: &Key) -> Result<Option<Arc<Pin>>, FetchError> {
        self.0.cache.pin(key).await
    }

    /// When a tag or commit was first seen; `None` where it never was. Sends no upstream request.
    pub async fn first_seen(&self, package: &PackageId, version: &Version) -> Result<Option<Timestamp>, FetchError> {
        self.0.first_seen(package, version).await
    }

    /// True when the zip of a tag or commit is on disk, as far as the index records. Sends no upstream request.
    pub async fn is_stored(&self, package: &PackageId, version: &Version) -> io::Result<bool> {
        self.0.is_stored(package, version).await
    }

    /// What the tiers hold.
    pub fn usage(&self) -> CacheUsage {
        let ([memory, disk], disk_areas) = self.0.cache.usage();
        CacheUsage { memory, disk, disk_areas }
    }

    /// Number of downloads that are running.
    pub fn fills_running(&self) -> usize {
        self.0.cache.fills_running()
    }

    /// Removes what is stored under a key of a zip; with `forget`, the pin too.
    pub async fn remove(&self, key: &Key, forget: bool) -> io::Result<()> {
        self.0.cache.remove(key, forget).await
    }

    /// Removes a stored document.
    pub async fn remove_document(&self, key: &Key) -> io::Result<()> {
        self.0.cache.discard(key).await
    }

    /// Marks a key as never to be evicted, or removes the mark. True when the key is marked and stored afterwards.
    pub async fn keep(&self, key: &Key, kept: bool) -> io::Result<bool> {
        self.0.cache.disk().keep(key, kept).await
    }

    /// Deletes the quarantined files.
    pub async fn clear_quarantine(&self) -> io::Result<usize> {
        self.0.cache.disk().clean().await
    }

    /// Hashes a stored zip; one that is damaged is quarantined. True when it is intact.
    pub async fn check_blob(&self, digest: &Digest) -> io::Result<bool> {
        self.0.cache.check(digest).await
    }

    /// Reads a stored document; one that is damaged is quarantined, and written again from memory where it is there.
    pub async fn check_document(&self, key: &Key) -> io::Result<Checked> {
        self.0.cache.check_document(key).await
    }

    /// Fetches a zip again and waits until it is stored.
    pub async fn refetch(&self, item: &Item) -> Result<(), FetchError> {
        self.0.refetch(item).await
    }

    /// Fetches a document again and checks that it is stored.
    pub async fn refetch_document(&self, key: &Key) -> Result<(), FetchError> {
        self.0.refetch_document(key).await
    }
}

/// Export and import.
#[derive(Clone, Copy)]
pub struct Transfer<'r>(pub(super) &'r Registry);

impl Transfer<'_> {
    /// What an export says of a stored zip; `None` when it has been removed or quarantined since it was listed.
    pub async fn describe(&self, key: &Key) -> io::Result<Option<ExportedArchive>> {
        let pin = self.0.cache.pin(key).await.map_err(io::Error::other)?;
        let Some(meta) = self.0.cache.disk().describe(key).await? else { return Ok(None) };
        let first_seen = pin.map_or(meta.stored_at, |pin| pin.first_seen);
        Ok(Some(ExportedArchive { key: key.clone(), first_seen, meta: (*meta).clone() }))
    }

    /// A stored document for export; `None` when it is absent, unreadable or not UTF-8.
    pub async fn export_document(&self, key: &Key) -> Option<ExportedDocument> {
        let document = self.0.cache.peek_document(key).await?;
        let body = String::from_utf8(document.body.to_vec()).ok()?;
        Some(ExportedDocument { key: key.clone(), meta: (*document.meta).clone(), body })
    }

    /// The stored zip of a key for export: reading it changes neither the order of use nor any count.
    pub async fn open(&self, key: &Key) -> io::Result<Option<Object>> {
        self.0.cache.object(key).await
    }

    /// What [`Transfer::import`] would do with a zip.
    pub async fn plan(&self, archive: &ExportedArchive) -> Result<ImportPlan, FetchError> {
        let pin = self.0.cache.pin(&archive.key).await?;
        Ok(match pin {
            _ if !self.0.has_place(archive) => ImportPlan::Refused,
            Some(pin) if pin.verified.manifest != archive.meta.verified.manifest => ImportPlan::Conflict,
            // The same content in another packing is what clients were promised here: it stays.
            _ if self.0.cache.is_on_disk(&archive.key).await => ImportPlan::Stored,
            _ => ImportPlan::Wanted,
        })
    }

    /// Imports a zip. With `force`, a pin to other content is replaced.
    pub async fn import(
        &self,
        archive: ExportedArchive,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        force: bool,
    ) -> Result<(), ImportError> {
        self.0.import(archive, body, force).await
    }

    /// True for a document with a key as the mirror makes them, of a configured upstream, whose body has the kind that
    /// the key names.
    pub fn accepts_document(&self, key: &Key, body: &[u8]) -> bool {
        self.0.is_document(key, body)
    }

    /// True when a document is stored on disk that equals this one or was validated at least as late.
    pub async fn has_document(&self, key: &Key, meta: &DocumentMeta) -> io::Result<bool> {
        self.0.cache.has_document(key, meta).await
    }

    /// Imports a document, unless the stored one was validated later.
    pub async fn import_document(&self, document: ExportedDocument) -> Result<DocumentImport, ImportError> {
        let stored = self.0.import_document(document).await?;
        Ok(if stored { DocumentImport::Stored } else { DocumentImport::Older })
    }
}

/// Filling the cache ahead of the clients.
#[derive(Clone, Copy)]
pub struct Warming<'r>(pub(super) &'r Registry);

impl Warming<'_> {
    /// Stores the release list and the latest release of a package.
    pub async fn lists(&self, package: &PackageId) -> Result<Lists, RegistryError> {
        self.0.warm_lists(package).await
    }

    /// Starts or joins the fill of a version. Dropping the result does not stop the fill.
    pub async fn archive(&self, package: &PackageId, version: &Version) -> Result<WarmingArchive, RegistryError> {
        self.0.warm(package, version).await
    }

    /// What the package's upstream still allows.
    pub fn rate_limit(&self, package: &PackageId) -> RateLimitStatus {
        self.0.allowance(package)
    }
}
