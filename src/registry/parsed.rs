//! Parsed release documents, kept by the digest of their body.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::{
    entry::{Digest, Document},
    package::{Release, Releases, Repository, RepositoryBranches, RepositoryTags},
};

/// Largest total weight of the parsed documents, bytes.
const MAX_PARSED_BYTES: u64 = 32 << 20;

/// A bounded cache of parsed documents. An entry never goes out of date: its key is the digest of what it was parsed from.
pub(super) struct ParsedDocuments(moka::sync::Cache<Digest, ParsedDocument>);

/// A parsed document. Its kind follows from the key of the document that it was parsed from.
#[derive(Clone)]
enum ParsedDocument {
    Releases(Arc<Releases>),
    Release(Arc<Release>),
    Repository(Arc<Repository>),
    Tags(Arc<RepositoryTags>),
    Branches(Arc<RepositoryBranches>),
}

impl ParsedDocuments {
    pub(super) fn new() -> Self {
        let weigher = |_: &Digest, parsed: &ParsedDocument| parsed.weight();
        Self(moka::sync::Cache::builder().max_capacity(MAX_PARSED_BYTES).weigher(weigher).build())
    }

    /// The document as a release list; `None` when it is none.
    pub(super) fn releases(&self, document: &Document) -> Option<Arc<Releases>> {
        match self.get(document, |body| from_json(body).map(ParsedDocument::Releases))? {
            ParsedDocument::Releases(releases) => Some(releases),
            _ => None,
        }
    }

    /// The document as one release; `None` when it is none.
    pub(super) fn release(&self, document: &Document) -> Option<Arc<Release>> {
        match self.get(document, |body| from_json(body).map(ParsedDocument::Release))? {
            ParsedDocument::Release(release) => Some(release),
            _ => None,
        }
    }

    /// The document as a repository; `None` when it is none.
    pub(super) fn repository(&self, document: &Document) -> Option<Arc<Repository>> {
        match self.get(document, |body| from_json(body).map(ParsedDocument::Repository))? {
            ParsedDocument::Repository(repository) => Some(repository),
            _ => None,
        }
    }

    /// The document as a list of tags; `None` when it is none.
    pub(super) fn tags(&self, document: &Document) -> Option<Arc<RepositoryTags>> {
        match self.get(document, |body| from_json(body).map(ParsedDocument::Tags))? {
            ParsedDocument::Tags(tags) => Some(tags),
            _ => None,
        }
    }

    /// The document as a list of branches; `None` when it is none.
    pub(super) fn branches(&self, document: &Document) -> Option<Arc<RepositoryBranches>> {
        match self.get(document, |body| from_json(body).map(ParsedDocument::Branches))? {
            ParsedDocument::Branches(branches) => Some(branches),
            _ => None,
        }
    }

    fn get(&self, document: &Document, parse: impl FnOnce(&[u8]) -> Option<ParsedDocument>) -> Option<ParsedDocument> {
        if let Some(parsed) = self.0.get(&document.meta.digest) {
            return Some(parsed);
        }
        let parsed = parse(&document.body)?;
        self.0.insert(document.meta.digest, parsed.clone());
        Some(parsed)
    }
}

impl ParsedDocument {
    /// An estimate of its size in bytes: notes and assets are most of it.
    fn weight(&self) -> u32 {
        // A registry sends the package's readme with a release.
        let text = |value: &serde_json::Value| value.as_str().map_or(64, str::len);
        let release = |release: &Release| {
            let rest = release.rest.values().map(text).sum::<usize>();
            1024 + release.body.len() + 1024 * release.assets.len() + rest
        };
        let bytes = match self {
            Self::Releases(list) => list.releases.iter().map(release).sum(),
            Self::Release(one) => release(one),
            Self::Repository(_) => 8192,
            Self::Tags(list) => list.tags.iter().map(|tag| 128 + tag.name.len()).sum(),
            Self::Branches(list) => list.branches.iter().map(|branch| 128 + branch.name.len()).sum(),
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Option<Arc<T>> {
    serde_json::from_slice(body).ok().map(Arc::new)
}
