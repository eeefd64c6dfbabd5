//! Changes of a list of tokens, before the list is stored and used.

use std::sync::{Arc, atomic::AtomicI64};

use jiff::Timestamp;

use super::{
    token_record::{MAX_TOKEN_NAME_BYTES, MAX_TOKENS, TokenError, TokenRecord, parse_pattern},
    token_text,
};
use crate::{admin_api::Right, entry::Digest, value::Secret};

/// Characters of the id that stands in signed addresses and in the log.
const TOKEN_ID_CHARS: usize = 12;

/// What a new token is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewToken {
    /// Its name.
    pub(crate) name: String,
    /// The rights that it may use.
    pub(crate) scopes: Vec<Right>,
    /// Patterns of packages; empty: all.
    pub(crate) packages: Vec<String>,
    /// When it ends; `None`: never.
    pub(crate) expires_at: Option<Timestamp>,
    /// Whether the command line client may sign with it: its secret is then stored in clear.
    pub(crate) signs: bool,
}

/// A token that was created.
#[derive(Debug)]
pub(crate) struct TokenOutcome {
    /// Its secret, to be shown once.
    pub(crate) secret: Secret,
    /// What is stored.
    pub(crate) record: Arc<TokenRecord>,
}

/// Adds a token.
///
/// # Errors
/// See [`TokenError`]; nothing is changed then.
pub(super) fn create(
    records: &mut Vec<Arc<TokenRecord>>,
    new: &NewToken,
    now: Timestamp,
) -> Result<TokenOutcome, TokenError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if new.name.is_empty() || new.name.len() > MAX_TOKEN_NAME_BYTES || !new.name.bytes().all(is_name) {
        return Err(TokenError::Name);
    }
    if new.scopes.is_empty() {
        return Err(TokenError::NoScope);
    }
    for pattern in &new.packages {
        parse_pattern(pattern)?;
    }
    if records.iter().any(|record| record.name == new.name) {
        return Err(TokenError::Exists(new.name.clone()));
    }
    if records.len() >= MAX_TOKENS {
        return Err(TokenError::TooMany);
    }
    let secret = token_text::generate()?;
    let record = record(new.clone(), &secret, now)?;
    records.push(record.clone());
    Ok(TokenOutcome { secret: Secret::new(&secret), record })
}

/// Replaces the code of the token with this id. The token gets another id, so that addresses signed for the earlier one are
/// no longer valid.
///
/// # Errors
/// `NoCode`, `Random`; nothing is changed then.
pub(super) fn renew_code(
    records: &mut [Arc<TokenRecord>],
    id: &str,
    now: Timestamp,
) -> Result<TokenOutcome, TokenError> {
    let renewed = records.iter_mut().find(|record| record.id == id && record.signs()).ok_or(TokenError::NoCode)?;
    let secret = token_text::generate()?;
    let new = NewToken {
        name: renewed.name.clone(),
        scopes: renewed.scopes.clone(),
        packages: renewed.packages.clone(),
        expires_at: renewed.expires_at,
        signs: true,
    };
    *renewed = record(new, &secret, now)?;
    Ok(TokenOutcome { secret: Secret::new(&secret), record: renewed.clone() })
}

/// Removes a token; returns its id.
///
/// # Errors
/// `Unknown`.
pub(super) fn revoke(records: &mut Vec<Arc<TokenRecord>>, name: &str) -> Result<String, TokenError> {
    let found = records.iter().position(|record| record.name == name);
    let found = found.ok_or_else(|| TokenError::Unknown(name.to_owned()))?;
    Ok(records.remove(found).id.clone())
}

fn record(new: NewToken, secret: &str, now: Timestamp) -> Result<Arc<TokenRecord>, TokenError> {
    let NewToken { name, scopes, packages, expires_at, signs } = new;
    Ok(Arc::new(TokenRecord {
        name,
        id: token_text::random_text(TOKEN_ID_CHARS)?,
        sha256: Digest::of(secret.as_bytes()),
        scopes,
        packages,
        created_at: now,
        expires_at,
        code: signs.then(|| secret.to_owned()),
        last_used: AtomicI64::default(),
    }))
}
