//! The flat view of a version: its stored zip without the top folder, read through a plan.
//!
//! The plan is made from the zip's central directory, so a miss waits for the end of the download, for HEAD too: the
//! length of the view is not known earlier. Plans are cached.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, request::Parts};
use sha2::{Digest as _, Sha256};

use crate::{
    archive::{
        ZipFacts,
        flat::{DamagedDirectory, FlatBatch, FlatPlan},
    },
    entry::Digest,
    http::body::{Body, BodyError},
    package::{PackageId, Version},
    registry::{Object, ServedArchive, WholeBody, resolve::ResolvedArchive},
    service::{
        Service,
        context::RequestContext,
        error::ApiError,
        zip_body::range_body,
        zip_response::{self, complete_zip},
    },
};

/// Most bytes of cached plans.
const MAX_PLAN_BYTES: u64 = 32 << 20;
/// Most views whose digest is cached; each takes about 150 bytes.
const MAX_VIEW_DIGESTS: u64 = 100_000;
/// Bytes of a view that are hashed at once.
const HASH_BATCH_BYTES: usize = 1 << 20;
/// Most bytes of a view in one body frame.
const MAX_FRAME_BYTES: u64 = 256 << 10;

/// The plans of flat views, by the digest of their zip.
pub(in crate::service) struct FlatViewCache {
    views: moka::future::Cache<Digest, Arc<CachedFlatView>>,
    /// Digests of views, by the digest of their zip. They outlive the plans: to compute one, all of the zip is read.
    digests: moka::sync::Cache<Digest, Digest>,
}

/// How a zip becomes its flat view.
enum CachedFlatView {
    /// The zip has no top folder: it is its own flat view.
    Same,
    Planned {
        plan: FlatPlan,
        digest: Digest,
    },
}

impl CachedFlatView {
    fn weight(&self) -> u32 {
        let plan = match self {
            Self::Same => 0,
            Self::Planned { plan, .. } => plan.weight(),
        };
        u32::try_from(plan + size_of::<Self>()).unwrap_or(u32::MAX)
    }
}

impl FlatViewCache {
    pub(in crate::service) fn new() -> Self {
        let weigher = |_: &Digest, view: &Arc<CachedFlatView>| view.weight();
        Self {
            views: moka::future::Cache::builder().max_capacity(MAX_PLAN_BYTES).weigher(weigher).build(),
            digests: moka::sync::Cache::new(MAX_VIEW_DIGESTS),
        }
    }

    /// The view of a zip. Concurrent callers share one computation, which runs to its end even if all of them are
    /// dropped.
    async fn view(self: &Arc<Self>, object: &Object) -> Result<Arc<CachedFlatView>, Arc<FlatViewError>> {
        let zip = object.meta.digest;
        if let Some(view) = self.views.get(&zip).await {
            return Ok(view);
        }
        let cache = self.clone();
        let object = object.clone();
        let task = tokio::spawn(async move {
            let compute = async {
                let cache = cache.clone();
                tokio::task::spawn_blocking(move || cache.compute(&object)).await.map_err(io::Error::other)?
            };
            cache.views.try_get_with(zip, compute).await
        });
        task.await.map_err(|error| Arc::new(io::Error::other(error).into()))?
    }

    /// Computes a view. Blocks while it reads all of the zip, unless the view's digest is cached.
    fn compute(&self, object: &Object) -> Result<Arc<CachedFlatView>, FlatViewError> {
        let Some(flat) = ZipFacts::from_value(&object.meta.verified.facts)?.flat else {
            return Ok(Arc::new(CachedFlatView::Same));
        };
        let len = object.meta.len.saturating_sub(flat.central);
        let mut central_directory = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        object.read_exact(&mut central_directory, flat.central)?;
        let plan = flat.plan(central_directory.into())?;
        let digest = match self.digests.get(&object.meta.digest) {
            Some(digest) => digest,
            None => view_digest(object, &plan)?,
        };
        self.digests.insert(object.meta.digest, digest);
        Ok(Arc::new(CachedFlatView::Planned { plan, digest }))
    }
}

/// SHA-256 of a view. Computed at the first request for the view, not when the zip is verified: clients of the plain
/// zip would wait for it.
fn view_digest(object: &Object, plan: &FlatPlan) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for start in (0..plan.len()).step_by(HASH_BATCH_BYTES) {
        let batch = plan.batch(start..plan.len().min(start + HASH_BATCH_BYTES as u64));
        let source = batch.source();
        bytes.resize(usize::try_from(source.end - source.start).unwrap_or(usize::MAX), 0);
        object.read_exact(&mut bytes, source.start)?;
        hash = batch.pieces(&bytes).fold(hash, Sha256::chain_update);
    }
    Ok(Digest(hash.finalize().into()))
}

/// Why a stored zip has no flat view.
#[derive(Debug, thiserror::Error)]
enum FlatViewError {
    #[error(transparent)]
    Damaged(#[from] DamagedDirectory),
    #[error("cannot read the zip: {0}")]
    Io(#[from] io::Error),
    #[error("cannot parse the stored facts about the zip: {0}")]
    Facts(#[from] serde_json::Error),
}

/// Responds with the flat view of a version.
///
/// A stored zip that turns out to be damaged is quarantined and fetched again, once.
///
/// # Errors
/// As for the plain zip; 503 when there is no room on disk and the zip is too large for memory.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageId,
    version: &Version,
) -> Result<Response<Body>, ApiError> {
    let mut may_retry = true;
    loop {
        let ResolvedArchive { answer, resolved } = service.registry.archives().archive(package, version).await?;
        context.cache_status = Some(answer.status);
        let object = match answer.served {
            ServedArchive::Stored(object) => object,
            ServedArchive::Arriving { spool_reader, .. } => {
                match spool_reader.whole().await.map_err(ApiError::Download)? {
                    WholeBody::Complete(object) => object,
                    WholeBody::TooLarge(_) => return Err(ApiError::NoRoomForFlatView),
                }
            }
        };
        let view = match service.flat_views.view(&object).await {
            Ok(view) => view,
            Err(error) => {
                tracing::error!(digest = %object.meta.digest, %error, "a stored zip has no flat view");
                if !may_retry {
                    return Err(ApiError::DamagedZip);
                }
                may_retry = false;
                service.registry.archives().quarantine(&object).await;
                continue;
            }
        };
        let mut response = match &*view {
            CachedFlatView::Same => {
                let meta = object.meta.clone();
                let body = |range| range_body(object, range, context.send_mode);
                complete_zip(&parts.method, &parts.headers, &meta.digest, meta.len, body)
            }
            CachedFlatView::Planned { plan, digest } => {
                let body = |range| view_range_body(object, view.clone(), range);
                complete_zip(&parts.method, &parts.headers, digest, plan.len(), body)
            }
        };
        zip_response::add_headers(&mut response, &resolved, answer.age, &package.name);
        return Ok(response);
    }
}

/// The bytes of a range of a view. A read error breaks the connection.
fn view_range_body(object: Object, view: Arc<CachedFlatView>, range: Range<u64>) -> Body {
    let len = range.end - range.start;
    let next = |(object, view, range): (Object, Arc<CachedFlatView>, Range<u64>)| async move {
        let CachedFlatView::Planned { plan, .. } = &*view else { return Ok(None) };
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start + MAX_FRAME_BYTES);
        let batch = plan.batch(range.start..end);
        let bytes = read_batch(&object, &batch).await.map_err(|error| {
            tracing::error!(digest = %object.meta.digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        object.record_sent(bytes.len() as u64);
        Ok::<_, BodyError>(Some((bytes, (object, view, end..range.end))))
    };
    Body::stream(stream::try_unfold((object, view, range), next).boxed(), Some(len))
}

/// Reads a part of a view from its zip.
async fn read_batch(object: &Object, batch: &FlatBatch) -> io::Result<Bytes> {
    let source = batch.source();
    let len = usize::try_from(source.end - source.start).unwrap_or(usize::MAX);
    let bytes = if len == 0 { Bytes::new() } else { object.read(source.start, len).await? };
    batch.assemble(bytes)
}
