//! JSON answers: asked of the mirror, rendered once per document, dialect and base, and wrapped in the dialect's envelope.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use crate::{
    dialect::{ApiRequest, Dialect, Names, PackageId, PageRequest, Route},
    entry::Digest,
    http::{
        body::Body,
        cache_status::{CacheStatus, Fwd},
        conditional::{self, Precondition},
        field::strong_etag,
    },
    registry::{CachedValue, Registry, RegistryError},
    service::{
        error::Problem,
        hosts::RequestHost,
        render::{self, View},
        request_id::RequestId,
    },
};

/// Bytes of rendered JSON that are kept.
const RENDERED: u64 = 32 << 20;
/// How long clients may keep JSON, and where an ETag tells them whether it has changed.
const MUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=60");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What was rendered a moment ago, by everything that it was rendered from.
pub(in crate::service) struct Json {
    rendered: moka::sync::Cache<Arc<RenderKey>, Rendered>,
}

#[derive(PartialEq, Eq, Hash)]
struct RenderKey {
    of: Digest,
    what: &'static str,
    dialect: Dialect,
    package: String,
    page: Option<(u32, u32)>,
    base: String,
}

#[derive(Clone)]
struct Rendered {
    value: Bytes,
    etag: HeaderValue,
}

/// A JSON answer before it is wrapped.
pub(in crate::service) struct JsonAnswer {
    rendered: Rendered,
    link: Option<HeaderValue>,
    age: Duration,
    /// What happened in the cache.
    pub(in crate::service) status: CacheStatus,
}

impl Json {
    /// An empty store.
    pub(in crate::service) fn new() -> Self {
        let weigher = |_: &Arc<RenderKey>, rendered: &Rendered| u32::try_from(rendered.value.len()).unwrap_or(u32::MAX);
        Self { rendered: moka::sync::Cache::builder().max_capacity(RENDERED).weigher(weigher).build() }
    }

    /// Only configured bases are a bounded set, and what is made for them is kept: a client may write anything into `Host`.
    fn render(&self, rendition: RenderKey, keeps: bool, make: impl FnOnce() -> Bytes) -> Rendered {
        let rendered = || Rendered::of(make());
        if keeps { self.rendered.get_with(Arc::new(rendition), rendered) } else { rendered() }
    }
}

impl Rendered {
    fn of(value: Bytes) -> Self {
        let etag = strong_etag(&Digest::of(&value));
        Self { value, etag: HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\"")) }
    }
}

/// What an answer is rendered for.
struct Request<'a> {
    json: &'a Json,
    keeps: bool,
    view: View<'a>,
    path: &'a str,
}

impl Request<'_> {
    fn answer<T>(
        &self,
        what: &'static str,
        page: Option<(PageRequest, usize)>,
        answer: &CachedValue<T>,
        make: impl FnOnce(&View<'_>) -> Bytes,
    ) -> JsonAnswer {
        let rendition = RenderKey {
            of: answer.digest,
            what,
            dialect: self.view.dialect,
            package: format!("{}/{}", self.view.package.upstream, self.view.package.name),
            page: page.map(|(page, _)| (page.per_page, page.page)),
            base: self.view.base.to_owned(),
        };
        let rendered = self.json.render(rendition, self.keeps, || make(&self.view));
        let link = page.and_then(|(page, total)| page.link(self.view.base, self.path, total));
        JsonAnswer { rendered, link, age: answer.age, status: answer.status.clone() }
    }
}

/// Asks the mirror what a route asks and renders it.
pub(in crate::service) async fn ask(
    mirror: &Registry,
    names: &Names,
    route: &Route,
    request_host: &RequestHost<'_>,
    path: &str,
    json: &Json,
) -> Result<JsonAnswer, Problem> {
    let failed = |error: RegistryError| Problem::of(error, &route.request);
    let no_json = || Problem::new(StatusCode::NOT_FOUND, "this address has no JSON");
    let package = route.request.package().ok_or_else(no_json)?;
    let base = request_host.base();
    let view = View { dialect: route.dialect, base: &base, names, package };
    let request = Request { json, keeps: request_host.is_configured(), view, path };
    Ok(match &route.request {
        ApiRequest::Releases { page, .. } => {
            let list = mirror.documents().releases(package).await.map_err(failed)?;
            let all = &list.value.releases;
            let shown = page.map_or(&all[..], |page| page.slice(all));
            request.answer("releases", page.map(|page| (page, all.len())), &list, |view| view.releases(shown))
        }
        ApiRequest::Detail { page, .. } => {
            let list = mirror.documents().releases(package).await.map_err(failed)?;
            let all = &list.value.releases;
            request.answer("detail", Some((*page, all.len())), &list, |view| view.releases(page.slice(all)))
        }
        ApiRequest::Latest { .. } => {
            let latest = mirror.documents().latest(package).await.map_err(failed)?;
            request.answer("release", None, &latest, |view| view.release(&latest.value))
        }
        ApiRequest::Tag { version, .. } => {
            let release = mirror.documents().release(package, version.name()).await.map_err(failed)?;
            request.answer("release", None, &release, |view| view.release(&release.value))
        }
        ApiRequest::ById { id, assets, .. } => {
            let list = mirror.documents().releases(package).await.map_err(failed)?;
            let found = render::by_id(&list.value.releases, *id);
            let release = found.ok_or_else(|| missing_id(package, *id, &list.status))?;
            // The colon, which no tag can have, keeps a number apart from a tag of the same digits.
            let of = Digest::of(format!("{}#:{id}", list.digest).as_bytes());
            let one = CachedValue { value: Arc::new(()), digest: of, age: list.age, status: list.status.clone() };
            let what = if *assets { "assets" } else { "release" };
            request.answer(what, None, &one, |view| if *assets { view.assets(release) } else { view.release(release) })
        }
        ApiRequest::Repository { .. } => {
            let repository = mirror.documents().repository(package).await.map_err(failed)?;
            request.answer("repository", None, &repository, |view| view.repository(&repository.value))
        }
        ApiRequest::Metadata { version: Some(version), .. } => {
            let record = mirror.metadata().record(package, version.name()).await.map_err(failed)?;
            request.answer("metadata", None, &record, |_| render::metadata(&record.value))
        }
        ApiRequest::Metadata { version: None, .. } => {
            let records = mirror.metadata().list(package).await.map_err(failed)?;
            request.answer("metadata", None, &records, |_| render::metadata_list(&records.value))
        }
        ApiRequest::Archive { .. } | ApiRequest::Flat { .. } | ApiRequest::Search { .. } | ApiRequest::Ops(_) => {
            return Err(no_json());
        }
    })
}

fn missing_id(package: &PackageId, id: u64, status: &CacheStatus) -> Problem {
    let message = format!("{} on {} has no release with the number {id}", package.name, package.upstream);
    Problem { cache: Some(status.clone()), ..Problem::new(StatusCode::NOT_FOUND, message) }
}

impl JsonAnswer {
    /// An answer that is rendered already.
    pub(in crate::service) fn of(value: Bytes, age: Duration, status: CacheStatus) -> Self {
        Self { rendered: Rendered::of(value), link: None, age, status }
    }

    /// Wraps the value and answers, or says that the client's copy is still good.
    pub(in crate::service) fn respond(self, dialect: Dialect, parts: &Parts, request_id: RequestId) -> Response<Body> {
        // The v3 envelope names the request, so no two of its answers are the same.
        let etag = Some(self.rendered.etag).filter(|_| dialect != Dialect::V3);
        let tag = etag.as_ref().and_then(|etag| etag.to_str().ok());
        let mut response = match conditional::decide(&parts.headers, &parts.method, tag) {
            Precondition::Proceed => {
                let id = if dialect == Dialect::V3 { request_id.to_string() } else { String::new() };
                response(StatusCode::OK, dialect.success(self.rendered.value, &id), &parts.method)
            }
            Precondition::NotModified => bare(StatusCode::NOT_MODIFIED),
            Precondition::Failed => bare(StatusCode::PRECONDITION_FAILED),
        };
        let headers = response.headers_mut();
        if let Some(etag) = etag {
            headers.insert(header::ETAG, etag);
        }
        if let Some(link) = self.link {
            headers.insert(header::LINK, link);
        }
        // RFC 9111 §5.1: an answer that has just come from upstream has no age to speak of.
        if self.status.fwd.is_none() || self.status.used_stale || self.status.fwd == Some(Fwd::Stale) {
            headers.insert(header::AGE, HeaderValue::from(self.age.as_secs()));
        }
        headers.insert(header::CACHE_CONTROL, MUTABLE);
        response
    }
}

/// A JSON body with its headers; for HEAD the headers alone.
pub(in crate::service) fn response(status: StatusCode, body: Bytes, method: &Method) -> Response<Body> {
    let len = HeaderValue::from(body.len());
    let mut response = Response::new(if *method == Method::HEAD { Body::empty() } else { Body::full(body) });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::CONTENT_LENGTH, len);
    response
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
