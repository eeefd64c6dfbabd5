//! Removal of what is stored: by pattern, and of what is damaged or unused.

use std::sync::Arc;

use super::{
    AdminError, blocking,
    inventory::{INDEX_UNREADABLE, missing_kept_keys, required_selection, selection, unmark},
};
use crate::{
    admin_api::{CollectGarbage, RemovalPlan, RemovalReport, RemoveArchives},
    registry::{
        Registry, RemovedBy,
        zip_removal::{RemovalMode, SelectedZips, ZipRemoval, ZipRemovalError},
    },
};

fn removal_failed(error: impl std::fmt::Display) -> AdminError {
    AdminError::storage("something cannot be removed from the cache", error)
}

fn zips_not_removed(error: ZipRemovalError) -> AdminError {
    match error {
        ZipRemovalError::Index(error) => AdminError::storage(INDEX_UNREADABLE, error),
        ZipRemovalError::Disk(error) => removal_failed(error),
    }
}

fn removal_mode(dry_run: bool) -> RemovalMode {
    if dry_run { RemovalMode::DryRun } else { RemovalMode::Remove }
}

/// Removes the selected zips and, where whole packages are selected, their documents.
pub(super) async fn remove(registry: &Arc<Registry>, request: RemoveArchives) -> Result<RemovalReport, AdminError> {
    let RemoveArchives { pattern, dry_run, plan, forget } = request;
    let selection = required_selection(pattern.as_deref())?;
    let planned_at = plan.as_ref().map_or_else(|| registry.now(), |plan| plan.planned_at);
    let inventory = registry.inventory();
    let documents = inventory.document_keys(&selection).await.map_err(removal_failed)?;
    let mut marks = missing_kept_keys(registry, &selection).await?;
    if let Some(plan) = &plan {
        marks.retain(|key| plan.marks.contains(key));
    }
    if !dry_run {
        unmark(registry, &marks).await?;
    }
    let selected = SelectedZips { selection, planned_at, unused: None };
    let removal = inventory.remove_zips(&selected, removal_mode(dry_run)).await;
    let ZipRemoval { zips, bytes, newer } = removal.map_err(zips_not_removed)?;
    let mut forgotten = 0;
    if forget {
        // Forgetting the pin of a zip removes it, too.
        let forgotten_of =
            inventory.forget_pins(&selected.selection, &newer, (!dry_run).then_some(RemovedBy::Operator)).await;
        forgotten = forgotten_of.map_err(removal_failed)?;
    }
    if !dry_run {
        inventory.document_removal().remove_all(&documents).await.map_err(removal_failed)?;
        spread(registry, pattern.unwrap_or_default(), forget).await?;
    }
    Ok(RemovalReport {
        zips,
        bytes,
        documents: documents.len(),
        forgotten,
        marks: marks.len(),
        quarantine: 0,
        plan: RemovalPlan { planned_at, marks },
        dry_run,
        spreads: registry.transfer().removals().is_some(),
    })
}

/// Records the removal for the other mirrors of the bucket, which read it at once or when the bucket can be used.
async fn spread(registry: &Registry, pattern: String, forget: bool) -> Result<(), AdminError> {
    const FAILED: &str = "it is removed here; the other mirrors cannot be told";
    let Some(removals) = registry.transfer().removals().cloned() else { return Ok(()) };
    let removed_at = registry.now();
    let recorded = blocking(FAILED, move || removals.record(&pattern, forget, removed_at)).await?;
    recorded.map_err(|error| AdminError::storage(FAILED, error))
}

/// Removes quarantined files, and the selected zips that were not used for a period and are not kept.
pub(super) async fn collect_garbage(
    registry: &Arc<Registry>,
    request: CollectGarbage,
) -> Result<RemovalReport, AdminError> {
    let CollectGarbage { pattern, dry_run, plan, unused } = request;
    let selection = selection(pattern.as_deref())?;
    let planned_at = plan.map_or_else(|| registry.now(), |plan| plan.planned_at);
    let mut removed = ZipRemoval::default();
    if let Some(unused) = unused {
        let selected = SelectedZips { selection, planned_at, unused: Some(unused.0) };
        let removal = registry.inventory().remove_zips(&selected, removal_mode(dry_run)).await;
        removed = removal.map_err(zips_not_removed)?;
    }
    let quarantine = registry.inventory().usage().disk_areas.quarantine;
    if !dry_run {
        registry.inventory().clear_quarantine().await.map_err(removal_failed)?;
    }
    Ok(RemovalReport {
        zips: removed.zips,
        bytes: removed.bytes + quarantine,
        documents: 0,
        forgotten: 0,
        marks: 0,
        quarantine,
        plan: RemovalPlan { planned_at, marks: Default::default() },
        dry_run,
        spreads: false,
    })
}
