//! The stored documents of a package, of any age, read without asking an upstream.

use std::sync::Arc;

use jiff::Timestamp;

use super::{CachedValue, keys::document_key, parsed::ParsedDocuments};
use crate::{
    cache::{Cache, Generation},
    entry::{Digest, Document, Key, UpstreamStatus},
    http::cache_status::CacheStatus,
    package::{NameForm, PackageId, Release, Releases, Repository, RepositoryTags},
    upstream::DocumentAsk,
    value::{
        bounded_cache::BoundedCache,
        memory_weight::{CACHE_ENTRY_BYTES, clamped},
    },
};

/// Most bytes of keys that are remembered as not stored: some 25,000 keys, fewer where clients ask for long names.
const MAX_NEGATIVE_LOOKUP_BYTES: u64 = 8 << 20;

/// Stored documents by package.
pub(super) struct StoredDocuments {
    cache: Arc<Cache>,
    parsed: Arc<ParsedDocuments>,
    /// Documents that were not stored in a generation: while it is current, a hit on an archive does not look for them
    /// on disk.
    negative_lookups: BoundedCache<Key, Generation>,
}

impl StoredDocuments {
    pub(super) fn new(cache: Arc<Cache>, parsed: Arc<ParsedDocuments>) -> Self {
        Self { cache, parsed, negative_lookups: BoundedCache::new(MAX_NEGATIVE_LOOKUP_BYTES) }
    }

    /// A stored document of any age. While the package's generation is current, the disk is read at most once for a
    /// document that is not stored.
    pub(super) async fn document(&self, package: &PackageId, ask: &DocumentAsk) -> Option<Document> {
        let key = document_key(package, ask);
        let in_memory = self.cache.document_tiers().in_memory(&key);
        if in_memory.is_some() || self.negative_lookups.get(&key).is_some_and(|generation| generation.is_current()) {
            return in_memory;
        }
        let generation = self.cache.generation(&key);
        let stored = self.cache.document_tiers().get(&key).await;
        if stored.is_none() {
            let weight = clamped(key.as_str().len() + CACHE_ENTRY_BYTES);
            self.negative_lookups.insert_weighed(key, generation, weight);
        }
        stored
    }

    /// True when the release list, the latest release or the repository of the package is stored, whatever the upstream says
    /// of the package now.
    pub(super) async fn has_any(&self, package: &PackageId) -> bool {
        for ask in [DocumentAsk::Latest, DocumentAsk::Releases, DocumentAsk::Repository] {
            if self.document(package, &ask).await.is_some() {
                return true;
            }
        }
        false
    }

    /// The repository that a stored document describes.
    pub(super) async fn parse_repository(&self, document: &Document) -> Option<Arc<Repository>> {
        self.parsed.get(document).await.ok()
    }

    /// The stored release list of any age, unless the upstream has removed or blocked the package.
    pub(super) async fn releases(&self, package: &PackageId) -> Option<Arc<Releases>> {
        let document = self.document(package, &DocumentAsk::Releases).await?;
        if document.meta.upstream_status == UpstreamStatus::Present {
            self.parsed.get::<Releases>(&document).await.ok()
        } else {
            None
        }
    }

    /// The stored list of tags of any age, unless the upstream has removed or blocked the package.
    pub(super) async fn tags(&self, package: &PackageId) -> Option<Arc<RepositoryTags>> {
        let document = self.document(package, &DocumentAsk::Tags).await?;
        if document.meta.upstream_status == UpstreamStatus::Present {
            self.parsed.get::<RepositoryTags>(&document).await.ok()
        } else {
            None
        }
    }

    /// When the present content of a stored document was first fetched.
    pub(super) async fn changed_at(&self, package: &PackageId, ask: &DocumentAsk) -> Option<Timestamp> {
        self.document(package, ask).await.map(|document| document.meta.changed_at)
    }

    /// A stored document of any age, read without copying it into memory: for walks over many packages.
    pub(super) async fn peek(&self, package: &PackageId, ask: &DocumentAsk) -> Option<Document> {
        self.cache.document_tiers().peek(&document_key(package, ask)).await
    }

    /// True for a stored branch head that may be used without asking the upstream.
    pub(super) async fn has_fresh_branch(&self, package: &PackageId, branch: &str) -> bool {
        let stored = self.document(package, &DocumentAsk::Branch(branch.to_owned())).await;
        stored.is_some_and(|head| {
            let age = self.cache.clock().elapsed(head.meta.validated_at);
            head.meta.upstream_status == UpstreamStatus::Present
                && age.is_some_and(|age| self.cache.document_config().branch().needs_no_request(age))
        })
    }

    /// The release of a version as a stored document has it, of any age: the latest release, or one of the list. `status`
    /// says why nothing newer is served.
    pub(super) async fn release(
        &self,
        package: &PackageId,
        tag: &str,
        status: &CacheStatus,
    ) -> Option<CachedValue<Release>> {
        for ask in [DocumentAsk::Latest, DocumentAsk::Releases] {
            let Some(document) = self.document(package, &ask).await else { continue };
            let release = match ask {
                DocumentAsk::Latest => {
                    self.parsed.get::<Release>(&document).await.ok().filter(|release| release.tag_name == tag)
                }
                _ => self.parsed.get::<Releases>(&document).await.ok().and_then(|list| {
                    list.releases.iter().find(|release| release.tag_name == tag).cloned().map(Arc::new)
                }),
            };
            if let Some(value) = release {
                let digest = Digest::of(format!("{}#{tag}", document.meta.digest).as_bytes());
                let age = self.cache.clock().since(document.meta.validated_at);
                return Some(CachedValue { value, digest, age, status: status.clone() });
            }
        }
        None
    }

    /// What the upstream last said of the package: in the stored list, or in the latest release of a registry's package
    /// whose list is not stored.
    pub(super) async fn upstream_status(&self, package: &PackageId) -> UpstreamStatus {
        for ask in status_asks(package) {
            if let Some(document) = self.document(package, ask).await {
                return document.meta.upstream_status;
            }
        }
        UpstreamStatus::Present
    }

    /// Forgets that a document is not stored: an import has stored it.
    pub(super) fn forget_negative_lookup(&self, key: &Key) {
        self.negative_lookups.invalidate(key);
    }
}

/// The documents whose upstream status is that of the package. A registry's package may have no stored list.
pub(super) fn status_asks(package: &PackageId) -> &'static [DocumentAsk] {
    match package.name.form() {
        NameForm::Repository => &[DocumentAsk::Releases],
        NameForm::Plain => &[DocumentAsk::Releases, DocumentAsk::Latest],
    }
}
