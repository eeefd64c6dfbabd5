//! What the cache needs to serve one archive.

use std::{sync::Arc, time::Duration};

use crate::{
    entry::Key,
    origin::{FetchedBody, Origin, Verify},
};

/// One archive: its key, where it comes from, and how it is verified. Cheap to clone.
#[derive(Clone)]
pub struct ArchiveRequest {
    /// The key.
    pub key: Key,
    /// Fetches it.
    pub origin: Arc<dyn Origin<Fetched = FetchedBody>>,
    /// Verifies it.
    pub verify: Arc<dyn Verify>,
    /// Whether its content may change.
    pub pinning: Pinning,
    /// How long it is remembered that the origin does not have it.
    pub negative: Duration,
    /// Who requests it.
    pub asker: Asker,
}

/// Who requests an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asker {
    /// A client of this mirror: other nodes of the fleet may be asked for it.
    #[default]
    Client,
    /// Another node of the fleet: no further node is asked for it.
    Node,
}

/// Whether the content of an archive must stay what it was when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// It is pinned when it is first seen, and compared with its pin from then on.
    Pinned,
    /// It is one revision of content that changes: no pin is read or written. When it is stored, the revisions that were
    /// stored before it are removed: the archives whose keys begin with `prefix`.
    Revision {
        /// The part of the key before the revision.
        prefix: Arc<str>,
    },
}
