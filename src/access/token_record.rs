//! What is stored of a token, the limits of tokens, and why one cannot be created or removed.

use std::{
    io,
    sync::atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::token_text::NoRandom;
use crate::{
    admin_api::Right,
    entry::Digest,
    package::{PackagePattern, PatternError},
};

/// Most tokens.
pub(super) const MAX_TOKENS: usize = 10_000;
/// Longest name, bytes.
pub(super) const MAX_TOKEN_NAME_BYTES: usize = 64;

/// A token without its secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// Its name, which its principal has after `token:`.
    pub(crate) name: String,
    /// Identifies it in signed addresses and in the log. No secret.
    pub(crate) id: String,
    pub(super) sha256: Digest,
    /// The rights that it may use.
    pub(crate) scopes: Vec<Right>,
    /// Patterns of the packages that it may be used for; empty: all.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    /// When it was created.
    pub(crate) created_at: Timestamp,
    /// When it ends; `None`: never.
    pub(crate) expires_at: Option<Timestamp>,
    /// The code of the command line client's signature, in clear; `None` for other tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    /// Seconds since 1970; 0: never used.
    #[serde(default)]
    pub(super) last_used: AtomicI64,
}

impl TokenRecord {
    /// When it was last used, to the minute; `None`: never.
    pub(crate) fn last_used_at(&self) -> Option<Timestamp> {
        let second = self.last_used.load(Ordering::Relaxed);
        (second > 0).then(|| Timestamp::from_second(second).ok()).flatten()
    }

    /// Takes over the last use of another record of the same token, if it is later. True when it is later by more than
    /// `resolution` seconds.
    pub(super) fn note_use(&self, other: &Self, resolution: i64) -> bool {
        let later = other.last_used.load(Ordering::Relaxed);
        let known = self.last_used.fetch_max(later, Ordering::Relaxed);
        later - known > resolution
    }

    /// True when the command line client can sign with it.
    pub(crate) fn signs(&self) -> bool {
        self.code.is_some()
    }
}

/// Why a token cannot be created or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The name is in use.
    #[error("there is a token {0} already; revoke it first, or choose another name")]
    Exists(String),
    /// There is no such token.
    #[error("there is no token {0}; srm-mirror token list shows all")]
    Unknown(String),
    /// The name cannot be used.
    #[error("the name of a token has 1 to {MAX_TOKEN_NAME_BYTES} of the characters a-z A-Z 0-9 . _ -; for example ci")]
    Name,
    /// A pattern of packages cannot be used.
    #[error("{0:?} is {1}")]
    Packages(String, PatternError),
    /// The credential is no code of the command line client.
    #[error("this account signs with no code of this mirror; ask its operator for one (srm-mirror token create --cli)")]
    NoCode,
    /// No right is named.
    #[error("a token needs a scope, for example read")]
    NoScope,
    /// There are too many tokens.
    #[error("there are {MAX_TOKENS} tokens, the most there may be; revoke those that are not used")]
    TooMany,
    /// The system has no random numbers.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// The file cannot be written.
    #[error("the tokens cannot be written")]
    Io(#[from] io::Error),
    /// The bucket cannot be asked, so nothing is changed on this mirror.
    #[error("{0}; try again")]
    Shared(SharedAccountsError),
    /// The bucket cannot be asked: a revocation holds on this mirror alone.
    #[error("{0}; the token is refused by this mirror now, and by the others as soon as the bucket works again")]
    RevokedHere(SharedAccountsError),
}

/// Why the accounts in the bucket cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SharedAccountsError {
    /// It cannot be asked.
    #[error("the tokens are in the shared bucket, which cannot be used at present")]
    Unavailable,
    /// They are sealed with another key.
    #[error("the tokens in the shared bucket cannot be opened: shared.secret_file must be the same on every mirror")]
    OtherSecret,
    /// There is no key.
    #[error("shared.secret_file was not set when this mirror started; set it, and start the mirror again")]
    NoSecret,
    /// Other mirrors change them all the time.
    #[error("other mirrors change the tokens at the same time")]
    Busy,
}

/// Parses a pattern of packages.
///
/// # Errors
/// A pattern that cannot be used.
pub(super) fn parse_pattern(pattern: &str) -> Result<PackagePattern, TokenError> {
    pattern.parse().map_err(|error| TokenError::Packages(pattern.to_owned(), error))
}
