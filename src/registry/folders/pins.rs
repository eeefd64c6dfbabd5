//! The pins of folders' versions: the tag or commit that each was first served from, and what was in the folder.
//!
//! They stand beside the pins of archives. The archive of the tag or commit has a pin of its own, for its content.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    archive::FolderFacts,
    cache::{CacheFailure, PinRecords},
    clock::Clock,
    entry::{Digest, Meta, Pin, Verified},
    http::cache_status::CacheStatus,
    origin::FetchError,
    package::{FolderPackage, with_v_toggled},
    registry::{
        RegistryError,
        keys::{folder_pin_key, folder_pin_prefix, parse_folder_pin_key},
    },
    upstream::GitRef,
};

/// The pins of folders' versions.
pub(super) struct FolderPins {
    records: PinRecords,
    clock: Clock,
}

/// What was first seen of a version.
#[derive(Clone, Debug)]
pub(super) struct FolderPin {
    pub(super) version: String,
    pub(super) reference: GitRef,
    pub(super) facts: Arc<FolderFacts>,
    /// Digest of the repository's files, whatever their packing.
    pub(super) manifest: Digest,
    pub(super) first_seen: Timestamp,
}

/// [`Verified::facts`] of a folder's pin.
#[derive(Serialize, Deserialize)]
struct FolderPinFacts {
    reference: PinnedReference,
    folder: FolderFacts,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PinnedReference {
    Tag(String),
    Commit(String),
}

impl FolderPins {
    pub(super) fn new(records: PinRecords, clock: Clock) -> Self {
        Self { records, clock }
    }

    /// The pin of exactly this version.
    pub(super) async fn get(&self, folder: &FolderPackage, version: &str) -> Result<Option<FolderPin>, RegistryError> {
        let pin = self.records.get(&folder_pin_key(folder, version)).await.map_err(unreadable)?;
        Ok(pin.and_then(|pin| FolderPin::of(&pin)))
    }

    /// The pin of a version: exactly as asked, else with `v` added or removed.
    pub(super) async fn find(&self, folder: &FolderPackage, version: &str) -> Result<Option<FolderPin>, RegistryError> {
        if let Some(pin) = self.get(folder, version).await? {
            return Ok(Some(pin));
        }
        match with_v_toggled(version) {
            Some(toggled) => self.get(folder, &toggled).await,
            None => Ok(None),
        }
    }

    /// Every pinned version, in the order of the keys.
    pub(super) async fn list(&self, folder: &FolderPackage) -> Result<Vec<FolderPin>, RegistryError> {
        let mut pins = Vec::new();
        for key in self.records.keys_with_prefix(&folder_pin_prefix(folder)).await.map_err(unreadable)? {
            let pin = self.records.get(&key).await.map_err(unreadable)?;
            pins.extend(pin.and_then(|pin| FolderPin::of(&pin)));
        }
        Ok(pins)
    }

    /// Pins a version to a tag or commit, unless it is pinned; returns the pin that holds. `archive` describes the zip of
    /// the tag or commit.
    pub(super) async fn record(
        &self,
        folder: &FolderPackage,
        version: &str,
        reference: GitRef,
        facts: &FolderFacts,
        archive: &Meta,
    ) -> Result<FolderPin, RegistryError> {
        let reference = match reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => PinnedReference::Tag(tag),
            GitRef::Commit(commit) => PinnedReference::Commit(commit),
        };
        let facts = FolderPinFacts { reference, folder: facts.clone() };
        let facts = serde_json::to_value(facts).map_err(|_| unreadable(damaged()))?;
        let pin = Pin {
            key: folder_pin_key(folder, version),
            digest: archive.digest,
            len: archive.len,
            first_seen: self.clock.now(),
            verified: Verified { facts, ..archive.verified.clone() },
        };
        let pin = self.records.record(pin).await.map_err(unreadable)?;
        FolderPin::of(&pin).ok_or_else(|| unreadable(damaged()))
    }
}

impl FolderPin {
    /// Reads a pin; `None` if it is of another form.
    fn of(pin: &Pin) -> Option<Self> {
        let (_, version) = parse_folder_pin_key(&pin.key)?;
        let FolderPinFacts { reference, folder } = FolderPinFacts::deserialize(&pin.verified.facts).ok()?;
        let reference = match reference {
            PinnedReference::Tag(tag) => GitRef::Tag(tag),
            PinnedReference::Commit(commit) => GitRef::Commit(commit),
        };
        Some(Self {
            version: version.to_owned(),
            reference,
            facts: Arc::new(folder),
            manifest: pin.verified.manifest,
            first_seen: pin.first_seen,
        })
    }
}

fn damaged() -> FetchError {
    FetchError::Refused("the pin of the folder's version cannot be read".into())
}

fn unreadable(error: FetchError) -> RegistryError {
    RegistryError::Fetch(CacheFailure { error, status: CacheStatus::generated() })
}
