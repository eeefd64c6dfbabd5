//! Uses here what operators have set on other mirrors of the bucket, and passes on what was recorded here without the bucket.

use std::io;

use futures_util::{StreamExt as _, stream};

use super::{Service, sources};
use crate::{
    dialect::Names,
    entry::RecordedSource,
    package::PackageName,
    registry::{BucketError, Registry, SetSourceError, SourceSharing},
};

/// Sources that are passed on at once.
const CONCURRENT_SOURCES: usize = 8;
/// Sources in memory that wait for this.
const SOURCE_BATCH: usize = 10_000;
/// After so many the file says that the bucket has them.
const SOURCE_STEP: usize = 200;

/// Why the sources of this mirror and those of the bucket are not the same yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceSharingError {
    /// The bucket cannot be asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It does not take what this mirror has recorded.
    #[error(transparent)]
    Set(#[from] SetSourceError),
    /// They cannot be written here.
    #[error("the recorded sources cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Service {
    /// Uses what operators have set on any mirror. Without a bucket, does nothing.
    ///
    /// # Errors
    /// [`SourceSharingError`]; the call is to be repeated in any case.
    pub(crate) async fn follow_sources(&self) -> Result<(), SourceSharingError> {
        let Some(sharing) = self.registry.sources().sharing() else { return Ok(()) };
        for source in sharing.newly_set().await? {
            tracing::info!(
                name = source.name,
                dialect = source.dialect.as_str(),
                upstream = source.upstream,
                "an operator has set the source of a name"
            );
            take_over(sharing, &self.registry, &self.names, source).await?;
        }
        Ok(())
    }

    /// Passes on what was recorded here without the bucket. Where the bucket has another source, that one counts.
    ///
    /// # Errors
    /// As [`Service::follow_sources`].
    pub(crate) async fn share_sources(&self) -> Result<(), SourceSharingError> {
        match self.registry.sources().sharing() {
            Some(sharing) => share_all(sharing, &self.registry, &self.names).await,
            None => Ok(()),
        }
    }
}

/// As [`Service::share_sources`], also for sources that the bucket has had before: it may have lost them.
pub(super) async fn push_sources(registry: &Registry, names: &Names) -> Result<(), SourceSharingError> {
    let Some(sharing) = registry.sources().sharing() else { return Ok(()) };
    sharing.forget_shared();
    share_all(sharing, registry, names).await
}

async fn share_all(sharing: &SourceSharing, registry: &Registry, names: &Names) -> Result<(), SourceSharingError> {
    loop {
        let own = sharing.not_shared(SOURCE_BATCH);
        if own.is_empty() {
            return Ok(());
        }
        let shared = stream::iter(own).map(|own| share(sharing, registry, names, own));
        let mut steps = std::pin::pin!(shared.buffer_unordered(CONCURRENT_SOURCES).chunks(SOURCE_STEP));
        let mut failure = None;
        while let Some(step) = steps.next().await {
            let mut settled = Vec::new();
            for shared in step {
                match shared {
                    Ok(source) => settled.extend(source),
                    Err(error) => failure = Some(error),
                }
            }
            sharing.set_shared(settled).await?;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
}

/// Passes one source on; returns it where it counts.
async fn share(
    sharing: &SourceSharing,
    registry: &Registry,
    names: &Names,
    own: RecordedSource,
) -> Result<Option<RecordedSource>, SourceSharingError> {
    let Ok(name) = own.name.parse::<PackageName>() else { return Ok(Some(own)) };
    let search = sources::search_of(names, &name, own.dialect);
    let winner = sharing.share(&own, search).await?;
    if winner.upstream == own.upstream {
        return Ok(Some(own));
    }
    tracing::error!(
        %name, dialect = own.dialect.as_str(), own = own.upstream, shared = winner.upstream,
        "another mirror has recorded another source of a name than this one, which has served its own; the other one \
         counts: compare what was served, and set the source with srm-mirror route set"
    );
    take_over(sharing, registry, names, winner).await?;
    Ok(None)
}

async fn take_over(
    sharing: &SourceSharing,
    registry: &Registry,
    names: &Names,
    source: RecordedSource,
) -> io::Result<()> {
    let Ok(name) = source.name.parse::<PackageName>() else { return Ok(()) };
    let led_to = sources::led_to(registry, names, &name, source.dialect);
    let package = names.id_on(&source.upstream, &name);
    sharing.take_over(source, package.as_ref(), &led_to).await
}
