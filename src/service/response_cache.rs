//! Answers that are given again as they are: JSON, and whole zips.
//!
//! What decides an answer is its address, the name it was asked under, what is stored of its package and the second. While
//! those are the same, so is the answer, but for its request id. Each worker keeps its own, so that nobody waits for
//! anybody; a change of what is stored ends what was made of them at once (see [`Generation`]).

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header, request::Parts};
use jiff::{SignedDuration, Timestamp};
use thread_local::ThreadLocal;

use super::{RequestContext, handlers::archive};
use crate::{
    dialect::{ApiRequest, Dialect, Route},
    http::{body::Body, cache_status::CacheStatus},
    peer::Peer,
    registry::{Generation, WeakObject},
};

/// An answer says its age and the time it stays fresh, in seconds: it is good for one.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(1);
/// Bytes of bodies that one worker keeps, the largest of them, and how many answers they may be.
const MAX_THREAD_BYTES: usize = 8 << 20;
const MAX_BODY_BYTES: usize = 1 << 20;
const MAX_RESPONSES: usize = 4096;
/// Fields of a request that may change the answer; one that has any of them is thought over. Those of proxies, which
/// all begin with `x-forwarded-`, do so, too.
const VARYING_HEADERS: [HeaderName; 8] = [
    header::RANGE,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::VIA,
    header::FORWARDED,
];

/// The answers of all workers.
#[derive(Default)]
pub(super) struct ResponseCache {
    threads: ThreadLocal<RefCell<ThreadCache>>,
}

/// The answers of one worker.
#[derive(Default)]
struct ThreadCache {
    answers: HashMap<Box<[u8]>, CachedResponse>,
    bytes: usize,
    /// Where the key of the request at hand is written.
    key: Vec<u8>,
}

/// One answer.
struct CachedResponse {
    made_at: Timestamp,
    generation: Generation,
    route: Arc<Route>,
    status: CacheStatus,
    headers: HeaderMap,
    body: CachedBody,
}

/// What an answer's body is made of.
enum CachedBody {
    Json(Bytes),
    Zip(WeakObject),
}

impl CachedBody {
    fn weight(&self) -> usize {
        match self {
            Self::Json(bytes) => bytes.len(),
            Self::Zip(zip) => zip.weight(),
        }
    }
}

/// What was the case before an answer was thought over.
pub(super) struct Snapshot {
    at: Timestamp,
    generation: Generation,
}

impl Snapshot {
    /// To be taken before the mirror is asked.
    pub(super) fn new(at: Timestamp, generation: Generation) -> Self {
        Self { at, generation }
    }
}

/// An answer that was found, and what its log event tells of it.
pub(super) struct CacheHit {
    pub(super) response: Response<Body>,
    pub(super) route: Arc<Route>,
    pub(super) status: CacheStatus,
}

impl ResponseCache {
    /// The answer to a request, if it was given a moment ago. It has the request id of that one.
    pub(super) fn find(&self, parts: &Parts, client: Peer, now: Timestamp, direct: bool) -> Option<CacheHit> {
        let mut shelf = self.threads.get_or_default().borrow_mut();
        let ThreadCache { answers, key, .. } = &mut *shelf;
        if !cache_key(parts, client, key) {
            return None;
        }
        let kept = answers.get(&key[..])?;
        let since = now.duration_since(kept.made_at);
        if since.is_negative() || since >= MAX_AGE || !kept.generation.is_current() {
            return None;
        }
        let body = match &kept.body {
            CachedBody::Json(bytes) => Body::full(bytes.clone()),
            CachedBody::Zip(zip) => {
                let zip = zip.upgrade()?;
                zip.record_use();
                zip.record_hit();
                let whole = 0..zip.meta.len;
                archive::range_body(zip, whole, direct)
            }
        };
        let mut response = Response::new(body);
        *response.headers_mut() = kept.headers.clone();
        Some(CacheHit { response, route: kept.route.clone(), status: kept.status.clone() })
    }

    /// Keeps an answer that was just given, if it is one that can be given again.
    pub(super) fn keep(&self, parts: &Parts, client: Peer, context: &RequestContext, response: &Response<Body>) {
        let (Some(before), Some(route), Some(status)) = (&context.before, &context.route, &context.cache) else {
            return;
        };
        // The rest of its freshness must be as long as it is kept.
        let fresh = *status == CacheStatus::hit(status.ttl) && status.ttl.is_some_and(|ttl| ttl >= MAX_AGE.as_secs());
        let body = match (&context.zip, response.body().bytes()) {
            (Some(zip), _) => CachedBody::Zip(zip.clone()),
            (None, Some(bytes)) if fresh && is_of_documents(route) => CachedBody::Json(bytes.clone()),
            _ => return,
        };
        if response.status() != StatusCode::OK || body.weight() > MAX_BODY_BYTES {
            return;
        }
        let mut shelf = self.threads.get_or_default().borrow_mut();
        let shelf = &mut *shelf;
        if !cache_key(parts, client, &mut shelf.key) {
            return;
        }
        shelf.put(CachedResponse {
            made_at: before.at,
            generation: before.generation.clone(),
            route: route.clone(),
            status: status.clone(),
            headers: response.headers().clone(),
            body,
        });
    }
}

impl ThreadCache {
    fn put(&mut self, kept: CachedResponse) {
        let weight = |key: &[u8], kept: &CachedResponse| key.len() + kept.body.weight();
        let adds = weight(&self.key, &kept);
        if self.bytes + adds > MAX_THREAD_BYTES || self.answers.len() >= MAX_RESPONSES {
            // What is older than it is good for is of no use; if that is not enough, the rest is soon made anew.
            let now = kept.made_at;
            self.answers.retain(|_, kept| now.duration_since(kept.made_at) < MAX_AGE);
            self.bytes = self.answers.iter().map(|(key, kept)| weight(key, kept)).sum();
            if self.bytes + adds > MAX_THREAD_BYTES || self.answers.len() >= MAX_RESPONSES {
                self.answers.clear();
                self.bytes = 0;
            }
        }
        self.bytes += adds;
        if let Some(old) = self.answers.insert(self.key.as_slice().into(), kept) {
            self.bytes -= weight(&self.key, &old);
        }
    }
}

/// Writes down what a request asks for and under which name; false for one that must be thought over.
fn cache_key(parts: &Parts, client: Peer, key: &mut Vec<u8>) -> bool {
    if parts.method != Method::GET || client.control {
        return false;
    }
    let target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut host = None;
    for (name, value) in &parts.headers {
        if *name == header::HOST {
            if host.replace(value.as_bytes()).is_some() {
                return false;
            }
        } else if VARYING_HEADERS.contains(name) || name.as_str().starts_with("x-forwarded-") {
            return false;
        }
    }
    let Some(host) = target.or(host) else { return false };
    key.clear();
    key.push(u8::from(client.tls));
    key.extend_from_slice(host);
    // No name and no path has one.
    key.push(0);
    if let Some(path) = parts.uri.path_and_query() {
        key.extend_from_slice(path.as_str().as_bytes());
    }
    true
}

/// True for JSON that is made of a package's documents alone, and does not name the request in its body.
fn is_of_documents(route: &Route) -> bool {
    let of_documents = matches!(
        route.request,
        ApiRequest::Releases { .. }
            | ApiRequest::Latest { .. }
            | ApiRequest::Tag { .. }
            | ApiRequest::ById { .. }
            | ApiRequest::Repository { .. }
            | ApiRequest::Detail { .. }
    );
    of_documents && route.dialect != Dialect::V3
}
