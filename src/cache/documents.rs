//! The document cache: mutable documents, fresh for a while, then revalidated, served stale while the upstream fails.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;

use super::{
    BackgroundTasks, BucketTier, CacheFailure, DocumentTiers, ImportError,
    bucket_import::import_document,
    document_tiers::{DocumentChange, DocumentImport, DocumentPlace},
    loop_check::wait_unless_loop,
    negative_cache::NegativeCache,
    policy::{DocumentConfig, Freshness, Policy, StaleUse, UpstreamMode},
    single_flight::{Flight, JoinedFlight, SingleFlight},
};
use crate::{
    clock::Clock,
    entry::{Document, DocumentMeta, Key, UpstreamStatus},
    http::cache_status::{CacheStatus, Fwd, MEMORY_ONLY},
    origin::{FetchError, FetchedDocument, Origin},
};

mod renewal;

use renewal::{RenewalSource, RenewalState, RenewedDocument, Revalidation};

/// Fetches one document.
pub(crate) type DocumentOrigin = Arc<dyn Origin<Fetched = FetchedDocument>>;

/// Documents by key: looked up, revalidated, imported.
pub struct DocumentCache {
    tiers: Arc<DocumentTiers>,
    failures: NegativeCache,
    config: DocumentConfig,
    clock: Clock,
    revalidations: SingleFlight<RenewalState>,
    tasks: BackgroundTasks,
    /// The bucket with the documents of other mirrors.
    bucket: Option<Arc<BucketTier>>,
}

/// A document and how it was found.
#[derive(Clone, Debug)]
pub struct DocumentAnswer {
    /// The document; its upstream status is `Gone` when the upstream no longer has it.
    pub document: Document,
    /// Time since the upstream last confirmed it.
    pub age: Duration,
    /// What happened.
    pub status: CacheStatus,
}

impl DocumentCache {
    pub(super) fn new(
        tiers: Arc<DocumentTiers>,
        failures: NegativeCache,
        config: DocumentConfig,
        clock: Clock,
        tasks: BackgroundTasks,
    ) -> Self {
        Self { tiers, failures, config, clock, revalidations: SingleFlight::default(), tasks, bucket: None }
    }

    /// The same, with a bucket that is asked before an upstream is.
    pub(super) fn with_bucket(self, bucket: Option<Arc<BucketTier>>) -> Self {
        Self { bucket, ..self }
    }

    /// How long documents are fresh and usable.
    pub fn config(&self) -> &DocumentConfig {
        &self.config
    }

    /// Answers from what is stored where `policy` allows it, else asks `origin`, once for all concurrent requests.
    ///
    /// # Errors
    /// The fetch's error where nothing usable is stored; `Blocked` also where something is stored.
    pub async fn get(
        self: &Arc<Self>,
        key: &Key,
        policy: Policy,
        origin: DocumentOrigin,
    ) -> Result<DocumentAnswer, CacheFailure> {
        let stored = self.tiers.get(key).await;
        let forward = if stored.is_some() { Fwd::Stale } else { Fwd::UriMiss };
        let failed = self.failures.recent(key);
        if let Some(document) = &stored {
            match self.freshness(document, policy) {
                Freshness::Fresh { ttl } => return Ok(self.answer(document, CacheStatus::hit(Some(seconds_up(ttl))))),
                Freshness::Stale { over, usable: StaleUse::AsFresh } => {
                    let status = CacheStatus::hit(Some(-seconds(over))).detail(policy.mode.name());
                    return Ok(self.answer(document, status));
                }
                Freshness::Stale { over, usable: StaleUse::WhileRevalidating } if failed.is_none() => {
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
        let JoinedFlight { mut flight, collapsed } = self.renew(key, policy, stored.clone(), origin.clone());
        let patience = policy.patience.filter(|_| stored.as_ref().is_some_and(|stored| self.is_usable(stored, policy)));
        let waited = wait(&mut flight, patience);
        let waited = if collapsed { wait_unless_loop(&*origin, waited).await } else { Ok(waited.await) };
        let ended = match waited {
            Ok(Some(ended)) => ended.into_result(),
            Ok(None) => return self.stale_unrenewed(stored, policy),
            Err(in_loop) => Err(in_loop),
        };
        match ended {
            Ok(RenewedDocument { document, source }) => {
                let status = CacheStatus::forwarded(forward);
                let status = match source {
                    RenewalSource::Sent(DocumentPlace::Disk) => status.status(200).stored(),
                    RenewalSource::Sent(DocumentPlace::MemoryOnly) => status.status(200).detail(MEMORY_ONLY),
                    RenewalSource::Confirmed => status.status(304),
                    RenewalSource::EarlierFlight => status,
                    RenewalSource::Bucket => {
                        return Ok(self.answer(&document, CacheStatus::hit(None).detail("bucket")));
                    }
                };
                let collapsed = collapsed || source == RenewalSource::EarlierFlight;
                Ok(self.answer(&document, if collapsed { status.collapsed() } else { status }))
            }
            Err(error) => {
                // The revalidation may have found an old one in the bucket.
                let stored = stored.or_else(|| self.tiers.in_memory(key));
                self.stale_or_error(error, stored, policy, Some(forward))
            }
        }
    }

    /// Starts a revalidation of a stored document that is not fresh, unless one has just failed. Does not wait for it.
    pub async fn refresh(self: &Arc<Self>, key: &Key, policy: Policy, origin: DocumentOrigin) {
        let Some(document) = self.tiers.get(key).await else { return };
        if !self.is_fresh(&document, policy) && self.failures.recent(key).is_none() {
            self.renew(key, policy, Some(document), origin);
        }
    }

    /// As [`DocumentCache::refresh`], also where nothing is stored.
    pub async fn refresh_or_fetch(self: &Arc<Self>, key: &Key, policy: Policy, origin: DocumentOrigin) {
        let stored = self.tiers.get(key).await;
        let is_fresh = stored.as_ref().is_some_and(|document| self.is_fresh(document, policy));
        if !is_fresh && policy.mode == UpstreamMode::Online && self.failures.recent(key).is_none() {
            self.renew(key, policy, stored, origin);
        }
    }

    /// Starts to fetch every page of a stored list again, whatever its age: the list lacks something that the upstream has.
    /// Does not wait for it. If that fails, the next revalidation fetches every page.
    pub async fn refetch_all_pages(self: &Arc<Self>, key: &Key, policy: Policy, origin: DocumentOrigin) {
        let Some(document) = self.tiers.get(key).await else { return };
        let mut meta = (*document.meta).clone();
        meta.validators.last_full_fetch = None;
        let document = Document { meta: Arc::new(meta), body: document.body };
        self.tiers.store(key, &document, DocumentChange::Meta).await;
        if self.failures.recent(key).is_none() {
            self.renew(key, policy.at_most(Duration::ZERO), Some(document), origin);
        }
    }

    /// Marks a stored document as blocked: the upstream blocks another document of the same package.
    pub async fn block(&self, key: &Key) {
        if let Some(document) = self.tiers.get(key).await
            && document.meta.upstream_status != UpstreamStatus::Blocked
        {
            let blocked = with_upstream_status(&document, UpstreamStatus::Blocked);
            self.tiers.store(key, &blocked, DocumentChange::Meta).await;
        }
    }

    /// Imports a document from another mirror, unless a newer one is stored.
    ///
    /// # Errors
    /// `Invalid` when the body does not have the digest of its meta; `NoRoom` and `Io` when it cannot be stored;
    /// `Bucket` when it is stored here and cannot be written to the bucket.
    pub async fn import(&self, key: &Key, document: Document) -> Result<DocumentImport, ImportError> {
        let outcome = self.tiers.import(key, document).await?;
        if outcome != DocumentImport::Older {
            self.failures.forget(key);
        }
        if let Some(bucket) = self.bucket.clone()
            && let Some(stored) = self.tiers.peek(key).await
        {
            let key = key.clone();
            let written = async move { import_document(&bucket, &key, &stored).await };
            self.tasks.ask_bucket(Box::pin(written)).await?;
        }
        Ok(outcome)
    }

    /// Starts or joins the one revalidation of a key. It runs to its end even when no request waits.
    fn renew(
        self: &Arc<Self>,
        key: &Key,
        policy: Policy,
        stored: Option<Document>,
        origin: DocumentOrigin,
    ) -> JoinedFlight<RenewalState> {
        self.revalidations.join(key, |guard| {
            let revalidation = Revalidation { cache: self.clone(), key: key.clone(), policy, stored, origin };
            self.tasks.spawn(async move { guard.publish(RenewalState::Ended(revalidation.run().await)) });
        })
    }

    /// The stale document whose revalidation takes longer than the client waits.
    fn stale_unrenewed(&self, stored: Option<Document>, policy: Policy) -> Result<DocumentAnswer, CacheFailure> {
        let slow = FetchError::Timeout("the revalidation goes on");
        let mut answer = self.stale_or_error(slow, stored, policy, None)?;
        answer.status = answer.status.detail("patience");
        Ok(answer)
    }

    /// True when a document may be served although its revalidation has not ended.
    fn is_usable(&self, document: &Document, policy: Policy) -> bool {
        !matches!(self.freshness(document, policy), Freshness::Stale { usable: StaleUse::Never, .. })
    }

    /// The stale document that is served in place of an error, or the error. `forward` is `None` where this request was
    /// not forwarded, because the upstream failed a moment ago.
    fn stale_or_error(
        &self,
        error: FetchError,
        stored: Option<Document>,
        policy: Policy,
        forward: Option<Fwd>,
    ) -> Result<DocumentAnswer, CacheFailure> {
        let forward = forward.filter(|_| error.is_of_request());
        let upstream_status = match (&error, forward) {
            (FetchError::Status(code), Some(_)) => Some(*code),
            (FetchError::NotFound(_), Some(_)) => Some(404),
            (FetchError::Blocked, Some(_)) => Some(451),
            _ => None,
        };
        let forwarded = |fwd| upstream_status.into_iter().fold(CacheStatus::forwarded(fwd), CacheStatus::status);
        let Some(document) = stored else {
            let status = match (forward, &error) {
                (Some(fwd), _) => forwarded(fwd),
                // The upstream's answer is still known.
                (None, FetchError::NotFound(_) | FetchError::Blocked) => CacheStatus::hit(None).detail("remembered"),
                (None, _) => CacheStatus::generated().detail("cool-down"),
            };
            return Err(CacheFailure::new(error, status));
        };
        let age = self.age(&document.meta);
        let stale = -seconds(age.saturating_sub(policy.fresh));
        let status = match forward {
            Some(fwd) => forwarded(fwd).used_stale().ttl(stale),
            None => CacheStatus::hit(Some(stale)),
        };
        if error == FetchError::Blocked || document.meta.upstream_status == UpstreamStatus::Blocked {
            return Err(CacheFailure::new(FetchError::Blocked, status));
        }
        let usable = !matches!(policy.freshness(age), Freshness::Stale { usable: StaleUse::Never, .. });
        if !usable && error.is_trouble() {
            let status = if forward.is_some() { status } else { CacheStatus::generated().detail("cool-down") };
            return Err(CacheFailure::new(error, status));
        }
        let detail = match &error {
            FetchError::NotFound(_) => "upstream-gone",
            error if error.is_rate_limit() => "upstream-throttled",
            _ => "stale-if-error",
        };
        let mut answer = self.answer(&document, status.detail(detail));
        if let FetchError::NotFound(_) = error {
            answer.document = with_upstream_status(&document, UpstreamStatus::Gone);
        }
        Ok(answer)
    }

    /// A blocked document is revalidated before every use.
    fn freshness(&self, document: &Document, policy: Policy) -> Freshness {
        let age = self.clock.elapsed(document.meta.validated_at);
        match document.meta.upstream_status {
            UpstreamStatus::Blocked => Freshness::Stale { over: age.unwrap_or_default(), usable: StaleUse::Never },
            UpstreamStatus::Present | UpstreamStatus::Gone => {
                age.map_or_else(|| policy.freshness_of_unknown_age(), |age| policy.freshness(age))
            }
        }
    }

    fn is_fresh(&self, document: &Document, policy: Policy) -> bool {
        let freshness = self.freshness(document, policy);
        matches!(freshness, Freshness::Fresh { .. } | Freshness::Stale { usable: StaleUse::AsFresh, .. })
    }

    fn answer(&self, document: &Document, status: CacheStatus) -> DocumentAnswer {
        DocumentAnswer { document: document.clone(), age: self.age(&document.meta), status }
    }

    fn age(&self, meta: &DocumentMeta) -> Duration {
        self.clock.since(meta.validated_at)
    }
}

/// Waits for the end of a revalidation; `None` when that has run for longer than `patience`.
async fn wait(flight: &mut Flight<RenewalState>, patience: Option<Duration>) -> Option<RenewalState> {
    let Some(patience) = patience else { return Some(flight.finished().await) };
    let began = match &*flight.state() {
        RenewalState::Running { began } => *began,
        ended @ RenewalState::Ended(_) => return Some(ended.clone()),
    };
    timeout_at(began + patience, flight.finished()).await.ok()
}

fn with_upstream_status(document: &Document, upstream_status: UpstreamStatus) -> Document {
    let meta = DocumentMeta { upstream_status, ..(*document.meta).clone() };
    Document { meta: Arc::new(meta), body: document.body.clone() }
}

/// Whole seconds, rounded up: `Age` is rounded down, and both together are the whole freshness.
fn seconds_up(period: Duration) -> i64 {
    seconds(period).saturating_add(i64::from(period.subsec_nanos() > 0))
}

fn seconds(period: Duration) -> i64 {
    i64::try_from(period.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
