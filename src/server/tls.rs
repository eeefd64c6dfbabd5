//! TLS: certificates by the requested host name (SNI), HTTP/1.1 and HTTP/2 by ALPN, certificates of clients, and files
//! that are reloaded while the server runs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::ReloadRequests;
use crate::{
    peer::{ClientCertificate, RevokedCertificates, ServerCertificates},
    value::Period,
};

mod certificate_fields;
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
    #[serde(deserialize_with = "super::listen_address::deserialize")]
    pub listen: Vec<SocketAddr>,
    /// The certificates. A client gets the first that is valid for the requested name, else the first of all.
    pub certificates: Vec<CertificateFiles>,
    /// PEM certificates of the authorities whose certificates identify clients; `None`: clients are asked for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client without a certificate is served.
    pub client_auth: ClientAuth,
    /// PEM revocation lists, one of each authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_crl_file: Option<PathBuf>,
    /// How often the files are checked for changes.
    pub reload: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificates: Vec::new(),
            client_ca_file: None,
            client_auth: ClientAuth::default(),
            client_crl_file: None,
            reload: Period::secs(10),
        }
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

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// A client may send none.
    #[default]
    Optional,
    /// A client without one is refused, before it sends a request.
    Required,
}

/// The TLS state that all connections share.
pub(super) struct TlsServer {
    current: ArcSwap<TlsState>,
    config: Config,
    /// The fingerprint of the files at the start.
    fingerprint: files::FileFingerprint,
    certificates: Arc<ServerCertificates>,
    revoked: Arc<RevokedCertificates>,
}

/// The TLS settings of new connections.
pub(super) struct TlsState {
    acceptor: TlsAcceptor,
    client_fingerprint: files::FileFingerprint,
    /// Cancelled when clients are no longer verified with the same files.
    distrusted: CancellationToken,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the keys.
        f.debug_struct("TlsServer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the certificates. Stores in `certificates` when they end, and in `revoked` which certificates of clients are
    /// revoked.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(super) fn build(
        config: &Config,
        certificates: Arc<ServerCertificates>,
        revoked: Arc<RevokedCertificates>,
    ) -> Result<Self, TlsError> {
        let mut loaded = files::read(config)?;
        revoked.set(std::mem::take(&mut loaded.revoked));
        let fingerprint = loaded.fingerprint;
        certificates.set(std::mem::take(&mut loaded.certificates));
        let current = ArcSwap::from_pointee(TlsState::new(loaded, CancellationToken::new()));
        Ok(Self { current, config: config.clone(), fingerprint, certificates, revoked })
    }

    /// The settings of a new connection.
    pub(super) fn state(&self) -> Arc<TlsState> {
        self.current.load_full()
    }

    /// Replaces the certificates whenever the files change or that is requested. Never returns.
    pub(super) async fn reload_on_change(&self, requests: ReloadRequests) {
        let replace = |loaded| self.replace(loaded);
        reload::run(&self.config, requests, self.fingerprint, replace).await;
    }

    /// Uses other files for new connections. Connections of clients that were verified with other files end after their
    /// running requests, so that the clients connect again and are verified anew.
    fn replace(&self, mut loaded: files::LoadedFiles) {
        self.certificates.set(std::mem::take(&mut loaded.certificates));
        self.revoked.set(std::mem::take(&mut loaded.revoked));
        let previous = self.current.load_full();
        let is_trusted = previous.client_fingerprint == loaded.client_fingerprint;
        let distrusted = if is_trusted { previous.distrusted.clone() } else { CancellationToken::new() };
        self.current.store(Arc::new(TlsState::new(loaded, distrusted)));
        if !is_trusted {
            previous.distrusted.cancel();
        }
    }
}

impl TlsState {
    fn new(loaded: files::LoadedFiles, distrusted: CancellationToken) -> Self {
        let client_fingerprint = loaded.client_fingerprint;
        Self { acceptor: TlsAcceptor::from(loaded.server), client_fingerprint, distrusted }
    }

    /// Starts the handshake of one connection. It has no time limit of its own.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, io: S) -> Accept<S> {
        self.acceptor.accept(io)
    }

    /// Cancelled when a connection with a client's certificate is to end, because that may no longer be trusted.
    pub(super) fn distrusted(&self) -> CancellationToken {
        // One for each connection: waiters of one token share its lock.
        self.distrusted.child_token()
    }
}

/// The certificate of the client after the handshake; `None` when it has sent none.
pub(super) fn client_certificate<S>(io: &TlsStream<S>) -> Option<Arc<ClientCertificate>> {
    let der = io.get_ref().1.peer_certificates()?.first()?;
    let certificate = certificate_fields::parse(der);
    if certificate.subject.is_none() {
        tracing::info!(
            fingerprint = %certificate.fingerprint,
            "the client's certificate names no principal: its subject is empty, longer than 255 bytes, or malformed"
        );
    }
    Some(Arc::new(certificate))
}

/// The certificates. Never empty: [`files::read`] refuses that.
#[derive(Debug)]
struct CertResolver(Vec<Arc<CertifiedKey>>);

impl CertResolver {
    fn new(keys: Vec<Arc<CertifiedKey>>) -> Self {
        Self(keys)
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = &self.0;
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
        Some(rustls::Error::InvalidCertificate(reason)) => {
            tracing::info!(%client, ?reason, "the client's certificate is refused");
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            tracing::info!(%client, "the client has sent no certificate (server.tls.client_auth)");
        }
        _ => tracing::debug!(%client, %error, "the TLS handshake failed"),
    }
}
