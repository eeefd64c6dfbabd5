//! What is stored, by package and version: listed, checked, kept, removed, fetched again.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    ops::RangeInclusive,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    RegistryError,
    archive_source::ArchiveSource,
    authorize::Authorizer,
    document_removal::DocumentRemoval,
    hosting::HostedUpkeep,
    inventory_page::InventoryPage,
    keys::{archive_key, is_pinned_key, parse_archive_key, parse_document_key},
    package_documents::PackageDocuments,
};
use crate::{
    admin_api::{InventoryOrder, RefKind},
    archive::ZipFacts,
    cache::{
        Cache, CacheFailure, CacheUsage, DocumentCheck, Integrity, InventoryEntry, KeepChange, RemovedBy,
        fill_watcher::FillUpdate,
    },
    entry::{Digest, Key, Pin},
    origin::{FetchError, Missing},
    package::{ModelFinding, PackageId, Version},
    upstream::GitRef,
};

pub(crate) use super::{
    keys::parse_package,
    selection::{Selection, SelectionError},
};

/// The first bytes of all digests.
pub(crate) const ALL_SHARDS: RangeInclusive<u8> = 0..=u8::MAX;

/// One stored archive.
#[derive(Clone, Debug)]
pub struct StoredArchive {
    /// Its package. The key names it, so it is in lower case.
    pub package: PackageId,
    /// The reference that it was fetched by.
    pub reference: GitRef,
    /// What the index says of it.
    pub entry: InventoryEntry,
}

impl StoredArchive {
    /// Reads package and reference from the key; `None` when it is not the key of an archive.
    pub fn of(entry: InventoryEntry) -> Option<Self> {
        let (package, reference) = parse_archive_key(&entry.key)?;
        Some(Self { package, reference, entry })
    }

    /// The tag or the commit.
    pub fn version(&self) -> &str {
        let (GitRef::Tag(version) | GitRef::Commit(version) | GitRef::Moving { version, .. }) = &self.reference;
        version
    }

    /// What it was fetched by.
    pub fn kind(&self) -> RefKind {
        match self.reference {
            GitRef::Tag(_) => RefKind::Tag,
            GitRef::Commit(_) => RefKind::Commit,
            GitRef::Moving { .. } => RefKind::Moving,
        }
    }
}

/// What is stored of one package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredCounts {
    /// The number of archives.
    pub archives: usize,
    /// The number of documents.
    pub documents: usize,
}

/// Pinned keys that are read at once where pins are forgotten.
const FORGOTTEN_KEYS_STEP: usize = 4096;

/// Administration of stored archives and documents.
pub struct Inventory {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
}

impl Inventory {
    pub(super) fn new(
        cache: Arc<Cache>,
        authorizer: Arc<Authorizer>,
        documents: Arc<PackageDocuments>,
        archives: Arc<ArchiveSource>,
    ) -> Self {
        Self { cache, authorizer, documents, archives }
    }

    /// At most `max_entries` of the selected archives and published versions, in this order: those that follow `after`, or
    /// the first ones. Reads the whole index, and holds one page of it in memory.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn list_page(
        &self,
        selection: &Selection,
        order: InventoryOrder,
        after: Option<InventoryEntry>,
        max_entries: usize,
    ) -> io::Result<Vec<InventoryEntry>> {
        let mut page = InventoryPage::new(order, after, max_entries);
        if let Some(hosted) = self.archives.hosting() {
            page = HostedUpkeep::of(hosted).fold(selection.clone(), page, InventoryPage::add).await?;
        }
        let selection = selection.clone();
        let inventory = self.cache.disk().inventory();
        let page =
            inventory.fold(ALL_SHARDS, move |key| selection.selects_archive(key), page, InventoryPage::add).await?;
        Ok(page.into_entries())
    }

    /// Passes the selected archives that are stored, and whose digest begins with one of the bytes `shards`, to `add`, in
    /// order of digests. Holds few of them in memory.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn fold<T: Send + 'static>(
        &self,
        shards: RangeInclusive<u8>,
        selection: &Selection,
        sum: T,
        add: impl Fn(&mut T, InventoryEntry) + Send + 'static,
    ) -> io::Result<T> {
        let selection = selection.clone();
        self.cache.disk().inventory().fold(shards, move |key| selection.selects_archive(key), sum, add).await
    }

    /// How much is stored of a package. Reads the whole index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn stored_counts(&self, package: &PackageId) -> io::Result<StoredCounts> {
        if let Some(hosted) = self.archives.hosting().filter(|_| self.archives.is_hosted(package)) {
            return Ok(StoredCounts { archives: HostedUpkeep::of(hosted).served_count(package), documents: 0 });
        }
        let wanted = package.clone();
        let is_of = move |key: &Key| parse_package(key).is_some_and(|package| package == wanted);
        let documents = self.cache.disk().documents().keys().await?;
        let documents = documents.iter().filter(|key| is_of(key)).count();
        Ok(StoredCounts { archives: self.cache.archive_tiers().inventory(is_of).await?.len(), documents })
    }

    /// The keys of the stored documents of the selected packages, in order; none when versions are selected.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn document_keys(&self, selection: &Selection) -> io::Result<Vec<Key>> {
        let mut keys = self.cache.disk().documents().keys().await?;
        keys.retain(|key| parse_package(key).is_some_and(|package| selection.selects(&package, None)));
        keys.sort_unstable();
        Ok(keys)
    }

    /// The selected keys that are marked as kept while nothing is stored under them.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn kept_missing_keys(&self, selection: &Selection) -> io::Result<BTreeSet<Key>> {
        let keys = self.cache.disk().inventory().kept_missing_keys().await?;
        Ok(keys.into_iter().filter(|key| selection.selects_archive(key)).collect())
    }

    /// Where a stored zip does not conform to the package model; `None` where an earlier release has verified it, and where
    /// its description cannot be read.
    pub async fn model_findings(&self, archive: &StoredArchive) -> Option<Vec<ModelFinding>> {
        let meta = self.archives.stored_meta(&archive.package, &archive.reference).await?;
        ZipFacts::model_findings_in(&meta.verified.facts)
    }

    /// The pin of a key.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub async fn pin(&self, key: &Key) -> Result<Option<Arc<Pin>>, FetchError> {
        self.cache.pins().get(key).await
    }

    /// When a tag or commit was first seen; `None` when it never was. Sends no upstream request.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub async fn first_seen(&self, package: &PackageId, version: &Version) -> Result<Option<Timestamp>, FetchError> {
        let Some(reference) = self.archives.immutable_reference(package, version) else { return Ok(None) };
        if let (Some(hosted), GitRef::Tag(tag)) = (self.archives.hosting(), &reference)
            && self.archives.is_hosted(package)
        {
            return Ok(HostedUpkeep::of(hosted).published_at(package, tag));
        }
        Ok(self.archives.pin(package, &reference).await?.map(|pin| pin.first_seen))
    }

    /// True when the index has the archive of a tag or commit. Sends no upstream request.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn is_stored(&self, package: &PackageId, version: &Version) -> io::Result<bool> {
        let Some(reference) = self.archives.immutable_reference(package, version) else { return Ok(false) };
        if self.archives.is_hosted(package) {
            return Ok(self.archives.availability(package, &reference).await.on_disk);
        }
        self.cache.disk().inventory().contains(&archive_key(package, &reference)).await
    }

    /// What both tiers hold.
    pub fn usage(&self) -> CacheUsage {
        self.cache.usage()
    }

    /// Number of fills that are running.
    pub fn fills_running(&self) -> usize {
        self.cache.archives().running_fills()
    }

    /// Removes the archives of keys. Their pins stay.
    ///
    /// # Errors
    /// The first one, when an archive cannot be removed from disk; the others are removed all the same.
    pub(super) async fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        self.cache.archives().remove_all(keys).await
    }

    /// Removes the selected pins, with the zips that are stored under them: the next fetch of each may have other content.
    /// Returns how many there are; without `by`, a dry run, removes none. `except` are keys whose pins stay, as do those that
    /// were first seen after the removal on another mirror.
    ///
    /// # Errors
    /// The first one, when a pin cannot be read or removed.
    pub async fn forget_pins(
        &self,
        selection: &Selection,
        except: &HashSet<Key>,
        by: Option<RemovedBy>,
    ) -> io::Result<usize> {
        let mut count = 0;
        let mut after = String::new();
        loop {
            let mut keys = self.cache.disk().pins().keys_after(&after, FORGOTTEN_KEYS_STEP).await?;
            let Some(last) = keys.last() else { return Ok(count) };
            last.as_str().clone_into(&mut after);
            keys.retain(|key| selection.selects_archive(key) && !except.contains(key));
            if let Some(RemovedBy::OtherMirror { at }) = by {
                keys = self.cache.pins().seen_until(keys, at).await?;
            }
            count += keys.len();
            if let Some(by) = by.filter(|_| !keys.is_empty()) {
                self.cache.archives().remove_all(&keys).await?;
                self.cache.archives().forget_pins(keys.clone(), by).await?;
                // Again: a request in between may have fetched the old content, or remembered that it differs from the pin.
                self.cache.archives().remove_all(&keys).await?;
            }
        }
    }

    /// The removal of documents.
    pub(crate) fn document_removal(&self) -> DocumentRemoval<'_> {
        DocumentRemoval::new(&self.cache)
    }

    /// The blobs of revisions among these zips that were written here after this time. The entry of an imported one has the
    /// earlier time of its fetch elsewhere.
    pub(super) async fn revisions_written_after(
        &self,
        entries: &[InventoryEntry],
        at: Timestamp,
    ) -> io::Result<HashSet<Digest>> {
        let revisions = entries.iter().filter(|entry| !is_pinned_key(&entry.key));
        let blobs: Vec<_> = revisions.map(|entry| entry.digest).collect();
        if blobs.is_empty() {
            return Ok(HashSet::new());
        }
        self.cache.disk().inventory().written_after(blobs, at).await
    }

    /// Removes the marks of keys under which nothing is stored.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub async fn clear_marks(&self, keys: Vec<Key>) -> io::Result<()> {
        self.cache.disk().inventory().clear_marks(keys).await
    }

    /// Marks the archives of keys as never to be evicted, or removes the marks. Returns how many of them are stored.
    ///
    /// # Errors
    /// When a mark cannot be written.
    pub async fn mark(&self, keys: Vec<Key>, change: KeepChange) -> io::Result<usize> {
        self.cache.disk().inventory().mark_all(keys, change == KeepChange::Keep).await
    }

    /// Deletes quarantined files, and returns how many there were.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub async fn clear_quarantine(&self) -> io::Result<usize> {
        self.cache.disk().inventory().clean().await
    }

    /// Hashes a stored archive. A damaged one is quarantined.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn check_blob(&self, digest: &Digest) -> io::Result<Integrity> {
        self.cache.archive_tiers().check_blob(digest).await
    }

    /// Reads a stored document. A damaged one is quarantined, and written again from memory when it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn check_document(&self, key: &Key) -> io::Result<DocumentCheck> {
        self.cache.document_tiers().check(key).await
    }

    /// Fetches an archive again, and waits until it is stored.
    ///
    /// # Errors
    /// Why the archive is not stored.
    pub async fn refetch(&self, archive: &StoredArchive) -> Result<(), FetchError> {
        self.authorizer.authorize(&archive.package).await.map_err(cause)?;
        let mut watcher = self.archives.watch(&archive.package, archive.reference.clone()).map_err(cause)?;
        while let FillUpdate::Progress { .. } = watcher.next().await.map_err(|failure| failure.error)? {}
        Ok(())
    }

    /// Fetches a damaged document again, and checks that it is stored.
    ///
    /// # Errors
    /// Why the document is not stored.
    pub async fn refetch_document(&self, key: &Key) -> Result<(), FetchError> {
        let unknown = || FetchError::Refused("its key names no document".into());
        let (package, ask) = parse_document_key(key).ok_or_else(unknown)?;
        self.authorizer.authorize(&package).await.map_err(cause)?;
        self.documents.refetch(&package, ask).await.map_err(cause)?;
        match self.cache.document_tiers().check(key).await {
            Ok(DocumentCheck::Intact | DocumentCheck::Repaired) => Ok(()),
            _ => Err(FetchError::Refused("it cannot be stored".into())),
        }
    }
}

fn cause(error: RegistryError) -> FetchError {
    match error {
        RegistryError::Fetch(CacheFailure { error, .. }) => error,
        RegistryError::NoFolder { .. } => FetchError::NotFound(Missing::Version),
        RegistryError::NotConforming { .. } => {
            FetchError::Refused("the package does not conform to the package model".into())
        }
        RegistryError::NotCollected => FetchError::Refused("the packages are being collected".into()),
        RegistryError::HostedUnavailable(_) | RegistryError::SourceUndecided(_) => {
            FetchError::Unreachable("the shared bucket")
        }
        RegistryError::DamagedZip { .. } => FetchError::Invalid("its zip is damaged".into()),
        RegistryError::VersionRefused(_) | RegistryError::NoVersionAllowed(_) => {
            FetchError::Refused("the version may not be served".into())
        }
        RegistryError::Forbidden => FetchError::Refused("the package may not be served".into()),
        RegistryError::RepositoryReplaced => FetchError::Refused("the name is another repository now".into()),
        RegistryError::SourceChanged { .. } | RegistryError::Unrecordable => {
            FetchError::Refused("the source of the name cannot be used".into())
        }
    }
}
