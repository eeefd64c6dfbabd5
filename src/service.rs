//! Answers one request: parse, look up, respond, one access event.
//!
//! [`Service::handle`] is the entry. The order of one request is in `handler.rs`; one file per kind of response is in
//! `handlers/`; what every response needs (hosts, errors, bodies, the response cache, the access log) is beside them.

use std::sync::Arc;

use crate::{dialect::Names, registry::Registry};

mod access_log;
pub(crate) mod client_address;
mod context;
mod error;
mod found_package;
mod handler;
mod handlers;
mod headers;
pub(crate) mod hosts;
pub mod render;
mod request_id;
mod response_cache;
mod sources;
mod view_cache;
mod zip_body;
mod zip_response;

pub use handler::ResponseFuture;
pub use handlers::health::Readiness;

use client_address::ClientAddresses;
use context::SendMode;
use handlers::{catalog::SearchIndex, json::RenderedJsonCache};
use hosts::Hosts;
use request_id::RequestIds;
use response_cache::ResponseCache;
use view_cache::ViewCache;

/// The parts that requests are answered with. One per process, shared by all connections.
pub struct Service {
    registry: Arc<Registry>,
    names: Names,
    hosts: Hosts,
    client_addresses: ClientAddresses,
    /// The pseudonym in the `Via` field of the mirror's own requests: a request that has it went round in a loop.
    pseudonym: String,
    readiness: Readiness,
    response_cache: ResponseCache,
    rendered_json: RenderedJsonCache,
    views: Arc<ViewCache>,
    search_index: SearchIndex,
    request_ids: RequestIds,
}

impl Service {
    /// Builds the service; its caches are empty. `pseudonym` is the mirror's name in `Via` ([RFC 9110 §7.6.3]).
    ///
    /// [RFC 9110 §7.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
    pub fn build(
        registry: Arc<Registry>,
        names: Names,
        hosts: Hosts,
        client_addresses: ClientAddresses,
        pseudonym: String,
        readiness: Readiness,
    ) -> Self {
        Self {
            registry,
            names,
            hosts,
            client_addresses,
            pseudonym,
            readiness,
            response_cache: ResponseCache::default(),
            rendered_json: RenderedJsonCache::new(),
            views: Arc::new(ViewCache::new()),
            search_index: SearchIndex::default(),
            request_ids: RequestIds::new(),
        }
    }
}
