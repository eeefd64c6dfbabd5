//! Applies on this mirror what an operator has removed, or marked as kept, on another one.

use std::{collections::HashSet, io};

use jiff::Timestamp;

use super::{
    InventoryEntry, Registry,
    inventory::{ALL_SHARDS, Selection},
    zip_removal::{RemovalMode, SelectedZips, ZipRemoval},
};
use crate::{
    cache::{KeepChange, Removal, RemovedBy},
    entry::Key,
};

impl Removal {
    /// Marks the zips that the pattern selects; or removes them, their packages' lists and, where that was asked, their pins.
    ///
    /// Pins that were first seen after the removal stay. So do zips and lists that were stored after both the removal and
    /// `looked_at`, a time before the removal by this mirror's clock: what was stored until then is removed although the
    /// clocks of two mirrors differ. The call may be repeated.
    ///
    /// # Errors
    /// When something cannot be removed, or the bucket cannot be asked about pins.
    pub(crate) async fn apply(&self, registry: &Registry, looked_at: Option<Timestamp>) -> io::Result<()> {
        let Ok(selection) = self.pattern.parse::<Selection>() else {
            tracing::warn!(pattern = self.pattern, "this version cannot read the pattern of another mirror's removal");
            return Ok(());
        };
        let until = looked_at.map_or(self.at, |looked_at| looked_at.max(self.at));
        if let Some(mark) = self.mark {
            return self.apply_mark(registry, &selection, mark, until).await;
        }
        let inventory = registry.inventory();
        let marks = inventory.kept_missing_keys(&selection).await?;
        inventory.clear_marks(marks.into_iter().collect()).await?;
        let selected = SelectedZips { selection, planned_at: until, unused: None };
        let removal = inventory.remove_zips(&selected, RemovalMode::Remove).await;
        let ZipRemoval { zips, .. } = removal.map_err(io::Error::other)?;
        let mut pins = 0;
        if self.forget {
            let by = RemovedBy::OtherMirror { at: self.at };
            pins = inventory.forget_pins(&selected.selection, &HashSet::new(), Some(by)).await?;
        }
        let documents = inventory.document_keys(&selected.selection).await?;
        inventory.document_removal().remove_until(documents, until).await?;
        tracing::info!(
            pattern = self.pattern,
            zips,
            pins,
            "what an operator has removed on another mirror is removed here"
        );
        Ok(())
    }

    /// Marks what was stored at `until` at the latest, or removes the marks of all selected zips.
    async fn apply_mark(
        &self,
        registry: &Registry,
        selection: &Selection,
        mark: KeepChange,
        until: Timestamp,
    ) -> io::Result<()> {
        let inventory = registry.inventory();
        let kept = mark == KeepChange::Keep;
        let until = if kept { until } else { Timestamp::MAX };
        let add = move |entries: &mut Vec<InventoryEntry>, entry: InventoryEntry| {
            if entry.kept != kept && entry.stored_at <= until {
                entries.push(entry);
            }
        };
        let mut marked = 0;
        for shard in ALL_SHARDS {
            let entries = inventory.fold(shard..=shard, selection, Vec::new(), add).await?;
            let later = inventory.revisions_written_after(&entries, until).await?;
            let stored_before = entries.into_iter().filter(|entry| !later.contains(&entry.digest));
            let keys: Vec<Key> = stored_before.map(|entry| entry.key).collect();
            marked += inventory.mark(keys, mark).await?;
        }
        if !kept {
            let keys = inventory.kept_missing_keys(selection).await?;
            inventory.clear_marks(keys.into_iter().collect()).await?;
        }
        tracing::info!(pattern = self.pattern, kept, marked, "what an operator has marked on a mirror is marked here");
        Ok(())
    }
}
