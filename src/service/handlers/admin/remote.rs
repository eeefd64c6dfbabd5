//! The administration API over the network, where `access.remote_admin` opens it: for principals to whom every rule gives
//! `admin`.
//!
//! For every other principal the routes do not exist; a client without credentials is asked for them. The routes of
//! [`publisher`] are open to those who may delete a published package, too.

use http::{HeaderMap, Method, Response, header, request::Parts};

use super::{AdminError, Input, publisher};
use crate::{
    access::Caller,
    admin_api::{AdminRequest as _, ErrorCode, ImportArchive},
    http::body::Body,
    service::{Service, caller, context::RequestContext, error::ApiError, handlers::health::no_such_page},
};

/// The media type of a request, and of one that brings a zip. A page of another site makes a browser send neither without
/// asking first, so it cannot use the certificate or the password that a browser adds by itself.
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// Answers one request over the network; `path` is what follows `/-/`.
///
/// # Errors
/// `Unauthorized` for a client without credentials.
pub(in crate::service) async fn answer(
    service: &Service,
    parts: &Parts,
    path: &str,
    input: Option<Input>,
    context: &mut RequestContext,
) -> Result<Response<Body>, ApiError> {
    let is_publishers = service.access.is_enabled() && parts.method == Method::POST && publisher::is_route(path);
    let administration = service.access.administration();
    let Some(input) = input.filter(|_| is_publishers || administration.is_some()) else {
        return Ok(no_such_page(&parts.method));
    };
    if let Caller::Anonymous = context.caller {
        return Err(caller::refusal(parts, context));
    }
    let is_administrator = administration.is_some_and(|administration| administration.is_given_to(&context.caller));
    if !is_administrator && !is_publishers {
        return Ok(no_such_page(&parts.method));
    }
    let is_confidential = service.client_addresses.is_confidential(&context.peer, &parts.headers);
    if !is_confidential && !service.access.allows_plaintext() {
        let why = "the administration API needs TLS, loopback or a trusted proxy (server.trusted_proxies) that was asked \
                   with TLS; access.allow_plaintext = true allows it without";
        return Ok(AdminError::new(ErrorCode::Plaintext, why).into_response());
    }
    if let Err(error) = check_media_type(&parts.headers, path) {
        return Ok(error.into_response());
    }
    if !is_administrator {
        return Ok(publisher::answer(service, path, input, context).await);
    }
    Ok(super::answer(service, &parts.method, path, input, context).await)
}

fn check_media_type(headers: &HeaderMap, path: &str) -> Result<(), AdminError> {
    let expected = if path == ImportArchive::ROUTE { OCTETS } else { JSON };
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = sent.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    Err(AdminError::bad_request(format!("send the field Content-Type: {expected}")))
}
