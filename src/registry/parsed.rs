//! Parsed release documents, kept by the digest of their body.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    entry::{Digest, Document},
    value::{
        memory_budget::{MemoryBudget, MemoryShortage},
        memory_weight::{CACHE_ENTRY_BYTES, MemoryWeight, Weigh, clamped, json_estimate},
    },
};

/// Largest total weight of the parsed documents, bytes.
const MAX_PARSED_BYTES: u64 = 32 << 20;
/// A document of at least this size is parsed on a blocking thread: a connection thread goes on with its other clients.
const LARGE_BODY_BYTES: usize = 256 << 10;

/// A bounded cache of parsed documents. An entry never goes out of date: its key is the digest of what it was parsed from.
/// Requests that wait for a document share its parsing.
pub(super) struct ParsedDocuments {
    parsed: moka::future::Cache<Digest, ParsedDocument>,
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

#[derive(Clone)]
struct ParsedDocument {
    value: Arc<dyn Any + Send + Sync>,
    /// Bytes of memory that its entry takes.
    weight: u32,
}

impl ParsedDocuments {
    /// An empty cache. A large document is parsed within `memory`.
    pub(super) fn new(memory: MemoryBudget) -> Self {
        let weigher = |_: &Digest, parsed: &ParsedDocument| parsed.weight;
        Self { parsed: moka::future::Cache::builder().max_capacity(MAX_PARSED_BYTES).weigher(weigher).build(), memory }
    }

    /// The document as a value.
    ///
    /// # Errors
    /// See [`ParseFailure`].
    pub(super) async fn get<T: DocumentValue>(&self, document: &Document) -> Result<Arc<T>, ParseFailure> {
        let digest = &document.meta.digest;
        let parsed = match self.parsed.get(digest).await {
            Some(parsed) => parsed,
            None => {
                self.parsed.try_get_with(*digest, self.parse::<T>(&document.body)).await.map_err(|failure| *failure)?
            }
        };
        match parsed.value.downcast() {
            Ok(value) => Ok(value),
            // The same bytes are another document, too: an empty list is one of releases, tags and branches.
            Err(_) => parse(&document.body).map(Arc::new),
        }
    }

    async fn parse<T: DocumentValue>(&self, body: &Bytes) -> Result<ParsedDocument, ParseFailure> {
        if body.len() < LARGE_BODY_BYTES {
            return parse::<T>(body).map(ParsedDocument::new);
        }
        let mut share = self.memory.share();
        share.grow_to(json_estimate(body)).await.map_err(ParseFailure::NoMemory)?;
        let body = body.clone();
        let parsing = tokio::task::spawn_blocking(move || {
            // Until the parsing has ended, whether the request waits or not.
            let _share = share;
            parse::<T>(&body).map(ParsedDocument::new)
        });
        parsing.await.unwrap_or(Err(ParseFailure::Unreadable))
    }
}

impl ParsedDocument {
    fn new<T: DocumentValue>(value: T) -> Self {
        let mut weight = MemoryWeight::unlimited();
        weight.add_allocation(size_of::<T>());
        value.weigh(&mut weight);
        Self { value: Arc::new(value), weight: clamped(weight.bytes() + CACHE_ENTRY_BYTES) }
    }
}

fn parse<T: DocumentValue>(body: &[u8]) -> Result<T, ParseFailure> {
    serde_json::from_slice(body).map_err(|_| ParseFailure::Unreadable)
}
