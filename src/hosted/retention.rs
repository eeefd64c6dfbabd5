//! Which versions a retention rule prunes.

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{HostedPackage, HostedVersion, VersionNumber, VersionState};

/// Which versions are pruned: none of the last ones, none that is young, none that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetentionRule {
    /// How many of the highest stable versions stay, and of the pre-releases above them. At least 1.
    pub(crate) keep_last: usize,
    /// What was published at or after this stays.
    pub(crate) published_before: Timestamp,
}

/// A rule, with its limits for the package that was checked last: the numbers of a package are read once, and not for
/// each of its versions.
#[derive(Debug)]
pub(crate) struct RetentionCheck {
    rule: RetentionRule,
    last: Mutex<Option<CheckedPackage>>,
}

#[derive(Debug)]
struct CheckedPackage {
    name: String,
    /// [`HostedPackage::changes`] of the package that the numbers are of.
    changes: u64,
    limits: RetentionLimits,
}

/// The numbers below which a rule prunes. `None`: it leaves all.
#[derive(Debug, Default)]
struct RetentionLimits {
    /// The lowest stable version of the last ones.
    stable: Option<semver::Version>,
    /// The lowest pre-release of the last ones.
    pre_release: Option<semver::Version>,
    /// The highest stable version: it has replaced the pre-releases below it.
    latest: Option<semver::Version>,
}

impl RetentionCheck {
    pub(crate) fn new(rule: RetentionRule) -> Self {
        Self { rule, last: Mutex::default() }
    }

    /// True for what was published before the rule's period.
    pub(super) fn is_old(&self, published_at: Timestamp) -> bool {
        published_at < self.rule.published_before
    }

    /// The versions with a number that the rule prunes, the lowest first.
    pub(super) fn prunable<'p>(&self, package: &'p HostedPackage) -> Vec<&'p HostedVersion> {
        let limits = RetentionLimits::of(package, self.rule.keep_last);
        let numbered = package.versions().filter_map(|version| Some((self.prunable_number(version)?, version)));
        let mut pruned: Vec<_> = numbered.filter(|(number, version)| limits.prune(number, version)).collect();
        pruned.sort_by(|(one, _), (other, _)| one.cmp(other));
        pruned.into_iter().map(|(_, version)| version).collect()
    }

    /// True when the rule prunes a version of a package.
    pub(super) fn prunes(&self, package: &HostedPackage, version: &HostedVersion) -> bool {
        let Some(number) = self.prunable_number(version) else { return false };
        let mut last = self.last.lock();
        let known = last.take().filter(|last| last.name == package.name && last.changes == package.changes());
        let checked = known.unwrap_or_else(|| CheckedPackage {
            name: package.name.clone(),
            changes: package.changes(),
            limits: RetentionLimits::of(package, self.rule.keep_last),
        });
        last.insert(checked).limits.prune(&number, version)
    }

    /// Records that the version for which [`RetentionCheck::prunes`] was true is pruned, and that this was one change
    /// of the package. The limits are the same then.
    pub(super) fn note_pruned(&self) {
        if let Some(last) = &mut *self.last.lock() {
            last.changes += 1;
        }
    }

    /// The number of a version that is served, old and not kept; `None` for any other, and for a moving one.
    fn prunable_number(&self, version: &HostedVersion) -> Option<semver::Version> {
        (version.is_served() && !version.kept && self.is_old(version.published_at)).then(|| number(version))?
    }
}

impl RetentionLimits {
    /// The limits of a package: of what is in its lists.
    fn of(package: &HostedPackage, keep_last: usize) -> Self {
        let listed = package.versions().filter(|version| version.state == VersionState::Published);
        let (stable, pre_releases): (Vec<_>, Vec<_>) =
            listed.filter_map(number).partition(|number| number.pre.is_empty());
        let latest = stable.iter().max().cloned();
        Self { latest, stable: nth_highest(stable, keep_last), pre_release: nth_highest(pre_releases, keep_last) }
    }

    /// True when a version with this number is pruned, old as it is: it is in no list, or below the limits.
    fn prune(&self, number: &semver::Version, version: &HostedVersion) -> bool {
        let is_below = |limit: &Option<semver::Version>| limit.as_ref().is_some_and(|limit| number < limit);
        match (&version.state, number.pre.is_empty()) {
            (VersionState::Published, true) => is_below(&self.stable),
            (VersionState::Published, false) => is_below(&self.latest) || is_below(&self.pre_release),
            _ => true,
        }
    }
}

/// The lowest of the `count` highest numbers; `None` where there are fewer.
fn nth_highest(mut numbers: Vec<semver::Version>, count: usize) -> Option<semver::Version> {
    let place = count.max(1) - 1;
    if place >= numbers.len() {
        return None;
    }
    let (_, lowest, _) = numbers.select_nth_unstable_by(place, |one, other| other.cmp(one));
    Some(lowest.clone())
}

/// The number of a version; `None` for a moving one.
fn number(version: &HostedVersion) -> Option<semver::Version> {
    #[cfg(test)]
    tests::NUMBERS_READ.with(|count| count.set(count.get() + 1));
    version.version.parse::<VersionNumber>().ok()?.semantic().cloned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{
        entry::Digest,
        hosted::{StateChange, index::HostedIndex},
    };

    thread_local! {
        /// How often a version's number was read in this thread.
        pub(super) static NUMBERS_READ: Cell<usize> = const { Cell::new(0) };
    }

    const RULE: RetentionRule = RetentionRule { keep_last: 4_000, published_before: Timestamp::MAX };

    fn version(text: &str, state: VersionState) -> HostedVersion {
        let mut version = HostedVersion::unreadable(text);
        version.state = state;
        version
    }

    fn deleted() -> VersionState {
        VersionState::Deleted(StateChange { by: "token:a".into(), at: Timestamp::UNIX_EPOCH })
    }

    fn index(versions: impl Iterator<Item = HostedVersion>) -> HostedIndex {
        let mut index = HostedIndex::default();
        versions.for_each(|version| drop(index.set("acme-x", version, |_: &Digest| 1)));
        index
    }

    #[test]
    fn of_ten_thousand_versions_each_is_looked_at_a_few_times_however_many_are_pruned() {
        let count = 10_000;
        let published = |n: usize| version(&format!("1.{n}.0"), VersionState::Published);
        let mut index = index((0..count).map(published));
        let check = RetentionCheck::new(RULE);
        NUMBERS_READ.set(0);
        let found = check.prunable(index.package("acme-x").expect("a package")).len();
        assert_eq!(found, count - RULE.keep_last);
        assert!(NUMBERS_READ.get() <= 2 * count, "{}", NUMBERS_READ.get());
        NUMBERS_READ.set(0);
        for n in 0..found {
            let package = index.package("acme-x").expect("a package").clone();
            let name = format!("1.{n}.0");
            assert!(check.prunes(&package, package.version(&name).expect("a version")), "{name}");
            drop(package);
            index.set("acme-x", version(&name, deleted()), |_: &Digest| 1);
            check.note_pruned();
        }
        assert!(NUMBERS_READ.get() <= 2 * count, "{}", NUMBERS_READ.get());
        let package = index.package("acme-x").expect("a package");
        assert!(!check.prunes(package, package.version(&format!("1.{found}.0")).expect("a version")));
    }

    #[test]
    fn a_version_stays_that_is_one_of_the_last_since_another_was_deleted() {
        let rule = RetentionRule { keep_last: 2, ..RULE };
        let published = |n: usize| version(&format!("1.{n}.0"), VersionState::Published);
        let mut index = index((0..4).map(published));
        let check = RetentionCheck::new(rule);
        let prunes = |index: &HostedIndex, name: &str| {
            let package = index.package("acme-x").expect("a package");
            check.prunes(package, package.version(name).expect("a version"))
        };
        assert!(prunes(&index, "1.0.0") && prunes(&index, "1.1.0"));
        index.set("acme-x", version("1.3.0", deleted()), |_: &Digest| 1);
        assert!(prunes(&index, "1.0.0") && !prunes(&index, "1.1.0"));
        index.set("acme-x", version("2.0.0-rc.1", VersionState::Published), |_: &Digest| 1);
        index.set("acme-x", version("1.0.0-rc.1", VersionState::Published), |_: &Digest| 1);
        assert!(!prunes(&index, "2.0.0-rc.1") && prunes(&index, "1.0.0-rc.1") && !prunes(&index, "1.1.0"));
    }
}
