//! Cache keys of documents and archives, `{upstream}/{owner}/{repo}/…`: built, and parsed back.

use crate::{
    entry::Key,
    package::{PackageId, PackageName},
    upstream::{DocumentAsk, GitRef},
};

/// The key of a document. Owner and repository are in lower case, as forges compare them; tags and branches are not.
pub(super) fn document_key(package: &PackageId, ask: &DocumentAsk) -> Key {
    let package = package.folded();
    Key::new(match ask {
        DocumentAsk::Releases => format!("{package}/releases"),
        DocumentAsk::Latest => format!("{package}/latest"),
        DocumentAsk::Repository => format!("{package}/repository"),
        DocumentAsk::Tag(tag) => format!("{package}/release/{tag}"),
        DocumentAsk::Branch(branch) => format!("{package}/branch/{branch}"),
    })
}

/// The key of an archive; case as for [`document_key`].
pub(super) fn archive_key(package: &PackageId, reference: &GitRef) -> Key {
    let package = package.folded();
    Key::new(match reference {
        GitRef::Tag(tag) => format!("{package}/tag/{tag}"),
        GitRef::Commit(sha) => format!("{package}/commit/{sha}"),
    })
}

/// The package of any key; `None` for a key of another form.
pub(super) fn parse_package(key: &Key) -> Option<PackageId> {
    let mut parts = key.as_str().splitn(4, '/');
    let upstream = parts.next()?;
    let owner = parts.next()?;
    let repo = parts.next()?;
    Some(PackageId { upstream: upstream.into(), name: PackageName::new(owner, repo).ok()? })
}

/// The package and document of a key; `None` unless [`document_key`] builds exactly this key.
pub(super) fn parse_document_key(key: &Key) -> Option<(PackageId, DocumentAsk)> {
    let package = parse_package(key)?;
    let rest = key.as_str().splitn(4, '/').nth(3)?;
    let ask = match rest.split_once('/') {
        None if rest == "releases" => DocumentAsk::Releases,
        None if rest == "latest" => DocumentAsk::Latest,
        None if rest == "repository" => DocumentAsk::Repository,
        Some(("release", tag)) => DocumentAsk::Tag(tag.to_owned()),
        Some(("branch", name)) => DocumentAsk::Branch(name.to_owned()),
        _ => return None,
    };
    (document_key(&package, &ask) == *key).then_some((package, ask))
}

/// The package and reference of an archive's key; `None` unless [`archive_key`] builds exactly this key.
pub(super) fn parse_archive_key(key: &Key) -> Option<(PackageId, GitRef)> {
    let package = parse_package(key)?;
    let mut rest = key.as_str().splitn(4, '/').nth(3)?.splitn(2, '/');
    let reference = match (rest.next()?, rest.next()?) {
        ("tag", name) => GitRef::Tag(name.to_owned()),
        ("commit", sha) => GitRef::Commit(sha.to_owned()),
        _ => return None,
    };
    (archive_key(&package, &reference) == *key).then_some((package, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_keys_parse_back_and_other_keys_do_not_parse() {
        assert!(parse_archive_key(&Key::new("github/a/b/tag/x/y")).is_some());
        for text in ["github/a/b/releases", "github/a/b", "github/a/b/tag", "github/A/b/tag/x", ""] {
            assert!(parse_archive_key(&Key::new(text)).is_none(), "{text}");
        }
    }
}
