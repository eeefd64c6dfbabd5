//! The client of other nodes' listeners: an archive, read while it still arrives there.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Response;
use tokio::time::timeout;

use super::{ARCHIVE_PATH, CHANGES_PATH, Config, FleetNode, NodeConnections};
use crate::{
    entry::Key,
    value::rate_floor::{RateFloor, with_rate_floor},
};

/// The slowest body that is waited for, bytes per second in each window of waiting. Less than the rate that the other node
/// demands of the forge, whose bytes it passes on.
const MIN_NODE_RATE: u64 = 4 << 10;
/// The time of waiting over which the rate is averaged.
const NODE_RATE_WINDOW: Duration = Duration::from_secs(60);
/// Longest wait for the answer to a notice of a change.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(2);

/// The client of the other nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeClient {
    connections: NodeConnections,
    response_timeout: Duration,
    idle_timeout: Duration,
}

/// Why a node did not send an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No connection, or one that broke.
    #[error("the node cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the node did not answer in time")]
    TimedOut,
    /// Another status than 200.
    #[error("the node answered with status {0}")]
    Status(u16),
}

/// An archive that another node sends.
pub struct NodeBody {
    /// Its length, if that is known.
    pub len: Option<u64>,
    /// The bytes; an error is the last item.
    pub bytes: BoxStream<'static, Result<Bytes, NodeError>>,
}

impl NodeClient {
    /// A client over these connections.
    pub fn new(config: &Config, connections: NodeConnections) -> Self {
        Self { connections, response_timeout: config.response_timeout.0, idle_timeout: config.idle_timeout.0 }
    }

    /// Its connections.
    pub fn connections(&self) -> &NodeConnections {
        &self.connections
    }

    /// Opens an archive at a node, which fetches it if it must.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn open(&self, node: &FleetNode, key: &Key) -> Result<NodeBody, NodeError> {
        let key = utf8_percent_encode(key.as_str(), NON_ALPHANUMERIC);
        let request = self.http(node)?.get(format!("{}{ARCHIVE_PATH}{key}", node.url)).send();
        let response = timeout(self.response_timeout, request).await.map_err(|_| NodeError::TimedOut)?;
        let response = response.map_err(|error| of_reqwest(&error))?;
        if response.status() != StatusCode::OK {
            return Err(NodeError::Status(response.status().as_u16()));
        }
        let len = response.content_length();
        let floor = RateFloor::new(MIN_NODE_RATE, NODE_RATE_WINDOW);
        Ok(NodeBody { len, bytes: with_rate_floor(body(response, self.idle_timeout), floor, || NodeError::TimedOut) })
    }

    /// Notifies a node that this one has written a change to the bucket.
    ///
    /// # Errors
    /// See [`NodeError`]; the node then reads the change at its next interval.
    pub async fn notify_changed(&self, node: &FleetNode) -> Result<(), NodeError> {
        let request = self.http(node)?.post(format!("{}{CHANGES_PATH}", node.url)).send();
        let response = timeout(NOTICE_TIMEOUT, request).await.map_err(|_| NodeError::TimedOut)?;
        match response.map_err(|error| of_reqwest(&error))?.status() {
            StatusCode::NO_CONTENT => Ok(()),
            status => Err(NodeError::Status(status.as_u16())),
        }
    }

    fn http(&self, node: &FleetNode) -> Result<reqwest::Client, NodeError> {
        self.connections.client_for(node).map_err(|error| {
            tracing::error!(node = node.name, %error, "another node cannot be asked");
            NodeError::Unreachable
        })
    }
}

fn body(response: Response, idle_timeout: Duration) -> BoxStream<'static, Result<Bytes, NodeError>> {
    stream::unfold(Some(response), move |response| async move {
        let mut response = response?;
        match timeout(idle_timeout, response.chunk()).await {
            Ok(Ok(Some(chunk))) => Some((Ok(chunk), Some(response))),
            Ok(Ok(None)) => None,
            Ok(Err(_)) => Some((Err(NodeError::Unreachable), None)),
            Err(_) => Some((Err(NodeError::TimedOut), None)),
        }
    })
    .boxed()
}

fn of_reqwest(error: &reqwest::Error) -> NodeError {
    if error.is_timeout() { NodeError::TimedOut } else { NodeError::Unreachable }
}
