//! Errors as pages, for browsers.

use askama::Template;
use http::{Response, StatusCode, header, request::Parts};

use super::{
    frame::{Section, WebFrame},
    html, is_asked_by_browser, may_have_error_page,
};
use crate::{
    http::body::Body,
    service::{Service, context::RequestContext, hosts::RequestHost},
};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: WebFrame,
    title: &'a str,
    message: &'a str,
    may_sign_in: bool,
}

/// Replaces the body of an error response by a page where a browser shows it: for web pages, and for addresses that match no
/// route. The status stays, and so do the fields for the client: `WWW-Authenticate`, `Retry-After` and `Allow`.
pub(in crate::service) fn with_error_page(
    service: &Service,
    response: Response<Body>,
    parts: &Parts,
    context: &RequestContext,
) -> Response<Body> {
    let Some(failure) = &context.failure else { return response };
    if !is_asked_by_browser(parts) || !may_have_error_page(context.request()) {
        return response;
    }
    let Ok(host) = service.hosts.request_host(parts, &context.peer) else { return response };
    let status = response.status();
    let title = match status {
        StatusCode::UNAUTHORIZED => "Sign in",
        StatusCode::NOT_FOUND => "Nothing here",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        status if status.is_client_error() => "This cannot be shown",
        _ => "This does not work at present",
    };
    let page = ErrorPage {
        frame: WebFrame::new(service, context, &host, Section::Other),
        title,
        message: &failure.message,
        may_sign_in: status == StatusCode::UNAUTHORIZED,
    };
    let mut shown = html::respond(status, &page, parts);
    for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER, header::ALLOW] {
        for value in response.headers().get_all(&name) {
            shown.headers_mut().append(&name, value.clone());
        }
    }
    shown
}

/// Responds with a page that says why something is not found.
pub(super) fn absent(
    service: &Service,
    parts: &Parts,
    context: &RequestContext,
    host: &RequestHost<'_>,
    message: &str,
) -> Response<Body> {
    let frame = WebFrame::new(service, context, host, Section::Packages);
    let page = ErrorPage { frame, title: "Nothing here", message, may_sign_in: false };
    html::respond(StatusCode::NOT_FOUND, &page, parts)
}
