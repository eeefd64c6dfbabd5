//! Which versions are served: by the patterns of `packages.allow` and `packages.deny` that name versions, by the operator's
//! blocks, and by a minimum age.
//!
//! The rules apply to what a request resolves to, however it spells the version: to a tag, and to a commit by the tags that
//! point at it. They are checked before a document is sent and before an archive is looked up, stored or not.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    CachedValue, RegistryError,
    cached_value::release_from_list,
    package_documents::PackageDocuments,
    policy::{AgeConfig, Config, Gone, PolicyError},
    repository_names::names_of,
    version_refusal::VersionRefusal,
};
use crate::{
    clock::Clock,
    entry::Digest,
    package::{PackageId, PackagePattern, PatternError, Release, Releases, VersionedPattern, semantic},
    upstream::GitRef,
    value::Period,
};

pub(crate) mod blocks;
mod folder_rules;
mod known_versions;
mod merged_blocks;
mod seen_versions;
mod upstream_facts;

pub(crate) use blocks::{BlockError, BlockedPattern, Blocks, StoredBlocks};
pub(super) use folder_rules::{FolderRules, alias_of};
pub(super) use known_versions::KnownRules;
pub(super) use seen_versions::SeenVersions;
pub(super) use upstream_facts::published_at;

/// The rules about versions.
pub(super) struct VersionRules {
    /// Every entry of `packages.allow`; empty: all.
    allow: Vec<VersionedPattern>,
    /// The entries of `packages.deny` with versions.
    deny: Vec<VersionedPattern>,
    ages: Vec<AgeRule>,
    gone: Gone,
    blocks: Arc<Blocks>,
    first_seen: SeenVersions,
    documents: Arc<PackageDocuments>,
    clock: Clock,
}

struct AgeRule {
    packages: PackagePattern,
    min_age: Period,
}

impl VersionRules {
    /// Compiles the section.
    ///
    /// # Errors
    /// The first pattern that is not valid.
    pub(super) fn build(
        config: &Config,
        blocks: Arc<Blocks>,
        documents: Arc<PackageDocuments>,
        first_seen: SeenVersions,
        clock: Clock,
    ) -> Result<Self, PolicyError> {
        let compile = |key, patterns: &[String]| -> Result<Vec<VersionedPattern>, PolicyError> {
            let compile =
                |value: &String| value.parse().map_err(|reason| PolicyError { key, value: value.clone(), reason });
            patterns.iter().map(compile).collect()
        };
        let age = |AgeConfig { packages, age }: &AgeConfig| {
            let packages = packages.parse().map_err(|reason: PatternError| PolicyError {
                key: "min_age_for",
                value: packages.clone(),
                reason: reason.into(),
            })?;
            Ok(AgeRule { packages, min_age: *age })
        };
        let mut ages = config.min_age_for.iter().map(age).collect::<Result<Vec<_>, PolicyError>>()?;
        ages.extend("*".parse().ok().map(|packages| AgeRule { packages, min_age: config.min_age }));
        let mut deny = compile("deny", &config.deny)?;
        deny.retain(|pattern| pattern.whole_packages().is_none());
        Ok(Self {
            allow: compile("allow", &config.allow)?,
            deny,
            ages,
            gone: config.gone,
            blocks,
            first_seen,
            documents,
            clock,
        })
    }

    /// A number that changes whenever a block is set or taken away.
    pub(super) fn generation(&self) -> u64 {
        self.blocks.generation()
    }

    /// The blocks.
    pub(super) fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// True when no rule names versions and none has an age.
    fn are_empty(&self) -> bool {
        let has_versions = |pattern: &VersionedPattern| pattern.whole_packages().is_none();
        self.deny.is_empty()
            && !self.allow.iter().any(has_versions)
            && self.ages.iter().all(|rule| rule.min_age.0.is_zero())
            && self.blocks.are_empty()
    }

    /// The names of the package, if the rules may refuse a version of it under one of them; else none, as in most cases.
    async fn concerned(&self, package: &PackageId) -> Vec<PackageId> {
        if self.are_empty() {
            return Vec::new();
        }
        let mut names = names_of(&self.documents, package).await;
        let concern = |name: &PackageId| self.name_versions_of(name) || self.min_age(name).is_some();
        if !names.iter().any(concern) {
            names.clear();
        }
        names
    }

    /// True when the rules may refuse a version of the package.
    pub(super) async fn concern(&self, package: &PackageId) -> bool {
        !self.concerned(package).await.is_empty()
    }

    /// True when a pattern or a block names versions of the package.
    fn name_versions_of(&self, package: &PackageId) -> bool {
        self.deny.iter().any(|pattern| pattern.matches_package(package))
            || self.blocks.concern(package)
            || self.allow.iter().any(|pattern| pattern.whole_packages().is_none() && pattern.matches_package(package))
    }

    fn min_age(&self, package: &PackageId) -> Option<Period> {
        let rule = self.ages.iter().find(|rule| rule.packages.matches(package));
        rule.map(|rule| rule.min_age).filter(|age| !age.0.is_zero())
    }

    /// Checks a version by its name.
    ///
    /// # Errors
    /// `VersionRefused`.
    fn check_name(&self, package: &PackageId, version: &str) -> Result<(), RegistryError> {
        let is_allowed = self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(package, version));
        if !is_allowed {
            return Err(RegistryError::VersionRefused(VersionRefusal::Policy));
        }
        self.check_not_refused(package, version)
    }

    /// Checks a version by `packages.deny` and by the blocks.
    fn check_not_refused(&self, package: &PackageId, version: &str) -> Result<(), RegistryError> {
        if self.deny.iter().any(|pattern| pattern.matches(package, version)) {
            return Err(RegistryError::VersionRefused(VersionRefusal::Policy));
        }
        match self.blocks.reason(package, version) {
            Some(reason) => Err(RegistryError::VersionRefused(VersionRefusal::Blocked { reason })),
            None => Ok(()),
        }
    }

    /// Checks a release by its name and its age.
    ///
    /// # Errors
    /// `VersionRefused`; when the pins, where the first sight of a version is recorded, cannot be read or written.
    pub(super) async fn check_release(&self, package: &PackageId, release: &Release) -> Result<(), RegistryError> {
        let names = self.concerned(package).await;
        self.check_names(&names, &release.tag_name)?;
        let Some(min_age) = self.min_age_of(&names) else { return Ok(()) };
        let since = match published_at(package, release) {
            Some(since) => since,
            None => self.first_seen.get_or_record(package, &GitRef::Tag(release.tag_name.clone())).await?,
        };
        self.check_age(since, min_age)
    }

    fn check_names(&self, names: &[PackageId], version: &str) -> Result<(), RegistryError> {
        names.iter().try_for_each(|name| self.check_name(name, version))
    }

    /// The greatest of the ages that the names need.
    fn min_age_of(&self, names: &[PackageId]) -> Option<Period> {
        names.iter().filter_map(|name| self.min_age(name)).max()
    }

    fn check_age(&self, since: Timestamp, min_age: Period) -> Result<(), RegistryError> {
        let wait = SignedDuration::try_from(min_age.0).unwrap_or(SignedDuration::MAX);
        let until = since.saturating_add(wait).unwrap_or(Timestamp::MAX);
        // A date in the future, of a wrong clock at the forge or here, postpones the version.
        if until <= self.clock.now() {
            return Ok(());
        }
        Err(RegistryError::VersionRefused(VersionRefusal::TooYoung { min_age, until }))
    }

    /// Records that a commit exists, because a branch has just led to it, where its age counts.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub(super) async fn note_commit(&self, package: &PackageId, commit: &str) -> Result<(), RegistryError> {
        if self.min_age_of(&self.concerned(package).await).is_some() {
            self.first_seen.get_or_record(package, &GitRef::Commit(commit.to_owned())).await?;
        }
        Ok(())
    }

    /// Checks the archive of a reference before it is looked up. A tag is checked by its name and its release; a commit by
    /// the tags that point at it and by when it was first seen.
    ///
    /// # Errors
    /// `VersionRefused`; the upstream's failure where it has to say which tags a commit has, or when a release was published.
    pub(super) async fn check_reference(&self, package: &PackageId, reference: &GitRef) -> Result<(), RegistryError> {
        if let (Gone::Follow, GitRef::Tag(tag)) = (self.gone, reference) {
            self.check_not_withdrawn(package, tag).await?;
        }
        let names = self.concerned(package).await;
        match reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => self.check_names(&names, tag)?,
            GitRef::Commit(commit) if names.iter().any(|name| self.name_versions_of(name)) => {
                self.check_commit(package, &names, commit).await?;
            }
            GitRef::Commit(_) => {}
        }
        let Some(min_age) = self.min_age_of(&names) else { return Ok(()) };
        // What this mirror has seen for long enough is old enough, whatever the forge says: no request is needed.
        let seen = self.first_seen.known(package, reference).await?;
        if seen.is_some_and(|seen| self.check_age(seen, min_age).is_ok()) {
            return Ok(());
        }
        let since = match (reference, seen) {
            (GitRef::Tag(tag), _) => self.tag_published_at(package, tag).await?,
            // Recorded before: it exists.
            (_, Some(seen)) => Some(seen),
            (GitRef::Commit(commit), None) => {
                self.ensure_listed(package, commit).await?;
                None
            }
            // The upstream has just named it.
            (GitRef::Moving { .. }, None) => None,
        };
        let since = match since {
            Some(since) => since,
            None => self.first_seen.get_or_record(package, reference).await?,
        };
        self.check_age(since, min_age)
    }

    /// Removes the releases that are refused from a list.
    ///
    /// # Errors
    /// As [`VersionRules::check_release`], but for the refusals.
    pub(super) async fn filter_releases(
        &self,
        package: &PackageId,
        list: CachedValue<Releases>,
    ) -> Result<CachedValue<Releases>, RegistryError> {
        if !self.concern(package).await {
            return Ok(list);
        }
        let mut refused = Vec::new();
        for (index, release) in list.value.releases.iter().enumerate() {
            match self.check_release(package, release).await {
                Ok(()) => {}
                Err(RegistryError::VersionRefused(_)) => refused.push(index),
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() {
            return Ok(list);
        }
        let is_kept =
            |(index, release): (usize, &Release)| refused.binary_search(&index).is_err().then(|| release.clone());
        let releases = list.value.releases.iter().enumerate().filter_map(is_kept).collect();
        let value = Arc::new(Releases { releases, truncated: list.value.truncated, memory: list.value.memory.clone() });
        let digest = Digest::of(format!("{}#without:{refused:?}", list.digest).as_bytes());
        Ok(CachedValue { value, digest, ..list })
    }

    /// The latest release that may be served: the upstream's, else the highest stable version of the list that is not above
    /// it.
    ///
    /// # Errors
    /// `NoVersionAllowed` when there is none.
    pub(super) async fn served_latest(
        &self,
        package: &PackageId,
        latest: CachedValue<Release>,
    ) -> Result<CachedValue<Release>, RegistryError> {
        if !self.concern(package).await {
            return Ok(latest);
        }
        let refusal = match self.check_release(package, &latest.value).await {
            Ok(()) => return Ok(latest),
            Err(RegistryError::VersionRefused(refusal)) => refusal,
            Err(error) => return Err(error),
        };
        let list = self.documents.releases(package, None).await?;
        let list = self.filter_releases(package, list).await?;
        let ceiling = semantic(&latest.value.tag_name);
        let version = |release: &Release| semantic(&release.tag_name).filter(|version| version.pre.is_empty());
        let is_below = |release: &&Release| {
            !release.prerelease
                && version(release).is_some_and(|v| ceiling.as_ref().is_none_or(|ceiling| v <= *ceiling))
        };
        match list.value.releases.iter().filter(is_below).max_by_key(|release| version(release)) {
            Some(release) => Ok(release_from_list(release, &list)),
            None => Err(RegistryError::NoVersionAllowed(refusal)),
        }
    }
}
