//! A view of a version's zip: the stored zip without its top folder, in another one, or one of its folders, read through
//! a plan.
//!
//! The plan is made from the zip's central directory, so a miss waits for the end of the download, for HEAD too: the
//! length of the view is not known earlier. Plans are cached.

use std::{io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, request::Parts};

use crate::{
    archive::{
        StoredZipError,
        view::{ViewBatch, ViewSpec},
    },
    http::body::{Body, BodyError},
    package::{PackageId, Version},
    registry::{
        Object, ServedArchive, WeakObject,
        resolved::{ResolvedArchive, ResolvedVersion},
    },
    service::{
        Service,
        context::RequestContext,
        error::ApiError,
        handlers::built::ensure_built,
        view_cache::{CachedView, ViewFailure},
        zip_body::range_body,
        zip_response::{self, complete_zip},
    },
};

/// Most bytes of a view in one body frame.
const MAX_VIEW_FRAME_BYTES: u64 = 256 << 10;

/// A view of a version's zip.
#[derive(Clone, Copy)]
pub(in crate::service) struct ViewRequest<'a> {
    pub(in crate::service) package: &'a PackageId,
    pub(in crate::service) version: &'a Version,
    /// Chooses the view: the name of an added folder depends on what the version is.
    pub(in crate::service) spec_of: &'a (dyn Fn(&ResolvedVersion) -> ViewSpec + Send + Sync),
    /// Whether a component whose entry is not in its zip is refused.
    pub(in crate::service) refuses_unbuilt: bool,
    /// How long the client waits for a running download; `None`: as long as it runs.
    pub(in crate::service) max_wait: Option<Duration>,
}

/// Responds with a view of a version's zip.
///
/// A stored zip that turns out to be damaged is quarantined and fetched again, once.
///
/// # Errors
/// As for the plain zip; 404 when the view is of a folder that the zip does not have.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    request: ViewRequest<'_>,
) -> Result<Response<Body>, ApiError> {
    let mut may_retry = true;
    loop {
        let archive = service.registry.folders().whole_archive(request.package, request.version);
        // Where the package model is enforced, this waits for the whole zip.
        let archive = wait_at_most(request.max_wait, archive).await??;
        let cacheable = archive.cacheable_object().map(Object::downgrade);
        let ResolvedArchive { answer, resolved } = archive;
        context.cache_status = Some(answer.status);
        let object = match answer.served {
            ServedArchive::Stored(object) => object,
            ServedArchive::Arriving { spool_reader, .. } => {
                wait_at_most(request.max_wait, spool_reader.whole()).await?.map_err(ApiError::Download)?
            }
        };
        if request.refuses_unbuilt {
            ensure_built(&object.meta.verified.facts)?;
        }
        let spec = (request.spec_of)(&resolved);
        let Some(mut response) = view_response(service, parts, context, object, spec, cacheable).await? else {
            if !may_retry {
                return Err(ApiError::DamagedZip);
            }
            may_retry = false;
            continue;
        };
        zip_response::add_headers(&mut response, &resolved, answer.age, &request.package.name);
        return Ok(response);
    }
}

/// Waits for what a running download must complete first, at most `max_wait`; `None`: as long as the download runs.
///
/// # Errors
/// `StillArriving` when it takes longer than the client waits. The download goes on.
pub(super) async fn wait_at_most<T>(max_wait: Option<Duration>, wait: impl Future<Output = T>) -> Result<T, ApiError> {
    match max_wait {
        Some(max_wait) => tokio::time::timeout(max_wait, wait).await.map_err(|_| ApiError::StillArriving),
        None => Ok(wait.await),
    }
}

/// The view of a complete zip as a response, without the header fields that depend on the version; `None` when the zip is
/// damaged: it is quarantined then. With `cacheable`, the response may be cached where the view is the zip itself.
///
/// # Errors
/// When the zip has no such view, or there is no memory for its directory at present.
pub(super) async fn view_response(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    object: Object,
    spec: ViewSpec,
    cacheable: Option<WeakObject>,
) -> Result<Option<Response<Body>>, ApiError> {
    context.note_whole(&object);
    let view = match service.views.view(&object, spec).await {
        Ok(view) => view,
        Err(error) if matches!(&*error, ViewFailure::Zip(StoredZipError::NoMemory(_))) => {
            return Err(ApiError::Overloaded);
        }
        Err(error) => {
            tracing::error!(digest = %object.meta.digest, %error, "a stored zip cannot be read as a view");
            service.registry.archives().quarantine(&object).await;
            return Ok(None);
        }
    };
    Ok(Some(match &*view {
        CachedView::Stored => {
            context.zip = cacheable;
            let meta = object.meta.clone();
            let body = |range| range_body(object, range, context.send_mode);
            complete_zip(&parts.method, &parts.headers, &meta.digest, meta.len, body)
        }
        CachedView::Planned { plan, digest } => {
            let body = |range| view_range_body(object, view.clone(), range);
            complete_zip(&parts.method, &parts.headers, digest, plan.len(), body)
        }
        CachedView::Impossible(error) => return Err(ApiError::NoView(*error)),
    }))
}

/// The bytes of a range of a view. A read error breaks the connection.
fn view_range_body(object: Object, view: Arc<CachedView>, range: Range<u64>) -> Body {
    let len = range.end - range.start;
    let next = |(object, view, range): (Object, Arc<CachedView>, Range<u64>)| async move {
        let CachedView::Planned { plan, .. } = &*view else { return Ok(None) };
        if range.is_empty() {
            return Ok(None);
        }
        let batch = plan.batch(range.start..range.end.min(range.start + MAX_VIEW_FRAME_BYTES));
        let bytes = read_batch(&object, &batch).await.map_err(|error| {
            tracing::error!(digest = %object.meta.digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        object.record_sent(bytes.len() as u64);
        Ok::<_, BodyError>(Some((bytes, (object, view, batch.range().end..range.end))))
    };
    Body::stream(stream::try_unfold((object, view, range), next).boxed(), Some(len))
}

/// Reads a part of a view from its zip.
async fn read_batch(object: &Object, batch: &ViewBatch) -> io::Result<Bytes> {
    let source = batch.source();
    let len = usize::try_from(source.end - source.start).unwrap_or(usize::MAX);
    let bytes = if len == 0 { Bytes::new() } else { object.read(source.start, len).await? };
    batch.assemble(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_waits_for_a_download_as_long_as_its_dialect_allows() {
        let started = tokio::time::Instant::now();
        let arriving = wait_at_most(Some(Duration::from_secs(30)), std::future::pending::<()>()).await;
        assert!(matches!(arriving, Err(ApiError::StillArriving)));
        assert_eq!(started.elapsed(), Duration::from_secs(30));
        let error = ApiError::StillArriving.describe(None, None, None);
        assert_eq!((error.status.as_u16(), error.retry_after.is_some()), (504, true));
        let slow = tokio::time::sleep(Duration::from_secs(3600));
        assert!(wait_at_most(None, slow).await.is_ok(), "without a limit it waits to the end");
    }
}
