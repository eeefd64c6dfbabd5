//! Recorded sources with a shared bucket: the bucket decides which source a new name has, this mirror's record is a copy, and
//! what operators set holds on all mirrors.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::{RegistryError, keys::document_key};
use crate::{
    cache::{
        BucketError, BucketTier, Cache, LonePins, SetMode, SetSourceError, SourcePlace, SourceRecord, SourceSelection,
        retry_after,
    },
    entry::{Key, RecordedSource},
    package::{DialectName, PackageId, PackageName},
    upstream::DocumentAsk,
    value::bounded_cache::BoundedCache,
};

/// How long a name that the bucket has no source of is not looked up there again: requests of names that no upstream has
/// cost few reads. Whether a source is new is decided when it is recorded.
const SOURCE_ABSENCE_PERIOD: Duration = Duration::from_secs(1);
/// Most such names that are remembered.
const MAX_ABSENT_NAMES: u64 = 10_000;

/// The sources of names among several mirrors over one bucket.
pub struct SourceSharing {
    cache: Arc<Cache>,
    bucket: Arc<BucketTier>,
    /// The number of names without room in the bucket that was logged last.
    no_room: AtomicUsize,
    /// Names that the bucket has no source of, and until when they are not looked up again, by [`crate::clock::Clock::uptime`].
    absent: BoundedCache<Key, Duration>,
}

/// A source that all mirrors of the bucket use, and the packages that its name leads or led to on this mirror.
pub struct SourceChange {
    /// The source.
    pub source: RecordedSource,
    /// The packages.
    pub packages: Vec<PackageId>,
}

/// The source that a search has found for a name, before it is recorded.
pub(super) struct FoundSource<'a> {
    pub(super) name: &'a PackageName,
    pub(super) dialect: DialectName,
    pub(super) upstream: &'a str,
}

/// Whether requests of a name search for its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSearch {
    /// They do while none is recorded here; the bucket is read first.
    Needed,
    /// They do not: the name's route leads to one upstream. Nothing is recorded, and the bucket is not read.
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
        Some(Self {
            bucket: cache.bucket()?.clone(),
            cache: cache.clone(),
            no_room: AtomicUsize::new(0),
            absent: BoundedCache::new(MAX_ABSENT_NAMES),
        })
    }

    /// Looks up in the bucket the source of a name that has none recorded here, and records it here.
    ///
    /// # Errors
    /// `SourceUndecided` when the bucket cannot be asked, unless this mirror may decide without it: because it is the only one
    /// that may ([`LonePins::Allowed`]), or because there is one candidate.
    pub(super) async fn look_up(
        &self,
        name: &PackageName,
        dialect: DialectName,
        candidates: usize,
    ) -> Result<Option<Arc<str>>, RegistryError> {
        let key = Key::new(format!("{}/{}", dialect.as_str(), name.folded()));
        let began = self.cache.clock().uptime();
        if self.absent.get(&key).is_some_and(|until| began < until) {
            return Ok(None);
        }
        match self.find(name, dialect).await {
            Ok(Some(source)) => match self.write(source.clone(), SourcePlace::Bucket).await? {
                SourceRecord::Recorded => Ok(Some(source.upstream.into())),
                SourceRecord::Known(upstream) => Ok(Some(upstream)),
            },
            Ok(None) => {
                self.absent.insert(key, began + SOURCE_ABSENCE_PERIOD);
                Ok(None)
            }
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
    /// As [`SourceSharing::look_up`]; `Unrecordable` when it cannot be written here.
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

    /// Records a source of a bundle in the bucket, unless the bucket has one of the name. Returns the one that the bucket has.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or has no room for more; the call can be repeated.
    pub async fn share(&self, own: &RecordedSource, search: SourceSearch) -> Result<RecordedSource, SetSourceError> {
        if search == SourceSearch::Never {
            self.set_unsearched(vec![own.clone()]).await?;
        }
        Ok(self.record_own(own).await?)
    }

    /// Sets the sources of names whose requests do not search ([`SourceSearch::Never`]), where operators have set none: mirrors
    /// read what operators have set, and no object of such a name.
    ///
    /// # Errors
    /// As [`SourceSharing::set`].
    pub async fn set_unsearched(&self, sources: Vec<RecordedSource>) -> Result<(), SetSourceError> {
        self.set_all(sources, SetMode::Keep).await
    }

    /// Records in the bucket a source that only this mirror has recorded, unless the bucket has one of the name. Returns the
    /// one that the bucket has.
    ///
    /// # Errors
    /// When the bucket cannot be asked; `Damaged` where the bucket's record is.
    pub async fn record_own(&self, own: &RecordedSource) -> Result<RecordedSource, BucketError> {
        let bucket = self.bucket.clone();
        let own = own.clone();
        self.cache.ask_bucket(Box::pin(async move { bucket.sources().record(&own).await })).await
    }

    /// Reads what operators have set on any mirror.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn read_set(&self) -> Result<(), BucketError> {
        self.bucket.sources().refresh().await.map(drop)
    }

    /// The source that operators have set for the name of `source`, as last read. Sends no request.
    pub fn operators_source(&self, source: &RecordedSource) -> Option<RecordedSource> {
        self.bucket.sources().set_source(&source.name, source.dialect)
    }

    /// The number of further names whose sources can be set, as last read. Sends no request.
    pub fn remaining_room(&self) -> usize {
        self.bucket.sources().set_room()
    }

    /// Reads what operators have set on any mirror and is not recorded here yet.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn read_newly_set(&self) -> Result<Vec<RecordedSource>, BucketError> {
        let set = self.bucket.sources().refresh().await?;
        let sources = self.cache.disk().sources();
        // Names that only another version of the mirror can parse are left out.
        let is_new = |source: &RecordedSource| {
            let name = source.name.parse::<PackageName>();
            name.is_ok_and(|name| sources.get(&name, source.dialect).is_none_or(|known| *known != *source.upstream))
        };
        Ok(set.all().filter(is_new).collect())
    }

    /// Records here the sources that all mirrors use, in one write, unless operators have set others since. Returns those that
    /// were not recorded here.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn take_over(&self, changes: Vec<SourceChange>) -> io::Result<Vec<RecordedSource>> {
        let bucket = self.bucket.clone();
        let is_current = move |source: &RecordedSource| {
            let set = bucket.sources().set_source(&source.name, source.dialect);
            set.is_none_or(|set| set.upstream == source.upstream)
        };
        let sources = changes.iter().map(|change| change.source.clone()).collect();
        let written = self.cache.disk().sources().replace_all(sources, SourcePlace::Bucket, is_current).await;
        // Also after an error: without room for one source, the others are written.
        end_generations(&self.cache, changes.iter().flat_map(|change| &change.packages));
        written
    }

    /// At most `limit` recorded sources after this one.
    ///
    /// # Errors
    /// When the process ends.
    pub async fn page_after(
        &self,
        after: Option<RecordedSource>,
        limit: usize,
        selection: SourceSelection,
    ) -> io::Result<Vec<RecordedSource>> {
        self.cache.disk().sources().page_after(after, limit, selection).await
    }

    /// Records that the bucket has these sources.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub async fn set_shared(&self, sources: Vec<RecordedSource>) -> io::Result<()> {
        self.cache.disk().sources().set_shared(sources).await
    }

    /// Logs the number of names that the bucket has no room for, if it has changed.
    pub fn log_no_room(&self, names: usize) {
        if self.no_room.swap(names, Ordering::Relaxed) != names && names > 0 {
            let error = SetSourceError::TooMany;
            tracing::error!(names, %error, "there is no room for the sources of names in what operators have set");
        }
    }
}

/// Logs that a source cannot be written here, and returns the error for the client.
pub(super) fn unrecordable(name: &dyn std::fmt::Display, error: &io::Error) -> RegistryError {
    tracing::error!(%name, %error, "the source of a name cannot be recorded");
    RegistryError::Unrecordable
}

/// Ends the present generations of packages: cached responses that were made of them are made again.
pub(super) fn end_generations<'a>(cache: &Cache, packages: impl Iterator<Item = &'a PackageId>) {
    for package in packages {
        cache.end_generation(&document_key(package, &DocumentAsk::Releases));
    }
}
