//! The release lists, releases and repository of a package, for clients.

use std::sync::Arc;

use super::{
    CachedValue, RegistryError,
    archive_source::ArchiveSource,
    authorize::{Audience, Authorizer},
    cached_value::release_from_list,
    document_policies::MIN_REVALIDATE_AGE,
    identity::RepositoryIdentity,
    list_renewal::ListRenewal,
    not_found,
    package_documents::PackageDocuments,
    ref_lists::{RefAnswer, RefLists},
    spelling::Spellings,
    upstreams::Upstreams,
    version_rules::VersionRules,
};
use crate::{
    cache::CacheFailure,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{PackageId, Release, Releases, Repository, with_v_toggled},
    upstream::{DocumentAsk, ReleaseLookup},
};

/// Serves the release documents of packages that may be served.
pub struct ReleaseDocuments {
    upstreams: Upstreams,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    ref_lists: Arc<RefLists>,
    list_renewal: Arc<ListRenewal>,
    identity: Arc<RepositoryIdentity>,
    rules: Arc<VersionRules>,
    spellings: Spellings,
}

/// What [`ReleaseDocuments`] is built on.
pub(super) struct ReleaseDocumentsParts {
    pub(super) upstreams: Upstreams,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) documents: Arc<PackageDocuments>,
    pub(super) archives: Arc<ArchiveSource>,
    pub(super) ref_lists: Arc<RefLists>,
    pub(super) list_renewal: Arc<ListRenewal>,
    pub(super) identity: Arc<RepositoryIdentity>,
    pub(super) rules: Arc<VersionRules>,
}

impl ReleaseDocuments {
    pub(super) fn new(parts: ReleaseDocumentsParts) -> Self {
        let ReleaseDocumentsParts {
            upstreams,
            authorizer,
            documents,
            archives,
            ref_lists,
            list_renewal,
            identity,
            rules,
        } = parts;
        let spellings = Spellings::new(documents.clone(), archives);
        Self { upstreams, authorizer, documents, ref_lists, list_renewal, identity, rules, spellings }
    }

    /// Every release of a package, in the upstream's order.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn releases(&self, package: &PackageId) -> Result<CachedValue<Releases>, RegistryError> {
        self.authorizer.authorize(package).await?;
        let list = self.documents.releases(package, None).await?;
        let list = self.identity.filter_releases(package, list).await?;
        self.rules.filter_releases(package, list).await
    }

    /// The release that the upstream calls latest; where the rules refuse it, the highest stable version below it.
    ///
    /// # Errors
    /// See [`RegistryError`]; a package without releases is `NotFound(Missing::Release)`.
    pub async fn latest(&self, package: &PackageId) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(package).await?;
        let latest = self.upstream_latest(package).await?;
        let latest = self.identity.check_release(package, latest).await?;
        self.rules.served_latest(package, latest).await
    }

    async fn upstream_latest(&self, package: &PackageId) -> Result<CachedValue<Release>, RegistryError> {
        // A package without releases costs one request, that for its list, and none while the list is fresh.
        if let Some(status) = self.list_renewal.confirm_no_release(package).await? {
            return Err(not_found(Missing::Release, status));
        }
        match self.documents.release(package, DocumentAsk::Latest, None).await {
            Ok(latest) => {
                self.list_renewal.renew_without_latest(package, &latest).await?;
                Ok(latest)
            }
            Err(RegistryError::Fetch(failure)) if matches!(failure.error, FetchError::Offline { .. }) => {
                self.latest_from_list(package, failure).await
            }
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Release), status })) => {
                Err(self.no_latest(package, status).await)
            }
            answer => answer,
        }
    }

    /// The error where the upstream has no latest release. An upstream whose releases are found in the list
    /// ([`ReleaseLookup::InList`]) answers alike for a package without releases and for none: the list tells which it is.
    async fn no_latest(&self, package: &PackageId, status: CacheStatus) -> RegistryError {
        let is_listed = self.documents.stored().releases(package).await.is_some();
        let is_certain = self.upstreams.release_lookup(package).is_ok_and(|lookup| lookup != ReleaseLookup::InList);
        if is_listed || is_certain {
            return not_found(Missing::Release, status);
        }
        match self.documents.releases(package, None).await {
            Ok(_) => not_found(Missing::Release, status),
            Err(error) => error,
        }
    }

    /// The newest release of the stored list that is no prerelease: offline, the upstream cannot be asked for its latest.
    async fn latest_from_list(
        &self,
        package: &PackageId,
        failure: CacheFailure,
    ) -> Result<CachedValue<Release>, RegistryError> {
        let Ok(list) = self.documents.releases(package, None).await else { return Err(failure.into()) };
        let stable = list.value.releases.iter().filter(|release| !release.prerelease);
        match stable.max_by_key(|release| release.created_at) {
            Some(release) => Ok(release_from_list(release, &list)),
            None => Err(not_found(Missing::Release, list.status)),
        }
    }

    /// The release of a version: its tag exactly as asked, else with `v` added or removed.
    ///
    /// # Errors
    /// See [`RegistryError`]; an unknown version is `NotFound(Missing::Release)`, or `NotFound(Missing::Version)` on an
    /// upstream that is asked for it without a list.
    pub async fn release(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(package).await?;
        let release = match self.upstreams.release_lookup(package)? {
            ReleaseLookup::InList => self.release_in_list(package, version).await?,
            ReleaseLookup::ByTag => self.release_by_tag(package, version).await?,
        };
        let release = self.identity.check_release(package, release).await?;
        self.rules.check_release(package, &release.value).await?;
        Ok(release)
    }

    /// Who may be sent what is served of a package.
    pub async fn audience(&self, package: &PackageId) -> Audience {
        self.authorizer.audience(package).await
    }

    /// The name that the repository has now, if it was renamed; `None` also while the upstream cannot be asked.
    ///
    /// # Errors
    /// When the upstream of the package is not configured.
    pub async fn present_name(&self, package: &PackageId) -> Result<Option<PackageId>, RegistryError> {
        self.authorizer.present_name(package).await
    }

    /// True when the package may be served and stored documents do not show that its repository is public.
    pub async fn may_be_private(&self, package: &PackageId) -> bool {
        self.authorizer.audience(package).await == Audience::Clients && !self.authorizer.was_public(package).await
    }

    /// Checks that the package is public on its upstream.
    ///
    /// # Errors
    /// `NotFound(Package)` for a private repository; the upstream's failure where no stored document says that the
    /// repository is public.
    pub async fn ensure_public(&self, package: &PackageId) -> Result<(), RegistryError> {
        self.authorizer.check_public(package).await
    }

    /// The release in the list; else, where the list may lack it, at its own address; else, once the upstream has said that
    /// exactly this release does not exist, the same in its other spelling. While the upstream cannot be asked, the other
    /// spelling only where [`Spellings`] allows it.
    async fn release_in_list(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        let failure = match self.exact_release(package, version).await? {
            ReleaseFinding::Found(release) => return Ok(release),
            ReleaseFinding::Trouble(failure) => return self.release_in_trouble(package, version, failure).await,
            ReleaseFinding::Absent(failure) => failure,
        };
        // If this request fetched the list, its status is reported, in whichever spelling the list has the release.
        let was_listed = failure.status.fwd.is_some() && failure.status.stored;
        // A tag of exactly this name has no release: its zip is served under this name, so no other release is.
        if self.spellings.is_known(package, version).await? {
            return Err(failure.into());
        }
        if let Some(other) = with_v_toggled(version) {
            match self.exact_release(package, &other).await? {
                ReleaseFinding::Found(release) if was_listed && release.status.fwd.is_none() => {
                    return Ok(CachedValue { status: failure.status, ..release });
                }
                ReleaseFinding::Found(release) => return Ok(release),
                ReleaseFinding::Trouble(failure) => return Err(failure.into()),
                ReleaseFinding::Absent(_) => {}
            }
        }
        Err(failure.into())
    }

    async fn exact_release(&self, package: &PackageId, tag: &str) -> Result<ReleaseFinding, RegistryError> {
        let miss_age = self.documents.policies().miss_age(package)?;
        let mut listed: Option<CacheStatus> = None;
        for max_age in [None, Some(miss_age)] {
            match self.documents.releases(package, max_age).await {
                Ok(list) => {
                    if let Some(release) = list.value.releases.iter().find(|release| release.tag_name == tag) {
                        return Ok(ReleaseFinding::Found(release_from_list(release, &list)));
                    }
                    let is_complete = max_age.is_some() && self.is_complete(package, &list).await;
                    // If the first pass fetched the list, the second one is a hit: report the fetch.
                    let status = listed.take().filter(|status| status.fwd.is_some()).unwrap_or(list.status);
                    if is_complete {
                        return Ok(ReleaseFinding::Absent(no_release(status)));
                    }
                    listed = Some(status);
                }
                // The list cannot be had; the release may be.
                Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {}
                Err(error) => return Err(error),
            }
        }
        if let RefAnswer::Absent(status) = self.ref_lists.find_tag(package, tag).await? {
            return Ok(ReleaseFinding::Absent(no_release(status)));
        }
        match self.documents.release(package, DocumentAsk::Tag(tag.to_owned()), None).await {
            Ok(release) => {
                if listed.is_some() {
                    self.list_renewal.renew(package).await?;
                }
                Ok(ReleaseFinding::Found(release))
            }
            Err(RegistryError::Fetch(failure)) if matches!(failure.error, FetchError::NotFound(_)) => {
                self.ref_lists.note_unknown(package, tag)?;
                Ok(ReleaseFinding::Absent(no_release(failure.status)))
            }
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {
                // A release of the list may be served instead: report the list's status.
                Ok(ReleaseFinding::Trouble(CacheFailure { status: listed.unwrap_or(failure.status), ..failure }))
            }
            Err(error) => Err(error),
        }
    }

    /// True for a list that lacks nothing that the upstream has: of one page, which was just fetched or confirmed.
    async fn is_complete(&self, package: &PackageId, list: &CachedValue<Releases>) -> bool {
        let document = self.documents.stored().document(package, &DocumentAsk::Releases).await;
        let has_one_page = document.is_some_and(|document| document.meta.validators.pages.len() < 2);
        has_one_page && !list.value.truncated && list.is_current() && list.age <= MIN_REVALIDATE_AGE
    }

    async fn release_in_trouble(
        &self,
        package: &PackageId,
        version: &str,
        failure: CacheFailure,
    ) -> Result<CachedValue<Release>, RegistryError> {
        let status = failure.status.clone().used_stale().detail("stale-if-error");
        if let Some(release) = self.documents.stored().release(package, version, &status).await {
            return Ok(release);
        }
        if let Some(other) = self.spellings.fallback(package, version).await? {
            let status = status.detail("other-spelling");
            if let Some(release) = self.documents.stored().release(package, &other, &status).await {
                return Ok(release);
            }
        }
        if self.documents.policies().is_offline() {
            let absent = self.spellings.is_unlisted(package, version).await;
            return Err(RegistryError::Fetch(CacheFailure { error: FetchError::Offline { absent }, ..failure }));
        }
        Err(failure.into())
    }

    /// The release at its own address: exactly as asked, else, once the upstream has said that it does not exist, with `v`
    /// added or removed. While the upstream fails, what other documents say of the version is served.
    async fn release_by_tag(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        let failure = match self.tagged_release(package, version).await {
            Err(RegistryError::Fetch(failure)) => failure,
            answer => return answer,
        };
        if failure.error.is_trouble() {
            return self.release_in_trouble(package, version, failure).await;
        }
        if matches!(failure.error, FetchError::NotFound(_)) {
            self.documents.ensure_exists(package).await?;
            if let Some(toggled) = with_v_toggled(version) {
                match self.tagged_release(package, &toggled).await {
                    Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => {}
                    answer => return answer,
                }
            }
        }
        Err(failure.into())
    }

    async fn tagged_release(&self, package: &PackageId, tag: &str) -> Result<CachedValue<Release>, RegistryError> {
        let ask = DocumentAsk::Tag(tag.to_owned());
        let release = self.documents.release(package, ask.clone(), None).await?;
        self.authorizer.recheck_document(package, &ask).await?;
        Ok(release)
    }

    /// The repository itself, as fresh as a release list: clients read its default branch.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn repository(&self, package: &PackageId) -> Result<CachedValue<Repository>, RegistryError> {
        self.authorizer.authorize(package).await?;
        self.documents.repository(package).await
    }
}

/// Whether a package has a release of exactly one tag.
enum ReleaseFinding {
    Found(CachedValue<Release>),
    /// The upstream has said that there is none, now or a moment ago.
    Absent(CacheFailure),
    /// The upstream cannot be asked.
    Trouble(CacheFailure),
}

fn no_release(status: CacheStatus) -> CacheFailure {
    CacheFailure { error: FetchError::NotFound(Missing::Release), status }
}
