//! Responses that are sent again as they are: JSON, and whole zips.
//!
//! A response depends on the request's address and host, the stored state of its package, and the current second.
//! While those are equal, so is the response, except for its request id. Each thread has a cache of its own, so that
//! threads share no lock. A change of what is stored about a package invalidates its responses at once, through its
//! [`Generation`](crate::registry::Generation).

use std::{cell::RefCell, collections::HashMap, num::NonZero, sync::Arc, thread::available_parallelism};

use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Version, header, request::Parts};
use thread_local::ThreadLocal;

use super::{
    context::{RequestContext, SendMode},
    snapshot::{MAX_RESPONSE_AGE, Snapshot},
    zip_body::range_body,
};
use crate::{
    access::Grant,
    dialect::{ApiRequest, Dialect, Route},
    http::{
        accept_encoding::accepts_gzip,
        body::{Body, RepeatableContent},
        cache_status::CacheStatus,
    },
    package::PackageId,
    registry::WeakObject,
};

/// Most bytes of keys and bodies in the cache of one thread ...
const MAX_THREAD_BYTES: usize = 8 << 20;
/// ... and of all threads, one for each processor, as long as a thread has room for a body.
const MAX_ALL_THREADS_BYTES: usize = 32 << 20;
/// Most bytes of one cached body.
const MAX_CACHED_BODY_BYTES: usize = 1 << 20;
/// Most responses in the cache of one thread.
const MAX_RESPONSES: usize = 4096;
/// Request fields that may change the response: a request with one of them bypasses the cache, and so does one with a
/// field that starts with [`FORWARDED_PREFIX`].
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
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// The caches of all threads.
pub(super) struct ResponseCache {
    threads: ThreadLocal<RefCell<ThreadCache>>,
    /// Most bytes in the cache of one thread.
    thread_bytes: usize,
}

impl Default for ResponseCache {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, NonZero::get);
        let thread_bytes = (MAX_ALL_THREADS_BYTES / threads).clamp(MAX_CACHED_BODY_BYTES, MAX_THREAD_BYTES);
        Self { threads: ThreadLocal::default(), thread_bytes }
    }
}

/// The cache of one thread.
#[derive(Default)]
struct ThreadCache {
    responses: HashMap<Box<[u8]>, CachedResponse>,
    /// Bytes of all keys and bodies.
    bytes: usize,
    /// The key of the current request; a field, so that its buffer is reused.
    key: Vec<u8>,
}

struct CachedResponse {
    snapshot: Snapshot,
    /// The generation of the access rules by which the caller may have the response. The key has the caller's credential.
    access_generation: u64,
    rules_generation: u64,
    grant: Grant,
    route: Arc<Route>,
    package: Option<Arc<PackageId>>,
    status: CacheStatus,
    headers: HeaderMap,
    body: CachedBody,
}

enum CachedBody {
    Json(RepeatableContent),
    Zip(WeakObject),
}

impl CachedBody {
    fn weight(&self) -> usize {
        match self {
            Self::Json(content) => content.len(),
            Self::Zip(zip) => zip.weight(),
        }
    }

    /// The body of a response; `None` when the zip is no longer stored. Counts a hit of the zip.
    fn to_body(&self, send_mode: SendMode) -> Option<Body> {
        match self {
            Self::Json(content) => Some(Body::repeat(content.clone())),
            Self::Zip(zip) => {
                let zip = zip.upgrade()?;
                zip.record_use();
                zip.record_hit();
                let whole = 0..zip.meta.len;
                Some(range_body(zip, whole, send_mode))
            }
        }
    }
}

impl ResponseCache {
    /// The cached response to a request, with the request id of the request it was made for. Records its route,
    /// package and cache status in `context`.
    pub(super) fn get(&self, parts: &Parts, context: &mut RequestContext) -> Option<Response<Body>> {
        let mut thread_cache = self.threads.get_or_default().borrow_mut();
        let ThreadCache { responses, key, .. } = &mut *thread_cache;
        if !cache_key(parts, context, key) {
            return None;
        }
        let cached = responses.get(&key[..])?;
        let is_granted = cached.access_generation == context.access_generation
            && cached.rules_generation == context.rules_generation;
        if !is_granted || !cached.snapshot.is_current(context.received_at) {
            return None;
        }
        let mut response = Response::new(cached.body.to_body(context.send_mode)?);
        *response.headers_mut() = cached.headers.clone();
        context.route = Some(cached.route.clone());
        context.package = cached.package.clone();
        context.grant = cached.grant;
        context.cache_status = Some(cached.status.clone());
        Some(response)
    }

    /// Caches a response, if the same response may be sent again.
    pub(super) fn insert(&self, parts: &Parts, context: &RequestContext, response: &Response<Body>) {
        let (Some(snapshot), Some(route), Some(status)) = (&context.snapshot, &context.route, &context.cache_status)
        else {
            return;
        };
        // The document must stay fresh for as long as the response is cached.
        let is_fresh = status.is_fresh_hit() && status.ttl.is_some_and(|ttl| ttl >= MAX_RESPONSE_AGE.as_secs());
        let body = match (&context.zip, response.body().repeatable()) {
            (Some(zip), _) => CachedBody::Zip(zip.clone()),
            (None, Some(content)) if is_fresh && is_made_of_documents(route) => CachedBody::Json(content),
            _ => return,
        };
        if response.status() != StatusCode::OK || body.weight() > MAX_CACHED_BODY_BYTES {
            return;
        }
        let mut thread_cache = self.threads.get_or_default().borrow_mut();
        let thread_cache = &mut *thread_cache;
        if !cache_key(parts, context, &mut thread_cache.key) {
            return;
        }
        let cached = CachedResponse {
            snapshot: snapshot.clone(),
            access_generation: context.access_generation,
            rules_generation: context.rules_generation,
            grant: context.grant,
            route: route.clone(),
            package: context.package.clone(),
            status: status.clone(),
            headers: response.headers().clone(),
            body,
        };
        thread_cache.insert(cached, self.thread_bytes);
    }
}

impl ThreadCache {
    /// Inserts a response under `self.key`. When the cache would have more than `max_bytes`, removes the expired responses; if
    /// that is not enough, all.
    fn insert(&mut self, cached: CachedResponse, max_bytes: usize) {
        let weight = |key: &[u8], cached: &CachedResponse| key.len() + cached.body.weight();
        let added = weight(&self.key, &cached);
        if self.is_full(added, max_bytes) {
            let now = cached.snapshot.at;
            self.responses.retain(|_, cached| now.duration_since(cached.snapshot.at) < MAX_RESPONSE_AGE);
            self.bytes = self.responses.iter().map(|(key, cached)| weight(key, cached)).sum();
            if self.is_full(added, max_bytes) {
                self.responses.clear();
                self.bytes = 0;
            }
        }
        self.bytes += added;
        if let Some(replaced) = self.responses.insert(self.key.as_slice().into(), cached) {
            self.bytes -= weight(&self.key, &replaced);
        }
    }

    fn is_full(&self, added: usize, max_bytes: usize) -> bool {
        self.bytes + added > max_bytes || self.responses.len() >= MAX_RESPONSES
    }
}

/// Writes the cache key of a request to `key`: scheme, host, path, query, credential, and whether the client accepts gzip.
/// Returns false when the request bypasses the cache.
fn cache_key(parts: &Parts, context: &RequestContext, key: &mut Vec<u8>) -> bool {
    let peer = &context.peer;
    if parts.method != Method::GET || !peer.is_client() {
        return false;
    }
    let mut host = None;
    let mut names_codings = false;
    for (name, value) in &parts.headers {
        if *name == header::HOST {
            if host.replace(value.as_bytes()).is_some() {
                return false;
            }
        } else if *name == header::ACCEPT_ENCODING {
            names_codings = true;
        } else if VARYING_HEADERS.contains(name) || name.as_str().starts_with(FORWARDED_PREFIX) {
            return false;
        }
    }
    // A request without a host gets links with the address of its listener, or is refused: see `hosts`.
    if host.is_some_and(<[u8]>::is_empty) || (host.is_none() && parts.version == Version::HTTP_11) {
        return false;
    }
    // RFC 9112 §3.2.2: the authority of an absolute target wins over Host.
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let Some(host) = authority.or(host) else { return false };
    key.clear();
    let caller = context.caller.principal();
    let flags = [peer.is_encrypted(), names_codings && accepts_gzip(&parts.headers), caller.is_some()];
    key.push(flags.into_iter().enumerate().fold(0, |bits, (at, flag)| bits | u8::from(flag) << at));
    if let Some(caller) = caller {
        key.extend_from_slice(&caller.key.0);
    }
    key.extend_from_slice(host);
    // A separator that occurs in no host and no path.
    key.push(0);
    // Without the signature in the query: it identifies the caller, whose credential the key has, and differs in each address.
    if context.by_address {
        key.extend_from_slice(parts.uri.path().as_bytes());
    } else if let Some(path) = parts.uri.path_and_query() {
        key.extend_from_slice(path.as_str().as_bytes());
    }
    true
}

/// True for JSON that depends on the package's documents only and does not contain the request id.
fn is_made_of_documents(route: &Route) -> bool {
    let is_made_of_documents = matches!(
        route.request,
        ApiRequest::Releases { .. }
            | ApiRequest::Latest { .. }
            | ApiRequest::Tag { .. }
            | ApiRequest::ById { .. }
            | ApiRequest::Repository { .. }
            | ApiRequest::Detail { .. }
    );
    is_made_of_documents && route.dialect != Dialect::V3
}
