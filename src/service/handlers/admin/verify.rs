//! Verification of what is stored: hashes several zips at once, and fetches damaged ones again.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};

use super::{
    AdminError,
    inventory::{INDEX_UNREADABLE, items, selection},
};
use crate::{
    admin_api::{VerifyArchives, VerifyEvent, VerifyState},
    entry::{Digest, Key},
    registry::{DocumentCheck, Integrity, Registry, inventory::StoredArchive},
};

/// Most zips that are hashed at once.
const MAX_HASHED_ZIPS: usize = 4;

/// Verifies the selected zips, each blob once, then the documents of the packages that are selected as a whole.
pub(super) async fn verify(
    registry: &Arc<Registry>,
    request: VerifyArchives,
) -> Result<impl Stream<Item = VerifyEvent> + use<>, AdminError> {
    let VerifyArchives { pattern, no_fetch } = request;
    let selection = selection(pattern.as_deref())?;
    let mut blobs: BTreeMap<Digest, Vec<StoredArchive>> = BTreeMap::new();
    for item in items(registry, &selection).await? {
        blobs.entry(item.entry.digest).or_default().push(item);
    }
    let documents = registry.inventory().document_keys(&selection).await;
    let documents = documents.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let bytes = blobs.values().filter_map(|items| items.first()).map(|item| item.entry.len).sum();
    let begin = VerifyEvent::Begin { zips: blobs.len(), bytes, documents: documents.len() };

    let of_zips = registry.clone();
    let zips = stream::iter(blobs).map(move |(digest, items)| {
        let registry = of_zips.clone();
        async move { verify_blob(&registry, digest, &items, !no_fetch).await }
    });
    let of_documents = registry.clone();
    let documents = stream::iter(documents).then(move |key| {
        let registry = of_documents.clone();
        async move { verify_document(&registry, key, !no_fetch).await }
    });
    Ok(stream::iter([begin]).chain(zips.buffer_unordered(MAX_HASHED_ZIPS)).chain(documents))
}

/// Verifies one blob. A damaged one is quarantined and, with `fetch`, fetched again under each of its keys.
async fn verify_blob(registry: &Registry, sha256: Digest, items: &[StoredArchive], fetch: bool) -> VerifyEvent {
    let mut state = VerifyState::Good;
    let mut reason = None;
    match registry.inventory().check_blob(&sha256).await {
        Ok(Integrity::Intact) => {}
        Ok(Integrity::Gone) => state = VerifyState::Gone,
        Ok(Integrity::Quarantined) => {
            state = VerifyState::Damaged;
            for item in items.iter().filter(|_| fetch) {
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

/// Verifies one document. A damaged one is quarantined; it is restored from memory or, with `fetch`, from its upstream.
async fn verify_document(registry: &Registry, key: Key, fetch: bool) -> VerifyEvent {
    let mut state = VerifyState::Damaged;
    let mut reason = None;
    match registry.inventory().check_document(&key).await {
        Ok(DocumentCheck::Intact) => state = VerifyState::Good,
        Ok(DocumentCheck::Gone) => state = VerifyState::Gone,
        Ok(DocumentCheck::Repaired) => state = VerifyState::Mended,
        Ok(DocumentCheck::Damaged) if fetch => match registry.inventory().refetch_document(&key).await {
            Ok(()) => state = VerifyState::Mended,
            Err(error) => reason = Some(error.to_string()),
        },
        Ok(DocumentCheck::Damaged) => {}
        Err(error) => {
            tracing::error!(%key, %error, "a document cannot be read");
            reason = Some("it cannot be read".to_owned());
        }
    }
    VerifyEvent::Document { key, state, reason }
}
