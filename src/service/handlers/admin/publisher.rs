//! Hides and shows published versions over the network, for callers who may delete them.
//!
//! The other routes of administration are for administrators only: see [`super::remote`].

use http::Response;

use super::{AdminError, Input, act, hosting};
use crate::{
    access::{Caller, Grant, Right},
    admin_api::{AdminRequest as _, UnyankVersion, YankVersion},
    http::body::Body,
    service::{Service, audit::Acts, context::RequestContext},
};

/// True for the routes that callers with the right to delete may use.
pub(super) fn is_route(path: &str) -> bool {
    path == YankVersion::ROUTE || path == UnyankVersion::ROUTE
}

/// Answers one request of such a route; `path` is what follows `/-/`.
pub(super) async fn answer(service: &Service, path: &str, input: Input, context: &RequestContext) -> Response<Body> {
    let Service { registry, names, .. } = service;
    let acts = &Acts::of(context);
    let caller = &context.caller;
    let answer = if path == YankVersion::ROUTE {
        let yank = async |request: YankVersion| {
            check(service, caller, &request.package)?;
            hosting::yank(registry, names, acts, request).await
        };
        act(acts, input, yank).await
    } else {
        let unyank = async |request: UnyankVersion| {
            check(service, caller, &request.package)?;
            hosting::unyank(registry, names, request).await
        };
        act(acts, input, unyank).await
    };
    answer.unwrap_or_else(AdminError::into_response)
}

/// Refuses a package that the caller may not delete as one that is not published.
fn check(service: &Service, caller: &Caller, package: &str) -> Result<(), AdminError> {
    let id = hosting::published(&service.registry, &service.names, package)?;
    match service.access.grant(caller, &id, Right::Delete) {
        Grant::Named => Ok(()),
        _ => Err(hosting::not_published(package)),
    }
}
