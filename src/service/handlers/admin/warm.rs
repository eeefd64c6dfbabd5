//! `POST /-/warm`: fills the mirror ahead of its clients, and tells how far it is.
//!
//! With `{"package"}` the release list and the latest release are stored and told. With `{"package", "version"}` the zip
//! is stored; lines `{"bytes", "total"}` come before the last one, which has `done` or `failed`. With `"only_first_seen": true`
//! nothing is fetched and `{"first_seen"}` told, with `"only_stored": true` nothing but `{"stored", "limit"}`: whether it is on
//! disk, and how many bytes may be.

use std::sync::Arc;

use futures_util::stream;
use http::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AdminError, Input, lines, one, read};
use crate::{
    dialect::{ApiRequest, Names, PackageId},
    http::body::Body,
    origin::FetchError,
    package::Version,
    registry::{
        CacheFailure, FillUpdate, Registry, RegistryError,
        resolve::ResolvedVersion,
        warming::{ListedRelease, PackageLists, WarmingArchive},
    },
    service::error::{ApiError, whole_seconds},
};

const INDEX: &str = "the index of the cache cannot be read";
const PINS: &str = "the record of what was first seen cannot be read";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    package: String,
    version: Option<String>,
    /// Fetch nothing and tell when the version was first seen.
    #[serde(default)]
    only_first_seen: bool,
    /// Fetch nothing and tell whether the version is on disk.
    #[serde(default)]
    only_stored: bool,
}

/// Answers the request.
///
/// # Errors
/// 400 for a name or version that cannot be; what goes wrong later is told in the answer.
pub(super) async fn answer(mirror: &Arc<Registry>, names: &Names, input: Input) -> Result<Response<Body>, AdminError> {
    let wanted: Wanted = read(input).await?;
    let package = names.parse_package(&wanted.package).map_err(|error| AdminError::bad(error.to_string()))?;
    let target = package.clone();
    let Some(version) = wanted.version else {
        return Ok(one(&match mirror.warming().lists(&target).await {
            Ok(lists) => listed(&lists, mirror, &target),
            Err(error) => failed(error, &ApiRequest::Releases { package, page: None }, mirror, &target),
        }));
    };
    let version: Version = version.parse().map_err(|why: crate::package::NameError| AdminError::bad(why.0))?;
    if wanted.only_first_seen {
        let seen =
            mirror.inventory().first_seen(&target, &version).await.map_err(|error| AdminError::failed(PINS, error))?;
        return Ok(one(&json!({"first_seen": seen})));
    }
    if wanted.only_stored {
        let stored =
            mirror.inventory().is_stored(&target, &version).await.map_err(|error| AdminError::failed(INDEX, error))?;
        let disk = mirror.inventory().usage().disk;
        return Ok(one(&json!({"stored": stored, "limit": disk.limit})));
    }
    Ok(lines(stream::unfold(Step::Begin(Zip { mirror: mirror.clone(), target, package, version }), Step::next)))
}

/// What is asked for.
struct Zip {
    mirror: Arc<Registry>,
    target: PackageId,
    package: PackageId,
    version: Version,
}

enum Step {
    Begin(Zip),
    Follow(Zip, Box<WarmingArchive>),
    End,
}

impl Step {
    /// The next line, and what follows it.
    async fn next(self) -> Option<(Value, Self)> {
        let (zip, mut warming) = match self {
            Self::End => return None,
            Self::Follow(zip, warming) => (zip, warming),
            Self::Begin(zip) => match zip.mirror.warming().archive(&zip.target, &zip.version).await {
                Ok(warming) => (zip, Box::new(warming)),
                Err(error) => return Some((zip.failed(error), Self::End)),
            },
        };
        match warming.next().await {
            Ok(FillUpdate::Progress { bytes, total }) => {
                Some((json!({"bytes": bytes, "total": total}), Self::Follow(zip, warming)))
            }
            Ok(FillUpdate::Stored(meta)) => {
                let (tag, commit) = match &warming.resolved {
                    ResolvedVersion::Tag(tag) => (Some(tag), meta.verified.commit.as_ref()),
                    ResolvedVersion::Commit(commit) | ResolvedVersion::Branch { commit, .. } => (None, Some(commit)),
                };
                let mut line = json!({
                    "done": true, "tag": tag, "commit": commit, "digest": meta.digest.to_string(), "len": meta.len,
                    "cached": warming.cached,
                });
                line["allowance"] = allowance(&zip.mirror, &zip.target);
                Some((line, Self::End))
            }
            Err(error) => Some((zip.failed(error), Self::End)),
        }
    }
}

impl Zip {
    fn failed(&self, error: RegistryError) -> Value {
        let ask = ApiRequest::Archive { package: self.package.clone(), version: self.version.clone() };
        failed(error, &ask, &self.mirror, &self.target)
    }
}

fn listed(lists: &PackageLists, mirror: &Registry, target: &PackageId) -> Value {
    let release = |listed: &ListedRelease| {
        let release = &listed.release;
        json!({
            "tag": release.tag_name, "created_at": release.created_at, "published_at": release.published_at,
            "prerelease": release.prerelease, "stored": listed.stored, "len": listed.len,
        })
    };
    json!({
        "releases": lists.releases.iter().map(release).collect::<Vec<_>>(),
        "latest": lists.latest,
        "allowance": allowance(mirror, target),
    })
}

fn failed(error: RegistryError, ask: &ApiRequest, mirror: &Registry, target: &PackageId) -> Value {
    let kind = match &error {
        RegistryError::Fetch(CacheFailure { error, .. }) => kind(error),
        RegistryError::Forbidden => "refused",
    };
    let error = ApiError::from(error).describe(Some(ask), None);
    json!({
        "failed": true, "kind": kind, "reason": error.message, "retry_after": error.retry_after.map(whole_seconds),
        "allowance": allowance(mirror, target),
    })
}

/// What a failure means for whoever thinks of trying again: `unreachable` and `trouble` may pass.
fn kind(error: &FetchError) -> &'static str {
    match error {
        FetchError::NotFound(_) | FetchError::Blocked | FetchError::Offline { .. } => "missing",
        FetchError::Unreachable(_) | FetchError::Timeout(_) => "unreachable",
        FetchError::CoolingDown { cause, .. } => kind(cause),
        FetchError::Throttled { .. } | FetchError::Invalid(_) => "trouble",
        FetchError::Status(401 | 403) => "refused",
        FetchError::Status(_) => "trouble",
        FetchError::TooLarge { .. } | FetchError::PinMismatch | FetchError::Loop | FetchError::Refused(_) => "refused",
    }
}

/// What the package's upstream still allows; times in seconds from now.
fn allowance(mirror: &Registry, target: &PackageId) -> Value {
    let allowance = mirror.warming().rate_limit(target);
    let reset = allowance.reset.map(|reset| reset.duration_since(Timestamp::now()).as_secs().max(0));
    json!({
        "upstream": &*target.upstream, "remaining": allowance.remaining, "reset_in": reset,
        "wait": allowance.wait.map(whole_seconds),
    })
}
