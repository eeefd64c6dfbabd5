//! STUB: the use cases.
use serde::{Deserialize, Serialize};

/// The `[packages]` section: who may ask for what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Patterns `owner/repo` (`*` and `?` within a part, case folded, an upstream's name and `:` may stand in front); empty allows all.
    pub allow: Vec<String>,
    /// Patterns that are refused even where `allow` fits.
    pub deny: Vec<String>,
    /// What happens to repositories that only the token can see.
    pub private: Private,
    /// Patterns of private repositories that are served although `private = "refuse"`.
    pub private_allow: Vec<String>,
    /// What happens to a stored package that its upstream no longer has.
    pub gone: Gone,
}

/// `packages.private`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Private {
    /// They are 404.
    #[default]
    Refuse,
    /// They are served to everybody who can reach the mirror.
    Serve,
}

/// `packages.gone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gone {
    /// Keep serving what is stored.
    #[default]
    Keep,
    /// Answer 404 as the upstream does.
    Follow,
}
