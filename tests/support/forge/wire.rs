//! Listeners that can be closed and reopened on the same port, and connections that count flushed bytes.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};

use super::body::Body;

/// The connection closes without an answer.
#[derive(Debug)]
pub struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused by the test")
    }
}

impl std::error::Error for Refused {}

/// Counts flushes: how often all written bytes have reached the socket.
#[derive(Clone)]
pub struct Flushes(watch::Receiver<u64>);

impl Flushes {
    /// Waits for the next flush. The connection flushes whenever a body pauses.
    pub async fn next(&mut self) {
        self.0.borrow_and_update();
        let _ = self.0.changed().await;
    }
}

struct Wire {
    stream: TcpStream,
    flushes: watch::Sender<u64>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper comes here only when its own buffer is empty.
        self.flushes.send_modify(|count| *count += 1);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Backlog of connections to accept.
const BACKLOG: u32 = 1024;

enum Command {
    Down(oneshot::Sender<()>),
    Up(oneshot::Sender<()>),
}

/// One listener with its connections. Dropping it closes them.
pub struct Listener {
    _kept: TcpSocket,
    pub address: SocketAddr,
    pub accepted: Arc<AtomicU64>,
    commands: mpsc::UnboundedSender<Command>,
    task: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Serves `handle` on a port from [`bind`].
    pub fn serve<F, A>((kept, listener): (TcpSocket, TcpListener), handle: F) -> Self
    where
        F: Fn(Request<Incoming>, Flushes) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response<Body>, Refused>> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let (commands, orders) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(listener, address, accepted.clone(), orders, handle)).abort_handle();
        Self { _kept: kept, address, accepted, commands, task }
    }

    async fn tell(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, waits) = oneshot::channel();
        let _ = self.commands.send(command(done));
        let _ = waits.await;
    }

    pub async fn down(&self) {
        self.tell(Command::Down).await;
    }

    pub async fn up(&self) {
        self.tell(Command::Up).await;
    }
}

/// Binds a port that stays reserved while no socket listens: connections are then refused, and no other process gets it.
///
/// The returned socket never listens. It shares the port with the one that listens, so there is no gap between the two.
pub fn bind(address: SocketAddr) -> io::Result<(TcpSocket, TcpListener)> {
    // Sharing is for us alone: a second forge on the same port must be told that it is taken.
    if address.port() != 0 {
        drop(std::net::TcpListener::bind(address)?);
    }
    let kept = socket(address)?;
    let listener = socket(kept.local_addr()?)?.listen(BACKLOG)?;
    Ok((kept, listener))
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn run<F, A>(
    listener: TcpListener,
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
    mut orders: mpsc::UnboundedReceiver<Command>,
    handle: F,
) where
    F: Fn(Request<Incoming>, Flushes) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, Refused>> + Send + 'static,
{
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(Command::Down(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Command::Up(done)) => {
                    if listener.is_none() {
                        listener = Some(socket(address).and_then(|socket| socket.listen(BACKLOG)).unwrap());
                    }
                    let _ = done.send(());
                }
                None => return,
            },
            stream = accept => {
                // An accept that fails (no descriptors) must not spin.
                let Ok((stream, _)) = stream else { tokio::task::yield_now().await; continue };
                accepted.fetch_add(1, Ordering::AcqRel);
                connections.spawn(connection(stream, handle.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection<F, A>(stream: TcpStream, handle: F)
where
    F: Fn(Request<Incoming>, Flushes) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, Refused>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let flushes = watch::Sender::new(0);
    let watcher = Flushes(flushes.subscribe());
    let wire = TokioIo::new(Wire { stream, flushes });
    let service = service_fn(move |request| handle(request, watcher.clone()));
    // No timer: a test with paused time must not lose idle connections. Its errors are the cuts and refusals that the test asked for, or the client's leaving.
    let _ = http1::Builder::new().header_read_timeout(None).serve_connection(wire, service).await;
}
