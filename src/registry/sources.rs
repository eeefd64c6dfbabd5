//! Where a name without an upstream comes from: its recorded source, else the first upstream of its route that has it.
//!
//! The next upstream is asked only after a healthy one has said that it has no such package. Any other failure ends the
//! search: otherwise the owner of the same name elsewhere would be served while an upstream fails.

use std::{io, sync::Arc};

use super::{
    RegistryError, authorize::Authorizer, keys::document_key, not_found, package_documents::PackageDocuments,
    upstreams::Upstreams,
};
use crate::{
    cache::{Cache, CacheFailure, SourceRecord},
    entry::RecordedSource,
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
}

/// Why a search found no source.
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
        Self { cache, upstreams, authorizer, documents }
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

    /// Finds the first of `candidates` that exists and may be served, and records it for the name.
    ///
    /// # Errors
    /// `NotFound(Package)` when every upstream says that it has no such package. The first failure of any other kind,
    /// `Forbidden` included, ends the search. `Unrecordable` when the source cannot be written.
    pub async fn find(
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
                        // A private package: told as if no upstream had it.
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
        // With a token, that a package is private must not be seen in how it was looked up.
        if candidates.iter().any(|candidate| self.upstreams.has_token(candidate).unwrap_or(false)) {
            absent = CacheStatus::forwarded(Fwd::UriMiss);
        }
        Err(SourceSearchFailure { error: not_found(Missing::Package, absent), package: None })
    }

    /// The first of `candidates` that an upstream has. A package that the configured patterns forbid is never served, so it
    /// counts as none.
    ///
    /// # Errors
    /// The failure of an upstream that cannot say it, with the package there.
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
        // What is stored needs no question, also when its upstream has removed it since: then it is gone, not absent.
        if self.documents.stored().was_ever_stored(package).await {
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

    /// Records a source. If another request has recorded another one, that one holds.
    async fn record(
        &self,
        name: &PackageName,
        dialect: DialectName,
        found: &PackageId,
        candidates: &[PackageId],
    ) -> Result<PackageId, RegistryError> {
        match self.cache.disk().sources().record(name, dialect, &found.upstream).await {
            Ok(SourceRecord::Recorded) => {
                let dialect = dialect.as_str();
                tracing::debug!(%name, dialect, upstream = %found.upstream, "the source of a name is recorded");
                Ok(found.clone())
            }
            Ok(SourceRecord::Known(upstream)) => {
                let known = candidates.iter().find(|candidate| candidate.upstream == upstream);
                known.cloned().ok_or(RegistryError::SourceChanged { recorded: upstream })
            }
            Err(error) => {
                tracing::error!(%name, %error, "the source of a name cannot be recorded");
                Err(RegistryError::Unrecordable)
            }
        }
    }

    /// Replaces the recorded source of a name: the operator's word. Responses that were made of `previous`, the packages
    /// that the name led to, are made again.
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
        let replaced = self.cache.disk().sources().replace(name, dialect, &source.upstream).await?;
        self.end_generations(source, previous);
        tracing::info!(%name, dialect = dialect.as_str(), upstream = %source.upstream, "an operator set the source of a name");
        Ok(replaced)
    }

    /// Records a source that another mirror has recorded, unless one is recorded here. `previous` as for
    /// [`SourceResolver::replace`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn import(
        &self,
        name: &PackageName,
        dialect: DialectName,
        source: &PackageId,
        previous: &[PackageId],
    ) -> io::Result<SourceRecord> {
        let imported = self.cache.disk().sources().record(name, dialect, &source.upstream).await?;
        if imported == SourceRecord::Recorded {
            self.end_generations(source, previous);
            tracing::info!(%name, dialect = dialect.as_str(), upstream = %source.upstream, "the source of a name is imported");
        }
        Ok(imported)
    }

    /// Ends the present generation of a package: what was published of it has changed.
    pub(crate) fn end_generation(&self, package: &PackageId) {
        self.end_generations(package, &[]);
    }

    fn end_generations(&self, source: &PackageId, previous: &[PackageId]) {
        for package in previous.iter().chain([source]) {
            self.cache.end_generation(&document_key(package, &DocumentAsk::Releases));
        }
    }
}
