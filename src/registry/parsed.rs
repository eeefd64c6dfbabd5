//! Parsed release documents, kept by the digest of their body.
//!
//! A large list holds a share of the memory of requests under way for as long as it lives: in the cache, and with the
//! clients that wait for its rendition.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::shared_work::SharedWorkCache;
use crate::{
    entry::Document,
    package::Releases,
    value::{
        memory_budget::{HeldMemory, MemoryBudget, MemoryShare, MemoryShortage},
        memory_weight::{CACHE_ENTRY_BYTES, MemoryWeight, Weigh, clamped, json_estimate},
    },
};

/// Largest total weight of the parsed documents in the cache, bytes.
pub const MAX_PARSED_BYTES: u64 = 32 << 20;
/// A document of at least this size is parsed on a blocking thread: a connection thread goes on with its other clients.
const LARGE_BODY_BYTES: usize = 256 << 10;

/// A bounded cache of parsed documents. An entry never goes out of date: its key is the digest of what it was parsed from.
/// Requests that wait for a document share its parsing.
pub(super) struct ParsedDocuments {
    parsed: SharedWorkCache<ParsedValue, ParseFailure>,
    memory: MemoryBudget,
}

/// Why there is no parsed document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParseFailure {
    /// It is not what it should be.
    Unreadable,
    /// There is no memory for it at present.
    NoMemory(MemoryShortage),
}

/// A value that documents are parsed into. What a document is follows from the key that it is stored under.
pub(super) trait DocumentValue: DeserializeOwned + Weigh + Send + Sync + 'static {}

impl<T: DeserializeOwned + Weigh + Send + Sync + 'static> DocumentValue for T {}

/// A document of any type.
type ParsedValue = Arc<dyn Any + Send + Sync>;

impl ParsedDocuments {
    /// An empty cache. A large document is parsed within `memory`.
    pub(super) fn new(memory: MemoryBudget) -> Self {
        Self { parsed: SharedWorkCache::new(MAX_PARSED_BYTES), memory }
    }

    /// The document as a value.
    ///
    /// # Errors
    /// See [`ParseFailure`].
    pub(super) async fn get<T: DocumentValue>(&self, document: &Document) -> Result<Arc<T>, ParseFailure> {
        let parsed = self.parsed.get_or_make(document.meta.digest, self.parse::<T>(&document.body)).await;
        let parsed = parsed.map_err(|failure| failure.map_or(ParseFailure::Unreadable, |failure| *failure))?;
        match parsed.downcast() {
            Ok(value) => Ok(value),
            // The cached value of these bytes has another type: documents of two kinds may be equal.
            Err(_) => parse(&document.body).map(Arc::new),
        }
    }

    async fn parse<T: DocumentValue>(&self, body: &Bytes) -> Result<(ParsedValue, u32), ParseFailure> {
        if body.len() < LARGE_BODY_BYTES {
            return parse::<T>(body).map(|value| weighed(value, None));
        }
        let mut share = self.memory.share();
        share.grow_to(json_estimate(body)).await.map_err(ParseFailure::NoMemory)?;
        let body = body.clone();
        let parsing = crate::blocking::spawn_blocking(move || {
            // The share is moved into the task: it is held until the parsing has ended, even if the request does not wait.
            parse::<T>(&body).map(|value| weighed(value, Some(share)))
        });
        parsing.await.unwrap_or(Err(ParseFailure::Unreadable))
    }
}

/// A value and the bytes of memory that its entry takes. `share` is what it was parsed in: a list keeps what it weighs of it.
fn weighed<T: DocumentValue>(mut value: T, share: Option<MemoryShare>) -> (ParsedValue, u32) {
    let mut weight = MemoryWeight::unlimited();
    weight.add_allocation(size_of::<T>());
    value.weigh(&mut weight);
    let weight = weight.bytes() + CACHE_ENTRY_BYTES;
    let list = (&mut value as &mut dyn Any).downcast_mut::<Releases>();
    if let Some((mut share, list)) = share.zip(list) {
        share.shrink_to(weight as u64);
        list.memory = HeldMemory::new(share);
    }
    (Arc::new(value), clamped(weight))
}

fn parse<T: DocumentValue>(body: &[u8]) -> Result<T, ParseFailure> {
    serde_json::from_slice(body).map_err(|_| ParseFailure::Unreadable)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::entry::{Digest, DocumentMeta, UpstreamStatus, Validators};

    #[tokio::test]
    async fn a_large_list_holds_its_memory_until_its_last_reader_has_left() {
        let budget = MemoryBudget::new(1 << 30, 1 << 30);
        let documents = ParsedDocuments::new(budget.clone());
        let release = r#"{"tag_name":"v1","name":null,"created_at":"2024-01-01T00:00:00Z","published_at":null,"prerelease":false,"body":"","assets":[],"rest":{"a":[1,2,3,4,5,6,7,8,9]}}"#;
        let releases = vec![release; 60_000].join(",");
        let body = Bytes::from(format!(r#"{{"releases":[{releases}],"truncated":false}}"#));
        let meta = DocumentMeta {
            digest: Digest::of(&body),
            validated_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
            validators: Validators::default(),
            upstream_status: UpstreamStatus::Present,
        };
        let document = Document { meta: Arc::new(meta), body };
        let list = documents.get::<Releases>(&document).await.expect("parsed");
        assert_eq!(documents.parsed.count().await, 0, "too large for the cache");
        let mut weight = MemoryWeight::unlimited();
        list.weigh(&mut weight);
        let held = budget.taken();
        assert!(held >= weight.bytes() as u64 && held <= weight.bytes() as u64 + (1 << 20), "{held}");
        let reader = list.clone();
        drop(list);
        assert_eq!(budget.taken(), held);
        drop(reader);
        // The cache frees a refused entry some of its own operations later.
        for _ in 0..100_000 {
            if budget.taken() == 0 {
                return;
            }
            documents.parsed.count().await;
            tokio::task::yield_now().await;
        }
        panic!("{} bytes are still held", budget.taken());
    }
}
