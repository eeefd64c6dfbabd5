//! The administration API, for clients of the control socket and for administrators over the network: reads a request,
//! performs it, answers with JSON.
//!
//! The routes and the types of their requests, answers and errors are in [`crate::admin_api`].

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderValue, Method, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{
    admin_api::{
        AdminRequest, BlockVersions, Call, CheckDocument, CollectGarbage, CountHosted, CreateToken, ErrorBody,
        ErrorCode, ExportArchives, ExportHosted, GetFirstSeen, GetStoredState, HEARTBEAT_INTERVAL, ImportArchive,
        ImportDocument, ImportSource, KeepArchives, ListArchives, ListBlocks, ListFailedPublications, ListPins,
        ListTokens, MAX_REQUEST_BYTES, Ping, PlanImport, Pong, PruneHosted, PushArchives, ReadArchive, ReadStats,
        ReadStatus, ReloadConfig, RemoveArchives, RevokeToken, RotateSigningKey, SetRoute, ShowRoute, Subscription,
        UnblockVersions, UnyankVersion, VerifyArchives, VerifyHosted, WarmArchive, WarmLists, YankVersion,
    },
    http::body::{Body, BodyError},
    observe::AuditUnwritable,
    service::{Service, audit::Acts, context::RequestContext},
};

mod blocks;
mod bucket_export;
mod hosting;
mod inventory;
mod publisher;
mod push;
mod reload;
pub(in crate::service) mod remote;
mod removal;
mod route;
mod stats;
mod status;
mod tokens;
mod transfer;
mod upkeep;
mod verify;
mod warm;

pub(in crate::service) use status::mirror_status;

/// Most events that are sent in one piece.
const MAX_BATCHED_EVENTS: usize = 256;
/// Longest wait for the next part of a request's body.
const MAX_INPUT_PAUSE: Duration = Duration::from_secs(60);

/// When to try again while the shared bucket cannot be used.
const BUCKET_RETRY_SECONDS: u64 = 5;

/// The body of a request.
pub(in crate::service) type Input = UnsyncBoxBody<Bytes, BodyError>;

/// Makes a body of any type an [`Input`].
pub(in crate::service) fn input<B>(body: B) -> Input
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
{
    body.map_err(|error| BodyError::from(Box::new(error))).boxed_unsync()
}

/// Why a request is refused.
#[derive(Debug)]
struct AdminError {
    code: ErrorCode,
    /// One or two sentences for a person.
    message: String,
}

impl AdminError {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The request is malformed.
    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// The cache directory cannot be read or written. The cause is logged, and not sent.
    fn storage(message: &str, error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "{message}");
        Self::new(ErrorCode::Storage, message)
    }

    fn into_response(self) -> Response<Body> {
        let status = self.code.status();
        let body = ErrorBody { message: self.message, status: status.as_str().to_owned(), code: self.code };
        let mut response = json_line(&body);
        *response.status_mut() = status;
        if self.code == ErrorCode::Bucket {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(BUCKET_RETRY_SECONDS));
        }
        response
    }
}

impl From<AuditUnwritable> for AdminError {
    fn from(error: AuditUnwritable) -> Self {
        Self::new(ErrorCode::AuditUnwritable, error.to_string())
    }
}

/// Answers one request of a caller who may administer; `path` is what follows `/-/`.
pub(in crate::service) async fn answer(
    service: &Service,
    method: &Method,
    path: &str,
    input: Input,
    context: &RequestContext,
) -> Response<Body> {
    let acts = Acts::of(context);
    let answer = match *method {
        Method::POST => dispatch(service, path, input, &acts).await,
        _ => Err(no_such_route()),
    };
    answer.unwrap_or_else(AdminError::into_response)
}

/// Answers one request of an operator at another node of the fleet: only requests that read or repair are permitted.
pub(in crate::service) async fn answer_node(service: &Service, path: &str, input: Input) -> Response<Body> {
    let Service { registry, clients, .. } = service;
    let answer = match path {
        ReadStatus::ROUTE => call(input, |ReadStatus {}| status::status(service)).await,
        ReadStats::ROUTE => call(input, |ReadStats {}| stats::stats(registry, clients)).await,
        ListArchives::ROUTE => subscribe_fallible(input, |request| inventory::list(registry, request)).await,
        ListFailedPublications::ROUTE => call(input, |request| upkeep::failed(registry, request)).await,
        VerifyArchives::ROUTE => subscribe_fallible(input, |request| verify::verify(registry, request)).await,
        _ => Err(no_such_route()),
    };
    answer.unwrap_or_else(AdminError::into_response)
}

async fn dispatch(service: &Service, path: &str, input: Input, acts: &Acts) -> Result<Response<Body>, AdminError> {
    let Service { registry, names, clients, access, .. } = service;
    match path {
        Ping::ROUTE => call(input, |Ping {}| ping()).await,
        ListArchives::ROUTE => subscribe_fallible(input, |request| inventory::list(registry, request)).await,
        ListPins::ROUTE => subscribe_fallible(input, |request| inventory::pins(registry, request)).await,
        ReadStats::ROUTE => call(input, |ReadStats {}| stats::stats(registry, clients)).await,
        ReadStatus::ROUTE => call(input, |ReadStatus {}| status::status(service)).await,
        RemoveArchives::ROUTE => act(acts, input, |request| removal::remove(registry, request)).await,
        CollectGarbage::ROUTE => act(acts, input, |request| removal::collect_garbage(registry, request)).await,
        KeepArchives::ROUTE => act(acts, input, |request| inventory::keep(registry, acts, request)).await,
        VerifyArchives::ROUTE => subscribe_fallible(input, |request| verify::verify(registry, request)).await,
        PushArchives::ROUTE => subscribe(input, |request| push::push(registry, names, acts, request)).await,
        ExportArchives::ROUTE => subscribe_fallible(input, |request| transfer::export(registry, names, request)).await,
        ReadArchive::ROUTE => transfer::read_archive(registry, read(input).await?).await,
        PlanImport::ROUTE => subscribe(input, |request| transfer::plan(registry, request)).await,
        ImportArchive::ROUTE => transfer::import(registry, input, acts).await,
        ImportDocument::ROUTE => act(acts, input, |request| transfer::import_document(registry, request)).await,
        CheckDocument::ROUTE => call(input, |request| transfer::check_document(registry, request)).await,
        ImportSource::ROUTE => act(acts, input, |request| route::import(registry, names, request)).await,
        ShowRoute::ROUTE => call(input, |request| route::show(registry, names, request)).await,
        SetRoute::ROUTE => act(acts, input, |request| route::set(registry, names, request)).await,
        WarmLists::ROUTE => call(input, |request| warm::lists(registry, names, request)).await,
        GetFirstSeen::ROUTE => call(input, |request| warm::first_seen(registry, names, request)).await,
        GetStoredState::ROUTE => call(input, |request| warm::stored_state(registry, names, request)).await,
        BlockVersions::ROUTE => act_unrecorded(acts, input, |request| blocks::set(registry, request)).await,
        UnblockVersions::ROUTE => act(acts, input, |request| blocks::remove(registry, request)).await,
        ListBlocks::ROUTE => call(input, |ListBlocks {}| blocks::list(registry)).await,
        YankVersion::ROUTE => act(acts, input, |request| hosting::yank(registry, names, acts, request)).await,
        UnyankVersion::ROUTE => act(acts, input, |request| hosting::unyank(registry, names, request)).await,
        ExportHosted::ROUTE => upkeep::export(registry, read(input).await?).await,
        VerifyHosted::ROUTE => subscribe(input, |VerifyHosted {}| upkeep::verify(registry)).await,
        PruneHosted::ROUTE => subscribe(input, |request| upkeep::prune(registry, acts, request)).await,
        CountHosted::ROUTE => call(input, |request| upkeep::count(registry, request)).await,
        ListFailedPublications::ROUTE => call(input, |request| upkeep::failed(registry, request)).await,
        CreateToken::ROUTE => act(acts, input, |request| tokens::create(access, request)).await,
        ListTokens::ROUTE => call(input, |ListTokens {}| tokens::list(access)).await,
        RevokeToken::ROUTE => act_unrecorded(acts, input, |request| tokens::revoke(access, request)).await,
        RotateSigningKey::ROUTE => act(acts, input, |RotateSigningKey {}| tokens::rotate_signing_key(access)).await,
        ReloadConfig::ROUTE => act(acts, input, |ReloadConfig {}| reload::reload(service)).await,
        WarmArchive::ROUTE => subscribe(input, |request| warm::archive(registry, names, request)).await,
        _ => Err(no_such_route()),
    }
}

fn no_such_route() -> AdminError {
    AdminError::new(ErrorCode::NoSuchRoute, "the administration API has no such route")
}

async fn ping() -> Result<Pong, AdminError> {
    Ok(Pong { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Reads a request, performs it, and answers with one JSON value.
async fn call<C: Call, F>(input: Input, work: impl FnOnce(C) -> F) -> Result<Response<Body>, AdminError>
where
    F: Future<Output = Result<C::Answer, AdminError>>,
{
    let request = read(input).await?;
    Ok(json_line(&work(request).await?))
}

/// As [`call`], for a request that changes something: it is recorded, see [`Acts::begin`].
async fn act<C: Call, F>(acts: &Acts, input: Input, work: impl FnOnce(C) -> F) -> Result<Response<Body>, AdminError>
where
    F: Future<Output = Result<C::Answer, AdminError>>,
{
    let request: C = read(input).await?;
    let act = acts.begin(C::ROUTE, &request).await?;
    let answer = work(request).await;
    act.end(answer.as_ref().err().map(|error| error.message.as_str())).await;
    Ok(json_line(&answer?))
}

/// As [`act`], for a request that takes effect even if it cannot be recorded, such as a block or a revocation.
async fn act_unrecorded<C: Call, F>(
    acts: &Acts,
    input: Input,
    work: impl FnOnce(C) -> F,
) -> Result<Response<Body>, AdminError>
where
    F: Future<Output = Result<C::Answer, AdminError>>,
{
    let request: C = read(input).await?;
    let act = acts.begin_unrecorded(C::ROUTE, &request);
    let answer = work(request).await;
    act.end(answer.as_ref().err().map(|error| error.message.as_str())).await;
    Ok(json_line(&answer?))
}

/// Reads a request, starts its work, and answers with one line per event.
async fn subscribe<S: Subscription, F, E>(input: Input, work: impl FnOnce(S) -> F) -> Result<Response<Body>, AdminError>
where
    F: Future<Output = Result<E, AdminError>>,
    E: Stream<Item = S::Event> + Send + 'static,
{
    let request = read(input).await?;
    Ok(json_lines(work(request).await?.map(Ok)))
}

/// As [`subscribe`], for work that may fail after its first event: the connection is broken then.
async fn subscribe_fallible<S: Subscription, F, E>(
    input: Input,
    work: impl FnOnce(S) -> F,
) -> Result<Response<Body>, AdminError>
where
    F: Future<Output = Result<E, AdminError>>,
    E: Stream<Item = Result<S::Event, BodyError>> + Send + 'static,
{
    let request = read(input).await?;
    Ok(json_lines(work(request).await?))
}

/// Does work on a blocking thread; `failed` is the error sentence where it panics.
async fn blocking<T: Send + 'static>(failed: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AdminError> {
    crate::blocking::spawn_blocking(work).await.map_err(|error| AdminError::storage(failed, error))
}

/// Reads a JSON value; an empty body is an empty object.
async fn read<T: DeserializeOwned>(input: Input) -> Result<T, AdminError> {
    let text = read_text(input).await?;
    let text = if text.is_empty() { b"{}" } else { &*text };
    serde_json::from_slice(text).map_err(|error| AdminError::bad_request(format!("the request is malformed: {error}")))
}

/// Reads the body of a request. Boxed: every route awaits it, and it is compiled once.
fn read_text(mut input: Input) -> BoxFuture<'static, Result<Vec<u8>, AdminError>> {
    let read = async move {
        let mut text = Vec::new();
        while let Some(frame) = next_frame(&mut input).await? {
            text.extend_from_slice(&frame.into_data().unwrap_or_default());
            if text.len() > MAX_REQUEST_BYTES {
                drain(&mut input).await;
                return Err(AdminError::bad_request("the body of the request is too large"));
            }
        }
        Ok(text)
    };
    read.boxed()
}

/// Reads the rest of a refused request: a client that is still sending would see a broken connection, not the reason.
async fn drain(input: &mut Input) {
    while let Ok(Some(_)) = next_frame(input).await {}
}

/// The next part of a request's body; `None` at its end.
///
/// # Errors
/// When the connection breaks, or nothing arrives for [`MAX_INPUT_PAUSE`].
async fn next_frame(input: &mut Input) -> Result<Option<Frame<Bytes>>, AdminError> {
    let incomplete = || AdminError::bad_request("the body of the request is incomplete");
    match timeout(MAX_INPUT_PAUSE, input.frame()).await {
        Ok(frame) => frame.transpose().map_err(|_| incomplete()),
        Err(_) => Err(incomplete()),
    }
}

/// A response with one JSON value and a line end.
fn json_line(value: &impl Serialize) -> Response<Body> {
    // None of the values has a map with keys that are no text: writing them cannot fail.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    with_type("application/json", Body::full(Bytes::from(text)))
}

/// A response with one JSON value per line, sent as they arise, and empty lines as heartbeats. Dropping the body stops
/// the work.
fn json_lines<T: Serialize>(events: impl Stream<Item = Result<T, BodyError>> + Send + 'static) -> Response<Body> {
    let lines = events.ready_chunks(MAX_BATCHED_EVENTS).map(|events| {
        let mut text = Vec::new();
        for event in events {
            serde_json::to_writer(&mut text, &event?)?;
            text.push(b'\n');
        }
        Ok::<_, BodyError>(Bytes::from(text))
    });
    with_heartbeats(lines.boxed())
}

fn with_heartbeats(lines: BoxStream<'static, Result<Bytes, BodyError>>) -> Response<Body> {
    let with_heartbeats = stream::unfold(lines, |mut lines| async {
        match timeout(HEARTBEAT_INTERVAL, lines.next()).await {
            Ok(line) => line.map(|line| (line, lines)),
            Err(_) => Some((Ok(Bytes::from_static(b"\n")), lines)),
        }
    });
    with_type("application/jsonl", Body::stream(with_heartbeats.boxed(), None))
}

fn with_type(media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscription_sends_empty_lines_between_its_events() {
        let slow = stream::iter([1, 2]).then(|n| async move {
            tokio::time::sleep(HEARTBEAT_INTERVAL * 5 / 2).await;
            Ok(n)
        });
        let body = json_lines(slow).into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, "\n\n1\n\n\n2\n");
    }
}
