//! How clients are set up for this mirror: what `srm-mirror connect` prints for the address that the browser used.

use std::net::IpAddr;

use askama::Template;
use http::{Response, StatusCode, request::Parts};
use url::{Host, Url};

use super::{
    frame::{Section, WebFrame},
    html,
};
use crate::{
    dialect::{ClientSetup, Dialect, ExampleTarget, Reason, RouteError, client_setups, shell_word},
    http::body::Body,
    service::{Service, context::RequestContext, error::ApiError, hosts::RequestHost},
};

/// The package of the examples, where none is named.
const EXAMPLE_PACKAGE: &str = "fc3";
/// Most characters of a package's name and version.
const MAX_EXAMPLE_CHARS: usize = 500;

#[derive(Template)]
#[template(path = "setup.html")]
struct SetUpPage {
    frame: WebFrame,
    /// The mirror's address.
    base: String,
    /// The address as a word of a shell.
    word: String,
    package: String,
    setups: Vec<ClientSetup>,
}

/// Responds with the page; `package` is that of the examples.
///
/// # Errors
/// For a package whose name is too long or cannot be parsed.
pub(super) fn respond(
    service: &Service,
    parts: &Parts,
    context: &RequestContext,
    package: Option<&str>,
    host: &RequestHost<'_>,
) -> Result<Response<Body>, ApiError> {
    let package = package.unwrap_or(EXAMPLE_PACKAGE);
    let invalid =
        |message: String| ApiError::Route(RouteError { dialect: Dialect::Srm, reason: Reason::BadRequest(message) });
    if package.chars().count() > MAX_EXAMPLE_CHARS {
        return Err(invalid("the name of the package is too long".into()));
    }
    let base = host.base();
    let target = ExampleTarget::parse(base.clone(), service.names.clone(), package)
        .map_err(|error| invalid(format!("this is no package: {error}")))?;
    let page = SetUpPage {
        frame: WebFrame::new(service, context, host, Section::SetUp),
        package: package.to_owned(),
        setups: client_setups(&target, address_of(&base)),
        word: shell_word(&base).into_owned(),
        base,
    };
    Ok(html::respond(StatusCode::OK, &page, parts))
}

/// The IP address in a URL; `None` where it has a name instead.
fn address_of(base: &str) -> Option<IpAddr> {
    match Url::parse(base).ok()?.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}
