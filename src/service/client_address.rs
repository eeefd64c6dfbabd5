//! Whose request it is: the address of the connection, or the one that a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::{peer::Peer, value::Network};

/// The field in which a trusted proxy names the scheme of the client's request.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// How the address of a client is found.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientAddresses {
    trusted_proxies: Vec<Network>,
    /// The field in which a trusted proxy names its client; `None`: a proxy is the client.
    header: Option<HeaderName>,
}

impl ClientAddresses {
    /// Takes `server.trusted_proxies` and `server.client_header`.
    pub(crate) fn new(trusted_proxies: Vec<Network>, header: Option<HeaderName>) -> Self {
        Self { trusted_proxies, header }
    }

    /// The client's address: behind trusted proxies the first address from the right of the configured field that is not
    /// itself a trusted proxy. A malformed address ends the search at the last trusted hop. `None` on the control socket.
    pub(super) fn address(&self, peer: &Peer, headers: &HeaderMap) -> Option<IpAddr> {
        if peer.is_control() {
            return None;
        }
        let mut address = peer.addr.ip();
        let Some(header) = &self.header else { return Some(address) };
        let hops = headers.get_all(header).iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops {
            if !self.is_trusted(address) {
                break;
            }
            let Some(next) = parse_hop(hop) else { break };
            address = next.to_canonical();
        }
        Some(address)
    }

    /// True when the peer is a trusted proxy.
    pub(super) fn is_proxy(&self, peer: &Peer) -> bool {
        !peer.is_control() && self.is_trusted(peer.addr.ip())
    }

    /// True when what the client sent was not readable on the network, as far as is known: sent by TLS, from this machine,
    /// or through a trusted proxy that does not state another scheme than https.
    pub(super) fn is_confidential(&self, peer: &Peer, headers: &HeaderMap) -> bool {
        if self.is_proxy(peer) {
            // The last value is the proxy's own.
            let proto = headers.get_all(FORWARDED_PROTO).iter().next_back();
            let proto = proto.and_then(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
            return proto.is_none_or(|proto| proto.trim_ascii().eq_ignore_ascii_case(b"https"));
        }
        peer.is_control() || peer.is_encrypted() || peer.addr.ip().is_loopback()
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.contains(address.to_canonical()))
    }
}

/// One element of the field: an address, with or without a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::ListenerKind;

    fn client(from: &str, fields: &[&str]) -> Option<IpAddr> {
        let trusted = ["10.0.0.0/8", "2001:db8:f::/48"].map(|text| text.parse().expect("a network")).into();
        let addresses = ClientAddresses::new(trusted, Some(HeaderName::from_static("x-forwarded-for")));
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append("x-forwarded-for", field.parse().expect("a value"));
        }
        let addr = SocketAddr::new(from.parse().expect("an address"), 1);
        let peer = Peer { addr, local: addr, listener: ListenerKind::Plain, certificate: None };
        addresses.address(&peer, &headers)
    }

    #[test]
    fn a_secret_needs_tls_loopback_or_a_proxy_that_was_not_asked_in_clear() {
        let addresses = ClientAddresses::new(vec!["10.0.0.0/8".parse().expect("a network")], None);
        let is_confidential = |from: &str, tls: bool, proto: Option<&'static str>| {
            let addr = SocketAddr::new(from.parse().expect("an address"), 1);
            let listener = if tls { ListenerKind::Tls } else { ListenerKind::Plain };
            let peer = Peer { addr, local: addr, listener, certificate: None };
            let fields = proto.map(|proto| (HeaderName::from_static(FORWARDED_PROTO), proto.parse().expect("a value")));
            addresses.is_confidential(&peer, &fields.into_iter().collect())
        };
        for (from, tls, proto, expected) in [
            ("192.0.2.1", false, None, false),
            ("192.0.2.1", false, Some("https"), false),
            ("192.0.2.1", true, None, true),
            ("127.0.0.1", false, None, true),
            ("::1", false, None, true),
            ("10.0.0.1", false, None, true),
            ("10.0.0.1", false, Some("https"), true),
            ("10.0.0.1", false, Some("https, http"), false),
            ("10.0.0.1", true, Some("http"), false),
            ("10.0.0.1", false, Some(""), false),
        ] {
            assert_eq!(is_confidential(from, tls, proto), expected, "{from} {tls} {proto:?}");
        }
    }

    #[test]
    fn a_client_behind_trusted_proxies_is_the_first_address_from_the_right_that_is_no_proxy() {
        for (from, fields, expected) in [
            ("192.0.2.7", &["203.0.113.1"][..], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &["198.51.100.9, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
            ("10.0.0.1", &["198.51.100.9", "203.0.113.1", "10.0.0.2"], "203.0.113.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.1:4711"], "203.0.113.1"),
            ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("2001:db8:f::1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &["203.0.113.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.1, "], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
        ] {
            assert_eq!(client(from, fields), Some(expected.parse().expect("an address")), "{from} {fields:?}");
        }
    }
}
