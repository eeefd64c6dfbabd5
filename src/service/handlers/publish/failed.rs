//! The failed publications of a package among its versions, in the v3 dialect: `registry detail` prints them to callers who
//! may publish the package. Other clients, such as other mirrors, get the versions alone.

use http::{Response, header, request::Parts};
use serde_json::json;

use super::{Body, Dialect, NO_STORE, PackageRef, permission};
use crate::{
    access::{Grant, Right},
    dialect::{DialectName, HostedNames, RowPage},
    http::cache_status::CacheStatus,
    registry::hosting::all_failed_publications,
    service::{
        Service, caller, context::RequestContext, error::ApiError, found_package::FoundPackage,
        handlers::json::JsonAnswer, hosts::RequestHost, render::Renderer,
    },
};

/// The rows of a package with failed publications, for a caller who may publish it; `None` for every other one.
///
/// # Errors
/// When the versions cannot be read.
pub(in crate::service) async fn respond_with_failures(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    host: &RequestHost<'_>,
    package: &PackageRef,
    page: RowPage,
) -> Result<Option<Response<Body>>, ApiError> {
    let id = HostedNames::of(&service.names).id_of(package, DialectName::V3);
    let (Some(id), Ok(hosted)) = (id, permission::hosted(service)) else { return Ok(None) };
    if service.access.grant(&context.caller, &id, Right::Publish) != Grant::Named {
        return Ok(None);
    }
    let failed = all_failed_publications(hosted, &id, service.registry.now()).await;
    if failed.is_empty() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    if page.page().is_none_or(|page| page.page == 1) {
        rows.extend(failed.iter().map(|failed| {
            json!({"failed_version": failed.version, "failed_at": failed.at.to_string(), "by": failed.by, "reason": failed.reason})
                .to_string()
        }));
    }
    if let Some(id) = hosted.published_id(&id.name) {
        context.grant = service.access.grant(&context.caller, &id, Right::Read);
        let found = FoundPackage::Package(id);
        let list = found.releases(&service.registry).await?;
        let renderer = Renderer {
            dialect: Dialect::V3,
            base: &host.base(),
            signature: &caller::zip_signature(service, context, &found, None, Dialect::V3),
            names: &service.names,
            package: found.id(),
            folder: None,
        };
        rows.extend(page.slice(&list.value.releases).iter().map(|release| renderer.release_row(release)));
    }
    let json = format!("[{}]", rows.join(","));
    let answer = JsonAnswer::new(Dialect::V3, &json, std::time::Duration::ZERO, CacheStatus::generated());
    let mut response = answer.into_response(Dialect::V3, parts, context);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(Some(response))
}
