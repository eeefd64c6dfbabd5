//! The tokens of this mirror: created, listed, revoked, and found by their secret.
//!
//! A token is stored as its SHA-256. Only the code of the command line client's signature is kept in clear, since the
//! server must compute the signature from it; the file has mode 0600.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    InvalidCredential, OpenAccessError, Principal,
    cli_signature::account_of,
    principal::{CredentialKey, Scope},
    token_file,
    token_text::{self, NoRandom},
};
use crate::{admin_api::Right, entry::Digest, package::PatternError, value::Secret};

/// The file in `access/`.
const TOKENS_FILE: &str = "tokens.json";
/// Most tokens.
const MAX_TOKENS: usize = 10_000;
/// Longest name, bytes.
const MAX_TOKEN_NAME_BYTES: usize = 64;
/// Characters of the id that stands in signed addresses and in the log.
const ID_CHARS: usize = 12;
/// The last use of a token is noted at most once in this time, seconds: a request writes no shared memory then.
const USE_RESOLUTION: i64 = 60;

/// A token without its secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// Its name, which its principal has after `token:`.
    pub(crate) name: String,
    /// Names it in signed addresses and in the log. No secret.
    pub(crate) id: String,
    sha256: Digest,
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
    code: Option<String>,
    /// Seconds since 1970; 0: never used.
    #[serde(default)]
    last_used: AtomicI64,
}

impl TokenRecord {
    /// When it was last used, to the minute; `None`: never.
    pub(crate) fn last_used_at(&self) -> Option<Timestamp> {
        let second = self.last_used.load(Ordering::Relaxed);
        (second > 0).then(|| Timestamp::from_second(second).ok()).flatten()
    }

    /// True when the command line client can sign with it.
    pub(crate) fn signs(&self) -> bool {
        self.code.is_some()
    }
}

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
}

/// The form of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTokens {
    tokens: Vec<Arc<TokenRecord>>,
}

/// A token with what its principal is.
#[derive(Debug)]
struct Account {
    record: Arc<TokenRecord>,
    principal: Arc<Principal>,
}

/// The tokens by everything that finds them.
#[derive(Debug, Default)]
struct TokenTable {
    accounts: Vec<Account>,
    by_secret: HashMap<Digest, usize>,
    by_id: HashMap<String, usize>,
    /// By the MD5 of the code.
    by_account: HashMap<String, usize>,
}

/// The tokens of this mirror.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    table: ArcSwap<TokenTable>,
    /// Held while the file is written.
    writing: Mutex<()>,
    uses_changed: AtomicBool,
}

impl Tokens {
    /// Reads the file in `access/`. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenAccessError> {
        let path = dir.join(TOKENS_FILE);
        let stored: StoredTokens = token_file::read(&path)?;
        let table = TokenTable::build(&stored.tokens).map_err(|_| OpenAccessError::Invalid {
            path: path.clone(),
            reason: "a pattern of packages in it is not valid",
        })?;
        Ok(Self {
            path,
            table: ArcSwap::from_pointee(table),
            writing: Mutex::default(),
            uses_changed: AtomicBool::default(),
        })
    }

    /// The principal of a token.
    ///
    /// # Errors
    /// `UnknownToken`, `Expired`.
    pub(super) fn by_secret(&self, secret: &str, now: Timestamp) -> Result<Arc<Principal>, InvalidCredential> {
        if !token_text::is_well_formed(secret) {
            return Err(InvalidCredential::UnknownToken);
        }
        let table = self.table.load();
        // A digest is looked up, so how long that takes says nothing about the stored secrets.
        let found = table.by_secret.get(&Digest::of(secret.as_bytes())).ok_or(InvalidCredential::UnknownToken)?;
        self.used(&table.accounts[*found], now).ok_or(InvalidCredential::Expired)
    }

    /// The principal of the token with this id, if it is valid now.
    pub(super) fn by_id(&self, id: &str, now: Timestamp) -> Option<Arc<Principal>> {
        let table = self.table.load();
        let found = table.by_id.get(id)?;
        self.used(&table.accounts[*found], now)
    }

    /// The principal and the code of the command line client's account, if it is valid now.
    pub(super) fn by_account(&self, account: &str, now: Timestamp) -> Option<(Arc<Principal>, Secret)> {
        let table = self.table.load();
        let found = &table.accounts[*table.by_account.get(account)?];
        let code = found.record.code.as_deref().map(Secret::new)?;
        Some((self.used(found, now)?, code))
    }

    /// The principal; `None` when the token has expired. Notes the use.
    fn used(&self, account: &Account, now: Timestamp) -> Option<Arc<Principal>> {
        if account.record.expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        let second = now.as_second();
        if second - account.record.last_used.load(Ordering::Relaxed) >= USE_RESOLUTION {
            account.record.last_used.store(second, Ordering::Relaxed);
            self.uses_changed.store(true, Ordering::Relaxed);
        }
        Some(account.principal.clone())
    }

    /// Creates a token. Blocks.
    ///
    /// # Errors
    /// See [`TokenError`]; nothing is changed then.
    pub(super) fn create(&self, new: NewToken, now: Timestamp) -> Result<TokenOutcome, TokenError> {
        let NewToken { name, scopes, packages, expires_at, signs } = new;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_TOKEN_NAME_BYTES || !name.bytes().all(is_name) {
            return Err(TokenError::Name);
        }
        if scopes.is_empty() {
            return Err(TokenError::NoScope);
        }
        let _writing = self.writing.lock();
        let mut records = self.list();
        if records.iter().any(|record| record.name == name) {
            return Err(TokenError::Exists(name));
        }
        if records.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let secret = token_text::generate()?;
        let record = Arc::new(TokenRecord {
            name,
            id: token_text::random_text(ID_CHARS)?,
            sha256: Digest::of(secret.as_bytes()),
            scopes,
            packages,
            created_at: now,
            expires_at,
            code: signs.then(|| secret.clone()),
            last_used: AtomicI64::default(),
        });
        records.push(record.clone());
        let table = TokenTable::build(&records)?;
        token_file::write(&self.path, &StoredTokens { tokens: records })?;
        self.table.store(Arc::new(table));
        Ok(TokenOutcome { secret: Secret::new(&secret), record })
    }

    /// Replaces the code of the token with this id, which gets another id: what the earlier code has signed ends with it.
    /// Blocks.
    ///
    /// # Errors
    /// `NoCode`; `Random` and `Io`, after which nothing has changed.
    pub(super) fn renew_code(&self, id: &str, now: Timestamp) -> Result<Secret, TokenError> {
        let _writing = self.writing.lock();
        let mut records = self.list();
        let renewed = records.iter_mut().find(|record| record.id == id && record.signs()).ok_or(TokenError::NoCode)?;
        let secret = token_text::generate()?;
        *renewed = Arc::new(TokenRecord {
            name: renewed.name.clone(),
            id: token_text::random_text(ID_CHARS)?,
            sha256: Digest::of(secret.as_bytes()),
            scopes: renewed.scopes.clone(),
            packages: renewed.packages.clone(),
            created_at: now,
            expires_at: renewed.expires_at,
            code: Some(secret.clone()),
            last_used: AtomicI64::default(),
        });
        let table = TokenTable::build(&records)?;
        token_file::write(&self.path, &StoredTokens { tokens: records })?;
        self.table.store(Arc::new(table));
        Ok(Secret::new(&secret))
    }

    /// Removes a token. Blocks.
    ///
    /// # Errors
    /// `Unknown`; `Io`, after which the token is refused until the next start.
    pub(super) fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let _writing = self.writing.lock();
        let mut records = self.list();
        let count = records.len();
        records.retain(|record| record.name != name);
        if records.len() == count {
            return Err(TokenError::Unknown(name.to_owned()));
        }
        // In force before it is durable: a revocation does not wait for the disk.
        self.table.store(Arc::new(TokenTable::build(&records)?));
        Ok(token_file::write(&self.path, &StoredTokens { tokens: records })?)
    }

    /// Every token, by name.
    pub(super) fn list(&self) -> Vec<Arc<TokenRecord>> {
        let table = self.table.load();
        let mut records: Vec<_> = table.accounts.iter().map(|account| account.record.clone()).collect();
        records.sort_by(|one, other| one.name.cmp(&other.name));
        records
    }

    /// Writes the last uses, if one has changed. Blocks.
    ///
    /// # Errors
    /// The file system's error.
    pub(super) fn save_uses(&self) -> io::Result<()> {
        if !self.uses_changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let _writing = self.writing.lock();
        token_file::write(&self.path, &StoredTokens { tokens: self.list() })
    }
}

impl TokenTable {
    /// # Errors
    /// A pattern of packages that cannot be used.
    fn build(records: &[Arc<TokenRecord>]) -> Result<Self, TokenError> {
        let mut table = Self::default();
        for record in records {
            let index = table.accounts.len();
            table.by_secret.insert(record.sha256, index);
            table.by_id.insert(record.id.clone(), index);
            if let Some(code) = &record.code {
                table.by_account.insert(account_of(code), index);
            }
            let parse =
                |pattern: &String| pattern.parse().map_err(|error| TokenError::Packages(pattern.clone(), error));
            let patterns = record.packages.iter().map(parse);
            let key = CredentialKey::of("token", &record.id);
            let principal = Principal {
                name: format!("token:{}", record.name).into(),
                groups: Vec::new(),
                credential: record.id.as_str().into(),
                scope: Scope { rights: record.scopes.clone(), packages: patterns.collect::<Result<_, _>>()? },
                expires_at: record.expires_at,
                client: key.as_u64(),
                key,
                address: record.id.as_str().into(),
            };
            table.accounts.push(Account { record: record.clone(), principal: Arc::new(principal) });
        }
        Ok(table)
    }
}
