//! How warming talks to a mirror: by the control socket, or by the routes that every client has.

use std::{fmt::Write as _, time::Duration};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use reqwest::{Method, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    package_spec::{RawName, segment},
    select::Listed,
};
use crate::{
    cli::admin_client::{AdminClient, Refused, Unavailable},
    value::ByteSize,
};

/// What warming asks of a mirror.
pub(super) trait WarmTarget {
    /// Has the lists of a package stored, and reads them.
    async fn lists(&self, package: &RawName) -> Result<Lists, FetchFailure>;

    /// When the mirror first saw a version, where it tells.
    async fn first_seen(&self, package: &RawName, version: &str) -> Option<Timestamp>;

    /// The limit of the disk where a tag or commit that was stored is not on it any more; `None` while it is, and where
    /// the mirror does not tell.
    async fn lost(&self, package: &RawName, version: &str) -> Result<Option<ByteSize>, FetchFailure>;

    /// Has a zip stored.
    async fn fill(&self, package: &RawName, version: &str, hear: ProgressFn<'_>) -> Result<Stored, FetchFailure>;
}

/// A mirror that is to be filled.
pub(super) struct MirrorClient<'s> {
    session: &'s AdminClient,
    /// By the control socket; else only the plain routes answer.
    control: bool,
}

/// What a mirror has of a package.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lists {
    /// Its releases.
    pub(super) releases: Vec<Listed>,
    /// The tag that the upstream calls latest.
    pub(super) latest: Option<String>,
    /// What the upstream still allows.
    pub(super) allowance: Option<Allowance>,
}

/// What an upstream still allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Allowance {
    /// Its name.
    pub(super) upstream: String,
    /// Requests left.
    pub(super) remaining: Option<u64>,
    /// Seconds until the quota is filled up again.
    pub(super) reset_in: Option<u64>,
    /// Seconds for which nothing is asked.
    pub(super) wait: Option<u64>,
}

/// A zip that is stored now.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    /// SHA-256, hexadecimal.
    pub(super) digest: String,
    /// Bytes.
    pub(super) len: u64,
    /// True when it was stored before.
    pub(super) cached: bool,
    /// The tag that it is of, where it is of one and the mirror tells.
    pub(super) tag: Option<String>,
    /// The full commit, where the zip or the version tells it.
    pub(super) commit: Option<String>,
    /// What the upstream still allows.
    pub(super) allowance: Option<Allowance>,
}

/// Why something is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FetchFailure {
    /// For a person.
    pub(super) reason: String,
    /// What trying again would do.
    pub(super) kind: Kind,
    /// When to come again.
    pub(super) retry_after: Option<Duration>,
    /// What the upstream still allows.
    pub(super) allowance: Option<Allowance>,
}

/// What trying again would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Nothing: it is not there.
    Missing,
    /// Nothing: it is refused.
    Refused,
    /// It may help: the upstream, or the mirror, cannot be reached.
    Unreachable,
    /// It may help.
    FetchFailure,
}

/// Hears how many bytes there are, and of how many where that is known.
pub(super) type ProgressFn<'h> = &'h mut dyn FnMut(u64, Option<u64>);

impl<'s> MirrorClient<'s> {
    /// Talks through an open session.
    pub(super) fn by(session: &'s AdminClient, control: bool) -> Self {
        Self { session, control }
    }

    /// By the plain route: a look whether it is there, else its bytes are read and dropped.
    async fn download(&self, package: &RawName, version: &str, hear: ProgressFn<'_>) -> Result<Stored, FetchFailure> {
        let path = format!("{}/zipball/{}", package.path(), segment(version));
        let sent = self.session.request(Method::HEAD, &path).send().await;
        let head = sent.map_err(|_| broken())?;
        if head.status().is_success() && is_hit(&head) {
            let digest = text(&head, header::ETAG.as_str()).trim_matches('"').to_owned();
            let len = text(&head, header::CONTENT_LENGTH.as_str()).parse().unwrap_or_default();
            return Ok(Stored { digest, len, cached: true, ..Stored::default() });
        }
        let response = self.session.get(&path).await.map_err(trouble)?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let no_room = text(&response, "cache-status").contains("detail=no-room");
        let total = response.content_length();
        let mut stream = response.bytes_stream();
        let mut sum = Sha256::new();
        let mut bytes = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| broken())?;
            bytes += chunk.len() as u64;
            sum.update(&chunk);
            hear(bytes, total);
        }
        if no_room {
            return Err(FetchFailure::new(Kind::Refused, "the mirror has no room for it"));
        }
        let mut digest = String::new();
        for byte in sum.finalize() {
            let _ = write!(digest, "{byte:02x}");
        }
        Ok(Stored { digest, len: bytes, ..Stored::default() })
    }
}

impl WarmTarget for MirrorClient<'_> {
    async fn lists(&self, package: &RawName) -> Result<Lists, FetchFailure> {
        if self.control {
            let answer = self.session.post("warm", &json!({"package": package.as_str()})).await.map_err(trouble)?;
            return read(answer);
        }
        let path = package.path();
        let list = self.session.get(&format!("{path}/releases")).await.map_err(trouble)?;
        let releases = match answered(list).await {
            // A repository without releases may have tags and branches.
            Err(why) if why.kind == Kind::Missing && why.reason.ends_with("has no release") => Vec::new(),
            list => serde_json::from_value(list?).map_err(|_| nonsense())?,
        };
        let latest = self.session.get(&format!("{path}/releases/latest")).await.map_err(trouble)?;
        let latest = match answered(latest).await {
            Err(why) if why.kind == Kind::Missing => None,
            latest => latest?["tag_name"].as_str().map(str::to_owned),
        };
        Ok(Lists { releases, latest, allowance: None })
    }

    /// Plain routes do not tell.
    async fn first_seen(&self, package: &RawName, version: &str) -> Option<Timestamp> {
        if !self.control {
            return None;
        }
        let ask = json!({"package": package.as_str(), "version": version, "only_first_seen": true});
        self.session.post("warm", &ask).await.ok()?["first_seen"].as_str()?.parse().ok()
    }

    async fn lost(&self, package: &RawName, version: &str) -> Result<Option<ByteSize>, FetchFailure> {
        if !self.control {
            return Ok(None);
        }
        let ask = json!({"package": package.as_str(), "version": version, "only_stored": true});
        let answer = self.session.post("warm", &ask).await.map_err(trouble)?;
        Ok((answer["stored"] == false).then(|| ByteSize(answer["limit"].as_u64().unwrap_or_default())))
    }

    async fn fill(&self, package: &RawName, version: &str, hear: ProgressFn<'_>) -> Result<Stored, FetchFailure> {
        if !self.control {
            return self.download(package, version, hear).await;
        }
        let ask = json!({"package": package.as_str(), "version": version});
        let mut last = None;
        let each = |line: Value| {
            match (line["bytes"].as_u64(), line["done"].is_null() && line["failed"].is_null()) {
                (Some(bytes), true) => hear(bytes, line["total"].as_u64()),
                _ => last = Some(line),
            }
            Ok(())
        };
        self.session.lines("warm", &ask, each).await.map_err(trouble)?;
        match last {
            Some(line) => read(line),
            None => Err(broken()),
        }
    }
}

impl FetchFailure {
    /// A trouble in our words.
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind, retry_after: None, allowance: None }
    }
}

fn broken() -> FetchFailure {
    FetchFailure::new(Kind::Unreachable, "the connection to the mirror broke")
}

fn nonsense() -> FetchFailure {
    FetchFailure::new(Kind::FetchFailure, "the mirror answered nonsense")
}

/// An answer of the administration: what was asked for, or why not.
fn read<T: for<'a> Deserialize<'a>>(mut answer: Value) -> Result<T, FetchFailure> {
    if answer["failed"].is_null() {
        return serde_json::from_value(answer).map_err(|_| nonsense());
    }
    Err(FetchFailure {
        reason: answer["reason"].as_str().unwrap_or("the mirror does not say why").to_owned(),
        kind: serde_json::from_value(answer["kind"].take()).unwrap_or(Kind::FetchFailure),
        retry_after: answer["retry_after"].as_u64().map(Duration::from_secs),
        allowance: serde_json::from_value(answer["allowance"].take()).ok(),
    })
}

fn trouble(error: anyhow::Error) -> FetchFailure {
    if let Some(Refused { status, message }) = error.downcast_ref() {
        return FetchFailure::new(kind_of(*status, message), message.clone());
    }
    let kind = if error.is::<Unavailable>() { Kind::Unreachable } else { Kind::FetchFailure };
    FetchFailure::new(kind, error.to_string())
}

async fn answered(response: Response) -> Result<Value, FetchFailure> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let body = response.bytes().await.map_err(|_| broken())?;
    serde_json::from_slice(&body).map_err(|_| nonsense())
}

/// What an answer that is an error says.
async fn refusal(response: Response) -> FetchFailure {
    let status = response.status();
    let retry_after = text(&response, header::RETRY_AFTER.as_str()).parse().ok().map(Duration::from_secs);
    // Whoever is offline on purpose does not come back by being asked again.
    let offline = text(&response, "cache-status").contains("detail=offline");
    let body = response.bytes().await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reason = body["message"].as_str().map_or_else(|| format!("the mirror answered {status}"), str::to_owned);
    let kind = if offline { Kind::Missing } else { kind_of(status, &reason) };
    FetchFailure { retry_after, ..FetchFailure::new(kind, reason) }
}

/// Plain routes have a status and a sentence; which upstream failed how, only the sentence tells.
fn kind_of(status: StatusCode, reason: &str) -> Kind {
    match status.as_u16() {
        404 | 410 | 451 => Kind::Missing,
        504 => Kind::Unreachable,
        502 if reason.contains("cannot be reached") => Kind::Unreachable,
        502 if reason.starts_with("pin-mismatch") => Kind::Refused,
        429 | 500..=503 => Kind::FetchFailure,
        _ => Kind::Refused,
    }
}

fn is_hit(response: &Response) -> bool {
    response.headers().contains_key(header::ETAG) && text(response, "cache-status").starts_with("srm-mirror; hit")
}

fn text<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
