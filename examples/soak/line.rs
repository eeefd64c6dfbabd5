//! One client connection over HTTP/1.1 or HTTP/2, and requests on it.

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpSocket, task::AbortHandle, time::timeout};

/// Longest wait for a head or for the next bytes of a body. The mirror's own time-outs are far shorter.
const SILENCE: Duration = Duration::from_secs(30);

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// A connection. Dropping it closes it.
pub(crate) struct Line {
    address: SocketAddr,
    sender: Sender,
    driver: AbortHandle,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The connection broke.
    Broken,
    /// Nothing came for [`SILENCE`].
    Silent,
}

impl From<hyper::Error> for NoAnswer {
    fn from(_: hyper::Error) -> Self {
        Self::Broken
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Line {
    /// Connects; `receive_buffer` bytes make the kernel take little ahead of a slow reader.
    pub(crate) async fn open(
        address: SocketAddr,
        protocol: Protocol,
        receive_buffer: Option<u32>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = timeout(SILENCE, socket.connect(address)).await??;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        if protocol == Protocol::Http1 {
            let (sender, connection) = http1::handshake(io).await?;
            let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
            return Ok(Self { address, sender: Sender::Http1(sender), driver });
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(io).await?;
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { address, sender: Sender::Http2(sender), driver })
    }

    /// Sends a request and returns the head of its answer.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, String)],
    ) -> Result<Response<Incoming>, NoAnswer> {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("http://{}{path}", self.address),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if let Sender::Http1(_) = self.sender {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        let request = request.body(Empty::new()).map_err(|_| NoAnswer::Broken)?;
        let head = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(timeout(SILENCE, head).await.map_err(|_| NoAnswer::Silent)??)
    }
}

/// Receives a body to its end; after each frame waits for `pause`.
pub(crate) async fn receive(mut body: Incoming, pause: Duration) -> Result<Bytes, NoAnswer> {
    let mut all = BytesMut::new();
    while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| NoAnswer::Silent)? {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(all.freeze())
}

/// Receives about `len` bytes and leaves the rest.
pub(crate) async fn receive_some(mut body: Incoming, len: u64) -> Result<(), NoAnswer> {
    let mut received = 0;
    while received < len {
        match timeout(SILENCE, body.frame()).await.map_err(|_| NoAnswer::Silent)? {
            Some(frame) => received += frame?.into_data().map_or(0, |data| data.len() as u64),
            None => return Ok(()),
        }
    }
    Ok(())
}
