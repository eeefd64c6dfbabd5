//! Where a name without an upstream comes from: its recorded source, else the first upstream of its route that has it.
//!
//! The next upstream is asked only after a healthy one has said that it has no such package. Any other failure ends the
//! search: otherwise the owner of the same name elsewhere would be served while an upstream fails.

use std::{io, sync::Arc};

use super::{
    RegistryError,
    authorize::Authorizer,
    not_found,
    package_documents::PackageDocuments,
    shared_sources::{FoundSource, SourceSearch, SourceSharing, end_generations, unrecordable},
    shared_work::SharedWorkCache,
    upstreams::Upstreams,
};
use crate::{
    cache::{Cache, CacheFailure, SetSourceError, SourcePlace, SourceRecord},
    entry::{Digest, RecordedSource},
    http::cache_status::{CacheStatus, Fwd},
    origin::{FetchError, Missing},
    package::{DialectName, PackageId, PackageName},
    upstream::DocumentAsk,
};

/// Finds and records the sources of names.
pub struct SourceResolver {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    /// With a shared bucket.
    sharing: Option<SourceSharing>,
    /// The running searches, with a shared bucket. Their results are not kept.
    searches: SharedWorkCache<PackageId, SourceSearchFailure>,
}

/// Why a source of a bundle is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum ImportSourceError {
    /// It cannot be written here.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It cannot be recorded in the shared bucket.
    #[error(transparent)]
    Shared(#[from] SetSourceError),
}

/// Why a search found no source.
#[derive(Clone, Debug)]
pub struct SourceSearchFailure {
    /// The error.
    pub error: RegistryError,
    /// The package on the upstream that ended the search; `None` when every upstream says that it has no such package.
    pub package: Option<PackageId>,
}

/// Whether an upstream has a package.
enum Existence {
    Present,
    Absent(CacheStatus),
}

impl SourceResolver {
    pub(super) fn new(
        cache: Arc<Cache>,
        upstreams: Upstreams,
        authorizer: Arc<Authorizer>,
        documents: Arc<PackageDocuments>,
    ) -> Self {
        let sharing = SourceSharing::new(&cache);
        Self { cache, upstreams, authorizer, documents, sharing, searches: SharedWorkCache::new(0) }
    }

    /// The sources in the shared bucket; `None` without one.
    pub fn sharing(&self) -> Option<&SourceSharing> {
        self.sharing.as_ref()
    }

    /// The upstream recorded for a name in a dialect. Does not block.
    pub fn recorded(&self, name: &PackageName, dialect: DialectName) -> Option<Arc<str>> {
        self.cache.disk().sources().get(name, dialect)
    }

    /// The record of a name in a dialect. Does not block.
    pub fn record_of(&self, name: &PackageName, dialect: DialectName) -> Option<RecordedSource> {
        self.cache.disk().sources().find(name, dialect)
    }

    /// True when the configured patterns permit the package.
    pub fn is_allowed(&self, package: &PackageId) -> bool {
        self.authorizer.check_policy(package).is_ok()
    }

    /// Every recorded source, ordered by name.
    pub fn list(&self) -> Vec<RecordedSource> {
        self.cache.disk().sources().list()
    }

    /// Finds the first of `candidates` that exists and may be served, and records it for the name. With a shared bucket,
    /// what is recorded there comes first, and all who ask at the same time share one search.
    ///
    /// # Errors
    /// `NotFound(Package)` when every upstream says that it has no such package. The first failure of any other kind,
    /// `Forbidden` included, ends the search. `Unrecordable` when the source cannot be written; `SourceUndecided` when the
    /// bucket cannot be asked. `SourceChanged` when another source than the candidates is recorded since.
    pub async fn find(
        &self,
        name: &PackageName,
        dialect: DialectName,
        candidates: &[PackageId],
    ) -> Result<PackageId, SourceSearchFailure> {
        let Some(sharing) = &self.sharing else { return self.search(name, dialect, candidates).await };
        let key = Digest::of(format!("{} {name}", dialect.as_str()).as_bytes());
        let package = candidates.first().cloned();
        let failed = |error| SourceSearchFailure { error, package: package.clone() };
        let search = async {
            let found = match sharing.look_up(name, dialect, candidates.len()).await.map_err(failed)? {
                Some(upstream) => candidate_on(candidates, upstream).map_err(failed)?,
                None => self.search(name, dialect, candidates).await?,
            };
            // The capacity of the cache is 0: the result is not kept.
            Ok((found, 1))
        };
        let found = self.searches.get_or_make(key, search).await;
        found.map_err(|error| error.map_or_else(|| failed(RegistryError::Unrecordable), |error| (*error).clone()))
    }

    async fn search(
        &self,
        name: &PackageName,
        dialect: DialectName,
        candidates: &[PackageId],
    ) -> Result<PackageId, SourceSearchFailure> {
        let mut absent = CacheStatus::generated();
        for candidate in candidates {
            let failed = |error| SourceSearchFailure { error, package: Some(candidate.clone()) };
            match self.existence(candidate).await.map_err(failed)? {
                Existence::Present => {
                    match self.authorizer.authorize(candidate).await {
                        // A private package gets the error of a name that no upstream has.
                        Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), status })) => {
                            return Err(SourceSearchFailure {
                                error: not_found(Missing::Package, status),
                                package: None,
                            });
                        }
                        authorized => authorized.map_err(failed)?,
                    };
                    return self.record(name, dialect, candidate, candidates).await.map_err(failed);
                }
                Existence::Absent(status) => absent = status,
            }
        }
        // With a token, `Cache-Status` must be the same for a private package and for none.
        if candidates.iter().any(|candidate| self.upstreams.has_token(candidate).unwrap_or(false)) {
            absent = CacheStatus::forwarded(Fwd::UriMiss);
        }
        Err(SourceSearchFailure { error: not_found(Missing::Package, absent), package: None })
    }

    /// The first of `candidates` that an upstream has. A package that the configured patterns forbid is never served, so it is
    /// skipped.
    ///
    /// # Errors
    /// The failure of the first upstream that does not answer, with its candidate.
    pub async fn find_taken(&self, candidates: &[PackageId]) -> Result<Option<PackageId>, SourceSearchFailure> {
        for candidate in candidates {
            match self.existence(candidate).await {
                Ok(Existence::Present) => return Ok(Some(candidate.clone())),
                Ok(Existence::Absent(_)) | Err(RegistryError::Forbidden) => {}
                Err(error) => return Err(SourceSearchFailure { error, package: Some(candidate.clone()) }),
            }
        }
        Ok(None)
    }

    async fn existence(&self, package: &PackageId) -> Result<Existence, RegistryError> {
        self.authorizer.check_policy(package)?;
        // A package with stored documents exists, also when its upstream has removed it since: then it is gone, not absent.
        if self.documents.stored().has_any(package).await {
            return Ok(Existence::Present);
        }
        let found = match self.upstreams.existence_ask(package)? {
            DocumentAsk::Repository => self.documents.repository(package).await.map(drop),
            ask => self.documents.release(package, ask, None).await.map(drop),
        };
        match found {
            Ok(()) => Ok(Existence::Present),
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Package), status })) => {
                // Without its credential an upstream answers 404 for packages that it has.
                if self.upstreams.is_credential_refused(package)? {
                    return Err(not_found(Missing::Package, status));
                }
                Ok(Existence::Absent(status))
            }
            // The package exists without a release.
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => Ok(Existence::Present),
            Err(error) => Err(error),
        }
    }

    /// Records the source that was found, and returns the package on the recorded source: another request may have recorded
    /// another one before.
    async fn record(
        &self,
        name: &PackageName,
        dialect: DialectName,
        found: &PackageId,
        candidates: &[PackageId],
    ) -> Result<PackageId, RegistryError> {
        let source = FoundSource { name, dialect, upstream: &found.upstream };
        let recorded = match &self.sharing {
            Some(sharing) => sharing.record(&source, candidates.len()).await?,
            None => {
                let recorded = self.cache.disk().sources().record(source.record(), SourcePlace::Here).await;
                recorded.map_err(|error| unrecordable(name, &error))?
            }
        };
        match recorded {
            SourceRecord::Recorded => {
                let dialect = dialect.as_str();
                tracing::debug!(%name, dialect, upstream = %found.upstream, "the source of a name is recorded");
                Ok(found.clone())
            }
            SourceRecord::Known(upstream) => candidate_on(candidates, upstream),
        }
    }

    /// Replaces the recorded source of a name, for an operator. With a shared bucket, it must be set there before.
    /// Responses that were made of `previous`, the packages that the name led to, are made again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn replace(
        &self,
        name: &PackageName,
        dialect: DialectName,
        source: &PackageId,
        previous: &[PackageId],
    ) -> io::Result<SourceRecord> {
        let set = FoundSource { name, dialect, upstream: &source.upstream }.record();
        let place = if self.sharing.is_some() { SourcePlace::Bucket } else { SourcePlace::Here };
        let replaced = self.cache.disk().sources().replace(set, place).await?;
        self.end_generations(source, previous);
        tracing::info!(%name, dialect = dialect.as_str(), upstream = %source.upstream, "an operator set the source of a name");
        Ok(replaced)
    }

    /// Records a source that another mirror has recorded, unless one is recorded here or in the shared bucket. `previous` as
    /// for [`SourceResolver::replace`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn import(
        &self,
        name: &PackageName,
        dialect: DialectName,
        source: &PackageId,
        previous: &[PackageId],
        search: SourceSearch,
    ) -> Result<SourceRecord, ImportSourceError> {
        let own = FoundSource { name, dialect, upstream: &source.upstream }.record();
        let place = if self.sharing.is_some() { SourcePlace::Bucket } else { SourcePlace::Here };
        let winner = match &self.sharing {
            Some(sharing) => sharing.share(&own, search).await?,
            None => own,
        };
        let upstream: Arc<str> = winner.upstream.as_str().into();
        let imported = self.cache.disk().sources().record(winner, place).await?;
        if imported != SourceRecord::Recorded {
            return Ok(imported);
        }
        self.end_generations(source, previous);
        if *upstream != *source.upstream {
            return Ok(SourceRecord::Known(upstream));
        }
        tracing::info!(%name, dialect = dialect.as_str(), %upstream, "the source of a name is imported");
        Ok(imported)
    }

    /// Ends the present generation of a package, after a publication of it has changed: cached responses are made again.
    pub(crate) fn end_generation(&self, package: &PackageId) {
        self.end_generations(package, &[]);
    }

    fn end_generations(&self, source: &PackageId, previous: &[PackageId]) {
        end_generations(&self.cache, previous.iter().chain([source]));
    }
}

/// The candidate on a recorded upstream.
///
/// # Errors
/// `SourceChanged` when none is.
fn candidate_on(candidates: &[PackageId], upstream: Arc<str>) -> Result<PackageId, RegistryError> {
    let known = candidates.iter().find(|candidate| candidate.upstream == upstream);
    known.cloned().ok_or(RegistryError::SourceChanged { recorded: upstream })
}
