//! The offline stand-in of an upstream.

use std::{future::ready, sync::Arc};

use super::{CredentialStatus, DocumentAsk, GitRef, ReleaseLookup, Upstream, ZipPacking};
use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::{CatalogPackage, PackageName},
    peer::ClientId,
};

/// Refuses every request. What the upstream is stays the same: content that only its token could see must not become
/// public, and what is stored is found by the same keys.
pub(super) struct Offline {
    upstream: Arc<dyn Upstream>,
}

impl Offline {
    pub(super) fn new(upstream: Arc<dyn Upstream>) -> Self {
        Self { upstream }
    }
}

impl Upstream for Offline {
    fn has_token(&self) -> bool {
        self.upstream.has_token()
    }

    fn credentials(&self) -> Vec<CredentialStatus> {
        self.upstream.credentials()
    }

    fn zip_packing(&self) -> ZipPacking {
        self.upstream.zip_packing()
    }

    fn existence_ask(&self) -> DocumentAsk {
        self.upstream.existence_ask()
    }

    fn release_lookup(&self) -> ReleaseLookup {
        self.upstream.release_lookup()
    }

    fn is_moving(&self, version: &str) -> bool {
        self.upstream.is_moving(version)
    }

    fn document<'a>(
        &'a self,
        _: &'a PackageName,
        _: &'a DocumentAsk,
        _: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        Box::pin(ready(Err(FetchError::Offline { absent: false })))
    }

    fn archive<'a>(
        &'a self,
        _: &'a PackageName,
        _: &'a GitRef,
        _: ClientId,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(ready(Err(FetchError::Offline { absent: false })))
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<CatalogPackage>, FetchError>> {
        Box::pin(ready(Err(FetchError::Offline { absent: false })))
    }
}
