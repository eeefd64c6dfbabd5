//! The versions of a package while they are collected, each once.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{KnownVersion, KnownVersions};
use crate::{
    admin_api::RefKind,
    entry::Key,
    package::semantic,
    registry::{folders::known::KnownFolderVersion, keys::parse_archive_key},
    upstream::GitRef,
};

/// Versions by kind and name, while they are collected.
#[derive(Default)]
pub(super) struct CollectedVersions {
    versions: BTreeMap<String, KnownVersion>,
    /// True when there are more.
    pub(super) is_truncated: bool,
}

impl CollectedVersions {
    pub(super) fn new(is_truncated: bool) -> Self {
        Self { versions: BTreeMap::new(), is_truncated }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut KnownVersion> {
        self.versions.values_mut()
    }

    /// The version of an archive's key, added if it is new; `None` for another key.
    pub(super) fn entry_of_key(&mut self, key: &Key) -> Option<&mut KnownVersion> {
        let (_, reference) = parse_archive_key(key)?;
        Some(self.entry(reference))
    }

    /// The version of a reference, added if it is new.
    pub(super) fn entry(&mut self, reference: GitRef) -> &mut KnownVersion {
        let (kind, version) = match &reference {
            GitRef::Tag(version) => (RefKind::Tag, version),
            GitRef::Commit(version) => (RefKind::Commit, version),
            GitRef::Moving { version, .. } => (RefKind::Moving, version),
        };
        let version = version.clone();
        // A moving version is one row: that of a tag, where its release list has it.
        let id = if kind == RefKind::Commit { format!("/{version}") } else { version.clone() };
        let known = self.versions.entry(id).or_insert_with(|| KnownVersion {
            version,
            kind,
            reference: reference.clone(),
            released_at: None,
            is_prerelease: false,
            is_pinned: false,
            folder_pin: None,
            hosted: None,
        });
        if kind == RefKind::Moving {
            known.kind = kind;
            known.reference = reference;
        }
        known
    }

    /// Adds a version of a folder, whatever it is in the repository.
    pub(super) fn add_folder_version(&mut self, version: KnownFolderVersion) {
        let KnownFolderVersion { release, reference, pinned } = version;
        let known = KnownVersion {
            version: release.tag_name.clone(),
            kind: RefKind::Tag,
            reference,
            released_at: release.published_at,
            is_prerelease: release.prerelease,
            is_pinned: pinned.is_some(),
            folder_pin: pinned,
            hosted: None,
        };
        self.versions.insert(release.tag_name, known);
    }

    pub(super) fn sorted(self) -> KnownVersions {
        let mut versions: Vec<KnownVersion> = self.versions.into_values().collect();
        versions.sort_by_cached_key(|known| {
            let number = if known.kind == RefKind::Tag { semantic(&known.version) } else { None };
            Reverse((number, known.kind == RefKind::Moving, known.version.clone()))
        });
        KnownVersions { versions, is_truncated: self.is_truncated }
    }
}
