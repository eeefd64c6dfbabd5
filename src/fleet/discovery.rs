//! The nodes behind one name of DNS, which is resolved again while the mirror runs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::lookup_host, time::timeout};

use super::{Config, FleetNode};
use crate::value::BaseUrl;

/// Longest wait for DNS.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Most nodes that are taken from DNS.
const MAX_DISCOVERED_NODES: usize = 1000;
/// The port of an address without one.
const HTTPS_PORT: u16 = 443;

/// The name in DNS that has the addresses of all nodes, and this node's own address among them.
#[derive(Clone, Debug)]
pub struct NodeDiscovery {
    url: BaseUrl,
    host: String,
    own: IpAddr,
}

impl NodeDiscovery {
    /// The discovery of a section; `None` where the nodes are listed, or the section is not valid.
    pub fn of(section: &Config) -> Option<Self> {
        let url = section.discover.clone()?;
        let host = url.url().host_str()?.to_owned();
        Some(Self { url, host, own: section.node.parse().ok()? })
    }

    /// The nodes at the present addresses of the name.
    ///
    /// # Errors
    /// When DNS does not answer in time, or has no addresses.
    pub async fn find(&self) -> io::Result<Vec<FleetNode>> {
        let port = self.url.url().port().unwrap_or(HTTPS_PORT);
        let found = timeout(LOOKUP_TIMEOUT, lookup_host((self.host.as_str(), port))).await??;
        Ok(self.at(found.map(|address| address.ip())))
    }

    /// This node alone, while DNS does not answer.
    pub fn own_node(&self) -> Vec<FleetNode> {
        self.at([])
    }

    /// The name of this node.
    pub fn own_name(&self) -> String {
        self.own.to_string()
    }

    /// The nodes at these addresses, each named by its address, in order. This node is always one of them. Only
    /// addresses of its family count: those of the other family belong to the same nodes.
    fn at(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<FleetNode> {
        let is_same_family = |address: &IpAddr| address.is_ipv4() == self.own.is_ipv4();
        let mut addresses: Vec<_> = addresses.into_iter().filter(is_same_family).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_DISCOVERED_NODES);
        if !addresses.contains(&self.own) {
            addresses.push(self.own);
            addresses.sort_unstable();
        }
        let port = self.url.url().port().unwrap_or(HTTPS_PORT);
        let node = |address: IpAddr| FleetNode {
            name: address.to_string(),
            url: self.url.clone(),
            address: Some(SocketAddr::new(address, port)),
        };
        addresses.into_iter().map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(own: &str) -> NodeDiscovery {
        let discover = Some("https://nodes.example:8470".parse().expect("an address"));
        NodeDiscovery::of(&Config { node: own.into(), discover, ..Config::default() }).expect("a name")
    }

    fn names(nodes: &[FleetNode]) -> Vec<&str> {
        nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn the_nodes_of_a_name_are_its_addresses_and_this_node_in_one_order_on_all() {
        let found = ["10.0.0.3", "10.0.0.1", "fd00::1", "10.0.0.3"].map(|address| address.parse().expect("an address"));
        let nodes = discovery("10.0.0.2").at(found);
        assert_eq!(names(&nodes), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(nodes[0].address, Some("10.0.0.1:8470".parse().expect("an address")));
        assert_eq!(names(&discovery("10.0.0.1").at(found)), ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(names(&discovery("fd00::2").at(found)), ["fd00::1", "fd00::2"]);
        assert_eq!(names(&discovery("10.0.0.9").own_node()), ["10.0.0.9"]);
    }

    #[test]
    fn more_addresses_than_a_fleet_can_have_are_left_out_and_never_this_node() {
        let many = (0..5000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let nodes = discovery("10.200.0.1").at(many);
        assert_eq!(nodes.len(), MAX_DISCOVERED_NODES + 1);
        assert!(names(&nodes).contains(&"10.200.0.1"));
    }
}
