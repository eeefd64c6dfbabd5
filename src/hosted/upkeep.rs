//! What an operator does with published packages: keeps them, and prunes them by rules.

use jiff::Timestamp;

use super::{ChangeError, HostedPackage, HostedStore, HostedVersion, RetentionCheck, StateChange};
use crate::entry::Digest;

/// Changes of a store by its operator: marks against pruning, and retention rules. All methods block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreUpkeep<'s> {
    pub(super) store: &'s HostedStore,
}

/// A version, or a zip, that a rule prunes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prunable {
    /// The package.
    pub(crate) package: String,
    /// The version.
    pub(crate) version: String,
    /// The zip.
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// When it was published.
    pub(crate) published_at: Timestamp,
    /// Which part of the version is pruned.
    pub(crate) what: PrunedPart,
}

/// A version, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrunedPart {
    /// The whole version; its tombstone stays.
    Version,
    /// An earlier zip of a moving version, which is served no more.
    EarlierZip,
}

/// The outcome of pruning one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PruneOutcome {
    /// It is pruned.
    Pruned,
    /// It is as before: the rule does not prune it any more, or it was deleted.
    Stays,
}

impl<'s> StoreUpkeep<'s> {
    pub(super) fn new(store: &'s HostedStore) -> Self {
        Self { store }
    }

    /// Marks a version as never to be pruned, or takes the mark away.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn keep(
        &self,
        name: &str,
        version: &str,
        kept: Option<StateChange>,
    ) -> Result<HostedVersion, ChangeError> {
        self.store.change(name, version, |record| record.kept.clone_from(&kept))
    }

    /// What a rule prunes of a package, the lowest version first.
    ///
    /// # Errors
    /// When the record of a moving version cannot be read.
    pub(crate) fn prunable(&self, package: &HostedPackage, rule: &RetentionCheck) -> std::io::Result<Vec<Prunable>> {
        let mut found = Vec::new();
        for version in rule.prunable(package) {
            found.push(Prunable {
                package: package.name.clone(),
                version: version.version.to_string(),
                digest: version.digest,
                len: version.len,
                published_at: version.published_at,
                what: PrunedPart::Version,
            });
        }
        for version in package.versions().filter(|version| version.has_previous() && !version.kept) {
            let record = self.store.record(&package.name, &version.version)?;
            let old = record.previous.iter().filter(|replaced| rule.is_old(replaced.published_at));
            found.extend(old.map(|replaced| Prunable {
                package: package.name.clone(),
                version: version.version.to_string(),
                digest: replaced.digest,
                len: replaced.len,
                published_at: replaced.published_at,
                what: PrunedPart::EarlierZip,
            }));
        }
        Ok(found)
    }

    /// Prunes one part, unless the rule does not prune it any more: something was kept, deleted or hidden since it was
    /// found. One check is for one run over many parts.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn prune(
        &self,
        prunable: &Prunable,
        rule: &RetentionCheck,
        change: StateChange,
    ) -> Result<PruneOutcome, ChangeError> {
        let Prunable { package, version, digest, published_at, .. } = prunable;
        let is_pruned = || {
            let present = self.store.package(package);
            present.is_some_and(|present| present.version(version).is_some_and(|one| rule.prunes(&present, one)))
        };
        let changed = self.store.change_if(package, version, |record| match prunable.what {
            PrunedPart::Version => {
                // Another mirror may have kept it a moment ago.
                let is_pruned = record.kept.is_none() && is_pruned();
                if is_pruned {
                    record.delete(change.clone());
                }
                is_pruned
            }
            PrunedPart::EarlierZip => {
                let count = record.previous.len();
                if record.kept.is_none() {
                    record.previous.retain(|old| old.digest != *digest || old.published_at != *published_at);
                }
                record.previous.len() < count
            }
        });
        if prunable.what == PrunedPart::Version && matches!(changed, Ok(Some(_))) {
            rule.note_pruned();
        }
        match changed {
            Ok(Some(_)) => Ok(PruneOutcome::Pruned),
            Ok(None) | Err(ChangeError::Deleted(_)) => Ok(PruneOutcome::Stays),
            Err(error) => Err(error),
        }
    }
}
