//! The client of a mirror that hosts packages: publishes, deletes, hides and shows versions, by the mirror's address.

use std::{io::Write as _, sync::Arc, time::Duration};

use anyhow::Context as _;
use percent_encoding::utf8_percent_encode;
use reqwest::{Body, Client, RequestBuilder, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use super::package_zip::{PackageZip, zip_body};
use crate::{
    admin_api::{
        ADMIN_PATH_PREFIX, CONTENT_DIGEST, Call, DeletedVersion, FailureCode, MAX_PUBLISH_ANSWER_BYTES, PublishError,
        PublishedVersion,
    },
    cli::{
        FAILED, UNAVAILABLE, admin_client::bounded, byte_bar::ByteBar, escape_terminal, mirror_token::MirrorToken,
        print,
    },
    dialect::PATH_ENCODE_SET,
    http::field::repr_digest,
    package::{ModelFinding, PackageName},
    upstream::system_roots,
    value::BaseUrl,
};

/// Longest time until the answer to a request without a body, and after the last byte of a body: the mirror verifies the
/// zip and waits for its disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// A body is sent at this rate at least, bytes per second.
const MIN_ZIP_UPLOAD_RATE: u64 = 10 << 10;
/// Longest time between two parts of an answer.
const ANSWER_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A mirror that hosts packages.
pub(super) struct HostedClient {
    client: Client,
    /// The address, without a slash at its end.
    base: String,
    /// Sent with every request: all go to `base`, and the client follows no redirect.
    token: Option<MirrorToken>,
}

/// What the mirror answered.
#[derive(Debug)]
pub(super) enum HostedAnswer<T> {
    /// It is done.
    Done(T),
    /// It is not.
    Refused(HostedRefusal),
}

impl<T> HostedAnswer<T> {
    /// The same answer, with the value of [`HostedAnswer::Done`] changed.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> HostedAnswer<U> {
        match self {
            Self::Done(value) => HostedAnswer::Done(change(value)),
            Self::Refused(refusal) => HostedAnswer::Refused(refusal),
        }
    }
}

/// Why something is not done.
#[derive(Debug)]
pub(super) struct HostedRefusal {
    pub(super) status: StatusCode,
    pub(super) error: PublishError,
}

impl HostedRefusal {
    /// Prints the refusal, and returns the exit code: whether the same request may succeed later.
    pub(super) fn report(&self, json: bool) -> u8 {
        report_refusal(&self.error, json);
        let is_temporary = self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED;
        let is_throttled = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if is_temporary || is_throttled { UNAVAILABLE } else { FAILED }
    }
}

/// A refusal as JSON.
#[derive(Serialize)]
struct RefusedEvent<'a> {
    event: &'static str,
    message: &'a str,
    /// The HTTP status; absent where nothing was sent.
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<FailureCode>,
    findings: &'a [ModelFinding],
}

/// Prints why something is not done: JSON on standard output, or lines on standard error.
pub(super) fn report_refusal(error: &PublishError, json: bool) {
    let PublishError { message, status, code, findings } = error;
    if json {
        let event = RefusedEvent { event: "refused", message, status, code: *code, findings };
        // Strings only: writing them cannot fail.
        print(&format!("{}\n", serde_json::to_string(&event).unwrap_or_default()));
        return;
    }
    let mut text = format!("srm-mirror: {}\n", escape_terminal(message));
    for finding in findings {
        text += &format!("  {}\n", escape_terminal(&finding.message));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl HostedClient {
    /// Makes a client; it connects with the first request.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub(super) fn new(base: &BaseUrl, token: Option<MirrorToken>) -> anyhow::Result<Self> {
        let trusted = if base.url().scheme() == "https" { system_roots() } else { &[] };
        let client = bounded::client_builder(trusted).build().context("set up the client")?;
        Ok(Self { client, base: base.as_str().trim_end_matches('/').to_owned(), token })
    }

    /// Publishes a version.
    ///
    /// # Errors
    /// When the mirror cannot be reached, does not answer in time, or answers with something else than its API says.
    pub(super) async fn publish(
        &self,
        package: &PackageName,
        version: &str,
        zip: &PackageZip,
        bar: Option<Arc<ByteBar>>,
    ) -> anyhow::Result<HostedAnswer<PublishedVersion>> {
        let file = zip.file.try_clone().context("open the zip")?;
        let request = self
            .client
            .put(self.zip_url(package, version))
            .header(header::CONTENT_TYPE, "application/zip")
            .header(header::CONTENT_LENGTH, zip.len)
            .header(header::EXPECT, "100-continue")
            .header(CONTENT_DIGEST, repr_digest(&zip.digest))
            .body(Body::wrap_stream(zip_body(Arc::new(file), zip.len, bar)));
        let limit = ANSWER_TIMEOUT + Duration::from_secs(zip.len / MIN_ZIP_UPLOAD_RATE);
        self.send(request, limit).await
    }

    /// Deletes a version for good.
    ///
    /// # Errors
    /// As [`HostedClient::publish`].
    pub(super) async fn delete(
        &self,
        package: &PackageName,
        version: &str,
    ) -> anyhow::Result<HostedAnswer<DeletedVersion>> {
        self.send(self.client.delete(self.zip_url(package, version)), ANSWER_TIMEOUT).await
    }

    /// Sends a request of the administration API.
    ///
    /// # Errors
    /// As [`HostedClient::publish`].
    pub(super) async fn call<C: Call>(&self, request: &C) -> anyhow::Result<HostedAnswer<C::Answer>> {
        let body = serde_json::to_vec(request).context("write the request")?;
        let request = self.client.post(format!("{}{ADMIN_PATH_PREFIX}{}", self.base, C::ROUTE)).body(body);
        self.send(request.header(header::CONTENT_TYPE, "application/json"), ANSWER_TIMEOUT).await
    }

    fn zip_url(&self, package: &PackageName, version: &str) -> String {
        let version = utf8_percent_encode(version, PATH_ENCODE_SET);
        format!("{}/{}/zipball/{version}", self.base, utf8_percent_encode(package.base_name(), PATH_ENCODE_SET))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> anyhow::Result<HostedAnswer<T>> {
        let request = MirrorToken::authorize(self.token.as_ref(), request);
        let mut response = bounded::send(request, limit).await?;
        let status = response.status();
        let body = bounded::read_body(&mut response, MAX_PUBLISH_ANSWER_BYTES, ANSWER_IDLE_TIMEOUT).await?;
        if status.is_success() {
            return bounded::parse_json(&body).map(HostedAnswer::Done);
        }
        let mut error: PublishError = serde_json::from_slice(&body).unwrap_or_else(|_| PublishError {
            message: format!("the mirror answered {status}"),
            status: status.as_u16().to_string(),
            code: None,
            findings: Vec::new(),
        });
        if status == StatusCode::UNAUTHORIZED {
            error.message = MirrorToken::refusal(self.token.as_ref(), &error.message);
        }
        Ok(HostedAnswer::Refused(HostedRefusal { status, error }))
    }
}
