//! Release documents: mutable, fresh for a while, then revalidated, served stale while the upstream fails.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Cache, Failure,
    flight::Landing,
    policy::{Freshness, Policy, Usable},
};
use crate::{
    entry::{Digest, Document, DocumentMeta, Key, Standing},
    http::cache_status::{CacheStatus, Fwd},
    origin::{FetchError, FetchedDocument, Origin},
};

/// Fetches one document.
pub type DocumentOrigin = Arc<dyn Origin<Fetched = FetchedDocument>>;

/// What a revalidation in flight ends with.
pub(crate) type Outcome = Option<Result<Renewed, FetchError>>;

/// A document that the upstream has just confirmed or sent.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    document: Document,
    modified: bool,
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
        if let Some(document) = &stored {
            match self.judge(document, policy) {
                Freshness::Fresh { ttl } => return answer(self, document, CacheStatus::hit(Some(seconds(ttl)))),
                Freshness::Stale { over, usable: Usable::WhileRevalidating } => {
                    if self.failures.recent(key).is_none() {
                        self.renew(key, stored.clone(), origin);
                    }
                    return answer(
                        self,
                        document,
                        CacheStatus::hit(Some(-seconds(over))).detail("stale-while-revalidate"),
                    );
                }
                Freshness::Stale { .. } => {}
            }
        }
        let (result, collapsed) = match self.failures.recent(key) {
            Some(error) => (Err(error), false),
            None => {
                let (state, collapsed) = self.renew(key, stored.clone(), origin);
                (landed(state).await, collapsed)
            }
        };
        match result {
            Ok(renewed) => {
                let code = if renewed.modified { 200 } else { 304 };
                let status = CacheStatus::forwarded(forward).status(code);
                let status = if renewed.modified { status.stored() } else { status };
                let status = if collapsed { status.collapsed() } else { status };
                answer(self, &renewed.document, status)
            }
            Err(error) => self.instead_of(error, stored, policy, forward),
        }
    }

    /// A blocked document is never served without asking again whether it still is.
    fn judge(&self, document: &Document, policy: Policy) -> Freshness {
        let age = self.clock.since(document.meta.validated_at);
        match document.meta.standing {
            Standing::Blocked => Freshness::Stale { over: age, usable: Usable::No },
            Standing::Present | Standing::Gone => policy.judge(age),
        }
    }

    /// What is stored under a key, whatever its age. A document that cannot be read counts as absent.
    pub async fn stored_document(&self, key: &Key) -> Option<Document> {
        if let Some(document) = self.documents.get(key) {
            return Some(document);
        }
        match self.disk.documents().get(key).await {
            Ok(found) => found.inspect(|document| self.documents.put(key, document.clone())),
            Err(error) => {
                tracing::warn!(target: "srm_mirror::cache", %key, %error, "stored document cannot be read");
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

    /// The stale document that is served in place of an error, or the error.
    fn instead_of(
        &self,
        error: FetchError,
        stored: Option<Document>,
        policy: Policy,
        forward: Fwd,
    ) -> Result<DocumentAnswer, Failure> {
        let status = CacheStatus::forwarded(forward);
        let status = match &error {
            FetchError::Status(code) => status.status(*code),
            FetchError::NotFound(_) => status.status(404),
            FetchError::Blocked => status.status(451),
            FetchError::Throttled { .. } => status.status(429),
            _ => status,
        };
        let Some(document) = stored else { return Err(Failure::new(error, status)) };
        let age = self.clock.since(document.meta.validated_at);
        if error == FetchError::Blocked || document.meta.standing == Standing::Blocked {
            return Err(Failure::new(FetchError::Blocked, status));
        }
        let usable = !matches!(policy.judge(age), Freshness::Stale { usable: Usable::No, .. });
        let detail = match &error {
            FetchError::NotFound(_) => "upstream-gone",
            FetchError::Throttled { .. } => "upstream-throttled",
            _ => "stale-if-error",
        };
        if !usable && error.is_trouble() {
            return Err(Failure::new(error, status));
        }
        let over = age.saturating_sub(policy.fresh);
        let mut answer = answer(self, &document, status.used_stale().ttl(-seconds(over)).detail(detail))?;
        if let FetchError::NotFound(_) = error {
            answer.document = with_standing(&document, Standing::Gone);
        }
        Ok(answer)
    }

    /// Starts or joins the one revalidation of a key. It runs to its end even when nobody waits.
    fn renew(
        self: &Arc<Self>,
        key: &Key,
        stored: Option<Document>,
        origin: DocumentOrigin,
    ) -> (watch::Receiver<Outcome>, bool) {
        self.revalidations.join(key, None, |landing| {
            let (cache, key) = (self.clone(), key.clone());
            self.tasks.spawn(async move { cache.revalidate(&key, stored, origin, landing).await });
        })
    }

    async fn revalidate(&self, key: &Key, stored: Option<Document>, origin: DocumentOrigin, landing: Landing<Outcome>) {
        // A flight that landed between the caller's look and this one has stored something newer.
        let stored = self.documents.get(key).or(stored);
        let result = origin.fetch(stored.as_ref()).await;
        let outcome = match result {
            Ok(fetched) => self.store(key, stored, fetched).await,
            Err(error) => {
                self.remember_failure(key, &error);
                if let (Some(document), FetchError::NotFound(_) | FetchError::Blocked) = (&stored, &error) {
                    let standing = if error == FetchError::Blocked { Standing::Blocked } else { Standing::Gone };
                    self.keep(key, &with_standing(document, standing), false).await;
                }
                Err(error)
            }
        };
        landing.state.send_replace(Some(outcome));
    }

    /// Stores what was fetched; a 304 only renews the meta of what is there.
    async fn store(
        &self,
        key: &Key,
        stored: Option<Document>,
        fetched: FetchedDocument,
    ) -> Result<Renewed, FetchError> {
        let now = self.clock.now();
        let (document, modified) = match (fetched, stored) {
            (FetchedDocument::NotModified { validators }, Some(old)) => {
                let meta =
                    DocumentMeta { validated_at: now, validators, standing: Standing::Present, ..(*old.meta).clone() };
                (Document { meta: Arc::new(meta), body: old.body }, false)
            }
            (FetchedDocument::Changed { body, validators }, old) => {
                let digest = Digest::of(&body);
                let same = old.filter(|old| old.meta.digest == digest);
                let changed_at = same.as_ref().map_or(now, |old| old.meta.changed_at);
                let meta =
                    DocumentMeta { digest, validated_at: now, changed_at, validators, standing: Standing::Present };
                (Document { meta: Arc::new(meta), body }, same.is_none())
            }
            (FetchedDocument::NotModified { .. }, None) => {
                return Err(FetchError::Invalid("not modified, though nothing was stored".into()));
            }
        };
        self.failures.forget(key);
        self.keep(key, &document, modified).await;
        Ok(Renewed { document, modified })
    }

    /// Puts a document into memory and on disk. Trouble with the disk is logged, never an answer's fault.
    async fn keep(&self, key: &Key, document: &Document, body_changed: bool) {
        self.documents.put(key, document.clone());
        let documents = self.disk.documents();
        let kept = if body_changed {
            documents.put(key, document).await
        } else {
            documents.put_meta(key, document.meta.clone()).await
        };
        if let Err(error) = kept {
            tracing::warn!(target: "srm_mirror::cache", %key, %error, "document is kept in memory only");
        }
    }
}

fn answer(cache: &Cache, document: &Document, status: CacheStatus) -> Result<DocumentAnswer, Failure> {
    let age = cache.clock.since(document.meta.validated_at);
    Ok(DocumentAnswer { document: document.clone(), age, status })
}

fn with_standing(document: &Document, standing: Standing) -> Document {
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
