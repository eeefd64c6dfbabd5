//! Connections to one upstream: time limits, proxy, trusted certificates and a fixed address, all from configuration.

use std::{sync::OnceLock, time::Duration};

use reqwest::{Certificate, NoProxy, Proxy, redirect::Policy};
use url::{Host, Url};

use super::{BuildError, Config};

/// How long an idle connection is kept. Shorter than the forges' own limit, so that the mirror closes first.
pub(super) const MAX_IDLE_CONNECTION_AGE: Duration = Duration::from_secs(45);

/// Builds the HTTP client of one upstream. Reads `ca_file`.
///
/// `address` has no effect on requests through `proxy`, because the proxy resolves host names itself.
///
/// # Errors
/// [`BuildError`] names the key with the invalid value.
pub(super) fn client(name: &str, config: &Config) -> Result<reqwest::Client, BuildError> {
    let wrong = |key, reason: String| BuildError { upstream: name.to_owned(), key, reason };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("srm-mirror/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(config.connect_timeout.0)
        .pool_idle_timeout(MAX_IDLE_CONNECTION_AGE);
    if let Some(proxy) = &config.proxy {
        // The value may contain a password: no message repeats it.
        let example = "write for example \"http://proxy.example:3128\" or \"socks5h://proxy.example:1080\"";
        let known = Url::parse(proxy).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h"));
        let proxy = Some(proxy).filter(|_| known).and_then(|proxy| Proxy::all(proxy).ok());
        let proxy = proxy.ok_or_else(|| wrong("proxy", format!("not a proxy URL; {example}")))?;
        builder = builder.proxy(proxy.no_proxy(config.no_proxy.as_deref().and_then(NoProxy::from_string)));
    }
    let mut roots = system_roots().to_vec();
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| wrong("ca_file", format!("cannot be read: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(wrong("ca_file", "contains no PEM certificate".into()));
        }
        roots.extend(certificates);
    }
    builder = builder.tls_certs_only(roots);
    if let Some(address) = config.address {
        let Some(Host::Domain(host)) = config.api.url().host() else {
            return Err(wrong("address", "has no effect: the host of api is an IP address already".into()));
        };
        // Name resolution has no ports: an explicit port in `api` would take precedence over this one.
        if config.api.url().port().is_some_and(|port| port != address.port()) {
            return Err(wrong("address", "its port differs from the port in api; remove the port from api".into()));
        }
        builder = builder.resolve_to_addrs(host, &[address]);
    }
    builder.build().map_err(|_| wrong("ca_file", "TLS cannot be set up with its certificates".into()))
}

/// The system's certificate authorities, read once per process: to parse them takes longer than the rest of a start.
///
/// Empty where the system has none; then only upstreams with `ca_file` or plain http can be reached.
fn system_roots() -> &'static [Certificate] {
    static SYSTEM_ROOTS: OnceLock<Vec<Certificate>> = OnceLock::new();
    SYSTEM_ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read a certificate of the system");
        }
        let roots: Vec<_> =
            found.certs.iter().filter_map(|certificate| Certificate::from_der(certificate).ok()).collect();
        if roots.is_empty() {
            tracing::warn!(
                "the system has no certificate authorities: install them, or set ca_file, to reach https upstreams"
            );
        }
        roots
    })
}
