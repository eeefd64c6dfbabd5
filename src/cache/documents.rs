//! Release documents: mutable, fresh for a while, then revalidated, served stale while the upstream fails.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Cache, Failure,
    policy::{Freshness, Policy, Usable},
    single_flight::FlightGuard,
};
use crate::{
    entry::{Digest, Document, DocumentMeta, Key, UpstreamStatus},
    http::cache_status::{CacheStatus, Fwd},
    origin::{FetchError, FetchedDocument, Origin},
};

/// Fetches one document.
pub type DocumentOrigin = Arc<dyn Origin<Fetched = FetchedDocument>>;

/// What a revalidation in flight ends with.
pub(crate) type Outcome = Option<Result<Renewed, FetchError>>;

/// A document that is as new as it was asked to be.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    document: Document,
    how: RenewalSource,
}

/// How a document became as new as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RenewalSource {
    /// The upstream sent it.
    Sent,
    /// The upstream said that it has not changed.
    Confirmed,
    /// A flight that landed between the caller's look and this one had renewed it already.
    Already,
}

/// A document and what happened on the way to it.
#[derive(Clone, Debug)]
pub struct DocumentAnswer {
    /// The document; its standing may be `Gone` when a stored one outlived its upstream.
    pub document: Document,
    /// How long ago the upstream last confirmed it.
    pub age: Duration,
    /// What happened.
    pub status: CacheStatus,
}

impl Cache {
    /// Answers from what is stored where `policy` allows it, else asks `origin`, once for everybody who asks at the time.
    ///
    /// # Errors
    /// The fetch's error where nothing usable is stored; `Blocked` also where something is stored.
    pub async fn document(
        self: &Arc<Self>,
        key: &Key,
        policy: Policy,
        origin: DocumentOrigin,
    ) -> Result<DocumentAnswer, Failure> {
        let stored = self.stored_document(key).await;
        let forward = if stored.is_some() { Fwd::Stale } else { Fwd::UriMiss };
        let failed = self.failures.recent(key);
        if let Some(document) = &stored {
            match self.judge(document, policy) {
                Freshness::Fresh { ttl } => return Ok(self.answer(document, CacheStatus::hit(Some(seconds(ttl))))),
                Freshness::Stale { over, usable: Usable::AsItIs } => {
                    let status = CacheStatus::hit(Some(-seconds(over))).detail(policy.mode.name());
                    return Ok(self.answer(document, status));
                }
                Freshness::Stale { over, usable: Usable::WhileRevalidating } if failed.is_none() => {
                    self.renew(key, policy, stored.clone(), origin);
                    let status = CacheStatus::hit(Some(-seconds(over))).detail("stale-while-revalidate");
                    return Ok(self.answer(document, status));
                }
                Freshness::Stale { .. } => {}
            }
        }
        if let Some(error) = failed {
            return self.stale_or_error(error, stored, policy, None);
        }
        let (state, collapsed) = self.renew(key, policy, stored.clone(), origin);
        match landed(state).await {
            Ok(Renewed { document, how }) => {
                let status = CacheStatus::forwarded(forward);
                let status = match how {
                    RenewalSource::Sent => status.status(200).stored(),
                    RenewalSource::Confirmed => status.status(304),
                    RenewalSource::Already => status,
                };
                let collapsed = collapsed || how == RenewalSource::Already;
                Ok(self.answer(&document, if collapsed { status.collapsed() } else { status }))
            }
            Err(error) => self.stale_or_error(error, stored, policy, Some(forward)),
        }
    }

    /// Starts a revalidation of what is stored and not fresh, unless one has just failed. Waits for nothing.
    pub async fn refresh(self: &Arc<Self>, key: &Key, policy: Policy, origin: DocumentOrigin) {
        let Some(document) = self.stored_document(key).await else { return };
        if !self.is_fresh(&document, policy) && self.failures.recent(key).is_none() {
            self.renew(key, policy, Some(document), origin);
        }
    }

    /// Marks what is stored as blocked: the upstream has said so of something else of the same package.
    pub async fn block(&self, key: &Key) {
        if let Some(document) = self.stored_document(key).await
            && document.meta.standing != UpstreamStatus::Blocked
        {
            self.keep(key, &with_standing(&document, UpstreamStatus::Blocked), false).await;
        }
    }

    /// Forgets a stored document, so that it is asked for anew and whole.
    ///
    /// # Errors
    /// When it cannot be removed from disk; memory has forgotten it all the same.
    pub async fn discard(&self, key: &Key) -> io::Result<()> {
        let removed = self.disk.documents().remove(key).await;
        self.generations.bump_with(key, || self.documents.remove(key));
        removed
    }

    /// A blocked document is never served without asking again whether it still is.
    fn judge(&self, document: &Document, policy: Policy) -> Freshness {
        let age = self.clock.since(document.meta.validated_at);
        match document.meta.standing {
            UpstreamStatus::Blocked => Freshness::Stale { over: age, usable: Usable::No },
            UpstreamStatus::Present | UpstreamStatus::Gone => policy.judge(age),
        }
    }

    /// What is stored under a key, whatever its age. A document that cannot be read counts as absent.
    pub async fn stored_document(&self, key: &Key) -> Option<Document> {
        if let Some(document) = self.documents.get(key) {
            return Some(document);
        }
        let before = self.generations.snapshot(key);
        match self.disk.documents().get(key).await {
            Ok(found) => found.inspect(|document| {
                before.run_if_current(|| self.documents.put_where_none_is(key, document));
            }),
            Err(error) => {
                tracing::warn!(%key, %error, "stored document cannot be read");
                None
            }
        }
    }

    /// As [`Cache::stored_document`], for a look through many: what is read takes no place in memory.
    pub async fn peek_document(&self, key: &Key) -> Option<Document> {
        match self.documents.get(key) {
            Some(document) => Some(document),
            None => self.disk.documents().get(key).await.ok().flatten(),
        }
    }

    /// What is in memory under a key, whatever its age.
    pub fn document_in_memory(&self, key: &Key) -> Option<Document> {
        self.documents.get(key)
    }

    /// The stale document that is served in place of an error, or the error. `forward` is `None` where the upstream
    /// was not asked, because it failed a moment ago.
    fn stale_or_error(
        &self,
        error: FetchError,
        stored: Option<Document>,
        policy: Policy,
        forward: Option<Fwd>,
    ) -> Result<DocumentAnswer, Failure> {
        let told = match (&error, forward) {
            (FetchError::Status(code), Some(_)) => Some(*code),
            (FetchError::NotFound(_), Some(_)) => Some(404),
            (FetchError::Blocked, Some(_)) => Some(451),
            _ => None,
        };
        let forwarded = |fwd| told.into_iter().fold(CacheStatus::forwarded(fwd), CacheStatus::status);
        let Some(document) = stored else {
            let status = match (forward, &error) {
                (Some(fwd), _) => forwarded(fwd),
                (None, FetchError::NotFound(_)) => CacheStatus::forwarded(Fwd::UriMiss).detail("remembered"),
                (None, _) => CacheStatus::forwarded(Fwd::UriMiss).detail("cool-down"),
            };
            return Err(Failure::new(error, status));
        };
        let age = self.clock.since(document.meta.validated_at);
        let stale = -seconds(age.saturating_sub(policy.fresh));
        let status = match forward {
            Some(fwd) => forwarded(fwd).used_stale().ttl(stale),
            None => CacheStatus::hit(Some(stale)),
        };
        if error == FetchError::Blocked || document.meta.standing == UpstreamStatus::Blocked {
            return Err(Failure::new(FetchError::Blocked, status));
        }
        let usable = !matches!(policy.judge(age), Freshness::Stale { usable: Usable::No, .. });
        if !usable && error.is_trouble() {
            return Err(Failure::new(error, status));
        }
        let detail = match &error {
            FetchError::NotFound(_) => "upstream-gone",
            FetchError::Throttled { .. } => "upstream-throttled",
            _ => "stale-if-error",
        };
        let mut answer = self.answer(&document, status.detail(detail));
        if let FetchError::NotFound(_) = error {
            answer.document = with_standing(&document, UpstreamStatus::Gone);
        }
        Ok(answer)
    }

    /// Starts or joins the one revalidation of a key. It runs to its end even when nobody waits.
    fn renew(
        self: &Arc<Self>,
        key: &Key,
        policy: Policy,
        stored: Option<Document>,
        origin: DocumentOrigin,
    ) -> (watch::Receiver<Outcome>, bool) {
        self.revalidations.join(key, None, |guard| {
            let cache = self.clone();
            let key = key.clone();
            let renewal = async move { cache.revalidate(&key, policy, stored, origin, guard).await };
            self.tasks.spawn_on(renewal, &self.runtime);
        })
    }

    async fn revalidate(
        &self,
        key: &Key,
        policy: Policy,
        stored: Option<Document>,
        origin: DocumentOrigin,
        guard: FlightGuard<Outcome>,
    ) {
        // Another flight may have landed between the caller's look and this one's start: then its outcome is the answer,
        // or every herd would cost a second request.
        let newest = self.documents.get(key);
        let outcome = match newest.clone().filter(|document| self.is_fresh(document, policy)) {
            Some(document) => Ok(Renewed { document, how: RenewalSource::Already }),
            None => match self.failures.recent(key) {
                Some(error) => Err(error),
                None => self.ask(key, policy, newest.or(stored), origin).await,
            },
        };
        guard.state.send_replace(Some(outcome));
    }

    /// Asks the upstream, and keeps what it says.
    async fn ask(
        &self,
        key: &Key,
        policy: Policy,
        stored: Option<Document>,
        origin: DocumentOrigin,
    ) -> Result<Renewed, FetchError> {
        let error = match origin.fetch(stored.as_ref()).await {
            Ok(fetched) => return self.store(key, stored, fetched).await,
            Err(error) => error,
        };
        match (&stored, &error) {
            (Some(document), FetchError::NotFound(_) | FetchError::Blocked) => {
                // What the upstream says of a thing that is stored is asked again as often as the thing itself would be.
                self.failures.remember(key, &error, self.policies.negative.0.max(policy.fresh));
                let was_blocked = document.meta.standing == UpstreamStatus::Blocked;
                // A block outlives the repository that it was laid on.
                let blocked = was_blocked || error == FetchError::Blocked;
                let standing = if blocked { UpstreamStatus::Blocked } else { UpstreamStatus::Gone };
                self.keep(key, &with_standing(document, standing), false).await;
            }
            _ => self.remember_failure(key, &error),
        }
        Err(error)
    }

    fn is_fresh(&self, document: &Document, policy: Policy) -> bool {
        let age = self.clock.since(document.meta.validated_at);
        document.meta.standing != UpstreamStatus::Blocked && policy.holds(age)
    }

    /// Stores what was fetched; a 304 only renews the meta of what is there.
    async fn store(
        &self,
        key: &Key,
        stored: Option<Document>,
        fetched: FetchedDocument,
    ) -> Result<Renewed, FetchError> {
        let now = self.clock.now();
        let (document, how, body_changed) = match (fetched, stored) {
            (FetchedDocument::NotModified { validators }, Some(old)) => {
                let meta = DocumentMeta {
                    validated_at: now,
                    validators,
                    standing: UpstreamStatus::Present,
                    ..(*old.meta).clone()
                };
                (Document { meta: Arc::new(meta), body: old.body }, RenewalSource::Confirmed, false)
            }
            (FetchedDocument::Changed { body, validators }, old) => {
                let digest = Digest::of(&body);
                let same = old.filter(|old| old.meta.digest == digest);
                let changed_at = same.as_ref().map_or(now, |old| old.meta.changed_at);
                let meta = DocumentMeta {
                    digest,
                    validated_at: now,
                    changed_at,
                    validators,
                    standing: UpstreamStatus::Present,
                };
                (Document { meta: Arc::new(meta), body }, RenewalSource::Sent, same.is_none())
            }
            (FetchedDocument::NotModified { .. }, None) => {
                return Err(FetchError::Invalid("not modified, though nothing was stored".into()));
            }
        };
        self.failures.forget(key);
        self.keep(key, &document, body_changed).await;
        Ok(Renewed { document, how })
    }

    fn answer(&self, document: &Document, status: CacheStatus) -> DocumentAnswer {
        let age = self.clock.since(document.meta.validated_at);
        DocumentAnswer { document: document.clone(), age, status }
    }

    /// Puts a document into memory and on disk. Trouble with the disk is logged, never an answer's fault.
    pub(super) async fn keep(&self, key: &Key, document: &Document, body_changed: bool) {
        self.generations.bump_with(key, || self.documents.put(key, document.clone()));
        let documents = self.disk.documents();
        let kept = if body_changed {
            documents.put(key, document).await
        } else {
            documents.put_meta(key, document.meta.clone()).await
        };
        if let Err(error) = kept {
            tracing::warn!(%key, %error, "document is kept in memory only");
        }
        // A reader that missed it on disk before this write, and in memory after an eviction, reads again.
        self.generations.bump(key);
    }
}

fn with_standing(document: &Document, standing: UpstreamStatus) -> Document {
    let meta = DocumentMeta { standing, ..(*document.meta).clone() };
    Document { meta: Arc::new(meta), body: document.body.clone() }
}

/// Waits for a revalidation's outcome. A task that vanished without one counts as an upstream that broke off.
async fn landed(mut state: watch::Receiver<Outcome>) -> Result<Renewed, FetchError> {
    match state.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(FetchError::Unreachable("the request was given up"))),
        Err(_) => Err(FetchError::Unreachable("the request was given up")),
    }
}

fn seconds(period: Duration) -> i64 {
    i64::try_from(period.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
