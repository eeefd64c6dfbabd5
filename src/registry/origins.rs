//! What the mirror hands the cache: keys, and the upstream as an [`Origin`].

use std::sync::Arc;

use crate::{
    entry::{Document, Key},
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument, Origin},
    package::PackageName,
    upstream::{DocumentAsk, GitRef, Upstream},
};

/// The key of a document. Folds what forges compare without case, and nothing else.
pub(super) fn document_key(upstream: &str, package: &PackageName, ask: &DocumentAsk) -> Key {
    let package = package.folded();
    Key::new(match ask {
        DocumentAsk::Releases => format!("{upstream}/{package}/releases"),
        DocumentAsk::Latest => format!("{upstream}/{package}/latest"),
        DocumentAsk::Repository => format!("{upstream}/{package}/repository"),
        DocumentAsk::Tag(tag) => format!("{upstream}/{package}/release/{tag}"),
        DocumentAsk::Branch(branch) => format!("{upstream}/{package}/branch/{branch}"),
    })
}

/// The key of an archive.
pub(super) fn archive_key(upstream: &str, package: &PackageName, reference: &GitRef) -> Key {
    let package = package.folded();
    Key::new(match reference {
        GitRef::Tag(tag) => format!("{upstream}/{package}/tag/{tag}"),
        GitRef::Commit(sha) => format!("{upstream}/{package}/commit/{sha}"),
    })
}

/// One document of one package on one upstream.
pub(super) struct DocumentFrom {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) package: PackageName,
    pub(super) ask: DocumentAsk,
}

impl Origin for DocumentFrom {
    type Fetched = FetchedDocument;

    fn fetch<'a>(&'a self, stored: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        self.upstream.document(&self.package, &self.ask, stored)
    }
}

/// One zip of one package on one upstream.
pub(super) struct ArchiveFrom {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) package: PackageName,
    pub(super) reference: GitRef,
}

impl Origin for ArchiveFrom {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        self.upstream.archive(&self.package, &self.reference)
    }
}
