//! Does on this mirror what an operator has removed on another one.

use std::{collections::HashSet, io};

use super::{
    Registry,
    inventory::{ALL_SHARDS, Selection},
};
use crate::{
    cache::{InventoryEntry, Removal, RemovedBy},
    entry::Key,
};

impl Removal {
    /// Removes what is stored under the pattern, its lists and, where that was asked, its pins. May be repeated.
    ///
    /// # Errors
    /// When something cannot be removed, or the bucket cannot be asked about pins.
    pub(crate) async fn apply(&self, registry: &Registry) -> io::Result<()> {
        let Ok(selection) = self.pattern.parse::<Selection>() else {
            tracing::warn!(pattern = self.pattern, "another mirror has removed what this version has no pattern for");
            return Ok(());
        };
        let inventory = registry.inventory();
        let marks = inventory.kept_missing_keys(&selection).await?;
        inventory.clear_marks(marks.into_iter().collect()).await?;
        let mut zips = 0;
        for shard in ALL_SHARDS {
            let add = |keys: &mut Vec<Key>, entry: InventoryEntry| keys.push(entry.key);
            let keys = inventory.fold(shard..=shard, &selection, Vec::new(), add).await?;
            zips += keys.len();
            inventory.remove_all(&keys).await?;
        }
        let mut pins = 0;
        if self.forget {
            pins = inventory.forget_pins(&selection, &HashSet::new(), Some(RemovedBy::OtherMirror)).await?;
        }
        let documents = inventory.document_keys(&selection).await?;
        inventory.remove_documents(&documents, RemovedBy::OtherMirror).await?;
        tracing::info!(
            pattern = self.pattern,
            zips,
            pins,
            documents = documents.len(),
            "what an operator has removed on another mirror is removed here"
        );
        Ok(())
    }
}
