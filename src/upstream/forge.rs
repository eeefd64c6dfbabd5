//! The [`Upstream`] implementation that all forges share; a forge supplies only what differs, as a [`ForgeApi`].

use std::{future::Future, marker::PhantomData};

use jiff::Timestamp;

use super::{
    BuildError, Config, DocumentAsk, GitRef, RateLimitStatus, Upstream,
    call_log::CallLog,
    client::ForgeClient,
    error_class::{ErrorClass, ErrorResponse},
};
use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::PackageName,
    value::Secret,
};

/// The constants of a forge's HTTP API.
pub(super) struct ForgeProfile {
    /// The scheme of `Authorization`.
    pub(super) scheme: &'static str,
    /// Additional headers of every API request.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// The default `Accept` of API requests.
    pub(super) accept: &'static str,
    /// Classifies a response with a status of 400 or more.
    pub(super) classify: fn(ErrorResponse<'_>, Timestamp) -> ErrorClass,
}

/// The part of an upstream that differs between forges: addresses, paging, and document formats.
pub(super) trait ForgeApi: Send + Sync + 'static {
    /// The constants of its HTTP API.
    const PROFILE: &'static ForgeProfile;

    /// Fetches and normalises a document; see [`Upstream::document`].
    fn document(
        client: &ForgeClient,
        call: &CallLog<'_>,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> impl Future<Output = Result<FetchedDocument, FetchError>> + Send;

    /// Opens a zip; see [`Upstream::archive`].
    fn archive(
        client: &ForgeClient,
        call: &CallLog<'_>,
        reference: &GitRef,
    ) -> impl Future<Output = Result<FetchedBody, FetchError>> + Send;
}

/// A forge as an [`Upstream`]: its API, the HTTP client, and one log event for each call that fails.
pub(super) struct Forge<A> {
    client: ForgeClient,
    api: PhantomData<A>,
}

impl<A: ForgeApi> Forge<A> {
    /// See [`super::build`].
    pub(super) fn new(name: &str, config: &Config, token: Option<Secret>, instance: &str) -> Result<Self, BuildError> {
        Ok(Self { client: ForgeClient::new(name, config, token, instance, A::PROFILE)?, api: PhantomData })
    }
}

impl<A: ForgeApi> Upstream for Forge<A> {
    fn has_token(&self) -> bool {
        self.client.has_token()
    }

    fn is_credential_refused(&self) -> bool {
        self.client.is_credential_refused()
    }

    fn rate_limit_status(&self) -> RateLimitStatus {
        self.client.rate_limit_status()
    }

    fn document<'a>(
        &'a self,
        package: &'a PackageName,
        ask: &'a DocumentAsk,
        stored: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        Box::pin(async move {
            let call = CallLog::new(package, ask.name());
            let result = A::document(&self.client, &call, ask, stored).await;
            self.client.finish(&call, result)
        })
    }

    fn archive<'a>(
        &'a self,
        package: &'a PackageName,
        reference: &'a GitRef,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(async move {
            let call = CallLog::new(package, "archive");
            let result = A::archive(&self.client, &call, reference).await;
            self.client.finish(&call, result)
        })
    }
}
