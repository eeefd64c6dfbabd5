//! One request to the mirror, and what its response says.

use std::{error::Error, io};

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

/// Maximum length of a response body that is read, in bytes.
const MAX_CHECK_BODY_BYTES: usize = 16 << 20;

/// Number of body bytes of a zip that are read: its signature.
const ZIP_SIGNATURE_BYTES: usize = 4;

/// Maximum length of an error message that is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// The mirror's response to one request.
pub(super) struct CheckResponse {
    pub(super) status: u16,
    /// The first parameter of `Cache-Status`, such as `hit`; empty without that field.
    pub(super) cache: String,
    /// The body; of a zip only its first bytes.
    pub(super) body: Vec<u8>,
}

/// A request without a response that a client can use.
pub(super) struct RequestFailure {
    /// The cause, for the user.
    pub(super) reason: String,
    /// No connection was established.
    pub(super) connect_failed: bool,
    /// The certificate is not trusted, or not for the name.
    pub(super) certificate_invalid: bool,
}

/// Sends a request and reads the response, of a zip only its first bytes.
///
/// # Errors
/// When there is no connection, no response in time, or the body breaks off.
pub(super) async fn get(request: RequestBuilder) -> Result<CheckResponse, RequestFailure> {
    let response = request.send().await.map_err(RequestFailure::of)?;
    let status = response.status().as_u16();
    let cache = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
    let cache = cache.and_then(|text| text.split(';').nth(1)).unwrap_or_default().trim().to_owned();
    let zip = response.headers().get("content-type").is_some_and(|kind| kind == "application/zip");
    let body = read_body(response, if zip { ZIP_SIGNATURE_BYTES } else { MAX_CHECK_BODY_BYTES }).await?;
    Ok(CheckResponse { status, cache, body })
}

/// Reads the body until it ends or has at least `max` bytes.
async fn read_body(mut response: Response, max: usize) -> Result<Vec<u8>, RequestFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(RequestFailure::of)? {
        body.extend_from_slice(&chunk);
        if body.len() >= max {
            break;
        }
    }
    Ok(body)
}

impl CheckResponse {
    /// The body as JSON; null when it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The message of an error response, whichever envelope it has, without control characters.
    pub(super) fn error_message(&self) -> String {
        let value = self.json();
        let pointers = ["/errors/0/message", "/message", "/Error/Message", "/body"];
        let text = pointers.iter().find_map(|pointer| value.pointer(pointer)?.as_str()).unwrap_or("without a message");
        text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
    }
}

impl RequestFailure {
    /// For a response that refuses the request.
    pub(super) fn of_response(reason: String) -> Self {
        Self { reason, connect_failed: false, certificate_invalid: false }
    }

    fn of(error: reqwest::Error) -> Self {
        let mut certificate_invalid = false;
        let mut last = String::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(cause) = next {
            certificate_invalid |= matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)));
            last = cause.to_string();
            // `source` of an I/O error skips the error that it wraps; `get_ref` does not.
            next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => cause.source(),
            };
        }
        let reason = if certificate_invalid {
            format!("its certificate is not trusted ({last}); --ca-file names a private authority")
        } else if error.is_timeout() {
            "no response in time".to_owned()
        } else {
            last
        };
        let connect_failed = error.is_connect() || (error.is_timeout() && error.is_request());
        Self { reason, connect_failed, certificate_invalid }
    }
}
