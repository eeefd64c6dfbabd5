//! What the mirror knows: the packages whose zips it has seen and those that the configuration names.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::{
    PackageId, Registry, RegistryError,
    metadata::manifest,
    origins::{archive_key, document_key},
    policy::Gone,
};
use crate::{
    cache::Failure,
    entry::{Document, Key, UpstreamStatus},
    http::cache_status::CacheStatus,
    package::{Manifest, PackageName, Repository, semantic},
    upstream::{DocumentAsk, GitRef},
};

/// The list is made anew after this long: making it walks over all pins.
const KEPT: Duration = Duration::from_secs(30);
/// Longest wait for upstreams that must say whether a package is private, and how many are asked at once.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOKS: usize = 8;

/// A package that may be shown.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// Which one; in lower case where it is known from its zips alone.
    pub target: PackageId,
    /// What the newest version that was seen says of it; empty where none was.
    pub manifest: Manifest,
}

/// Every package that may be shown, in order of upstream, owner and repository.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The packages.
    pub packages: Vec<CatalogEntry>,
    made_at: Timestamp,
}

/// The last list that was made.
pub(super) type CatalogCache = Mutex<Option<Arc<Catalog>>>;

/// May a package be shown?
enum Visibility {
    Yes,
    No,
    /// The upstream must be asked whether it is private; until it answers, this holds.
    Ask(bool),
}

impl Registry {
    /// Lists what the mirror knows and may serve; `named` are the packages that the configuration names.
    ///
    /// The answer is at most half a minute old. A package that may be private is left out until a look has shown
    /// that it is not; the looks go on behind an answer that does not wait for them.
    ///
    /// # Errors
    /// When the record of pins cannot be read.
    pub(super) async fn known(
        &self,
        named: impl Iterator<Item = PackageId>,
    ) -> Result<(Arc<Catalog>, Duration), RegistryError> {
        let mut kept = self.known.lock().await;
        let clock = self.cache.clock();
        if let Some(list) = kept.as_ref().filter(|list| clock.since(list.made_at) < KEPT) {
            return Ok((list.clone(), clock.since(list.made_at)));
        }
        let made_at = clock.now();
        let named: Vec<PackageId> = named.collect();
        let packages = self.list(named).await?;
        let list = kept.insert(Arc::new(Catalog { packages, made_at }));
        Ok((list.clone(), Duration::ZERO))
    }

    async fn list(&self, named: Vec<PackageId>) -> Result<Vec<CatalogEntry>, RegistryError> {
        let pinned = self.cache.pinned().await;
        let pinned = pinned.map_err(|error| Failure { error, status: CacheStatus::hit(None) })?;
        let mut newest = newest(&pinned);
        for target in named {
            newest.entry(id(&target)).or_insert((target, None));
        }
        let mut shown = BTreeSet::new();
        let mut undecided = Vec::new();
        for (id, (target, _)) in &newest {
            match self.may_list(target).await {
                Visibility::Yes => drop(shown.insert(id.clone())),
                Visibility::No => {}
                Visibility::Ask(meanwhile) => {
                    if meanwhile {
                        shown.insert(id.clone());
                    }
                    undecided.push((id.clone(), target.clone()));
                }
            }
        }
        for (id, public) in self.ask_whether_public(undecided).await {
            if public {
                shown.insert(id);
            } else {
                shown.remove(&id);
            }
        }
        let mut packages = Vec::with_capacity(shown.len());
        for (id, (target, tag)) in newest {
            if shown.contains(&id) {
                packages.push(CatalogEntry { manifest: self.manifest_of(&target, tag).await, target });
            }
        }
        Ok(packages)
    }

    async fn manifest_of(&self, target: &PackageId, tag: Option<String>) -> Manifest {
        let Some(tag) = tag else { return Manifest::default() };
        let key = archive_key(&target.upstream, &target.name, &GitRef::Tag(tag));
        let pin = self.cache.pin(&key).await.ok().flatten();
        pin.map(|pin| manifest(&pin.verified)).unwrap_or_default()
    }

    /// Decides by what is stored.
    async fn may_list(&self, target: &PackageId) -> Visibility {
        let Some(upstream) = self.upstreams.get(&*target.upstream) else { return Visibility::No };
        if !self.access.allows(&target.upstream, &target.name) {
            return Visibility::No;
        }
        let releases = self.peek(target, &DocumentAsk::Releases).await;
        match releases.as_ref().map(|document| document.meta.standing) {
            Some(UpstreamStatus::Blocked) => return Visibility::No,
            Some(UpstreamStatus::Gone) if self.access.gone == Gone::Follow => return Visibility::No,
            _ => {}
        }
        if !self.access.must_be_public(&target.upstream, &target.name) {
            return Visibility::Yes;
        }
        let repository = self.peek(target, &DocumentAsk::Repository).await;
        let latest = self.peek(target, &DocumentAsk::Latest).await;
        // A mirror that has no token any more may still hold what only the token could see.
        let with_token = |document: &Option<Document>| {
            document.as_ref().is_some_and(|document| document.meta.validators.asked_as.is_some())
        };
        if !upstream.has_token() && ![&releases, &latest, &repository].into_iter().any(with_token) {
            return Visibility::Yes;
        }
        let parse = |document: &Document| serde_json::from_slice::<Repository>(&document.body).ok();
        let public = repository.as_ref().and_then(parse).map(|repository| !repository.private);
        let lately = repository.is_some_and(|document| {
            self.cache.clock().since(document.meta.validated_at) <= self.cache.policies().repository.0
        });
        match public {
            Some(true) if lately => Visibility::Yes,
            Some(false) if lately => Visibility::No,
            // What was once fetched without a token was public then.
            None => Visibility::Ask(releases.is_some_and(|document| document.meta.validators.asked_as.is_none())),
            Some(public) => Visibility::Ask(public),
        }
    }

    async fn peek(&self, target: &PackageId, ask: &DocumentAsk) -> Option<Document> {
        self.cache.peek_document(&document_key(&target.upstream, &target.name, ask)).await
    }

    /// Asks the upstreams, for no longer than is polite to whoever waits for the list.
    async fn ask_whether_public(&self, undecided: Vec<(Id, PackageId)>) -> Vec<(Id, bool)> {
        let looks = stream::iter(undecided).map(async |(id, target)| (id, self.authorize(&target).await.is_ok()));
        let looks = looks.buffer_unordered(LOOKS).take_until(tokio::time::sleep(PATIENCE));
        pin!(looks).collect().await
    }
}

/// Upstream, owner and repository in lower case.
type Id = (String, String);

fn id(target: &PackageId) -> Id {
    (target.upstream.to_string(), target.name.folded())
}

/// The packages among the keys of zips, each with its newest tag: the highest semantic version, else the last by name.
fn newest(pinned: &[Key]) -> BTreeMap<Id, (PackageId, Option<String>)> {
    let mut packages = BTreeMap::new();
    for key in pinned {
        let mut parts = key.as_str().splitn(5, '/');
        let (Some(upstream), Some(owner), Some(repo), Some(kind), Some(name)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let Ok(package) = PackageName::new(owner, repo) else { continue };
        let tag = (kind == "tag").then(|| name.to_owned());
        let target = PackageId { upstream: upstream.into(), name: package };
        match packages.entry(id(&target)) {
            Entry::Vacant(place) => drop(place.insert((target, tag))),
            Entry::Occupied(mut place) => {
                let (_, best) = place.get_mut();
                let rank = |tag: &Option<String>| tag.as_ref().map(|tag| (semantic(tag), tag.clone()));
                if rank(&tag) > rank(best) {
                    *best = tag;
                }
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_a_package_speaks_for_it() {
        let keys = [
            "github/a/b/commit/12b27abb78e04142adfbdc4aa7fa9571ff05d67b",
            "github/a/b/tag/v1.10.0",
            "github/a/b/tag/v1.9.0",
            "github/a/b/tag/nightly",
            "github/a/b/tag/2.0.0-rc.1",
            "gitee/a/b/tag/x/y",
            "github/only/commits/commit/12b27abb78e04142adfbdc4aa7fa9571ff05d67b",
            "nonsense",
        ];
        let keys: Vec<Key> = keys.into_iter().map(Key::new).collect();
        let newest = newest(&keys);
        let shown: Vec<_> =
            newest.iter().map(|((upstream, name), (_, tag))| (&**upstream, &**name, tag.as_deref())).collect();
        assert_eq!(
            shown,
            [("gitee", "a/b", Some("x/y")), ("github", "a/b", Some("2.0.0-rc.1")), ("github", "only/commits", None)]
        );
    }
}
