//! Export and import of archives and documents between mirrors.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::Stream;
use serde::de::DeserializeOwned;

use super::{
    RegistryError,
    archive_source::{ArchiveSource, pinning, version_of},
    keys::{is_pinned_key, parse_archive_key, parse_document_key, revision_prefix},
    model_policy::ModelPolicy,
    package_documents::PackageDocuments,
    upstreams::Upstreams,
};
use crate::{
    admin_api::{ImportState, ImportedState},
    cache::{
        ArchiveAnswer, BucketError, BucketReader, Cache, DocumentImport, ImportError, Object, PinConflict, Pusher,
        Removals,
    },
    entry::{Document, DocumentMeta, ExportedArchive, ExportedDocument, Key, Pin},
    origin::Verify,
    package::{
        BranchHead, MovingHead, PackageId, Release, Releases, Repository, RepositoryBranches, RepositoryTags, Version,
    },
    upstream::{DocumentAsk, GitRef},
};

/// Exports what is stored, and imports what another mirror exported; uploads to the shared bucket, and serves archives to
/// other nodes of the fleet.
pub struct Transfer {
    pub(super) cache: Arc<Cache>,
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
    verify: Arc<dyn Verify>,
    model: Arc<ModelPolicy>,
    archives: Arc<ArchiveSource>,
}

impl Transfer {
    pub(super) fn new(
        cache: Arc<Cache>,
        upstreams: Upstreams,
        documents: Arc<PackageDocuments>,
        verify: Arc<dyn Verify>,
        model: Arc<ModelPolicy>,
        archives: Arc<ArchiveSource>,
    ) -> Self {
        Self { cache, upstreams, documents, verify, model, archives }
    }

    /// The archive of a key for another node of the fleet, which applies the rules of its callers itself: from the cache,
    /// else from a fill that this starts or joins. No other node is asked.
    ///
    /// # Errors
    /// `NotFound(Version)` for a key of no upstream's archive; why the archive cannot be fetched; `Loop` while this node
    /// itself reads the archive from another one.
    pub(crate) async fn get_for_node(&self, key: &Key) -> Result<ArchiveAnswer, RegistryError> {
        self.archives.get_for_node(key).await
    }

    /// Makes this mirror read the shared state of the bucket again: another node has changed it.
    pub(crate) fn notice_changes(&self) {
        if let Some(bucket) = self.cache.bucket() {
            bucket.bucket().notices.note_received();
        }
    }

    /// Uploads what is stored to the shared bucket; `None` without one.
    pub fn pusher(&self) -> Option<Pusher> {
        self.cache.pusher(is_pinned_key)
    }

    /// What operators remove on any mirror of the bucket; `None` without one.
    pub fn removals(&self) -> Option<&Arc<Removals>> {
        self.cache.removals()
    }

    /// The record of a stored archive; `None` when it was removed or quarantined since it was listed.
    ///
    /// # Errors
    /// When pins or metadata cannot be read.
    pub async fn describe(&self, key: &Key) -> io::Result<Option<ExportedArchive>> {
        let pin = self.cache.pins().get(key).await.map_err(io::Error::other)?;
        let Some(meta) = self.cache.disk().inventory().meta(key).await? else { return Ok(None) };
        let first_seen = pin.map_or(meta.stored_at, |pin| pin.first_seen);
        Ok(Some(ExportedArchive { key: key.clone(), first_seen, meta: (*meta).clone() }))
    }

    /// A stored document; `None` when it is absent, unreadable or not UTF-8.
    pub async fn export_document(&self, key: &Key) -> Option<ExportedDocument> {
        exported_document(key, &self.cache.document_tiers().peek(key).await?)
    }

    /// The stored archive of a key. Reading it changes neither the eviction order nor any counter.
    ///
    /// # Errors
    /// When the disk tier cannot be read.
    pub async fn open(&self, key: &Key) -> io::Result<Option<Object>> {
        self.cache.archive_tiers().peek(key).await
    }

    /// What [`Transfer::import`] would do with an archive.
    ///
    /// # Errors
    /// `Io` when pins or metadata cannot be read, `Bucket` when the shared bucket cannot be asked.
    pub async fn plan(&self, archive: &ExportedArchive) -> Result<ImportState, ImportError> {
        if !self.accepts_archive(archive) {
            return Ok(ImportState::Refused);
        }
        let is_other = |pin: &Pin| pin.verified.manifest != archive.meta.verified.manifest;
        match self.shared_pin(&archive.key).await {
            Ok(Some(pin)) if is_other(&pin) => return Ok(ImportState::Overruled),
            Err(BucketError::Damaged) => return Ok(ImportState::Damaged),
            found => found.map(drop)?,
        }
        let pin = self.cache.pins().get(&archive.key).await.map_err(io::Error::other)?;
        Ok(match pin {
            Some(pin) if is_other(&pin) => ImportState::Conflict,
            // Other packing of the same content is not imported: clients have seen the digest of what is stored.
            _ if self.cache.archive_tiers().is_on_disk(&archive.key).await => ImportState::Stored,
            _ if self.has_later_revision(archive).await? => ImportState::Stored,
            _ => ImportState::Wanted,
        })
    }

    /// What the shared bucket has pinned under the key of an archive, if there is a bucket.
    async fn shared_pin(&self, key: &Key) -> Result<Option<Pin>, BucketError> {
        let Some(bucket) = self.cache.bucket().cloned().filter(|_| is_pinned_key(key)) else { return Ok(None) };
        let key = key.clone();
        self.cache.ask_bucket(Box::pin(async move { BucketReader::new(bucket).pinned(&key).await })).await
    }

    /// True when another revision of the same moving version is stored, and was fetched later: an import would replace it.
    pub(super) async fn has_later_revision(&self, archive: &ExportedArchive) -> io::Result<bool> {
        let Some((package, GitRef::Moving { version, .. })) = parse_archive_key(&archive.key) else { return Ok(false) };
        for key in self.cache.archive_tiers().revisions(&revision_prefix(&package, &version)).await? {
            let stored = self.cache.disk().inventory().meta(&key).await?;
            if stored.is_some_and(|stored| stored.stored_at > archive.meta.stored_at) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Verifies and stores an archive. `on_conflict` says what is done about a pin to other content.
    ///
    /// # Errors
    /// See [`ImportError`]; `Invalid` also for a key that this mirror does not build or whose upstream is not configured.
    pub async fn import(
        &self,
        archive: ExportedArchive,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        on_conflict: PinConflict,
    ) -> Result<(), ImportError> {
        let Some((package, reference)) = parse_archive_key(&archive.key).filter(|_| self.accepts_archive(&archive))
        else {
            return Err(ImportError::Invalid(format!("this mirror has no place for {}", archive.key)));
        };
        let pinning = pinning(&package, &reference);
        let verify = self.model.logging(&self.verify, &package, version_of(&reference));
        self.cache.importer().import(archive, body, verify, pinning, on_conflict).await
    }

    /// True for a package of a configured upstream that is cached. Packages that are published here are in no bundle.
    fn caches(&self, package: &PackageId) -> bool {
        self.upstreams.contains(&package.upstream) && self.upstreams.hosted(package).is_none()
    }

    pub(super) fn accepts_archive(&self, archive: &ExportedArchive) -> bool {
        let Some((package, reference)) = parse_archive_key(&archive.key) else { return false };
        let valid = match &reference {
            GitRef::Tag(tag) => is_tag(tag),
            GitRef::Commit(sha) => sha.parse() == Ok(Version::Commit(sha.clone())),
            GitRef::Moving { version, revision } => {
                is_tag(version) && revision.parse() == Ok(Version::Commit(revision.clone()))
            }
        };
        valid && self.caches(&package) && archive.meta.len <= self.cache.importer().max_archive_bytes()
    }

    /// True for a document with a key that this mirror builds, of a configured upstream, whose body has the type that the
    /// key names.
    pub fn accepts_document(&self, key: &Key, body: &[u8]) -> bool {
        fn parses<T: DeserializeOwned>(body: &[u8]) -> bool {
            serde_json::from_slice::<T>(body).is_ok()
        }
        let Some((package, ask)) = parse_document_key(key) else { return false };
        let valid = match ask {
            DocumentAsk::Releases => parses::<Releases>(body),
            DocumentAsk::Latest => parses::<Release>(body),
            DocumentAsk::Tag(tag) => is_tag(&tag) && parses::<Release>(body),
            DocumentAsk::Repository => parses::<Repository>(body),
            DocumentAsk::Tags => parses::<RepositoryTags>(body),
            DocumentAsk::Branches => parses::<RepositoryBranches>(body),
            DocumentAsk::Branch(name) => is_branch(&name) && parses::<BranchHead>(body),
            DocumentAsk::Moving(version) => is_tag(&version) && parses::<MovingHead>(body),
        };
        valid && self.caches(&package)
    }

    /// True when the same document is on disk, or one that was validated at least as late.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn has_document(&self, key: &Key, meta: &DocumentMeta) -> io::Result<bool> {
        self.cache.document_tiers().has(key, meta).await
    }

    /// Stores a document, unless the stored one was validated at least as late.
    ///
    /// # Errors
    /// See [`ImportError`]; `Invalid` also where [`Transfer::accepts_document`] is false.
    pub async fn import_document(&self, document: ExportedDocument) -> Result<ImportedState, ImportError> {
        let ExportedDocument { key, meta, body } = document;
        if !self.accepts_document(&key, body.as_bytes()) {
            return Err(ImportError::Invalid(format!("this mirror has no place for {key}, or it cannot be read")));
        }
        let document = Document { meta: Arc::new(meta), body: body.into() };
        let outcome = self.cache.documents().import(&key, document).await?;
        self.documents.stored().forget_negative_lookup(&key);
        Ok(match outcome {
            DocumentImport::Stored => ImportedState::Stored,
            DocumentImport::Older | DocumentImport::OlderThanMemory => ImportedState::Older,
        })
    }
}

/// A document as bundles have it; `None` when it is not UTF-8.
pub(super) fn exported_document(key: &Key, document: &Document) -> Option<ExportedDocument> {
    let body = String::from_utf8(document.body.to_vec()).ok()?;
    Some(ExportedDocument { key: key.clone(), meta: (*document.meta).clone(), body })
}

/// True for a valid tag name. The mirror's own keys have no other; those of an import may.
fn is_tag(name: &str) -> bool {
    format!("refs/tags/{name}").parse() == Ok(Version::Tag(name.to_owned()))
}

fn is_branch(name: &str) -> bool {
    format!("refs/heads/{name}").parse() == Ok(Version::Branch(name.to_owned()))
}
