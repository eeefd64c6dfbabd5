//! The use cases: releases, archives of versions, metadata records, the catalog, and the administration of what is stored.
//! Connects access policy, cache and upstreams. Knows neither HTTP messages nor JSON envelopes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    cache::Cache,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing, Verify},
    package::{FolderPackage, PackageId},
    upstream::{DocumentAsk, Upstream},
    value::memory_budget::{MemoryBudget, MemoryShortage},
};

mod archive_source;
mod authorize;
pub(crate) mod bucket_contents;
mod cached_value;
pub(crate) mod catalog;
mod document_policies;
mod document_removal;
pub(crate) mod documents;
mod error;
pub(crate) mod folders;
pub(crate) mod hosting;
mod identity;
pub(crate) mod inventory;
mod inventory_page;
mod keys;
mod list_renewal;
pub(crate) mod metadata;
mod model_config;
mod model_policy;
mod moving;
mod package_documents;
mod parsed;
pub mod policy;
mod ref_lists;
pub(crate) mod release_facts;
mod removals;
mod repository_names;
pub(crate) mod resolve;
pub(crate) mod resolved;
mod selection;
mod shared_sources;
mod shared_work;
mod sources;
mod spelling;
mod stored_documents;
pub(crate) mod transfer;
mod upstreams;
mod version_refusal;
pub(crate) mod version_rules;
pub(crate) mod warming;
pub(crate) mod zip_removal;

use archive_source::{ArchiveSource, ArchiveSourceParts};
use authorize::Authorizer;
use catalog::{
    CatalogService,
    overview::{OverviewParts, PackageOverview},
};
use documents::{ReleaseDocuments, ReleaseDocumentsParts};
use folders::{FolderPackages, FolderParts};
use hosting::HostedPackages;
use identity::RepositoryIdentity;
use inventory::Inventory;
use keys::document_key;
pub(crate) use keys::is_pinned_key;
use list_renewal::ListRenewal;
use metadata::{MetadataParts, MetadataRecords};
use model_policy::ModelPolicy;
use moving::MovingVersions;
use package_documents::PackageDocuments;
use policy::{AccessPolicy, PolicyError};
use ref_lists::RefLists;
use release_facts::ReleaseFacts;
use resolve::{VersionResolver, VersionResolverParts};
use transfer::Transfer;
use upstreams::Upstreams;
use version_rules::{SeenVersions, VersionRules};
use warming::{Warming, WarmingParts};

pub use crate::cache::{
    BucketError, BucketState, CacheFailure, CacheUsage, DocumentCheck, FleetFigures, Generation, HitStats, ImportError,
    Integrity, InventoryEntry, KeepChange, NotUploaded, Object, ObjectContent, OperationCounts, PinConflict,
    PushedArchive, PushedPin, Pusher, RemovedBy, ServedArchive, SetSourceError, SourceRecord, SourceSelection,
    TierStats, WeakObject, fill_watcher::FillUpdate, spool_reader::SpoolReader,
};
pub(crate) use crate::hosted::{
    ChangeError, Publication, PublishForm, PublishRefusal, StateChange, UploadError, VersionState,
};
pub use crate::upstream::{CallTimes, CredentialStatus, FailedCall, PlaceKind, PlaceQueue, ZipPacking};
pub use authorize::Audience;
pub use cached_value::CachedValue;
pub use error::RegistryError;
pub use model_config::{ModelConfig, ModelMode};
pub use parsed::MAX_PARSED_BYTES;
pub use policy::{AgeConfig, Config, Gone, Private, Unbuilt};
pub use shared_sources::{SourceChange, SourceSearch, SourceSharing};
pub use sources::{ImportSourceError, SourceResolver, SourceSearchFailure};
pub(crate) use upstreams::UpstreamReportLine;
pub use version_refusal::VersionRefusal;
pub(crate) use version_rules::{BlockError, BlockedPattern, Blocks, StoredBlocks};

/// The use cases of one mirror over one cache and several upstreams, one part per subject.
pub struct Registry {
    cache: Arc<Cache>,
    documents: Arc<ReleaseDocuments>,
    archives: Arc<VersionResolver>,
    metadata: MetadataRecords,
    folders: Arc<FolderPackages>,
    release_facts: Arc<ReleaseFacts>,
    catalog: Arc<CatalogService>,
    inventory: Inventory,
    transfer: Transfer,
    warming: Warming,
    sources: SourceResolver,
    upstreams: Upstreams,
    rules: Arc<VersionRules>,
    model: Arc<ModelPolicy>,
    unbuilt: Unbuilt,
    unbuilt_wait: Duration,
}

/// What is wrong, by where the fault is: one sentence each, without a full stop. Empty when nothing is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// On this mirror.
    pub(crate) mirror: Vec<String>,
    /// With upstreams.
    pub(crate) upstreams: Vec<String>,
}

impl Faults {
    /// All of them: the reasons why the mirror is degraded.
    pub(crate) fn into_reasons(self) -> Vec<String> {
        self.mirror.into_iter().chain(self.upstreams).collect()
    }
}

impl Registry {
    /// Builds the use cases. Every archive must pass `verify` before it is stored. `folders` are the configured folders of
    /// repositories that are packages.
    ///
    /// # Errors
    /// The first pattern of `packages` that is not valid.
    pub(crate) fn build(
        cache: Arc<Cache>,
        upstreams: BTreeMap<String, Arc<dyn Upstream>>,
        packages: &Config,
        blocks: Arc<Blocks>,
        verify: Arc<dyn Verify>,
        folders: Vec<Arc<FolderPackage>>,
        hosted: Option<Arc<HostedPackages>>,
    ) -> Result<Self, PolicyError> {
        let policy = AccessPolicy::build(packages)?;
        let upstreams = Upstreams::new(upstreams, hosted);
        let unbuilt = policy.unbuilt();
        let unbuilt_wait = policy.unbuilt_wait();
        let stored = Arc::new(PackageDocuments::new(cache.clone(), upstreams.clone(), policy.gone()));
        let identity = Arc::new(RepositoryIdentity::new(cache.clone(), stored.clone()));
        let clock = cache.clock().clone();
        let seen = SeenVersions::new(cache.pins().clone(), clock.clone());
        let rules = Arc::new(VersionRules::build(packages, blocks, stored.clone(), seen, clock)?);
        let model = Arc::new(ModelPolicy::build(packages, stored.clone())?);
        let source = Arc::new(ArchiveSource::new(ArchiveSourceParts {
            cache: cache.clone(),
            upstreams: upstreams.clone(),
            documents: stored.clone(),
            identity: identity.clone(),
            rules: rules.clone(),
            model: model.clone(),
            verify: verify.clone(),
        }));
        let authorizer = Arc::new(Authorizer::new(policy, cache.clone(), upstreams.clone(), stored.clone()));
        let ref_lists = Arc::new(RefLists::new(stored.clone(), cache.clock().clone()));
        let list_renewal = Arc::new(ListRenewal::new(cache.clone(), upstreams.clone(), stored.clone()));
        let documents = Arc::new(ReleaseDocuments::new(ReleaseDocumentsParts {
            upstreams: upstreams.clone(),
            authorizer: authorizer.clone(),
            documents: stored.clone(),
            archives: source.clone(),
            ref_lists: ref_lists.clone(),
            list_renewal: list_renewal.clone(),
            identity,
            rules: rules.clone(),
        }));
        let moving = Arc::new(MovingVersions::new(upstreams.clone(), stored.clone(), source.clone()));
        let facts = Arc::new(ReleaseFacts::new(cache.clone(), source.clone(), moving.clone()));
        let archives = Arc::new(VersionResolver::new(VersionResolverParts {
            cache: cache.clone(),
            authorizer: authorizer.clone(),
            documents: stored.clone(),
            archives: source.clone(),
            moving: moving.clone(),
            ref_lists,
            list_renewal,
            model: model.clone(),
        }));
        let folders = Arc::new(FolderPackages::new(FolderParts {
            cache: cache.clone(),
            authorizer: authorizer.clone(),
            documents: stored.clone(),
            releases: documents.clone(),
            resolver: archives.clone(),
            archives: source.clone(),
            release_facts: facts.clone(),
            rules: rules.clone(),
            configured: folders,
            model: model.clone(),
        }));
        let overview = PackageOverview::new(OverviewParts {
            cache: cache.clone(),
            authorizer: authorizer.clone(),
            documents: stored.clone(),
            archives: source.clone(),
            upstreams: upstreams.clone(),
            rules: rules.clone(),
            moving: moving.clone(),
            folders: folders.clone(),
        });
        Ok(Self {
            folders,
            metadata: MetadataRecords::new(MetadataParts {
                releases: documents.clone(),
                archives: source.clone(),
                moving: moving.clone(),
                facts: facts.clone(),
                model: model.clone(),
            }),
            release_facts: facts,
            catalog: Arc::new(CatalogService::new(
                cache.clone(),
                authorizer.clone(),
                source.clone(),
                upstreams.clone(),
                rules.clone(),
                overview,
            )),
            inventory: Inventory::new(cache.clone(), authorizer.clone(), stored.clone(), source.clone()),
            transfer: Transfer::new(
                cache.clone(),
                upstreams.clone(),
                stored.clone(),
                verify,
                model.clone(),
                source.clone(),
            ),
            sources: SourceResolver::new(cache.clone(), upstreams.clone(), authorizer.clone(), stored.clone()),
            warming: Warming::new(WarmingParts {
                upstreams: upstreams.clone(),
                authorizer,
                documents: stored,
                archives: source,
                moving,
                resolver: archives.clone(),
                rules: rules.clone(),
            }),
            unbuilt,
            unbuilt_wait,
            model,
            upstreams,
            cache,
            documents,
            archives,
            rules,
        })
    }

    /// The current time on the clock that freshness is measured with.
    pub fn now(&self) -> Timestamp {
        self.cache.clock().now()
    }

    /// The present generation of a package's documents; see [`Generation`].
    pub fn generation(&self, package: &PackageId) -> Generation {
        self.cache.generation(&document_key(package, &DocumentAsk::Releases))
    }

    /// How long a 2.x client waits for a first download, which shows whether a component is built.
    pub fn unbuilt_wait(&self) -> Duration {
        self.unbuilt_wait
    }

    /// A number that changes whenever the operator's blocks change. Read it before a lookup whose result is cached with it.
    pub fn rules_generation(&self) -> u64 {
        self.rules.generation()
    }

    /// The operator's blocks of versions.
    pub(crate) fn blocks(&self) -> &Arc<Blocks> {
        self.rules.blocks()
    }

    /// Whether unbuilt components are served to the command line clients.
    pub fn unbuilt(&self) -> Unbuilt {
        self.unbuilt
    }

    /// True if some packages are served only where they conform to the package model: their zips are complete before their
    /// first byte is sent.
    pub fn may_enforce_model(&self) -> bool {
        self.model.may_enforce()
    }

    /// What is wrong with the cache directory, the shared bucket and the upstreams, one sentence each.
    pub(crate) fn faults(&self) -> Faults {
        Faults { mirror: self.cache.faults(), upstreams: self.upstreams.degraded() }
    }

    /// The state of the upstreams.
    pub(crate) fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// The memory that requests under way share.
    pub fn memory(&self) -> &MemoryBudget {
        self.cache.memory()
    }

    /// Runs a task beside the requests: on the runtime of the app, waited for at shutdown. It must end by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.cache.spawn(task);
    }

    /// How long a resource is not asked for again after a failure.
    pub fn cooldown(&self) -> Duration {
        self.cache.document_config().cooldown.0
    }

    /// Release lists, releases and the repository of a package.
    pub fn documents(&self) -> &ReleaseDocuments {
        &self.documents
    }

    /// The archives of versions.
    pub fn archives(&self) -> &VersionResolver {
        &self.archives
    }

    /// Metadata records of the Serverless Registry Model.
    pub fn metadata(&self) -> &MetadataRecords {
        &self.metadata
    }

    /// Folders of repositories as packages.
    pub fn folders(&self) -> &FolderPackages {
        &self.folders
    }

    /// Manifests and small files of releases, from their archives.
    pub fn release_facts(&self) -> &ReleaseFacts {
        &self.release_facts
    }

    /// The packages that may be shown.
    pub fn catalog(&self) -> &Arc<CatalogService> {
        &self.catalog
    }

    /// Stored archives and documents.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Export and import, and archives for other nodes of the fleet.
    pub fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// Where names without an upstream come from.
    pub fn sources(&self) -> &SourceResolver {
        &self.sources
    }

    /// What is published on this mirror; `None` where nothing can be.
    pub(crate) fn hosted(&self) -> Option<&Arc<HostedPackages>> {
        self.upstreams.hosting()
    }

    /// Fills the cache before clients ask.
    pub fn warming(&self) -> &Warming {
        &self.warming
    }
}

impl<T> CachedValue<T> {
    /// False for a stale document: the upstream could not be asked, or was not, whether it is still valid.
    pub(crate) fn is_current(&self) -> bool {
        self.status.is_current()
    }
}

/// The error while there is no memory for a document or a directory.
fn no_memory(shortage: MemoryShortage) -> RegistryError {
    RegistryError::Fetch(CacheFailure { error: shortage.into(), status: CacheStatus::generated().failed() })
}

fn not_found(what: Missing, status: CacheStatus) -> RegistryError {
    RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(what), status })
}
