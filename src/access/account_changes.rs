//! What administrators do with tokens and signing keys, and how those of all mirrors of a bucket are followed.

use std::sync::Arc;

use super::{Access, NewToken, Principal, TokenError, TokenOutcome, TokenRecord, accounts::Followed};
use crate::value::Secret;

/// Changes the tokens and keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountChanges<'a>(&'a Access);

impl Access {
    /// The tokens and keys, to be changed.
    pub(crate) fn account_changes(&self) -> AccountChanges<'_> {
        AccountChanges(self)
    }
}

impl AccountChanges<'_> {
    /// Creates a token. The secret is in the answer and nowhere else, unless the token is one for the command line client.
    /// Blocks.
    ///
    /// # Errors
    /// A name that is taken or malformed; the file system's error.
    pub(crate) fn create(self, new: NewToken) -> Result<TokenOutcome, TokenError> {
        let created = self.0.accounts.create(&new, self.0.clock.now())?;
        self.0.advance_generation();
        Ok(created)
    }

    /// Replaces the code of the command line client that a principal signs with; the earlier one does not hold any more.
    /// Returns the new one. Blocks.
    ///
    /// # Errors
    /// When the principal has no such code; the file system's error, after which the earlier code holds.
    pub(crate) fn renew_code(self, principal: &Principal) -> Result<Secret, TokenError> {
        let renewed = self.0.accounts.renew_code(&principal.credential, self.0.clock.now());
        self.0.advance_generation();
        renewed
    }

    /// Every token, by name. No secrets.
    pub(crate) fn list(self) -> Vec<Arc<TokenRecord>> {
        self.0.accounts.tokens.list()
    }

    /// Removes a token: the next request with it is refused. Blocks.
    ///
    /// # Errors
    /// When there is no such token; when the other mirrors of a bucket do not know of it yet; the file system's error, after
    /// which the token is refused until the next start.
    pub(crate) fn revoke(self, name: &str) -> Result<(), TokenError> {
        let revoked = self.0.accounts.revoke(name);
        self.0.advance_generation();
        revoked
    }

    /// Replaces the key that signs addresses. Addresses that the last key signed hold until they expire. Blocks.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn rotate_signing_key(self) -> Result<(), TokenError> {
        self.0.accounts.rotate(self.0.addresses.key_lifetime(), self.0.clock.now())
    }

    /// True when the accounts are those of all mirrors of a bucket, which [`AccountChanges::follow`] keeps the same.
    pub(crate) fn are_shared(self) -> bool {
        self.0.enabled && self.0.accounts.are_shared()
    }

    /// Takes over what other mirrors of the bucket have changed. Blocks.
    ///
    /// # Errors
    /// When the bucket cannot be used; the file system's error.
    pub(crate) fn follow(self) -> Result<(), TokenError> {
        if self.0.accounts.follow()? == Followed::Changed {
            self.0.advance_generation();
        }
        Ok(())
    }

    /// Writes when each token was last used, if that has changed. Blocks.
    pub(crate) fn save_uses(self) {
        if let Err(error) = self.0.accounts.tokens.save_uses() {
            tracing::warn!(%error, "the last uses of the tokens cannot be written");
        }
    }
}
