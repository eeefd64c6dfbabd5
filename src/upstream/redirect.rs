//! Where a redirect may lead. Decisions only; nothing here asks anybody.
//!
//! A `Location` may hold a token of its own (private archives), so it is never logged and never part of an error.

use http::{HeaderMap, StatusCode, header};
use url::{Origin, Url};

use super::failure::invalid;
use crate::{origin::FetchError, value::BaseUrl};

/// Most redirects of one request.
pub(super) const HOPS: usize = 5;

/// The allow-list of one upstream.
#[derive(Debug)]
pub(super) struct Redirects {
    api: Origin,
    /// True when the API itself is plain http, so that https has nothing to lose.
    plain: bool,
    hosts: Vec<String>,
}

impl Redirects {
    /// Takes `name`, `*.name` and `name:port` patterns.
    ///
    /// # Errors
    /// A clause that names the pattern which is none of these.
    pub(super) fn new(api: &BaseUrl, hosts: &[String]) -> Result<Self, String> {
        for host in hosts {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if name.is_empty() || name.contains(['*', '/', '@', ' ']) {
                return Err(format!(
                    "{host:?} is not a host; write for example \"codeload.github.com\" or \"*.gitee.com\""
                ));
            }
        }
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Ok(Self { api: api.origin(), plain: api.url().scheme() == "http", hosts })
    }

    /// True when `url` belongs to the API: only there goes the token.
    pub(super) fn is_api(&self, url: &Url) -> bool {
        url.origin() == self.api
    }

    /// Says whether an archive may be fetched from `url`.
    ///
    /// # Errors
    /// [`FetchError::Refused`], without the address.
    pub(super) fn allow(&self, url: &Url) -> Result<(), FetchError> {
        if self.is_api(url) {
            return Ok(());
        }
        if url.scheme() != "https" && !(self.plain && url.scheme() == "http") {
            return Err(FetchError::Refused("a redirect that leaves https".into()));
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

/// True for the redirects that a GET may follow with a GET.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The target of a redirect that `from` answered, without user, password and fragment.
///
/// # Errors
/// [`FetchError::Invalid`] when there is none that can be read.
pub(super) fn target(headers: &HeaderMap, from: &Url) -> Result<Url, FetchError> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let mut url = location
        .and_then(|location| from.join(location).ok())
        .filter(|url| url.has_host())
        .ok_or_else(|| invalid("a redirect to nowhere"))?;
    // The client would turn a user in the address into credentials.
    let cleared = url.set_username("").is_ok() && url.set_password(None).is_ok();
    url.set_fragment(None);
    if cleared { Ok(url) } else { Err(invalid("a redirect to nowhere")) }
}

/// The address with `rel="next"` in the `Link` headers (RFC 8288), made absolute.
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
            // A comma within a parameter is not met in practice; one within an address is inside the brackets.
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

    fn redirects(api: &str, hosts: &[&str]) -> Redirects {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        Redirects::new(&api.parse().expect("an address"), &hosts).expect("hosts")
    }

    #[test]
    fn only_listed_hosts_are_allowed() {
        let list = redirects("https://api.forge.test", &["codeload.forge.test", "*.Cdn.test", "files.test:8443"]);
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
            assert_eq!(list.allow(&Url::parse(url).expect(url)).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn plain_http_is_allowed_only_when_the_api_is_plain_itself() {
        let list = redirects("http://127.0.0.1:1", &["127.0.0.1:2"]);
        assert!(list.allow(&Url::parse("http://127.0.0.1:2/x").expect("an address")).is_ok());
        assert!(list.allow(&Url::parse("http://127.0.0.1:3/x").expect("an address")).is_err());
    }

    #[test]
    fn a_pattern_that_is_no_host_is_refused() {
        for host in ["", "*", "*.", "a*b.test", "https://a.test", "a.test/x"] {
            assert!(Redirects::new(&"https://a.test".parse().expect("an address"), &[host.into()]).is_err(), "{host}");
        }
    }

    #[test]
    fn a_user_in_a_location_is_dropped() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "https://user:word@a.test/x?token=1#f".parse().expect("a value"));
        let from = Url::parse("https://b.test/").expect("an address");
        assert_eq!(target(&headers, &from).expect("a target").as_str(), "https://a.test/x?token=1");
        assert!(matches!(target(&HeaderMap::new(), &from), Err(FetchError::Invalid(_))));
    }

    #[test]
    fn the_next_page_is_found_in_every_form_of_link() {
        let from = Url::parse("https://api.forge.test/repos/a/b/releases").expect("an address");
        let next = "https://api.forge.test/repositories/1/releases?per_page=100&page=2";
        for (link, want) in [
            (format!("<{next}>; rel=\"next\", <https://api.forge.test/x?page=5>; rel=\"last\""), Some(next)),
            (format!("<https://api.forge.test/x?page=1>; rel=\"prev\", <{next}>; rel=\"next\""), Some(next)),
            (format!("<{next}>;rel=next"), Some(next)),
            ("</repositories/1/releases?per_page=100&page=2>; rel=\"next\"".into(), Some(next)),
            ("<https://api.forge.test/x?a=1,2>; rel=\"last\"".into(), None),
            ("rubbish".into(), None),
        ] {
            let headers: HeaderMap = [(header::LINK, link.parse().expect("a value"))].into_iter().collect();
            assert_eq!(next_link(&headers, &from).map(String::from), want.map(str::to_owned), "{link}");
        }
    }
}
