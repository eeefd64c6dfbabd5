//! The lists of a repository's tags and branches. Once clients have asked for several names that a package does not have,
//! the lists answer for further names: then two lists cost less than two requests for each name.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{CachedValue, RegistryError, package_documents::PackageDocuments};
use crate::{
    cache::CacheFailure,
    clock::Clock,
    entry::Key,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{BranchHead, NameForm, PackageId},
    upstream::DocumentAsk,
    value::bounded_cache::BoundedCache,
};

/// Number of other unknown names of a package from which on its lists are fetched; so many names are asked for one by one.
const UNKNOWN_NAMES_BEFORE_LISTS: usize = 2;
/// Most packages whose unknown names are remembered.
const MAX_PACKAGES_WITH_UNKNOWN_NAMES: u64 = 10_000;

/// Answers from the lists of tags and branches.
pub(super) struct RefLists {
    documents: Arc<PackageDocuments>,
    unknown: UnknownNames,
}

/// What a list of tags or branches says of a name.
pub(super) enum RefAnswer {
    /// It has the name; `changed_at` is when the present list was first fetched.
    Present { changed_at: Timestamp },
    /// It is complete and current, and lacks the name.
    Absent(CacheStatus),
    /// There is no list, or it says nothing of the name.
    Unknown,
}

impl RefLists {
    pub(super) fn new(documents: Arc<PackageDocuments>, clock: Clock) -> Self {
        Self { documents, unknown: UnknownNames::new(clock) }
    }

    /// What the list of tags says of a tag. Fetches the list only after other names of the package were unknown.
    ///
    /// # Errors
    /// When the package's upstream is not configured.
    pub(super) async fn find_tag(&self, package: &PackageId, tag: &str) -> Result<RefAnswer, RegistryError> {
        if !self.should_ask(package, tag) {
            return Ok(RefAnswer::Unknown);
        }
        let Ok(list) = self.documents.tags(package, Some(self.documents.policies().miss_age(package)?)).await else {
            return Ok(RefAnswer::Unknown);
        };
        let has = list.value.tags.iter().any(|listed| listed.name == tag);
        Ok(self.answer(package, DocumentAsk::Tags, &list, has, list.value.truncated).await)
    }

    /// The head of a branch. Where the list of branches lacks it, no request asks for it by itself.
    ///
    /// # Errors
    /// As [`PackageDocuments::branch_head`].
    pub(super) async fn branch_head(
        &self,
        package: &PackageId,
        branch: &str,
    ) -> Result<CachedValue<BranchHead>, RegistryError> {
        if let RefAnswer::Absent(status) = self.find_branch(package, branch).await? {
            return Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Version), status }));
        }
        let head = self.documents.branch_head(package, branch).await;
        if let Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Version), .. })) = &head {
            self.note_unknown(package, branch)?;
        }
        head
    }

    /// As [`RefLists::find_tag`], for a branch without a stored head.
    async fn find_branch(&self, package: &PackageId, branch: &str) -> Result<RefAnswer, RegistryError> {
        let ask = DocumentAsk::Branch(branch.to_owned());
        if !self.should_ask(package, branch) || self.documents.stored().document(package, &ask).await.is_some() {
            return Ok(RefAnswer::Unknown);
        }
        let Ok(list) = self.documents.branches(package, Some(self.documents.policies().miss_age(package)?)).await
        else {
            return Ok(RefAnswer::Unknown);
        };
        let has = list.value.branches.iter().any(|listed| listed.name == branch);
        Ok(self.answer(package, DocumentAsk::Branches, &list, has, list.value.truncated).await)
    }

    /// Remembers that the upstream has no tag or no branch of this name.
    ///
    /// # Errors
    /// When the package's upstream is not configured.
    pub(super) fn note_unknown(&self, package: &PackageId, name: &str) -> Result<(), RegistryError> {
        self.unknown.note(package, name, self.documents.policies().fresh_period(package)?);
        Ok(())
    }

    fn should_ask(&self, package: &PackageId, name: &str) -> bool {
        package.name.form() == NameForm::Repository && self.unknown.has_enough_besides(package, name)
    }

    async fn answer<T>(
        &self,
        package: &PackageId,
        ask: DocumentAsk,
        list: &CachedValue<T>,
        has: bool,
        is_truncated: bool,
    ) -> RefAnswer {
        if has {
            let changed_at = self.documents.stored().changed_at(package, &ask).await;
            return changed_at.map_or(RefAnswer::Unknown, |changed_at| RefAnswer::Present { changed_at });
        }
        if is_truncated || !list.is_current() { RefAnswer::Unknown } else { RefAnswer::Absent(list.status.clone()) }
    }
}

/// The names of packages that upstreams said they do not have, for as long as a release list is fresh.
struct UnknownNames {
    packages: BoundedCache<Key, UnknownInPeriod>,
    clock: Clock,
}

/// The unknown names of one package in one period, by their hashes.
#[derive(Clone)]
struct UnknownInPeriod {
    names: Vec<u64>,
    /// When the period ends, by [`Clock::uptime`].
    until: Duration,
}

impl UnknownNames {
    fn new(clock: Clock) -> Self {
        Self { packages: BoundedCache::new(MAX_PACKAGES_WITH_UNKNOWN_NAMES), clock }
    }

    fn note(&self, package: &PackageId, name: &str, period: Duration) {
        let name = hash(name);
        let mut noted = self.current(package).unwrap_or_else(|| {
            let until = self.clock.uptime().saturating_add(period);
            UnknownInPeriod { names: Vec::new(), until }
        });
        // One name more than are needed: the one that is asked for does not count.
        if noted.names.len() <= UNKNOWN_NAMES_BEFORE_LISTS && !noted.names.contains(&name) {
            noted.names.push(name);
            self.packages.insert(Key::new(package.key_prefix()), noted);
        }
    }

    /// True when enough other names were unknown.
    fn has_enough_besides(&self, package: &PackageId, name: &str) -> bool {
        let name = hash(name);
        let noted = self.current(package);
        let others = noted.map_or(0, |noted| noted.names.iter().filter(|&&other| other != name).count());
        others >= UNKNOWN_NAMES_BEFORE_LISTS
    }

    fn current(&self, package: &PackageId) -> Option<UnknownInPeriod> {
        self.packages.get(&Key::new(package.key_prefix())).filter(|noted| self.clock.uptime() < noted.until)
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_asked_for_after_two_other_names_in_one_period() {
        let clock = Clock::default();
        let unknown = UnknownNames::new(clock.clone());
        let package = PackageId { upstream: "github".into(), name: "a/b".parse().expect("a name") };
        let period = Duration::from_secs(60);
        for _ in 0..5 {
            unknown.note(&package, "1", period);
        }
        assert!(!unknown.has_enough_besides(&package, "3"), "one name, however often");
        unknown.note(&package, "2", period);
        assert!(unknown.has_enough_besides(&package, "3"));
        assert!(!unknown.has_enough_besides(&package, "2"), "a polled name is asked for by itself");
        unknown.note(&package, "3", period);
        assert!(unknown.has_enough_besides(&package, "3"));
        clock.advance(Duration::from_secs(61));
        assert!(!unknown.has_enough_besides(&package, "4"));
    }
}
