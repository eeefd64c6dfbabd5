//! What an operator does with published packages: keeps them, and prunes them by rules.

use jiff::Timestamp;

use super::{
    ChangeError, HostedPackage, HostedStore, HostedVersion, StateChange, VersionNumber, VersionState,
    record::ReleaseRecord,
};
use crate::entry::Digest;

/// The face of the store for operators. All methods block.
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

    /// Prunes one part. Something that was kept since it was found stays.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn prune(&self, prunable: &Prunable, change: StateChange) -> Result<(), ChangeError> {
        let Prunable { package, version, digest, published_at, .. } = prunable;
        match prunable.what {
            PrunedPart::Version => self.store.change(package, version, |record| {
                if record.kept.is_none() {
                    ReleaseRecord::delete(record, change);
                }
            }),
            PrunedPart::EarlierZip => self.store.change(package, version, |record| {
                if record.kept.is_none() {
                    record.previous.retain(|old| old.digest != *digest || old.published_at != *published_at);
                }
            }),
        }
        .map(drop)
    }
}

/// The versions with a number that a rule prunes, the lowest first.
fn semantic_prunable<'p>(package: &'p HostedPackage, rule: &RetentionRule) -> Vec<&'p HostedVersion> {
    let numbered = package.versions().filter(|version| version.is_served()).filter_map(|version| {
        let number: VersionNumber = version.version.parse().ok()?;
        Some((number.semantic()?.clone(), version))
    });
    let mut numbered: Vec<(semver::Version, &HostedVersion)> = numbered.collect();
    numbered.sort_by(|(one, _), (other, _)| other.cmp(one));
    let is_listed = |version: &HostedVersion| version.state == VersionState::Published;
    let mut stable_left = rule.keep_last.max(1);
    let mut newer_left = rule.keep_last.max(1);
    let mut is_above_stable = true;
    let mut found = Vec::new();
    for (number, version) in numbered {
        let is_stable = number.pre.is_empty();
        // Pre-releases below a stable version have been replaced by it.
        let left = match is_stable {
            true => Some(&mut stable_left),
            false if is_above_stable => Some(&mut newer_left),
            false => None,
        };
        let mut stays = version.kept || version.published_at >= rule.published_before;
        if let Some(left) = left.filter(|_| is_listed(version))
            && *left > 0
        {
            *left -= 1;
            stays = true;
        }
        is_above_stable &= !(is_stable && is_listed(version));
        if !stays {
            found.push(version);
        }
    }
    found.reverse();
    found
}
