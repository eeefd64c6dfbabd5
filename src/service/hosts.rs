//! The host name that a client used, and the base address of the links in responses.
//!
//! The scheme is the listener's and the authority the request's; a trusted proxy may override both. `public_url`
//! overrides everything. Where names are configured, a request for another name is misdirected ([RFC 9110 §15.5.20]).
//!
//! [RFC 9110 §15.5.20]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20

use std::net::SocketAddr;

use http::{
    HeaderMap, Version, header,
    request::Parts,
    uri::{Authority, Scheme},
};

use super::error::HostError;
use crate::{
    peer::Peer,
    value::{BaseUrl, Network},
};

/// The configured host names and trusted proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    public_url: Option<BaseUrl>,
    known: Vec<KnownHost>,
    trusted_proxies: Vec<Network>,
}

/// One host name that the mirror answers under.
#[derive(Clone, Debug, PartialEq)]
struct KnownHost {
    /// Lower case; an IPv6 address has its brackets.
    name: String,
    /// True for `*.name`: every name below it, but not `name` itself.
    is_wildcard: bool,
    /// `None`: any port.
    port: Option<u16>,
}

/// The host that one client used.
#[derive(Debug)]
pub(super) struct RequestHost<'a> {
    public_url: Option<&'a BaseUrl>,
    scheme: Scheme,
    authority: Option<&'a str>,
    local: SocketAddr,
}

impl Hosts {
    /// Builds from the `[server]` section, which has been validated. With `public_url`, links start with it. With
    /// `known_hosts` empty, the mirror answers under any name. `X-Forwarded-…` fields count from `trusted_proxies` only.
    pub(crate) fn build(public_url: Option<BaseUrl>, known_hosts: &[String], trusted_proxies: Vec<Network>) -> Self {
        let mut known: Vec<KnownHost> = known_hosts.iter().map(|text| KnownHost::parse(text)).collect();
        if let Some(url) = public_url.as_ref().filter(|_| !known.is_empty()) {
            known.push(KnownHost { name: url.host().to_ascii_lowercase(), is_wildcard: false, port: None });
        }
        Self { public_url, known, trusted_proxies }
    }

    /// Reads and checks the host that the client used. The control socket may use any name.
    ///
    /// # Errors
    /// [`HostError`]: 400 for a missing or malformed host, 421 for another name than the configured ones.
    pub(super) fn request_host<'a>(&'a self, parts: &'a Parts, peer: &Peer) -> Result<RequestHost<'a>, HostError> {
        let mut scheme = if peer.is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP };
        let mut authority = requested_authority(parts)?;
        if self.trusted_proxies.iter().any(|proxy| proxy.contains(peer.addr.ip())) {
            if let Some(proto) = last_value(&parts.headers, "x-forwarded-proto")? {
                scheme = match () {
                    () if proto.eq_ignore_ascii_case("https") => Scheme::HTTPS,
                    () if proto.eq_ignore_ascii_case("http") => Scheme::HTTP,
                    () => return Err(HostError::ForwardedProto),
                };
            }
            authority = last_value(&parts.headers, "x-forwarded-host")?.or(authority);
        }
        let parsed = match authority {
            None => None,
            Some(text) => Some(parse_authority(text).ok_or(HostError::Malformed)?),
        };
        let is_known = parsed.is_some_and(|host| self.known.iter().any(|known| known.matches(&host, &scheme)));
        if !is_known && !self.known.is_empty() && !peer.is_control() {
            return Err(HostError::Misdirected);
        }
        Ok(RequestHost { public_url: self.public_url.as_ref(), scheme, authority, local: peer.local })
    }
}

impl RequestHost<'_> {
    /// True when [`RequestHost::base`] is the configured address, the same for all clients.
    pub(super) fn has_public_url(&self) -> bool {
        self.public_url.is_some()
    }

    /// The path that the mirror's own paths begin with for its clients, without a slash at the end: that of `public_url`.
    pub(super) fn path_prefix(&self) -> &str {
        self.public_url.map_or("", |url| url.url().path().trim_end_matches('/'))
    }

    /// The scheme and authority of every link in the response, without a slash at the end.
    pub(super) fn base(&self) -> String {
        match (self.public_url, self.authority) {
            (Some(url), _) => url.as_str().to_owned(),
            (None, Some(authority)) => format!("{}://{authority}", self.scheme),
            (None, None) => format!("{}://{}", self.scheme, self.local),
        }
    }
}

impl KnownHost {
    fn parse(text: &str) -> Self {
        let lower_case = text.to_ascii_lowercase();
        let (name, port) = match lower_case.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(':') && !lower_case.ends_with(']') => (name, port.parse().ok()),
            _ => (lower_case.as_str(), None),
        };
        let is_wildcard = name.starts_with("*.");
        let name = name.strip_prefix("*.").unwrap_or(name);
        let is_bare_ipv6 = name.contains(':') && !name.starts_with('[');
        Self { name: if is_bare_ipv6 { format!("[{name}]") } else { name.to_owned() }, is_wildcard, port }
    }

    fn matches(&self, authority: &Authority, scheme: &Scheme) -> bool {
        let host = authority.host().strip_suffix('.').unwrap_or(authority.host()).to_ascii_lowercase();
        let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let name_matches = match host.strip_suffix(&self.name) {
            Some(prefix) if self.is_wildcard => prefix.len() > 1 && prefix.ends_with('.'),
            Some(prefix) => prefix.is_empty(),
            None => false,
        };
        name_matches && self.port.is_none_or(|port| authority.port_u16().unwrap_or(default_port) == port)
    }
}

/// Most bytes of a host: a DNS name and a port. The host is written into every link, so a long one would make a large
/// response of a small request.
const MAX_HOST_BYTES: usize = 253 + ":65535".len();

/// The host that the request names; `None` only for HTTP/1.0, which has no `Host` field.
///
/// RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a
/// Host header field and to any request message that contains more than one Host header field line or a Host header field
/// with an invalid field value." An empty value is invalid too: no http or https URI has an empty host (RFC 9110 §4.2.1).
fn requested_authority(parts: &Parts) -> Result<Option<&str>, HostError> {
    let mut values = parts.headers.get_all(header::HOST).iter();
    let host = values.next().map(|value| value.to_str()).transpose().map_err(|_| HostError::Malformed)?;
    if values.next().is_some() {
        // A proxy in front may have used the other one.
        return Err(HostError::Repeated);
    }
    // RFC 9112 §3.2.2: the authority of an absolute target wins over Host; HTTP/2 has only the former.
    let target = parts.uri.authority().map(Authority::as_str);
    if host.is_some_and(str::is_empty) {
        return Err(HostError::Missing);
    }
    match (target.or(host), parts.version) {
        (_, Version::HTTP_11) if host.is_none() => Err(HostError::Missing),
        (Some(authority), _) => Ok(Some(authority)),
        (None, Version::HTTP_09 | Version::HTTP_10) => Ok(None),
        (None, _) => Err(HostError::Missing),
    }
}

/// The last value of a field: the one that the proxy added itself, after whatever the client sent.
fn last_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, HostError> {
    let line = headers.get_all(name).iter().next_back().map(|value| value.to_str()).transpose();
    let line = line.map_err(|_| HostError::ForwardedNotText)?;
    Ok(line.and_then(|line| line.rsplit(',').next()).map(str::trim).filter(|value| !value.is_empty()))
}

/// A host with an optional port; `None` for anything that could change the meaning of a link that starts with it.
fn parse_authority(text: &str) -> Option<Authority> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if text.len() > MAX_HOST_BYTES || !text.chars().all(is_allowed) {
        return None;
    }
    let authority = text.parse::<Authority>().ok()?;
    // An empty port means the default port; a port above 65535 is invalid.
    let has_no_port = authority.as_str().len() <= authority.host().len() + 1;
    let is_valid = !authority.host().is_empty() && (has_no_port || authority.port_u16().is_some());
    is_valid.then_some(authority)
}

#[cfg(test)]
mod tests;
