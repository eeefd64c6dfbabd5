//! How fresh the documents of a package must be, and how long its absences are remembered: with a token a 304 is free of
//! quota, without one it counts, and so does every 404.

use std::{sync::Arc, time::Duration};

use super::{RegistryError, upstreams::Upstreams};
use crate::{
    cache::{
        Cache,
        policy::{Policy, UpstreamMode},
    },
    package::PackageId,
};

/// With a token, a release list of at least this age is revalidated before a version that it lacks is reported missing, so
/// that a new release is found at once: a 304 costs nothing then.
pub(super) const MIN_REVALIDATE_AGE: Duration = Duration::from_secs(5);

/// The policies of documents by package.
pub(super) struct DocumentPolicies {
    cache: Arc<Cache>,
    upstreams: Upstreams,
}

impl DocumentPolicies {
    pub(super) fn new(cache: Arc<Cache>, upstreams: Upstreams) -> Self {
        Self { cache, upstreams }
    }

    /// The policy of release lists, releases and lists of tags and branches. With `max_age`, a request waits for a
    /// revalidation when the stored document is older than that.
    ///
    /// # Errors
    /// `NotFound(Package)` when the package's upstream is not configured, as in all methods here.
    pub(super) fn releases(&self, package: &PackageId, max_age: Option<Duration>) -> Result<Policy, RegistryError> {
        let policy = self.cache.document_config().releases(self.upstreams.has_token(package)?);
        let policy = max_age.map_or(policy, |age| policy.at_most(age));
        Ok(Policy { negative: self.negative(package)?, ..policy })
    }

    /// The policy of the heads of branches and moving versions.
    pub(super) fn branch(&self, package: &PackageId) -> Result<Policy, RegistryError> {
        Ok(Policy { negative: self.negative(package)?, ..self.cache.document_config().branch() })
    }

    /// The policy of the check whether a repository is public.
    pub(super) fn repository(&self, package: &PackageId) -> Result<Policy, RegistryError> {
        Ok(Policy { negative: self.negative(package)?, ..self.cache.document_config().repository() })
    }

    /// How long a release list is fresh.
    pub(super) fn fresh_period(&self, package: &PackageId) -> Result<Duration, RegistryError> {
        Ok(self.releases(package, None)?.fresh)
    }

    /// The age from which a list is revalidated before something that it lacks is reported missing.
    pub(super) fn miss_age(&self, package: &PackageId) -> Result<Duration, RegistryError> {
        if self.upstreams.has_token(package)? { Ok(MIN_REVALIDATE_AGE) } else { self.fresh_period(package) }
    }

    /// How long it is remembered that something does not exist: without a token as long as a list is fresh.
    pub(super) fn negative(&self, package: &PackageId) -> Result<Duration, RegistryError> {
        let config = self.cache.document_config();
        let negative = config.negative.0;
        Ok(if self.upstreams.has_token(package)? { negative } else { negative.max(config.fresh_anonymous.0) })
    }

    /// As [`DocumentPolicies::negative`], for a tag that may be a branch: while the branch is fresh, too, so that its name
    /// is not looked up as a tag in between.
    pub(super) fn tag_negative(&self, package: &PackageId) -> Result<Duration, RegistryError> {
        Ok(self.negative(package)?.max(self.cache.document_config().branch.0))
    }

    /// True when no upstream may be asked.
    pub(super) fn is_offline(&self) -> bool {
        self.cache.document_config().mode == UpstreamMode::Offline
    }
}
