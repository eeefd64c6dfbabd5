//! Says at start-up when an upstream's name leads to this very mirror, as it does where DNS or a hosts entry points
//! clients here and the mirror's own machine is one of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use crate::upstream;

/// Warns once per upstream whose API host resolves to a listener of this process.
pub(super) async fn warn(upstreams: BTreeMap<String, upstream::Config>, listeners: Vec<SocketAddr>) {
    for (name, section) in upstreams {
        if section.proxy.is_some() {
            continue;
        }
        let host = section.api.host().trim_matches(['[', ']']).to_owned();
        let port = section.api.url().port_or_known_default().unwrap_or(443);
        let addresses: Vec<SocketAddr> = match section.address {
            Some(address) => vec![address],
            None => match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(found) => found.collect(),
                // No name service, no answer: the first request will say what is wrong.
                Err(_) => continue,
            },
        };
        if addresses.iter().any(|address| leads_here(*address, &listeners)) {
            tracing::error!(
                upstream = name,
                "upstreams.{name}.api leads back to this mirror: every request to it will be answered 508; set \
                 upstreams.{name}.address to the forge's real address, for example address = \"192.0.2.1:443\""
            );
        }
    }
}

fn leads_here(address: SocketAddr, listeners: &[SocketAddr]) -> bool {
    listeners.iter().any(|listener| {
        listener.port() == address.port()
            && (listener.ip() == address.ip() || (listener.ip().is_unspecified() && is_own(address.ip())))
    })
}

/// True for an address of this machine: only those can be bound.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_to_a_listener_is_recognised() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("valid");
        assert!(leads_here(at("127.0.0.1:8080"), &[at("127.0.0.1:8080")]));
        assert!(leads_here(at("127.0.0.1:8080"), &[at("0.0.0.0:8080")]));
        assert!(!leads_here(at("127.0.0.1:443"), &[at("127.0.0.1:8080")]));
        assert!(!leads_here(at("192.0.2.1:8080"), &[at("0.0.0.0:8080")]));
    }
}
