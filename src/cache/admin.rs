//! What an operator does to the cache: removes, keeps, checks.

use std::{convert::Infallible, io};

use super::Cache;
use crate::{
    entry::{Digest, Key, Pin},
    storage::{
        Object, Tier as _, Usage,
        disk::{DiskUsage, InventoryEntry, PinEvent},
    },
};

/// What a look at a stored document came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is what it should be.
    Good,
    /// It was not, and is again.
    Mended,
    /// It is not, and has been set aside.
    Damaged,
}

impl Cache {
    /// Everything that is stored under a key that `wanted` takes.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn inventory(&self, wanted: impl Fn(&Key) -> bool + Send + 'static) -> io::Result<Vec<InventoryEntry>> {
        self.disk.inventory(wanted).await
    }

    /// Reads a document from disk; one that is damaged there is set aside. What memory still has of it goes back to the
    /// disk: then it is mended without anybody being asked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn check_document(&self, key: &Key) -> io::Result<Checked> {
        if self.disk.documents().get(key).await?.is_some() {
            return Ok(Checked::Good);
        }
        if let Some(document) = self.document_in_memory(key) {
            self.disk.documents().put(key, &document).await?;
            return Ok(Checked::Mended);
        }
        Ok(Checked::Damaged)
    }

    /// What the tiers hold, the faster one first, and what the bytes on disk are made of.
    pub fn usage(&self) -> ([Usage; 2], DiskUsage) {
        ([self.memory.usage(), self.disk.usage()], self.disk.sums())
    }

    /// What is stored under a key, for a look that is no use: it changes neither the order of use nor any count.
    ///
    /// # Errors
    /// When the disk tier cannot be read.
    pub async fn object(&self, key: &Key) -> io::Result<Option<Object>> {
        let object = match self.memory.find(key) {
            Some(object) => Some(object),
            None => self.disk.get(key).await?,
        };
        Ok(object.map(|object| Object { uses: None, ..object }))
    }

    /// Removes what is stored under a key; with `forget`, what was first seen under it, too: then the next fetch may
    /// have other content.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, key: &Key, forget: bool) -> io::Result<()> {
        let removed = self.disk.remove(key).await;
        self.removals.bump_with(key, || self.memory.forget_key(key));
        self.generations.bump(key);
        self.failures.forget(key);
        // Its file may be gone all the same: only now is that an error.
        removed?;
        if forget {
            let judge = |old: Option<Pin>| Ok::<_, Infallible>(Vec::from_iter(old.map(|pin| (PinEvent::Forget, pin))));
            let Ok(()) = self.disk.settle_pin(key, judge).await?;
        }
        Ok(())
    }

    /// Hashes a blob; false when it was damaged: then it has been set aside, and no tier has it any more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn check(&self, digest: &Digest) -> io::Result<bool> {
        let good = self.disk.check(digest).await?;
        if !good {
            self.forget_blob(digest);
        }
        Ok(good)
    }
}
