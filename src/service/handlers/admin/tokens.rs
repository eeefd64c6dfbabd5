//! Tokens: created, listed, revoked; and the key that signs addresses of zips.

use std::sync::Arc;

use super::{AdminError, blocking};
use crate::{
    access::{Access, NewToken, TokenError, TokenOutcome, TokenRecord},
    admin_api::{Changed, CreateToken, CreatedToken, ErrorCode, RevokeToken, TokenList, TokenRow},
};

/// The error sentence where a file cannot be written.
const UNWRITABLE: &str = "the tokens of this mirror cannot be written";

impl From<TokenError> for AdminError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Io(_) | TokenError::Random(_) => Self::storage(UNWRITABLE, &error),
            TokenError::Shared(_) | TokenError::RevokedHere(_) => Self::new(ErrorCode::Bucket, error.to_string()),
            TokenError::Exists(_) => Self::new(ErrorCode::Conflict, error.to_string()),
            error => Self::bad_request(error.to_string()),
        }
    }
}

pub(super) async fn create(access: &Arc<Access>, request: CreateToken) -> Result<CreatedToken, AdminError> {
    let CreateToken { name, scopes, packages, expires_at, signs } = request;
    let new = NewToken { name, scopes, packages, expires_at, signs };
    let TokenOutcome { secret, record } = change(access, move |access| access.account_changes().create(new)).await??;
    tracing::info!(token = record.name, id = record.id, "created a token");
    Ok(CreatedToken { secret: secret.reveal().to_owned(), token: row(&record), enabled: access.is_enabled() })
}

pub(super) async fn list(access: &Arc<Access>) -> Result<TokenList, AdminError> {
    Ok(TokenList { tokens: access.account_changes().list().iter().map(|record| row(record)).collect() })
}

pub(super) async fn revoke(access: &Arc<Access>, request: RevokeToken) -> Result<Changed, AdminError> {
    let RevokeToken { name } = request;
    let revoked = name.clone();
    change(access, move |access| access.account_changes().revoke(&revoked)).await??;
    tracing::info!(token = name, "revoked a token");
    Ok(Changed {})
}

pub(super) async fn rotate_signing_key(access: &Arc<Access>) -> Result<Changed, AdminError> {
    change(access, |access| access.account_changes().rotate_signing_key()).await??;
    tracing::info!("made a new key for addresses of zips");
    Ok(Changed {})
}

/// Changes the tokens on a blocking thread: a file is written.
async fn change<T: Send + 'static>(
    access: &Arc<Access>,
    work: impl FnOnce(&Access) -> T + Send + 'static,
) -> Result<T, AdminError> {
    let access = access.clone();
    blocking(UNWRITABLE, move || work(&access)).await
}

fn row(record: &TokenRecord) -> TokenRow {
    TokenRow {
        name: record.name.clone(),
        id: record.id.clone(),
        scopes: record.scopes.clone(),
        packages: record.packages.clone(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        last_used_at: record.last_used_at(),
        signs: record.signs(),
    }
}
