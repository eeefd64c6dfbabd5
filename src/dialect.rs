//! STUB: path grammar + envelope.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The `[names]` section: how a path becomes a package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The upstream of paths that name none.
    pub default_upstream: String,
    /// The owner of plain names (`/fc3/releases`), where one is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_owner: Option<String>,
    /// Names of packages: `fc3 = "devsapp/fc3"`, `"devsapp/core" = "Serverless-Devs/core"`, `x = "gitee:owner/repo"`.
    pub aliases: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { default_upstream: "github".into(), default_owner: None, aliases: BTreeMap::new() }
    }
}
