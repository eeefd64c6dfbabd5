//! TLS: certificates by the name a client asks for (SNI), HTTP/1.1 and HTTP/2 by ALPN, and files read again while
//! serving.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tokio_rustls::{Accept, TlsAcceptor};

use crate::value::Period;

mod files;
mod reload;

pub use files::{TlsError, key_seen_by_others, load};

/// The protocols that are offered, the preferred one first (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The `[server.tls]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses to listen on with TLS, beside the plain ones; none turns TLS off.
    pub listen: Vec<SocketAddr>,
    /// The certificates. A client gets the first that is valid for the name it asks for, else the first of all.
    pub certificates: Vec<Files>,
    /// How often the files are looked at for a change.
    pub reload: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: Vec::new(), certificates: Vec::new(), reload: Period::secs(10) }
    }
}

/// One certificate with its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The certificate, followed by the intermediate ones, if any.
    pub cert_file: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key_file: PathBuf,
}

/// Asks for the files to be read again at once, as SIGHUP does. Clones ask the same listener.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks; what comes of it is in the log. Running connections are not touched.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Everything that TLS connections share.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    chosen: Arc<CertResolver>,
    config: Config,
    reload: Reload,
    /// What the files held when they were last read.
    first: files::FileFingerprint,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the keys.
        f.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificates; `None` where no address asks for TLS.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(super) fn build(config: &Config) -> Result<Option<Self>, TlsError> {
        if config.listen.is_empty() {
            return Ok(None);
        }
        let (first, keys) = files::read(&config.certificates)?;
        let chosen = Arc::new(CertResolver(RwLock::new(keys)));
        let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(chosen.clone());
        server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Some(Self { acceptor, chosen, config: config.clone(), reload: Reload::default(), first }))
    }

    /// Begins the handshake of one connection. It has no time limit of its own.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, io: S) -> Accept<S> {
        self.acceptor.accept(io)
    }

    /// The handle by which the files are read again.
    pub(super) fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Keeps the certificates as their files are; ends never.
    pub(super) async fn follow_files(&self) {
        reload::follow(&self.config, &self.reload.0, self.first, |keys| self.chosen.replace(keys)).await;
    }
}

/// The certificates that hold now. Never empty: [`files::read`] refuses that.
#[derive(Debug)]
struct CertResolver(RwLock<Vec<Arc<CertifiedKey>>>);

impl CertResolver {
    fn replace(&self, keys: Vec<Arc<CertifiedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = hello.server_name().and_then(|name| keys.iter().find(|key| files::is_for(key, name)));
        // A client that names nobody we know is better told by its own check of the name than by a bare alert.
        named.or_else(|| keys.first()).cloned()
    }
}

/// Logs why a handshake came to nothing.
pub(super) fn log_failure(why: &std::io::Error, client: SocketAddr) {
    let refused = why.get_ref().and_then(|why| why.downcast_ref::<rustls::Error>());
    match refused {
        // The client looked at our certificate and said no: what an operator wants to know after a rollout.
        Some(rustls::Error::AlertReceived(alert)) => {
            tracing::info!(%client, alert = ?alert, "a client refused the TLS certificate or its terms");
        }
        _ => tracing::debug!(%client, error = %why, "a TLS handshake failed"),
    }
}
