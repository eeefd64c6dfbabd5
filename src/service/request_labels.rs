//! How the logs and the metrics name a request: its route, and the version that it asks for.

use crate::{
    dialect::{ApiRequest, Ops},
    observe::ROUTE_LABELS,
};

/// The index in [`ROUTE_LABELS`] of requests that match no route.
pub(super) const NO_ROUTE: usize = ROUTE_LABELS.len() - 1;

/// The name of a request's route.
pub(super) fn route_label(request: &ApiRequest) -> &'static str {
    ROUTE_LABELS[route_number(request)]
}

/// The index of a request's route in [`ROUTE_LABELS`].
pub(super) fn route_number(request: &ApiRequest) -> usize {
    match request {
        ApiRequest::Releases { .. } => 0,
        ApiRequest::Latest { .. } => 1,
        ApiRequest::Tag { .. } => 2,
        ApiRequest::ById { .. } => 3,
        ApiRequest::Archive { .. } => 4,
        ApiRequest::Flat { .. } => 5,
        ApiRequest::Metadata { .. } => 6,
        ApiRequest::Repository { .. } => 7,
        ApiRequest::Catalog(_) => 8,
        ApiRequest::Menu(_) => 9,
        ApiRequest::OwnPackages(_) => 10,
        ApiRequest::Detail { .. } => 11,
        ApiRequest::Ops(Ops::Healthz | Ops::Readyz) => 12,
        ApiRequest::Ops(Ops::Metrics) => 13,
        ApiRequest::Ops(Ops::Admin(_)) | ApiRequest::RenewCode => 14,
        ApiRequest::Publish { .. } | ApiRequest::Reserve | ApiRequest::Upload { .. } => 15,
        ApiRequest::Delete { .. } => 16,
        ApiRequest::Ops(Ops::Web(_) | Ops::OpenApi) => 17,
    }
}

/// The version that a request names, for the logs.
pub(super) fn version(request: &ApiRequest) -> Option<String> {
    match request {
        ApiRequest::Tag { version, .. }
        | ApiRequest::Archive { version, .. }
        | ApiRequest::Flat { version, .. }
        | ApiRequest::Publish { version, .. }
        | ApiRequest::Delete { version, .. }
        | ApiRequest::Upload { version, .. }
        | ApiRequest::Metadata { version: Some(version), .. } => Some(version.to_string()),
        _ => None,
    }
}
