//! What the cache needs to serve one archive.

use std::{sync::Arc, time::Duration};

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
    /// Whether its content may change.
    pub pinning: Pinning,
    /// How long it is remembered that the origin does not have it.
    pub negative: Duration,
    /// For which side of the mirror it is.
    pub asker: Asker,
}

/// For which side of the mirror an archive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asker {
    /// For its clients: other nodes of a fleet may be asked.
    #[default]
    Client,
    /// For another node of the fleet: no node is asked again.
    Node,
}

/// Whether the content of an archive must stay what it was when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// It is pinned when it is first seen, and compared with its pin ever after.
    Pinned,
    /// It is one revision of content that changes: no pin is read or written. When it is stored, the revisions that were
    /// stored before it are removed: the archives whose keys begin with this text.
    Revision {
        /// The part of the key before the revision.
        prefix: Arc<str>,
    },
}
