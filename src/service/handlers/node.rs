//! Answers to other nodes of the fleet: archives by key, as they arrive, and administrative requests that an operator sends to
//! all nodes. The node that asks applies the rules of its callers itself.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::admin;
use crate::{
    admin_api::ADMIN_PATH_PREFIX,
    entry::Key,
    fleet::{ARCHIVE_PATH, CHANGES_PATH},
    http::body::Body,
    origin::FetchError,
    registry::{CacheFailure, RegistryError, ServedArchive},
    service::{
        Service,
        context::SendMode,
        zip_body::{range_body, streaming_body},
        zip_response::{empty, with_body},
    },
};

/// `Retry-After` for another node while this one has no answer.
const NODE_RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl Service {
    /// Answers a request on the listener for nodes.
    pub fn handle_node<B>(self: &Arc<Self>, request: Request<B>) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
    {
        let service = self.clone();
        let (parts, body) = request.into_parts();
        async move {
            if let Some(route) =
                parts.uri.path().strip_prefix(ADMIN_PATH_PREFIX).filter(|_| parts.method == Method::POST)
            {
                return admin::answer_node(&service, route, admin::input(body)).await;
            }
            if parts.uri.path() == CHANGES_PATH && parts.method == Method::POST {
                service.registry.transfer().notice_changes();
                return empty(StatusCode::NO_CONTENT);
            }
            let path = parts.uri.path().strip_prefix(ARCHIVE_PATH);
            let key = path.and_then(|key| percent_decode_str(key).decode_utf8().ok());
            match key {
                Some(key) if parts.method == Method::GET => archive(&service, &Key::new(&*key)).await,
                Some(_) => empty(StatusCode::METHOD_NOT_ALLOWED),
                None => empty(StatusCode::NOT_FOUND),
            }
        }
    }
}

async fn archive(service: &Service, key: &Key) -> Response<Body> {
    match service.registry.transfer().get_for_node(key).await {
        Ok(answer) => match answer.served {
            ServedArchive::Stored(object) => {
                let len = object.meta.len;
                with_body(StatusCode::OK, Some(len), range_body(object, 0..len, SendMode::Copy))
            }
            ServedArchive::Arriving { spool_reader, len } => {
                with_body(StatusCode::OK, len, streaming_body(spool_reader, len))
            }
        },
        Err(error) => {
            let status = status_of(&error);
            tracing::debug!(%key, %status, "another node gets no archive");
            let mut response = empty(status);
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, NODE_RETRY_AFTER);
            }
            response
        }
    }
}

/// The status for another node, which then gets the archive elsewhere.
fn status_of(error: &RegistryError) -> StatusCode {
    let RegistryError::Fetch(CacheFailure { error, .. }) = error else { return StatusCode::NOT_FOUND };
    match error {
        FetchError::NotFound(_) => StatusCode::NOT_FOUND,
        FetchError::Loop => StatusCode::LOOP_DETECTED,
        FetchError::NoRoom { .. }
        | FetchError::NoMemory { .. }
        | FetchError::PinsUnavailable { .. }
        | FetchError::Busy { .. }
        | FetchError::CoolingDown { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}
