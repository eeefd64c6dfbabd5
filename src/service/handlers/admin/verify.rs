//! Hashes everything that is stored, several zips at once, and fetches damaged ones again.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use http::Response;
use serde_json::{Value, json};

use super::{
    AdminError,
    inventory::{Asked, items},
    lines,
};
use crate::{
    entry::Key,
    http::body::Body,
    registry::{DocumentCheck, Registry, inventory::StoredArchive},
};

/// Zips that are hashed at once.
const AT_ONCE: usize = 4;

/// One line first: what there is to do; then one per blob, and one per document that was damaged.
pub(super) async fn verify(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let ask = ask?;
    let failed = |error| AdminError::failed("the index of the cache cannot be read", error);
    let mut blobs: BTreeMap<_, Vec<StoredArchive>> = BTreeMap::new();
    for item in items(mirror, &ask.pattern).await? {
        blobs.entry(item.entry.digest).or_default().push(item);
    }
    let documents = mirror.inventory().document_keys(&ask.pattern).await.map_err(failed)?;
    let bytes: u64 = blobs.values().filter_map(|items| items.first()).map(|item| item.entry.len).sum();
    let begin = json!({"event": "begin", "zips": blobs.len(), "bytes": bytes, "documents": documents.len()});

    let checker = mirror.clone();
    let fetch = !ask.no_fetch;
    let zips = stream::iter(blobs.into_values()).map(move |items| {
        let mirror = checker.clone();
        async move { check(&mirror, &items, fetch).await }
    });
    let reader = mirror.clone();
    let documents = stream::iter(documents).then(move |key| {
        let mirror = reader.clone();
        async move { check_document(&mirror, &key, fetch).await }
    });
    Ok(lines(stream::iter([begin]).chain(zips.buffer_unordered(AT_ONCE)).chain(documents)))
}

/// Checks one blob; a damaged one is set aside, and fetched again under each of its keys.
async fn check(mirror: &Registry, items: &[StoredArchive], fetch: bool) -> Value {
    let Some(first) = items.first() else { return Value::Null };
    let digest = first.entry.digest;
    let size = first.entry.len;
    let mut state = "good";
    let mut reason = None;
    match mirror.inventory().check_blob(&digest).await {
        Ok(true) => {}
        Ok(false) => {
            state = "damaged";
            for item in items.iter().filter(|_| fetch) {
                match mirror.inventory().refetch(item).await {
                    Ok(()) if reason.is_none() => state = "mended",
                    Ok(()) => {}
                    Err(error) => (state, reason) = ("damaged", Some(error.to_string())),
                }
            }
        }
        Err(error) => {
            tracing::error!(%digest, %error, "a zip cannot be read");
            (state, reason) = ("damaged", Some("it cannot be read".to_owned()));
        }
    }
    let names = items.iter().map(|item| format!("{}:{}@{}", item.package.upstream, item.package.name, item.version()));
    json!({
        "event": "zip", "sha256": digest, "size": size, "state": state, "reason": reason,
        "names": names.collect::<Vec<_>>(),
    })
}

/// Checks one document; a damaged one is set aside, and comes again from memory or else from its upstream.
async fn check_document(mirror: &Registry, key: &Key, fetch: bool) -> Value {
    let mut state = "damaged";
    let mut reason = None;
    match mirror.inventory().check_document(key).await {
        Ok(DocumentCheck::Intact) => state = "good",
        Ok(DocumentCheck::Repaired) => state = "mended",
        Ok(DocumentCheck::Damaged) if fetch => match mirror.inventory().refetch_document(key).await {
            Ok(()) => state = "mended",
            Err(error) => reason = Some(error.to_string()),
        },
        Ok(DocumentCheck::Damaged) => {}
        Err(error) => {
            tracing::error!(%key, %error, "a document cannot be read");
            reason = Some("it cannot be read".to_owned());
        }
    }
    json!({"event": "document", "key": key, "state": state, "reason": reason})
}
