//! Under which name a client reached the mirror, and the address that answers are built on.
//!
//! The scheme is the listener's, the authority the request's; a trusted proxy may say otherwise. `public_url` goes
//! before all of it. Where names are configured, a request under another one is misdirected (RFC 9110 §15.5.20).

use std::net::SocketAddr;

use http::{
    HeaderMap, StatusCode, header,
    request::Parts,
    uri::{Authority, Scheme},
};

use super::error::Problem;
use crate::{
    dialect::Ops,
    peer::Peer,
    value::{BaseUrl, Network},
};

/// What is configured about names and proxies.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    public: Option<BaseUrl>,
    known: Vec<Known>,
    trusted: Vec<Network>,
}

/// One name under which the mirror answers.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    /// Lower case; an IPv6 address has its brackets.
    host: String,
    /// Any name below `host`, and not `host` itself.
    below: bool,
    /// Only this port; any where it is `None`.
    port: Option<u16>,
}

/// How one client reached the mirror.
#[derive(Debug)]
pub(super) struct RequestHost<'a> {
    public: Option<&'a BaseUrl>,
    scheme: Scheme,
    authority: Option<&'a str>,
    local: SocketAddr,
    /// The name is one of the configured ones.
    known: bool,
}

impl Hosts {
    /// Takes what the `[server]` section says, which has been checked: the address all answers are built on, the names
    /// under which the mirror answers (none: under any), and the proxies whose word counts.
    pub fn build(public: Option<BaseUrl>, known: &[String], trusted: Vec<Network>) -> Self {
        let mut known: Vec<Known> = known.iter().map(|text| Known::parse(text)).collect();
        if let Some(url) = public.as_ref().filter(|_| !known.is_empty()) {
            known.push(Known { host: url.host().to_ascii_lowercase(), below: false, port: None });
        }
        Self { public, known, trusted }
    }

    /// Finds out how the client reached the mirror.
    ///
    /// # Errors
    /// 400 when what should be a host is none, 421 when it is none of the configured names.
    pub(super) fn request_host<'a>(&'a self, parts: &'a Parts, client: Peer) -> Result<RequestHost<'a>, Problem> {
        let mut scheme = if client.tls { Scheme::HTTPS } else { Scheme::HTTP };
        // RFC 9112 §3.2.2: the authority of an absolute target wins over Host; HTTP/2 has only the former.
        let mut authority = match parts.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => host(&parts.headers)?,
        };
        if self.trusted.iter().any(|proxy| proxy.contains(client.addr.ip())) {
            if let Some(proto) = last(&parts.headers, "x-forwarded-proto")? {
                scheme = match () {
                    () if proto.eq_ignore_ascii_case("https") => Scheme::HTTPS,
                    () if proto.eq_ignore_ascii_case("http") => Scheme::HTTP,
                    () => return Err(wrong("x-forwarded-proto may only be http or https")),
                };
            }
            authority = last(&parts.headers, "x-forwarded-host")?.or(authority);
        }
        let authority = authority.filter(|text| !text.is_empty());
        let parsed = match authority {
            None => None,
            Some(text) => Some(parse(text).ok_or_else(|| wrong(NOT_A_HOST))?),
        };
        let known = parsed.is_some_and(|name| self.known.iter().any(|known| known.fits(&name, &scheme)));
        if !known && !self.known.is_empty() && !client.control {
            let message = "this mirror does not answer under this name; ask whoever runs it for the right address";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, message));
        }
        Ok(RequestHost { public: self.public.as_ref(), scheme, authority, local: client.local, known })
    }
}

impl RequestHost<'_> {
    /// True when the base is one of a configured few: what is made for it may be kept.
    pub(super) fn is_configured(&self) -> bool {
        self.public.is_some() || self.known
    }

    /// The scheme and authority of every address in an answer, without a slash at the end.
    pub(super) fn base(&self) -> String {
        match (self.public, self.authority) {
            (Some(url), _) => url.as_str().to_owned(),
            (None, Some(authority)) => format!("{}://{authority}", self.scheme),
            (None, None) => format!("{}://{}", self.scheme, self.local),
        }
    }
}

/// True for what is asked by address rather than by name: health checks and scrapers know no name.
pub(super) fn any_name_will_do(question: &Ops) -> bool {
    matches!(question, Ops::Healthz | Ops::Readyz | Ops::Metrics)
}

impl Known {
    fn parse(text: &str) -> Self {
        let folded = text.to_ascii_lowercase();
        let (name, port) = match folded.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(':') && !folded.ends_with(']') => (name, port.parse().ok()),
            _ => (folded.as_str(), None),
        };
        let below = name.starts_with("*.");
        let name = name.strip_prefix("*.").unwrap_or(name);
        let bare = name.contains(':') && !name.starts_with('[');
        Self { host: if bare { format!("[{name}]") } else { name.to_owned() }, below, port }
    }

    fn fits(&self, name: &Authority, scheme: &Scheme) -> bool {
        let host = name.host().strip_suffix('.').unwrap_or(name.host()).to_ascii_lowercase();
        let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let fits = match host.strip_suffix(&self.host) {
            Some(before) if self.below => before.len() > 1 && before.ends_with('.'),
            Some(before) => before.is_empty(),
            None => false,
        };
        fits && self.port.is_none_or(|port| name.port_u16().unwrap_or(default) == port)
    }
}

/// Longest host that is taken, in bytes: a DNS name and a port. It is written into every address of an answer, so that
/// a long one would make a large answer of a small request.
const LONGEST: usize = 253 + ":65535".len();

const NOT_A_HOST: &str = "host may only be a name or an address with an optional port";

fn wrong(message: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, message)
}

/// The one `Host` there may be (RFC 9112 §3.2): of two, a proxy in front may have believed the other.
fn host(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut lines = headers.get_all(header::HOST).iter();
    let first = lines.next();
    let second = lines.next();
    if second.is_some() {
        return Err(wrong("host may be given only once"));
    }
    first.map(|value| value.to_str()).transpose().map_err(|_| wrong(NOT_A_HOST))
}

/// The last value of a field: what the proxy itself added, whatever the client had written before it.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let line = headers.get_all(name).iter().next_back().map(|value| value.to_str()).transpose();
    let line = line.map_err(|_| wrong("a forwarded field is not text"))?;
    Ok(line.and_then(|line| line.rsplit(',').next()).map(str::trim).filter(|value| !value.is_empty()))
}

/// A host with an optional port, and nothing that could change the meaning of an address built on it.
fn parse(text: &str) -> Option<Authority> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let fits = text.len() <= LONGEST && text.chars().all(allowed);
    let parsed = text.parse::<Authority>().ok().filter(|_| fits)?;
    // An empty port is the default one; one beyond 65535 is none.
    let port = parsed.as_str().len() <= parsed.host().len() + 1 || parsed.port_u16().is_some();
    Some(parsed).filter(|parsed| port && !parsed.host().is_empty())
}

#[cfg(test)]
mod tests;
