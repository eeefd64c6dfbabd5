//! Checks at start whether an upstream's host name resolves to this mirror, as it does when DNS or a hosts file sends
//! clients here and the mirror runs on one of those machines.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use crate::upstream;

/// Logs one error per upstream whose API host resolves to a listener of this process.
pub(super) async fn report_loops(upstreams: BTreeMap<String, upstream::Config>, listeners: Vec<SocketAddr>) {
    for (name, section) in upstreams {
        if section.proxy.is_some() {
            continue;
        }
        let host = section.api.host().trim_matches(['[', ']']).to_owned();
        let port = section.api.url().port_or_known_default().unwrap_or(443);
        let addresses: Vec<SocketAddr> = match section.address {
            Some(address) => vec![address],
            None => match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(addresses) => addresses.collect(),
                // The first request reports a name service that fails.
                Err(_) => continue,
            },
        };
        if addresses.iter().any(|address| is_listener(*address, &listeners)) {
            tracing::error!(
                upstream = name,
                "upstreams.{name}.api resolves to this mirror: every request to it will be answered 508; set \
                 upstreams.{name}.address to the forge's real address, for example address = \"192.0.2.1:443\""
            );
        }
    }
}

fn is_listener(address: SocketAddr, listeners: &[SocketAddr]) -> bool {
    listeners.iter().any(|listener| {
        listener.port() == address.port()
            && (listener.ip() == address.ip() || (listener.ip().is_unspecified() && is_local(address.ip())))
    })
}

/// True for an address of this machine: no other can be bound.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_resolves_to_a_listener_is_recognised() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("valid");
        assert!(is_listener(at("127.0.0.1:8080"), &[at("127.0.0.1:8080")]));
        assert!(is_listener(at("127.0.0.1:8080"), &[at("0.0.0.0:8080")]));
        assert!(!is_listener(at("127.0.0.1:443"), &[at("127.0.0.1:8080")]));
        assert!(!is_listener(at("192.0.2.1:8080"), &[at("0.0.0.0:8080")]));
    }
}
