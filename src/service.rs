//! Answers one request: parse, look up, respond, one access event.
//!
//! [`Service::handle`] is the entry. The order of one request is in `handler.rs`; one file per kind of response is in
//! `handlers/`; what every response needs (hosts, errors, bodies, the response cache, the access log) is beside them.

use std::sync::{Arc, Weak};

use jiff::Timestamp;

use crate::{
    access::Access,
    dialect::Names,
    observe::{AuditLog, RequestMetrics},
    peer::{ClientTable, OwnCertificates},
    registry::{Faults, Registry},
    value::memory_budget::MemoryBudget,
};

mod access_log;
mod audit;
mod caller;
mod certificates;
pub(crate) mod client_address;
mod context;
mod error;
mod found_package;
mod handler;
mod handlers;
mod headers;
pub(crate) mod hosts;
mod json_response;
mod package_scans;
mod reload;
pub mod render;
mod rendition;
mod rendition_cache;
mod request_id;
mod request_labels;
mod response_cache;
mod snapshot;
mod source_sharing;
mod sources;
mod view_cache;
mod web;
mod zip_body;
mod zip_response;

pub use handler::ResponseFuture;
pub use handlers::health::{Readiness, is_health_check};
pub use handlers::metrics::MetricsExposure;
pub(crate) use reload::Reload;
pub use reload::ReloadError;

use client_address::ClientAddresses;
use context::SendMode;
use error::fetch_failure::failure_code;
use handlers::catalog::SearchIndex;
use hosts::Hosts;
use package_scans::PackageScans;
use rendition_cache::RenditionCache;
use request_id::RequestIds;
use response_cache::ResponseCache;
use view_cache::ViewCache;

/// The parts that requests are answered with. One per process, shared by all connections.
pub struct Service {
    registry: Arc<Registry>,
    names: Arc<Names>,
    hosts: Hosts,
    client_addresses: ClientAddresses,
    clients: Arc<ClientTable>,
    access: Arc<Access>,
    audit: Option<AuditLog>,
    metrics: Arc<RequestMetrics>,
    metrics_exposure: MetricsExposure,
    /// The pseudonym in the `Via` field of the mirror's own requests: a request that has it went round in a loop.
    pseudonym: String,
    readiness: Readiness,
    certificates: OwnCertificates,
    reloader: Weak<dyn Reload>,
    started_at: Timestamp,
    reloaded_at: Option<Timestamp>,
    response_cache: ResponseCache,
    renditions: Arc<RenditionCache>,
    views: Arc<ViewCache>,
    search_index: SearchIndex,
    scans: PackageScans,
    /// The memory for body frames that HTTP/2 clients have not read yet.
    send_memory: MemoryBudget,
    request_ids: RequestIds,
}

/// What a service is built on.
pub(crate) struct ServiceParts {
    pub(crate) registry: Arc<Registry>,
    pub(crate) names: Names,
    pub(crate) hosts: Hosts,
    pub(crate) client_addresses: ClientAddresses,
    /// The limits of one client, and what each has used.
    pub(crate) clients: Arc<ClientTable>,
    /// Who may read what.
    pub(crate) access: Arc<Access>,
    /// `None` without an audit log.
    pub(crate) audit: Option<AuditLog>,
    /// The mirror's name in `Via` ([RFC 9110 §7.6.3]).
    ///
    /// [RFC 9110 §7.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
    pub(crate) pseudonym: String,
    pub(crate) readiness: Readiness,
    /// The mirror's own certificates.
    pub(crate) certificates: OwnCertificates,
    /// Applies a changed configuration; it replaces the service.
    pub(crate) reloader: Weak<dyn Reload>,
    /// The figures of all requests of the process.
    pub(crate) metrics: Arc<RequestMetrics>,
    /// Which listeners answer `/metrics`.
    pub(crate) metrics_exposure: MetricsExposure,
    /// When the process was started.
    pub(crate) started_at: Timestamp,
    /// When the configuration was last read again; `None` before the first time.
    pub(crate) reloaded_at: Option<Timestamp>,
    /// Most bytes of rendered documents.
    pub(crate) max_rendition_bytes: u64,
    /// The memory for body frames that HTTP/2 clients have not read yet.
    pub(crate) send_memory: MemoryBudget,
}

impl Service {
    /// What is wrong at present.
    fn faults(&self) -> Faults {
        let mut faults = self.registry.faults();
        faults.mirror.extend(certificates::faults(&self.certificates, self.registry.now()));
        faults
    }

    /// Builds the service; its caches are empty.
    pub(crate) fn build(parts: ServiceParts) -> Self {
        let ServiceParts {
            registry,
            names,
            hosts,
            client_addresses,
            clients,
            access,
            audit,
            pseudonym,
            readiness,
            certificates,
            reloader,
            metrics,
            metrics_exposure,
            started_at,
            reloaded_at,
            max_rendition_bytes,
            send_memory,
        } = parts;
        let memory = registry.memory().clone();
        let spawn = {
            let registry = registry.clone();
            Box::new(move |task| registry.spawn(task))
        };
        Self {
            registry,
            names: Arc::new(names),
            hosts,
            client_addresses,
            clients,
            access,
            audit,
            metrics,
            metrics_exposure,
            pseudonym,
            readiness,
            certificates,
            reloader,
            started_at,
            reloaded_at,
            response_cache: ResponseCache::default(),
            renditions: Arc::new(RenditionCache::new(max_rendition_bytes, spawn, memory.clone())),
            views: Arc::new(ViewCache::new(memory)),
            search_index: SearchIndex::default(),
            scans: PackageScans::default(),
            send_memory,
            request_ids: RequestIds::new(),
        }
    }
}
