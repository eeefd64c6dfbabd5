//! Verification of what is stored: hashes several zips at once, and fetches damaged ones again.

use std::{collections::BTreeMap, io, sync::Arc};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::{
    AdminError,
    inventory::{INDEX_UNREADABLE, selection},
};
use crate::{
    admin_api::{VerifyArchives, VerifyEvent, VerifyState},
    entry::{Digest, Key},
    http::body::BodyError,
    registry::{
        DocumentCheck, Integrity, InventoryEntry, Registry,
        inventory::{ALL_SHARDS, Selection, StoredArchive},
    },
};

/// Most zips that are hashed at once.
const MAX_HASHED_ZIPS: usize = 4;

/// What is done about damaged zips and documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RepairMode {
    /// They are fetched again.
    Refetch,
    /// They are only quarantined.
    Quarantine,
}

/// Verifies the selected zips, each blob once, then the documents of the packages that are selected as a whole. The zips
/// are listed a 256th at a time, by the first byte of their digests.
pub(super) async fn verify(
    registry: &Arc<Registry>,
    request: VerifyArchives,
) -> Result<impl Stream<Item = Result<VerifyEvent, BodyError>> + use<>, AdminError> {
    let VerifyArchives { pattern, no_fetch } = request;
    let repair = if no_fetch { RepairMode::Quarantine } else { RepairMode::Refetch };
    let selection = selection(pattern.as_deref())?;
    let count = registry.inventory().fold(ALL_SHARDS, &selection, BlobCount::default(), BlobCount::add).await;
    let BlobCount { zips, bytes, .. } = count.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let documents = registry.inventory().document_keys(&selection).await;
    let documents = documents.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let begin = VerifyEvent::Begin { zips, bytes, documents: documents.len() };

    let of_shards = registry.clone();
    let shards = stream::iter(ALL_SHARDS).then(move |first| {
        let registry = of_shards.clone();
        let selection = selection.clone();
        async move { Ok::<_, BodyError>(stream::iter(blobs_of_shard(&registry, &selection, first).await?).map(Ok)) }
    });
    let of_zips = registry.clone();
    let zips = shards.try_flatten().map_ok(move |(digest, items)| {
        let registry = of_zips.clone();
        async move { Ok(verify_blob(&registry, digest, &items, repair).await) }
    });
    let of_documents = registry.clone();
    let documents = stream::iter(documents).then(move |key| {
        let registry = of_documents.clone();
        async move { Ok(verify_document(&registry, key, repair).await) }
    });
    Ok(stream::iter([Ok(begin)]).chain(zips.try_buffer_unordered(MAX_HASHED_ZIPS)).chain(documents))
}

/// Counts blobs and their bytes, from keys in order of digests.
#[derive(Debug, Default)]
struct BlobCount {
    zips: usize,
    bytes: u64,
    last: Option<Digest>,
}

impl BlobCount {
    fn add(&mut self, entry: InventoryEntry) {
        if self.last.replace(entry.digest) != Some(entry.digest) {
            self.zips += 1;
            self.bytes += entry.len;
        }
    }
}

/// The selected zips whose digests begin with this byte.
async fn blobs_of_shard(
    registry: &Registry,
    selection: &Selection,
    first: u8,
) -> io::Result<BTreeMap<Digest, Vec<StoredArchive>>> {
    let add = |blobs: &mut BTreeMap<_, Vec<_>>, entry: InventoryEntry| {
        let digest = entry.digest;
        if let Some(item) = StoredArchive::of(entry) {
            blobs.entry(digest).or_default().push(item);
        }
    };
    registry.inventory().fold(first..=first, selection, BTreeMap::new(), add).await
}

/// Verifies one blob. A damaged one is quarantined and, with [`RepairMode::Refetch`], fetched again under each of its keys.
async fn verify_blob(registry: &Registry, sha256: Digest, items: &[StoredArchive], repair: RepairMode) -> VerifyEvent {
    let mut state = VerifyState::Good;
    let mut reason = None;
    match registry.inventory().check_blob(&sha256).await {
        Ok(Integrity::Intact) => {}
        Ok(Integrity::Gone) => state = VerifyState::Gone,
        Ok(Integrity::Quarantined) => {
            state = VerifyState::Damaged;
            for item in items.iter().filter(|_| repair == RepairMode::Refetch) {
                match registry.inventory().refetch(item).await {
                    Ok(()) if reason.is_none() => state = VerifyState::Mended,
                    Ok(()) => {}
                    Err(error) => {
                        state = VerifyState::Damaged;
                        reason = Some(error.to_string());
                    }
                }
            }
        }
        Err(error) => {
            tracing::error!(digest = %sha256, %error, "a zip cannot be read");
            state = VerifyState::Damaged;
            reason = Some("it cannot be read".to_owned());
        }
    }
    let size = items.first().map_or(0, |item| item.entry.len);
    let names = items.iter().map(|item| format!("{}:{}@{}", item.package.upstream, item.package.name, item.version()));
    VerifyEvent::Zip { sha256, size, state, reason, names: names.collect() }
}

/// Verifies one document. A damaged one is quarantined; it is restored from memory or, with [`RepairMode::Refetch`], from its
/// upstream.
async fn verify_document(registry: &Registry, key: Key, repair: RepairMode) -> VerifyEvent {
    let mut state = VerifyState::Damaged;
    let mut reason = None;
    match registry.inventory().check_document(&key).await {
        Ok(DocumentCheck::Intact) => state = VerifyState::Good,
        Ok(DocumentCheck::Gone) => state = VerifyState::Gone,
        Ok(DocumentCheck::Repaired) => state = VerifyState::Mended,
        Ok(DocumentCheck::Damaged) if repair == RepairMode::Quarantine => {}
        Ok(DocumentCheck::Damaged) => match registry.inventory().refetch_document(&key).await {
            Ok(()) => state = VerifyState::Mended,
            Err(error) => reason = Some(error.to_string()),
        },
        Err(error) => {
            tracing::error!(%key, %error, "a document cannot be read");
            reason = Some("it cannot be read".to_owned());
        }
    }
    VerifyEvent::Document { key, state, reason }
}
