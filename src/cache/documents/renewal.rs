//! One revalidation of one document, for all requests that wait for it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{DocumentCache, DocumentOrigin, with_upstream_status};
use crate::{
    cache::{
        document_tiers::{DocumentChange, DocumentPlace},
        policy::Policy,
        single_flight::FlightState,
    },
    entry::{Digest, Document, DocumentMeta, Key, UpstreamStatus},
    origin::{FetchError, FetchedDocument},
    shared::BucketDocument,
};

/// The state of a revalidation.
#[derive(Clone, Debug)]
pub(super) enum RenewalState {
    Running {
        /// When it began.
        began: Instant,
    },
    Ended(Result<RenewedDocument, FetchError>),
}

/// A document that is as new as the request's policy demands.
#[derive(Clone, Debug)]
pub(super) struct RenewedDocument {
    pub(super) document: Document,
    pub(super) source: RenewalSource,
}

/// What renewed a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenewalSource {
    /// The upstream sent it, and it is kept there.
    Sent(DocumentPlace),
    /// The upstream said that it has not changed.
    Confirmed,
    /// An earlier revalidation that ended between the caller's lookup and the start of this one.
    EarlierFlight,
    /// Another mirror, which has written it to the bucket.
    Bucket,
}

impl FlightState for RenewalState {
    fn requested() -> Self {
        Self::Running { began: Instant::now() }
    }

    fn aborted() -> Self {
        Self::Ended(Err(aborted()))
    }

    fn is_final(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

impl RenewalState {
    /// The outcome of the final state.
    pub(super) fn into_result(self) -> Result<RenewedDocument, FetchError> {
        match self {
            Self::Ended(result) => result,
            Self::Running { .. } => Err(aborted()),
        }
    }
}

fn aborted() -> FetchError {
    FetchError::Unreachable("the request was aborted")
}

/// True for a document that an upstream has confirmed later than the stored one.
fn is_later(shared: &Document, stored: Option<&Document>) -> bool {
    stored.is_none_or(|stored| stored.meta.validated_at < shared.meta.validated_at)
}

/// One revalidation and everything it needs.
pub(super) struct Revalidation {
    pub(super) cache: Arc<DocumentCache>,
    pub(super) key: Key,
    pub(super) policy: Policy,
    pub(super) stored: Option<Document>,
    pub(super) origin: DocumentOrigin,
}

impl Revalidation {
    /// Renews the document, unless an earlier revalidation has done so or failed a moment ago: without this check, many
    /// concurrent requests would often cost a second request to the upstream.
    pub(super) async fn run(self) -> Result<RenewedDocument, FetchError> {
        let newest = self.cache.tiers.in_memory(&self.key);
        if let Some(document) = newest.clone().filter(|document| self.cache.is_fresh(document, self.policy)) {
            return Ok(RenewedDocument { document, source: RenewalSource::EarlierFlight });
        }
        if let Some(error) = self.cache.failures.recent(&self.key) {
            return Err(error);
        }
        let mut stored = newest.or_else(|| self.stored.clone());
        let found = self.find_in_bucket().await;
        let shared = found.as_ref().and_then(|found| found.document.clone());
        if let Some(document) = shared.filter(|shared| is_later(shared, stored.as_ref())) {
            self.cache.tiers.store(&self.key, &document, DocumentChange::Body).await;
            if self.cache.is_fresh(&document, self.policy) {
                return Ok(RenewedDocument { document, source: RenewalSource::Bucket });
            }
            stored = Some(document);
        }
        match self.origin.fetch(stored.as_ref()).await {
            Ok(fetched) => {
                let renewed = self.store(stored, fetched).await?;
                self.put_in_bucket(&renewed.document, found);
                Ok(renewed)
            }
            Err(error) => {
                self.record_failure(stored, &error).await;
                Err(error)
            }
        }
    }

    async fn find_in_bucket(&self) -> Option<BucketDocument> {
        self.cache.bucket.as_ref()?.document(&self.key).await
    }

    /// Writes a document to the bucket for the other mirrors, in the background.
    fn put_in_bucket(&self, document: &Document, found: Option<BucketDocument>) {
        let (Some(bucket), Some(found)) = (self.cache.bucket.clone(), found) else { return };
        let key = self.key.clone();
        let document = document.clone();
        self.cache.tasks.spawn(async move { bucket.put_document(&key, &document, found).await });
    }

    async fn record_failure(&self, stored: Option<Document>, error: &FetchError) {
        let cache = &self.cache;
        match (stored, error) {
            (Some(document), FetchError::NotFound(_) | FetchError::Blocked) => {
                // Not requested more often than the document itself would be.
                let period = self.policy.negative.max(self.policy.fresh);
                cache.failures.remember_for(&self.key, error, period);
                // A blocked package that disappears stays blocked.
                let blocked = document.meta.upstream_status == UpstreamStatus::Blocked || *error == FetchError::Blocked;
                let status = if blocked { UpstreamStatus::Blocked } else { UpstreamStatus::Gone };
                cache.tiers.store(&self.key, &with_upstream_status(&document, status), DocumentChange::Meta).await;
            }
            _ => cache.failures.remember(&self.key, error, self.policy.negative),
        }
    }

    /// Stores what was fetched; a 304 renews only the meta.
    async fn store(&self, stored: Option<Document>, fetched: FetchedDocument) -> Result<RenewedDocument, FetchError> {
        let cache = &self.cache;
        let now = cache.clock.now();
        match (fetched, stored) {
            (FetchedDocument::NotModified { validators }, Some(old)) => {
                let meta = DocumentMeta {
                    validated_at: now,
                    validators,
                    upstream_status: UpstreamStatus::Present,
                    ..(*old.meta).clone()
                };
                let document = Document { meta: Arc::new(meta), body: old.body };
                cache.failures.forget(&self.key);
                cache.tiers.store(&self.key, &document, DocumentChange::Meta).await;
                Ok(RenewedDocument { document, source: RenewalSource::Confirmed })
            }
            (FetchedDocument::Changed { body, validators }, old) => {
                let digest = Digest::of(&body);
                let same = old.filter(|old| old.meta.digest == digest);
                let meta = DocumentMeta {
                    digest,
                    validated_at: now,
                    changed_at: same.as_ref().map_or(now, |old| old.meta.changed_at),
                    validators,
                    upstream_status: UpstreamStatus::Present,
                };
                // The same body may be in memory only, for want of room or by a failure of the disk.
                let is_on_disk = same.is_some() && cache.tiers.is_on_disk(&self.key, &digest).await;
                let change = if is_on_disk { DocumentChange::Meta } else { DocumentChange::Body };
                let document = Document { meta: Arc::new(meta), body };
                cache.failures.forget(&self.key);
                let place = cache.tiers.store(&self.key, &document, change).await;
                Ok(RenewedDocument { document, source: RenewalSource::Sent(place) })
            }
            (FetchedDocument::NotModified { .. }, None) => {
                Err(FetchError::Invalid("not modified, though nothing is stored".into()))
            }
        }
    }
}
