//! Does on this mirror what an operator has removed on another one.

use std::{collections::HashSet, io};

use super::{
    Registry,
    inventory::{SelectedZips, Selection, ZipRemoval},
};
use crate::cache::{Removal, RemovedBy};

impl Removal {
    /// Removes what is stored under the pattern, its lists and, where that was asked, its pins. Zips that were stored and pins
    /// that were first seen after the removal stay. May be repeated.
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
        let selected = SelectedZips { selection, planned_at: self.at, unused: None };
        let ZipRemoval { zips, .. } = inventory.remove_zips(&selected, false).await.map_err(io::Error::other)?;
        let mut pins = 0;
        if self.forget {
            let by = RemovedBy::OtherMirror { at: self.at };
            pins = inventory.forget_pins(&selected.selection, &HashSet::new(), Some(by)).await?;
        }
        let documents = inventory.document_keys(&selected.selection).await?;
        inventory.remove_documents(&documents).await?;
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
