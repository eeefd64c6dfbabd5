//! The way out to one forge: connections, deadlines, the token, redirects and refusals.
//!
//! Nothing of a client's request is ever seen here, so nothing of it can be forwarded.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH, VIA,
    },
};
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use url::Url;

use super::{
    BuildError, Config, RateLimitStatus,
    body::{Body, Meter, Permits},
    call_log::{CallLog, LOG},
    connect,
    failure::{self, invalid},
    rate_limiter::RateLimiter,
    redirect::{self, HOPS, Redirects},
    throttle::{ErrorClass, Refusal},
};
use crate::{
    entry::{Digest, Document, PageValidator, Validators},
    origin::{FetchError, FetchedBody, Missing},
    value::{BaseUrl, Period, Secret},
};

/// What is particular to a kind of forge on the wire.
pub(super) struct ForgeProfile {
    /// The scheme of `Authorization`.
    pub(super) scheme: &'static str,
    /// Further headers of every API request.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// `Accept` of API requests where nothing else is asked for.
    pub(super) accept: &'static str,
    /// What a refusal means.
    pub(super) judge: fn(Refusal<'_>, Timestamp) -> ErrorClass,
}

/// Whose quota a request spends, and whether it may carry the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// The API: with token.
    Api,
    /// Web pages and archive hosts, which have limits of their own: never with token.
    Archive,
}

/// A 200, or a 304 to what was asked conditionally.
pub(super) enum Answer {
    NotModified,
    Body(Box<Body>),
}

/// One forge's HTTP client.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) api: BaseUrl,
    pub(super) web: BaseUrl,
    pub(super) full_walk: Period,
    wire: &'static ForgeProfile,
    http: reqwest::Client,
    via: HeaderValue,
    token: Option<HeaderValue>,
    fingerprint: Option<String>,
    token_doubted: AtomicBool,
    redirects: Redirects,
    response_timeout: Duration,
    idle_timeout: Duration,
    document_limit: u64,
    slots: Arc<Semaphore>,
    archive_slots: Arc<Semaphore>,
    api_budget: RateLimiter,
    archive_budget: RateLimiter,
    last_answer: Mutex<Option<Instant>>,
}

impl Client {
    pub(super) fn new(
        name: &str,
        config: &Config,
        token: Option<Secret>,
        instance: &str,
        wire: &'static ForgeProfile,
    ) -> Result<Self, BuildError> {
        let wrong = |key, reason: &str| BuildError { upstream: name.to_owned(), key, reason: reason.to_owned() };
        let header = |text: String, key| {
            HeaderValue::try_from(text).map_err(|_| wrong(key, "has a character that no header can carry"))
        };
        let token = token.filter(|token| !token.reveal().is_empty());
        let fingerprint = token.as_ref().map(fingerprint);
        let mut token =
            token.map(|token| header(format!("{} {}", wire.scheme, token.reveal()), "token_env")).transpose()?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        if config.concurrency == 0 || config.concurrency > Semaphore::MAX_PERMITS {
            return Err(wrong("concurrency", "must be a positive number, for example 32"));
        }
        // A slow archive holds its slot for minutes; a quarter is kept free for documents.
        let archives = config.concurrency - config.concurrency.div_ceil(4).min(config.concurrency - 1);
        Ok(Self {
            name: name.to_owned(),
            api: config.api.clone(),
            web: config.web.clone(),
            full_walk: config.full_walk,
            wire,
            http: connect::client(name, config)?,
            via: header(format!("1.1 {}", super::pseudonym(instance)), "instance")?,
            token,
            fingerprint,
            token_doubted: AtomicBool::new(false),
            redirects: Redirects::new(&config.api, &config.redirect_hosts)
                .map_err(|reason| wrong("redirect_hosts", &reason))?,
            response_timeout: config.response_timeout.0,
            idle_timeout: config.idle_timeout.0,
            document_limit: config.document_limit.0,
            slots: Arc::new(Semaphore::new(config.concurrency)),
            archive_slots: Arc::new(Semaphore::new(archives)),
            api_budget: RateLimiter::default(),
            archive_budget: RateLimiter::default(),
            last_answer: Mutex::new(None),
        })
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// What the API allows for now.
    pub(super) fn allowance(&self) -> RateLimitStatus {
        self.api_budget.allowance()
    }

    /// A counter for one document.
    pub(super) fn meter(&self) -> Meter {
        Meter::new(self.document_limit)
    }

    /// True when `url` belongs to the API's origin.
    pub(super) fn is_api(&self, url: &Url) -> bool {
        self.redirects.is_api(url)
    }

    /// The stored validators, if they are for this address and were given to the token we have.
    pub(super) fn usable<'a>(&self, stored: Option<&'a Document>, url: &Url) -> Option<&'a Validators> {
        let validators = &stored?.meta.validators;
        let fits = validators.pages.first().is_some_and(|page| is_same(page, url));
        (fits && validators.token_fingerprint == self.fingerprint).then_some(validators)
    }

    /// The validators to store for pages that were just walked.
    pub(super) fn validators(&self, pages: Vec<PageValidator>) -> Validators {
        Validators { pages, token_fingerprint: self.fingerprint.clone(), last_full_fetch: Some(Timestamp::now()) }
    }

    /// Logs a call's failure, once.
    pub(super) fn finish<T>(&self, call: &CallLog<'_>, result: Result<T, FetchError>) -> Result<T, FetchError> {
        call.finish(&self.name, self.api_budget.quota(), result)
    }

    /// Asks the API with the token, conditionally where `validator` is given; follows redirects on its own origin only
    /// (a renamed repository). A 404 is `NotFound(missing)`.
    pub(super) async fn document(
        &self,
        call: &CallLog<'_>,
        url: &Url,
        accept: Option<&'static str>,
        validator: Option<&PageValidator>,
        missing: Missing,
    ) -> Result<Answer, FetchError> {
        let permits = [Some(slot(&self.slots).await?), None];
        let accept = accept.unwrap_or(self.wire.accept);
        let mut url = url.clone();
        for hop in 0..=HOPS {
            let response = self.send(call, &url, accept, RequestKind::Api, validator).await?;
            match response.status() {
                StatusCode::OK => {
                    identity(response.headers())?;
                    return Ok(Answer::Body(Box::new(Body::new(response, self.idle_timeout, permits))));
                }
                StatusCode::NOT_MODIFIED if validator.is_some() => return Ok(Answer::NotModified),
                status if redirect::is_redirect(status) => {
                    url = redirect::target(response.headers(), &url)?;
                    if !self.is_api(&url) {
                        return Err(FetchError::Refused("a redirect of the API to another origin".into()));
                    }
                    if hop == 0 {
                        let package = call.package;
                        tracing::info!(target: LOG, upstream = self.name, %package, "upstream knows the package by another name");
                    }
                }
                _ => return Err(self.refused(response, RequestKind::Api, missing).await),
            }
        }
        Err(invalid("more redirects than allowed"))
    }

    /// Opens an archive. The token goes along until the API's origin is left and does not come back.
    pub(super) async fn archive(
        &self,
        call: &CallLog<'_>,
        url: Url,
        lane: RequestKind,
    ) -> Result<FetchedBody, FetchError> {
        let permits: Permits = [Some(slot(&self.archive_slots).await?), Some(slot(&self.slots).await?)];
        let mut url = url;
        let mut lane = lane;
        let anonymous = self.token.is_none() || lane == RequestKind::Archive;
        for _ in 0..=HOPS {
            let accept = if lane == RequestKind::Api { self.wire.accept } else { "*/*" };
            let response = self.send(call, &url, accept, lane, None).await?;
            match response.status() {
                StatusCode::OK => {
                    identity(response.headers())?;
                    ensure_not_html(response.headers())?;
                    let body = Body::new(response, self.idle_timeout, permits);
                    return Ok(FetchedBody { len: body.announced(), anonymous, body: body.stream() });
                }
                status if redirect::is_redirect(status) => {
                    url = redirect::target(response.headers(), &url)?;
                    self.redirects.allow(&url)?;
                    if !self.is_api(&url) {
                        lane = RequestKind::Archive;
                    }
                }
                _ => return Err(self.refused(response, lane, Missing::Version).await),
            }
        }
        Err(invalid("more redirects than allowed"))
    }

    /// Sends one GET and waits for the head of its answer.
    async fn send(
        &self,
        call: &CallLog<'_>,
        url: &Url,
        accept: &'static str,
        lane: RequestKind,
        validator: Option<&PageValidator>,
    ) -> Result<reqwest::Response, FetchError> {
        self.budget(lane).check()?;
        let headers = self.headers(url, accept, lane, validator);
        let request = || self.http.get(url.clone()).headers(headers.clone()).send();
        let answer = timeout(self.response_timeout, async {
            call.asking();
            match request().await {
                // The forge may have closed a kept connection just as we used it; a GET may be sent again (RFC 9110 §9.2.2).
                Err(error) if failure::is_stale_connection(&error) && self.may_have_kept_a_connection() => {
                    call.asking();
                    request().await
                }
                answer => answer,
            }
        });
        let answer = answer.await.map_err(|_| FetchError::Timeout("no answer in time"))?;
        let response = answer.map_err(|error| failure::of_request(&error))?;
        *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        call.answered(response.status());
        if self.is_our_own(&response) {
            return Err(FetchError::Loop);
        }
        self.budget(lane).note(response.headers());
        if response.status().as_u16() < 400 {
            self.budget(lane).allowed();
        }
        Ok(response)
    }

    fn headers(
        &self,
        url: &Url,
        accept: &'static str,
        lane: RequestKind,
        validator: Option<&PageValidator>,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(VIA, self.via.clone());
        if lane == RequestKind::Api && self.is_api(url) {
            for (name, value) in self.wire.headers {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            if let Some(token) = &self.token {
                headers.insert(AUTHORIZATION, token.clone());
            }
        }
        if let Some(validator) = validator {
            let mut condition = |name, value: &Option<String>| {
                if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                    headers.insert(name, value);
                }
            };
            // RFC 9110 §13.1.3: a recipient ignores If-Modified-Since where there is an If-None-Match.
            if validator.etag.is_some() {
                condition(IF_NONE_MATCH, &validator.etag);
            } else {
                condition(IF_MODIFIED_SINCE, &validator.last_modified);
            }
        }
        headers
    }

    /// What an answer that is neither a success nor a redirect to follow means.
    async fn refused(&self, response: reqwest::Response, lane: RequestKind, missing: Missing) -> FetchError {
        let status = response.status();
        if status.as_u16() < 400 {
            return invalid("an unexpected kind of answer");
        }
        let headers = response.headers().clone();
        let text = Body::new(response, self.idle_timeout, [None, None]).refusal(self.response_timeout).await;
        let refusal = Refusal { status, headers: &headers, text: &text };
        let verdict = (self.wire.judge)(refusal, Timestamp::now());
        if let ErrorClass::Throttled(wait) = verdict {
            return self.budget(lane).throttled(wait);
        }
        self.budget(lane).allowed();
        if status == StatusCode::UNAUTHORIZED && lane == RequestKind::Api && self.has_token() {
            // One 401 is no proof (Gitee's outages look the same), so the token stays in use.
            if !self.token_doubted.swap(true, Relaxed) {
                tracing::warn!(target: LOG, upstream = self.name, "the token is probably wrong or expired (401)");
            }
        }
        match (verdict, status) {
            (ErrorClass::Blocked, _) => FetchError::Blocked,
            (_, StatusCode::NOT_FOUND) => FetchError::NotFound(missing),
            (_, status) => FetchError::Status(status.as_u16()),
        }
    }

    fn budget(&self, lane: RequestKind) -> &RateLimiter {
        match lane {
            RequestKind::Api => &self.api_budget,
            RequestKind::Archive => &self.archive_budget,
        }
    }

    fn may_have_kept_a_connection(&self) -> bool {
        let last = *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() <= connect::KEEP)
    }

    /// True for the answer of a mirror that has seen our request come back, and for one that went through ourselves.
    fn is_our_own(&self, response: &reqwest::Response) -> bool {
        let by_us = |value: &HeaderValue| {
            let ours = self.via.as_bytes();
            value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii() == ours)
        };
        response.status() == StatusCode::LOOP_DETECTED || response.headers().get_all(VIA).iter().any(by_us)
    }
}

/// Tells tokens apart without giving them away: the first 16 hexadecimal digits of a labelled SHA-256.
fn fingerprint(token: &Secret) -> String {
    let mut text = Digest::of(format!("srm-mirror token\0{}", token.reveal()).as_bytes()).to_string();
    text.truncate(16);
    text
}

/// True when a stored page was asked at this address. Forges fold the case of owner and repository, and so does the
/// key under which the page is stored: another spelling must not throw its validators away.
pub(super) fn is_same(page: &PageValidator, url: &Url) -> bool {
    page.url.eq_ignore_ascii_case(url.as_str())
}

async fn slot(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, FetchError> {
    slots.clone().acquire_owned().await.map_err(|_| FetchError::Unreachable("shutting down"))
}

/// We ask for `identity`; anything else would be kept and served as if it were the bytes themselves.
fn identity(headers: &HeaderMap) -> Result<(), FetchError> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(invalid("an encoded body")),
        _ => Ok(()),
    }
}

/// Refuses what says of itself that it is a page: a login form or an error with status 200.
fn ensure_not_html(headers: &HeaderMap) -> Result<(), FetchError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let page = kind.starts_with("text/") || ["html", "json", "xml"].iter().any(|word| kind.contains(word));
    if page { Err(invalid("a page instead of a zip")) } else { Ok(()) }
}
