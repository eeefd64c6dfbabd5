//! The offline stand-in of an upstream.

use super::{DocumentAsk, GitRef, Upstream, ZipPacking};
use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::PackageName,
};

/// Refuses every request. `has_token` is kept: content that only the token could see must not become public.
pub(super) struct Offline {
    pub(super) has_token: bool,
    pub(super) zip_packing: ZipPacking,
    pub(super) existence_ask: DocumentAsk,
}

impl Upstream for Offline {
    fn has_token(&self) -> bool {
        self.has_token
    }

    fn zip_packing(&self) -> ZipPacking {
        self.zip_packing
    }

    fn existence_ask(&self) -> DocumentAsk {
        self.existence_ask.clone()
    }

    fn document<'a>(
        &'a self,
        _: &'a PackageName,
        _: &'a DocumentAsk,
        _: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::Offline { absent: false })))
    }

    fn archive<'a>(&'a self, _: &'a PackageName, _: &'a GitRef) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::Offline { absent: false })))
    }
}
