//! The client of an S3-compatible bucket: signed requests with deadlines, and what their answers mean.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{Body, Certificate, Response, redirect::Policy};
use rusty_s3::{Credentials, S3Action, UrlStyle};
use tokio::time::timeout;
use url::Url;

use super::{
    Arbiter, Arbitration, BucketStatus, Config,
    bucket_error::{BucketError, BucketOperation},
    bucket_gate::{BucketGate, BucketPlace},
    notices::ChangeNotices,
    object_name::ObjectName,
    status::BucketCounters,
};
use crate::value::rate_floor::{RateFloor, with_rate_floor};

/// How long a signed address is valid: longer than any request, and with room for clocks that differ.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(3600);
/// The slowest upload that is waited for, bytes per second.
const MIN_BUCKET_UPLOAD_RATE: u64 = 100 << 10;
/// The slowest body that is waited for, bytes per second in each window of waiting.
const MIN_BUCKET_BODY_RATE: u64 = 10 << 10;
/// The time of waiting over which the rate of a body is averaged.
const BUCKET_RATE_WINDOW: Duration = Duration::from_secs(30);
/// How often a small request is sent, if its connection breaks.
const SMALL_REQUEST_ATTEMPTS: usize = 2;

/// An S3-compatible bucket.
pub struct Bucket {
    http: reqwest::Client,
    pub(super) bucket: rusty_s3::Bucket,
    pub(super) credentials: Credentials,
    /// What the names of all objects begin with.
    pub(super) prefix: String,
    response_timeout: Duration,
    idle_timeout: Duration,
    gate: BucketGate,
    counters: BucketCounters,
    /// Who decides which content a version has.
    pub(super) arbiter: Arbiter,
    /// The result of the probe; set by the first probe that gets an answer.
    pub(super) arbitration: OnceLock<Arbitration>,
    /// Notices of changes in the bucket, from other nodes and for them.
    pub(crate) notices: ChangeNotices,
}

/// Why the client of a bucket cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("shared.{key}: {reason}")]
pub struct BucketBuildError {
    /// The key of the section.
    pub key: &'static str,
    /// Why its value cannot be used; contains no secret.
    pub reason: &'static str,
}

/// A small object.
#[derive(Clone, Debug)]
pub(super) struct SmallObject {
    pub(super) bytes: Bytes,
    /// As the service sent it.
    pub(super) etag: Option<String>,
    /// When it was written, by the service's clock.
    pub(super) modified_at: Option<Timestamp>,
    /// When the service answered, by its clock.
    pub(super) answered_at: Option<Timestamp>,
}

impl SmallObject {
    /// When it was written at the earliest, by the clock that said `now` before it was read; `None` where the service
    /// does not say it. Services date by the second.
    pub(super) fn written_after(&self, now: Timestamp) -> Option<Timestamp> {
        let age = self.answered_at?.duration_since(self.modified_at?).max(SignedDuration::ZERO);
        now.saturating_sub(age.saturating_add(SignedDuration::from_secs(1))).ok()
    }
}

/// A large object that is being read.
pub(super) struct ObjectBody {
    /// Its length, if the service says it.
    pub(super) len: Option<u64>,
    /// The bytes; an error is the last item.
    pub(super) bytes: BoxStream<'static, Result<Bytes, BucketError>>,
}

/// What must be true of an object for a write to happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriteCondition<'a> {
    /// There is none.
    Absent,
    /// There is none, in the header of services that have one of their own for this.
    AbsentByOwnHeader,
    /// It has this tag.
    Unchanged(&'a str),
    /// Nothing.
    None,
}

impl Bucket {
    /// Opens no connection. `roots` are the certificate authorities of the service.
    ///
    /// # Errors
    /// The key with a value that cannot be used.
    pub fn new(config: &Config, roots: Vec<Certificate>) -> Result<Self, BucketBuildError> {
        let wrong = |key, reason| BucketBuildError { key, reason };
        let endpoint = config.endpoint.as_ref().ok_or_else(|| wrong("endpoint", "is missing"))?;
        let secret = config.secret_key.as_ref().ok_or_else(|| wrong("secret_key_env", "there is no secret key"))?;
        let style = if config.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = rusty_s3::Bucket::new(endpoint.url().clone(), style, config.bucket.clone(), config.region.clone());
        let bucket = bucket.map_err(|_| wrong("bucket", "the address and the name give no address of a bucket"))?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("srm-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(config.connect_timeout.0)
            .pool_idle_timeout(Duration::from_secs(15))
            .tls_certs_only(roots)
            .build();
        Ok(Self {
            http: http.map_err(|_| wrong("ca_file", "TLS cannot be set up with it"))?,
            bucket,
            credentials: Credentials::new(config.access_key.clone(), secret.reveal().to_owned()),
            prefix: config.prefix.clone(),
            response_timeout: config.response_timeout.0,
            idle_timeout: config.idle_timeout.0,
            gate: BucketGate::new(),
            counters: BucketCounters::default(),
            arbiter: config.arbiter,
            arbitration: OnceLock::new(),
            notices: ChangeNotices::new(config.max_age.0),
        })
    }

    /// The state of the bucket, as the requests so far show it.
    pub fn status(&self) -> BucketStatus {
        self.counters.read(self.gate.pause().map(|pause| pause.as_secs()), self.arbitration.get().copied())
    }

    /// Reads an object of at most `max_bytes`; `None` where there is none.
    pub(super) async fn get(&self, name: &ObjectName, max_bytes: usize) -> Result<Option<SmallObject>, BucketError> {
        with_retry(|| {
            let url = sign(&mut self.bucket.get_object(Some(&self.credentials), &self.full_name(name)));
            self.read(BucketOperation::Read, url, max_bytes)
        })
        .await
    }

    /// Reads an answer of at most `max_bytes`, once; `None` where there is nothing at the address.
    pub(super) async fn read(
        &self,
        operation: BucketOperation,
        url: Url,
        max_bytes: usize,
    ) -> Result<Option<SmallObject>, BucketError> {
        let _place = self.gate.place(self.response_timeout).await?;
        let exchange = async {
            let mut response = self.http.get(url).send().await.map_err(|error| of_reqwest(&error))?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                status => return Err(BucketError::Status(status.as_u16())),
            }
            let etag = header(&response, http::header::ETAG).map(str::to_owned);
            let answered_at = date(&response, http::header::DATE);
            let modified_at = date(&response, http::header::LAST_MODIFIED);
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| of_reqwest(&error))? {
                if bytes.len() + chunk.len() > max_bytes {
                    return Err(BucketError::Damaged);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(SmallObject { bytes: bytes.into(), etag, modified_at, answered_at }))
        };
        self.note(operation, in_time(self.response_timeout, exchange).await)
    }

    /// Opens a large object; `None` where there is none.
    pub(super) async fn open(self: &Arc<Self>, name: &ObjectName) -> Result<Option<ObjectBody>, BucketError> {
        let place = self.gate.place(self.response_timeout).await?;
        let url = sign(&mut self.bucket.get_object(Some(&self.credentials), &self.full_name(name)));
        let exchange = async { self.http.get(url).send().await.map_err(|error| of_reqwest(&error)) };
        let head = in_time(self.response_timeout, exchange).await.and_then(|response| match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(BucketError::Status(status.as_u16())),
        });
        let Some(response) = self.note(BucketOperation::Read, head)? else { return Ok(None) };
        let len = response.content_length();
        let floor = RateFloor::new(MIN_BUCKET_BODY_RATE, BUCKET_RATE_WINDOW);
        let slow = self.clone();
        let bytes = with_rate_floor(self.clone().body(response, place).boxed(), floor, move || {
            slow.gate.failed();
            BucketError::TimedOut
        });
        Ok(Some(ObjectBody { len, bytes }))
    }

    /// The body of a response, each part within the longest pause.
    fn body(self: Arc<Self>, response: Response, place: BucketPlace) -> impl Stream<Item = Result<Bytes, BucketError>> {
        let parts = (self, response, Some(place));
        futures_util::stream::unfold(parts, |(bucket, mut response, place)| async move {
            place.as_ref()?;
            match timeout(bucket.idle_timeout, response.chunk()).await {
                Ok(Ok(Some(chunk))) => Some((Ok(chunk), (bucket, response, place))),
                Ok(Ok(None)) => None,
                failed => {
                    let error = failed.map_or(BucketError::TimedOut, |_| BucketError::Unreachable);
                    bucket.gate.failed();
                    Some((Err(error), (bucket, response, None)))
                }
            }
        })
    }

    /// The length of an object; `None` where there is none.
    pub(super) async fn len(&self, name: &ObjectName) -> Result<Option<u64>, BucketError> {
        let _place = self.gate.place(self.response_timeout).await?;
        let url = sign(&mut self.bucket.head_object(Some(&self.credentials), &self.full_name(name)));
        let exchange = async {
            let response = self.http.head(url).send().await.map_err(|error| of_reqwest(&error))?;
            let len = response.headers().get(http::header::CONTENT_LENGTH);
            match response.status() {
                StatusCode::OK => {
                    Ok(Some(len.and_then(|len| len.to_str().ok()?.parse().ok()).ok_or(BucketError::Damaged)?))
                }
                StatusCode::NOT_FOUND => Ok(None),
                status => Err(BucketError::Status(status.as_u16())),
            }
        };
        self.note(BucketOperation::Look, in_time(self.response_timeout, exchange).await)
    }

    /// Writes a small object under a condition, once; returns the status.
    pub(super) async fn put(
        &self,
        name: &ObjectName,
        bytes: Bytes,
        condition: WriteCondition<'_>,
    ) -> Result<StatusCode, BucketError> {
        let place = self.gate.place(self.response_timeout).await?;
        let len = bytes.len() as u64;
        let status = self.write(name, Body::from(bytes), len, condition, self.response_timeout).await;
        drop(place);
        match status {
            // What it means for the caller depends on the condition; the bucket works.
            Ok(status) if !status.is_server_error() => self.gate.succeeded(),
            Ok(_) => {}
            Err(error) => return self.note(BucketOperation::Decide, Err(error)),
        }
        status
    }

    /// Writes a zip under the name of its digest: every mirror writes the same bytes.
    pub(super) async fn upload(
        &self,
        name: &ObjectName,
        bytes: BoxStream<'static, std::io::Result<Bytes>>,
        len: u64,
    ) -> Result<(), BucketError> {
        let _place = self.gate.place(self.response_timeout).await?;
        let deadline = self.response_timeout + Duration::from_secs(len / MIN_BUCKET_UPLOAD_RATE);
        let written = self.write(name, Body::wrap_stream(bytes), len, WriteCondition::None, deadline).await;
        let written = written.and_then(|status| match status.is_success() {
            true => Ok(()),
            false => Err(BucketError::Status(status.as_u16())),
        });
        self.note(BucketOperation::Upload, written)
    }

    async fn write(
        &self,
        name: &ObjectName,
        body: Body,
        len: u64,
        condition: WriteCondition<'_>,
        deadline: Duration,
    ) -> Result<StatusCode, BucketError> {
        let url = sign(&mut self.bucket.put_object(Some(&self.credentials), &self.full_name(name)));
        let request = self.http.request(Method::PUT, url).header(http::header::CONTENT_LENGTH, len).body(body);
        let request = match condition {
            WriteCondition::Absent => request.header(http::header::IF_NONE_MATCH, "*"),
            WriteCondition::AbsentByOwnHeader => request.header("x-oss-forbid-overwrite", "true"),
            // Without its quotation marks: services differ in whether they compare them.
            WriteCondition::Unchanged(etag) => request.header(http::header::IF_MATCH, etag.trim_matches('"')),
            WriteCondition::None => request,
        };
        let exchange = async { request.send().await.map_err(|error| of_reqwest(&error)) };
        Ok(in_time(deadline, exchange).await?.status())
    }

    /// Deletes an object; without one, nothing happens.
    pub(super) async fn delete(&self, name: &ObjectName) -> Result<(), BucketError> {
        let _place = self.gate.place(self.response_timeout).await?;
        let url = sign(&mut self.bucket.delete_object(Some(&self.credentials), &self.full_name(name)));
        let exchange = async {
            let response = self.http.delete(url).send().await.map_err(|error| of_reqwest(&error))?;
            match response.status() {
                status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
                status => Err(BucketError::Status(status.as_u16())),
            }
        };
        self.note(BucketOperation::Delete, in_time(self.response_timeout, exchange).await)
    }

    /// Records that a caller stopped waiting for an answer.
    pub fn note_timeout(&self) {
        // The result is only recorded.
        let _ = self.note::<()>(BucketOperation::Read, Err(BucketError::TimedOut));
    }

    /// Records the result of a request in the gate and the counters, and returns it.
    pub(super) fn note<T>(&self, operation: BucketOperation, result: Result<T, BucketError>) -> Result<T, BucketError> {
        self.counters.note(operation, result.as_ref().err());
        match &result {
            Ok(_) | Err(BucketError::Damaged) => self.gate.succeeded(),
            Err(error) => {
                tracing::debug!(?operation, %error, "a request to the bucket failed");
                self.gate.failed();
            }
        }
        result
    }

    /// The name of an object with the configured prefix.
    fn full_name(&self, name: &ObjectName) -> String {
        format!("{}{}", self.prefix, name.as_str())
    }
}

/// The address of a signed request.
pub(super) fn sign<'a>(action: &mut impl S3Action<'a>) -> Url {
    action.sign(ADDRESS_LIFETIME)
}

/// Sends a small request again where its connection broke.
pub(super) async fn with_retry<T, F: Future<Output = Result<T, BucketError>>>(
    mut request: impl FnMut() -> F,
) -> Result<T, BucketError> {
    let mut attempt = 1;
    loop {
        match request().await {
            Err(BucketError::Unreachable) if attempt < SMALL_REQUEST_ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn in_time<T>(
    deadline: Duration,
    exchange: impl Future<Output = Result<T, BucketError>>,
) -> Result<T, BucketError> {
    timeout(deadline, exchange).await.unwrap_or(Err(BucketError::TimedOut))
}

fn header(response: &Response, name: http::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn of_reqwest(error: &reqwest::Error) -> BucketError {
    if error.is_timeout() { BucketError::TimedOut } else { BucketError::Unreachable }
}

fn date(response: &Response, name: http::HeaderName) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(header(response, name)?).ok()
}
