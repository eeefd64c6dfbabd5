//! A zip as an HTTP answer: conditions, ranges, headers, and a body that follows what is still arriving.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, Response, StatusCode, Version, header, request::Parts};

use crate::{
    http::{
        body::{Body, BodyError},
        conditional::{self, Precondition},
        range::{self, RangeDecision, RangeSpec},
    },
    origin::FetchError,
    package::PackageName,
    registry::{Object, ObjectContent, RangeReader, ServedArchive, SpoolReader, WholeBody, resolve::ResolvedArchive},
    service::zip,
};

/// Most bytes of one read from a stored zip.
const CHUNK: usize = 256 << 10;
/// Most bytes of one region; it takes no memory, only a look at whether the page cache has it.
const FRAME: usize = 2 << 20;

/// Makes the answer to a request for a zip.
///
/// # Errors
/// When the end of a zip that is still arriving had to be waited for (a part of unknown length, HTTP/1.0), and it
/// failed before.
pub(in crate::service) async fn respond(
    parts: &Parts,
    direct: bool,
    package: &PackageName,
    archive: ResolvedArchive,
) -> Result<Response<Body>, FetchError> {
    let method = &parts.method;
    let headers = &parts.headers;
    let ResolvedArchive { answer, resolved } = archive;
    let mut response = match answer.served {
        ServedArchive::Stored(object) => stored(method, headers, object, direct),
        ServedArchive::Arriving { spool_reader, len: None }
            if parts.version < Version::HTTP_11 && *method != Method::HEAD =>
        {
            // HTTP/1.0 ends a body of unknown length by closing: a broken one would look like a whole one.
            let WholeBody::Complete(object) = spool_reader.whole().await? else {
                return Err(FetchError::Refused("its length is not known, and HTTP/1.0 cannot tell its end".into()));
            };
            stored(method, headers, object, direct)
        }
        ServedArchive::Arriving { spool_reader, len } => {
            arriving(method, headers, spool_reader.direct(direct), len, direct).await?
        }
    };
    zip::finish(&mut response, &resolved, answer.age, package);
    Ok(response)
}

/// A complete zip: length and digest are known, any part can be had.
fn stored(method: &Method, headers: &HeaderMap, object: Object, direct: bool) -> Response<Body> {
    let meta = object.meta.clone();
    zip::complete(method, headers, &meta.digest, meta.len, |range| range_body(object, range, direct))
}

/// A zip whose download still runs: no digest is known, so no tag matches.
async fn arriving(
    method: &Method,
    headers: &HeaderMap,
    spool_reader: SpoolReader,
    len: Option<u64>,
    direct: bool,
) -> Result<Response<Body>, FetchError> {
    match conditional::decide(headers, method, None) {
        Precondition::NotModified => return Ok(zip::status(StatusCode::NOT_MODIFIED)),
        Precondition::Failed => return Ok(zip::status(StatusCode::PRECONDITION_FAILED)),
        Precondition::Proceed => {}
    }
    let range_spec = RangeSpec::parse(headers, method, None);
    if range_spec == RangeSpec::Whole {
        return Ok(streaming_body(method, StatusCode::OK, spool_reader, len));
    }
    let Some(len) = len else {
        // A part of unknown length cannot be described: wait for the end.
        return match spool_reader.whole().await? {
            WholeBody::Complete(object) => Ok(stored(method, headers, object, direct)),
            WholeBody::TooLarge(spool_reader) => Ok(streaming_body(method, StatusCode::OK, spool_reader, None)),
        };
    };
    match range_spec.resolve(len) {
        RangeDecision::Whole => Ok(streaming_body(method, StatusCode::OK, spool_reader, Some(len))),
        RangeDecision::Unsatisfiable => {
            let mut response = zip::status(StatusCode::RANGE_NOT_SATISFIABLE);
            response.headers_mut().insert(header::CONTENT_RANGE, range::unsatisfied_range(len));
            Ok(response)
        }
        RangeDecision::Part { first, last } => {
            let spool_reader = match spool_reader.within(first..last + 1) {
                RangeReader::Confined(spool_reader) => spool_reader,
                RangeReader::Whole(spool_reader) => {
                    return Ok(streaming_body(method, StatusCode::OK, spool_reader, Some(len)));
                }
            };
            let mut response =
                streaming_body(method, StatusCode::PARTIAL_CONTENT, spool_reader, Some(last + 1 - first));
            response.headers_mut().insert(header::CONTENT_RANGE, range::content_range(first, last, len));
            Ok(response)
        }
    }
}

fn streaming_body(method: &Method, status: StatusCode, spool_reader: SpoolReader, len: Option<u64>) -> Response<Body> {
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let next = |mut spool_reader: SpoolReader| async move {
            let bytes = spool_reader.next().await.map_err(BodyError::from)?;
            Ok::<_, BodyError>(bytes.map(|bytes| (bytes, spool_reader)))
        };
        Body::stream(stream::try_unfold(spool_reader, next).boxed(), len)
    };
    zip::zip(status, len, body)
}

/// The bytes of a part of a stored zip; where they go out `direct`, as regions that are sent without being read.
pub(in crate::service) fn range_body(object: Object, range: Range<u64>, direct: bool) -> Body {
    if let ObjectContent::Memory(bytes) = &object.content {
        object.record_sent(range.end - range.start);
        let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        return Body::full(bytes.slice(position(range.start)..position(range.end)));
    }
    let len = range.end - range.start;
    let next = move |(object, range): (Object, Range<u64>)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let want = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let bytes = if direct {
            object.read_for_sendfile(range.start, want.min(FRAME)).await
        } else {
            object.read(range.start, want.min(CHUNK)).await
        };
        let bytes = bytes.map_err(|error| {
            tracing::error!(digest = %object.meta.digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        object.record_sent(bytes.len() as u64);
        let rest = range.start + bytes.len() as u64..range.end;
        Ok::<_, BodyError>(Some((bytes, (object, rest))))
    };
    Body::stream(stream::try_unfold((object, range), next).boxed(), Some(len))
}
