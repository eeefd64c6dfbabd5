//! The tokens and signing keys of this mirror, and how they are kept the same on all mirrors of a bucket.
//!
//! With a bucket, the accounts in the bucket count, and the files in `access/` are a copy for a start while the bucket cannot
//! be reached. A change is first written to the bucket by compare-and-swap, then to the files. A revocation is the exception:
//! it holds on this mirror at once, and is remembered until the bucket has it, too.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    NewToken, TokenOutcome,
    nonces::NonceUse,
    signing_keys::{self, SigningKeys, StoredKey},
    token_changes,
    token_record::{SharedAccountsError, TokenError, TokenRecord},
    tokens::Tokens,
};
use crate::{entry::Digest, value::Secret};

/// A new key signs after this time: the other mirrors, which ask the bucket every few seconds, know it then.
const KEY_SPREAD_TIME: Duration = Duration::from_secs(10);
/// Longest wait for another change of the accounts.
const MAX_WAIT_FOR_CHANGE: Duration = Duration::from_secs(20);
/// The last use of a token is written to the bucket when it is later than the one there by more than this, seconds.
const SHARED_USE_RESOLUTION_S: i64 = 3600;

/// The accounts in the bucket, which all its mirrors share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountsState {
    /// Grows by one with every change.
    generation: u64,
    tokens: Vec<Arc<TokenRecord>>,
    keys: Vec<StoredKey>,
}

/// Computes the new accounts from those in the bucket (`None`: there are none yet); `None` where they stay as they are.
pub(crate) type AccountsUpdate<'a> = dyn FnMut(Option<AccountsState>) -> Result<Option<AccountsState>, TokenError> + 'a;

/// Where the mirrors of a bucket keep their accounts.
pub(crate) trait SharedAccounts: std::fmt::Debug + Send + Sync {
    /// Reads them, calls `update`, and writes what that returns in place of what was read; once more from the beginning where
    /// another mirror was first. Blocks, at most for some seconds.
    ///
    /// # Errors
    /// `Shared`; what `update` returns.
    fn update(&self, update: &mut AccountsUpdate<'_>) -> Result<(), TokenError>;

    /// Notes in the bucket that a nonce was used.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    fn spend(&self, nonce: Digest) -> BoxFuture<'_, Result<NonceUse, SharedAccountsError>>;
}

/// The accounts of one mirror.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) tokens: Tokens,
    pub(super) keys: Arc<SigningKeys>,
    shared: Option<Arc<dyn SharedAccounts>>,
    /// Held during a change.
    changing: Mutex<()>,
}

impl Accounts {
    pub(super) fn new(tokens: Tokens, keys: SigningKeys, shared: Option<Arc<dyn SharedAccounts>>) -> Self {
        Self { tokens, keys: Arc::new(keys), shared, changing: Mutex::default() }
    }

    /// True when other mirrors have the same accounts.
    pub(super) fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// True when this mirror has a copy of the accounts in the bucket, or there is no bucket.
    pub(super) fn can_do_without_bucket(&self) -> bool {
        self.shared.is_none() || self.tokens.generation() > 0
    }

    /// Notes that a nonce was used, where other mirrors may see it, too.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub(super) async fn spend(&self, nonce: Digest) -> Result<NonceUse, SharedAccountsError> {
        match &self.shared {
            Some(shared) => shared.spend(nonce).await,
            None => Ok(NonceUse::First),
        }
    }

    /// Creates a token. Blocks.
    ///
    /// # Errors
    /// [`TokenError`]; nothing is changed then.
    pub(super) fn create(&self, new: &NewToken, now: Timestamp) -> Result<TokenOutcome, TokenError> {
        self.make_token(|records| token_changes::create(records, new, now))
    }

    /// Replaces the code of a token. Blocks.
    ///
    /// # Errors
    /// [`TokenError`]; nothing is changed then.
    pub(super) fn renew_code(&self, id: &str, now: Timestamp) -> Result<Secret, TokenError> {
        self.make_token(|records| token_changes::renew_code(records, id, now)).map(|made| made.secret)
    }

    /// Makes one token with `make`, which is called again when another mirror has changed the bucket in between, unless the
    /// token of the last call is in the bucket: that write was done, and its answer lost.
    fn make_token(
        &self,
        mut make: impl FnMut(&mut Vec<Arc<TokenRecord>>) -> Result<TokenOutcome, TokenError>,
    ) -> Result<TokenOutcome, TokenError> {
        let mut outcome: Option<TokenOutcome> = None;
        self.change(&mut |state| {
            let is_made = |made: &TokenOutcome| state.tokens.iter().any(|token| token.id == made.record.id);
            if !outcome.as_ref().is_some_and(is_made) {
                outcome = Some(make(&mut state.tokens)?);
            }
            Ok(())
        })?;
        outcome.ok_or(TokenError::Shared(SharedAccountsError::Busy))
    }

    /// Removes a token; this mirror refuses it at once. Blocks.
    ///
    /// # Errors
    /// `Unknown`; `RevokedHere`; `Io`, after which the token is refused until the next start.
    pub(super) fn revoke(&self, name: &str) -> Result<(), TokenError> {
        if self.shared.is_none() {
            return self.change(&mut |state| token_changes::revoke(&mut state.tokens, name).map(drop));
        }
        let here = match self.tokens.revoke_here(name) {
            // Created on another mirror a moment ago, perhaps.
            Err(TokenError::Unknown(_)) => {
                self.follow()?;
                self.tokens.revoke_here(name)
            }
            here => here,
        };
        if let Err(TokenError::Unknown(_)) = here {
            return here;
        }
        match self.follow() {
            Err(TokenError::Shared(error)) if here.is_ok() => Err(TokenError::RevokedHere(error)),
            spread => here.and(spread.map(drop)),
        }
    }

    /// Makes a new signing key. The earlier ones still verify for `lifetime` after they signed last. Blocks.
    ///
    /// # Errors
    /// [`TokenError`]; nothing is changed then.
    pub(super) fn rotate(&self, lifetime: SignedDuration, now: Timestamp) -> Result<(), TokenError> {
        self.change(&mut |state| {
            state.keys = signing_keys::rotate(&state.keys, lifetime, now)?;
            Ok(())
        })
    }

    /// Makes the first signing key, if no mirror has one, and takes over what the others have. Blocks.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(super) fn ensure_key(&self, lifetime: SignedDuration, now: Timestamp) -> Result<(), TokenError> {
        if self.shared.is_some() {
            self.follow()?;
        }
        if self.keys.stored().is_empty() {
            self.change(&mut |state| {
                if state.keys.is_empty() {
                    state.keys = signing_keys::rotate(&[], lifetime, now)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes over what other mirrors have changed in the bucket, and writes there what only this mirror has. Blocks.
    ///
    /// # Errors
    /// `Shared`, and the file system's error.
    pub(super) fn follow(&self) -> Result<Followed, TokenError> {
        let Some(shared) = &self.shared else { return Ok(Followed::Unchanged) };
        let _changing = self.lock_changes()?;
        let before = self.tokens.generation();
        let mut taken = None;
        shared.update(&mut |found| {
            let Merged { mut state, is_new } = self.merge_with_local(found);
            if is_new {
                state.generation += 1;
            }
            taken = Some(state.clone());
            Ok(is_new.then_some(state))
        })?;
        let Some(state) = taken else { return Ok(Followed::Unchanged) };
        if state.generation == before {
            return Ok(Followed::Unchanged);
        }
        self.take_over(state)?;
        Ok(Followed::Changed)
    }

    /// Changes the accounts in the bucket, if there is one, and here.
    fn change(&self, change: &mut dyn FnMut(&mut AccountsState) -> Result<(), TokenError>) -> Result<(), TokenError> {
        let _changing = self.lock_changes()?;
        let mut state = self.local_state();
        match &self.shared {
            None => change(&mut state)?,
            Some(shared) => shared.update(&mut |found| {
                state = self.merge_with_local(found).state;
                change(&mut state)?;
                state.generation += 1;
                Ok(Some(state.clone()))
            })?,
        }
        self.take_over(state)
    }

    fn lock_changes(&self) -> Result<parking_lot::MutexGuard<'_, ()>, TokenError> {
        self.changing.try_lock_for(MAX_WAIT_FOR_CHANGE).ok_or(TokenError::Shared(SharedAccountsError::Busy))
    }

    /// The accounts of this mirror's files.
    fn local_state(&self) -> AccountsState {
        let keys = self.keys.stored();
        AccountsState { generation: self.tokens.generation(), tokens: self.tokens.list(), keys }
    }

    fn take_over(&self, state: AccountsState) -> Result<(), TokenError> {
        let wait = if self.shared.is_some() { KEY_SPREAD_TIME } else { Duration::ZERO };
        // The keys first: the generation is stored with the tokens, and says that keys and tokens are taken over.
        self.keys.take_over(state.keys, wait)?;
        self.tokens.take_over(state.generation, state.tokens)
    }

    /// The accounts in the bucket with the revocations, last uses and earlier tokens that only this mirror has.
    fn merge_with_local(&self, found: Option<AccountsState>) -> Merged {
        let local = self.local_state();
        let Some(mut state) = found else { return Merged { state: local, is_new: true } };
        if state.generation < local.generation {
            tracing::warn!(
                "the tokens in the shared bucket are older than those of this mirror, which are written there again"
            );
            return Merged { state: local, is_new: true };
        }
        let mut is_new = false;
        let revoked = self.tokens.revoked();
        state.tokens.retain(|token| {
            let stays = !revoked.iter().any(|revoked| revoked.id == token.id);
            is_new |= !stays;
            stays
        });
        if local.generation == 0 {
            is_new |= add_earlier_accounts(&mut state, &local);
        }
        for token in &local.tokens {
            if let Some(shared) = state.tokens.iter().find(|shared| shared.id == token.id) {
                is_new |= shared.note_use(token, SHARED_USE_RESOLUTION_S);
            }
        }
        Merged { state, is_new }
    }
}

/// Whether [`Accounts::follow`] has changed the accounts of this mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The bucket had other accounts, or now has what this mirror has added.
    Changed,
    /// The bucket had the same, or there is none.
    Unchanged,
}

/// The outcome of [`Accounts::merge_with_local`].
struct Merged {
    state: AccountsState,
    /// True when it is not what the bucket has.
    is_new: bool,
}

/// Adds the tokens and keys that this mirror had before it shared a bucket. True when `state` has changed.
fn add_earlier_accounts(state: &mut AccountsState, local: &AccountsState) -> bool {
    let mut is_new = false;
    for token in &local.tokens {
        if state.tokens.iter().any(|known| known.id == token.id) {
            continue;
        }
        if state.tokens.iter().any(|known| known.name == token.name) {
            tracing::warn!(
                token = token.name,
                "another mirror has a token of this name, and that of this mirror is dropped"
            );
            continue;
        }
        state.tokens.push(token.clone());
        is_new = true;
    }
    let keys = signing_keys::merge(&state.keys, &local.keys);
    is_new |= keys != state.keys;
    state.keys = keys;
    is_new
}
