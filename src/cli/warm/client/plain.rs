//! Warming through the routes that every client has: `warm --server`.
//!
//! A request for a zip stores it. Why a request fails is the `code` of the error's envelope, else its status.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{FetchFailure, ProgressFn, RetryClass, WarmTarget};
use crate::{
    admin_api::{FailureCode, FilledArchive, ReleaseRow, StoredState, WarmedLists},
    cli::{
        admin_client::{
            MAX_ERROR_BYTES,
            bounded::{self, AnswerError, MinAverageRate},
        },
        mirror_token::MirrorToken,
        warm::package_spec::RawName,
    },
    config::Config,
    dialect::PATH_ENCODE_SET,
    entry::Digest,
    package::{DialectName, NameForm},
    upstream::system_roots,
    value::BaseUrl,
};

/// Longest time until the head of an answer: the mirror may have to fetch many pages of a list, or wait for an upstream.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest time between two parts of a body: the mirror may have to resume a broken download, and verifies a zip before
/// it sends its last bytes.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest release list, bytes.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Largest zip, bytes: it is hashed and dropped, so this only ends a body without an end.
const MAX_ZIP_BYTES: u64 = 64 << 30;

/// A mirror by its address.
pub(in crate::cli::warm) struct MirrorClient {
    client: Client,
    /// The address, without a slash at its end.
    base: String,
    /// Sent with every request: all go to `base`, and the client follows no redirect.
    token: Option<MirrorToken>,
}

/// The body of an error: of the srm, the simple and the v3 dialect.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorEnvelope {
    message: Option<String>,
    code: Option<FailureCode>,
    #[serde(rename = "Error")]
    simple: Option<SimpleError>,
    /// A text in an error of the v3 dialect.
    body: Option<Value>,
}

#[derive(Deserialize)]
struct SimpleError {
    #[serde(rename = "Message")]
    message: String,
}

/// A release in the envelope of the simple or the v3 dialect.
#[derive(Deserialize)]
struct EnvelopedRelease {
    #[serde(alias = "Response", alias = "body")]
    release: ZipAddress,
}

/// The member of a release that names its source.
#[derive(Deserialize)]
struct ZipAddress {
    zipball_url: String,
}

/// A release of a list, with the address of its zip, which names the package's source.
#[derive(Deserialize)]
struct SourcedRelease {
    #[serde(flatten)]
    row: ReleaseRow,
    zipball_url: Option<String>,
}

/// The member of a release that names its tag.
#[derive(Deserialize)]
struct LatestRelease {
    tag_name: Option<String>,
}

impl MirrorClient {
    /// Makes a client; it connects with the first request.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub(in crate::cli::warm) fn new(base: &BaseUrl, token: Option<MirrorToken>) -> anyhow::Result<Self> {
        let trusted = if base.url().scheme() == "https" { system_roots() } else { &[] };
        let client = bounded::client_builder(trusted).build().context("set up the client")?;
        Ok(Self { client, base: base.as_str().trim_end_matches('/').to_owned(), token })
    }

    /// The address of a version's zip; `form` is the route word, `zipball` or `flat`.
    fn zip_url(&self, package: &RawName, form: &str, version: &str) -> String {
        format!("{}{}/{form}/{}", self.base, package.path(), utf8_percent_encode(version, PATH_ENCODE_SET))
    }

    /// The package at its source by the routes of a dialect: the address of its latest zip names it.
    async fn source_in(&self, package: &RawName, dialect: DialectName) -> Result<RawName, FetchFailure> {
        let path = match dialect {
            DialectName::Srm | DialectName::Github => return Ok(package.clone()),
            DialectName::Simple => format!("/simple{}/releases/latest", package.path()),
            DialectName::V3 => format!("/v3/packages{}/release/latest", package.path()),
        };
        let latest: EnvelopedRelease = self.get_json(&path).await?;
        let source = package_of_zip(&latest.release.zipball_url, dialect).ok_or_else(FetchFailure::malformed)?;
        Ok(RawName::of_checked(source))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, FetchFailure> {
        let request = MirrorToken::authorize(self.token.as_ref(), request);
        Ok(bounded::send(request, HEAD_TIMEOUT).await?)
    }

    /// As the function of this name; for 401 the reason says which token was refused, or that one is needed.
    async fn ensure_success(&self, response: Response) -> Result<Response, FetchFailure> {
        let is_unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        ensure_success(response).await.map_err(|mut failure| {
            if is_unauthorized {
                failure.reason = MirrorToken::refusal(self.token.as_ref(), &failure.reason);
            }
            failure
        })
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, FetchFailure> {
        let response = self.send(self.client.get(format!("{}{path}", self.base))).await?;
        let mut response = self.ensure_success(response).await?;
        let body = bounded::read_body(&mut response, MAX_LIST_BYTES, BODY_IDLE_TIMEOUT).await.map_err(body_failure)?;
        serde_json::from_slice(&body).map_err(|_| FetchFailure::malformed())
    }
}

impl WarmTarget for MirrorClient {
    async fn store_lists(&self, package: &RawName, dialect: DialectName) -> Result<WarmedLists, FetchFailure> {
        let source = self.source_in(package, dialect).await?;
        let path = source.path();
        let listed = match self.get_json::<Vec<SourcedRelease>>(&format!("{path}/releases")).await {
            // A repository without releases may have tags and branches.
            Err(failure) if failure.code == Some(FailureCode::NoRelease) => Vec::new(),
            listed => listed?,
        };
        let of_zip = |first: &SourcedRelease| package_of_zip(first.zipball_url.as_deref()?, DialectName::Srm);
        let package = if source == *package { listed.first().and_then(of_zip) } else { Some(source.to_string()) };
        let releases = listed.into_iter().map(|listed| listed.row).collect();
        let latest = match self.get_json::<LatestRelease>(&format!("{path}/releases/latest")).await {
            Err(failure) if failure.class == RetryClass::Missing => None,
            latest => latest?.tag_name,
        };
        Ok(WarmedLists { releases, latest, quota: None, package })
    }

    async fn first_seen(&self, _: &RawName, _: &str) -> Option<Timestamp> {
        None
    }

    async fn stored_state(&self, _: &RawName, _: &str) -> Result<Option<StoredState>, FetchFailure> {
        Ok(None)
    }

    /// A HEAD request shows whether it is stored; if not, the zip is read, hashed and dropped.
    async fn fill(
        &self,
        package: &RawName,
        version: &str,
        progress: ProgressFn<'_>,
    ) -> Result<FilledArchive, FetchFailure> {
        let url = self.zip_url(package, "zipball", version);
        let head = self.send(self.client.head(&url)).await.map_err(|_| FetchFailure::disconnected())?;
        if let Some(stored) = stored_archive(&head) {
            return Ok(stored);
        }
        let response = self.send(self.client.get(&url)).await?;
        let mut response = self.ensure_success(response).await?;
        let no_room = cache_status(&response).any(|parameter| parameter == "detail=no-room");
        let total = response.content_length();
        let mut sha = Sha256::new();
        let mut len = 0;
        let mut rate = MinAverageRate::new();
        loop {
            let chunk = bounded::read_chunk(&mut response, BODY_IDLE_TIMEOUT).await;
            let Some(chunk) = chunk.map_err(|_| FetchFailure::disconnected())? else { break };
            rate.count(chunk.len())?;
            len += chunk.len() as u64;
            sha.update(&chunk);
            progress(len, total);
            if len > MAX_ZIP_BYTES {
                return Err(FetchFailure::new(RetryClass::Refused, "the zip has no end"));
            }
        }
        if no_room {
            return Err(FetchFailure::new(RetryClass::Refused, "the mirror has no room for it"));
        }
        let digest = Digest(sha.finalize().into());
        Ok(FilledArchive { digest, len, cached: false, tag: None, commit: None, quota: None })
    }

    async fn flat_digest(&self, package: &RawName, version: &str) -> Option<Digest> {
        let head = self.send(self.client.head(self.zip_url(package, "flat", version))).await.ok()?;
        stored_archive(&head).map(|archive| archive.digest)
    }
}

/// The package that a zip's address in a dialect names, as `upstream:name`. Of the addresses of the srm dialect only those on
/// a registry that every mirror has: a forge's name in one may as well be an owner.
fn package_of_zip(zipball_url: &str, dialect: DialectName) -> Option<String> {
    let address = url::Url::parse(zipball_url).ok()?;
    let segments: Vec<&str> = address.path_segments()?.collect();
    let zipball = segments.iter().position(|segment| *segment == "zipball")?;
    let before = &segments[..zipball];
    match dialect {
        DialectName::Srm | DialectName::Github => {
            let [.., upstream, name] = before else { return None };
            let known = Config::default().named_upstreams();
            let registry = known.iter().find(|known| known.form == NameForm::Plain && *known.name == **upstream)?;
            Some(format!("{}:{name}", registry.name))
        }
        DialectName::Simple => {
            let at = before.iter().rposition(|segment| *segment == "simple")?;
            let [upstream, name @ ..] = &before[at + 1..] else { return None };
            Some(format!("{upstream}:{}", name.join("/")))
        }
        DialectName::V3 => {
            let (upstream, name) = before.last()?.split_once("__")?;
            Some(format!("{upstream}:{}", name.replacen("__", "/", 1)))
        }
    }
}

/// The zip that a HEAD request found in the mirror's cache.
fn stored_archive(head: &Response) -> Option<FilledArchive> {
    if !head.status().is_success() || !cache_status(head).any(|parameter| parameter == "hit") {
        return None;
    }
    let digest = header_text(head, &header::ETAG)?.trim_matches('"').parse().ok()?;
    let len = header_text(head, &header::CONTENT_LENGTH)?.parse().ok()?;
    Some(FilledArchive { digest, len, cached: true, tag: None, commit: None, quota: None })
}

/// The parameters of the mirror's own member of `Cache-Status` (RFC 9211 §2), which is the first one: caches between the
/// mirror and this client append theirs.
fn cache_status(response: &Response) -> impl Iterator<Item = &str> {
    let status = response.headers().get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let own = status.split(',').next().filter(|member| member.starts_with("srm-mirror;"));
    own.unwrap_or_default().split(';').skip(1).map(str::trim)
}

/// The failure to read a body that breaks, stops or is too large.
fn body_failure(error: anyhow::Error) -> FetchFailure {
    match error.downcast_ref::<AnswerError>() {
        Some(_) => FetchFailure::new(RetryClass::Refused, error.to_string()),
        None => FetchFailure::new(RetryClass::Unreachable, error.to_string()),
    }
}

/// Returns the response if it is a success, else what its body says.
async fn ensure_success(mut response: Response) -> Result<Response, FetchFailure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after =
        header_text(&response, &header::RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let body = bounded::read_body(&mut response, MAX_ERROR_BYTES, BODY_IDLE_TIMEOUT).await.unwrap_or_default();
    Err(parse_failure(status, retry_after, &body))
}

/// The failure that an error response reports, in the envelope of any dialect.
fn parse_failure(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> FetchFailure {
    let ErrorEnvelope { message, code, simple, body } = serde_json::from_slice(body).unwrap_or_default();
    let text = body.as_ref().and_then(Value::as_str).map(str::to_owned);
    let message = message.or(simple.map(|error| error.message)).or(text);
    let reason = message.unwrap_or_else(|| format!("the mirror answered {status}"));
    let class = code.map_or_else(|| RetryClass::of_status(status), RetryClass::of_code);
    FetchFailure { reason, class, code, retry_after, quota: None }
}

fn header_text<'r>(response: &'r Response, name: &header::HeaderName) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_classified_by_its_code_else_by_its_status() {
        let class = |status: u16, body: &str| {
            parse_failure(StatusCode::from_u16(status).expect("a status"), None, body.as_bytes()).class
        };
        for (status, body, expected) in [
            (502, r#"{"message": "m", "code": "pin-mismatch"}"#, RetryClass::Refused),
            (502, r#"{"message": "m", "code": "upstream-unreachable"}"#, RetryClass::Unreachable),
            (503, r#"{"message": "m", "code": "offline"}"#, RetryClass::Missing),
            (404, r#"{"message": "m", "code": "no-release"}"#, RetryClass::Missing),
            (502, r#"{"message": "m", "code": "unknown"}"#, RetryClass::Transient),
            (502, r#"{"message": "pin-mismatch: it cannot be reached"}"#, RetryClass::Transient),
            (504, "<html>", RetryClass::Unreachable),
            (404, "", RetryClass::Missing),
            (429, "slow down", RetryClass::Transient),
            (403, "{}", RetryClass::Refused),
        ] {
            assert_eq!(class(status, body), expected, "{status} {body}");
        }
        for (body, expected) in [
            ("<html>", "the mirror answered 502 Bad Gateway"),
            (r#"{"message": "srm"}"#, "srm"),
            (r#"{"Error": {"Code": "NotFound", "Message": "simple"}}"#, "simple"),
            (r#"{"request_id": "1", "body": "v3"}"#, "v3"),
        ] {
            assert_eq!(parse_failure(StatusCode::BAD_GATEWAY, None, body.as_bytes()).reason, expected);
        }
    }

    #[test]
    fn the_address_of_a_zip_names_its_source() {
        let of_zip = |path: &str, dialect| package_of_zip(&format!("https://mirror.example{path}"), dialect);
        for (path, dialect, expected) in [
            ("/sub/official/fc3/zipball/0.1.22", DialectName::Srm, Some("official:fc3")),
            ("/devsapp/fc3/zipball/1.0.0", DialectName::Srm, None),
            ("/simple/official-2x/core/zipball/1.0.0", DialectName::Simple, Some("official-2x:core")),
            ("/sub/simple/github/devsapp/fc/zipball/1.0.0", DialectName::Simple, Some("github:devsapp/fc")),
            ("/v3/packages/official__fc3/zipball/1.0.0", DialectName::V3, Some("official:fc3")),
            ("/v3/packages/github__devsapp__fc3/zipball/1.0.0", DialectName::V3, Some("github:devsapp/fc3")),
            ("/zipball/1.0.0", DialectName::V3, None),
        ] {
            assert_eq!(of_zip(path, dialect).as_deref(), expected, "{path}");
        }
    }
}
