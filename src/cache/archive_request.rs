//! What the cache needs to serve one archive.

use std::sync::Arc;

use crate::{
    entry::Key,
    origin::{FetchedBody, Origin, Verify},
};

/// One archive: its key, where it comes from, and what makes it good. Cheap to clone.
#[derive(Clone)]
pub struct ArchiveRequest {
    /// The key.
    pub key: Key,
    /// Fetches it.
    pub origin: Arc<dyn Origin<Fetched = FetchedBody>>,
    /// Verifies it.
    pub verify: Arc<dyn Verify>,
}
