//! The HTTP client of one upstream: connections, deadlines, credentials, redirects and error responses.
//!
//! Requests of clients never reach this module, so no part of them can be forwarded. Two things are, both from
//! [`RequestTrace`]: the names of the mirrors that a request came through, and, to a parent mirror alone, its id.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, VIA},
};
use jiff::Timestamp;
use tokio::time::timeout;
use url::Url;

use super::{
    BuildError, Config, ProcessContext,
    api_profile::ApiProfile,
    body::{ResponseBody, SizeMeter},
    call_log::CallLog,
    connect::UpstreamConnections,
    credentials::{CredentialExchange, CredentialPool, CredentialSource, Identity},
    error_class,
    failure::{self, invalid},
    gate::{Gate, IsApi, Place, PlaceKind},
    redirect::{self, MAX_REDIRECTS, RedirectPolicy},
    request::{self, Accepts, ArchiveResponse, DocumentRequest, DocumentResponse, OpenedArchive, RequestKind},
    response::{MirrorDetector, ensure_identity, ensure_not_html, is_loop},
    urls::{ApiUrls, is_same_url},
};
use crate::{
    entry::{Document, PageValidator, Validators},
    http::field,
    http::field::X_REQUEST_ID,
    origin::{DownloadPlace, FetchError, FetchedBody, Missing},
    peer::RequestTrace,
    value::memory_budget::MemoryBudget,
};

mod error_response;

/// The HTTP client of one upstream.
pub(super) struct ApiClient {
    /// The upstream's name in the configuration.
    pub(super) name: String,
    pub(super) urls: ApiUrls,
    /// Longest time between two fetches of all pages of a release list.
    pub(super) full_walk: Duration,
    profile: &'static ApiProfile,
    connections: Arc<UpstreamConnections>,
    via: HeaderValue,
    pool: CredentialPool,
    redirects: RedirectPolicy,
    response_timeout: Duration,
    idle_timeout: Duration,
    min_rate: u64,
    document_limit: u64,
    memory: MemoryBudget,
    gate: Arc<Gate>,
    /// True once the API has redirected an archive to a host with limits of its own.
    redirects_archives: AtomicBool,
    mirror_detector: MirrorDetector,
}

impl ApiClient {
    /// See [`super::build`].
    pub(super) fn new(
        name: &str,
        config: &Config,
        credentials: Vec<CredentialSource>,
        process: &ProcessContext,
        profile: &'static ApiProfile,
    ) -> Result<Self, BuildError> {
        let wrong = |key, reason: &str| BuildError { upstream: name.to_owned(), key, reason: reason.to_owned() };
        for (key, places) in [("concurrency", config.concurrency), ("downloads", config.downloads)] {
            if places == 0 {
                return Err(wrong(key, "must be a positive number, for example 32"));
            }
        }
        let via = HeaderValue::try_from(field::via(&super::pseudonym(&process.instance)));
        let via = via.map_err(|_| wrong("instance", "has a character that no header can carry"))?;
        let urls = ApiUrls { api: config.api.clone(), web: config.web.clone() };
        let connections = Arc::new(UpstreamConnections::new(name, config)?);
        let gate = Arc::new(Gate::new(name, config));
        let exchange = CredentialExchange {
            upstream: name.to_owned(),
            connections: connections.clone(),
            gate: gate.clone(),
            urls: urls.clone(),
            profile,
            via: via.clone(),
            deadline: config.response_timeout.0,
        };
        let pool =
            CredentialPool::new(credentials, exchange).map_err(|error| wrong("credentials", &error.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            urls,
            full_walk: config.full_walk.0,
            profile,
            connections,
            via,
            pool,
            redirects: RedirectPolicy::new(&config.api, &config.redirect_hosts)
                .map_err(|error| wrong("redirect_hosts", &error.to_string()))?,
            response_timeout: config.response_timeout.0,
            idle_timeout: config.idle_timeout.0,
            min_rate: config.min_rate.0,
            document_limit: config.document_limit.0,
            memory: process.memory.clone(),
            gate,
            redirects_archives: AtomicBool::new(false),
            mirror_detector: MirrorDetector::new(&config.api),
        })
    }

    /// The credentials.
    pub(super) fn pool(&self) -> &CredentialPool {
        &self.pool
    }

    /// The gate in front of its requests.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether the API is, or may be, that of a mirror like this one.
    pub(super) fn mirror_detector(&self) -> &MirrorDetector {
        &self.mirror_detector
    }

    /// A size meter for one document.
    pub(super) fn meter(&self) -> SizeMeter {
        SizeMeter::new(self.document_limit, &self.memory)
    }

    /// True when `url` has the API's origin.
    pub(super) fn is_api(&self, url: &Url) -> bool {
        self.redirects.is_api(url)
    }

    /// The stored validators, if they belong to this address and were obtained with the credential of this call.
    pub(super) fn applicable_validators<'a>(
        &self,
        call: &CallLog<'_>,
        stored: Option<&'a Document>,
        url: &Url,
    ) -> Option<&'a Validators> {
        let validators = &stored?.meta.validators;
        let same_address = validators.pages.first().is_some_and(|page| is_same_url(page, url));
        let same_identity = validators.token_fingerprint.as_deref() == call.identity().fingerprint();
        (same_address && same_identity).then_some(validators)
    }

    /// The validators to store with pages that were all fetched just now.
    pub(super) fn new_validators(&self, call: &CallLog<'_>, pages: Vec<PageValidator>) -> Validators {
        let token_fingerprint = call.identity().fingerprint().map(str::to_owned);
        Validators { pages, token_fingerprint, last_full_fetch: Some(Timestamp::now()) }
    }

    /// Records the outcome of a call and logs its failure, once; passes the result on.
    pub(super) fn finish<T>(&self, call: &CallLog<'_>, result: Result<T, FetchError>) -> Result<T, FetchError> {
        self.gate.note_call(result.as_ref().err());
        if let Err(error) = &result {
            call.log_failure(&self.name, error);
        }
        result
    }

    /// Requests a document from the API, conditionally when there is a `validator`. Follows redirects (of a renamed
    /// repository) within the API's origin only.
    ///
    /// # Errors
    /// See [`FetchError`]; an absence is `NotFound(request.missing)`.
    pub(super) async fn request_document(
        &self,
        call: &CallLog<'_>,
        request: DocumentRequest<'_>,
        validator: Option<&PageValidator>,
    ) -> Result<DocumentResponse, FetchError> {
        let place = self.take_place(call, request.kind, PlaceKind::Document).await?;
        let accepts = Accepts { media_type: request.accept.unwrap_or(self.profile.accept), coding: "gzip" };
        let mut url = request.url.clone();
        for redirects in 0..=MAX_REDIRECTS {
            let response = self.send(call, &url, accepts, request.kind, validator).await?;
            match response.status() {
                StatusCode::OK => {
                    let body = ResponseBody::new(response, self.idle_timeout).holding(place);
                    return Ok(DocumentResponse::Body(Box::new(body)));
                }
                StatusCode::NOT_MODIFIED if validator.is_some() => return Ok(DocumentResponse::NotModified),
                status if redirect::is_redirect(status) => {
                    url = redirect::target(response.headers(), &url)?;
                    if !self.is_api(&url) {
                        return Err(FetchError::Refused("a redirect of the API to another origin".into()));
                    }
                    if redirects == 0 {
                        let package = call.package.map(tracing::field::display);
                        tracing::info!(upstream = self.name, package, "the package was renamed upstream");
                    }
                }
                _ => return Err(self.error_of_response(call, response, request.kind, request.missing).await),
            }
        }
        Err(invalid("too many redirects"))
    }

    /// Opens an archive, and refuses a media type that no zip has, such as that of a login page.
    ///
    /// # Errors
    /// As [`ApiClient::open_archive`].
    pub(super) async fn open_zip(
        &self,
        call: &CallLog<'_>,
        url: Url,
        kind: RequestKind,
    ) -> Result<FetchedBody, FetchError> {
        let OpenedArchive { body, place, anonymous, .. } = self.open_archive(call, url, kind).await?;
        ensure_not_html(body.headers())?;
        Ok(FetchedBody { len: body.content_length(), anonymous, body: body.into_stream(), place })
    }

    /// Opens an archive, of whatever media type.
    ///
    /// # Errors
    /// See [`FetchError`]; an absence is `NotFound(Missing::Version)`.
    pub(super) async fn open_archive(
        &self,
        call: &CallLog<'_>,
        url: Url,
        kind: RequestKind,
    ) -> Result<OpenedArchive, FetchError> {
        if kind == RequestKind::Api && self.redirects_archives.load(Ordering::Relaxed) {
            // The API would spend quota on a redirect that cannot be followed.
            self.pool.archive_hosts().limiter().check()?;
        }
        let place = self.take_place(call, kind, PlaceKind::Download).await?;
        match self.follow_redirects(call, url, kind, None).await? {
            ArchiveResponse::Opened(opened) => Ok(OpenedArchive {
                body: Box::new(opened.body.with_min_rate(self.min_rate)),
                place: DownloadPlace::new(place),
                ..opened
            }),
            ArchiveResponse::NotModified => Err(invalid("304 to an unconditional request")),
        }
    }

    /// Asks the API for an archive whose body is not to be read, conditionally when there is a `validator`. The condition
    /// goes to redirect targets too: the one that has the archive answers it.
    ///
    /// # Errors
    /// As [`ApiClient::open_archive`].
    pub(super) async fn probe_archive(
        &self,
        call: &CallLog<'_>,
        url: Url,
        validator: Option<&PageValidator>,
    ) -> Result<ArchiveResponse, FetchError> {
        let place = self.take_place(call, RequestKind::Api, PlaceKind::Document).await?;
        Ok(match self.follow_redirects(call, url, RequestKind::Api, validator).await? {
            ArchiveResponse::Opened(opened) => {
                ArchiveResponse::Opened(OpenedArchive { place: DownloadPlace::new(place), ..opened })
            }
            ArchiveResponse::NotModified => ArchiveResponse::NotModified,
        })
    }

    /// Requests an archive and follows redirects to the allowed hosts. The credential is sent until a redirect leaves the
    /// API's origin, and not again after that.
    async fn follow_redirects(
        &self,
        call: &CallLog<'_>,
        url: Url,
        kind: RequestKind,
        validator: Option<&PageValidator>,
    ) -> Result<ArchiveResponse, FetchError> {
        let mut url = url;
        let mut kind = kind;
        let anonymous = !self.identity(call, kind).has_credential();
        for _ in 0..=MAX_REDIRECTS {
            let media_type = if kind == RequestKind::Archive { "*/*" } else { self.profile.accept_zip };
            // The bytes of a zip are stored and served as they are.
            let accepts = Accepts { media_type, coding: "identity" };
            let response = self.send(call, &url, accepts, kind, validator).await?;
            match response.status() {
                StatusCode::OK => {
                    ensure_identity(response.headers())?;
                    let body = Box::new(ResponseBody::new(response, self.idle_timeout));
                    let place = DownloadPlace::default();
                    return Ok(ArchiveResponse::Opened(OpenedArchive { body, place, anonymous, kind }));
                }
                StatusCode::NOT_MODIFIED if validator.is_some() => return Ok(ArchiveResponse::NotModified),
                status if redirect::is_redirect(status) => {
                    url = redirect::target(response.headers(), &url)?;
                    self.redirects.ensure_allowed(&url)?;
                    if !self.is_api(&url) {
                        kind = RequestKind::Archive;
                        self.redirects_archives.store(true, Ordering::Relaxed);
                    }
                }
                _ => return Err(self.error_of_response(call, response, kind, Missing::Version).await),
            }
        }
        Err(invalid("too many redirects"))
    }

    /// Sends one GET and waits for the head of the response.
    async fn send(
        &self,
        call: &CallLog<'_>,
        url: &Url,
        accepts: Accepts,
        kind: RequestKind,
        validator: Option<&PageValidator>,
    ) -> Result<reqwest::Response, FetchError> {
        let identity = self.identity(call, kind);
        identity.limiter().check()?;
        let is_api = if self.is_api(url) { IsApi::Yes } else { IsApi::No };
        let attempt = self.gate.attempt(url, is_api)?;
        let headers = self.request_headers(url, accepts, kind, &identity, validator);
        let response = match self.exchange(call, url, headers).await {
            Ok(response) => response,
            Err(error) => {
                attempt.failed(&error, None);
                return Err(error);
            }
        };
        call.note_status(response.status());
        if response.status().is_server_error() {
            let stated = error_class::stated_wait(response.headers(), Timestamp::now());
            attempt.failed(&FetchError::Status(response.status().as_u16()), stated);
        } else {
            attempt.succeeded();
        }
        if is_api == IsApi::Yes {
            self.mirror_detector.note(response.headers());
        }
        if is_loop(&response, &self.via) {
            return Err(FetchError::Loop);
        }
        identity.limiter().note_quota(response.headers());
        if response.status().as_u16() < 400 {
            identity.limiter().note_allowed();
            identity.note_accepted(&self.name);
        }
        Ok(response)
    }

    /// Sends a request, and once more when the server has closed an idle connection at the moment of its use: a GET may
    /// be sent again (RFC 9110 §9.2.2).
    async fn exchange(
        &self,
        call: &CallLog<'_>,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, FetchError> {
        let http = self.connections.client();
        let request = || http.get(url.clone()).headers(headers.clone()).send();
        let exchange = async {
            call.count_request();
            match request().await {
                Err(error)
                    if failure::is_stale_connection(&error)
                        && self.connections.may_be_idle()
                        && self.gate.may_retry() =>
                {
                    call.count_request();
                    request().await
                }
                response => response,
            }
        };
        match timeout(self.response_timeout, exchange).await {
            Ok(Ok(response)) => {
                self.connections.note_response();
                Ok(response)
            }
            Ok(Err(error)) => Err(failure::of_request(&error)),
            Err(_) => {
                self.connections.note_timeout(&self.name);
                Err(FetchError::Timeout(failure::RESPONSE_TIMED_OUT))
            }
        }
    }

    /// Waits for a place, unless the quota that the request uses is exhausted.
    async fn take_place(&self, call: &CallLog<'_>, kind: RequestKind, place: PlaceKind) -> Result<Place, FetchError> {
        self.identity(call, kind).limiter().check()?;
        self.gate.take_place(place, call.client).await
    }

    fn request_headers(
        &self,
        url: &Url,
        accepts: Accepts,
        kind: RequestKind,
        identity: &Identity,
        validator: Option<&PageValidator>,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accepts.media_type));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepts.coding));
        let trace = RequestTrace::current();
        headers.insert(VIA, trace.followed_by(&self.via));
        if let Some(id) = trace.id()
            && self.is_api(url)
            && self.mirror_detector.is_mirror()
        {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        if kind != RequestKind::Archive && self.is_api(url) {
            for (name, value) in self.profile.headers {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            identity.add_to(&mut headers);
        }
        if let Some(validator) = validator {
            request::add_condition(&mut headers, validator);
        }
        headers
    }

    /// The identity that makes a request of this kind.
    fn identity(&self, call: &CallLog<'_>, kind: RequestKind) -> Identity {
        match kind {
            RequestKind::Api => call.identity(),
            RequestKind::AnonymousApi => self.pool.anonymous(),
            RequestKind::Archive => self.pool.archive_hosts(),
        }
    }
}
