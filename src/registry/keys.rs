//! Cache keys of documents and archives, `{upstream}/{owner}/{repo}/…` or `{upstream}:{name}/…`: built, and parsed back.

use crate::{
    entry::Key,
    package::{PackageId, PackageName},
    upstream::{DocumentAsk, GitRef},
};

/// The key of a document. Owner and repository are in lower case, as forges compare them; plain names, tags and branches
/// are not.
pub(super) fn document_key(package: &PackageId, ask: &DocumentAsk) -> Key {
    let package = package.key_prefix();
    Key::new(match ask {
        DocumentAsk::Releases => format!("{package}/releases"),
        DocumentAsk::Latest => format!("{package}/latest"),
        DocumentAsk::Repository => format!("{package}/repository"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
