//! Which packages and versions an administration command is about, and in which order stored archives are listed.

use std::{cmp::Ordering, str::FromStr};

use wildmatch::WildMatch;

use super::keys::{parse_archive_key, parse_folder_pin_key, parse_identity_key};
use crate::{
    admin_api::InventoryOrder,
    cache::InventoryEntry,
    entry::Key,
    package::{PackageId, PackagePattern, PatternError, with_v_toggled},
    upstream::GitRef,
};

/// Patterns of packages and versions: `devsapp/fc3`, `devsapp/*`, `fc*`, `official:*`, `devsapp/fc3@1.*`, `*`. The default selects
/// everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    package: Option<PackagePattern>,
    version: Option<WildMatch>,
}

/// Why a text is no [`Selection`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// It is empty.
    #[error("the pattern is empty, perhaps an unset variable; write * for everything")]
    Empty,
    /// It ends with `@`.
    #[error("there is no version after the @")]
    NoVersion,
    /// Its package is no pattern.
    #[error(transparent)]
    Package(#[from] PatternError),
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        if text.is_empty() {
            return Err(SelectionError::Empty);
        }
        let (package, version) = match text.split_once('@') {
            Some((package, version)) if !version.is_empty() => (package, Some(version)),
            Some(_) => return Err(SelectionError::NoVersion),
            None => (text, None),
        };
        Ok(Self { package: Some(package.parse()?), version: version.map(WildMatch::new) })
    }
}

impl Selection {
    /// True when it was parsed from a pattern; false for the default, which selects everything.
    pub fn is_named(&self) -> bool {
        self.package.is_some()
    }

    /// A selection of the same packages in every version.
    pub fn of_any_version(self) -> Self {
        Self { version: None, ..self }
    }

    /// True when the archive or the folder pin of this key is selected; a folder is selected by its repository.
    pub(super) fn selects_archive(&self, key: &Key) -> bool {
        if self.package.is_none() && self.version.is_none() {
            return true;
        }
        if let Some(package) = parse_identity_key(key) {
            return self.selects(&package, None);
        }
        if let Some((package, version)) = parse_folder_pin_key(key) {
            return self.selects(&package, Some(version));
        }
        parse_archive_key(key).is_some_and(|(package, reference)| {
            let (GitRef::Tag(version) | GitRef::Commit(version) | GitRef::Moving { version, .. }) = &reference;
            self.selects(&package, Some(version))
        })
    }

    /// True when the package in this version is selected; `None` stands for a document, which a selection with a version never
    /// selects. A version is selected by either spelling, with or without `v`.
    pub(super) fn selects(&self, package: &PackageId, version: Option<&str>) -> bool {
        let matches = |pattern: &WildMatch, version: &str| {
            pattern.matches(version) || with_v_toggled(version).is_some_and(|other| pattern.matches(&other))
        };
        let version_selected = match (&self.version, version) {
            (Some(pattern), Some(version)) => matches(pattern, version),
            (Some(_), None) => false,
            (None, _) => true,
        };
        version_selected && self.package.as_ref().is_none_or(|pattern| pattern.matches(package))
    }
}

impl InventoryOrder {
    /// Compares entries in this order, and entries that are equal in it by key: no two keys compare as equal.
    pub(super) fn compare(self, one: &InventoryEntry, other: &InventoryEntry) -> Ordering {
        let hits = |entry: &InventoryEntry| entry.hit_stats.total().hits;
        let order = match self {
            Self::Name => Ordering::Equal,
            Self::Size => other.len.cmp(&one.len),
            Self::Age => one.stored_at.cmp(&other.stored_at),
            Self::Used => one.last_use.cmp(&other.last_use),
            Self::Hits => hits(other).cmp(&hits(one)),
        };
        order.then_with(|| one.key.cmp(&other.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_match_packages_without_case_and_versions_with_or_without_v() {
        let key = Key::new("github/devsapp/fc3/tag/v1.2.0");
        let (package, _) = parse_archive_key(&key).expect("a key");
        for (text, selected) in [
            ("devsapp/fc3", true),
            ("DevsApp/*", true),
            ("gitee:devsapp/fc3", false),
            ("devsapp/fc3@v1.2.0", true),
            ("devsapp/fc3@1.2.0", true),
            ("devsapp/fc3@1.*", true),
            ("devsapp/fc3@2.*", false),
        ] {
            let selection: Selection = text.parse().expect(text);
            assert_eq!(selection.selects(&package, Some("v1.2.0")), selected, "{text}");
        }
        let plain = PackageId { upstream: "official".into(), name: "fc3".parse().expect("a name") };
        for (text, selected) in [("fc3@0.1.22", true), ("fc*", true), ("official:*", true), ("*", true), ("*/*", false)]
        {
            let selection: Selection = text.parse().expect(text);
            assert_eq!(selection.selects(&plain, Some("0.1.22")), selected, "{text}");
        }
        for text in ["a/b@", "a/b/c", ""] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }
}
