//! The configured upstreams by name, and their documents and archives as the cache's [`Origin`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    RegistryError,
    hosting::{HostedPackages, HostedUpstream},
    not_found,
};
use crate::{
    entry::Document,
    http::cache_status::CacheStatus,
    observe::UpstreamMetrics,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument, Missing, Origin},
    package::{PackageId, PackageName},
    peer::{ClientId, FetchAllowance, RequestTrace},
    upstream::{
        CredentialStatus, DocumentAsk, GateStatus, GitRef, RateLimitStatus, ReleaseLookup, Upstream, ZipPacking,
    },
};

/// The state of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamReportLine {
    /// Its name.
    pub(crate) name: String,
    /// Its gate.
    pub(crate) gate: GateStatus,
    /// How long it allows no request with any credential; `None` while it allows some.
    pub(crate) limited_for: Option<Duration>,
    /// Its credentials. No secrets.
    pub(crate) credentials: Vec<CredentialStatus>,
    /// Requests that it answered.
    pub(crate) answered: u64,
    /// Requests that it did not answer, or with a server error.
    pub(crate) failed: u64,
}

/// The configured upstreams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstreams {
    by_name: Arc<BTreeMap<String, Arc<dyn Upstream>>>,
    hosted: Option<Arc<HostedPackages>>,
}

impl Upstreams {
    pub(super) fn new(mut by_name: BTreeMap<String, Arc<dyn Upstream>>, hosted: Option<Arc<HostedPackages>>) -> Self {
        if let Some(hosted) = &hosted {
            by_name.insert(hosted.upstream().to_string(), Arc::new(HostedUpstream(hosted.clone())));
        }
        Self { by_name: Arc::new(by_name), hosted }
    }

    /// What is published on this mirror; `None` where nothing can be.
    pub(super) fn hosting(&self) -> Option<&Arc<HostedPackages>> {
        self.hosted.as_ref()
    }

    /// The published packages, for a package that is one of them.
    pub(super) fn hosted(&self, package: &PackageId) -> Option<&Arc<HostedPackages>> {
        self.hosted.as_ref().filter(|hosted| **hosted.upstream() == *package.upstream)
    }

    /// The upstreams that requests are sent to: not the packages that are published here.
    fn asked(&self) -> impl Iterator<Item = (&String, &Arc<dyn Upstream>)> {
        let is_hosted = |name: &str| self.hosted.as_ref().is_some_and(|hosted| **hosted.upstream() == *name);
        self.by_name.iter().filter(move |(name, _)| !is_hosted(name))
    }

    /// True when an upstream of this name is configured.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The upstream of this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<dyn Upstream>> {
        self.by_name.get(name)
    }

    /// True when the package's upstream is asked with a token.
    ///
    /// # Errors
    /// `NotFound(Package)` when no upstream of that name is configured.
    pub(super) fn has_token(&self, package: &PackageId) -> Result<bool, RegistryError> {
        Ok(self.of(package)?.has_token())
    }

    /// Where the files of the upstream's zips are.
    ///
    /// # Errors
    /// As [`Upstreams::has_token`].
    pub(crate) fn zip_packing(&self, package: &PackageId) -> Result<ZipPacking, RegistryError> {
        Ok(self.of(package)?.zip_packing())
    }

    /// The document that shows whether the package exists.
    ///
    /// # Errors
    /// As [`Upstreams::has_token`].
    pub(super) fn existence_ask(&self, package: &PackageId) -> Result<DocumentAsk, RegistryError> {
        Ok(self.of(package)?.existence_ask())
    }

    /// Where the release of one version of the package is found.
    ///
    /// # Errors
    /// As [`Upstreams::has_token`].
    pub(super) fn release_lookup(&self, package: &PackageId) -> Result<ReleaseLookup, RegistryError> {
        Ok(self.of(package)?.release_lookup())
    }

    /// True for a version that is published again and again; false when the upstream is not configured.
    pub(super) fn is_moving(&self, package: &PackageId, version: &str) -> bool {
        self.of(package).is_ok_and(|upstream| upstream.is_moving(version))
    }

    /// True while the upstream refuses a credential, or one is paused.
    ///
    /// # Errors
    /// As [`Upstreams::has_token`].
    pub(super) fn is_credential_refused(&self, package: &PackageId) -> Result<bool, RegistryError> {
        Ok(self.of(package)?.is_credential_refused())
    }

    /// Why the mirror is degraded by its upstreams: one sentence each.
    pub(super) fn degraded(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (name, upstream) in &*self.by_name {
            let status = upstream.gate_status();
            if let Some((cause, wait)) = &status.open {
                let seconds = wait.as_secs();
                reasons.push(format!("{name} does not answer ({cause}); it is asked again in {seconds} s"));
            } else if let Some(wait) = upstream.rate_limit_status().wait {
                let seconds = wait.as_secs();
                reasons.push(format!("{name} limits the mirror's requests; it is asked again in {seconds} s"));
            }
            for kind in &status.short_of {
                let kind = kind.name();
                reasons.push(format!("{name} is short of places for {kind}: requests were turned away"));
            }
            for credential in upstream.credentials() {
                let label = &credential.label;
                for refusal in &credential.refusals {
                    let owner = refusal.owner.as_ref().map(|owner| format!(" for {owner}")).unwrap_or_default();
                    let reason = refusal.reason;
                    let code = reason.as_str();
                    reasons.push(format!("{name} refuses the credential {label}{owner}: it {reason} ({code})"));
                }
            }
        }
        reasons
    }

    /// The state of every upstream that requests are sent to, in order of their names.
    pub(crate) fn report(&self) -> Vec<UpstreamReportLine> {
        let of_upstream = |(name, upstream): (&String, &Arc<dyn Upstream>)| {
            let [(_, answered), (_, failed)] = upstream.request_metrics().counts();
            let gate = upstream.gate_status();
            let limited_for = upstream.rate_limit_status().wait;
            let credentials = upstream.credentials();
            UpstreamReportLine { name: name.clone(), gate, limited_for, credentials, answered, failed }
        };
        self.asked().map(of_upstream).collect()
    }

    /// Visits the figures of the requests to every upstream.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub(crate) fn visit_metrics<E>(
        &self,
        visit: &mut dyn FnMut(&str, &UpstreamMetrics) -> Result<(), E>,
    ) -> Result<(), E> {
        self.asked().try_for_each(|(name, upstream)| visit(name, &upstream.request_metrics()))
    }

    /// What the package's upstream still allows; unknown when it is not configured.
    pub(super) fn rate_limit(&self, package: &PackageId) -> RateLimitStatus {
        self.of(package).map(|upstream| upstream.rate_limit_status()).unwrap_or_default()
    }

    /// Where a document of a package is fetched from.
    ///
    /// # Errors
    /// As [`Upstreams::has_token`].
    pub(super) fn document_origin(
        &self,
        package: &PackageId,
        ask: DocumentAsk,
    ) -> Result<Arc<dyn Origin<Fetched = FetchedDocument>>, RegistryError> {
        let upstream = self.of(package)?.clone();
        let allowance = FetchAllowance::current();
        let trace = RequestTrace::current();
        Ok(Arc::new(UpstreamDocument { upstream, package: package.name.clone(), ask, allowance, trace }))
    }

    /// Where the archive of a reference is fetched from, for the client that the present task answers.
    ///
    /// # Errors
    /// As [`Upstreams::has_token`].
    pub(super) fn archive_origin(
        &self,
        package: &PackageId,
        reference: GitRef,
    ) -> Result<Arc<dyn Origin<Fetched = FetchedBody>>, RegistryError> {
        let upstream = self.of(package)?.clone();
        let client = ClientId::current();
        let allowance = FetchAllowance::current();
        let trace = RequestTrace::current();
        let package = package.name.clone();
        Ok(Arc::new(UpstreamArchive { upstream, package, reference, client, allowance, trace }))
    }

    fn of(&self, package: &PackageId) -> Result<&Arc<dyn Upstream>, RegistryError> {
        let upstream = self.by_name.get(&*package.upstream);
        upstream.ok_or_else(|| not_found(Missing::Package, CacheStatus::generated()))
    }
}

/// Counts a cold miss of the client.
///
/// # Errors
/// [`FetchError::Busy`] when the client has reached its limit. The error is about the client alone and is not remembered:
/// other clients that wait for the same fetch may start it again at once.
fn take_cold_miss(allowance: Option<&FetchAllowance>) -> Result<(), FetchError> {
    let Some(allowance) = allowance else { return Ok(()) };
    allowance.take().map_err(|retry_after| FetchError::Busy { retry_after })
}

/// One document of one package on one upstream.
struct UpstreamDocument {
    upstream: Arc<dyn Upstream>,
    package: PackageName,
    ask: DocumentAsk,
    /// Of the client's request; `None` without a limit.
    allowance: Option<Arc<FetchAllowance>>,
    /// Of the client's request.
    trace: RequestTrace,
}

impl Origin for UpstreamDocument {
    type Fetched = FetchedDocument;

    fn fetch<'a>(&'a self, stored: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        let taken = match stored {
            None => take_cold_miss(self.allowance.as_deref()),
            Some(_) => Ok(()),
        };
        Box::pin(self.trace.clone().scope(async move {
            taken?;
            self.upstream.document(&self.package, &self.ask, stored).await
        }))
    }

    fn may_come_back(&self) -> bool {
        !self.trace.is_direct() && self.upstream.may_be_mirror()
    }
}

/// The archive of one reference of one package on one upstream.
struct UpstreamArchive {
    upstream: Arc<dyn Upstream>,
    package: PackageName,
    reference: GitRef,
    client: ClientId,
    /// Of the client's request; `None` without a limit.
    allowance: Option<Arc<FetchAllowance>>,
    /// Of the client's request.
    trace: RequestTrace,
}

impl Origin for UpstreamArchive {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        let taken = take_cold_miss(self.allowance.as_deref());
        Box::pin(self.trace.clone().scope(async move {
            taken?;
            self.upstream.archive(&self.package, &self.reference, self.client).await
        }))
    }

    fn may_come_back(&self) -> bool {
        !self.trace.is_direct() && self.upstream.may_be_mirror()
    }

    fn may_retry(&self) -> bool {
        self.upstream.may_retry()
    }
}
