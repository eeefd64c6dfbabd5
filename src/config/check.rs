//! Checks of values that a type alone cannot make; every complaint names the key.

use std::{collections::BTreeMap, fs, net::IpAddr};

use super::{
    Config,
    error::{ConfigError, is_token},
    layers::{Settings, reason, wrong},
    names,
};
use crate::{
    observe,
    registry::Private,
    server,
    storage::disk::LEAST_LIMIT,
    upstream,
    value::{BaseUrl, ByteSize, Period, Secret},
};

/// Least and largest `server.header_limit`: hyper needs the one, and the other is paid for each connection.
const HEADER_LIMITS: [ByteSize; 2] = [ByteSize(8 << 10), ByteSize::mib(1)];

/// Checks everything but what depends on tokens.
pub(super) fn all(config: &Config, leaves: &Settings) -> Result<(), ConfigError> {
    server(config, leaves)?;
    names::check(config, leaves)?;
    storage(config, leaves)?;
    for (name, upstream) in &config.upstreams {
        self::upstream(name, upstream, leaves)?;
    }
    let filter = observe::filter(&config.log.level);
    filter.map(drop).map_err(|why| wrong(leaves, &["log", "level"], why))
}

/// Fails with `reason` at `path` unless `good`.
fn must(good: bool, leaves: &Settings, path: &[&str], reason: &str) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(wrong(leaves, path, reason)) }
}

/// A period in which something is waited for: not zero, for then nothing is ever in time.
fn some_time(period: Period, leaves: &Settings, path: &[&str]) -> Result<(), ConfigError> {
    must(!period.0.is_zero(), leaves, path, "must not be zero")
}

fn server(config: &Config, leaves: &Settings) -> Result<(), ConfigError> {
    let server = &config.server;
    let all = || server.listen.iter().chain(&server.tls.listen);
    let mut fixed: Vec<_> = all().filter(|address| address.port() != 0).collect();
    fixed.sort();
    must(all().next().is_some(), leaves, &["server", "listen"], "there must be an address to listen on")?;
    let once = fixed.windows(2).all(|pair| pair[0] != pair[1]);
    must(once, leaves, &["server", "listen"], "an address is there twice, here or in server.tls.listen")?;
    some_time(server.tls.reload, leaves, &["server", "tls", "reload"])?;
    if !server.tls.listen.is_empty() {
        let files = server::tls::load(&server.tls);
        files.map_err(|why| wrong(leaves, &["server", "tls", "certificates"], why))?;
    }
    for host in &server.known_hosts {
        let reason = |why| format!("{why}; write name, *.name or name:port");
        names::check_host(host).map_err(|why| wrong(leaves, &["server", "known_hosts"], reason(why)))?;
    }
    must(server.max_connections > 0, leaves, &["server", "max_connections"], "must not be zero")?;
    let within = (HEADER_LIMITS[0]..=HEADER_LIMITS[1]).contains(&server.header_limit);
    must(within, leaves, &["server", "header_limit"], "must be between 8KiB and 1MiB")?;
    some_time(server.header_timeout, leaves, &["server", "header_timeout"])?;
    some_time(server.send_timeout, leaves, &["server", "send_timeout"])
}

fn storage(config: &Config, leaves: &Settings) -> Result<(), ConfigError> {
    let memory = &config.memory;
    let disk = &config.disk;
    let archives = &config.archives;
    let reason = format!("must not be larger than memory.archives ({})", memory.archives);
    must(memory.archive_max <= memory.archives, leaves, &["memory", "archive_max"], &reason)?;
    let reason = format!("must be at least {LEAST_LIMIT}: index and journal have to fit with something beside them");
    must(disk.limit >= LEAST_LIMIT, leaves, &["disk", "limit"], &reason)?;
    let reason = format!("must be smaller than disk.limit ({}), of which it is a part", disk.limit);
    must(disk.documents < disk.limit, leaves, &["disk", "documents"], &reason)?;
    let dir = disk.dir.as_deref().is_none_or(|dir| !dir.as_os_str().is_empty());
    must(dir, leaves, &["disk", "dir"], "must not be empty")?;
    some_time(disk.scrub, leaves, &["disk", "scrub"])?;
    some_time(config.documents.repository, leaves, &["documents", "repository"])?;
    must(archives.max_size.0 > 0, leaves, &["archives", "max_size"], "must not be zero")?;
    must(archives.max_inflated.0 > 0, leaves, &["archives", "max_inflated"], "must not be zero")?;
    must(archives.max_entries > 0, leaves, &["archives", "max_entries"], "must not be zero")?;
    // Each download holds two of the runtime's 512 threads for blocking work; readers of the disk need the others.
    let some = (1..=128).contains(&archives.concurrency);
    must(some, leaves, &["archives", "concurrency"], "must be 1 to 128")
}

fn upstream(name: &str, upstream: &upstream::Config, leaves: &Settings) -> Result<(), ConfigError> {
    let at = |key| ["upstreams", name, key];
    let complain = |key, why: String| Err(wrong(leaves, &at(key), why));
    for (key, period) in [
        ("connect_timeout", upstream.connect_timeout),
        ("response_timeout", upstream.response_timeout),
        ("idle_timeout", upstream.idle_timeout),
    ] {
        some_time(period, leaves, &at(key))?;
    }
    must(upstream.concurrency > 0, leaves, &at("concurrency"), "must not be zero")?;
    must(upstream.document_limit.0 > 0, leaves, &at("document_limit"), "must not be zero")?;
    for host in &upstream.redirect_hosts {
        if let Err(why) = names::check_host(host) {
            return complain("redirect_hosts", format!("{why}; write name, *.name or name:port"));
        }
    }
    if let Some(variable) = &upstream.token_env {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if is_token(variable) {
            return complain("token_env", "this is a token; here stands the name of the variable that holds it".into());
        }
        let good = !variable.is_empty() && variable.bytes().all(letter) && !variable.as_bytes()[0].is_ascii_digit();
        must(good, leaves, &at("token_env"), "not the name of a variable")?;
    }
    if let Some(proxy) = &upstream.proxy
        && let Err(why) = check_proxy(proxy)
    {
        return complain("proxy", why);
    }
    if let Some(file) = &upstream.ca_file {
        match fs::read_to_string(file) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {}
            Ok(_) => return complain("ca_file", "this file has no PEM certificate in it".into()),
            Err(why) => return complain("ca_file", unreadable(&why)),
        }
    }
    let port = upstream.address.is_none_or(|address| address.port() != 0);
    must(port, leaves, &at("address"), "the port must not be zero")
}

/// What is said of a file that cannot be read.
pub(super) fn unreadable(why: &std::io::Error) -> String {
    format!("this file cannot be read: {}", reason(why))
}

fn check_proxy(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|_| "not an address".to_owned())?;
    if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
        return Err("a proxy is http://, https://, socks5:// or socks5h://".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the host is missing".into());
    }
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if bare { Ok(()) } else { Err("a path or query does not belong into a proxy's address".into()) }
}

/// Refuses to show private repositories to a whole network by three settings that are each harmless.
pub(super) fn exposure(
    config: &Config,
    tokens: &BTreeMap<String, Option<Secret>>,
    leaves: &Settings,
) -> Result<(), ConfigError> {
    let mut listeners = config.server.listen.iter().chain(&config.server.tls.listen);
    let beyond = listeners.find(|address| !address.ip().to_canonical().is_loopback());
    let with_token = tokens.iter().find(|(_, token)| token.is_some());
    let open = config.packages.private == Private::Serve && config.packages.allow.is_empty();
    match (beyond, with_token) {
        (Some(address), Some((name, _))) if open => Err(wrong(
            leaves,
            &["packages", "private"],
            format!(
                "with the token of upstream {name} this would show its private repositories to everybody who reaches \
                 {address} (server.listen); name those that may be served, for example packages.allow = [\"acme/*\"], \
                 or listen on loopback only"
            ),
        )),
        _ => Ok(()),
    }
}

/// What is allowed but probably not meant, one sentence each.
pub(super) fn doubts(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    if config.archives.max_size > config.disk.limit {
        doubts.push(format!(
            "archives.max_size ({}) is larger than disk.limit ({}): the largest zips are passed on, but never stored",
            config.archives.max_size, config.disk.limit
        ));
    }
    if config.server.tls.listen.is_empty() && !config.server.tls.certificates.is_empty() {
        doubts.push("server.tls.certificates has no effect without an address in server.tls.listen".into());
    }
    for file in server::tls::key_seen_by_others(&config.server.tls) {
        let file = file.display();
        doubts.push(format!("server.tls: everybody on this machine can read the key {file}; chmod 600 {file}"));
    }
    for (name, upstream) in &config.upstreams {
        if upstream.api.url().scheme() == "http" && !is_local(&upstream.api) {
            doubts.push(format!("upstreams.{name}.api is plain http: its token and its zips can be read on the way"));
        }
    }
    doubts
}

fn is_local(base: &BaseUrl) -> bool {
    let host = base.host().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A deserialiser's message in plain words.
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
            "a string" => "must be a text in quotes".into(),
            "a sequence" => "must be a list".into(),
            other => format!("must be {other}"),
        };
    }
    message.to_owned()
}
