//! The nodes of a fleet: which one owns a package, and the client that reads an archive from another node.
//!
//! Every node has the same list of nodes. The owner of a package is the node with the highest rendezvous hash. It
//! fetches what no node has yet, and the other nodes read the archive from it while it still arrives, over a listener
//! with mutual TLS. Without the section `[fleet]` nothing of this module runs.

mod config;
mod discovery;
mod node_client;
mod node_connections;
mod nodes;

pub use config::{Config, FleetNode};
pub use discovery::NodeDiscovery;
pub use node_client::{NodeBody, NodeClient, NodeError};
pub use node_connections::{CertificateReload, NodeClientError, NodeConnections, ReadAuthorities};
pub use nodes::Nodes;

/// The path of an archive on the listener for nodes, before its key.
pub const ARCHIVE_PATH: &str = "/archives/";
/// The path there of the notice that a node has written a change to the bucket.
pub const CHANGES_PATH: &str = "/changes";
