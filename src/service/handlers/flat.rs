//! The flat view as an HTTP answer: the stored zip without its top folder, read through a plan.
//!
//! The plan is made from the zip's central directory, so a cold request waits for the end of the download, HEAD too:
//! before that nobody knows the view's length. Plans are kept while their views are asked for.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, request::Parts};
use sha2::{Digest as _, Sha256};

use super::archive;
use crate::{
    archive::{
        ZipFacts,
        flat::{DamagedDirectory, FlatBatch, FlatPlan},
    },
    dialect::{ApiRequest, PackageId},
    entry::Digest,
    http::body::{Body, BodyError},
    package::Version,
    registry::{Object, Registry, ServedArchive, WholeBody, resolve::ResolvedArchive},
    service::{RequestContext, error::Problem, zip},
};

/// Bytes of plans that are kept.
const PLANS: u64 = 32 << 20;
/// Views whose digest is kept; each takes some 150 bytes.
const DIGESTS: u64 = 100_000;
/// Bytes of a view that are hashed at once.
const STRIDE: usize = 1 << 20;
/// Bytes of a view that are read and made at once.
const BATCH: u64 = 256 << 10;

/// The views that were asked for lately, by the digest of their zip.
pub(in crate::service) struct FlatViewCache {
    views: moka::future::Cache<Digest, Arc<View>>,
    /// The digests of the views, which outlive the plans: making one takes a look at every byte.
    digests: moka::sync::Cache<Digest, Digest>,
}

/// How a zip becomes its flat view.
enum View {
    /// It is its own.
    Itself,
    /// By a plan.
    Planned { plan: FlatPlan, digest: Digest },
}

impl View {
    fn weight(&self) -> u32 {
        let plan = match self {
            Self::Itself => 0,
            Self::Planned { plan, .. } => plan.weight(),
        };
        u32::try_from(plan + size_of::<Self>()).unwrap_or(u32::MAX)
    }
}

impl FlatViewCache {
    pub(in crate::service) fn new() -> Self {
        let weigher = |_: &Digest, view: &Arc<View>| view.weight();
        Self {
            views: moka::future::Cache::builder().max_capacity(PLANS).weigher(weigher).build(),
            digests: moka::sync::Cache::new(DIGESTS),
        }
    }

    /// The view of a zip, made once for all who ask for it at the time, and to its end even if all of them leave.
    async fn view(self: &Arc<Self>, object: &Object) -> Result<Arc<View>, Arc<Unreadable>> {
        let zip = object.meta.digest;
        if let Some(view) = self.views.get(&zip).await {
            return Ok(view);
        }
        let this = self.clone();
        let object = object.clone();
        let made = tokio::spawn(async move {
            let make = async {
                let flats = this.clone();
                tokio::task::spawn_blocking(move || flats.make(&object)).await.map_err(io::Error::other)?
            };
            this.views.try_get_with(zip, make).await
        });
        made.await.map_err(|error| Arc::new(io::Error::other(error).into()))?
    }

    /// Blocks for as long as it takes to read all of the zip.
    fn make(&self, object: &Object) -> Result<Arc<View>, Unreadable> {
        let Some(flat) = ZipFacts::from_value(&object.meta.verified.facts)?.flat else {
            return Ok(Arc::new(View::Itself));
        };
        let len = object.meta.len.saturating_sub(flat.central);
        let mut spool_reader = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        object.read_exact(&mut spool_reader, flat.central)?;
        let plan = flat.plan(spool_reader.into())?;
        let digest = match self.digests.get(&object.meta.digest) {
            Some(known) => known,
            None => digest(object, &plan)?,
        };
        self.digests.insert(object.meta.digest, digest);
        Ok(Arc::new(View::Planned { plan, digest }))
    }
}

/// SHA-256 of a view, by reading it as it will be sent.
///
/// Nobody needs it before the view is asked for: verification would keep everybody who waits for the plain zip waiting
/// for it.
fn digest(object: &Object, plan: &FlatPlan) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut read = Vec::new();
    for start in (0..plan.len()).step_by(STRIDE) {
        let batch = plan.batch(start..plan.len().min(start + STRIDE as u64));
        let source = batch.source();
        read.resize(usize::try_from(source.end - source.start).unwrap_or(usize::MAX), 0);
        object.read_exact(&mut read, source.start)?;
        hash = batch.pieces(&read).fold(hash, Sha256::chain_update);
    }
    Ok(Digest(hash.finalize().into()))
}

/// The bytes of a part of a view.
async fn read(object: &Object, batch: &FlatBatch) -> io::Result<Bytes> {
    let source = batch.source();
    let want = usize::try_from(source.end - source.start).unwrap_or(usize::MAX);
    let read = if want == 0 { Bytes::new() } else { object.read(source.start, want).await? };
    batch.assemble(read)
}

/// Why a stored zip has no view.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Damaged(#[from] DamagedDirectory),
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    #[error("what is stored about it is of another kind: {0}")]
    Facts(#[from] serde_json::Error),
}

/// Answers a request for the flat view of a version.
///
/// A stored zip that turns out to be damaged is set aside and fetched again, once.
///
/// # Errors
/// As for the plain zip; 503 when there is no room on disk and the zip is too large for memory.
pub(in crate::service) async fn respond(
    flats: &Arc<FlatViewCache>,
    mirror: &Registry,
    parts: &Parts,
    (package, version, ask): (&PackageId, &Version, &ApiRequest),
    context: &mut RequestContext,
) -> Result<Response<Body>, Problem> {
    let mut again = true;
    loop {
        let found = mirror.archives().archive(package, version).await;
        let ResolvedArchive { answer, resolved } = found.map_err(|error| Problem::of(error, ask))?;
        context.cache = Some(answer.status);
        let whole = match answer.served {
            ServedArchive::Stored(object) => WholeBody::Complete(object),
            ServedArchive::Arriving { spool_reader, .. } => {
                spool_reader.whole().await.map_err(|error| Problem::late(error, context.cache.take(), ask))?
            }
        };
        let WholeBody::Complete(object) = whole else { return Err(Problem::no_room(context.cache.take(), ask)) };
        let view = match flats.view(&object).await {
            Ok(view) => view,
            Err(error) => {
                let digest = object.meta.digest;
                tracing::error!(%digest, %error, "a stored zip has no flat view");
                if !again {
                    return Err(Problem::damaged(context.cache.take(), ask));
                }
                again = false;
                mirror.archives().quarantine(&object).await;
                continue;
            }
        };
        let mut response = match &*view {
            View::Itself => {
                let meta = object.meta.clone();
                let body = |part| archive::range_body(object, part, context.direct);
                zip::complete(&parts.method, &parts.headers, &meta.digest, meta.len, body)
            }
            View::Planned { plan, digest } => {
                let body = |part| part_of(object, view.clone(), part);
                zip::complete(&parts.method, &parts.headers, digest, plan.len(), body)
            }
        };
        zip::finish(&mut response, &resolved, answer.age, &package.name);
        return Ok(response);
    }
}

/// A part of a view as a body.
fn part_of(object: Object, view: Arc<View>, part: Range<u64>) -> Body {
    let len = part.end - part.start;
    let next = |(object, view, part): (Object, Arc<View>, Range<u64>)| async move {
        let View::Planned { plan, .. } = &*view else { return Ok(None) };
        if part.is_empty() {
            return Ok(None);
        }
        let end = part.end.min(part.start + BATCH);
        let batch = plan.batch(part.start..end);
        let bytes = read(&object, &batch).await.map_err(|error| {
            let digest = object.meta.digest;
            tracing::error!(%digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        object.record_sent(bytes.len() as u64);
        Ok::<_, BodyError>(Some((bytes, (object, view, end..part.end))))
    };
    Body::stream(stream::try_unfold((object, view, part), next).boxed(), Some(len))
}
