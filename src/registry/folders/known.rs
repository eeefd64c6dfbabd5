//! The versions of a folder as far as they are known: in stored lists and in pins. No upstream is asked.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    FolderPackages, FolderVersion,
    list::{released_versions, tagged_versions},
};
use crate::{
    archive::FolderFacts,
    package::{FolderPackage, Release},
    registry::RegistryError,
    upstream::GitRef,
};

/// The known versions of a folder.
pub(in crate::registry) struct KnownFolderVersions {
    pub(in crate::registry) versions: Vec<KnownFolderVersion>,
    /// True if the repository may have further tags of the folder.
    pub(in crate::registry) is_truncated: bool,
}

/// A version of a folder that a stored list or a pin has.
pub(in crate::registry) struct KnownFolderVersion {
    /// Its release; of a version that only a pin has, with its name alone.
    pub(in crate::registry) release: Release,
    /// What it is in the repository.
    pub(in crate::registry) reference: GitRef,
    /// What its pin says; `None` for a version that was never served.
    pub(in crate::registry) pinned: Option<PinnedFolder>,
}

/// What the pin of a folder's version says.
#[derive(Clone, Debug)]
pub(in crate::registry) struct PinnedFolder {
    pub(in crate::registry) first_seen: Timestamp,
    pub(in crate::registry) facts: Arc<FolderFacts>,
}

/// The known versions of a folder, in no order.
///
/// # Errors
/// When the pins cannot be read.
pub(in crate::registry) async fn known_versions(
    packages: &FolderPackages,
    folder: &FolderPackage,
) -> Result<KnownFolderVersions, RegistryError> {
    let stored = packages.documents.stored();
    let tags = stored.tags(&folder.repository).await;
    let releases = stored.releases(&folder.repository).await.unwrap_or_default();
    let has_tags = tags.is_some();
    let tags = tags.unwrap_or_default();
    let mut listed = tagged_versions(folder, &tags, &releases);
    // Without the list of tags it is not known whether a tag names the folder.
    if listed.is_empty() && has_tags {
        listed = released_versions(&releases);
    }
    let of_list = |FolderVersion { release, reference }: FolderVersion| {
        (release.tag_name.clone(), KnownFolderVersion { release, reference, pinned: None })
    };
    let mut known: BTreeMap<String, KnownFolderVersion> = listed.into_iter().map(of_list).collect();
    for pin in packages.pins.list(folder).await? {
        let FolderVersion { release, reference } = FolderVersion::of_pin(&pin);
        let pinned = PinnedFolder { first_seen: pin.first_seen, facts: pin.facts };
        let version = known.entry(pin.version).or_insert(KnownFolderVersion {
            release,
            reference: reference.clone(),
            pinned: None,
        });
        // What it was first served from is what it goes on being served from.
        version.reference = reference;
        version.pinned = Some(pinned);
    }
    let is_truncated = tags.truncated || releases.truncated;
    Ok(KnownFolderVersions { versions: known.into_values().collect(), is_truncated })
}
