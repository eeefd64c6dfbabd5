//! The web pages below `/-/`: packages, versions, health and set-up, for people with a browser.
//!
//! Rendered here from the templates in `web/templates`, without scripts. A page reads a bounded part of what is stored and in
//! memory, and sends no upstream request, except to check whether a package is public. The access rules apply as to lists: a
//! package that the caller may not read is absent.

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::{
    Service, context::RequestContext, error::ApiError, headers::NO_STORE, hosts::RequestHost, zip_response::empty,
};
use crate::{
    access::Caller,
    dialect::{ApiRequest, Ops, WebPage},
    http::{body::Body, field::ascii_value},
};

mod assets;
mod error_page;
mod frame;
mod health;
mod html;
mod package;
mod packages;
mod set_up;
mod shown_version;
mod text;

pub(super) use error_page::with_error_page;

/// Responds with a page.
///
/// # Errors
/// When the page does not exist for the caller, or what it shows cannot be read.
pub(super) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    page: &WebPage,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    match page {
        WebPage::Packages(search) => packages::respond(service, parts, context, search, host).await,
        WebPage::Package { package, version: None, page } => {
            package::respond(service, parts, context, package, *page, host).await
        }
        WebPage::Package { package, version: Some(version), .. } => {
            package::respond_version(service, parts, context, package, version, host).await
        }
        WebPage::Health => Ok(health::respond(service, parts, context, host)),
        WebPage::SetUp { package } => set_up::respond(service, parts, context, package.as_deref(), host),
        // The caller has credentials by now: on to the packages.
        WebPage::SignIn => Ok(redirect(host)),
        WebPage::Asset(name) => assets::respond(parts, name),
    }
}

/// True for a browser's request for `/`.
pub(super) fn is_root(parts: &Parts) -> bool {
    parts.uri.path() == "/" && is_asked_by_browser(parts)
}

/// Redirects to the first page.
pub(super) fn redirect(host: &RequestHost<'_>) -> Response<Body> {
    let mut response = empty(StatusCode::FOUND);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, ascii_value(format!("{}/-/", host.path_prefix())));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// True for a request of a browser that shows a page: a GET or HEAD whose `Accept` names HTML.
pub(super) fn is_asked_by_browser(parts: &Parts) -> bool {
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    let names_html = |line: &HeaderValue| {
        let members = line.to_str().unwrap_or_default().split(',');
        members.into_iter().any(|member| {
            member.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/html"))
        })
    };
    is_read && parts.headers.get_all(header::ACCEPT).iter().any(names_html)
}

/// True when the caller can sign in, and has not.
fn may_sign_in(service: &Service, caller: &Caller) -> bool {
    service.access.is_enabled() && matches!(caller, Caller::Anonymous)
}

/// True when an error of this request may be a page: the request is for a page, or matches no route.
fn may_have_error_page(request: Option<&ApiRequest>) -> bool {
    matches!(request, None | Some(ApiRequest::Ops(Ops::Web(_) | Ops::Admin(_))))
}
