//! Redirect rules: allowed hosts, targets, and pagination links. Pure decisions; sends no request.
//!
//! A `Location` may contain a token (private archives), so it is never logged and never part of an error.

use http::{HeaderMap, StatusCode, header};
use url::{Origin, Url};

use super::failure::invalid;
use crate::{origin::FetchError, value::BaseUrl};

/// Most redirects followed for one request.
pub(super) const MAX_REDIRECTS: usize = 5;

/// A `redirect_hosts` pattern that is no host.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a host; write for example \"codeload.github.com\" or \"*.gitee.com\"")]
pub(super) struct RedirectHostError(String);

/// The hosts that an upstream may redirect to.
#[derive(Debug)]
pub(super) struct RedirectPolicy {
    api: Origin,
    /// The API itself is plain http, so plain http targets are allowed.
    plain: bool,
    hosts: Vec<String>,
}

impl RedirectPolicy {
    /// Takes `name`, `*.name` and `name:port` patterns.
    ///
    /// # Errors
    /// The first pattern that is none of these.
    pub(super) fn new(api: &BaseUrl, hosts: &[String]) -> Result<Self, RedirectHostError> {
        for host in hosts {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if name.is_empty() || name.contains(['*', '/', '@', ' ']) {
                return Err(RedirectHostError(host.clone()));
            }
        }
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Ok(Self { api: api.origin(), plain: api.url().scheme() == "http", hosts })
    }

    /// True when `url` has the API's origin, the only one that the token is sent to.
    pub(super) fn is_api(&self, url: &Url) -> bool {
        url.origin() == self.api
    }

    /// Checks that an archive may be fetched from `url`.
    ///
    /// # Errors
    /// [`FetchError::Refused`], without the address.
    pub(super) fn ensure_allowed(&self, url: &Url) -> Result<(), FetchError> {
        if self.is_api(url) {
            return Ok(());
        }
        if url.scheme() != "https" && !(self.plain && url.scheme() == "http") {
            return Err(FetchError::Refused("a redirect from https to http".into()));
        }
        let host = url.host_str().unwrap_or_default();
        let fits = |pattern: &String| match (url.port(), pattern.strip_prefix("*.")) {
            (None, Some(suffix)) => host.strip_suffix(suffix).is_some_and(|head| head.ends_with('.') && head.len() > 1),
            (None, None) => host == pattern,
            (Some(port), _) => pattern.strip_suffix(&format!(":{port}")) == Some(host),
        };
        if self.hosts.iter().any(fits) {
            Ok(())
        } else {
            Err(FetchError::Refused("a redirect to a host that is not in redirect_hosts".into()))
        }
    }
}

/// True for the redirect statuses that a GET follows with a GET.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The target of a redirect from `from`, without user, password and fragment.
///
/// # Errors
/// [`FetchError::Invalid`] without a valid `Location`.
pub(super) fn target(headers: &HeaderMap, from: &Url) -> Result<Url, FetchError> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let mut url = location
        .and_then(|location| from.join(location).ok())
        .filter(|url| url.has_host())
        .ok_or_else(|| invalid("a redirect without a valid location"))?;
    // reqwest would send a user in the URL as credentials.
    let cleared = url.set_username("").is_ok() && url.set_password(None).is_ok();
    url.set_fragment(None);
    if cleared { Ok(url) } else { Err(invalid("a redirect without a valid location")) }
}

/// The absolute URL of the `Link` with `rel="next"`, if any
/// ([RFC 8288 §3](https://www.rfc-editor.org/rfc/rfc8288#section-3)).
///
/// Parsed by hand, because no parser of `Link` is among the dependencies.
pub(super) fn next_link(headers: &HeaderMap, from: &Url) -> Option<Url> {
    let is_next = |params: &str| {
        params.split(';').filter_map(|param| param.split_once('=')).any(|(name, value)| {
            let mut kinds = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
        })
    };
    for value in headers.get_all(header::LINK) {
        let mut left = value.to_str().ok()?;
        while let Some((address, after)) = left.split_once('<').and_then(|(_, link)| link.split_once('>')) {
            // Forges send no comma within a parameter; one within a URL is inside the angle brackets.
            let (params, rest) = after.split_once(',').unwrap_or((after, ""));
            if is_next(params) {
                return from.join(address).ok();
            }
            left = rest;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(api: &str, hosts: &[&str]) -> RedirectPolicy {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        RedirectPolicy::new(&api.parse().expect("an address"), &hosts).expect("hosts")
    }

    #[test]
    fn only_listed_redirect_hosts_are_allowed() {
        let list = policy("https://api.forge.test", &["codeload.forge.test", "*.Cdn.test", "files.test:8443"]);
        for (url, allowed) in [
            ("https://codeload.forge.test/x", true),
            ("https://CODELOAD.forge.test/x", true),
            ("https://api.forge.test/x", true),
            ("https://a.cdn.test/x", true),
            ("https://a.b.cdn.test/x", true),
            ("https://files.test:8443/x", true),
            ("https://cdn.test/x", false),
            ("https://evilcdn.test/x", false),
            ("https://codeload.forge.test.evil.test/x", false),
            ("https://codeload.forge.test:8443/x", false),
            ("https://files.test/x", false),
            ("https://127.0.0.1/x", false),
            ("http://codeload.forge.test/x", false),
            ("http://api.forge.test/x", false),
            ("ftp://codeload.forge.test/x", false),
        ] {
            assert_eq!(list.ensure_allowed(&Url::parse(url).expect(url)).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn a_plain_http_target_is_allowed_only_when_the_api_is_plain_http() {
        let list = policy("http://127.0.0.1:1", &["127.0.0.1:2"]);
        assert!(list.ensure_allowed(&Url::parse("http://127.0.0.1:2/x").expect("an address")).is_ok());
        assert!(list.ensure_allowed(&Url::parse("http://127.0.0.1:3/x").expect("an address")).is_err());
    }

    #[test]
    fn a_pattern_that_is_not_a_host_is_rejected() {
        for host in ["", "*", "*.", "a*b.test", "https://a.test", "a.test/x"] {
            assert!(
                RedirectPolicy::new(&"https://a.test".parse().expect("an address"), &[host.into()]).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn the_user_of_a_location_is_removed() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "https://user:word@a.test/x?token=1#f".parse().expect("a value"));
        let from = Url::parse("https://b.test/").expect("an address");
        assert_eq!(target(&headers, &from).expect("a target").as_str(), "https://a.test/x?token=1");
        assert!(matches!(target(&HeaderMap::new(), &from), Err(FetchError::Invalid(_))));
    }

    #[test]
    fn the_next_page_is_found_in_every_form_of_the_link_header() {
        let from = Url::parse("https://api.forge.test/repos/a/b/releases").expect("an address");
        let next = "https://api.forge.test/repositories/1/releases?per_page=100&page=2";
        for (link, expected) in [
            (format!("<{next}>; rel=\"next\", <https://api.forge.test/x?page=5>; rel=\"last\""), Some(next)),
            (format!("<https://api.forge.test/x?page=1>; rel=\"prev\", <{next}>; rel=\"next\""), Some(next)),
            (format!("<{next}>;rel=next"), Some(next)),
            ("</repositories/1/releases?per_page=100&page=2>; rel=\"next\"".into(), Some(next)),
            ("<https://api.forge.test/x?a=1,2>; rel=\"last\"".into(), None),
            ("rubbish".into(), None),
        ] {
            let headers: HeaderMap = [(header::LINK, link.parse().expect("a value"))].into_iter().collect();
            assert_eq!(next_link(&headers, &from).map(String::from), expected.map(str::to_owned), "{link}");
        }
    }
}
