//! The tokens and signing keys in the bucket of several mirrors, sealed: read, changed and replaced by comparison.

use std::{future::pending, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{RunningService, spawn_background};
use crate::{
    access::{AccountsState, AccountsUpdate, NonceUse, SharedAccounts, SharedAccountsError, TokenError},
    cache::{BucketTier, Cache},
    entry::Digest,
    shared::{BucketError, ChangeListener, Config, Occurrence, SealedText, SealingKey, SharedState, StateWrite},
};

/// The kind of the state that holds the accounts.
const ACCOUNTS_STATE: &str = "accounts";
/// How many times the accounts are read, changed and written before the change is given up.
const ACCOUNTS_ATTEMPTS: usize = 8;
/// Longest time for all attempts together, or for one nonce.
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(15);
/// The accounts are read after this part of `shared.max_age`, percent, so that a token that another mirror has revoked is
/// refused within that age. The rest is for the time of the request.
const ACCOUNTS_AGE_PERCENT: u32 = 80;

/// The accounts in a bucket.
pub(super) struct BucketAccounts {
    bucket: Arc<BucketTier>,
    key: Option<SealingKey>,
    runtime: Handle,
    /// Cancelled when the runtime is about to end.
    end: CancellationToken,
}

impl std::fmt::Debug for BucketAccounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketAccounts").finish_non_exhaustive()
    }
}

impl BucketAccounts {
    /// Those in this bucket. Must be called within the runtime of the app.
    pub(super) fn new(bucket: Arc<BucketTier>, section: &Config, end: CancellationToken) -> Self {
        let key = section.sealing_secret.as_ref().and_then(SealingKey::of_secret);
        Self { bucket, key, runtime: Handle::current(), end }
    }

    async fn read(&self) -> Result<SharedState<SealedText>, TokenError> {
        self.bucket.bucket().read_state(ACCOUNTS_STATE).await.map_err(|error| unavailable(&error))
    }

    /// Reads the accounts, and writes what `update` returns instead; again from the beginning where another mirror was first.
    async fn read_and_replace(&self, update: &mut AccountsUpdate<'_>) -> Result<(), TokenError> {
        let key = self.key.as_ref().ok_or(TokenError::Shared(SharedAccountsError::NoSecret))?;
        // What was sent by a write whose outcome is not known.
        let mut sent: Option<Vec<u8>> = None;
        for _ in 0..ACCOUNTS_ATTEMPTS {
            let read = self.read().await?;
            let other_secret = |_| TokenError::Shared(SharedAccountsError::OtherSecret);
            let text =
                read.value.as_ref().map(|sealed| key.open(ACCOUNTS_STATE, sealed)).transpose().map_err(other_secret)?;
            if sent.is_some() && sent == text {
                return Ok(());
            }
            let found = text.map(|text| serde_json::from_slice::<AccountsState>(&text)).transpose();
            let Some(next) = update(found.map_err(|_| unavailable(&BucketError::Damaged))?)? else { return Ok(()) };
            // Plain data: writing it cannot fail.
            let text = serde_json::to_vec(&next).unwrap_or_default();
            let sealed = key.seal(ACCOUNTS_STATE, text.clone());
            let sealed = sealed.map_err(|_| TokenError::Shared(SharedAccountsError::Unavailable))?;
            match self.bucket.bucket().write_state(ACCOUNTS_STATE, &sealed, read).await {
                Ok(StateWrite::Written) => return Ok(()),
                // It may have been written: what is read next says so.
                Ok(StateWrite::Changed) | Err(BucketError::Unreachable | BucketError::TimedOut) => sent = Some(text),
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(TokenError::Shared(SharedAccountsError::Busy))
    }
}

impl SharedAccounts for BucketAccounts {
    fn update(&self, update: &mut AccountsUpdate<'_>) -> Result<(), TokenError> {
        let exchange = async { timeout(ACCOUNTS_TIMEOUT, self.read_and_replace(update)).await };
        let exchanged = self.runtime.block_on(self.end.run_until_cancelled(exchange));
        exchanged.and_then(Result::ok).unwrap_or(Err(TokenError::Shared(SharedAccountsError::Unavailable)))
    }

    fn spend(&self, nonce: Digest) -> BoxFuture<'_, Result<NonceUse, SharedAccountsError>> {
        Box::pin(async move {
            let spent = timeout(ACCOUNTS_TIMEOUT, self.bucket.bucket().spend_nonce(&nonce)).await;
            match spent.unwrap_or(Err(BucketError::TimedOut)) {
                Ok(Occurrence::First) => Ok(NonceUse::First),
                Ok(Occurrence::Repeated) => Ok(NonceUse::Repeated),
                Err(error) => {
                    tracing::debug!(%error, "the bucket cannot say whether a nonce was used");
                    Err(SharedAccountsError::Unavailable)
                }
            }
        })
    }
}

fn unavailable(error: &BucketError) -> TokenError {
    tracing::debug!(%error, "the tokens in the shared bucket cannot be used at present");
    TokenError::Shared(SharedAccountsError::Unavailable)
}

/// Keeps the accounts the same on all mirrors of the bucket, until `background` is cancelled. Without a
/// bucket, does nothing.
pub(super) fn spawn_account_sharing(
    running: Arc<ArcSwap<RunningService>>,
    cache: &Cache,
    tasks: &TaskTracker,
    background: &CancellationToken,
) {
    let Some(bucket) = cache.bucket() else { return };
    let listener = bucket.bucket().notices.listen(ACCOUNTS_AGE_PERCENT);
    spawn_background(tasks, background, share_accounts(running, listener));
}

/// Takes over the changes of other mirrors again and again. Never returns.
async fn share_accounts(running: Arc<ArcSwap<RunningService>>, mut listener: ChangeListener) {
    let mut is_other_secret = false;
    loop {
        listener.due(pending()).await;
        let access = running.load().access.clone();
        if !access.account_changes().are_shared() {
            continue;
        }
        let followed = crate::blocking::spawn_blocking(move || access.account_changes().follow()).await;
        let was_other_secret = is_other_secret;
        is_other_secret = matches!(followed, Ok(Err(TokenError::Shared(SharedAccountsError::OtherSecret))));
        match followed {
            Ok(Err(error)) if is_other_secret && !was_other_secret => tracing::error!("{error}"),
            Ok(Err(error)) => tracing::debug!(%error, "the tokens of other mirrors are not known at present"),
            // An error is a panic, which has been reported, or the end of the runtime.
            Ok(Ok(())) | Err(_) => {}
        }
    }
}
