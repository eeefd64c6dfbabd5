//! Connections to one upstream: time limits, proxy, trusted certificates and a fixed address, all from configuration.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use reqwest::{Certificate, NoProxy, Proxy, redirect::Policy};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::Instant;
use url::{Host, Url};

use super::{BuildError, Config};
use crate::value::io_reason::io_reason;

/// How long an idle connection is kept. Shorter than the forges' own limit, so that the mirror closes first.
const MAX_IDLE_CONNECTION_AGE: Duration = Duration::from_secs(45);

/// Header time-outs in a row after which new connections are opened: an HTTP/2 session can be stuck while new ones work.
const MAX_HEADER_TIMEOUTS: u32 = 2;
/// Interval of HTTP/2 pings on a connection in use.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time limit of the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of one upstream. When they no longer answer, the next requests use new ones.
pub(super) struct UpstreamConnections {
    settings: ConnectSettings,
    state: Mutex<ConnectionState>,
}

struct ConnectionState {
    client: reqwest::Client,
    /// Header time-outs in a row.
    timeouts: u32,
    last_response: Option<Instant>,
}

/// What the client is built from, and built again from when new connections are to be opened.
struct ConnectSettings {
    connect_timeout: Duration,
    proxy: Option<Proxy>,
    roots: Vec<Certificate>,
    /// A host and the address that it is reached at.
    address: Option<(String, SocketAddr)>,
}

impl UpstreamConnections {
    /// Reads `ca_file`; opens no connection.
    ///
    /// `address` has no effect on requests through `proxy`, because the proxy resolves host names itself.
    ///
    /// # Errors
    /// [`BuildError`] names the key with the invalid value.
    pub(super) fn new(name: &str, config: &Config) -> Result<Self, BuildError> {
        let settings = ConnectSettings::new(name, config)?;
        // The certificates are valid, so only the proxy can be the cause.
        let client = settings.client().map_err(|_| BuildError {
            upstream: name.to_owned(),
            key: "proxy",
            reason: "connections cannot be set up with it".into(),
        })?;
        let state = Mutex::new(ConnectionState { client, timeouts: 0, last_response: None });
        Ok(Self { settings, state })
    }

    /// The client for the next request.
    pub(super) fn client(&self) -> reqwest::Client {
        self.state.lock().client.clone()
    }

    /// Records the head of a response.
    pub(super) fn note_response(&self) {
        let mut state = self.state.lock();
        state.timeouts = 0;
        state.last_response = Some(Instant::now());
    }

    /// Records that no head arrived in time. After [`MAX_HEADER_TIMEOUTS`] in a row the present connections get no new request;
    /// bodies that arrive over them go on.
    pub(super) fn note_timeout(&self, upstream: &str) {
        let mut state = self.state.lock();
        state.timeouts += 1;
        if state.timeouts < MAX_HEADER_TIMEOUTS {
            return;
        }
        match self.settings.client() {
            Ok(client) => {
                tracing::info!(upstream, "no response over the present connections; new ones are opened");
                *state = ConnectionState { client, timeouts: 0, last_response: None };
            }
            Err(error) => tracing::warn!(upstream, %error, "new connections cannot be set up"),
        }
    }

    /// True while an idle connection may be open that the server has closed.
    pub(super) fn may_be_idle(&self) -> bool {
        self.state.lock().last_response.is_some_and(|last| last.elapsed() <= MAX_IDLE_CONNECTION_AGE)
    }
}

impl ConnectSettings {
    fn new(name: &str, config: &Config) -> Result<Self, BuildError> {
        let wrong = |key, reason: String| BuildError { upstream: name.to_owned(), key, reason };
        let proxy = match &config.proxy {
            Some(proxy) => {
                // The value may contain a password: no message repeats it.
                let example = "write for example \"http://proxy.example:3128\" or \"socks5h://proxy.example:1080\"";
                let known =
                    Url::parse(proxy).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h"));
                let proxy = Some(proxy).filter(|_| known).and_then(|proxy| Proxy::all(proxy).ok());
                let proxy = proxy.ok_or_else(|| wrong("proxy", format!("not a proxy URL; {example}")))?;
                Some(proxy.no_proxy(config.no_proxy.as_deref().and_then(NoProxy::from_string)))
            }
            None => None,
        };
        let mut roots = system_roots().to_vec();
        if let Some(path) = &config.ca_file {
            roots.extend(ca_certificates(path).map_err(|error| wrong("ca_file", error.to_string()))?);
        }
        let address = match config.address {
            Some(address) => {
                let Some(Host::Domain(host)) = config.api.url().host() else {
                    return Err(wrong("address", "has no effect: the host of api is an IP address already".into()));
                };
                // Name resolution has no ports: an explicit port in `api` would take precedence over this one.
                if config.api.url().port().is_some_and(|port| port != address.port()) {
                    let reason = "its port differs from the port in api; remove the port from api";
                    return Err(wrong("address", reason.into()));
                }
                Some((host.to_owned(), address))
            }
            None => None,
        };
        Ok(Self { connect_timeout: config.connect_timeout.0, proxy, roots, address })
    }

    fn client(&self) -> reqwest::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("srm-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(MAX_IDLE_CONNECTION_AGE)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .tls_certs_only(self.roots.clone());
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        if let Some((host, address)) = &self.address {
            builder = builder.resolve_to_addrs(host, &[*address]);
        }
        builder.build()
    }
}

/// Why the certificate authorities in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFileError {
    /// It cannot be read.
    #[error("this file cannot be read: {}", io_reason(.0))]
    Unreadable(std::io::Error),
    /// It has no certificate in PEM.
    #[error("this file has no PEM certificate")]
    NoCertificate,
    /// A certificate in it is damaged, or of a kind that TLS does not know.
    #[error("certificate {0} in this file is damaged")]
    Damaged(usize),
}

/// Reads the certificate authorities in a PEM file. Blocks.
///
/// # Errors
/// See [`AuthorityFileError`].
pub(crate) fn ca_certificates(path: &Path) -> Result<Vec<Certificate>, AuthorityFileError> {
    let pem = std::fs::read(path).map_err(AuthorityFileError::Unreadable)?;
    let mut certificates = Vec::new();
    for (number, der) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let certificate = der.ok().and_then(|der| parse_root(&der));
        certificates.push(certificate.ok_or(AuthorityFileError::Damaged(number + 1))?);
    }
    if certificates.is_empty() { Err(AuthorityFileError::NoCertificate) } else { Ok(certificates) }
}

/// A certificate that TLS can trust; `None` for one that is damaged.
fn parse_root(der: &CertificateDer<'_>) -> Option<Certificate> {
    // A client with one damaged certificate cannot be built at all.
    RootCertStore::empty().add(der.clone()).ok()?;
    Certificate::from_der(der).ok()
}

/// Says that certificates of upstreams cannot be verified because the system has no certificate authorities; `None` where
/// it has some, or no upstream needs them.
pub(crate) fn trust_warning(upstreams: &BTreeMap<String, Config>) -> Option<String> {
    let needs = |upstream: &&Config| upstream.api.url().scheme() == "https" && upstream.ca_file.is_none();
    let needed = upstreams.values().any(|upstream| needs(&upstream));
    (needed && system_roots().is_empty())
        .then(|| format!("{NO_AUTHORITIES}: https upstreams cannot be reached; {GET_AUTHORITIES}"))
}

const NO_AUTHORITIES: &str = "this system has no certificate authorities";
const GET_AUTHORITIES: &str = "install them (the package ca-certificates), or name a PEM file in SSL_CERT_FILE";

/// The system's certificate authorities, read once per process: to parse them takes longer than the rest of a start.
///
/// Empty where the system has none; then only upstreams with `ca_file` or plain http can be reached. Damaged ones are left
/// out.
pub(crate) fn system_roots() -> &'static [Certificate] {
    static SYSTEM_ROOTS: OnceLock<Vec<Certificate>> = OnceLock::new();
    SYSTEM_ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read a certificate of the system");
        }
        let roots: Vec<_> = found.certs.iter().filter_map(parse_root).collect();
        let damaged = found.certs.len() - roots.len();
        if damaged > 0 {
            tracing::warn!(damaged, "some certificate authorities of the system are damaged and left out");
        }
        if roots.is_empty() {
            tracing::warn!("{NO_AUTHORITIES}: https upstreams without ca_file cannot be reached; {GET_AUTHORITIES}");
        }
        roots
    })
}
