//! Tokens of the mirror's clients.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Changed, request};

/// What a caller may do with a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Right {
    /// Fetch it.
    Read,
    /// Publish a version of it.
    Publish,
    /// Delete a version of it.
    Delete,
    /// Change what the mirror has stored of it and decided about it.
    Admin,
}

impl Right {
    /// Every right.
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Publish, Self::Delete, Self::Admin];

    /// The name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

/// Creates a token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateToken {
    /// Its name; the principal is `token:` and this name.
    pub name: String,
    /// The rights that it may use.
    pub scopes: Vec<Right>,
    /// Patterns of the packages that it may be used for; empty: all.
    pub packages: Vec<String>,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// Whether the command line client may sign with it; its secret is then stored in clear.
    pub signs: bool,
}

request!(CreateToken, "token/create", answer CreatedToken);

/// A new token. The secret is nowhere else.
#[derive(Serialize, Deserialize)]
pub(crate) struct CreatedToken {
    /// The secret.
    pub secret: String,
    /// What is stored.
    pub token: TokenRow,
    /// False while `access.enabled` is false: the token has no effect then.
    pub enabled: bool,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Lists the tokens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTokens {}

request!(ListTokens, "token/list", answer TokenList);

/// Every token, by name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenRow>,
}

/// A token without its secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenRow {
    /// Its name.
    pub name: String,
    /// Names it in the log. No secret.
    pub id: String,
    /// The rights that it may use.
    pub scopes: Vec<Right>,
    /// Patterns of packages; empty: all.
    pub packages: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute; `None`: never.
    pub last_used_at: Option<Timestamp>,
    /// Whether the command line client may sign with it.
    pub signs: bool,
}

/// Revokes a token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeToken {
    /// Its name.
    pub name: String,
}

request!(RevokeToken, "token/revoke", answer Changed);

/// Makes a new key for the addresses of zips.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateSigningKey {}

request!(RotateSigningKey, "token/rotate-signing-key", answer Changed);
