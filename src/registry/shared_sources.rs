//! Recorded sources with a shared bucket: the bucket decides which source a new name has, this mirror's record is a copy, and
//! what operators set holds on all mirrors.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::{RegistryError, keys::document_key};
use crate::{
    cache::{
        BucketError, BucketTier, Cache, LonePins, SetMode, SetSourceError, SourcePlace, SourceRecord, retry_after,
    },
    entry::RecordedSource,
    package::{DialectName, PackageId, PackageName},
    upstream::DocumentAsk,
};

/// The sources of names among several mirrors over one bucket.
pub struct SourceSharing {
    cache: Arc<Cache>,
    bucket: Arc<BucketTier>,
}

/// A source that is found, before it is recorded.
pub(super) struct FoundSource<'a> {
    pub(super) name: &'a PackageName,
    pub(super) dialect: DialectName,
    pub(super) upstream: &'a str,
}

/// Whether requests of a name look for its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSearch {
    /// They do where none is recorded, and the bucket is read before.
    Needed,
    /// Its route leads to one upstream, and nothing is recorded: the bucket is not read.
    Never,
}

impl FoundSource<'_> {
    pub(super) fn record(&self) -> RecordedSource {
        let Self { name, dialect, upstream } = *self;
        RecordedSource { name: name.folded(), dialect, upstream: upstream.to_owned(), at: Timestamp::now() }
    }
}

impl SourceSharing {
    /// `None` without a bucket.
    pub(super) fn new(cache: &Arc<Cache>) -> Option<Self> {
        Some(Self { bucket: cache.bucket()?.clone(), cache: cache.clone() })
    }

    /// The source that the bucket has for a name that has none here; recorded here then.
    ///
    /// # Errors
    /// `SourceUndecided` when the bucket cannot be asked, unless this mirror may decide without it: because it is the one
    /// that does, or because the route leads to one upstream.
    pub(super) async fn learn(
        &self,
        name: &PackageName,
        dialect: DialectName,
        candidates: usize,
    ) -> Result<Option<Arc<str>>, RegistryError> {
        match self.find(name, dialect).await {
            Ok(Some(source)) => match self.write(source.clone(), SourcePlace::Bucket).await? {
                SourceRecord::Recorded => Ok(Some(source.upstream.into())),
                SourceRecord::Known(upstream) => Ok(Some(upstream)),
            },
            Ok(None) => Ok(None),
            Err(error) => self.check_may_decide(name, candidates, error).map(|()| None),
        }
    }

    /// What the bucket has recorded for a name.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn find(&self, name: &PackageName, dialect: DialectName) -> Result<Option<RecordedSource>, BucketError> {
        let bucket = self.bucket.clone();
        let name = name.folded();
        self.cache.ask_bucket(Box::pin(async move { bucket.sources().find(&name, dialect).await })).await
    }

    /// Records a source that a search has found, unless another one is recorded.
    ///
    /// # Errors
    /// As [`SourceSharing::learn`]; `Unrecordable` when it cannot be written here.
    pub(super) async fn record(
        &self,
        found: &FoundSource<'_>,
        candidates: usize,
    ) -> Result<SourceRecord, RegistryError> {
        let own = found.record();
        let bucket = self.bucket.clone();
        let source = own.clone();
        let recorded = self.cache.ask_bucket(Box::pin(async move { bucket.sources().record(&source).await })).await;
        match recorded {
            Ok(winner) => {
                let is_own = winner.upstream == own.upstream;
                let upstream: Arc<str> = winner.upstream.as_str().into();
                Ok(match self.write(winner, SourcePlace::Bucket).await? {
                    SourceRecord::Recorded if !is_own => SourceRecord::Known(upstream),
                    written => written,
                })
            }
            Err(error) => {
                self.check_may_decide(found.name, candidates, error)?;
                let written = self.write(own, SourcePlace::Here).await?;
                self.bucket.sources().notify();
                Ok(written)
            }
        }
    }

    fn check_may_decide(&self, name: &PackageName, candidates: usize, error: BucketError) -> Result<(), RegistryError> {
        let is_alone = candidates == 1 || self.bucket.lone_pins() == LonePins::Allowed;
        if is_alone && error != BucketError::Damaged {
            tracing::debug!(%name, %error, "the bucket is not asked for the source of a name");
            return Ok(());
        }
        tracing::warn!(%name, %error, "the source of a new name is not looked for: the bucket cannot record it");
        Err(RegistryError::SourceUndecided(retry_after(error)))
    }

    async fn write(&self, source: RecordedSource, place: SourcePlace) -> Result<SourceRecord, RegistryError> {
        let name = source.name.clone();
        self.cache.disk().sources().record(source, place).await.map_err(|error| unrecordable(&name, &error))
    }

    /// Sets the source of a name on all mirrors, in several dialects at once: in all of them or in none.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or has no room for more; the call can be repeated.
    pub async fn set(&self, name: &PackageName, targets: &[(DialectName, PackageId)]) -> Result<(), SetSourceError> {
        let record = |(dialect, package): &(DialectName, PackageId)| {
            FoundSource { name, dialect: *dialect, upstream: &package.upstream }.record()
        };
        self.set_all(targets.iter().map(record).collect(), SetMode::Replace).await
    }

    async fn set_all(&self, sources: Vec<RecordedSource>, mode: SetMode) -> Result<(), SetSourceError> {
        let bucket = self.bucket.clone();
        self.cache.ask_bucket(Box::pin(async move { bucket.sources().set(&sources, mode).await.map(drop) })).await
    }

    /// Records a source in the bucket that is recorded here alone, or comes from a bundle. Returns the one that counts.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or has no room for more; the call can be repeated.
    pub async fn share(&self, own: &RecordedSource, search: SourceSearch) -> Result<RecordedSource, SetSourceError> {
        let bucket = self.bucket.clone();
        let own = own.clone();
        let share = async move {
            if search == SourceSearch::Never {
                // No mirror reads an object of such a name.
                bucket.sources().set(std::slice::from_ref(&own), SetMode::Keep).await?;
            }
            Ok(bucket.sources().record(&own).await?)
        };
        self.cache.ask_bucket(Box::pin(share)).await
    }

    /// What operators have set on any mirror, and is not recorded here yet.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn newly_set(&self) -> Result<Vec<RecordedSource>, BucketError> {
        let set = self.bucket.sources().refresh().await?;
        let sources = self.cache.disk().sources();
        let is_new = |source: &RecordedSource| {
            let known = source.name.parse().ok().and_then(|name| sources.get(&name, source.dialect));
            known.is_none_or(|known| *known != *source.upstream)
        };
        Ok(set.all().filter(is_new).collect())
    }

    /// Takes over a source that counts on all mirrors. `package` and `previous` as for
    /// [`super::sources::SourceResolver::replace`]; `None` where this mirror has no such upstream.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn take_over(
        &self,
        source: RecordedSource,
        package: Option<&PackageId>,
        previous: &[PackageId],
    ) -> io::Result<()> {
        self.cache.disk().sources().replace(source, SourcePlace::Bucket).await?;
        end_generations(&self.cache, package.into_iter().chain(previous));
        Ok(())
    }

    /// At most `limit` sources that are recorded here, and that the bucket may not have.
    pub fn not_shared(&self, limit: usize) -> Vec<RecordedSource> {
        self.cache.disk().sources().not_shared(limit)
    }

    /// Counts all sources as such that the bucket may not have, until the next start.
    pub fn forget_shared(&self) {
        self.cache.disk().sources().forget_shared();
    }

    /// Records that the bucket has these.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_shared(&self, sources: Vec<RecordedSource>) -> io::Result<()> {
        self.cache.disk().sources().set_shared(sources).await
    }
}

/// The error where a source cannot be written here.
pub(super) fn unrecordable(name: &dyn std::fmt::Display, error: &io::Error) -> RegistryError {
    tracing::error!(%name, %error, "the source of a name cannot be recorded");
    RegistryError::Unrecordable
}

/// Ends the present generations of packages: what was made of them is made again.
pub(super) fn end_generations<'a>(cache: &Cache, packages: impl Iterator<Item = &'a PackageId>) {
    for package in packages {
        cache.end_generation(&document_key(package, &DocumentAsk::Releases));
    }
}
