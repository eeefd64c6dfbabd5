//! Administration, for those who come by the control socket: `/-/…`.
//!
//! A contract of its own: a request's body is a JSON object or empty, an answer is a JSON value or, where it takes long,
//! one JSON value per line. An error is `{"message", "status"}`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    dialect::Names,
    http::body::{Body, BodyError},
    registry::Registry,
};

mod inventory;
mod transfer;
mod verify;
mod warm;

/// Largest JSON of a request, bytes.
const LARGEST: usize = 64 << 20;

/// The body of a request.
pub(in crate::service) type Input = UnsyncBoxBody<Bytes, BodyError>;

/// Makes a body of any type an [`Input`].
pub(in crate::service) fn input<B>(body: B) -> Input
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
{
    body.map_err(|error| BodyError::from(Box::new(error))).boxed_unsync()
}

/// Why a request is not done: a status and a sentence for the one who asked.
#[derive(Debug)]
pub(super) struct AdminError(pub(super) StatusCode, pub(super) String);

impl AdminError {
    /// 400.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    /// 500, in our words; the cause is logged.
    pub(super) fn failed(message: &str, error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "{message}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, message.to_owned())
    }
}

/// Answers one request; `path` is what follows `/-/`.
pub(in crate::service) async fn answer(
    mirror: &Arc<Registry>,
    names: &Names,
    method: &Method,
    path: &str,
    input: Input,
) -> Response<Body> {
    let done = match (method, path) {
        (&Method::POST, "ping") => ping(input).await,
        (&Method::POST, "warm") => warm::answer(mirror, names, input).await,
        (&Method::POST, "stock") => inventory::list(mirror, read(input).await).await,
        (&Method::POST, "stats") => inventory::stats(mirror).await,
        (&Method::POST, "rm") => inventory::remove(mirror, read(input).await).await,
        (&Method::POST, "keep") => inventory::keep(mirror, read(input).await).await,
        (&Method::POST, "gc") => inventory::collect(mirror, read(input).await).await,
        (&Method::POST, "verify") => verify::verify(mirror, read(input).await).await,
        (&Method::POST, "claims") => transfer::claims(mirror, read(input).await).await,
        (&Method::POST, "zip") => transfer::zip(mirror, read(input).await).await,
        (&Method::POST, "import/plan") => transfer::plan(mirror, read(input).await).await,
        (&Method::POST, "import/zip") => transfer::take(mirror, input).await,
        (&Method::POST, "import/document") => transfer::take_document(mirror, read(input).await, false).await,
        (&Method::POST, "import/document/check") => transfer::take_document(mirror, read(input).await, true).await,
        (&Method::POST, "pins") => inventory::pins(mirror, read(input).await).await,
        _ => Err(AdminError(StatusCode::NOT_FOUND, "there is no such administration".into())),
    };
    done.unwrap_or_else(|AdminError(status, message)| {
        let code = status.as_str();
        let mut response = one(&json!({"message": message, "status": code}));
        *response.status_mut() = status;
        response
    })
}

async fn ping(input: Input) -> Result<Response<Body>, AdminError> {
    let _: serde_json::Map<String, Value> = read(input).await?;
    Ok(one(&json!({"pid": std::process::id(), "version": env!("CARGO_PKG_VERSION")})))
}

/// Reads a JSON object; an empty body is an empty one.
pub(super) async fn read<T: DeserializeOwned>(mut input: Input) -> Result<T, AdminError> {
    let mut text = Vec::new();
    while let Some(frame) = input.frame().await {
        let frame = frame.map_err(|_| AdminError::bad("the request's body broke off"))?;
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
        if text.len() > LARGEST {
            drain(&mut input).await;
            return Err(AdminError::bad("the request's body is too large"));
        }
    }
    let text = if text.is_empty() { b"{}" } else { &*text };
    serde_json::from_slice(text).map_err(|error| AdminError::bad(format!("the request is malformed: {error}")))
}

/// Reads what is left of a request that is refused: whoever still sends it would find the connection broken instead of
/// the reason.
async fn drain(input: &mut Input) {
    while let Some(Ok(_)) = input.frame().await {}
}

/// One JSON value.
pub(super) fn one(value: &Value) -> Response<Body> {
    with_type("application/json", Body::full(Bytes::from(format!("{value}\n"))))
}

/// Most lines that are sent at once.
const AT_ONCE: usize = 256;

/// One JSON value per line, sent as they come; the work ends when the client leaves.
pub(super) fn lines<T: Serialize>(values: impl Stream<Item = T> + Send + 'static) -> Response<Body> {
    let lines = values.ready_chunks(AT_ONCE).map(|values| {
        let mut text = Vec::new();
        for value in &values {
            serde_json::to_writer(&mut text, value)?;
            text.push(b'\n');
        }
        Ok::<_, BodyError>(Bytes::from(text))
    });
    with_type("application/jsonl", Body::stream(lines.boxed(), None))
}

fn with_type(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
