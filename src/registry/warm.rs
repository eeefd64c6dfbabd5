//! Filling the mirror ahead of its clients: the lists of a package, and the zip of a version followed to its end.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::{
    PackageId, Registry, RegistryError,
    origins::archive_key,
    resolve::{MIN_REVALIDATE_AGE, Resolved},
};
use crate::{
    cache::{
        Failure, Served,
        fill_watcher::{FillWatcher, Step},
    },
    entry::Meta,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{Release, Version, with_v_toggled},
    upstream::{DocumentAsk, GitRef, RateLimitStatus},
};

/// The release list and the latest release of a package, both stored now.
pub struct Lists {
    /// Every release, with what is known of its zip.
    pub releases: Vec<Listed>,
    /// The tag that the upstream calls latest.
    pub latest: Option<String>,
    /// How the list was come by.
    pub status: CacheStatus,
}

/// A release and what is known of its zip.
pub struct Listed {
    /// The release.
    pub release: Release,
    /// True when its zip is stored.
    pub stored: bool,
    /// The length of its zip, where it was ever seen.
    pub len: Option<u64>,
}

/// A zip on its way into the store.
pub struct WarmingArchive {
    /// What the version turned out to be.
    pub resolved: Resolved,
    /// True when it was stored before anybody asked.
    pub cached: bool,
    following: FillWatcher,
}

/// How far a zip is.
pub enum Warmed {
    /// It is arriving.
    Progress {
        /// Bytes so far.
        bytes: u64,
        /// The announced length.
        total: Option<u64>,
    },
    /// It is stored.
    Stored(Arc<Meta>),
}

impl Registry {
    /// Stores what clients ask first: the release list, not older than a few seconds, and the latest release. A list
    /// that has not changed costs one conditional request, and the latest release none.
    ///
    /// # Errors
    /// See [`RegistryError`]; a package without releases has an empty list.
    pub(super) async fn warm_lists(&self, target: &PackageId) -> Result<Lists, RegistryError> {
        self.authorize(target).await?;
        let list = match self.releases_within(target, Some(MIN_REVALIDATE_AGE)).await {
            Err(RegistryError::Fetch(Failure { error: FetchError::NotFound(Missing::Release), status })) => {
                return Ok(Lists { releases: Vec::new(), latest: None, status });
            }
            list => list?,
        };
        let unchanged = list.status.fwd.is_none() || list.status.fwd_status == Some(304) || list.status.used_stale;
        let latest = if unchanged && self.stored(target, &DocumentAsk::Latest).await.is_some() {
            self.stored_latest(target).await
        } else {
            self.fresh_latest(target).await?
        };
        let mut releases = Vec::with_capacity(list.value.releases.len());
        for release in &list.value.releases {
            let ask = self.archive_ask(target, GitRef::Tag(release.tag_name.clone()))?;
            let (stored, len) = self.cache.holding(&ask).await;
            releases.push(Listed { release: release.clone(), stored, len });
        }
        Ok(Lists { releases, latest, status: list.status })
    }

    async fn stored_latest(&self, target: &PackageId) -> Option<String> {
        let document = self.stored(target, &DocumentAsk::Latest).await?;
        let release: Release = serde_json::from_slice(&document.body).ok()?;
        Some(release.tag_name)
    }

    async fn fresh_latest(&self, target: &PackageId) -> Result<Option<String>, RegistryError> {
        let policy = self.cache.policies().releases(self.upstream(target)?.has_token()).at_most(MIN_REVALIDATE_AGE);
        match self.release_document(target, DocumentAsk::Latest, policy).await {
            Ok(latest) => Ok(Some(latest.value.tag_name.clone())),
            Err(RegistryError::Fetch(Failure { error: FetchError::NotFound(_), .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts the fill of a version, or joins it, and follows it. Dropping the answer leaves the fill alone.
    ///
    /// # Errors
    /// As [`Registry::archive`].
    pub(super) async fn warm(&self, target: &PackageId, version: &Version) -> Result<WarmingArchive, RegistryError> {
        let archive = self.find(target, version).await?;
        let reference = match &archive.resolved {
            Resolved::Tag(tag) => GitRef::Tag(tag.clone()),
            Resolved::Commit(commit) | Resolved::Branch { commit, .. } => GitRef::Commit(commit.clone()),
        };
        let cached = matches!(archive.answer.served, Served::Stored(_)) && archive.answer.status.fwd.is_none();
        let following = self.cache.follow(self.archive_ask(target, reference)?);
        Ok(WarmingArchive { resolved: archive.resolved, cached, following })
    }

    /// When a tag or commit was first seen; `None` where it never was. Asks nobody.
    ///
    /// # Errors
    /// When the record of pins cannot be read.
    pub(super) async fn first_seen(
        &self,
        target: &PackageId,
        version: &Version,
    ) -> Result<Option<Timestamp>, FetchError> {
        for reference in references(version) {
            let key = archive_key(&target.upstream, &target.name, &reference);
            if let Some(pin) = self.cache.pin(&key).await? {
                return Ok(Some(pin.first_seen));
            }
        }
        Ok(None)
    }

    /// True when a tag or commit is on disk, as far as the index knows. Asks nobody.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) async fn is_stored(&self, target: &PackageId, version: &Version) -> io::Result<bool> {
        for reference in references(version) {
            if self.cache.disk().holds(&archive_key(&target.upstream, &target.name, &reference)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What an upstream still allows.
    pub(super) fn allowance(&self, target: &PackageId) -> RateLimitStatus {
        self.upstream(target).map(|upstream| upstream.allowance()).unwrap_or_default()
    }
}

impl WarmingArchive {
    /// Waits for the next step. Nothing comes after [`Warmed::Stored`] or an error.
    ///
    /// # Errors
    /// Why the zip is not stored.
    pub async fn next(&mut self) -> Result<Warmed, RegistryError> {
        Ok(match self.following.next().await? {
            Step::Progress { bytes, total } => Warmed::Progress { bytes, total },
            Step::Stored(meta) => Warmed::Stored(meta),
        })
    }
}

/// What a version can be the name of, without asking anybody. A branch is no lasting name.
fn references(version: &Version) -> Vec<GitRef> {
    let tag = |name: &str| GitRef::Tag(name.to_owned());
    match version {
        Version::Branch(_) => Vec::new(),
        Version::Commit(sha) => vec![GitRef::Commit(sha.clone())],
        Version::Tag(name) => vec![tag(name)],
        Version::Name(name) => [Some(tag(name)), with_v_toggled(name).map(GitRef::Tag)].into_iter().flatten().collect(),
    }
}
