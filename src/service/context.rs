//! The facts about one request that its log event, its error and the response cache need.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::Version;
use jiff::Timestamp;

use super::{request_id::RequestId, snapshot::Snapshot};
use crate::{
    access::{Caller, Grant},
    admin_api::FailureCode,
    dialect::{ApiRequest, Dialect, Route, RouteError},
    http::cache_status::CacheStatus,
    observe::{AuditLog, ThreadMetrics},
    package::PackageId,
    peer::{ClientId, ClientRequest, Peer},
    registry::{Audience, Object, WeakObject},
};

/// What is known about one request so far. [`super::Service::handle`] makes it; `respond` and the handlers fill it
/// as they go, so that the log event of an aborted request has what was known when the client left.
pub(super) struct RequestContext {
    pub(super) id: RequestId,
    /// When the request was received, by the clock that freshness is measured with.
    pub(super) received_at: Timestamp,
    pub(super) peer: Peer,
    /// The client's address; `None` on the control socket.
    pub(super) client: Option<IpAddr>,
    pub(super) send_mode: SendMode,
    /// Where the request is recorded; `None` without an audit log.
    pub(super) audit: Option<AuditLog>,
    /// The figures that the response is counted in.
    pub(super) metrics: Arc<ThreadMetrics>,
    pub(super) started: Instant,
    /// `None` before the request is parsed and when it matches no route.
    pub(super) route: Option<Arc<Route>>,
    /// The package on its upstream; `None` before it is found, and for requests without a package.
    pub(super) package: Option<Arc<PackageId>>,
    /// Who may be sent the response.
    pub(super) audience: Audience,
    /// The dialect of an error's envelope.
    pub(super) dialect: Dialect,
    /// Time and generation read before the lookup; `None` when the request names no package.
    pub(super) snapshot: Option<Snapshot>,
    /// `None` while nothing was looked up.
    pub(super) cache_status: Option<CacheStatus>,
    /// The stored zip that is the response, when the response may be cached.
    pub(super) zip: Option<WeakObject>,
    /// Who sends the request.
    pub(super) caller: Caller,
    /// True when the caller was identified by the signature in the address.
    pub(super) by_address: bool,
    /// The right to the package that the rules give the caller; [`Grant::Refused`] until it is decided.
    pub(super) grant: Grant,
    /// The number of the access rule that refused the request.
    pub(super) refused_by: Option<usize>,
    /// The generation of rules and tokens, read before the caller was identified.
    pub(super) access_generation: u64,
    /// The generation of the blocks of versions, read before the lookup.
    pub(super) rules_generation: u64,
    /// Counts the request against its client's limits; `None` without limits.
    pub(super) client_request: Option<ClientRequest>,
    /// Why the response is an error; `None` for every other one.
    pub(super) failure: Option<Failure>,
}

/// What an error response says, for the log.
pub(super) struct Failure {
    /// The cause; `None` for errors about the request itself.
    pub(super) code: Option<FailureCode>,
    /// The sentence that the client gets.
    pub(super) message: String,
}

/// How the bytes of a file reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// As slices of the file that the kernel sends: plain HTTP/1 over TCP.
    Sendfile,
    /// Read into memory first.
    Copy,
    /// As `Copy`, in parts that a stream of HTTP/2 buffers.
    Frames,
}

impl RequestContext {
    pub(super) fn new(
        id: RequestId,
        received_at: Timestamp,
        peer: Peer,
        client: Option<IpAddr>,
        version: Version,
        audit: Option<AuditLog>,
        metrics: Arc<ThreadMetrics>,
    ) -> Self {
        let send_mode = match version {
            Version::HTTP_2 => SendMode::Frames,
            _ if peer.is_encrypted() || peer.is_control() => SendMode::Copy,
            _ => SendMode::Sendfile,
        };
        Self {
            id,
            received_at,
            peer,
            client,
            send_mode,
            started: Instant::now(),
            audit,
            metrics,
            route: None,
            package: None,
            audience: Audience::Public,
            dialect: Dialect::Srm,
            snapshot: None,
            cache_status: None,
            zip: None,
            caller: Caller::Anonymous,
            by_address: false,
            grant: Grant::Refused,
            refused_by: None,
            access_generation: 0,
            rules_generation: 0,
            client_request: None,
            failure: None,
        }
    }

    /// What is asked for; `None` before the request is parsed and when it matches no route.
    pub(super) fn request(&self) -> Option<&ApiRequest> {
        self.route.as_ref().map(|route| &route.request)
    }

    /// The client that requests to upstreams are attributed to.
    pub(super) fn client_id(&self) -> ClientId {
        if let Caller::Principal(principal) = &self.caller {
            return ClientId::Credential(principal.client);
        }
        self.client.map_or(ClientId::Mirror, ClientId::of_address)
    }

    /// Counts a name that does not exist against the client's limit.
    pub(super) fn note_unknown_name(&self) {
        let code = self.failure.as_ref().and_then(|failure| failure.code);
        if let Some(FailureCode::NoPackage | FailureCode::NoRelease | FailureCode::NoVersion) = code
            && let Some(request) = &self.client_request
        {
            request.note_unknown_name();
        }
    }

    /// Corrects the cache status for a zip that was waited for: there may have been no room to store it.
    pub(super) fn note_whole(&mut self, zip: &Object) {
        if zip.is_passing_through() {
            self.cache_status = self.cache_status.take().map(CacheStatus::without_room);
        }
    }

    /// Records the outcome of parsing.
    pub(super) fn set_route(&mut self, route: &Result<Arc<Route>, RouteError>) {
        self.dialect = route.as_ref().map_or_else(|error| error.dialect, |route| route.dialect);
        self.route = route.as_ref().ok().cloned();
    }
}
