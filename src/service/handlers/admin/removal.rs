//! Removal of what is stored: by pattern, and of what is damaged or unused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    AdminError,
    inventory::{archive_row, items, missing_kept_keys, required_selection, selection, unmark},
};
use crate::{
    admin_api::{CollectGarbage, RemovalPlan, RemovalReport, RemoveArchives},
    entry::Key,
    registry::{InventoryEntry, Registry, inventory::StoredArchive},
};

fn removal_failed(error: impl std::fmt::Display) -> AdminError {
    AdminError::storage("something cannot be removed from the cache", error)
}

/// Removes the selected zips and, where whole packages are selected, their documents.
pub(super) async fn remove(registry: &Arc<Registry>, request: RemoveArchives) -> Result<RemovalReport, AdminError> {
    let RemoveArchives { pattern, dry_run, only, forget } = request;
    let selection = required_selection(pattern.as_deref())?;
    let inventory = registry.inventory();
    let mut items = items(registry, &selection).await?;
    let mut documents = inventory.document_keys(&selection).await.map_err(removal_failed)?;
    let mut pins = BTreeSet::new();
    if forget {
        pins = inventory.pinned_keys(&selection).await.map_err(removal_failed)?;
    }
    let mut marks = missing_kept_keys(registry, &selection).await?;
    if let Some(only) = &only {
        marks.retain(|key| only.marks.contains(key));
        documents.retain(|key| only.documents.contains(key));
        pins.retain(|key| only.pins.contains(key));
        items.retain(|StoredArchive { entry: InventoryEntry { key, .. }, .. }| {
            let planned = only.zips.contains(key);
            if !planned {
                // It was stored after the dry run. Forgetting its pin would remove it too.
                pins.remove(key);
            }
            planned
        });
    }
    let plan = RemovalPlan {
        zips: keys_of(&items),
        documents: documents.iter().cloned().collect(),
        pins: pins.clone(),
        marks: marks.clone(),
    };
    if !dry_run {
        unmark(registry, &marks).await?;
        let zips: BTreeSet<_> = plan.zips.union(&pins).cloned().collect();
        let zips = Vec::from_iter(zips);
        inventory.remove_all(&zips).await.map_err(removal_failed)?;
        if forget {
            inventory.forget_pins(zips).await.map_err(removal_failed)?;
        }
        inventory.remove_documents(&Vec::from_iter(plan.documents.iter().cloned())).await.map_err(removal_failed)?;
    }
    Ok(RemovalReport {
        zips: items.iter().map(archive_row).collect(),
        bytes: freed_bytes(&items),
        documents: documents.len(),
        forgotten: plan.pins.len(),
        marks: marks.len(),
        quarantine: 0,
        plan,
        dry_run,
    })
}

/// Removes quarantined files, and the selected zips that were not used for a period and are not kept.
pub(super) async fn collect_garbage(
    registry: &Arc<Registry>,
    request: CollectGarbage,
) -> Result<RemovalReport, AdminError> {
    let CollectGarbage { pattern, dry_run, only, unused } = request;
    let selection = selection(pattern.as_deref())?;
    let mut old = Vec::new();
    if let Some(unused) = unused {
        old = items(registry, &selection).await?;
        let now = registry.now();
        let age = |used: Timestamp| Duration::try_from(now.duration_since(used)).unwrap_or_default();
        let planned = |key: &Key| only.as_ref().is_none_or(|only| only.zips.contains(key));
        old.retain(|item| !item.entry.kept && age(item.entry.last_use) >= unused.0 && planned(&item.entry.key));
    }
    let quarantine = registry.inventory().usage().disk_areas.quarantine;
    if !dry_run {
        let zips = Vec::from_iter(keys_of(&old));
        registry.inventory().remove_all(&zips).await.map_err(removal_failed)?;
        registry.inventory().clear_quarantine().await.map_err(removal_failed)?;
    }
    Ok(RemovalReport {
        zips: old.iter().map(archive_row).collect(),
        bytes: freed_bytes(&old) + quarantine,
        documents: 0,
        forgotten: 0,
        marks: 0,
        quarantine,
        plan: RemovalPlan { zips: keys_of(&old), ..RemovalPlan::default() },
        dry_run,
    })
}

fn keys_of(items: &[StoredArchive]) -> BTreeSet<Key> {
    items.iter().map(|item| item.entry.key.clone()).collect()
}

/// Bytes on disk that are freed when these zips are removed: a blob is removed with the last of its keys.
fn freed_bytes(items: &[StoredArchive]) -> u64 {
    let mut blobs: BTreeMap<_, (usize, &InventoryEntry)> = BTreeMap::new();
    for StoredArchive { entry, .. } in items {
        blobs.entry(entry.digest).or_insert((0, entry)).0 += 1;
    }
    blobs.values().filter(|(count, entry)| *count == entry.keys).map(|(_, entry)| entry.cost).sum()
}
