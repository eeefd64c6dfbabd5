//! The tokens of this mirror: listed, replaced, and found by their secret.
//!
//! A token is stored as its SHA-256. Only the code of the command line client's signature is stored in clear, since the
//! server must compute the signature from it; the file has mode 0600.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    InvalidCredential, OpenAccessError, Principal,
    principal::{CredentialKey, Scope},
    token_changes, token_file,
    token_record::{TokenError, TokenRecord, parse_pattern},
    token_text::{self, account_of},
};
use crate::{entry::Digest, value::Secret};

/// The file in `access/`.
const TOKENS_FILE: &str = "tokens.json";
/// The last use of a token is noted at most once in this time, seconds, so that most requests write no shared memory.
const USE_RESOLUTION_S: i64 = 60;

/// The form of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTokens {
    /// The generation of the accounts in the bucket when these tokens were read from it; 0: never.
    #[serde(default, skip_serializing_if = "is_zero")]
    generation: u64,
    tokens: Vec<Arc<TokenRecord>>,
    /// The tokens that were revoked here, and perhaps not in the bucket yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<RevokedToken>,
}

/// A token that was revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RevokedToken {
    /// Its name.
    pub(super) name: String,
    /// Its id, which no other token ever has.
    pub(super) id: String,
}

/// The content of the file beside the tokens.
#[derive(Clone, Debug, Default)]
struct TokenFileState {
    generation: u64,
    revoked: Vec<RevokedToken>,
}

/// A token with its principal.
#[derive(Debug)]
struct Account {
    record: Arc<TokenRecord>,
    principal: Arc<Principal>,
}

/// The tokens, and their indices by secret, id and account.
#[derive(Debug, Default)]
struct TokenTable {
    accounts: Vec<Account>,
    by_secret: HashMap<Digest, usize>,
    by_id: HashMap<String, usize>,
    /// By the MD5 of the code.
    by_account: HashMap<String, usize>,
}

/// An account of the command line client.
pub(super) struct SigningAccount {
    pub(super) principal: Arc<Principal>,
    /// The code that it signs with.
    pub(super) code: Secret,
}

/// The tokens of this mirror.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    table: ArcSwap<TokenTable>,
    /// Held while the file is written.
    file: Mutex<TokenFileState>,
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
        let StoredTokens { generation, revoked, .. } = stored;
        Ok(Self {
            path,
            table: ArcSwap::from_pointee(table),
            file: Mutex::new(TokenFileState { generation, revoked }),
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
        self.note_use(&table.accounts[*found], now).ok_or(InvalidCredential::Expired)
    }

    /// The principal of the token with this id, if it is valid now.
    pub(super) fn by_id(&self, id: &str, now: Timestamp) -> Option<Arc<Principal>> {
        let table = self.table.load();
        let found = table.by_id.get(id)?;
        self.note_use(&table.accounts[*found], now)
    }

    /// The account of the command line client, by the MD5 of its code, if it is valid now.
    pub(super) fn by_account(&self, account: &str, now: Timestamp) -> Option<SigningAccount> {
        let table = self.table.load();
        let found = &table.accounts[*table.by_account.get(account)?];
        let code = found.record.code.as_deref().map(Secret::new)?;
        Some(SigningAccount { principal: self.note_use(found, now)?, code })
    }

    /// Notes the use of a token, and returns its principal; `None` when it has expired.
    fn note_use(&self, account: &Account, now: Timestamp) -> Option<Arc<Principal>> {
        if account.record.expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        let second = now.as_second();
        if second - account.record.last_used.load(Ordering::Relaxed) >= USE_RESOLUTION_S {
            account.record.last_used.store(second, Ordering::Relaxed);
            self.uses_changed.store(true, Ordering::Relaxed);
        }
        Some(account.principal.clone())
    }

    /// Every token, by name.
    pub(super) fn list(&self) -> Vec<Arc<TokenRecord>> {
        let table = self.table.load();
        let mut records: Vec<_> = table.accounts.iter().map(|account| account.record.clone()).collect();
        records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        records
    }

    /// Uses these tokens from now on, less those that were revoked here, and writes them. They are used before they are
    /// durable, so that a revocation does not wait for the disk. `generation` is that of the accounts in the bucket, 0 without
    /// one. Blocks.
    ///
    /// # Errors
    /// A pattern that cannot be used, after which nothing has changed; the file system's error, after which the tokens hold
    /// until the next start.
    pub(super) fn take_over(&self, generation: u64, mut tokens: Vec<Arc<TokenRecord>>) -> Result<(), TokenError> {
        let mut file = self.file.lock();
        // A token that the bucket no longer has is revoked everywhere.
        file.revoked.retain(|revoked| tokens.iter().any(|token| token.id == revoked.id));
        tokens.retain(|token| !file.revoked.iter().any(|revoked| revoked.id == token.id));
        self.table.store(Arc::new(TokenTable::build(&tokens)?));
        file.generation = generation;
        self.write(&file)
    }

    /// Refuses a token from now on, and remembers it until no other mirror of the bucket has it. Blocks.
    ///
    /// # Errors
    /// `Unknown`; `Io`, after which the token is refused until the next start.
    pub(super) fn revoke_here(&self, name: &str) -> Result<(), TokenError> {
        let mut file = self.file.lock();
        let mut tokens = self.list();
        match token_changes::revoke(&mut tokens, name) {
            Ok(id) => file.revoked.push(RevokedToken { name: name.to_owned(), id }),
            Err(error) => return if file.revoked.iter().any(|known| known.name == name) { Ok(()) } else { Err(error) },
        }
        self.table.store(Arc::new(TokenTable::build(&tokens)?));
        self.write(&file)
    }

    fn write(&self, file: &TokenFileState) -> Result<(), TokenError> {
        let TokenFileState { generation, revoked } = file.clone();
        Ok(token_file::write(&self.path, &StoredTokens { generation, tokens: self.list(), revoked })?)
    }

    /// The generation of the accounts in the bucket that the tokens are of; 0: of none.
    pub(super) fn generation(&self) -> u64 {
        self.file.lock().generation
    }

    /// The tokens that were revoked here, and perhaps not in the bucket yet.
    pub(super) fn revoked(&self) -> Vec<RevokedToken> {
        self.file.lock().revoked.clone()
    }

    /// Writes the last uses, if one has changed. Blocks.
    ///
    /// # Errors
    /// The file system's error.
    pub(super) fn save_uses(&self) -> Result<(), TokenError> {
        let has_changed = self.uses_changed.swap(false, Ordering::Relaxed);
        if has_changed { self.write(&self.file.lock()) } else { Ok(()) }
    }
}

fn is_zero(generation: &u64) -> bool {
    *generation == 0
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
            let patterns = record.packages.iter().map(|pattern| parse_pattern(pattern));
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
