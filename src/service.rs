//! One request: parse, ask the mirror, answer, one log event.
//!
//! [`Service::handle`] is the whole of it, read from top to bottom.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::{HeaderName, HeaderValue, Request, Response, Version, header, request::Parts};
use jiff::Timestamp;

use crate::{
    dialect::{self, ApiRequest, Dialect, Names, Ops, Route},
    http::{
        body::Body,
        cache_status::{CacheStatus, Fwd},
        field::passed_through,
    },
    observe,
    peer::Peer,
    registry::{Object, Registry, RegistryError, WeakObject},
};

mod error;
mod handlers;
pub mod hosts;
mod log;
pub mod render;
mod request_id;
mod response_cache;
mod zip;

use error::Problem;
pub use handlers::health::Health;
use handlers::{
    admin, archive,
    catalog::{self, Rows},
    flat::{self, FlatViewCache},
    json::{self, Json},
};
use hosts::{Hosts, RequestHost};
use request_id::{Ids, RequestId};
use response_cache::{ResponseCache, Snapshot};

/// The mirror's name in `Cache-Status` (RFC 9211 §2).
const CACHE_NAME: &str = "srm-mirror";

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer, or the work that it takes.
pub type Answering = Either<Ready<Response<Body>>, BoxFuture<'static, Response<Body>>>;

/// Answers requests.
pub struct Service {
    mirror: Arc<Registry>,
    names: Names,
    hosts: Hosts,
    /// The pseudonym in the `Via` of the mirror's own requests.
    pseudonym: String,
    health: Health,
    prepared: ResponseCache,
    json: Json,
    flats: Arc<FlatViewCache>,
    rows: Rows,
    ids: Ids,
}

/// What one request came to, for its log event and its answer's last headers.
struct RequestContext {
    id: RequestId,
    /// Only where the request's event will be written: nobody else asks for the time.
    started: Option<Instant>,
    route: Option<Arc<Route>>,
    /// What may be kept of the answer was the case before it was thought over.
    before: Option<Snapshot>,
    cache: Option<CacheStatus>,
    /// The stored zip that the answer is, whatever happens in the cache next.
    zip: Option<WeakObject>,
    /// The answer goes to a plain socket as it is: parts of files can be sent without being read.
    direct: bool,
}

impl Service {
    /// Puts the parts together. `pseudonym` is what the mirror calls itself in `Via`.
    pub fn build(mirror: Arc<Registry>, names: Names, hosts: Hosts, pseudonym: String, health: Health) -> Self {
        let json = Json::new();
        let flats = Arc::new(FlatViewCache::new());
        let ids = Ids::new();
        let prepared = ResponseCache::default();
        let rows = Rows::default();
        Self { mirror, names, hosts, pseudonym, health, prepared, json, flats, rows, ids }
    }

    /// Answers one request: at once where the same was answered a moment ago. Only administration looks at the body of
    /// a request.
    pub fn handle<B>(self: &Arc<Self>, request: Request<B>, client: Peer) -> Answering
    where
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        // Only a plain TCP socket sends files by itself.
        let direct = !client.tls && !client.control && parts.version < Version::HTTP_2;
        let started = observe::access_log_enabled().then(Instant::now);
        let mut context =
            RequestContext { id: self.ids.next(), started, route: None, before: None, cache: None, zip: None, direct };
        let now = self.mirror.now();
        if let Some(found) = self.prepared.find(&parts, client, now, direct) {
            let mut response = found.response;
            response.headers_mut().insert(X_REQUEST_ID, context.id.to_header());
            (context.route, context.cache) = (Some(found.route), Some(found.status));
            return Either::Left(ready(log::observe(response, &parts, client.addr, context)));
        }
        let service = self.clone();
        // In a box: a future that holds every other one is long, and would be moved about with each request.
        Either::Right(Box::pin(async move {
            let input = client.control.then(|| admin::input(body));
            let mut abort_guard = log::AbortGuard::new(&parts, client.addr, &mut context);
            let mut response = service.answer(&parts, client, input, now, abort_guard.context()).await;
            abort_guard.disarm();
            finish(&mut response, &context);
            service.prepared.keep(&parts, client, &context, &response);
            log::observe(response, &parts, client.addr, context)
        }))
    }

    async fn answer(
        &self,
        parts: &Parts,
        client: Peer,
        input: Option<admin::Input>,
        now: Timestamp,
        context: &mut RequestContext,
    ) -> Response<Body> {
        let path = parts.uri.path();
        let query = parts.uri.query();
        let route = dialect::parse(&self.names, &parts.method, path, query);
        let dialect = route.as_ref().map_or_else(|reject| reject.dialect, |route| route.dialect);
        let route = route.map(Arc::new);
        context.route = route.as_ref().ok().cloned();
        match route.as_deref() {
            Ok(Route { request: ApiRequest::Ops(question), .. }) if hosts::any_name_will_do(question) => {
                return self.health.answer(question, &self.mirror);
            }
            Ok(Route { request: ApiRequest::Ops(Ops::Admin(path)), .. }) => {
                if let Some(input) = input {
                    return admin::answer(&self.mirror, &self.names, &parts.method, path, input).await;
                }
            }
            _ => {}
        }
        let request_host = match self.hosts.request_host(parts, client) {
            Ok(request_host) => request_host,
            Err(error) => return problem(error, dialect, parts, context),
        };
        let route = match route {
            Ok(route) => route,
            Err(reject) => return problem(Problem::rejected(&reject), dialect, parts, context),
        };
        if let ApiRequest::Ops(question) = &route.request {
            return self.health.answer(question, &self.mirror);
        }
        let result = if passed_through(&parts.headers, &self.pseudonym) {
            Err(Problem::looped(&route.request))
        } else {
            self.ask(&route, parts, &request_host, now, context).await
        };
        match result {
            Ok(response) => response,
            Err(error) => problem(error, dialect, parts, context),
        }
    }

    /// Asks the mirror what the route asks, and makes the answer of it.
    async fn ask(
        &self,
        route: &Route,
        parts: &Parts,
        request_host: &RequestHost<'_>,
        now: Timestamp,
        context: &mut RequestContext,
    ) -> Result<Response<Body>, Problem> {
        let failed = |error: RegistryError| Problem::of(error, &route.request);
        context.before = route.request.package().map(|package| Snapshot::new(now, self.mirror.generation(package)));
        let zip = match &route.request {
            ApiRequest::Archive { package, version } => {
                let archive = self.mirror.archives().archive(package, version).await.map_err(failed)?;
                context.cache = Some(archive.answer.status.clone());
                context.zip = archive.cacheable_object().map(Object::downgrade);
                let response = archive::respond(parts, context.direct, &package.name, archive).await;
                Some(response.map_err(|error| Problem::late(error, context.cache.take(), &route.request))?)
            }
            ApiRequest::Flat { package, version } => {
                let asked = (package, version, &route.request);
                Some(flat::respond(&self.flats, &self.mirror, parts, asked, context).await?)
            }
            _ => None,
        };
        if let Some(mut response) = zip {
            if response.status().is_client_error() {
                close(&mut response, parts);
            }
            return Ok(response);
        }
        let mirror = &self.mirror;
        let names = &self.names;
        let answer = match &route.request {
            ApiRequest::Search { search, page } => {
                catalog::ask(mirror, names, &self.rows, &route.request, (search.as_deref(), *page)).await?
            }
            _ => json::ask(mirror, names, route, request_host, parts.uri.path(), &self.json).await?,
        };
        context.cache = Some(answer.status.clone());
        Ok(answer.respond(route.dialect, parts, context.id))
    }
}

/// An error in the envelope of its dialect.
fn problem(problem: Problem, dialect: Dialect, parts: &Parts, context: &mut RequestContext) -> Response<Body> {
    let body = dialect.error(problem.status.as_u16(), &problem.message, &context.id.to_string());
    let mut response = json::response(problem.status, body, &parts.method);
    let headers = response.headers_mut();
    if let Some(wait) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(error::seconds(wait)));
    }
    if let Some(allow) = problem.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A downloader that expected a zip never reads an error's body and would keep its process alive with the connection.
    // What was meant by an address that is none, nobody knows.
    let ask = context.route.as_ref().map(|route| &route.request);
    if matches!(ask, None | Some(ApiRequest::Archive { .. } | ApiRequest::Flat { .. })) {
        close(&mut response, parts);
    }
    context.cache = problem.cache;
    response
}

/// Ends the connection after this answer, where the protocol has such a word.
fn close(response: &mut Response<Body>, parts: &Parts) {
    if parts.version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The headers that every answer has.
fn finish(response: &mut Response<Body>, context: &RequestContext) {
    let headers = response.headers_mut();
    if let Some(status) = &context.cache {
        headers.insert(CACHE_STATUS, status.render(CACHE_NAME));
    } else if !matches!(context.route.as_ref().map(|route| &route.request), Some(ApiRequest::Ops(_))) {
        // Even an answer for which nothing was looked up says so: the cache was not asked.
        headers.insert(CACHE_STATUS, CacheStatus::forwarded(Fwd::Bypass).render(CACHE_NAME));
    }
    headers.insert(X_REQUEST_ID, context.id.to_header());
}
