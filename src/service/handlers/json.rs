//! JSON responses: a document of the registry, rendered for a dialect and a base address, in the dialect's envelope.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use crate::{
    dialect::{ApiRequest, Dialect, PageRequest, Route},
    entry::Digest,
    http::{
        body::Body,
        cache_status::{CacheStatus, Fwd},
        conditional::{self, Precondition},
        field::strong_etag,
    },
    package::{Release, Releases},
    registry::{CachedValue, Registry},
    service::{
        Service,
        context::RequestContext,
        error::ApiError,
        found_package::FoundPackage,
        headers::{NO_STORE, fresh_for},
        hosts::RequestHost,
        render::{self, Renderer},
        zip_response::empty,
    },
};

/// Most bytes of rendered JSON that are cached.
const MAX_RENDERED_BYTES: u64 = 32 << 20;
/// How long a client may use a response without asking again, seconds, where the document stays fresh for that long.
const MAX_CLIENT_FRESHNESS: i64 = 60;
const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Rendered JSON, by everything that it is rendered from.
pub(in crate::service) struct RenderedJsonCache(moka::sync::Cache<Arc<RenderKey>, RenderedJson>);

#[derive(PartialEq, Eq, Hash)]
struct RenderKey {
    document: Digest,
    /// Which rendering of the document: releases, one release, its assets…
    shape: &'static str,
    dialect: Dialect,
    package: String,
    /// `per_page` and `page`; `None` for the whole list.
    page: Option<(u32, u32)>,
    base: String,
}

/// JSON without its envelope, and its entity tag.
#[derive(Clone)]
struct RenderedJson {
    value: Bytes,
    etag: HeaderValue,
}

impl RenderedJson {
    fn new(value: Bytes) -> Self {
        let etag = strong_etag(&Digest::of(&value));
        Self { value, etag: HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\"")) }
    }
}

impl RenderedJsonCache {
    /// An empty cache.
    pub(in crate::service) fn new() -> Self {
        let weigher = |_: &Arc<RenderKey>, json: &RenderedJson| u32::try_from(json.value.len()).unwrap_or(u32::MAX);
        Self(moka::sync::Cache::builder().max_capacity(MAX_RENDERED_BYTES).weigher(weigher).build())
    }
}

/// A JSON response without its envelope.
pub(in crate::service) struct JsonAnswer {
    json: RenderedJson,
    link: Option<HeaderValue>,
    age: Duration,
    status: CacheStatus,
}

/// Responds with the JSON that a route asks for.
///
/// # Errors
/// When the registry has no such document.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    route: &Route,
    package: &FoundPackage,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    let answer = look_up(service, parts, route, package, host).await?;
    Ok(answer.into_response(route.dialect, parts, context))
}

async fn look_up(
    service: &Service,
    parts: &Parts,
    route: &Route,
    package: &FoundPackage,
    host: &RequestHost<'_>,
) -> Result<JsonAnswer, ApiError> {
    let registry = &service.registry;
    let base = host.base();
    let json = JsonRequest {
        cache: host.is_configured().then_some(&service.rendered_json),
        renderer: Renderer {
            dialect: route.dialect,
            base: &base,
            names: &service.names,
            package: package.id(),
            folder: package.folder(),
        },
        path: parts.uri.path(),
    };
    Ok(match &route.request {
        ApiRequest::Releases { page, .. } => {
            let list = package.releases(registry).await?;
            let all = &list.value.releases;
            let shown = page.map_or(&all[..], |page| page.slice(all));
            let page = page.map(|page| (page, all.len()));
            let answer = json.answer("releases", page, &list, |renderer| renderer.releases(shown));
            answer.of_list(&list.value)
        }
        ApiRequest::Detail { page, .. } => {
            let list = package.releases(registry).await?;
            let all = &list.value.releases;
            let shown = page.slice(all);
            let page = page.page().map(|page| (page, all.len()));
            json.answer("detail", page, &list, |renderer| renderer.release_rows(shown)).of_list(&list.value)
        }
        ApiRequest::Latest { .. } => {
            let latest = package.latest(registry).await?;
            json.release(registry, latest).await
        }
        ApiRequest::Tag { version, .. } => {
            let release = package.release(registry, version.name()).await?;
            json.release(registry, release).await
        }
        ApiRequest::ById { id, assets, .. } => {
            let list = package.releases(registry).await?;
            let Some(release) = json.renderer.find_by_id(&list.value.releases, *id) else {
                return Err(ApiError::UnknownReleaseId { id: *id, status: list.status });
            };
            // No tag can contain a colon: the id does not collide with a tag of the same digits.
            let digest = Digest::of(format!("{}#:{id}", list.digest).as_bytes());
            let one = CachedValue { value: Arc::new(()), digest, age: list.age, status: list.status.clone() };
            if *assets {
                json.answer("assets", None, &one, |renderer| renderer.assets(release))
            } else {
                json.answer("release", None, &one, |renderer| renderer.release(release))
            }
        }
        ApiRequest::Repository { .. } => {
            let repository = registry.documents().repository(package.id()).await?;
            json.answer("repository", None, &repository, |renderer| renderer.repository(&repository.value))
        }
        ApiRequest::Metadata { version: Some(version), .. } => {
            let record = package.metadata(registry, version.name()).await?;
            json.answer("metadata", None, &record, |_| render::metadata(&record.value))
        }
        ApiRequest::Metadata { version: None, .. } => {
            let records = package.metadata_list(registry).await?;
            json.answer("metadata", None, &records, |_| render::metadata_list(&records.value))
        }
        ApiRequest::Archive { .. }
        | ApiRequest::Flat { .. }
        | ApiRequest::Catalog(_)
        | ApiRequest::Menu(_)
        | ApiRequest::OwnPackages
        | ApiRequest::Ops(_) => return Err(ApiError::NotJson),
    })
}

/// What a document is rendered for.
struct JsonRequest<'a> {
    /// `None` when the base address is not configured: clients may send any `Host`, so the keys would be unbounded.
    cache: Option<&'a RenderedJsonCache>,
    renderer: Renderer<'a>,
    path: &'a str,
}

impl JsonRequest<'_> {
    /// One release; in the v3 dialect with what its archive says of the package, where the upstream does not say it.
    async fn release(&self, registry: &Registry, release: CachedValue<Release>) -> JsonAnswer {
        let Renderer { dialect, package, folder, .. } = self.renderer;
        let value = release.value.clone();
        if dialect != Dialect::V3 {
            return self.answer("release", None, &release, |renderer| renderer.release(&value));
        }
        let facts = match folder {
            _ if !self.renderer.lacks_details(&value) => None,
            Some(folder) => registry.folders().release_facts(folder, &value.tag_name).await,
            None => registry.release_facts().get(package, &value.tag_name).await,
        };
        let digest = match &facts {
            // No digest contains a plus sign: the result is that of no other document.
            Some(facts) => Digest::of(format!("{}+{}", release.digest, facts.digest).as_bytes()),
            None => release.digest,
        };
        let release = CachedValue { digest, ..release };
        self.answer("detailed release", None, &release, |renderer| renderer.detailed_release(&value, facts.as_ref()))
    }

    /// Renders a document, or takes it from the cache. `page` is the page and the number of all items.
    fn answer<T>(
        &self,
        shape: &'static str,
        page: Option<(PageRequest, usize)>,
        answer: &CachedValue<T>,
        render: impl FnOnce(&Renderer<'_>) -> Bytes,
    ) -> JsonAnswer {
        let Renderer { dialect, base, package, folder, .. } = self.renderer;
        let render = || RenderedJson::new(render(&self.renderer));
        let json = match self.cache {
            None => render(),
            Some(RenderedJsonCache(cache)) => {
                let key = RenderKey {
                    document: answer.digest,
                    shape,
                    dialect,
                    package: match folder {
                        // No upstream has an empty name.
                        Some(folder) => format!("/{}", folder.alias),
                        None => format!("{}/{}", package.upstream, package.name),
                    },
                    page: page.map(|(page, _)| (page.per_page, page.page)),
                    base: base.to_owned(),
                };
                cache.get_with(Arc::new(key), render)
            }
        };
        let link = page.and_then(|(page, total)| page.link(base, self.path, total));
        JsonAnswer { json, link, age: answer.age, status: answer.status.clone() }
    }
}

impl JsonAnswer {
    /// An answer that is rendered for this request only.
    pub(in crate::service) fn new(value: Bytes, age: Duration, status: CacheStatus) -> Self {
        Self { json: RenderedJson::new(value), link: None, age, status }
    }

    /// Tells clients in `Cache-Status` that a list is not whole: the upstream has more releases than are fetched.
    fn of_list(self, list: &Releases) -> Self {
        let status = if list.truncated { self.status.and_detail("truncated") } else { self.status };
        Self { status, ..self }
    }

    /// Evaluates the conditions and wraps the value in the dialect's envelope.
    pub(in crate::service) fn into_response(
        self,
        dialect: Dialect,
        parts: &Parts,
        context: &mut RequestContext,
    ) -> Response<Body> {
        // The v3 envelope contains the request id, so two of its responses are never equal.
        let etag = Some(self.json.etag).filter(|_| dialect != Dialect::V3);
        let tag = etag.as_ref().and_then(|etag| etag.to_str().ok());
        let mut response = match conditional::decide(&parts.headers, &parts.method, tag) {
            Precondition::Proceed => {
                let id = if dialect == Dialect::V3 { context.id.to_string() } else { String::new() };
                json_response(StatusCode::OK, dialect.success(self.json.value, &id), &parts.method)
            }
            Precondition::NotModified => empty(StatusCode::NOT_MODIFIED),
            Precondition::Failed => empty(StatusCode::PRECONDITION_FAILED),
        };
        let holds_for_others = !response.status().is_client_error();
        let headers = response.headers_mut();
        if let Some(etag) = etag {
            headers.insert(header::ETAG, etag);
        }
        if let Some(link) = self.link {
            headers.insert(header::LINK, link);
        }
        // RFC 9111 §5.1: a response that the upstream has just sent or confirmed needs no Age.
        let is_stored = self.status.fwd.is_none() && !self.status.generated;
        let with_age = is_stored || self.status.used_stale || self.status.fwd == Some(Fwd::Stale);
        if with_age {
            headers.insert(header::AGE, HeaderValue::from(self.age.as_secs()));
        }
        // RFC 9111 §4.2.3: a client subtracts Age from max-age.
        let age = if with_age { self.age.as_secs() } else { 0 };
        let left = self.status.ttl.unwrap_or(MAX_CLIENT_FRESHNESS).clamp(0, MAX_CLIENT_FRESHNESS);
        let fresh_for = if holds_for_others { fresh_for(age.saturating_add(left.unsigned_abs())) } else { NO_STORE };
        headers.insert(header::CACHE_CONTROL, fresh_for);
        context.cache_status = Some(self.status);
        response
    }
}

/// A response with a JSON body and its header fields; for HEAD without the body.
pub(in crate::service) fn json_response(status: StatusCode, body: Bytes, method: &Method) -> Response<Body> {
    let len = HeaderValue::from(body.len());
    let mut response = Response::new(if *method == Method::HEAD { Body::empty() } else { Body::full(body) });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_JSON);
    response.headers_mut().insert(header::CONTENT_LENGTH, len);
    response
}
