//! A GitHub App: one installation per owner, each with a token that is renewed before it ends.
//!
//! The App identifies itself with a signed statement ([`super::app_jwt`]), asks which of its installations an owner has,
//! and gets a token for it that lasts an hour. Of the requests for one owner, one does this and the others wait for it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::EncodingKey;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::{
    app_jwt,
    exchange::{CredentialExchange, ExchangeAnswer},
    refusal::{self, RefusalReason},
    request_auth::{RequestAuth, app_fingerprint},
};
use crate::{
    origin::FetchError,
    upstream::{failure::invalid, gate::RateLimiter},
};

/// A token is renewed when less than this is left of its time.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(300);
/// When a renewal fails, a token is used until this is left of its time.
const USABLE_BEFORE_END: Duration = Duration::from_secs(20);
/// Time for which an owner without an installation is not asked about again.
const ABSENCE_PERIOD: Duration = Duration::from_secs(600);
/// Time after a failed exchange before the next one.
const FAILURE_PERIOD: Duration = Duration::from_secs(5);
/// Longest wait of a request for an exchange, its own or that of another request.
const MAX_TOKEN_WAIT: Duration = Duration::from_secs(20);
/// Most owners that are remembered. Beyond this, the one that was used longest ago is forgotten.
const MAX_APP_OWNERS: usize = 1000;
/// A difference of the clocks below this is not corrected: GitHub allows for a minute.
const TOLERATED_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// A GitHub App.
pub(super) struct GithubApp {
    id: String,
    key: EncodingKey,
    owners: Mutex<HashMap<String, Arc<OwnerAccess>>>,
    /// Seconds that the upstream's clock is ahead of this one, when it has refused a statement for its time.
    skew: AtomicI64,
}

/// The App's access to one owner's repositories.
struct OwnerAccess {
    fingerprint: String,
    limiter: Arc<RateLimiter>,
    token: Mutex<Option<AppToken>>,
    last_used: Mutex<Instant>,
    /// Held during an exchange.
    exchange: tokio::sync::Mutex<OwnerState>,
}

/// What is known of an owner, besides a token.
enum OwnerState {
    Unknown,
    Installed(u64),
    /// Not installed, until then.
    Absent(Instant),
    /// The last exchange failed; no new one until then.
    Failed(AppFailure, Instant),
}

/// A token of an installation.
#[derive(Clone)]
pub(super) struct AppToken {
    pub(super) auth: Arc<RequestAuth>,
    pub(super) fingerprint: String,
    pub(super) limiter: Arc<RateLimiter>,
    ends: Instant,
}

/// The result of asking for a token.
pub(super) enum AppAccess {
    Token(AppToken),
    /// The App is not installed for the owner.
    NotInstalled,
    Failed(AppFailure),
}

/// Why there is no token.
#[derive(Clone)]
pub(super) struct AppFailure {
    pub(super) error: FetchError,
    /// Set when the upstream refuses the App.
    pub(super) refused: Option<RefusalReason>,
}

impl From<FetchError> for AppFailure {
    fn from(error: FetchError) -> Self {
        Self { error, refused: None }
    }
}

impl GithubApp {
    pub(super) fn new(id: String, key: EncodingKey) -> Self {
        Self { id, key, owners: Mutex::default(), skew: AtomicI64::new(0) }
    }

    /// A token that lasts for at least [`USABLE_BEFORE_END`].
    pub(super) async fn token(&self, owner: &str, exchange: &CredentialExchange) -> AppAccess {
        let access = self.access(owner);
        if let Some(token) = access.token_with(RENEWED_BEFORE_END) {
            return AppAccess::Token(token);
        }
        let renewed = timeout(MAX_TOKEN_WAIT, self.renew(owner, &access, exchange)).await;
        let renewed = renewed.unwrap_or_else(|_| AppAccess::Failed(FetchError::Timeout("no App token in time").into()));
        match (renewed, access.token_with(USABLE_BEFORE_END)) {
            // The present token outlives a failure to renew it.
            (AppAccess::Failed(AppFailure { refused: None, .. }), Some(token)) => AppAccess::Token(token),
            (renewed, _) => renewed,
        }
    }

    /// The fingerprint and the quota of each owner with a token.
    pub(super) fn limiters(&self) -> Vec<(String, Arc<RateLimiter>)> {
        let owners = self.owners.lock();
        let mut with_token: Vec<_> = owners
            .iter()
            .filter(|(_, access)| access.token.lock().is_some())
            .map(|(owner, access)| (owner.clone(), access.limiter.clone()))
            .collect();
        with_token.sort_by(|one, other| one.0.cmp(&other.0));
        with_token
    }

    /// The fingerprint that documents of this owner are stored with.
    pub(super) fn fingerprint(&self, owner: &str) -> String {
        app_fingerprint(&self.id, owner)
    }

    /// The quota of the owner's installation, if a token was issued for it.
    pub(super) fn limiter(&self, owner: &str) -> Option<Arc<RateLimiter>> {
        self.owners.lock().get(&owner.to_ascii_lowercase()).map(|access| access.limiter.clone())
    }

    /// Forgets a token that the upstream has refused; false when it is not the owner's present one.
    pub(super) fn forget_token(&self, owner: &str, refused: &Arc<RequestAuth>) -> bool {
        let access = self.owners.lock().get(&owner.to_ascii_lowercase()).cloned();
        let Some(access) = access else { return false };
        let mut token = access.token.lock();
        let is_present = token.as_ref().is_some_and(|present| Arc::ptr_eq(&present.auth, refused));
        if is_present {
            *token = None;
        }
        is_present
    }

    fn access(&self, owner: &str) -> Arc<OwnerAccess> {
        let owner = owner.to_ascii_lowercase();
        let mut owners = self.owners.lock();
        if !owners.contains_key(&owner) && owners.len() >= MAX_APP_OWNERS {
            let oldest = owners.iter().min_by_key(|(_, access)| *access.last_used.lock());
            if let Some(oldest) = oldest.map(|(owner, _)| owner.clone()) {
                owners.remove(&oldest);
            }
        }
        let new = || {
            Arc::new(OwnerAccess {
                fingerprint: app_fingerprint(&self.id, &owner),
                limiter: Arc::default(),
                token: Mutex::default(),
                last_used: Mutex::new(Instant::now()),
                exchange: tokio::sync::Mutex::new(OwnerState::Unknown),
            })
        };
        let access = owners.entry(owner.clone()).or_insert_with(new);
        *access.last_used.lock() = Instant::now();
        access.clone()
    }

    /// Waits for the exchange that runs, or makes one.
    async fn renew(&self, owner: &str, access: &OwnerAccess, exchange: &CredentialExchange) -> AppAccess {
        let mut state = access.exchange.lock().await;
        if let Some(token) = access.token_with(RENEWED_BEFORE_END) {
            return AppAccess::Token(token);
        }
        let now = Instant::now();
        match &*state {
            OwnerState::Absent(until) if *until > now => return AppAccess::NotInstalled,
            OwnerState::Failed(failure, until) if *until > now => return AppAccess::Failed(failure.clone()),
            _ => {}
        }
        let known = if let OwnerState::Installed(id) = *state { Some(id) } else { None };
        match self.exchange(owner, known, access, exchange).await {
            Ok(Some((id, token))) => {
                *state = OwnerState::Installed(id);
                *access.token.lock() = Some(token.clone());
                AppAccess::Token(token)
            }
            Ok(None) => {
                *state = OwnerState::Absent(Instant::now() + ABSENCE_PERIOD);
                *access.token.lock() = None;
                AppAccess::NotInstalled
            }
            Err(failure) => {
                *state = OwnerState::Failed(failure.clone(), Instant::now() + FAILURE_PERIOD);
                AppAccess::Failed(failure)
            }
        }
    }

    /// Asks for the owner's installation, unless it is known, and for a token of it. `None` without an installation.
    async fn exchange(
        &self,
        owner: &str,
        known: Option<u64>,
        access: &OwnerAccess,
        exchange: &CredentialExchange,
    ) -> Result<Option<(u64, AppToken)>, AppFailure> {
        let id = match known {
            Some(id) => id,
            None => {
                // For users and organizations alike.
                let url = exchange.urls.api(["users", owner, "installation"]);
                let answer = self.send(exchange, Method::GET, url).await?;
                if answer.status == StatusCode::NOT_FOUND {
                    return Ok(None);
                }
                let id = succeeded(&answer)?.json()?.get("id").and_then(serde_json::Value::as_u64);
                id.ok_or_else(|| invalid("an installation without an id"))?
            }
        };
        let url = exchange.urls.api(["app", "installations", &id.to_string(), "access_tokens"]);
        let answer = self.send(exchange, Method::POST, url).await?;
        // The App was removed from the owner since.
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let json = succeeded(&answer)?.json()?;
        let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
        let header = text("token").filter(|token| !token.is_empty()).map(|token| format!("Bearer {token}"));
        let mut header = header
            .and_then(|header| HeaderValue::try_from(header).ok())
            .ok_or_else(|| invalid("an answer without a token"))?;
        header.set_sensitive(true);
        let ends: Option<Timestamp> = text("expires_at").and_then(|end| end.parse().ok());
        let ends = ends.ok_or_else(|| invalid("a token without an end"))?;
        // Measured by the upstream's clock, because the local one may be wrong.
        let left = ends.duration_since(answer.date().unwrap_or_else(Timestamp::now));
        let token = AppToken {
            auth: Arc::new(RequestAuth::Authorization(header)),
            fingerprint: access.fingerprint.clone(),
            limiter: access.limiter.clone(),
            ends: Instant::now() + Duration::try_from(left).unwrap_or_default(),
        };
        Ok(Some((id, token)))
    }

    /// Sends a request as the App itself. One that is refused is sent again by the upstream's clock, where that differs
    /// from this one.
    pub(super) async fn send(
        &self,
        exchange: &CredentialExchange,
        method: Method,
        url: url::Url,
    ) -> Result<ExchangeAnswer, FetchError> {
        let answer = self.send_once(exchange, method.clone(), url.clone()).await?;
        let Some(date) = answer.date().filter(|_| answer.status == StatusCode::UNAUTHORIZED) else { return Ok(answer) };
        let skew = date.duration_since(Timestamp::now());
        if (skew - SignedDuration::from_secs(self.skew.load(Ordering::Relaxed))).abs() < TOLERATED_SKEW {
            return Ok(answer);
        }
        self.skew.store(skew.as_secs(), Ordering::Relaxed);
        self.send_once(exchange, method, url).await
    }

    async fn send_once(
        &self,
        exchange: &CredentialExchange,
        method: Method,
        url: url::Url,
    ) -> Result<ExchangeAnswer, FetchError> {
        let now = Timestamp::now().saturating_add(SignedDuration::from_secs(self.skew.load(Ordering::Relaxed)));
        let now = now.unwrap_or_else(|_| Timestamp::now());
        let header = app_jwt::authorization(&self.id, &self.key, now)
            .ok_or_else(|| FetchError::Refused("the App's key cannot sign".into()))?;
        exchange.send(method, url, |headers: &mut HeaderMap| drop(headers.insert(header::AUTHORIZATION, header))).await
    }
}

impl OwnerAccess {
    /// The present token, if at least `left` is left of its time.
    fn token_with(&self, left: Duration) -> Option<AppToken> {
        let token = self.token.lock().clone()?;
        (token.ends.saturating_duration_since(Instant::now()) > left).then_some(token)
    }
}

fn succeeded(answer: &ExchangeAnswer) -> Result<&ExchangeAnswer, AppFailure> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let error = FetchError::Status(answer.status.as_u16());
    Err(AppFailure { error, refused: answer.as_error(refusal::github) })
}
