//! What an operator does with published packages: keeps them, and prunes them by rules.

use jiff::Timestamp;

use super::{ChangeError, HostedPackage, HostedStore, HostedVersion, StateChange, VersionNumber, VersionState};
use crate::entry::Digest;

/// Changes of a store by its operator: marks against pruning, and retention rules. All methods block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreUpkeep<'s> {
    pub(super) store: &'s HostedStore,
}

/// Which versions are pruned: none of the last ones, none that is young, none that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetentionRule {
    /// How many of the highest stable versions stay, and of the pre-releases above them. At least 1.
    pub(crate) keep_last: usize,
    /// What was published at or after this stays.
    pub(crate) published_before: Timestamp,
}

/// What is pruned of a package.
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
    /// What becomes of it.
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

/// What became of something prunable.
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
        self.store.change(name, version, |record| record.kept = kept)
    }

    /// What a rule prunes of a package, the lowest version first.
    ///
    /// # Errors
    /// When the record of a moving version cannot be read.
    pub(crate) fn prunable(&self, package: &HostedPackage, rule: &RetentionRule) -> std::io::Result<Vec<Prunable>> {
        let is_old = |at: Timestamp| at < rule.published_before;
        let mut found = Vec::new();
        for version in semantic_prunable(package, rule) {
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
            let old = record.previous.iter().filter(|replaced| is_old(replaced.published_at));
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

    /// Prunes one part, unless the rule does not prune it any more: something was kept, deleted or hidden since it was found.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn prune(
        &self,
        prunable: &Prunable,
        rule: &RetentionRule,
        change: StateChange,
    ) -> Result<PruneOutcome, ChangeError> {
        let Prunable { package, version, digest, published_at, .. } = prunable;
        let is_pruned = || {
            let present = self.store.package(package);
            present.is_some_and(|present| present.version(version).is_some_and(|one| prunes(&present, one, rule)))
        };
        let changed = self.store.change_if(package, version, |record| match prunable.what {
            PrunedPart::Version => {
                let is_pruned = is_pruned();
                if is_pruned {
                    record.delete(change);
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
        match changed {
            Ok(Some(_)) => Ok(PruneOutcome::Pruned),
            Ok(None) | Err(ChangeError::Deleted(_)) => Ok(PruneOutcome::Stays),
            Err(error) => Err(error),
        }
    }
}

/// The versions with a number that a rule prunes, the lowest first.
fn semantic_prunable<'p>(package: &'p HostedPackage, rule: &RetentionRule) -> Vec<&'p HostedVersion> {
    let pruned = package.versions().filter(|version| prunes(package, version, rule));
    let mut numbered: Vec<_> = pruned.filter_map(|version| Some((number(version)?, version))).collect();
    numbered.sort_by(|(one, _), (other, _)| one.cmp(other));
    numbered.into_iter().map(|(_, version)| version).collect()
}

/// The number of a version; `None` for a moving one.
fn number(version: &HostedVersion) -> Option<semver::Version> {
    version.version.parse::<VersionNumber>().ok()?.semantic().cloned()
}

/// True when a rule prunes a version: it has a number, is old and not kept, and is none of the highest in the lists.
/// Pre-releases below a stable version have been replaced by it.
fn prunes(package: &HostedPackage, version: &HostedVersion, rule: &RetentionRule) -> bool {
    if !version.is_served() || version.kept || version.published_at >= rule.published_before {
        return false;
    }
    let Some(own) = number(version) else { return false };
    if version.state != VersionState::Published {
        return true;
    }
    let mut left = rule.keep_last.max(1);
    // In reverse order of their texts, most of the first ones are above it.
    let listed = package.versions().rev().filter(|other| other.state == VersionState::Published);
    for above in listed.filter_map(number).filter(|other| *other > own) {
        match (own.pre.is_empty(), above.pre.is_empty()) {
            (true, false) => {}
            (false, true) => return true,
            (true, true) | (false, false) => left -= 1,
        }
        if left == 0 {
            return true;
        }
    }
    false
}
