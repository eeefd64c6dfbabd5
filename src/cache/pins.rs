//! Pin settlement: compares fetched or imported content with what was first seen under its key.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::archive_request::{ArchiveRequest, Pinning};
use crate::{
    entry::{Key, Meta, Pin, Verified},
    origin::FetchError,
    storage::disk::{Disk, PinEvent, SettleError},
};

/// `Retry-After` of a response while pins cannot be read or written.
const PINS_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The content that was first seen under each key. Cheap to clone.
#[derive(Clone)]
pub struct PinRecords {
    disk: Arc<Disk>,
}

/// What an import does where other content is pinned under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinConflict {
    /// The import is refused.
    Refuse,
    /// The pin is replaced: an operator demands it.
    Replace,
}

/// Why an import is not pinned.
#[derive(Debug)]
pub(super) enum ImportPinError {
    /// Other content is pinned under the key.
    Conflict,
    /// The pin records cannot be read or written.
    Io(io::Error),
}

impl PinRecords {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// What is pinned under a key.
    ///
    /// # Errors
    /// `PinsUnavailable` when the pin records cannot be read: content cannot be checked without them.
    pub async fn get(&self, key: &Key) -> Result<Option<Arc<Pin>>, FetchError> {
        self.read(key).await.map_err(|error| {
            tracing::error!(%key, %error, "the pin records cannot be read");
            pins_unavailable()
        })
    }

    /// The pin that an archive must agree with; `None` where nothing was seen yet, or where the archive is not pinned.
    ///
    /// # Errors
    /// As [`PinRecords::get`]; and for an archive that was never seen, when it could not be pinned.
    pub(super) async fn expected(&self, request: &ArchiveRequest) -> Result<Option<Arc<Pin>>, FetchError> {
        match request.pinning {
            Pinning::Pinned => {
                let pin = self.get(&request.key).await?;
                if pin.is_none() {
                    // Before the upstream is asked: what cannot be pinned cannot be served.
                    self.check_writable(&request.key).await?;
                }
                Ok(pin)
            }
            Pinning::Revision { .. } => Ok(None),
        }
    }

    async fn check_writable(&self, key: &Key) -> Result<(), FetchError> {
        self.disk.pins().check_writable().await.map_err(|error| {
            tracing::error!(%key, %error, "a new version is not fetched: it could not be pinned");
            pins_unavailable()
        })
    }

    /// As [`PinRecords::get`], with the cause.
    pub(super) async fn read(&self, key: &Key) -> io::Result<Option<Arc<Pin>>> {
        self.disk.pins().get(key).await
    }

    /// Calls `visit` with every pinned key, in order, and holds few of them in memory.
    ///
    /// # Errors
    /// As [`PinRecords::get`].
    pub async fn visit_keys(&self, visit: impl FnMut(Key)) -> Result<(), FetchError> {
        self.disk.pins().visit_keys(visit).await.map_err(|error| {
            tracing::error!(%error, "the pin records cannot be read");
            pins_unavailable()
        })
    }

    /// At most `limit` of the pinned keys that follow `after`, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) async fn keys_after(&self, after: &Key, limit: usize) -> io::Result<Vec<Key>> {
        self.disk.pins().keys_after(after.as_str(), limit).await
    }

    /// Those of `keys` that were first seen at this time at the latest.
    ///
    /// # Errors
    /// When a pin cannot be read.
    pub async fn seen_until(&self, keys: Vec<Key>, until: Timestamp) -> io::Result<Vec<Key>> {
        let mut seen = Vec::new();
        for key in keys {
            if self.read(&key).await?.is_some_and(|pin| pin.first_seen <= until) {
                seen.push(key);
            }
        }
        Ok(seen)
    }

    /// The pinned keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// As [`PinRecords::get`].
    pub async fn keys_with_prefix(&self, prefix: &str) -> Result<Vec<Key>, FetchError> {
        self.disk.pins().keys_with_prefix(prefix).await.map_err(|error| {
            tracing::error!(%error, "the pin records cannot be read");
            pins_unavailable()
        })
    }

    /// Pins what was first seen under a key that no archive has, unless something is pinned under it. Returns what is
    /// pinned then; it is durable.
    ///
    /// # Errors
    /// `PinsUnavailable` when the pin cannot be written or read.
    pub async fn record(&self, pin: Pin) -> Result<Arc<Pin>, FetchError> {
        let key = pin.key.clone();
        let new = pin.clone();
        // The decision itself returns what is pinned: a lookup beside it may return an earlier state.
        let decide = move |old: Option<Pin>| match old {
            Some(old) => Err(Box::new(old)),
            None => Ok(vec![(PinEvent::Pin, new)]),
        };
        match self.disk.pins().settle(&key, decide).await {
            Ok(()) => Ok(Arc::new(pin)),
            Err(SettleError::Refused(old)) => Ok(Arc::new(*old)),
            Err(SettleError::Io(error)) => {
                tracing::error!(%key, %error, "a pin cannot be recorded");
                Err(pins_unavailable())
            }
        }
    }

    /// Records what another mirror has pinned, unless something is pinned here. Returns what is pinned then; it is durable.
    ///
    /// # Errors
    /// `PinMismatch` where other content is pinned here; `PinsUnavailable` as [`PinRecords::record`].
    pub(super) async fn agree(&self, shared: Pin) -> Result<Arc<Pin>, FetchError> {
        let manifest = shared.verified.manifest;
        let pinned = self.record(shared).await?;
        if pinned.verified.manifest == manifest { Ok(pinned) } else { Err(FetchError::PinMismatch) }
    }

    /// Replaces a pin of this mirror that the shared bucket has not accepted by the bucket's, which counts.
    ///
    /// # Errors
    /// When the records cannot be read or written.
    pub(super) async fn replace(&self, shared: Pin) -> io::Result<()> {
        let key = shared.key.clone();
        let replace = move |old: Option<Pin>| {
            let forgotten = old.map(|old| (PinEvent::Forget, old));
            Ok::<_, std::convert::Infallible>(forgotten.into_iter().chain([(PinEvent::Pin, shared)]).collect())
        };
        Ok(self.disk.pins().settle(&key, replace).await?)
    }

    /// Compares what was fetched with its pin, or pins it, unless it is a revision. Durable when it returns: a crash must
    /// not lose the pin of a body that a client already has.
    ///
    /// The present pin counts. `known`, which was read before the download, takes its place only when the records cannot
    /// be read or written: what is pinned goes on being served.
    ///
    /// # Errors
    /// `PinMismatch` when other content is pinned; `PinsUnavailable` when nothing is known to be pinned and the pin cannot
    /// be recorded.
    pub(super) async fn settle(
        &self,
        request: &ArchiveRequest,
        known: Option<Arc<Pin>>,
        meta: &Meta,
    ) -> Result<(), FetchError> {
        if request.pinning != Pinning::Pinned {
            return Ok(());
        }
        let key = &request.key;
        let fetched = pin_of(key, meta.stored_at, meta);
        let new = fetched.clone();
        let settled = match self.disk.pins().settle(key, move |old| compare_with_pin(new, old)).await {
            Ok(()) => Ok(()),
            Err(SettleError::Refused(old)) => Err(old),
            Err(SettleError::Io(error)) => {
                tracing::error!(%key, %error, "a pin cannot be recorded");
                let known = known.ok_or_else(pins_unavailable)?;
                compare_with_pin(fetched, Some(Arc::unwrap_or_clone(known))).map(drop)
            }
        };
        match &settled {
            Ok(()) => self.disk.metrics().note_pin(),
            Err(_) => self.disk.metrics().note_pin_mismatch(),
        }
        settled.map_err(|old| {
            tracing::error!(
                %key, pinned = %old.verified.manifest, now = %meta.verified.manifest,
                first_seen = %old.first_seen, "pin-mismatch: the upstream's content has changed"
            );
            FetchError::PinMismatch
        })
    }

    /// Compares what is imported with its pin, if there is one.
    ///
    /// # Errors
    /// See [`ImportPinError`].
    pub(super) async fn check_import(
        &self,
        key: &Key,
        imported: &Verified,
        on_conflict: PinConflict,
    ) -> Result<(), ImportPinError> {
        let is_other = |pin: Arc<Pin>| pin.verified.manifest != imported.manifest;
        if on_conflict == PinConflict::Refuse && self.read(key).await.map_err(ImportPinError::Io)?.is_some_and(is_other)
        {
            return Err(ImportPinError::Conflict);
        }
        Ok(())
    }

    /// Compares what is imported with its pin, or pins it. Durable when it returns.
    ///
    /// # Errors
    /// See [`ImportPinError`].
    pub(super) async fn settle_import(&self, imported: Pin, on_conflict: PinConflict) -> Result<(), ImportPinError> {
        let key = imported.key.clone();
        let compare = move |old| match compare_with_pin(imported.clone(), old) {
            Err(old) if on_conflict == PinConflict::Replace => {
                tracing::warn!(key = %old.key, "an import replaces a pin, as an operator demands");
                Ok(vec![(PinEvent::Forget, *old), (PinEvent::Pin, imported)])
            }
            compared => compared,
        };
        self.disk.pins().settle(&key, compare).await.map_err(|error| match error {
            SettleError::Refused(_) => ImportPinError::Conflict,
            SettleError::Io(error) => ImportPinError::Io(error),
        })
    }

    /// Removes the pins of keys: the next fetch of each may have other content.
    ///
    /// # Errors
    /// The first one, when the records cannot be read or written.
    pub(super) async fn forget_all(&self, keys: Vec<Key>) -> io::Result<()> {
        self.disk.pins().forget_all(keys).await
    }
}

/// The pin of an archive.
pub(super) fn pin_of(key: &Key, first_seen: Timestamp, meta: &Meta) -> Pin {
    Pin { key: key.clone(), digest: meta.digest, len: meta.len, first_seen, verified: meta.verified.clone() }
}

fn pins_unavailable() -> FetchError {
    pins_unavailable_for(PINS_RETRY_AFTER)
}

/// The error for content that cannot be compared with a pin; it may be requested again after `retry_after`.
pub(super) fn pins_unavailable_for(retry_after: Duration) -> FetchError {
    FetchError::PinsUnavailable { retry_after }
}

/// The events to record for `new`, given the present pin: none when it has the same packing already.
///
/// # Errors
/// The old pin when its content differs.
fn compare_with_pin(new: Pin, old: Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, Box<Pin>> {
    match old {
        None => Ok(vec![(PinEvent::Pin, new)]),
        Some(old) if old.verified.manifest != new.verified.manifest => Err(Box::new(old)),
        Some(old) if old.digest == new.digest => Ok(Vec::new()),
        Some(old) => Ok(vec![(PinEvent::Packing, Pin { digest: new.digest, len: new.len, ..old })]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::fakes::TestCache, entry::Digest};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_that_record_a_pin_at_once_each_learns_the_one_that_is_kept() {
        let test = TestCache::new();
        for round in 0..20 {
            let key = Key::new(format!("package/{round}"));
            let tasks: Vec<_> = (0..8_u8)
                .map(|number| {
                    let digest = Digest([number; 32]);
                    let verified = Verified { manifest: digest, commit: None, facts: serde_json::Value::Null };
                    let pin = Pin { key: key.clone(), digest, len: 0, first_seen: Timestamp::UNIX_EPOCH, verified };
                    let pins = test.cache.pins().clone();
                    tokio::spawn(async move {
                        assert!(pins.get(&pin.key).await.is_ok());
                        pins.record(pin).await.expect("recorded").digest
                    })
                })
                .collect();
            let kept = futures_util::future::join_all(tasks).await;
            let pinned = test.cache.pins().get(&key).await.expect("read").expect("a pin").digest;
            assert!(kept.into_iter().all(|digest| digest.expect("no panic") == pinned));
        }
    }
}
