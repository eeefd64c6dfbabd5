//! What mirrors hand over to each other: zips with their claims, and documents.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use super::{Registry, inventory};
use crate::{
    cache::ImportError,
    entry::{Document, ExportedArchive, ExportedDocument, Key},
    package::{BranchHead, Release, Releases, Repository, Version},
    upstream::{DocumentAsk, GitRef},
};

/// What an import would do with a zip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportPlan {
    /// It would be stored.
    Wanted,
    /// The same content is stored already.
    Stored,
    /// Other content is pinned under its key.
    Conflict,
    /// Its key or size is refused here.
    Refused,
}

/// What an import did with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentImport {
    /// It is stored.
    Stored,
    /// The stored one was validated later and stays.
    Older,
}

impl Registry {
    /// Takes in a zip.
    ///
    /// # Errors
    /// See [`ImportError`]; `Wrong` also for a key that is none, or of an upstream that this mirror does not have.
    pub(super) async fn import(
        &self,
        claim: ExportedArchive,
        body: impl Stream<Item = Result<Bytes, ImportError>>,
        force: bool,
    ) -> Result<(), ImportError> {
        if !self.has_place(&claim) {
            return Err(ImportError::Wrong(format!("this mirror has no place for {}", claim.key)));
        }
        self.cache.import(claim, body, self.verify.clone(), force).await
    }

    /// True for a zip with a key as the mirror makes them, of an upstream that it has, and no larger than it allows.
    pub(super) fn has_place(&self, claim: &ExportedArchive) -> bool {
        let Some((target, reference)) = inventory::read_key(&claim.key) else { return false };
        let named = match &reference {
            GitRef::Tag(tag) => is_tag(tag),
            GitRef::Commit(sha) => sha.parse() == Ok(Version::Commit(sha.clone())),
        };
        named && self.upstreams.contains_key(&*target.upstream) && claim.meta.len <= self.cache.largest_archive()
    }

    /// Takes in a document, unless a newer one is stored; true when it was taken.
    ///
    /// # Errors
    /// As [`Registry::import`].
    pub(super) async fn import_document(&self, handed: ExportedDocument) -> Result<bool, ImportError> {
        let ExportedDocument { key, meta, body } = handed;
        if !self.is_document(&key, body.as_bytes()) {
            return Err(ImportError::Wrong(format!("this mirror has no place for {key}, or it cannot be read")));
        }
        let document = Document { meta: Arc::new(meta), body: body.into() };
        let taken = self.cache.import_document(&key, document).await?;
        self.negative_lookups.invalidate(&key);
        Ok(taken)
    }

    /// True for a key as the mirror makes them, of an upstream that it has, with a body of the kind that the key names.
    pub(super) fn is_document(&self, key: &Key, body: &[u8]) -> bool {
        fn reads<T: serde::de::DeserializeOwned>(body: &[u8]) -> bool {
            serde_json::from_slice::<T>(body).is_ok()
        }
        let Some((target, ask)) = inventory::read_document_key(key) else { return false };
        let good = match ask {
            DocumentAsk::Releases => reads::<Releases>(body),
            DocumentAsk::Latest => reads::<Release>(body),
            DocumentAsk::Tag(tag) => is_tag(&tag) && reads::<Release>(body),
            DocumentAsk::Repository => reads::<Repository>(body),
            DocumentAsk::Branch(name) => is_branch(&name) && reads::<BranchHead>(body),
        };
        good && self.upstreams.contains_key(&*target.upstream)
    }
}

/// True for what can be a tag: a key of the mirror's own never has another, one from elsewhere may.
fn is_tag(name: &str) -> bool {
    format!("refs/tags/{name}").parse() == Ok(Version::Tag(name.to_owned()))
}

fn is_branch(name: &str) -> bool {
    format!("refs/heads/{name}").parse() == Ok(Version::Branch(name.to_owned()))
}
