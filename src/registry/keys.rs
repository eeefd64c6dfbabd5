//! Keys of documents, archives and folder pins, `{upstream}/{owner}/{repo}/…` or `{upstream}:{name}/…`: built, and parsed
//! back.

use crate::{
    entry::Key,
    package::{FolderPackage, PackageId, PackageName},
    upstream::{DocumentAsk, GitRef},
};

/// The last part of [`identity_key`].
const IDENTITY: &str = "identity";

/// The key of a document. Owner and repository are in lower case, as forges compare them; plain names, tags and branches
/// are not.
pub(super) fn document_key(package: &PackageId, ask: &DocumentAsk) -> Key {
    let package = package.key_prefix();
    Key::new(match ask {
        DocumentAsk::Releases => format!("{package}/releases"),
        DocumentAsk::Latest => format!("{package}/latest"),
        DocumentAsk::Repository => format!("{package}/repository"),
        DocumentAsk::Tags => format!("{package}/tags"),
        DocumentAsk::Branches => format!("{package}/branches"),
        DocumentAsk::Tag(tag) => format!("{package}/release/{tag}"),
        DocumentAsk::Branch(branch) => format!("{package}/branch/{branch}"),
        DocumentAsk::Moving(version) => format!("{package}/moving/{version}"),
    })
}

/// The key of an archive; case as for [`document_key`].
pub(super) fn archive_key(package: &PackageId, reference: &GitRef) -> Key {
    let package = package.key_prefix();
    Key::new(match reference {
        GitRef::Tag(tag) => format!("{package}/tag/{tag}"),
        GitRef::Commit(sha) => format!("{package}/commit/{sha}"),
        GitRef::Moving { version, revision } => return Key::new(revision_prefix_of(&package, version) + revision),
    })
}

/// What the keys of all revisions of a moving version begin with. Revisions have no slash.
pub(super) fn revision_prefix(package: &PackageId, version: &str) -> String {
    revision_prefix_of(&package.key_prefix(), version)
}

fn revision_prefix_of(package: &str, version: &str) -> String {
    format!("{package}/moving/{version}/")
}

/// What the keys of the pins of a folder's versions begin with. The alias is in lower case; neither path, alias nor version
/// has a colon.
pub(super) fn folder_pin_prefix(folder: &FolderPackage) -> String {
    format!("{}/folder/{}:{}:", folder.repository.key_prefix(), folder.path, folder.alias.folded())
}

/// The key of the pin of a folder's version.
pub(super) fn folder_pin_key(folder: &FolderPackage, version: &str) -> Key {
    Key::new(format!("{}{version}", folder_pin_prefix(folder)))
}

/// What the keys of the archives of all tags of a package begin with.
pub(super) fn tag_prefix(package: &PackageId) -> String {
    format!("{}/tag/", package.key_prefix())
}

/// The key of the record of when a tag, commit or revision was first seen.
pub(super) fn seen_key(package: &PackageId, reference: &GitRef) -> Key {
    let package = package.key_prefix();
    Key::new(match reference {
        GitRef::Tag(tag) => format!("{package}/seen/tag/{tag}"),
        GitRef::Commit(sha) => format!("{package}/seen/commit/{sha}"),
        GitRef::Moving { version, revision } => format!("{package}/seen/moving/{version}/{revision}"),
    })
}

/// The key of the pin of a repository's number.
pub(super) fn identity_key(package: &PackageId) -> Key {
    Key::new(format!("{}/{IDENTITY}", package.key_prefix()))
}

/// The package of an [`identity_key`]; `None` for any other key.
pub(super) fn parse_identity_key(key: &Key) -> Option<PackageId> {
    let (package, rest) = split(key)?;
    (rest == IDENTITY).then_some(package)
}

/// The repository and the version of a folder pin's key; `None` for any other key.
pub(super) fn parse_folder_pin_key(key: &Key) -> Option<(PackageId, &str)> {
    let (package, rest) = split(key)?;
    let (_, version) = rest.strip_prefix("folder/")?.rsplit_once(':')?;
    Some((package, version))
}

/// A key as the package that it belongs to, and the rest.
fn split(key: &Key) -> Option<(PackageId, &str)> {
    let (first, rest) = key.as_str().split_once('/')?;
    if let Some((upstream, name)) = first.split_once(':') {
        return Some((PackageId { upstream: upstream.into(), name: PackageName::plain(name).ok()? }, rest));
    }
    let mut parts = rest.splitn(3, '/');
    let owner = parts.next()?;
    let repo = parts.next()?;
    let name = PackageName::new(owner, repo).ok()?;
    Some((PackageId { upstream: first.into(), name }, parts.next().unwrap_or_default()))
}

/// The package of any key; `None` for a key of another form.
pub(crate) fn parse_package(key: &Key) -> Option<PackageId> {
    split(key).map(|(package, _)| package)
}

/// The package and document of a key; `None` unless [`document_key`] builds exactly this key.
pub(super) fn parse_document_key(key: &Key) -> Option<(PackageId, DocumentAsk)> {
    let (package, rest) = split(key)?;
    let ask = match rest.split_once('/') {
        None if rest == "releases" => DocumentAsk::Releases,
        None if rest == "latest" => DocumentAsk::Latest,
        None if rest == "repository" => DocumentAsk::Repository,
        None if rest == "tags" => DocumentAsk::Tags,
        None if rest == "branches" => DocumentAsk::Branches,
        Some(("release", tag)) => DocumentAsk::Tag(tag.to_owned()),
        Some(("branch", name)) => DocumentAsk::Branch(name.to_owned()),
        Some(("moving", version)) => DocumentAsk::Moving(version.to_owned()),
        _ => return None,
    };
    (document_key(&package, &ask) == *key).then_some((package, ask))
}

/// The package and reference of an archive's key; `None` unless [`archive_key`] builds exactly this key.
pub(super) fn parse_archive_key(key: &Key) -> Option<(PackageId, GitRef)> {
    let (package, rest) = split(key)?;
    let reference = match rest.split_once('/')? {
        ("tag", name) => GitRef::Tag(name.to_owned()),
        ("commit", sha) => GitRef::Commit(sha.to_owned()),
        ("moving", rest) => {
            let (version, revision) = rest.rsplit_once('/')?;
            GitRef::Moving { version: version.to_owned(), revision: revision.to_owned() }
        }
        _ => return None,
    };
    (archive_key(&package, &reference) == *key).then_some((package, reference))
}

/// Whether the content of an archive is pinned: of all but the revisions of moving versions.
pub(crate) fn is_pinned_key(key: &Key) -> bool {
    !matches!(parse_archive_key(key), Some((_, GitRef::Moving { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_pin_key_names_repository_and_version_and_no_archive() {
        let repository = PackageId { upstream: "github".into(), name: "Acme/apps".parse().expect("a name") };
        let alias = "Start-X".parse().expect("a name");
        let folder = FolderPackage { alias, repository: repository.clone(), path: "a/b".parse().expect("a path") };
        let key = folder_pin_key(&folder, "1.2.3+x/y");
        assert_eq!(key.as_str(), "github/acme/apps/folder/a/b:start-x:1.2.3+x/y");
        assert_eq!(parse_folder_pin_key(&key), Some((repository, "1.2.3+x/y")));
        assert!(parse_archive_key(&key).is_none() && parse_document_key(&key).is_none());
        assert!(parse_folder_pin_key(&Key::new("github/a/b/tag/folder:x:1")).is_none());
    }

    #[test]
    fn archive_keys_parse_back_and_other_keys_do_not_parse() {
        for text in [
            "github/a/b/tag/x/y",
            "official:Fc3/tag/0.1.22",
            "official:fc3/moving/dev.1/ab12",
            "github/a/b/moving/x/y/ab12",
        ] {
            assert!(parse_archive_key(&Key::new(text)).is_some(), "{text}");
        }
        for text in [
            "github/a/b/releases",
            "github/a/b",
            "github/a/b/tag",
            "github/A/b/tag/x",
            "",
            "official:fc3/tag",
            "official:fc3/moving/x",
        ] {
            assert!(parse_archive_key(&Key::new(text)).is_none(), "{text}");
        }
    }
}
