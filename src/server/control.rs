//! The control socket: the same service for those who may use the cache directory, and nobody else.
//!
//! It is a socket in the file system, for its owner alone. What comes by it may administrate; no address of the network
//! leads to it.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::Peer;

/// The socket's name in the cache directory.
pub const NAME: &str = "control.sock";
/// Connections the kernel keeps for us before they are accepted.
const BACKLOG: u32 = 64;
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
/// What a socket's address takes, with the byte that ends it. The same on every Linux; elsewhere four less.
const LONGEST: usize = 103;

/// The listening socket. Its file goes with it.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// A path that fits into a socket's address, valid while this lives.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _dir: Option<File>,
}

impl SocketPath {
    /// The socket of the cache directory `dir`. A directory with a long path is reached by its open file.
    ///
    /// # Errors
    /// When a directory with a long path cannot be opened.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Listens in the cache directory `dir`, which the caller holds: a socket that lies there is a dead process's.
///
/// # Errors
/// When the file system refuses.
pub fn listen(dir: &Path) -> io::Result<Control> {
    let path = dir.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    let place = SocketPath::of(dir)?;
    socket.bind(place.path())?;
    // Nobody can connect before it listens, so it is never open to others.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(Control { listener: socket.listen(BACKLOG)?, path })
}

impl Control {
    /// The next connection. Ends never with an error: what cannot be accepted is tried again.
    pub(super) async fn accept(&self) -> (UnixStream, Peer) {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peer = Peer { addr: nowhere, local: nowhere, tls: false, control: true };
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // At worst a file that leads nowhere stays, which the next start replaces.
        let _ = fs::remove_file(&self.path);
    }
}
