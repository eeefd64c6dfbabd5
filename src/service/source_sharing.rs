//! Synchronises recorded sources with the shared bucket: records here what operators have set on other mirrors, and records in
//! the bucket what was recorded here without it.

use std::{io, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::{Service, sources};
use crate::{
    dialect::Names,
    entry::RecordedSource,
    package::PackageName,
    registry::{BucketError, Registry, SetSourceError, SourceChange, SourceSearch, SourceSelection, SourceSharing},
};

/// Most sources that are recorded in the bucket at the same time.
const CONCURRENT_SOURCES: usize = 8;
/// Sources that are read into memory at once.
const SOURCE_BATCH: usize = 10_000;
/// After so many sources, the file records that the bucket has them.
const SOURCE_STEP: usize = 200;
/// When a failed synchronisation is tried again, unless no request may be sent to the bucket for longer.
const SHARING_PAUSE: Duration = Duration::from_secs(2);

/// Why the sources of this mirror and those of the bucket are not the same yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceSharingError {
    /// The bucket cannot be asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// They cannot be written here.
    #[error("the recorded sources cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl SourceSharingError {
    /// When to try again.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::Bucket(BucketError::Paused { retry_after }) => SHARING_PAUSE.max(*retry_after),
            Self::Bucket(_) | Self::Io(_) => SHARING_PAUSE,
        }
    }
}

impl Service {
    /// Records here what operators have set on any mirror. Without a bucket, does nothing.
    ///
    /// # Errors
    /// [`SourceSharingError`]; the call is to be repeated, after a success too.
    pub(crate) async fn follow_sources(&self) -> Result<(), SourceSharingError> {
        let Some(sharing) = self.registry.sources().sharing() else { return Ok(()) };
        let set = sharing.read_newly_set().await?;
        if !set.is_empty() {
            take_over(sharing, &self.registry, &self.names, set).await?;
        }
        Ok(())
    }

    /// Records in the bucket what was recorded here without it. Where the bucket has another source, this mirror uses that one
    /// from then on.
    ///
    /// # Errors
    /// As [`Service::follow_sources`].
    pub(crate) async fn share_sources(&self) -> Result<(), SourceSharingError> {
        let mut run = SourceRun::new(SourceSelection::NotShared);
        // Sources that the bucket refuses are logged, and tried again with the next source that is recorded without it.
        while run.next(&self.registry, &self.names).await?.is_some() {}
        Ok(())
    }
}

/// Records sources in the bucket, a batch at a time, ordered by name.
pub(super) struct SourceRun {
    selection: SourceSelection,
    after: Option<RecordedSource>,
    /// Names for which the bucket has no room.
    no_room: usize,
}

/// The outcome of recording a source in the bucket.
enum SourceOutcome {
    /// The bucket has it.
    Settled(RecordedSource),
    /// The bucket has another one, which all mirrors use.
    Other { own: RecordedSource, winner: RecordedSource },
    /// The bucket's record is damaged, which was logged.
    Damaged(RecordedSource),
}

impl SourceRun {
    /// A run over the selected sources: all, or those that the bucket may not have.
    pub(super) fn new(selection: SourceSelection) -> Self {
        Self { selection, after: None, no_room: 0 }
    }

    /// Records the next batch. Returns the sources that the bucket refuses; `None` at the end, and without a bucket.
    ///
    /// # Errors
    /// The first failure of the bucket, or of the disk: the rest is not tried.
    pub(super) async fn next(
        &mut self,
        registry: &Registry,
        names: &Names,
    ) -> Result<Option<Vec<RecordedSource>>, SourceSharingError> {
        let Some(sharing) = registry.sources().sharing() else { return Ok(None) };
        let batch = sharing.page_after(self.after.take(), SOURCE_BATCH, self.selection).await?;
        let Some(last) = batch.last() else {
            sharing.log_no_room(self.no_room);
            return Ok(None);
        };
        self.after = Some(last.clone());
        match sharing.read_set().await {
            Ok(()) => {}
            // A push goes on with the next batch; a run in the background fails, and is tried again.
            Err(BucketError::Damaged) if self.selection == SourceSelection::All => return Ok(Some(batch)),
            Err(error) => return Err(error.into()),
        }
        let is_unsearched = |own: &RecordedSource| {
            let name = own.name.parse::<PackageName>();
            let is_never = |name| sources::search_of(names, &name, own.dialect) == SourceSearch::Never;
            sharing.operators_source(own).is_none() && name.is_ok_and(is_never)
        };
        let (mut unsearched, mut rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_unsearched);
        let mut refused = unsearched.split_off(sharing.remaining_room().min(unsearched.len()));
        self.no_room += refused.len();
        let set = match unsearched.is_empty() {
            true => Ok(()),
            false => sharing.set_unsearched(unsearched.clone()).await,
        };
        match set {
            Ok(()) => rest.extend(unsearched),
            // Another mirror has set some since.
            Err(SetSourceError::TooMany) => {
                self.no_room += unsearched.len();
                refused.extend(unsearched);
            }
            Err(SetSourceError::Bucket(error)) => return Err(error.into()),
        }
        share_all(sharing, registry, names, rest, &mut refused).await?;
        Ok(Some(refused))
    }
}

async fn share_all(
    sharing: &SourceSharing,
    registry: &Registry,
    names: &Names,
    own: Vec<RecordedSource>,
    refused: &mut Vec<RecordedSource>,
) -> Result<(), SourceSharingError> {
    let mut shared = stream::iter(own).map(|own| share(sharing, own)).buffer_unordered(CONCURRENT_SOURCES);
    let mut settled = Vec::new();
    let mut others = Vec::new();
    let failure = loop {
        match shared.next().await {
            Some(Ok(SourceOutcome::Settled(own))) => settled.push(own),
            Some(Ok(SourceOutcome::Other { own, winner })) => others.push((own, winner)),
            Some(Ok(SourceOutcome::Damaged(own))) => refused.push(own),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
        if settled.len() + others.len() >= SOURCE_STEP {
            settle(sharing, registry, names, &mut settled, &mut others).await?;
        }
    };
    settle(sharing, registry, names, &mut settled, &mut others).await?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

async fn share(sharing: &SourceSharing, own: RecordedSource) -> Result<SourceOutcome, BucketError> {
    if own.name.parse::<PackageName>().is_err() {
        // No request has such a name.
        return Ok(SourceOutcome::Settled(own));
    }
    match sharing.record_own(&own).await {
        Ok(winner) if winner.upstream == own.upstream => Ok(SourceOutcome::Settled(own)),
        Ok(winner) => Ok(SourceOutcome::Other { own, winner }),
        Err(BucketError::Damaged) => Ok(SourceOutcome::Damaged(own)),
        Err(error) => Err(error),
    }
}

/// Records here which sources the bucket has, and the sources that replace this mirror's.
async fn settle(
    sharing: &SourceSharing,
    registry: &Registry,
    names: &Names,
    settled: &mut Vec<RecordedSource>,
    others: &mut Vec<(RecordedSource, RecordedSource)>,
) -> io::Result<()> {
    let mut winners = Vec::new();
    for (own, winner) in others.drain(..) {
        // An operator may have set one since.
        match sharing.operators_source(&own) {
            Some(set) if set.upstream == own.upstream => settled.push(own),
            Some(set) => winners.push(set),
            None => {
                tracing::error!(
                    name = own.name,
                    dialect = own.dialect.as_str(),
                    own = own.upstream,
                    shared = winner.upstream,
                    "another mirror has recorded another source of a name than this one, which has served its own; the \
                     other one counts: compare what was served, and set the source with srm-mirror route set"
                );
                winners.push(winner);
            }
        }
    }
    if !winners.is_empty() {
        take_over(sharing, registry, names, winners).await?;
    }
    sharing.set_shared(std::mem::take(settled)).await
}

async fn take_over(
    sharing: &SourceSharing,
    registry: &Registry,
    names: &Names,
    winners: Vec<RecordedSource>,
) -> io::Result<()> {
    let change = |source: RecordedSource| {
        let name: PackageName = source.name.parse().ok()?;
        let mut packages = sources::led_to(registry, names, &name, source.dialect);
        packages.extend(names.id_on(&source.upstream, &name));
        Some(SourceChange { source, packages })
    };
    let written = sharing.take_over(winners.into_iter().filter_map(change).collect()).await?;
    for source in written.iter().filter(|source| sharing.operators_source(source).is_some()) {
        tracing::info!(
            name = source.name,
            dialect = source.dialect.as_str(),
            upstream = source.upstream,
            "an operator has set the source of a name"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_left_alone_is_not_asked_before_its_pause_ends() {
        let paused = |seconds| {
            let retry_after = Duration::from_secs(seconds);
            SourceSharingError::from(BucketError::Paused { retry_after }).retry_after()
        };
        assert_eq!((paused(30), paused(1)), (Duration::from_secs(30), SHARING_PAUSE));
    }
}
