//! The keys of one issuer in memory, and when they are fetched again.
//!
//! A renewal is a task of the app that all requests share. It happens beside requests once an hour, before a request whose
//! key is not known at most once a minute, and while there are no keys that may be used. Where it fails, the last keys are
//! used for 24 hours after they were last confirmed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;
use url::Url;

use super::key_set::KeySet;
use crate::{
    access::issuer_config::{IssuerPolicy, KeysAddress, is_safe},
    clock::Clock,
};

/// Age from which keys are fetched again, while requests go on with them.
const KEYS_RENEWAL_AGE: Duration = Duration::from_secs(3600);
/// Age from which keys are not used.
const MAX_KEYS_AGE: Duration = Duration::from_secs(24 * 3600);
/// Shortest time between two renewals for keys that are not in the set, and between those beside requests.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest time between two renewals while there are no keys that may be used.
pub(crate) const NO_KEYS_RETRY: Duration = Duration::from_secs(10);
/// Longest wait of a request for a renewal.
const MAX_RENEWAL_WAIT: Duration = Duration::from_secs(10);

/// Fetches the documents of issuers. Implemented by the app.
pub(crate) trait KeySource: fmt::Debug + Send + Sync {
    /// Fetches a document: with a time limit, a limit of its size, and no redirects.
    ///
    /// # Errors
    /// Why there is none.
    fn fetch(&self, url: Url) -> BoxFuture<'static, Result<Bytes, KeySourceError>>;

    /// Runs a renewal as a task of its own; it may be dropped when the process ends.
    fn spawn(&self, renewal: BoxFuture<'static, ()>);
}

/// Why a document of an issuer cannot be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySourceError {
    /// There is no connection, or it broke.
    #[error("the issuer cannot be reached")]
    Unreachable,
    /// There was no whole answer in time.
    #[error("the issuer did not answer in time")]
    TimedOut,
    /// The answer is an error or a redirect.
    #[error("the issuer answered with the status {0}")]
    Status(u16),
    /// The document is longer than the limit.
    #[error("the issuer's document is too large")]
    TooLarge,
}

/// Why keys cannot be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum RenewalFailure {
    #[error(transparent)]
    Fetch(#[from] KeySourceError),
    #[error("the issuer's discovery document is malformed")]
    Discovery,
    #[error("the issuer's discovery document names another issuer")]
    OtherIssuer,
    #[error("the jwks_uri in the issuer's discovery document is not https")]
    KeysUrl,
    #[error("the issuer's key set is malformed")]
    KeySet,
}

/// Why keys are to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyRenewal {
    /// They are old.
    Age,
    /// A token names a key that is not among them.
    UnknownKey,
    /// There are none that may be used.
    NoKeys,
}

/// The fields of a discovery document that are read.
#[derive(Deserialize)]
struct ProviderMetadata {
    issuer: String,
    jwks_uri: String,
}

/// Keys that were fetched.
#[derive(Clone, Debug)]
pub(super) struct FetchedKeys {
    /// The keys.
    pub(super) set: Arc<KeySet>,
    /// Every fetched set that differs from the one before it has a new number.
    pub(super) serial: u64,
    /// When they were last confirmed, by [`Clock::uptime`].
    confirmed_at: Duration,
}

/// When renewals were begun, by [`Clock::uptime`].
#[derive(Debug, Default)]
struct RenewalAttempts {
    is_running: bool,
    last: Option<Duration>,
    last_for_unknown_key: Option<Duration>,
    has_failed: bool,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    name: Arc<str>,
    issuer: String,
    address: KeysAddress,
    source: Arc<dyn KeySource>,
    clock: Clock,
    current: ArcSwapOption<FetchedKeys>,
    serials: AtomicU64,
    attempts: Mutex<RenewalAttempts>,
    ended: watch::Sender<u64>,
}

impl IssuerKeys {
    /// Without keys: they are fetched for the first token.
    pub(super) fn new(policy: &IssuerPolicy, source: Arc<dyn KeySource>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            name: policy.name.clone(),
            issuer: policy.issuer.clone(),
            address: policy.keys.clone(),
            source,
            clock,
            current: ArcSwapOption::empty(),
            serials: AtomicU64::new(1),
            attempts: Mutex::default(),
            ended: watch::Sender::new(0),
        })
    }

    /// The keys, if they may be used. Begins their renewal where they are old, and does not wait for it.
    pub(super) fn usable(self: &Arc<Self>) -> Option<Arc<FetchedKeys>> {
        let current = self.current.load_full()?;
        let age = self.clock.uptime().saturating_sub(current.confirmed_at);
        if age >= KEYS_RENEWAL_AGE {
            self.begin_renewal(KeyRenewal::Age);
        }
        (age < MAX_KEYS_AGE).then_some(current)
    }

    /// Waits for a renewal, if one is due or under way, but not for long.
    pub(super) async fn renew(self: &Arc<Self>, why: KeyRenewal) {
        if let Some(mut ended) = self.begin_renewal(why) {
            // The caller looks at the present keys next, so the outcome of the wait does not matter.
            let _ = tokio::time::timeout(MAX_RENEWAL_WAIT, ended.changed()).await;
        }
    }

    /// True when the last renewal failed: a key that is not known may be new.
    pub(super) fn has_failed(&self) -> bool {
        self.attempts.lock().has_failed
    }

    /// Begins a renewal, or joins the one under way; `None` when it is too early for one.
    fn begin_renewal(self: &Arc<Self>, why: KeyRenewal) -> Option<watch::Receiver<u64>> {
        let mut attempts = self.attempts.lock();
        // Subscribed under the lock: the end of a renewal takes it first.
        let ended = self.ended.subscribe();
        if attempts.is_running {
            return Some(ended);
        }
        let now = self.clock.uptime();
        let (last, interval) = match why {
            KeyRenewal::Age => (attempts.last, MIN_RENEWAL_INTERVAL),
            KeyRenewal::UnknownKey => (attempts.last_for_unknown_key, MIN_RENEWAL_INTERVAL),
            KeyRenewal::NoKeys => (attempts.last, NO_KEYS_RETRY),
        };
        if last.is_some_and(|last| now.saturating_sub(last) < interval) {
            return None;
        }
        attempts.last = Some(now);
        if why == KeyRenewal::UnknownKey {
            attempts.last_for_unknown_key = Some(now);
        }
        attempts.is_running = true;
        drop(attempts);
        let running = RunningRenewal(self.clone());
        self.source.spawn(Box::pin(async move {
            let fetched = running.0.fetch().await;
            running.0.store(fetched);
        }));
        Some(ended)
    }

    async fn fetch(&self) -> Result<KeySet, RenewalFailure> {
        let url = match &self.address {
            KeysAddress::Fixed(url) => url.clone(),
            KeysAddress::Discovered(url) => {
                let text = self.source.fetch(url.clone()).await?;
                let found: ProviderMetadata = serde_json::from_slice(&text).map_err(|_| RenewalFailure::Discovery)?;
                // OpenID Connect Discovery 1.0 §4.3: the issuer must be the one that was asked, letter by letter.
                if found.issuer != self.issuer {
                    return Err(RenewalFailure::OtherIssuer);
                }
                Url::parse(&found.jwks_uri).ok().filter(is_safe).ok_or(RenewalFailure::KeysUrl)?
            }
        };
        let text = self.source.fetch(url).await?;
        KeySet::parse(&text).ok_or(RenewalFailure::KeySet)
    }

    /// Stores the outcome of a renewal, and logs a failure or a change.
    fn store(&self, fetched: Result<KeySet, RenewalFailure>) {
        let confirmed_at = self.clock.uptime();
        let last = self.current.load_full();
        self.attempts.lock().has_failed = fetched.is_err();
        match (fetched, last) {
            (Ok(set), Some(last)) if set.is_same(&last.set) => {
                self.current.store(Some(Arc::new(FetchedKeys { confirmed_at, ..(*last).clone() })));
            }
            (Ok(set), _) => {
                let serial = self.serials.fetch_add(1, Ordering::Relaxed);
                self.current.store(Some(Arc::new(FetchedKeys { set: Arc::new(set), serial, confirmed_at })));
                tracing::info!(issuer = &*self.name, "the issuer of tokens has other keys");
            }
            (Err(error), last) => {
                let keys_age_s = last.map(|last| confirmed_at.saturating_sub(last.confirmed_at).as_secs());
                tracing::warn!(issuer = &*self.name, keys_age_s, %error, "the keys of an issuer cannot be renewed");
            }
        }
    }
}

/// A renewal under way. Dropping it ends the renewal and wakes the requests that wait.
struct RunningRenewal(Arc<IssuerKeys>);

impl Drop for RunningRenewal {
    fn drop(&mut self) {
        self.0.attempts.lock().is_running = false;
        self.0.ended.send_modify(|count| *count += 1);
    }
}
