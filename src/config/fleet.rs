//! `[fleet]`: its defaults and its checks.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use toml::Table;

use super::{
    Config,
    error::{ConfigError, ErrorReason},
    layers::{self, invalid},
    require::{self, require_nonzero},
    setting::{SettingSource, Settings},
};
use crate::{fleet, server};

/// Shortest time after which files and DNS are read again.
const MIN_REFRESH: Duration = Duration::from_millis(100);
/// The name of the section.
pub(super) const FLEET: &str = "fleet";

impl Config {
    /// The listener for other nodes, as the server's section describes one: with mutual TLS. `None` without a fleet.
    pub(crate) fn fleet_listener(&self) -> Option<server::Config> {
        let section = self.fleet.as_ref()?;
        Some(server::Config { listen: Vec::new(), tls: tls_of(section), ..self.server.clone() })
    }
}

fn tls_of(section: &fleet::Config) -> server::tls::Config {
    let files = section.cert_file.clone().zip(section.key_file.clone());
    let files = files.map(|(cert_file, key_file)| server::tls::CertificateFiles { cert_file, key_file });
    server::tls::Config {
        listen: section.listen.clone(),
        certificates: files.into_iter().collect(),
        client_ca_file: section.ca_file.clone(),
        client_auth: server::tls::ClientAuth::Required,
        reload: section.refresh,
        ..server::tls::Config::default()
    }
}

/// The defaults of the section.
pub(super) fn defaults() -> Settings {
    // Serialising the defaults cannot fail; a test holds that.
    let section = Table::try_from(fleet::Config::default()).unwrap_or_default();
    let tree = Table::from_iter([(FLEET.to_owned(), section.into())]);
    layers::of_tree(tree, &SettingSource::Default)
}

/// Checks the section, and reads its files.
///
/// # Errors
/// The first value that cannot be used.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let Some(section) = &config.fleet else { return Ok(()) };
    let require = |valid, key, reason: &str| require::require(valid, settings, &[FLEET, key], reason);
    let require_like =
        |valid, key, reason: &str| require::require(valid, settings, &[FLEET, key], ErrorReason::with_example(reason));
    let without_bucket = "has no effect without the section [shared]: the bucket decides which content a version has";
    require(config.shared.is_some(), "nodes", without_bucket)?;
    let example = "must name every node, for example [\"a=https://10.0.0.1:8470\", \"b=https://10.0.0.2:8470\"]";
    let is_listed = !section.nodes.is_empty();
    require_like(is_listed || section.discover.is_some(), "nodes", example)?;
    require(!is_listed || section.discover.is_none(), "discover", "stands in place of fleet.nodes: write one of both")?;
    let names: BTreeSet<_> = section.nodes.iter().map(|node| &node.name).collect();
    require(names.len() == section.nodes.len(), "nodes", "a name stands here twice")?;
    require(!is_listed || names.contains(&section.node), "node", "must be one of the names in fleet.nodes")?;
    if let Some(discover) = &section.discover {
        let is_name = discover.url().scheme() == "https" && discover.url().domain().is_some();
        let example = "must be https and a name of DNS, for example \"https://nodes.example.com:8470\"";
        require_like(is_name, "discover", example)?;
        let example = "must be this node's own address with fleet.discover, for example \"10.0.0.1\"";
        require_like(section.node.parse::<IpAddr>().is_ok(), "node", example)?;
    }
    let example = "must have an address for the other nodes, for example [\"0.0.0.0:8470\"]";
    require_like(!section.listen.is_empty(), "listen", example)?;
    for (key, file) in
        [("cert_file", &section.cert_file), ("key_file", &section.key_file), ("ca_file", &section.ca_file)]
    {
        require(file.is_some(), key, "is missing: nodes know each other by certificates of one authority")?;
    }
    for (key, period) in [
        ("connect_timeout", section.connect_timeout),
        ("response_timeout", section.response_timeout),
        ("idle_timeout", section.idle_timeout),
    ] {
        require_nonzero(period, settings, &[FLEET, key])?;
    }
    require(section.refresh.0 >= MIN_REFRESH, "refresh", "must be at least 100 ms")?;
    let tls = tls_of(section);
    server::tls::load(&tls).map_err(|error| {
        let key = match error.key(&tls) {
            "client_ca_file" => "ca_file",
            _ => "cert_file",
        };
        invalid(settings, &[FLEET, key], error)
    })?;
    Ok(())
}
