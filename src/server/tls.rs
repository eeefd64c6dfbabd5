//! TLS: certificates by the requested host name (SNI), HTTP/1.1 and HTTP/2 by ALPN, and certificate files that are
//! reloaded while the server runs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{Accept, TlsAcceptor};

use super::ReloadRequests;
use crate::value::Period;

mod files;
mod reload;

pub use files::{TlsError, load, world_readable_keys};

/// The offered protocols, the preferred one first ([RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)).
const ALPN_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The `[server.tls]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses to listen on with TLS, in addition to the plain ones; none turns TLS off.
    pub listen: Vec<SocketAddr>,
    /// The certificates. A client gets the first that is valid for the requested name, else the first of all.
    pub certificates: Vec<CertificateFiles>,
    /// How often the files are checked for changes.
    pub reload: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: Vec::new(), certificates: Vec::new(), reload: Period::secs(10) }
    }
}

/// The PEM files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate, followed by intermediate ones, if any.
    pub cert_file: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key_file: PathBuf,
}

/// The TLS state that all connections share.
pub(super) struct TlsServer {
    acceptor: TlsAcceptor,
    resolver: Arc<CertResolver>,
    config: Config,
    /// Of the files at the start.
    fingerprint: files::FileFingerprint,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the keys.
        f.debug_struct("TlsServer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the certificates; `None` when no address uses TLS.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(super) fn build(config: &Config) -> Result<Option<Self>, TlsError> {
        if config.listen.is_empty() {
            return Ok(None);
        }
        let loaded = files::read(&config.certificates)?;
        let resolver = Arc::new(CertResolver(RwLock::new(loaded.keys)));
        let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        server.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Some(Self { acceptor, resolver, config: config.clone(), fingerprint: loaded.fingerprint }))
    }

    /// Starts the handshake of one connection. It has no time limit of its own.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, io: S) -> Accept<S> {
        self.acceptor.accept(io)
    }

    /// Replaces the certificates whenever the files change or that is requested. Never returns.
    pub(super) async fn reload_on_change(&self, requests: ReloadRequests) {
        let replace = |keys| self.resolver.replace(keys);
        reload::run(&self.config, requests, self.fingerprint, replace).await;
    }
}

/// The current certificates. Never empty: [`files::read`] refuses that.
#[derive(Debug)]
struct CertResolver(RwLock<Vec<Arc<CertifiedKey>>>);

impl CertResolver {
    fn replace(&self, keys: Vec<Arc<CertifiedKey>>) {
        *self.0.write() = keys;
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.read();
        let named = hello.server_name().and_then(|name| keys.iter().find(|key| files::is_valid_for(key, name)));
        // For an unknown name, the client's own check gives a clearer error than a TLS alert.
        named.or_else(|| keys.first()).cloned()
    }
}

/// Logs why a handshake failed.
pub(super) fn log_handshake_failure(error: &std::io::Error, client: SocketAddr) {
    let tls = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    match tls {
        // The client rejected the certificate: logged at `info`, because it shows a faulty roll-out.
        Some(rustls::Error::AlertReceived(alert)) => {
            tracing::info!(%client, alert = ?alert, "the client rejected the TLS handshake");
        }
        _ => tracing::debug!(%client, %error, "the TLS handshake failed"),
    }
}
