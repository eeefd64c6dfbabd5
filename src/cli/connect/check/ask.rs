//! One question to the mirror.

use std::{error::Error, io};

use reqwest::{Client, Response, header::HeaderName};
use serde_json::Value;

/// Most bytes of an answer that are looked at.
const MOST: usize = 16 << 20;

/// What came back.
pub(super) struct Asked {
    pub(super) status: u16,
    /// What the cache did: the first parameter of `Cache-Status`.
    pub(super) cache: String,
    /// The body; of a zip only its beginning.
    pub(super) body: Vec<u8>,
}

/// Why nothing came back.
pub(super) struct Failure {
    pub(super) reason: String,
    /// There was no connection.
    pub(super) connecting: bool,
    /// There was none because the certificate is not trusted or not for the name.
    pub(super) certificate: bool,
}

/// Asks for an address.
pub(super) async fn get(client: &Client, url: &str, headers: &[(HeaderName, &str)]) -> Result<Asked, Failure> {
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let answer = request.send().await.map_err(Failure::of)?;
    let status = answer.status().as_u16();
    let cache = answer.headers().get("cache-status").and_then(|value| value.to_str().ok());
    let cache = cache.and_then(|text| text.split(';').nth(1)).unwrap_or_default().trim().to_owned();
    let zip = answer.headers().get("content-type").is_some_and(|kind| kind == "application/zip");
    let body = body(answer, if zip { 4 } else { MOST }).await?;
    Ok(Asked { status, cache, body })
}

/// Reads until there are `enough` bytes.
async fn body(mut answer: Response, enough: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(Failure::of)? {
        body.extend_from_slice(&part);
        if body.len() >= enough {
            break;
        }
    }
    Ok(body)
}

impl Asked {
    /// The body as JSON, or null.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What an error says in any of the envelopes.
    pub(super) fn complaint(&self) -> String {
        let value = self.json();
        let places = ["/errors/0/message", "/message", "/Error/Message", "/body"];
        let text = places.iter().find_map(|at| value.pointer(at)?.as_str()).unwrap_or("and no reason is given");
        // Whatever answers there, it does not write to this terminal as it likes.
        text.chars().filter(|c| !c.is_control()).take(300).collect()
    }
}

impl Failure {
    fn of(why: reqwest::Error) -> Self {
        let mut certificate = false;
        let mut last = String::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(&why);
        while let Some(cause) = next {
            certificate |= matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)));
            last = cause.to_string();
            // An I/O error hides the error it was made of from `source`.
            next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => cause.source(),
            };
        }
        let reason = if certificate {
            format!("its certificate is not trusted here ({last}); a private authority is named with --ca-file")
        } else if why.is_timeout() {
            "no answer in time".to_owned()
        } else {
            last
        };
        Self { reason, connecting: why.is_connect() || (why.is_timeout() && why.is_request()), certificate }
    }
}
