//! Where a fill gets its archive from, and what decides on its content.

use std::sync::Arc;

use super::{
    ArchiveRequest, Asker,
    bucket_tier::{BucketLookup, ClaimedArchive, Decider},
    fill_context::FillContext,
    fleet_tier::{FleetFallback, FleetOrigin},
};
use crate::{
    entry::Pin,
    fleet::FleetNode,
    origin::{FetchError, FetchedBody, Origin},
};

type ArchiveOrigin = Arc<dyn Origin<Fetched = FetchedBody>>;

/// Where a download comes from, and what its content must be.
pub(super) struct DownloadSource {
    /// The pin of the key, if it has one.
    pub(super) pin: Option<Arc<Pin>>,
    /// The archive in the bucket, if it has it.
    pub(super) claimed: Option<Arc<ClaimedArchive>>,
    /// The origin that is used in place of the request's; `None` for the request's own.
    pub(super) origin: Option<ArchiveOrigin>,
    /// What decides on the content, if it is new.
    pub(super) decided_by: Decider,
    /// False where the disk had no room for it a moment ago.
    pub(super) has_disk: bool,
}

impl DownloadSource {
    /// Finds out where the archive comes from: the bucket, then other nodes of the fleet, then the upstream.
    ///
    /// # Errors
    /// As [`BucketTier::find`](super::bucket_tier::BucketTier::find), where no other node can be asked in its place.
    pub(super) async fn find(
        context: &FillContext,
        request: &ArchiveRequest,
        pin: Option<Arc<Pin>>,
        has_disk: bool,
    ) -> Result<Self, FetchError> {
        let found = match &context.bucket {
            Some(bucket) => bucket.find(request, pin, &context.pins).await,
            None => Ok(BucketLookup { pin, claimed: None }),
        };
        let fleet = context.fleet.as_ref().filter(|_| request.asker == Asker::Client);
        let of_nodes = |nodes: Vec<FleetNode>, fallback| -> Option<ArchiveOrigin> {
            let fleet = fleet.filter(|_| !nodes.is_empty())?;
            Some(Arc::new(FleetOrigin::new(fleet.clone(), request.key.clone(), nodes, fallback)))
        };
        match found {
            Ok(BucketLookup { pin, claimed: Some(claimed) }) => {
                let origin: ArchiveOrigin = claimed.clone();
                let decided_by = Decider::Bucket;
                Ok(Self { pin, claimed: Some(claimed), origin: Some(origin), decided_by, has_disk })
            }
            Ok(BucketLookup { pin, claimed: None }) => {
                let nodes = fleet.map(|fleet| fleet.sources(&request.key)).unwrap_or_default();
                let origin = of_nodes(nodes, FleetFallback::Upstream(request.origin.clone()));
                Ok(Self { pin, claimed: None, origin, decided_by: Decider::Bucket, has_disk })
            }
            Err(error @ FetchError::PinsUnavailable { .. }) => {
                let first = fleet.and_then(|fleet| fleet.deciding_node());
                let undecided = FleetFallback::Undecided(error.clone());
                let origin = of_nodes(first.into_iter().collect(), undecided).ok_or(error)?;
                let decided_by = Decider::FirstNode;
                Ok(Self { pin: None, claimed: None, origin: Some(origin), decided_by, has_disk })
            }
            Err(error) => Err(error),
        }
    }
}
