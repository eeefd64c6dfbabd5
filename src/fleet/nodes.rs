//! Which node owns a package: rendezvous hashing, so that a change of the list of nodes moves few packages.

use std::sync::Arc;

use super::FleetNode;
use crate::entry::{Digest, Key};

/// The nodes of the fleet, with the position of this one.
#[derive(Clone, Debug)]
pub struct Nodes {
    all: Arc<[FleetNode]>,
    /// The position of this node.
    own: usize,
    order: NodeOrder,
}

/// Whether the order of the nodes is the same on each of them at all times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeOrder {
    /// Yes: it is configured.
    Configured,
    /// No: each node has the nodes that it found last.
    Found,
}

impl Nodes {
    /// The nodes in their configured order; `None` if `own` is none of them.
    pub fn new(all: &[FleetNode], own: &str) -> Option<Self> {
        Self::with_order(all, own, NodeOrder::Configured)
    }

    /// The nodes that were found; `None` if `own` is none of them. None of them decides alone.
    pub fn found(all: &[FleetNode], own: &str) -> Option<Self> {
        Self::with_order(all, own, NodeOrder::Found)
    }

    fn with_order(all: &[FleetNode], own: &str, order: NodeOrder) -> Option<Self> {
        let own = all.iter().position(|node| node.name == own)?;
        Some(Self { all: all.into(), own, order })
    }

    /// All nodes.
    pub fn all(&self) -> &[FleetNode] {
        &self.all
    }

    /// True where this node decides alone on new content while the bucket cannot be asked: it is the first one of the
    /// configured order.
    pub fn decides_alone(&self) -> bool {
        self.order == NodeOrder::Configured && self.own == 0
    }

    /// The nodes that come before this one for a key, the owner first; none where this node is the owner.
    pub fn before_own(&self, key: &Key) -> Vec<&FleetNode> {
        let package = key.package();
        let score = |node: &FleetNode| Digest::of(format!("{}\n{package}", node.name).as_bytes());
        let own = score(&self.all[self.own]);
        let mut before: Vec<_> =
            self.all.iter().map(|node| (score(node), node)).filter(|(score, _)| *score > own).collect();
        before.sort_unstable_by_key(|(score, _)| std::cmp::Reverse(*score));
        before.into_iter().map(|(_, node)| node).collect()
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = &FleetNode> {
        self.all.iter().enumerate().filter(|(position, _)| *position != self.own).map(|(_, node)| node)
    }

    /// The node that decides alone while the bucket cannot be asked, if it is another one; see [`Nodes::decides_alone`].
    pub fn deciding_node(&self) -> Option<&FleetNode> {
        (self.order == NodeOrder::Configured && self.own > 0).then(|| &self.all[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(count: usize) -> Vec<FleetNode> {
        (0..count).map(|n| format!("node{n}=https://10.0.0.1:{}", 1000 + n).parse().expect("a node")).collect()
    }

    fn owner(all: &[FleetNode], key: &Key) -> String {
        let of = |node: &FleetNode| Nodes::new(all, &node.name).expect("one of them").before_own(key).is_empty();
        let owners: Vec<_> = all.iter().filter(|node| of(node)).collect();
        assert_eq!(owners.len(), 1, "every node names the same owner");
        owners[0].name.clone()
    }

    #[test]
    fn among_nodes_that_were_found_none_decides_alone() {
        let all = fleet(2);
        let of = |name: &str, make: fn(&[FleetNode], &str) -> Option<Nodes>| make(&all, name).expect("one of them");
        assert!(of("node0", Nodes::new).decides_alone() && !of("node1", Nodes::new).decides_alone());
        assert_eq!(of("node1", Nodes::new).deciding_node(), Some(&all[0]));
        for name in ["node0", "node1"] {
            let nodes = of(name, Nodes::found);
            assert!(!nodes.decides_alone() && nodes.deciding_node().is_none());
        }
    }

    #[test]
    fn all_versions_of_a_package_have_one_owner() {
        let all = fleet(5);
        for (one, other) in [
            ("github/devsapp/fc3/tag/v1", "github/devsapp/fc3/commit/abc"),
            ("official:fc3/tag/1.0.0", "official:fc3/tag/2.0.0"),
        ] {
            assert_eq!(owner(&all, &Key::new(one)), owner(&all, &Key::new(other)));
        }
    }

    #[test]
    fn a_fourth_node_takes_a_quarter_of_the_packages_and_moves_no_other() {
        let keys: Vec<_> = (0..2000).map(|n| Key::new(format!("github/owner/repo{n}/tag/v1"))).collect();
        let three = fleet(3);
        let four = fleet(4);
        let mut moved = 0;
        for key in &keys {
            let before = owner(&three, key);
            let after = owner(&four, key);
            if before != after {
                assert_eq!(after, "node3", "only to the new node");
                moved += 1;
            }
        }
        assert!((400..=600).contains(&moved), "{moved} of 2000 have moved");
    }

    #[test]
    fn a_thousand_nodes_share_the_packages_evenly() {
        let scores =
            |node: usize, package: usize| Digest::of(format!("node{node}\ngithub/owner/repo{package}").as_bytes());
        let mut owned = vec![0_usize; 1000];
        for package in 0..5000 {
            let owner = (0..1000).max_by_key(|node| scores(*node, package)).expect("a node");
            owned[owner] += 1;
        }
        let most = owned.iter().max().copied().unwrap_or_default();
        // 5 on average; a Poisson distribution has more than 20 once in ten million.
        assert!(most <= 20, "{most}");
    }
}
