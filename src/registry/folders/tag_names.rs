//! Which tags of a repository are versions of a folder: `{name}@1.2.3`, `{name}-1.2.3` and `{name}/1.2.3`, with or without
//! `v` before the version.

use std::{cmp::Reverse, collections::BTreeSet};

use semver::Version as SemanticVersion;

use crate::package::{FolderPackage, semantic, with_v_toggled};

/// What may stand between the name and the version, in order of preference.
const SEPARATORS: [char; 3] = ['@', '-', '/'];

/// A tag that is a version of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FolderTag<'t> {
    /// The bare version.
    pub(super) version: SemanticVersion,
    /// The tag.
    pub(super) tag: &'t str,
}

/// The tags that are versions of the folder, the highest first. Of several tags of one version, the preferred one.
///
/// The first name of the folder that any tag begins with decides.
pub(super) fn folder_tags<'t>(folder: &FolderPackage, tags: &BTreeSet<&'t str>) -> Vec<FolderTag<'t>> {
    let of_name = |name: &str| {
        let mut found: Vec<_> = tags.iter().filter_map(|tag| parse(tag, name)).collect();
        found.sort_by_cached_key(|(rank, found)| (Reverse(found.version.clone()), *rank));
        found.dedup_by(|(_, later), (_, earlier)| later.version == earlier.version);
        found.into_iter().map(|(_, found)| found).collect::<Vec<_>>()
    };
    folder.tag_names().map(of_name).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The version of the folder that a tag names; `None` when it names none.
pub(super) fn version_of(folder: &FolderPackage, tag: &str) -> Option<String> {
    folder.tag_names().find_map(|name| parse(tag, name)).map(|(_, found)| found.version.to_string())
}

/// Every tag that would be this version of the folder, in order of preference; none for a name that is no version.
pub(super) fn candidates(folder: &FolderPackage, version: &str) -> Vec<String> {
    let Some(version) = semantic(version).map(|version| version.to_string()) else { return Vec::new() };
    let spellings = [Some(version.clone()), with_v_toggled(&version)];
    let mut tags = Vec::new();
    for name in folder.tag_names() {
        for separator in SEPARATORS {
            tags.extend(spellings.iter().flatten().map(|version| format!("{name}{separator}{version}")));
        }
    }
    tags
}

/// The version that a tag names, and the rank of its form; `None` if it is not of this name.
fn parse<'t>(tag: &'t str, name: &str) -> Option<(usize, FolderTag<'t>)> {
    let mut rest = tag.strip_prefix(name)?.chars();
    let separator = rest.next()?;
    let place = SEPARATORS.iter().position(|known| *known == separator)?;
    let rest = rest.as_str();
    let version = semantic(rest)?;
    let has_v = rest.starts_with(['v', 'V']);
    Some((2 * place + usize::from(has_v), FolderTag { version, tag }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::PackageId;

    fn folder(alias: &str, path: &str) -> FolderPackage {
        let repository = PackageId { upstream: "github".into(), name: "acme/apps".parse().expect("a name") };
        let alias = alias.parse().expect("a name");
        FolderPackage { alias, repository, path: path.parse().expect("a path") }
    }

    fn found(alias: &str, path: &str, tags: &[&str]) -> Vec<String> {
        let tags: BTreeSet<&str> = tags.iter().copied().collect();
        let found = folder_tags(&folder(alias, path), &tags);
        found.iter().map(|found| format!("{} {}", found.version, found.tag)).collect()
    }

    #[test]
    fn tags_in_each_form_are_versions_of_their_folder_alone() {
        let tags = ["x@1.2.3", "x-v1.10.0", "x/1.3.0-rc.1", "x/v0.1.0", "y@9.9.9", "ax@9.9.9", "x@1.2", "x1.2.3"];
        let expected = ["1.10.0 x-v1.10.0", "1.3.0-rc.1 x/1.3.0-rc.1", "1.2.3 x@1.2.3", "0.1.0 x/v0.1.0"];
        assert_eq!(found("start-x", "apps/x", &tags), expected);
        assert!(found("start-x", "apps/x", &["v1.0.0", "1.0.0", "x", "x@", "x-y@1.0.0", "X@1.0.0"]).is_empty());
    }

    #[test]
    fn several_tags_of_one_version_are_one_version() {
        let tags = ["x/1.0.0", "x-1.0.0", "x@v1.0.0", "x-v1.0.0", "x-v1.1.0", "x-1.1.0"];
        assert_eq!(found("x", "x", &tags), ["1.1.0 x-1.1.0", "1.0.0 x@v1.0.0"]);
    }

    #[test]
    fn the_alias_names_tags_only_where_the_folder_names_none() {
        let tags = ["start-x@2.0.0", "x@1.0.0"];
        assert_eq!(found("start-x", "apps/x", &tags), ["1.0.0 x@1.0.0"]);
        assert_eq!(found("start-x", "apps/other", &tags), ["2.0.0 start-x@2.0.0"]);
    }

    #[test]
    fn candidates_are_the_tags_of_a_version_in_every_form() {
        let candidates = candidates(&folder("start-x", "apps/x"), "v1.2.3");
        assert_eq!(candidates[..3], ["x@1.2.3", "x@v1.2.3", "x-1.2.3"]);
        assert_eq!((candidates.len(), candidates[11].as_str()), (12, "start-x/v1.2.3"));
        assert!(super::candidates(&folder("x", "x"), "main").is_empty());
    }
}
