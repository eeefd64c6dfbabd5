//! The nodes of a fleet: who owns a package, and reading another node's running download.
//!
//! Every node knows the same list of nodes. The owner of a package is the node with the highest rendezvous hash; what no
//! node has yet is fetched by it, and the other nodes read along while it still arrives, over a listener with mutual TLS.
//! Without the section `[fleet]` nothing of this module runs.

mod config;
mod discovery;
mod node_client;
mod node_connections;
mod nodes;

pub use config::{Config, FleetNode};
pub use discovery::NodeDiscovery;
pub use node_client::{NodeBody, NodeClient, NodeClientError, NodeError};
pub use node_connections::{NodeConnections, ReadAuthorities, ReadFiles};
pub use nodes::Nodes;

/// The path of an archive on the listener for nodes, before its key.
pub const ARCHIVE_PATH: &str = "/archives/";
/// The path there by which a node says that it has written a change to the bucket.
pub const CHANGES_PATH: &str = "/changes";
