//! What is stored, in words of packages and versions: the material of administration.

use std::{cmp::Reverse, collections::BTreeSet, io, str::FromStr};

use serde::Deserialize;
use wildmatch::WildMatch;

use super::{
    PackageId, Registry, RegistryError,
    origins::{archive_key, document_key},
    policy::Pattern,
};
use crate::{
    cache::{Checked, Failure, InventoryEntry, fill_watcher::Step},
    entry::Key,
    origin::FetchError,
    package::{PackageName, with_v_toggled},
    upstream::{DocumentAsk, GitRef},
};

/// Which packages and versions are meant: `devsapp/fc3`, `devsapp/*`, `gitee:*/*`, `devsapp/fc3@1.*`.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    package: Option<Pattern>,
    version: Option<WildMatch>,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the pattern is empty, perhaps an unset variable; write */* for everything".into());
        }
        let (package, version) = match text.split_once('@') {
            Some((package, version)) if !version.is_empty() => (package, Some(version)),
            Some(_) => return Err("there is no version after the @".into()),
            None => (text, None),
        };
        Ok(Self { package: Some(package.parse()?), version: version.map(WildMatch::new) })
    }
}

impl Selection {
    /// True when somebody has said which; else everything is selected.
    pub fn is_named(&self) -> bool {
        self.package.is_some()
    }

    /// The same packages in every version.
    pub fn of_any_version(self) -> Self {
        Self { version: None, ..self }
    }

    /// True for the key of a zip that is selected.
    fn takes_key(&self, key: &Key) -> bool {
        if self.package.is_none() && self.version.is_none() {
            return true;
        }
        read_key(key).is_some_and(|(target, reference)| {
            let (GitRef::Tag(version) | GitRef::Commit(version)) = &reference;
            self.takes(&target, Some(version))
        })
    }

    fn takes(&self, target: &PackageId, version: Option<&str>) -> bool {
        let package = self.package.as_ref().is_none_or(|pattern| pattern.matches(&target.upstream, &target.name));
        let fits = |pattern: &WildMatch, version: &str| {
            pattern.matches(version) || with_v_toggled(version).is_some_and(|other| pattern.matches(&other))
        };
        let version = match (&self.version, version) {
            (Some(pattern), Some(version)) => fits(pattern, version),
            (Some(_), None) => false,
            (None, _) => true,
        };
        package && version
    }
}

/// In which order stored zips are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Upstream, package, version.
    #[default]
    Name,
    /// Largest first.
    Size,
    /// Oldest first.
    Age,
    /// Least recently used first.
    Used,
    /// Most often answered from the store first.
    Hits,
}

impl Sort {
    fn order(self, items: &mut [InventoryEntry]) {
        // By name first: what is equal by the rest stays so.
        items.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        match self {
            Self::Name => {}
            Self::Size => items.sort_by_key(|item| Reverse(item.len)),
            Self::Age => items.sort_by_key(|item| item.stored_at),
            Self::Used => items.sort_by_key(|item| item.used),
            Self::Hits => items.sort_by_key(|item| Reverse(item.tally.all().hits)),
        }
    }
}

/// One stored zip.
#[derive(Clone, Debug)]
pub struct Item {
    /// Whose it is. The name is in lower case where only the key tells it.
    pub target: PackageId,
    /// What it was fetched by.
    pub reference: GitRef,
    /// What is stored.
    pub stored: InventoryEntry,
}

impl Item {
    /// What is stored, in words; `None` where the key is no zip's.
    pub fn of(stored: InventoryEntry) -> Option<Self> {
        let (target, reference) = read_key(&stored.key)?;
        Some(Self { target, reference, stored })
    }

    /// The tag or the commit.
    pub fn version(&self) -> &str {
        let (GitRef::Tag(version) | GitRef::Commit(version)) = &self.reference;
        version
    }

    /// `tag` or `commit`.
    pub fn kind(&self) -> &'static str {
        match self.reference {
            GitRef::Tag(_) => "tag",
            GitRef::Commit(_) => "commit",
        }
    }
}

impl Registry {
    /// The stored zips that are selected; [`Item::of`] says what each is.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) async fn stock(&self, selection: &Selection, sort: Sort) -> io::Result<Vec<InventoryEntry>> {
        let selection = selection.clone();
        let mut items = self.cache.inventory(move |key| selection.takes_key(key)).await?;
        sort.order(&mut items);
        Ok(items)
    }

    /// The keys of the stored documents of the selected packages; none where versions are selected.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) async fn stocked_documents(&self, selection: &Selection) -> io::Result<Vec<Key>> {
        let mut keys = self.cache.disk().document_keys().await?;
        keys.retain(|key| package_of(key).is_some_and(|target| selection.takes(&target, None)));
        keys.sort();
        Ok(keys)
    }

    /// The keys of all pins that are selected.
    ///
    /// # Errors
    /// When the record of pins cannot be read.
    pub(super) async fn pins_of(&self, selection: &Selection) -> io::Result<BTreeSet<Key>> {
        let keys = self.cache.disk().pinned().await?;
        Ok(keys.into_iter().filter(|key| selection.takes_key(key)).collect())
    }

    /// The selected keys that are kept while nothing is stored under them.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) async fn waiting_marks(&self, selection: &Selection) -> io::Result<BTreeSet<Key>> {
        let keys = self.cache.disk().waiting().await?;
        Ok(keys.into_iter().filter(|key| selection.takes_key(key)).collect())
    }

    /// Fetches again what was stored under a key, and waits until it is stored.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn refetch(&self, item: &Item) -> Result<(), FetchError> {
        self.authorize(&item.target).await.map_err(cause)?;
        let ask = self.archive_ask(&item.target, item.reference.clone()).map_err(cause)?;
        let mut following = self.cache.follow(ask);
        while let Step::Progress { .. } = following.next().await.map_err(|failure| failure.error)? {}
        Ok(())
    }

    /// Fetches a document again that was damaged, and looks whether it is stored.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn refetch_document(&self, key: &Key) -> Result<(), FetchError> {
        let nonsense = || FetchError::Refused("nobody knows what it was".into());
        let (target, ask) = read_document_key(key).ok_or_else(nonsense)?;
        self.authorize(&target).await.map_err(cause)?;
        let policies = self.cache.policies();
        let policy = match ask {
            DocumentAsk::Branch(_) => policies.branch(),
            DocumentAsk::Repository => policies.repository(),
            _ => policies.releases(self.upstream(&target).map_err(cause)?.has_token()),
        };
        self.document(&target, ask, policy).await.map_err(cause)?;
        match self.cache.check_document(key).await {
            Ok(Checked::Good | Checked::Mended) => Ok(()),
            _ => Err(FetchError::Refused("it cannot be stored".into())),
        }
    }
}

fn cause(error: RegistryError) -> FetchError {
    match error {
        RegistryError::Fetch(Failure { error, .. }) => error,
        RegistryError::Forbidden => FetchError::Refused("the package may not be served".into()),
    }
}

/// What the key of a document says.
pub(super) fn read_document_key(key: &Key) -> Option<(PackageId, DocumentAsk)> {
    let target = package_of(key)?;
    let rest = key.as_str().splitn(4, '/').nth(3)?;
    let ask = match rest.split_once('/') {
        None if rest == "releases" => DocumentAsk::Releases,
        None if rest == "latest" => DocumentAsk::Latest,
        None if rest == "repository" => DocumentAsk::Repository,
        Some(("release", tag)) => DocumentAsk::Tag(tag.to_owned()),
        Some(("branch", name)) => DocumentAsk::Branch(name.to_owned()),
        _ => return None,
    };
    (document_key(&target.upstream, &target.name, &ask) == *key).then_some((target, ask))
}

/// The package of any key: `{upstream}/{owner}/{repo}/…`.
pub(super) fn package_of(key: &Key) -> Option<PackageId> {
    let mut parts = key.as_str().splitn(4, '/');
    let upstream = parts.next()?;
    let owner = parts.next()?;
    let repo = parts.next()?;
    Some(PackageId { upstream: upstream.into(), name: PackageName::new(owner, repo).ok()? })
}

/// What the key of a zip says.
pub(super) fn read_key(key: &Key) -> Option<(PackageId, GitRef)> {
    let target = package_of(key)?;
    let mut rest = key.as_str().splitn(4, '/').nth(3)?.splitn(2, '/');
    let reference = match (rest.next()?, rest.next()?) {
        ("tag", name) => GitRef::Tag(name.to_owned()),
        ("commit", sha) => GitRef::Commit(sha.to_owned()),
        _ => return None,
    };
    (archive_key(&target.upstream, &target.name, &reference) == *key).then_some((target, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_names_packages_and_versions_with_or_without_v() {
        let key = Key::new("github/devsapp/fc3/tag/v1.2.0");
        let (target, _) = read_key(&key).expect("a key");
        for (text, takes) in [
            ("devsapp/fc3", true),
            ("DevsApp/*", true),
            ("gitee:devsapp/fc3", false),
            ("devsapp/fc3@v1.2.0", true),
            ("devsapp/fc3@1.2.0", true),
            ("devsapp/fc3@1.*", true),
            ("devsapp/fc3@2.*", false),
        ] {
            let selection: Selection = text.parse().expect(text);
            assert_eq!(selection.takes(&target, Some("v1.2.0")), takes, "{text}");
        }
        for text in ["fc3", "a/b@", "a/b/c", ""] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_read_back_to_what_it_was_made_of() {
        assert!(read_key(&Key::new("github/a/b/tag/x/y")).is_some());
        for text in ["github/a/b/releases", "github/a/b", "github/a/b/tag", "github/A/b/tag/x", ""] {
            assert!(read_key(&Key::new(text)).is_none(), "{text}");
        }
    }
}
