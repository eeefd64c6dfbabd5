//! Upstreams: the [`Upstream`] trait, one file per kind of forge or registry, and one line per kind in [`build`].
//!
//! An upstream returns normalised documents and opened archives; formats, addresses and credentials stay in this module.
//! Every request leaves through `client`, the only owner of the credential and of the rule where it may be sent.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    entry::Document,
    observe::UpstreamMetrics,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::{CatalogPackage, PackageName},
    peer::{ClientId, PSEUDONYM_PREFIX},
    value::memory_budget::MemoryBudget,
};

mod api;
mod api_profile;
mod array_elements;
mod body;
mod branches;
mod call_log;
mod client;
mod config;
mod connect;
mod content_coding;
mod credentials;
mod documents;
mod envelope;
mod error_class;
mod failure;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gate;
mod gitee;
mod github;
mod json_repair;
mod moving;
mod normalise;
mod offline;
mod pages;
mod redirect;
mod registry_api;
mod registry_release;
mod registry_zip;
mod request;
mod response;
mod signature;
mod simple;
mod tags;
mod urls;
mod v3;

use api::ApiUpstream;

pub use config::{BuildError, Config, MAX_CREDENTIALS, UpstreamKind, defaults};
pub use connect::AuthorityFileError;
pub(crate) use connect::{ca_certificates, system_roots, trust_warning};
pub use credentials::{
    CredentialConfig, CredentialGrant, CredentialOutcome, CredentialReading, CredentialRefusal, CredentialReport,
    CredentialSource, CredentialSourceError, CredentialStatus, GrantedQuota, InstallationGrant, RefusalReason,
};
pub use gate::{CallTimes, FailedCall, GateStatus, PlaceKind, PlaceQueue};
pub use moving::{MovingPattern, MovingPatternError};

#[cfg(test)]
mod tests;

/// What the upstreams of one mirror share.
#[derive(Clone, Debug)]
pub struct ProcessContext {
    /// This mirror's pseudonym in `Via` ([RFC 9110 §7.6.3](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3)).
    pub instance: String,
    /// What documents that arrive are counted against.
    pub memory: MemoryBudget,
}

/// Builds the upstream of one `[upstreams.NAME]` section.
///
/// `credentials` are sent only to the origin of `config.api`, the first ones preferred. Reads `ca_file`; sends no request.
///
/// # Errors
/// [`BuildError`] names the key with the invalid value.
pub fn build(
    name: &str,
    config: &Config,
    credentials: Vec<CredentialSource>,
    process: &ProcessContext,
) -> Result<Arc<dyn Upstream>, BuildError> {
    Ok(match config.kind {
        UpstreamKind::Github => Arc::new(ApiUpstream::<github::Github>::new(name, config, credentials, process)?),
        UpstreamKind::Gitee => Arc::new(ApiUpstream::<gitee::Gitee>::new(name, config, credentials, process)?),
        UpstreamKind::V3 => {
            Arc::new(ApiUpstream::<registry_api::PackageRegistry<v3::V3>>::new(name, config, credentials, process)?)
        }
        UpstreamKind::Simple => Arc::new(ApiUpstream::<registry_api::PackageRegistry<simple::Simple>>::new(
            name,
            config,
            credentials,
            process,
        )?),
    })
}

/// The offline stand-in of an upstream: refuses every request without opening a connection.
pub fn offline(upstream: &Arc<dyn Upstream>) -> Arc<dyn Upstream> {
    Arc::new(offline::Offline::new(upstream.clone()))
}

/// The mirror's pseudonym in the `Via` of its requests
/// ([RFC 9110 §7.6.3](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3)).
pub fn pseudonym(instance: &str) -> String {
    format!("{PSEUDONYM_PREFIX}{instance}")
}

/// A client of one forge or registry.
pub trait Upstream: Send + Sync + 'static {
    /// True when requests may carry a credential.
    fn has_token(&self) -> bool;

    /// True while a credential is refused or paused: then a 404 does not mean that something does not exist.
    fn is_credential_refused(&self) -> bool {
        false
    }

    /// The state of each credential.
    fn credentials(&self) -> Vec<CredentialStatus> {
        Vec::new()
    }

    /// Reads the files of credentials again, and uses what has changed. Blocks.
    fn read_credential_files(&self, _reading: CredentialReading) {}

    /// Asks the upstream what each credential may do. Every request has a deadline. A credential that is refused is out of
    /// use from then on.
    fn report_credentials(&self) -> BoxFuture<'_, Vec<CredentialReport>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Where the files of its zips are.
    fn zip_packing(&self) -> ZipPacking {
        ZipPacking::TopFolder
    }

    /// The document that shows with one request whether a package exists.
    fn existence_ask(&self) -> DocumentAsk {
        DocumentAsk::Repository
    }

    /// Where the release of one version is found.
    fn release_lookup(&self) -> ReleaseLookup {
        ReleaseLookup::InList
    }

    /// True for a version that is published again and again: `moving` in the configuration.
    fn is_moving(&self, _version: &str) -> bool {
        false
    }

    /// The rate limit as last reported. The default is an upstream without limits.
    fn rate_limit_status(&self) -> RateLimitStatus {
        RateLimitStatus::default()
    }

    /// Which places it is short of, and whether its breaker is open. The default is an upstream without a gate.
    fn gate_status(&self) -> GateStatus {
        GateStatus::default()
    }

    /// The figures of the requests that were sent to it. The default is an upstream that is never asked.
    fn request_metrics(&self) -> Arc<UpstreamMetrics> {
        Arc::default()
    }

    /// True when the upstream may be a mirror like this one: its last response was, or there was none yet.
    fn may_be_mirror(&self) -> bool {
        false
    }

    /// Takes one retry from the upstream's budget; false when it is spent.
    fn may_retry(&self) -> bool {
        true
    }

    /// Fetches a document, conditionally when `stored` was fetched with the same credential. The body of a changed
    /// document is normalised JSON of the type that [`DocumentAsk`] names.
    ///
    /// # Errors
    /// See [`FetchError`].
    fn document<'a>(
        &'a self,
        package: &'a PackageName,
        ask: &'a DocumentAsk,
        stored: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>>;

    /// Opens the zip of a tag, a commit or a moving version, for `client`. Redirects are followed, status and media type
    /// are checked, and the body has not been read yet. Its place among the downloads is held until the returned
    /// [`FetchedBody`] is dropped.
    ///
    /// # Errors
    /// See [`FetchError`]; an unknown ref is `NotFound(Missing::Version)`.
    fn archive<'a>(
        &'a self,
        package: &'a PackageName,
        reference: &'a GitRef,
        client: ClientId,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>>;

    /// Fetches the list of public packages, without a credential and without a search term. The default is an upstream
    /// without such a list.
    ///
    /// # Errors
    /// See [`FetchError`].
    fn catalog(&self) -> BoxFuture<'_, Result<Vec<CatalogPackage>, FetchError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// Where an upstream has the release of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseLookup {
    /// In the release list.
    InList,
    /// At its own address: [`DocumentAsk::Tag`]. No list is needed.
    ByTag,
}

/// Where the files of an upstream's zips are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZipPacking {
    /// In one top folder.
    TopFolder,
    /// At the root.
    Root,
}

/// The rate limit of an upstream, as its last responses reported it. Unknown is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// Requests left until `reset`.
    pub remaining: Option<u64>,
    /// When the quota is restored.
    pub reset: Option<Timestamp>,
    /// How long no request is sent because of a limit that was hit.
    pub wait: Option<Duration>,
}

/// A document to fetch, and the type of its normalised JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DocumentAsk {
    /// Every release: [`crate::package::Releases`].
    Releases,
    /// The release that the upstream calls latest: [`crate::package::Release`].
    Latest,
    /// The release of one tag: [`crate::package::Release`].
    Tag(String),
    /// The repository: [`crate::package::Repository`].
    Repository,
    /// The tags of a repository, with or without a release: [`crate::package::RepositoryTags`].
    Tags,
    /// The branches of a repository: [`crate::package::RepositoryBranches`].
    Branches,
    /// The head commit of a branch: [`crate::package::BranchHead`].
    Branch(String),
    /// What a moving version is at present: [`crate::package::MovingHead`].
    Moving(String),
}

impl DocumentAsk {
    /// The name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Releases => "releases",
            Self::Latest => "latest",
            Self::Tag(_) => "tag",
            Self::Repository => "repository",
            Self::Tags => "tags",
            Self::Branches => "branches",
            Self::Branch(_) => "branch",
            Self::Moving(_) => "moving version",
        }
    }
}

/// An unambiguous reference of a zip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GitRef {
    /// A tag, without the prefix `refs/tags/`.
    Tag(String),
    /// A full commit SHA.
    Commit(String),
    /// A moving version, as it was when it had this revision.
    Moving {
        /// The version, such as `dev`.
        version: String,
        /// [`crate::package::MovingHead::revision`].
        revision: String,
    },
}
