//! The configuration is read again while the mirror runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request;

/// Reads the configuration, certificates, tokens and keys again, and applies them to new requests: all or nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadConfig {}

request!(ReloadConfig, "reload", answer ReloadReport, within Duration::from_secs(60));

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadReport {
    /// Settings that are in force now.
    pub changed: Vec<SettingChange>,
    /// Settings that take effect at the next start.
    pub needs_restart: Vec<SettingChange>,
}

/// A setting with another value than before. Values are TOML, with secrets masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingChange {
    /// The key.
    pub key: String,
    /// The value in force before; `None` without one.
    pub from: Option<String>,
    /// The value in the configuration; `None` without one.
    pub to: Option<String>,
}
