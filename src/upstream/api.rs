//! The [`Upstream`] implementation that all kinds share; a kind supplies only what differs, as an [`UpstreamApi`].

use std::{future::Future, marker::PhantomData, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    BuildError, Config, DocumentAsk, GitRef, ProcessContext, RateLimitStatus, ReleaseLookup, Upstream, ZipPacking,
    api_profile::ApiProfile,
    call_log::CallLog,
    client::ApiClient,
    credentials::{CredentialReading, CredentialReport, CredentialSource, CredentialStatus, NextStep},
    failure,
    gate::GateStatus,
    moving::MovingPattern,
};
use crate::{
    entry::Document,
    observe::UpstreamMetrics,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::{CatalogPackage, PackageName},
    peer::ClientId,
};

/// The part of an upstream that differs between kinds: addresses, paging, and document formats.
pub(super) trait UpstreamApi: Send + Sync + 'static {
    /// The constants of its HTTP API.
    const PROFILE: &'static ApiProfile;

    /// Where the files of its zips are.
    const ZIP_PACKING: ZipPacking;

    /// The document that shows with one request whether a package exists.
    const EXISTENCE: DocumentAsk;

    /// Where the release of one version is found.
    const RELEASE_LOOKUP: ReleaseLookup;

    /// Fetches and normalises a document; see [`Upstream::document`].
    fn document(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> impl Future<Output = Result<FetchedDocument, FetchError>> + Send;

    /// Opens a zip; see [`Upstream::archive`].
    fn archive(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        reference: &GitRef,
    ) -> impl Future<Output = Result<FetchedBody, FetchError>> + Send;

    /// Fetches the list of packages; see [`Upstream::catalog`]. The default is an upstream without one.
    fn catalog(
        _client: &ApiClient,
        _call: &CallLog<'_>,
    ) -> impl Future<Output = Result<Vec<CatalogPackage>, FetchError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }
}

/// One kind's API as an [`Upstream`]: with the HTTP client, and one log event for each call that fails.
pub(super) struct ApiUpstream<A> {
    client: ApiClient,
    total_timeout: Duration,
    moving: Vec<MovingPattern>,
    api: PhantomData<A>,
}

impl<A: UpstreamApi> ApiUpstream<A> {
    /// See [`super::build`].
    pub(super) fn new(
        name: &str,
        config: &Config,
        credentials: Vec<CredentialSource>,
        process: &ProcessContext,
    ) -> Result<Self, BuildError> {
        let client = ApiClient::new(name, config, credentials, process, A::PROFILE)?;
        let moving = config.moving.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        let wrong = |error: super::MovingPatternError| BuildError {
            upstream: name.to_owned(),
            key: "moving",
            reason: error.to_string(),
        };
        let total_timeout = config.total_timeout.0;
        Ok(Self { client, total_timeout, moving: moving.map_err(wrong)?, api: PhantomData })
    }

    /// Makes one call within its deadline, and logs its failure. `attempt` makes its requests, again with another
    /// credential where one is refused or paused. `fingerprint` is that of the credential which fetched the stored
    /// document.
    async fn call<T, F>(
        &self,
        call: &CallLog<'_>,
        fingerprint: Option<&str>,
        attempt: impl Fn() -> F,
    ) -> Result<T, FetchError>
    where
        F: Future<Output = Result<T, FetchError>>,
    {
        let mut attempts = self.client.pool().attempts(call.package, fingerprint);
        let answer = async {
            loop {
                call.use_identity(attempts.next().await?);
                if let NextStep::Finished(result) = attempts.end(attempt().await) {
                    return result;
                }
            }
        };
        let result = timeout(self.total_timeout, answer).await;
        let result = result.unwrap_or(Err(FetchError::Timeout(failure::CALL_TIMED_OUT)));
        self.client.finish(call, result)
    }
}

impl<A: UpstreamApi> Upstream for ApiUpstream<A> {
    fn has_token(&self) -> bool {
        !self.client.pool().is_empty()
    }

    fn is_credential_refused(&self) -> bool {
        self.client.pool().is_any_unusable()
    }

    fn credentials(&self) -> Vec<CredentialStatus> {
        self.client.pool().status()
    }

    fn read_credential_files(&self, reading: CredentialReading) {
        self.client.pool().read_files(reading);
    }

    fn report_credentials(&self) -> BoxFuture<'_, Vec<CredentialReport>> {
        Box::pin(self.client.pool().report())
    }

    fn zip_packing(&self) -> ZipPacking {
        A::ZIP_PACKING
    }

    fn existence_ask(&self) -> DocumentAsk {
        A::EXISTENCE
    }

    fn release_lookup(&self) -> ReleaseLookup {
        A::RELEASE_LOOKUP
    }

    fn is_moving(&self, version: &str) -> bool {
        self.moving.iter().any(|pattern| pattern.matches(version))
    }

    fn rate_limit_status(&self) -> RateLimitStatus {
        self.client.pool().rate_limit_status()
    }

    fn gate_status(&self) -> GateStatus {
        self.client.gate().status()
    }

    fn request_metrics(&self) -> Arc<UpstreamMetrics> {
        self.client.gate().metrics().clone()
    }

    fn may_be_mirror(&self) -> bool {
        self.client.mirror_detector().may_be_mirror()
    }

    fn may_retry(&self) -> bool {
        self.client.gate().may_retry()
    }

    fn document<'a>(
        &'a self,
        package: &'a PackageName,
        ask: &'a DocumentAsk,
        stored: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        Box::pin(async move {
            let call = &CallLog::new(Some(package), ask.name(), ClientId::Mirror, self.client.pool().anonymous());
            let fingerprint = stored.and_then(|stored| stored.meta.validators.token_fingerprint.as_deref());
            self.call(call, fingerprint, move || A::document(&self.client, call, package, ask, stored)).await
        })
    }

    fn archive<'a>(
        &'a self,
        package: &'a PackageName,
        reference: &'a GitRef,
        client: ClientId,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(async move {
            let call = &CallLog::new(Some(package), "archive", client, self.client.pool().anonymous());
            self.call(call, None, move || A::archive(&self.client, call, package, reference)).await
        })
    }

    fn catalog(&self) -> BoxFuture<'_, Result<Vec<CatalogPackage>, FetchError>> {
        Box::pin(async move {
            let call = &CallLog::new(None, "catalog", ClientId::Mirror, self.client.pool().anonymous());
            self.call(call, None, move || A::catalog(&self.client, call)).await
        })
    }
}
