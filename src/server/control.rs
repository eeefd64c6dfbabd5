//! The control socket: a Unix socket in the cache directory, for the administration of the mirror.
//!
//! Only the directory's owner can connect (mode 0600); no network address leads to it.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::peer::{ListenerKind, Peer};

/// The socket's file name in the cache directory.
const CONTROL_SOCKET_NAME: &str = "control.sock";
/// Length of the accept queue, in connections.
const CONTROL_BACKLOG: u32 = 64;
/// The pause after a failed accept.
const CONTROL_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest path of a socket address, without the terminating zero byte: 107 on Linux, 103 elsewhere.
const MAX_SOCKET_PATH_BYTES: usize = 103;

/// The listening control socket. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
}

/// A path that is short enough for a socket address. Valid while this value lives.
#[derive(Debug)]
pub(crate) struct SocketPath {
    path: PathBuf,
    _dir: Option<File>,
}

impl SocketPath {
    /// The control socket of the cache directory `dir`. A directory with a long path is addressed by an open descriptor.
    ///
    /// # Errors
    /// When a directory with a long path cannot be opened.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let path = dir.join(CONTROL_SOCKET_NAME);
        if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{CONTROL_SOCKET_NAME}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Listens in the cache directory `dir`. The caller holds the directory, so an existing socket is left over from a process
/// that has ended, and is replaced.
///
/// # Errors
/// The error of the file system.
pub(crate) fn listen(dir: &Path) -> io::Result<ControlListener> {
    let path = dir.join(CONTROL_SOCKET_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    let address = SocketPath::of(dir)?;
    socket.bind(address.path())?;
    // Connections are possible only after `listen`, so the socket is never open to other users.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(ControlListener { listener: socket.listen(CONTROL_BACKLOG)?, path })
}

impl ControlListener {
    /// The next connection. Failures are logged, and accepting is tried again after a pause.
    pub(super) async fn accept(&self) -> (UnixStream, Peer) {
        let no_address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let certificate = None;
                    let peer =
                        Peer { addr: no_address, local: no_address, listener: ListenerKind::Control, certificate };
                    return (stream, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(CONTROL_ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        // A file that cannot be removed is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}
