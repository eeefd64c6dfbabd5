//! When a version was first seen: its age counts from then where its upstream has no date for it.
//!
//! Recorded beside the pins when a list or a look-up first names a tag, a commit or a revision, without a download. Eviction,
//! removal and compaction keep the record.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    cache::PinRecords,
    clock::Clock,
    entry::{Digest, Pin, Verified},
    package::PackageId,
    registry::{
        RegistryError,
        error::unreadable_pin,
        keys::{archive_key, parse_archive_key, seen_key, tag_prefix},
    },
    upstream::GitRef,
};

/// The records of when versions were first seen.
pub(in crate::registry) struct SeenVersions {
    records: PinRecords,
    clock: Clock,
}

impl SeenVersions {
    pub(in crate::registry) fn new(records: PinRecords, clock: Clock) -> Self {
        Self { records, clock }
    }

    /// When a version was first seen, by its own record or by the pin of its archive; `None` when it never was.
    pub(super) async fn known(
        &self,
        package: &PackageId,
        reference: &GitRef,
    ) -> Result<Option<Timestamp>, RegistryError> {
        let mut seen: Option<Arc<Pin>> = None;
        for key in [archive_key(package, reference), seen_key(package, reference)] {
            let pin = self.records.get(&key).await.map_err(unreadable_pin)?;
            let is_earlier = |pin: &Arc<Pin>| seen.as_ref().is_none_or(|seen| pin.first_seen < seen.first_seen);
            if let Some(pin) = pin.filter(is_earlier) {
                seen = Some(pin);
            }
        }
        Ok(seen.map(|pin| pin.first_seen))
    }

    /// As [`SeenVersions::known`]; a version that was never seen is recorded as seen now.
    pub(super) async fn get_or_record(
        &self,
        package: &PackageId,
        reference: &GitRef,
    ) -> Result<Timestamp, RegistryError> {
        if let Some(seen) = self.known(package, reference).await? {
            return Ok(seen);
        }
        let key = seen_key(package, reference);
        let digest = Digest::of(key.as_str().as_bytes());
        let verified = Verified { manifest: digest, commit: None, facts: serde_json::Value::Null };
        let pin = Pin { key, digest, len: 0, first_seen: self.clock.now(), verified };
        Ok(self.records.record(pin).await.map_err(unreadable_pin)?.first_seen)
    }

    /// The pinned tags whose archives were made from a commit.
    pub(super) async fn pinned_tags_at(&self, package: &PackageId, commit: &str) -> Result<Vec<String>, RegistryError> {
        let mut tags = Vec::new();
        for key in self.records.keys_with_prefix(&tag_prefix(package)).await.map_err(unreadable_pin)? {
            let Some((_, GitRef::Tag(tag))) = parse_archive_key(&key) else { continue };
            let pin = self.records.get(&key).await.map_err(unreadable_pin)?;
            if pin.is_some_and(|pin| pin.verified.commit.as_deref() == Some(commit)) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }
}
