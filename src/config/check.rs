//! Checks of values beyond their type; every error names the key.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    Config, UpstreamCredentials, access_rules,
    error::{ConfigError, ErrorReason},
    fleet, hosting,
    layers::invalid,
    names,
    require::{require, require_nonzero},
    setting::Settings,
    sharing,
};
use crate::{
    cache::policy::MAX_DOWNLOADS,
    observe,
    registry::Private,
    server,
    storage::{disk::MIN_DISK_LIMIT, memory::MIN_MEMORY_LIMIT},
    upstream::{self, MovingPattern},
    value::{BaseUrl, ByteSize},
};

/// Minimum of `server.header_limit`: hyper's smallest buffer.
const MIN_HEADER_LIMIT: ByteSize = ByteSize(8 << 10);
/// Maximum of `server.header_limit`: every connection may take this much memory.
const MAX_HEADER_LIMIT: ByteSize = ByteSize::mib(1);

/// Maximum of an upstream's `concurrency`.
const MAX_CONCURRENCY: usize = 1024;

/// Checks everything that does not depend on credentials.
///
/// # Errors
/// The first invalid value.
pub(super) fn check_values(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    check_server(config, settings)?;
    check_clients(config, settings)?;
    access_rules::check(config, settings)?;
    names::check(config, settings)?;
    check_private(config, settings)?;
    hosting::check(config, settings)?;
    sharing::check(config, settings)?;
    fleet::check(config, settings)?;
    check_storage(config, settings)?;
    for (name, upstream) in &config.upstreams {
        check_upstream(name, upstream, settings)?;
    }
    check_downloads(config, settings)?;
    require(config.audit.max_size.0 > 0, settings, &["audit", "max_size"], "must not be zero")?;
    let filter = observe::parse_filter(&config.log.level);
    filter.map(drop).map_err(|error| invalid(settings, &["log", "level"], ErrorReason::with_example(error)))
}

/// Checks the downloads of all upstreams together; names the upstream that has the most.
fn check_downloads(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let downloads = config.upstreams.values().map(|upstream| upstream.downloads).sum::<usize>();
    let most = config.upstreams.iter().max_by_key(|(_, upstream)| upstream.downloads);
    let Some((name, _)) = most.filter(|_| downloads > MAX_DOWNLOADS) else { return Ok(()) };
    let reason = format!("the upstreams have {downloads} downloads together; they may have {MAX_DOWNLOADS}");
    Err(invalid(settings, &["upstreams", name, "downloads"], reason))
}

fn check_server(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let server = &config.server;
    let addresses = || server.listen.iter().chain(&server.tls.listen);
    require(addresses().next().is_some(), settings, &["server", "listen"], "there must be an address to listen on")?;
    let all = addresses().chain(&server.metrics_listen);
    let mut fixed: Vec<_> = all.filter(|address| address.port() != 0).collect();
    fixed.sort_unstable();
    let distinct = fixed.windows(2).all(|pair| pair[0] != pair[1]);
    let twice = "an address stands here twice, or also in server.tls.listen or server.metrics_listen";
    require(distinct, settings, &["server", "listen"], twice)?;
    require_nonzero(server.tls.reload, settings, &["server", "tls", "reload"])?;
    if !server.tls.listen.is_empty() {
        let files = server::tls::load(&server.tls);
        files.map_err(|error| invalid(settings, &["server", "tls", error.key(&server.tls)], error))?;
    }
    for host in &server.known_hosts {
        names::check_host(host).map_err(|error| invalid(settings, &["server", "known_hosts"], error))?;
    }
    if let Some(header) = &server.client_header {
        let valid = header.parse::<http::HeaderName>().is_ok();
        let wrong = ErrorReason::with_example("not the name of a header field; write for example \"x-forwarded-for\"");
        require(valid, settings, &["server", "client_header"], wrong)?;
        let without_proxies = "has no effect without server.trusted_proxies: add the addresses of the proxies there";
        require(!server.trusted_proxies.is_empty(), settings, &["server", "client_header"], without_proxies)?;
    }
    require(server.max_connections > 0, settings, &["server", "max_connections"], "must not be zero")?;
    let in_range = (MIN_HEADER_LIMIT..=MAX_HEADER_LIMIT).contains(&server.header_limit);
    let range = format!("must be between {MIN_HEADER_LIMIT} and {MAX_HEADER_LIMIT}");
    require(in_range, settings, &["server", "header_limit"], &range)?;
    require_nonzero(server.header_timeout, settings, &["server", "header_timeout"])?;
    require_nonzero(server.send_timeout, settings, &["server", "send_timeout"])
}

/// A limit of zero would refuse every request; no limit is the absence of the key.
fn check_clients(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let clients = &config.clients;
    for (key, limit) in [
        ("connections", clients.connections.map(u64::from)),
        ("requests", clients.requests.map(u64::from)),
        ("requests_per_second", clients.requests_per_second.map(u64::from)),
        ("bytes_per_second", clients.bytes_per_second.map(|rate| rate.0)),
        ("cold_misses_per_minute", clients.cold_misses_per_minute.map(u64::from)),
        ("unknown_names_per_minute", clients.unknown_names_per_minute.map(u64::from)),
    ] {
        require(limit != Some(0), settings, &["clients", key], "must not be zero; without the key there is no limit")?;
    }
    Ok(())
}

/// Private repositories are served only under names that the operator has listed: any web page can make a browser ask a
/// mirror on the local network under a name of its own (DNS rebinding).
fn check_private(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let packages = &config.packages;
    let key = match packages.private {
        Private::Serve => "private",
        Private::Refuse if !packages.private_allow.is_empty() => "private_allow",
        Private::Refuse => return Ok(()),
    };
    let reason = "serves private repositories, and needs the names of this mirror in server.known_hosts, for example \
                  [\"mirror.example.com\", \"localhost\"]";
    require(!config.server.known_hosts.is_empty(), settings, &["packages", key], ErrorReason::with_example(reason))
}

fn check_storage(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let memory = &config.memory;
    let disk = &config.disk;
    let archives = &config.archives;
    let reason = format!("must be at least {MIN_MEMORY_LIMIT}: the caches of a fixed size need half of that");
    let is_enough = memory.limit.is_none_or(|limit| limit >= MIN_MEMORY_LIMIT);
    require(is_enough, settings, &["memory", "limit"], &reason)?;
    let reason = format!("must not be larger than memory.archives ({})", memory.archives);
    require(memory.archive_max <= memory.archives, settings, &["memory", "archive_max"], &reason)?;
    let reason = format!("must be at least {MIN_DISK_LIMIT}: the index and the journal need that much");
    require(disk.limit >= MIN_DISK_LIMIT, settings, &["disk", "limit"], &reason)?;
    let reason = format!("must be smaller than disk.limit ({}), of which it is a part", disk.limit);
    require(disk.documents < disk.limit, settings, &["disk", "documents"], &reason)?;
    let in_range = (1..=100).contains(&disk.unannounced_percent);
    require(in_range, settings, &["disk", "unannounced_percent"], "must be 1 to 100")?;
    let named = disk.dir.as_deref().is_none_or(|dir| !dir.as_os_str().is_empty());
    require(named, settings, &["disk", "dir"], "must not be empty")?;
    require_nonzero(disk.scrub, settings, &["disk", "scrub"])?;
    require_nonzero(config.documents.repository, settings, &["documents", "repository"])?;
    require_nonzero(config.packages.unbuilt_wait, settings, &["packages", "unbuilt_wait"])?;
    require(archives.max_size.0 > 0, settings, &["archives", "max_size"], "must not be zero")?;
    require(archives.max_inflated.0 > 0, settings, &["archives", "max_inflated"], "must not be zero")?;
    require(archives.max_entries > 0, settings, &["archives", "max_entries"], "must not be zero")?;
    Ok(())
}

fn check_upstream(name: &str, upstream: &upstream::Config, settings: &Settings) -> Result<(), ConfigError> {
    let path = |key| ["upstreams", name, key];
    for (key, period) in [
        ("connect_timeout", upstream.connect_timeout),
        ("response_timeout", upstream.response_timeout),
        ("idle_timeout", upstream.idle_timeout),
        ("total_timeout", upstream.total_timeout),
        ("queue_timeout", upstream.queue_timeout),
    ] {
        require_nonzero(period, settings, &path(key))?;
    }
    let in_range = (1..=MAX_CONCURRENCY).contains(&upstream.concurrency);
    require(in_range, settings, &path("concurrency"), format!("must be 1 to {MAX_CONCURRENCY}"))?;
    let in_range = (1..=MAX_DOWNLOADS).contains(&upstream.downloads);
    let reason = format!("must be 1 to {MAX_DOWNLOADS}, which all upstreams share");
    require(in_range, settings, &path("downloads"), &reason)?;
    require(upstream.document_limit.0 > 0, settings, &path("document_limit"), "must not be zero")?;
    for host in &upstream.redirect_hosts {
        names::check_host(host).map_err(|error| invalid(settings, &path("redirect_hosts"), error))?;
    }
    for pattern in &upstream.moving {
        let parsed = pattern.parse::<MovingPattern>();
        let reason = |error| ErrorReason::with_example(format_args!("\"{pattern}\" {error}"));
        parsed.map_err(|error| invalid(settings, &path("moving"), reason(error)))?;
    }
    if let Some(proxy) = &upstream.proxy {
        check_proxy(proxy).map_err(|error| invalid(settings, &path("proxy"), error))?;
    }
    if let Some(file) = &upstream.ca_file {
        let certificates = upstream::ca_certificates(file);
        certificates.map_err(|error| invalid(settings, &path("ca_file"), error))?;
    }
    let port = upstream.address.is_none_or(|address| address.port() != 0);
    require(port, settings, &path("address"), "the port must not be zero")
}

/// Why a proxy's URL cannot be used.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("not a URL")]
    NotUrl,
    #[error("the scheme of a proxy is http, https, socks5 or socks5h")]
    Scheme,
    #[error("the host is missing")]
    NoHost,
    #[error("a proxy's URL has no path, query or fragment")]
    Path,
}

fn check_proxy(text: &str) -> Result<(), ProxyError> {
    let url = url::Url::parse(text).map_err(|_| ProxyError::NotUrl)?;
    if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
        return Err(ProxyError::Scheme);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(ProxyError::NoHost);
    }
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if bare { Ok(()) } else { Err(ProxyError::Path) }
}

/// Refuses a configuration that serves private repositories to a whole network: `private = "serve"`, a token, and a
/// listener beyond loopback, each harmless alone.
///
/// # Errors
/// When all three are set and `packages.allow` is empty.
pub(super) fn check_exposure(
    config: &Config,
    credentials: &UpstreamCredentials,
    settings: &Settings,
) -> Result<(), ConfigError> {
    let mut listeners = config.server.listen.iter().chain(&config.server.tls.listen);
    let beyond_loopback = listeners.find(|address| !address.ip().to_canonical().is_loopback());
    let with_token = credentials.iter().find(|(_, credentials)| !credentials.is_empty());
    // With rules for callers, they say who may have private repositories.
    let serves_all =
        config.packages.private == Private::Serve && config.packages.allow.is_empty() && !config.access.enabled;
    match (beyond_loopback, with_token) {
        (Some(address), Some((name, _))) if serves_all => {
            let reason = ErrorReason::with_example(format_args!(
                "every client that reaches {address} (server.listen) could fetch the private repositories that the \
                 credentials of upstream {name} can read; list those to serve, for example packages.allow = [\"acme/*\"], \
                 or listen on loopback only"
            ));
            Err(invalid(settings, &["packages", "private"], reason))
        }
        _ => Ok(()),
    }
}

/// Settings that are valid but probably a mistake, one sentence each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.archives.max_size > config.disk.limit {
        warnings.push(format!(
            "archives.max_size ({}) is larger than disk.limit ({}): zips larger than disk.limit are never stored",
            config.archives.max_size, config.disk.limit
        ));
    }
    if config.server.tls.listen.is_empty() && !config.server.tls.certificates.is_empty() {
        warnings.push("server.tls.certificates has no effect without an address in server.tls.listen".into());
    }
    if config.server.tls.listen.is_empty() && config.server.tls.client_ca_file.is_some() {
        warnings.push("server.tls.client_ca_file has no effect without an address in server.tls.listen".into());
    }
    if config.server.tls.client_ca_file.is_none() && config.access.names_certificates() {
        warnings
            .push("access names principals cert:..., which no client can be without server.tls.client_ca_file".into());
    }
    for file in server::tls::world_readable_keys(&config.server.tls) {
        let file = file.display();
        warnings.push(format!("server.tls: other users of this machine can read the key {file}; chmod 600 {file}"));
    }
    for (name, upstream) in &config.upstreams {
        let credentials = upstream.effective_credentials();
        warnings.extend(credentials.iter().filter_map(|credential| exposed_secret(name, credential.file()?)));
        if upstream.api.url().scheme() == "http" && !is_local(&upstream.api) {
            warnings.push(format!("upstreams.{name}.api is plain http: the network can read its token and its zips"));
        }
    }
    warnings
}

/// The warning about a file with a secret that its group or others can read.
fn exposed_secret(upstream: &str, file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let file = file.display();
    let warning = format!(
        "upstreams.{upstream}: users of this machine other than the owner can read the secret in {file} (mode \
         {mode:04o}); chmod 600 {file}"
    );
    (mode & 0o044 != 0).then_some(warning)
}

fn is_local(base: &BaseUrl) -> bool {
    let host = base.host().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Rewords a deserialiser's message for users. Serde's errors have no other form than their text.
pub(super) fn plain_reason(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if message.contains("socket address") {
        return "not an IP address with a port".into();
    }
    if let Some((_, expected)) = message.split_once("`, expected ").filter(|_| message.starts_with("unknown variant")) {
        return format!("must be {}", expected.replace('`', "\""));
    }
    if let Some((_, expected)) = message.split_once(", expected ").filter(|_| message.starts_with("invalid ")) {
        return match expected {
            "usize" | "u32" | "u64" => "must be a whole number without quotes".into(),
            "a string" => "must be a string in quotes".into(),
            "a sequence" => "must be a list".into(),
            other => format!("must be {other}"),
        };
    }
    message.to_owned()
}
