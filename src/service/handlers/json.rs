//! JSON responses: a rendition of a document, filled in for the request.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header, request::Parts};

use crate::{
    dialect::{ApiRequest, Dialect, PageRequest, Route},
    entry::Digest,
    http::{
        accept_encoding::accepts_gzip,
        body::Body,
        cache_status::{CacheStatus, Fwd},
        conditional::{self, Precondition},
        template::{Slot, SlotTexts},
    },
    package::{Release, Releases},
    registry::CachedValue,
    service::{
        Service, caller,
        context::RequestContext,
        error::ApiError,
        found_package::FoundPackage,
        headers::{NO_STORE, PRIVATE_NO_STORE, fresh_for},
        hosts::RequestHost,
        json_response::with_json_body,
        render::{find_by_id, lacks_details},
        rendition::{RenderJob, RenderedDocument, Rendition},
        rendition_cache::{RenditionForm, RenditionKey},
        zip_response::empty,
    },
};

/// Longest time, in seconds, that a client may use a response without a new request, if the document stays fresh for that long.
const MAX_CLIENT_FRESHNESS: i64 = 60;

/// A JSON response before its conditions are evaluated.
pub(in crate::service) struct JsonAnswer {
    rendition: Arc<Rendition>,
    etag: HeaderValue,
    base: String,
    /// The signature behind the address of each zip; empty for clients that need none.
    signature: String,
    page: Option<PageRequest>,
    coding: AnswerCoding,
    link: Option<HeaderValue>,
    age: Duration,
    status: CacheStatus,
}

/// How the content of a response is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerCoding {
    /// There is one form only.
    Only,
    /// As it is, for a client that does not take gzip.
    Identity,
    /// Compressed.
    Gzip,
}

/// A document that was looked up.
struct FoundDocument {
    document: RenderedDocument,
    digest: Digest,
    page: Option<PageRequest>,
    age: Duration,
    status: CacheStatus,
}

/// Responds with the JSON that a route asks for.
///
/// # Errors
/// When the registry has no such document, or too many large ones are being rendered.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    route: &Route,
    package: &FoundPackage,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    let found = look_up(service, route, package).await?;
    let FoundDocument { document, digest, page, age, status } = found;
    let base = host.base();
    let tag = context.caller.principal().and_then(|_| document.tag().map(str::to_owned));
    let key = RenditionKey {
        document: digest,
        form: document.form(),
        dialect: route.dialect,
        package: package.spelling(),
        coding: RenditionForm::Identity,
    };
    let job = || RenderJob {
        base: base.clone(),
        dialect: route.dialect,
        names: service.names.clone(),
        package: package.clone(),
        document,
    };
    let may_compress = host.has_public_url() && page.is_none() && route.dialect != Dialect::V3;
    let identity = service.renditions.get(key.clone(), job).await?;
    let signature = match identity.has_zip_addresses() {
        true => caller::zip_signature(service, context, package, tag.as_deref(), route.dialect),
        false => String::new(),
    };
    let mut coding = AnswerCoding::Only;
    if may_compress && signature.is_empty() && service.renditions.keeps_gzip_of(&identity) {
        coding = if accepts_gzip(&parts.headers) { AnswerCoding::Gzip } else { AnswerCoding::Identity };
    }
    let link = page.and_then(|page| page.link(&base, parts.uri.path(), identity.item_count()));
    let etag = match coding {
        AnswerCoding::Gzip => identity.gzip_etag(),
        AnswerCoding::Only | AnswerCoding::Identity => identity.etag(&base, page),
    };
    let rendition = if coding == AnswerCoding::Gzip && decide(parts, Some(&etag)) == Precondition::Proceed {
        service.renditions.gzip(key, &identity).await?
    } else {
        identity
    };
    let answer = JsonAnswer { rendition, etag, base, signature, page, coding, link, age, status };
    Ok(answer.into_response(route.dialect, parts, context))
}

async fn look_up(service: &Service, route: &Route, package: &FoundPackage) -> Result<FoundDocument, ApiError> {
    let registry = &service.registry;
    Ok(match &route.request {
        ApiRequest::Releases { page, .. } => {
            let list = package.releases(registry).await?;
            FoundDocument::of_list(list, *page, RenderedDocument::Releases)
        }
        ApiRequest::Detail { page, .. } => {
            let list = package.releases(registry).await?;
            FoundDocument::of_list(list, page.page(), RenderedDocument::Rows)
        }
        ApiRequest::Latest { .. } => {
            let latest = package.latest(registry).await?;
            release_document(service, route.dialect, package, latest).await
        }
        ApiRequest::Tag { version, .. } => {
            let found = package.release(registry, version.name()).await?;
            release_document(service, route.dialect, package, found).await
        }
        ApiRequest::ById { id, assets, .. } => {
            let list = package.releases(registry).await?;
            let Some(index) = find_by_id(package.id(), &list.value.releases, *id) else {
                return Err(ApiError::UnknownReleaseId { id: *id, status: list.status });
            };
            // No tag can contain a colon: the id does not collide with a tag of the same digits.
            let digest = Digest::of(format!("{}#:{id}", list.digest).as_bytes());
            let of = if *assets { RenderedDocument::AssetsOf } else { RenderedDocument::ReleaseOf };
            FoundDocument { digest, ..FoundDocument::new(list, |list| of(list, index)) }
        }
        ApiRequest::Repository { .. } => {
            let repository = registry.documents().repository(package.id()).await?;
            FoundDocument::new(repository, RenderedDocument::Repository)
        }
        ApiRequest::Metadata { version: Some(version), .. } => {
            let record = package.metadata(registry, version.name()).await?;
            FoundDocument::new(record, RenderedDocument::Metadata)
        }
        ApiRequest::Metadata { version: None, .. } => {
            let records = package.metadata_list(registry).await?;
            FoundDocument::new(records, RenderedDocument::MetadataList)
        }
        ApiRequest::Archive { .. }
        | ApiRequest::Flat { .. }
        | ApiRequest::Catalog(_)
        | ApiRequest::Menu(_)
        | ApiRequest::OwnPackages(_)
        | ApiRequest::Publish { .. }
        | ApiRequest::Delete { .. }
        | ApiRequest::Reserve
        | ApiRequest::Upload { .. }
        | ApiRequest::RenewCode
        | ApiRequest::Ops(_) => return Err(ApiError::NotJson),
    })
}

/// The document of one release; in the v3 dialect with what its archive says of the package, where the upstream does not.
async fn release_document(
    service: &Service,
    dialect: Dialect,
    package: &FoundPackage,
    release: CachedValue<Release>,
) -> FoundDocument {
    let registry = &service.registry;
    if dialect != Dialect::V3 {
        return FoundDocument::new(release, RenderedDocument::Release);
    }
    let facts = match package.folder() {
        _ if !lacks_details(package.id(), &release.value) => None,
        Some(folder) => registry.folders().release_facts(folder, &release.value.tag_name).await,
        None => registry.release_facts().get(package.id(), &release.value.tag_name).await,
    };
    let digest = match &facts {
        // No digest contains a plus sign: the result is that of no other document.
        Some(facts) => Digest::of(format!("{}+{}", release.digest, facts.digest).as_bytes()),
        None => release.digest,
    };
    FoundDocument { digest, ..FoundDocument::new(release, |release| RenderedDocument::Detailed(release, facts)) }
}

impl FoundDocument {
    fn new<T>(found: CachedValue<T>, document: impl FnOnce(Arc<T>) -> RenderedDocument) -> Self {
        let CachedValue { value, digest, age, status } = found;
        Self { document: document(value), digest, page: None, age, status }
    }

    /// The document of a list. Where the upstream has more releases than are fetched, `Cache-Status` says `truncated`.
    fn of_list(
        list: CachedValue<Releases>,
        page: Option<PageRequest>,
        document: impl FnOnce(Arc<Releases>) -> RenderedDocument,
    ) -> Self {
        let is_truncated = list.value.truncated;
        let found = Self::new(list, document);
        let status = if is_truncated { found.status.and_detail("truncated") } else { found.status };
        Self { page, status, ..found }
    }
}

impl JsonAnswer {
    /// An answer that is rendered for this request only.
    pub(in crate::service) fn new(dialect: Dialect, json: &str, age: Duration, status: CacheStatus) -> Self {
        let rendition = Arc::new(Rendition::of_value(dialect, json));
        let etag = rendition.etag("", None);
        let coding = AnswerCoding::Only;
        let signature = String::new();
        Self { rendition, etag, base: String::new(), signature, page: None, coding, link: None, age, status }
    }

    /// Evaluates the conditions and fills in the rendition.
    pub(in crate::service) fn into_response(
        self,
        dialect: Dialect,
        parts: &Parts,
        context: &mut RequestContext,
    ) -> Response<Body> {
        // Two responses in the v3 envelope, which contains the request id, are never equal; nor are two signed ones.
        let is_signed = !self.signature.is_empty();
        let etag = Some(self.etag).filter(|_| dialect != Dialect::V3 && !is_signed);
        let mut response = match decide(parts, etag.as_ref()) {
            Precondition::Proceed => {
                let whole = self.rendition.whole_with(&self.base).filter(|_| self.page.is_none() && !is_signed);
                let body = match whole {
                    Some(whole) => Body::full(whole.clone()),
                    None => {
                        let texts = SlotTexts::default().with(Slot::Base, &self.base);
                        let texts = texts.with(Slot::RequestId, &context.id.to_string());
                        let texts = texts.with(Slot::Signature, &self.signature);
                        Body::template(self.rendition.fill(&texts, self.page))
                    }
                };
                with_json_body(StatusCode::OK, body, &parts.method)
            }
            Precondition::NotModified => empty(StatusCode::NOT_MODIFIED),
            Precondition::Failed => empty(StatusCode::PRECONDITION_FAILED),
        };
        let holds_for_others = !response.status().is_client_error();
        let has_content = response.status() == StatusCode::OK;
        let headers = response.headers_mut();
        if let Some(etag) = etag {
            headers.insert(header::ETAG, etag);
        }
        if self.coding != AnswerCoding::Only {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if self.coding == AnswerCoding::Gzip && has_content {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
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
        let cache_control = match () {
            () if is_signed => PRIVATE_NO_STORE,
            () if holds_for_others => fresh_for(age.saturating_add(left.unsigned_abs())),
            () => NO_STORE,
        };
        headers.insert(header::CACHE_CONTROL, cache_control);
        context.cache_status = Some(self.status);
        response
    }
}

fn decide(parts: &Parts, etag: Option<&HeaderValue>) -> Precondition {
    conditional::decide(&parts.headers, &parts.method, etag.and_then(|etag| etag.to_str().ok()))
}
