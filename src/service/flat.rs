//! The flat view as an HTTP answer: the stored zip without its top folder, read through a plan.
//!
//! The plan is made from the zip's central directory, so a cold request waits for the end of the download, HEAD too:
//! before that nobody knows the view's length. Plans are kept while their views are asked for.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, request::Parts};
use tokio::sync::Mutex;

use super::{Exchange, archive, error::Problem, target, zip};
use crate::{
    archive::{
        Facts,
        flat::{Damaged, Flat, Plan},
    },
    dialect::{Ask, PackageRef},
    entry::Digest,
    http::body::{Body, BodyError},
    mirror::{Mirror, Object, Served, resolve::Archive},
    package::Version,
};

/// Bytes of plans that are kept.
const PLANS: u64 = 32 << 20;
/// Bytes of a view that are read and made at once.
const BATCH: u64 = 256 << 10;

/// The views that were asked for lately, by the digest of their zip.
pub(super) struct Flats {
    views: moka::sync::Cache<Digest, Arc<View>>,
    /// Held while a plan is made: who waits for it finds the plan of whoever came first.
    making: Mutex<()>,
}

/// How a zip becomes its flat view.
enum View {
    /// It is its own.
    Itself,
    /// By a plan.
    Planned { flat: Flat, plan: Plan },
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

impl Flats {
    pub(super) fn new() -> Self {
        let weigher = |_: &Digest, view: &Arc<View>| view.weight();
        Self {
            views: moka::sync::Cache::builder().max_capacity(PLANS).weigher(weigher).build(),
            making: Mutex::new(()),
        }
    }

    /// The view of a zip, made once for all who ask for it at the time.
    async fn view(&self, object: &Object) -> Result<Arc<View>, Unreadable> {
        if let Some(view) = self.views.get(&object.meta.digest) {
            return Ok(view);
        }
        let _making = self.making.lock().await;
        if let Some(view) = self.views.get(&object.meta.digest) {
            return Ok(view);
        }
        let view = Arc::new(match Facts::from_value(&object.meta.verified.facts)?.flat {
            None => View::Itself,
            Some(flat) => {
                let len = object.meta.len.saturating_sub(flat.central);
                let tail = object.read(flat.central, usize::try_from(len).unwrap_or(usize::MAX)).await?;
                let make = move || flat.plan(tail).map(|plan| View::Planned { flat, plan });
                tokio::task::spawn_blocking(make).await.map_err(std::io::Error::other)??
            }
        });
        self.views.insert(object.meta.digest, view.clone());
        Ok(view)
    }
}

/// Why a stored zip has no view.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error("what is stored about it is of another kind: {0}")]
    Facts(#[from] serde_json::Error),
}

/// Answers a request for the flat view of a version.
///
/// A stored zip that turns out to be damaged is set aside and fetched again, once.
///
/// # Errors
/// As for the plain zip; 503 when there is no room on disk and the zip is too large for memory.
pub(super) async fn respond(
    flats: &Flats,
    mirror: &Mirror,
    parts: &Parts,
    (package, version, ask): (&PackageRef, &Version, &Ask),
    exchange: &mut Exchange,
) -> Result<Response<Body>, Problem> {
    let mut again = true;
    loop {
        let found = mirror.archive(&target(package), version).await;
        let Archive { answer, resolved } = found.map_err(|error| Problem::of(error, ask))?;
        exchange.cache = Some(answer.status);
        let whole = match answer.served {
            Served::Stored(object) => Ok(object),
            Served::Arriving { tail, .. } => {
                tail.whole().await.map_err(|error| Problem::late(error, exchange.cache.take(), ask))?
            }
        };
        let Ok(object) = whole else { return Err(Problem::no_room(exchange.cache.take(), ask)) };
        let view = match flats.view(&object).await {
            Ok(view) => view,
            Err(error) => {
                let digest = object.meta.digest;
                tracing::error!(target: "srm_mirror::service", %digest, %error, "a stored zip has no flat view");
                if !again {
                    return Err(Problem::damaged(exchange.cache.take(), ask));
                }
                again = false;
                mirror.cache().distrust(&digest).await;
                continue;
            }
        };
        let mut response = match &*view {
            View::Itself => {
                let meta = object.meta.clone();
                let body = |part| archive::part(object, part, exchange.direct);
                zip::complete(&parts.method, &parts.headers, &meta.digest, meta.len, body)
            }
            View::Planned { flat, .. } => {
                let body = |part| part_of(object, view.clone(), part);
                zip::complete(&parts.method, &parts.headers, &flat.digest, flat.len, body)
            }
        };
        zip::finish(&mut response, &resolved, answer.age, &package.name);
        return Ok(response);
    }
}

/// The bytes of a part of a view.
fn part_of(object: Object, view: Arc<View>, part: Range<u64>) -> Body {
    let len = part.end - part.start;
    let next = |(object, view, part): (Object, Arc<View>, Range<u64>)| async move {
        let View::Planned { plan, .. } = &*view else { return Ok(None) };
        if part.is_empty() {
            return Ok(None);
        }
        let end = part.end.min(part.start + BATCH);
        let batch = plan.batch(part.start..end);
        let (source, digest) = (batch.source(), object.meta.digest);
        let want = usize::try_from(source.end - source.start).unwrap_or(usize::MAX);
        let read = if want == 0 { Ok(Bytes::new()) } else { object.read(source.start, want).await };
        let bytes = read.and_then(|read| batch.assemble(&read)).map_err(|error| {
            tracing::error!(target: "srm_mirror::service", %digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        object.sent(bytes.len() as u64);
        Ok::<_, BodyError>(Some((bytes, (object, view, end..part.end))))
    };
    Body::stream(stream::try_unfold((object, view, part), next).boxed(), Some(len))
}
