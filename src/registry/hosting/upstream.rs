//! The published packages as an [`Upstream`], so that the use cases ask them like any other upstream.

use std::sync::Arc;

use futures_util::StreamExt as _;

use super::HostedPackages;
use crate::{
    cache::{Object, ServedArchive},
    entry::Document,
    hosted::VersionNumber,
    origin::{BoxFuture, DownloadPlace, FetchError, FetchedBody, FetchedDocument},
    package::{CatalogPackage, PackageId, PackageName},
    peer::ClientId,
    registry::RegistryError,
    upstream::{DocumentAsk, GitRef, ReleaseLookup, Upstream, ZipPacking},
};

/// Bytes per read of a published zip.
const HOSTED_READ_BYTES: usize = 256 << 10;

/// The upstream of published packages. Sends no request.
pub(in crate::registry) struct HostedUpstream(pub(in crate::registry) Arc<HostedPackages>);

impl HostedUpstream {
    fn id(&self, name: &PackageName) -> PackageId {
        PackageId { upstream: self.0.upstream.clone(), name: name.clone() }
    }
}

impl Upstream for HostedUpstream {
    fn has_token(&self) -> bool {
        false
    }

    fn zip_packing(&self) -> ZipPacking {
        ZipPacking::Root
    }

    fn release_lookup(&self) -> ReleaseLookup {
        ReleaseLookup::ByTag
    }

    fn is_moving(&self, version: &str) -> bool {
        VersionNumber::names_moving(version)
    }

    fn document<'a>(
        &'a self,
        package: &'a PackageName,
        ask: &'a DocumentAsk,
        _: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        Box::pin(async move {
            let answer = self.0.document(&self.id(package), ask).await.map_err(as_fetch_error)?;
            Ok(FetchedDocument::Changed {
                body: answer.document.body,
                validators: answer.document.meta.validators.clone(),
            })
        })
    }

    fn archive<'a>(
        &'a self,
        package: &'a PackageName,
        reference: &'a GitRef,
        _: ClientId,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(async move {
            let answer = self.0.archive(&self.id(package), reference).await.map_err(as_fetch_error)?;
            let ServedArchive::Stored(object) = answer.served else { return Err(unreadable()) };
            let len = Some(object.meta.len);
            Ok(FetchedBody { len, anonymous: true, body: stream(object), place: DownloadPlace::default() })
        })
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<CatalogPackage>, FetchError>> {
        Box::pin(
            async move { Ok(self.0.catalog().await.iter().map(|package| CatalogPackage::clone(package)).collect()) },
        )
    }
}

fn as_fetch_error(error: RegistryError) -> FetchError {
    match error {
        RegistryError::Fetch(failure) => failure.error,
        _ => unreadable(),
    }
}

fn unreadable() -> FetchError {
    FetchError::Invalid("what is published cannot be read".into())
}

/// The bytes of a zip.
fn stream(object: Object) -> futures_util::stream::BoxStream<'static, Result<bytes::Bytes, FetchError>> {
    let read = |(object, offset): (Object, u64)| async move {
        match object.read(offset, HOSTED_READ_BYTES).await {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                let next = offset + bytes.len() as u64;
                Some((Ok(bytes), (object, next)))
            }
            Err(_) => Some((Err(unreadable()), (object, u64::MAX))),
        }
    };
    futures_util::stream::unfold((object, 0), read).boxed()
}
