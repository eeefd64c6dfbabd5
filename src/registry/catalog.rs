//! The catalog: packages with a pinned archive and packages that the configuration names, as far as they may be shown.

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
    RegistryError,
    archive_source::ArchiveSource,
    authorize::{Authorizer, Visibility},
    keys::parse_package,
    metadata::manifest,
};
use crate::{
    cache::{Cache, CacheFailure},
    entry::Key,
    http::cache_status::CacheStatus,
    package::{PackageId, PublishManifest, semantic},
    upstream::GitRef,
};

/// The catalog is built again after this time: building walks over all pins.
const CATALOG_MAX_AGE: Duration = Duration::from_secs(30);
/// Longest wait of one catalog request for upstreams that are asked whether packages are private.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest number of packages that are checked at the same time.
const MAX_VISIBILITY_CHECKS: usize = 8;

/// A package that may be shown.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// The package; in lower case when only the key of a pin names it.
    pub package: PackageId,
    /// The manifest of its newest pinned version, without its large fields; empty when no version is pinned.
    pub manifest: PublishManifest,
}

/// The packages that may be shown, in order of upstream, owner and repository.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The packages.
    pub packages: Vec<CatalogEntry>,
    built_at: Timestamp,
}

/// Builds the catalog, and keeps the last one for [`CATALOG_MAX_AGE`].
pub struct CatalogService {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    archives: Arc<ArchiveSource>,
    last: Mutex<Option<Arc<Catalog>>>,
}

impl CatalogService {
    pub(super) fn new(cache: Arc<Cache>, authorizer: Arc<Authorizer>, archives: Arc<ArchiveSource>) -> Self {
        Self { cache, authorizer, archives, last: Mutex::default() }
    }

    /// The catalog and its age, which is below [`CATALOG_MAX_AGE`]; `named` are the packages that the configuration names.
    ///
    /// A package that may be private is left out until a check has shown that it is public. Checks that take longer than
    /// the answer waits go on in the background.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub async fn list(
        &self,
        named: impl Iterator<Item = PackageId>,
    ) -> Result<(Arc<Catalog>, Duration), RegistryError> {
        let mut last = self.last.lock().await;
        let clock = self.cache.clock();
        if let Some(catalog) = last.as_ref().filter(|catalog| clock.since(catalog.built_at) < CATALOG_MAX_AGE) {
            return Ok((catalog.clone(), clock.since(catalog.built_at)));
        }
        let built_at = clock.now();
        let packages = self.build(named.collect()).await?;
        let catalog = last.insert(Arc::new(Catalog { packages, built_at }));
        Ok((catalog.clone(), Duration::ZERO))
    }

    async fn build(&self, named: Vec<PackageId>) -> Result<Vec<CatalogEntry>, RegistryError> {
        let pinned = self.cache.pins().keys().await;
        let pinned = pinned.map_err(|error| CacheFailure { error, status: CacheStatus::hit(None) })?;
        let mut candidates = newest_tags(&pinned);
        for package in named {
            candidates.entry(folded_id(&package)).or_insert((package, None));
        }
        let listed = self.listed(&candidates).await;
        let mut packages = Vec::with_capacity(listed.len());
        for (id, (package, tag)) in candidates {
            if listed.contains(&id) {
                packages.push(CatalogEntry { manifest: self.manifest(&package, tag).await, package });
            }
        }
        Ok(packages)
    }

    /// The candidates that may be shown.
    async fn listed(&self, candidates: &BTreeMap<FoldedId, (PackageId, Option<String>)>) -> BTreeSet<FoldedId> {
        let mut listed = BTreeSet::new();
        let mut unknown = Vec::new();
        for (id, (package, _)) in candidates {
            match self.authorizer.visibility(package).await {
                Visibility::Visible => drop(listed.insert(id.clone())),
                Visibility::Hidden => {}
                Visibility::Unknown { listed: by_default } => {
                    if by_default {
                        listed.insert(id.clone());
                    }
                    unknown.push((id.clone(), package.clone()));
                }
            }
        }
        for (id, public) in self.check(unknown).await {
            if public {
                listed.insert(id);
            } else {
                listed.remove(&id);
            }
        }
        listed
    }

    /// Authorizes packages, and returns what is decided within [`VISIBILITY_TIMEOUT`].
    async fn check(&self, unknown: Vec<(FoldedId, PackageId)>) -> Vec<(FoldedId, bool)> {
        let checks =
            stream::iter(unknown).map(async |(id, package)| (id, self.authorizer.authorize(&package).await.is_ok()));
        let timeout = tokio::time::sleep(VISIBILITY_TIMEOUT);
        let checks = checks.buffer_unordered(MAX_VISIBILITY_CHECKS).take_until(timeout);
        pin!(checks).collect().await
    }

    async fn manifest(&self, package: &PackageId, tag: Option<String>) -> PublishManifest {
        let Some(tag) = tag else { return PublishManifest::default() };
        let pin = self.archives.pin(package, &GitRef::Tag(tag)).await.ok().flatten();
        pin.map(|pin| manifest(&pin.verified).without_details()).unwrap_or_default()
    }
}

/// Upstream, and owner and repository in lower case.
type FoldedId = (String, String);

fn folded_id(package: &PackageId) -> FoldedId {
    (package.upstream.to_string(), package.name.folded())
}

/// The packages of archive keys, each with its newest tag: the highest semantic version, else the last by name.
fn newest_tags(pinned: &[Key]) -> BTreeMap<FoldedId, (PackageId, Option<String>)> {
    let mut packages = BTreeMap::new();
    for key in pinned {
        let mut reference = key.as_str().splitn(5, '/').skip(3);
        let (Some(kind), Some(name)) = (reference.next(), reference.next()) else { continue };
        let Some(package) = parse_package(key) else { continue };
        let tag = (kind == "tag").then(|| name.to_owned());
        match packages.entry(folded_id(&package)) {
            Entry::Vacant(entry) => drop(entry.insert((package, tag))),
            Entry::Occupied(mut entry) => {
                let (_, newest) = entry.get_mut();
                let rank = |tag: &Option<String>| tag.as_ref().map(|tag| (semantic(tag), tag.clone()));
                if rank(&tag) > rank(newest) {
                    *newest = tag;
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
    fn the_manifest_of_a_package_comes_from_its_newest_version() {
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
        let newest = newest_tags(&keys);
        let shown: Vec<_> =
            newest.iter().map(|((upstream, name), (_, tag))| (&**upstream, &**name, tag.as_deref())).collect();
        assert_eq!(
            shown,
            [("gitee", "a/b", Some("x/y")), ("github", "a/b", Some("2.0.0-rc.1")), ("github", "only/commits", None)]
        );
    }
}
