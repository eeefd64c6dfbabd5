//! A bucket for tests: a scripted one in this process, with faults, or a real service where `SRM_MIRROR_TEST_BUCKET` names
//! one.

#![allow(dead_code, unreachable_pub)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::{Timestamp, fmt::rfc2822};
use percent_encoding::percent_decode_str;
use srm_mirror::{
    clock::Clock,
    config::Config,
    shared,
    value::{Period, Secret},
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::process::Launch;

#[path = "bucket/gate.rs"]
mod gate;
#[path = "bucket/list.rs"]
mod list;

pub use gate::BucketGate;

/// The address of a bucket of a real service: `http://127.0.0.1:18700/srm`, whose key is `test` and secret `testtest`.
const REAL_BUCKET_VARIABLE: &str = "SRM_MIRROR_TEST_BUCKET";

/// A bucket with a prefix that no other test uses.
pub struct TestBucket {
    endpoint: String,
    bucket: String,
    prefix: String,
    /// Without one, the bucket is a real service's.
    scripted: Option<ScriptedBucket>,
}

/// A bucket in this process. Dropping it ends it.
pub struct ScriptedBucket {
    state: Arc<BucketState>,
    run: JoinHandle<()>,
}

#[derive(Default)]
struct BucketState {
    objects: Mutex<BTreeMap<String, StoredObject>>,
    requests: Mutex<Vec<BucketRequest>>,
    faults: Mutex<Vec<ScriptedFault>>,
    gates: Mutex<Vec<BucketGate>>,
    /// What lists show in place of the objects.
    stale_list: Mutex<Option<BTreeMap<String, StoredObject>>>,
    /// Most objects of a page; zero: as many as a service sends.
    page_objects: AtomicUsize,
    clock: Clock,
    etags: AtomicU64,
    is_down: AtomicBool,
}

#[derive(Clone)]
struct StoredObject {
    bytes: Bytes,
    etag: String,
    modified_at: Timestamp,
}

/// A request as it arrived; its name is without the bucket. The name of a list is what its objects' names begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRequest {
    pub method: Method,
    pub name: String,
}

/// A fault, and the requests that it is for.
struct ScriptedFault {
    fits: Box<dyn Fn(&BucketRequest) -> bool + Send>,
    fault: BucketFault,
    /// How many requests it is left for.
    left: u64,
}

/// What a bucket does instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFault {
    /// Answers with this status, and does nothing.
    Status(u16),
    /// Writes the object, and answers with this status.
    StatusAfterWrite(u16),
    /// Writes the object, where that is asked, and closes the connection without an answer.
    LostAnswer,
    /// Never answers.
    Hang,
    /// Writes the object, and never answers.
    HangAfterWrite,
    /// Sends half of the object, and closes the connection.
    CutBody,
    /// Ignores conditions.
    Unconditional,
    /// Dates its list with what is no date.
    NoDate,
    /// Answers 501 to conditions, and knows `x-oss-forbid-overwrite` in their place.
    OwnHeader,
}

impl TestBucket {
    pub async fn start() -> Self {
        match std::env::var(REAL_BUCKET_VARIABLE) {
            Ok(address) => {
                let (endpoint, bucket) = address.rsplit_once('/').expect("the bucket's name at the end");
                Self::new(endpoint.to_owned(), bucket.to_owned(), None)
            }
            Err(_) => Self::scripted().await,
        }
    }

    /// A bucket whose faults and objects the test sees.
    pub async fn scripted() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        Self::new(endpoint, "srm".into(), Some(ScriptedBucket::serve(listener)))
    }

    fn new(endpoint: String, bucket: String, scripted: Option<ScriptedBucket>) -> Self {
        static BUCKETS: AtomicU64 = AtomicU64::new(0);
        let number = BUCKETS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test-{}-{number}/", std::process::id());
        Self { endpoint, bucket, prefix, scripted }
    }

    /// The section `[shared]` for this bucket.
    pub fn section(&self) -> shared::Config {
        shared::Config {
            endpoint: Some(self.endpoint.parse().expect("an address")),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            access_key: "test".into(),
            secret_key: Some(Secret::new("testtest")),
            sealing_secret: Some(Secret::new("the secret of all mirrors of a test")),
            response_timeout: Period::secs(2),
            max_age: Period(Duration::from_millis(500)),
            ..shared::Config::default()
        }
    }

    /// Lets a mirror over a bucket read the changes of others as rarely as it does by default.
    pub fn by_default(config: &mut Config) {
        config.shared.as_mut().expect("a section").max_age = shared::Config::default().max_age;
    }

    /// The same for a process, which has the secret key in a variable.
    pub fn configure(&self, launch: Launch) -> Launch {
        let key = |key: &str| format!("shared.{key}");
        launch
            .set(&key("endpoint"), &self.endpoint)
            .set(&key("bucket"), &self.bucket)
            .set(&key("prefix"), &self.prefix)
            .set(&key("access_key"), "test")
            .set(&key("max_age"), "500ms")
            .variable("AWS_SECRET_ACCESS_KEY", "testtest")
    }

    pub fn script(&self) -> &ScriptedBucket {
        self.scripted.as_ref().expect("a scripted bucket")
    }

    /// The names of all objects below a folder, without the prefix; of a real service none.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let folder = format!("{}{folder}", self.prefix);
        self.script().names().filter(|name| name.starts_with(&folder)).map(|name| self.plain(&name)).collect()
    }

    /// The requests for objects below a folder.
    pub fn requests(&self, method: &Method, folder: &str) -> usize {
        let folder = format!("{}{folder}", self.prefix);
        let requests = self.script().state.requests.lock().expect("no panic");
        requests.iter().filter(|request| request.method == method && request.name.starts_with(&folder)).count()
    }

    /// Fails requests for objects below a folder.
    pub fn fault(&self, method: Method, folder: &str, fault: BucketFault) {
        self.fault_times(u64::MAX, method, folder, fault);
    }

    /// Fails this many requests for objects below a folder.
    pub fn fault_times(&self, left: u64, method: Method, folder: &str, fault: BucketFault) {
        let folder = format!("{}{folder}", self.prefix);
        let fits = Box::new(move |seen: &BucketRequest| seen.method == method && seen.name.starts_with(&folder));
        self.script().state.faults.lock().expect("no panic").push(ScriptedFault { fits, fault, left });
    }

    /// Holds requests for objects below a folder until the gate opens: before they do anything.
    pub fn gate(&self, method: Method, folder: &str) -> BucketGate {
        let gate = BucketGate::new(method, format!("{}{folder}", self.prefix));
        self.script().state.gates.lock().expect("no panic").push(gate.clone());
        gate
    }

    /// The bytes of an object.
    pub fn object(&self, name: &str) -> Option<Bytes> {
        let objects = self.script().state.objects.lock().expect("no panic");
        objects.get(&format!("{}{name}", self.prefix)).map(|object| object.bytes.clone())
    }

    /// Overwrites an object.
    pub fn overwrite(&self, name: &str, bytes: impl Into<Bytes>) {
        self.script().state.put(format!("{}{name}", self.prefix), bytes.into());
    }

    /// Removes an object.
    pub fn remove(&self, name: &str) {
        self.script().state.objects.lock().expect("no panic").remove(&format!("{}{name}", self.prefix));
    }

    fn plain(&self, name: &str) -> String {
        name[self.prefix.len()..].to_owned()
    }
}

impl ScriptedBucket {
    fn serve(listener: TcpListener) -> Self {
        let state = Arc::new(BucketState::default());
        let of_task = state.clone();
        let run = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = of_task.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { state, run }
    }

    /// Closes every connection without an answer.
    pub fn down(&self) {
        self.state.is_down.store(true, Ordering::SeqCst);
    }

    pub fn up(&self) {
        self.state.is_down.store(false, Ordering::SeqCst);
    }

    /// From now on, lists show the objects as they are now.
    pub fn freeze_lists(&self) {
        let objects = self.state.objects.lock().expect("no panic").clone();
        *self.state.stale_list.lock().expect("no panic") = Some(objects);
    }

    /// Lists show the objects as they are when they are asked for.
    pub fn thaw_lists(&self) {
        *self.state.stale_list.lock().expect("no panic") = None;
    }

    /// Lists have pages of this many objects.
    pub fn set_page_objects(&self, objects: usize) {
        self.state.page_objects.store(objects, Ordering::SeqCst);
    }

    /// The clock that dates objects and answers.
    pub fn clock(&self) -> &Clock {
        &self.state.clock
    }

    pub fn clear_faults(&self) {
        self.state.faults.lock().expect("no panic").clear();
    }

    pub fn clear_log(&self) {
        self.state.requests.lock().expect("no panic").clear();
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<BucketRequest> {
        self.state.requests.lock().expect("no panic").clone()
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let names: Vec<_> = self.state.objects.lock().expect("no panic").keys().cloned().collect();
        names.into_iter()
    }
}

impl Drop for ScriptedBucket {
    fn drop(&mut self) {
        self.run.abort();
    }
}

impl BucketState {
    fn put(&self, name: String, bytes: Bytes) -> String {
        let object = self.stored(bytes);
        let etag = object.etag.clone();
        self.objects.lock().expect("no panic").insert(name, object);
        etag
    }

    fn stored(&self, bytes: Bytes) -> StoredObject {
        let etag = format!("\"{}\"", self.etags.fetch_add(1, Ordering::Relaxed));
        StoredObject { bytes, etag, modified_at: self.clock.now() }
    }

    fn gate_for(&self, seen: &BucketRequest) -> Option<BucketGate> {
        self.gates.lock().expect("no panic").iter().find(|gate| gate.fits(seen)).cloned()
    }

    fn fault_for(&self, seen: &BucketRequest) -> Option<BucketFault> {
        let mut faults = self.faults.lock().expect("no panic");
        let found = faults.iter_mut().find(|fault| fault.left > 0 && (fault.fits)(seen))?;
        found.left -= 1;
        Some(found.fault)
    }

    /// Writes under the conditions of the request.
    fn write(&self, name: &str, headers: &http::HeaderMap, bytes: Bytes, conditional: bool) -> StatusCode {
        let mut objects = self.objects.lock().expect("no panic");
        let present = objects.get(name).map(|object| object.etag.clone());
        let header = |name: &str| headers.get(name).map(|value| value.to_str().expect("text"));
        if conditional {
            if header("if-none-match") == Some("*") && present.is_some() {
                return StatusCode::PRECONDITION_FAILED;
            }
            if let Some(expected) = header("if-match") {
                // Unquoted, as the real service wants it.
                let unchanged = present.as_deref().map(|etag| etag.trim_matches('"')) == Some(expected);
                if !unchanged {
                    return StatusCode::PRECONDITION_FAILED;
                }
            }
        }
        objects.insert(name.to_owned(), self.stored(bytes));
        StatusCode::OK
    }
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed")]
struct Closed;

type BucketBody = http_body_util::combinators::BoxBody<Bytes, Closed>;

/// A request whose body has arrived.
struct ReceivedRequest {
    head: Parts,
    /// The name of the object, without the bucket.
    name: String,
    list: Option<list::ListQuery>,
    bytes: Bytes,
}

async fn answer(state: Arc<BucketState>, request: Request<Incoming>) -> Result<Response<BucketBody>, Closed> {
    if state.is_down.load(Ordering::SeqCst) {
        return Err(Closed);
    }
    let (head, body) = request.into_parts();
    let (_, name) = head.uri.path()[1..].split_once('/').unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8().expect("text").into_owned();
    let list = list::ListQuery::parse(&head);
    let seen_name = list.as_ref().map_or(&*name, |list| list.beginning()).to_owned();
    let seen = BucketRequest { method: head.method.clone(), name: seen_name };
    let gate = state.gate_for(&seen);
    let fault = state.fault_for(&seen);
    state.requests.lock().expect("no panic").push(seen);
    let bytes = body.collect().await.map_err(|_| Closed)?.to_bytes();
    if !head.uri.query().is_some_and(|query| query.contains("X-Amz-Signature=")) {
        return Ok(empty(StatusCode::FORBIDDEN));
    }
    if let Some(gate) = gate {
        gate.pass().await;
    }
    let request = ReceivedRequest { head, name, list, bytes };
    match fault {
        Some(fault) => answer_with_fault(&state, request, fault).await,
        None => Ok(answer_without_fault(&state, request)),
    }
}

async fn answer_with_fault(
    state: &BucketState,
    request: ReceivedRequest,
    fault: BucketFault,
) -> Result<Response<BucketBody>, Closed> {
    let write =
        |conditional: bool| state.write(&request.name, &request.head.headers, request.bytes.clone(), conditional);
    let status_of = |status: u16| StatusCode::from_u16(status).expect("a status");
    let headers = &request.head.headers;
    match fault {
        BucketFault::Status(status) => Ok(empty(status_of(status))),
        BucketFault::Hang => std::future::pending().await,
        BucketFault::HangAfterWrite => {
            write(true);
            std::future::pending().await
        }
        BucketFault::StatusAfterWrite(status) => {
            write(true);
            Ok(empty(status_of(status)))
        }
        BucketFault::LostAnswer => {
            if request.head.method == Method::PUT {
                write(true);
            }
            Err(Closed)
        }
        BucketFault::OwnHeader if headers.contains_key("if-none-match") => Ok(empty(StatusCode::NOT_IMPLEMENTED)),
        BucketFault::OwnHeader if headers.contains_key("x-oss-forbid-overwrite") => {
            let absent = http::HeaderMap::from_iter([(http::header::IF_NONE_MATCH, "*".parse().expect("a value"))]);
            let is_refused = !state.write(&request.name, &absent, request.bytes, true).is_success();
            Ok(empty(if is_refused { StatusCode::CONFLICT } else { StatusCode::OK }))
        }
        BucketFault::Unconditional if request.head.method == Method::PUT => Ok(empty(write(false))),
        BucketFault::NoDate if request.list.is_some() => {
            let mut response = answer_without_fault(state, request);
            response.headers_mut().insert(http::header::DATE, "now".parse().expect("a value"));
            Ok(response)
        }
        BucketFault::CutBody if request.list.is_none() && request.head.method == Method::GET => {
            let (head, body) = answer_without_fault(state, request).into_parts();
            let whole = body.collect().await?.to_bytes();
            let frames = [Ok(http_body::Frame::data(whole.slice(..whole.len() / 2))), Err(Closed)];
            let cut = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed();
            Ok(Response::from_parts(head, cut))
        }
        BucketFault::OwnHeader | BucketFault::Unconditional | BucketFault::NoDate | BucketFault::CutBody => {
            Ok(answer_without_fault(state, request))
        }
    }
}

fn answer_without_fault(state: &BucketState, request: ReceivedRequest) -> Response<BucketBody> {
    let ReceivedRequest { head, name, list, bytes } = request;
    if head.method == Method::PUT {
        return empty(state.write(&name, &head.headers, bytes, true));
    }
    if head.method == Method::DELETE {
        state.objects.lock().expect("no panic").remove(&name);
        return empty(StatusCode::NO_CONTENT);
    }
    if let Some(list) = list {
        let body = whole(Bytes::from(list.answer(state)));
        return Response::builder().header("date", date(state.clock.now())).body(body).expect("a response");
    }
    let objects = state.objects.lock().expect("no panic");
    let Some(object) = objects.get(&name) else { return empty(StatusCode::NOT_FOUND) };
    Response::builder()
        .header("etag", &object.etag)
        .header("last-modified", date(object.modified_at))
        .header("date", date(state.clock.now()))
        .header("content-length", object.bytes.len())
        .body(whole(object.bytes.clone()))
        .expect("a response")
}

fn empty(status: StatusCode) -> Response<BucketBody> {
    Response::builder().status(status).body(whole(Bytes::new())).expect("a response")
}

fn whole(bytes: Bytes) -> BucketBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

fn date(at: Timestamp) -> String {
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).expect("a date")
}
