//! Requests about credentials themselves: tokens of a GitHub App, and what a credential may do. Each has a deadline, a
//! bounded answer, and goes to the API's own origin only.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use crate::{
    origin::FetchError,
    upstream::{
        api_profile::ApiProfile,
        connect::UpstreamConnections,
        error_class::{self, ErrorResponse},
        failure::{self, invalid},
        gate::{Gate, IsApi},
        request::RequestKind,
        urls::ApiUrls,
    },
};

/// Largest answer, in bytes: a page of an App's installations.
const MAX_EXCHANGE_BYTES: usize = 1 << 20;

/// Sends requests about credentials to one API, through the breaker that all requests to it share.
pub(in crate::upstream) struct CredentialExchange {
    /// The upstream's name in the configuration.
    pub(in crate::upstream) upstream: String,
    pub(in crate::upstream) connections: Arc<UpstreamConnections>,
    pub(in crate::upstream) gate: Arc<Gate>,
    pub(in crate::upstream) urls: ApiUrls,
    pub(in crate::upstream) profile: &'static ApiProfile,
    pub(in crate::upstream) via: HeaderValue,
    /// Time limit of one request with its answer.
    pub(in crate::upstream) deadline: Duration,
}

/// A complete answer.
pub(super) struct ExchangeAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Vec<u8>,
}

impl CredentialExchange {
    /// Sends one request; `authenticate` adds the credential.
    ///
    /// # Errors
    /// When no complete answer arrives in time, and at once while the breaker is open.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        authenticate: impl FnOnce(&mut HeaderMap),
    ) -> Result<ExchangeAnswer, FetchError> {
        let attempt = self.gate.attempt(&url, IsApi::Yes)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(self.profile.accept));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::VIA, self.via.clone());
        for (name, value) in self.profile.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        authenticate(&mut headers);
        let mut request = self.connections.client().request(method.clone(), url).headers(headers);
        if method == Method::POST {
            request = request.header(header::CONTENT_LENGTH, "0");
        }
        let Ok(answer) = timeout(self.deadline, complete(request)).await else {
            self.connections.note_timeout(&self.upstream);
            let error = FetchError::Timeout(failure::RESPONSE_TIMED_OUT);
            attempt.failed(&error, None);
            return Err(error);
        };
        match &answer {
            Err(error) => attempt.failed(error, None),
            Ok(answer) if answer.status.is_server_error() => {
                let stated = error_class::stated_wait(&answer.headers, Timestamp::now());
                attempt.failed(&FetchError::Status(answer.status.as_u16()), stated);
            }
            Ok(_) => {
                self.connections.note_response();
                attempt.succeeded();
            }
        }
        answer
    }
}

async fn complete(request: reqwest::RequestBuilder) -> Result<ExchangeAnswer, FetchError> {
    let mut response = request.send().await.map_err(|error| failure::of_request(&error))?;
    let status = response.status();
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure::of_body(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_EXCHANGE_BYTES {
            return Err(invalid("an answer about a credential that is too large"));
        }
    }
    Ok(ExchangeAnswer { status, headers, body })
}

impl ExchangeAnswer {
    /// The JSON of the body.
    pub(super) fn json(&self) -> Result<Value, FetchError> {
        serde_json::from_slice(&self.body).map_err(|_| invalid("not JSON about a credential"))
    }

    /// Calls `read` with the answer as an error response.
    pub(super) fn as_error<T>(&self, read: impl FnOnce(ErrorResponse<'_>) -> T) -> T {
        let text = String::from_utf8_lossy(&self.body);
        read(ErrorResponse { status: self.status, headers: &self.headers, text: &text, kind: RequestKind::Api })
    }

    /// The upstream's time.
    pub(super) fn date(&self) -> Option<Timestamp> {
        error_class::date(&self.headers)
    }
}
