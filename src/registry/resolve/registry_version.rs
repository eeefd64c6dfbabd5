//! A version of a registry's package: its archive, exactly as asked.

use super::{ResolvedArchive, VersionResolver};
use crate::{
    cache::CacheFailure,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{PackageId, Version, with_v_toggled},
    registry::{RegistryError, not_found},
};

impl VersionResolver {
    /// Finds the archive of exactly this version; once the registry has said that it does not exist, of its other spelling,
    /// with `v` added or removed.
    pub(super) async fn resolve_on_registry(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<ResolvedArchive, RegistryError> {
        let name = match version {
            Version::Tag(name) | Version::Name(name) => name,
            // A registry has no branches and no commits, so it is not asked.
            Version::Branch(_) | Version::Commit(_) | Version::DefaultBranch => {
                return Err(not_found(Missing::Version, CacheStatus::generated()));
            }
        };
        let failure = match self.get_tag(package, name).await {
            Err(RegistryError::Fetch(failure)) => failure,
            answer => return answer,
        };
        let may_toggle = matches!(version, Version::Name(_));
        if failure.error.is_trouble() {
            if may_toggle && let Some(other) = self.spellings.fallback(package, name).await? {
                return self.get_other_spelling(package, &other).await;
            }
            return Err(self.trouble_error(package, name, failure).await);
        }
        if matches!(failure.error, FetchError::NotFound(_)) {
            self.ensure_exists(package).await?;
            if let Some(other) = with_v_toggled(name).filter(|_| may_toggle) {
                match self.get_tag(package, &other).await {
                    Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => {}
                    answer => return answer,
                }
            }
        }
        Err(failure.into())
    }
}
