//! `packages.model` and `packages.model_for`.

use serde::{Deserialize, Serialize};

/// `packages.model`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelMode {
    /// Findings are recorded, and only `cache ls --json` shows them.
    #[default]
    Off,
    /// They are logged and shown.
    Warn,
    /// They are logged and shown, and requests for the zip get 422.
    Enforce,
}

/// An entry of `packages.model_for`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A pattern of packages, see [`crate::package::PackagePattern`].
    pub packages: String,
    /// What is done with them.
    pub model: ModelMode,
}
