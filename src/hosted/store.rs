//! The store: what is published is looked up in memory, and a record is durable before it is visible.

use std::{
    fs::{self, File},
    io,
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::{
    VersionNumber,
    copies::ZipCopies,
    durable_files::DurableFiles,
    failed::FailedPublications,
    held_zips::HeldZips,
    index::{HostedIndex, HostedPackage, HostedVersion, VersionState},
    layout::HostedLayout,
    primary::Primary,
    primary_store::PrimaryUnavailable,
    record::{MAX_PREVIOUS_ZIPS, RecordHead, ReleaseRecord, ReplacedZip, StateChange},
    record_files::RecordFiles,
    space::HostedSpace,
    spent::SpentUploads,
    upload::{HostedUpload, UploadError},
};
use crate::entry::Digest;

/// The published packages of one directory, which this process holds. One per process. Changes and reads of records block.
#[derive(Debug)]
pub(crate) struct HostedStore {
    pub(super) layout: Arc<HostedLayout>,
    pub(super) files: Arc<DurableFiles>,
    pub(super) space: Arc<HostedSpace>,
    pub(super) index: RwLock<HostedIndex>,
    /// The publications that failed.
    pub(crate) failed: FailedPublications,
    /// The upload addresses that were used.
    pub(crate) spent: SpentUploads,
    /// Held during a change of records, so that the index agrees with the records.
    pub(super) changing: Mutex<()>,
    /// The zips that may not be removed at present.
    pub(super) held: Arc<HeldZips>,
    /// The primary store, if this directory is a copy of it.
    pub(super) primary: Option<Primary>,
    /// The zips of a directory that is a copy.
    pub(super) copies: Option<Arc<ZipCopies>>,
    /// Freed when the store is dropped.
    pub(super) _lock: File,
}

/// A publication that succeeded.
#[derive(Debug, PartialEq)]
pub(crate) enum Publication {
    /// The version is new, or a moving one has other bytes now.
    Created(HostedVersion),
    /// The version had exactly these bytes.
    Unchanged(HostedVersion),
}

/// Why a version is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishRefusal {
    /// It has other bytes.
    #[error("was published by {} on {} with other content", .0.by, .0.at)]
    Taken(StateChange),
    /// It was deleted, so it is never used again.
    #[error("was deleted by {} on {}, and a deleted version is never used again", .0.by, .0.at)]
    Deleted(StateChange),
    /// It is not above the highest one.
    #[error("is not above the highest published version, {0}")]
    NotAbove(semver::Version),
    /// The package exists in another spelling.
    #[error("is published as {0}; names differ in more than case")]
    OtherCase(String),
    /// The first publication of the package, which may have failed, was in another spelling.
    #[error("is taken in the spelling {0}; names differ in more than case")]
    OtherSpelling(String),
    /// Its record or its zip cannot be read.
    #[error("is in the store, and cannot be read")]
    Unreadable,
    /// No room, or the file system fails.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The primary store cannot be used.
    #[error(transparent)]
    Unavailable(#[from] PrimaryUnavailable),
}

/// Why the state of a version is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is no such version.
    #[error("there is no such version")]
    Unknown,
    /// It is deleted.
    #[error("was deleted by {} on {}", .0.by, .0.at)]
    Deleted(StateChange),
    /// The file system fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The primary store cannot be used.
    #[error(transparent)]
    Unavailable(#[from] PrimaryUnavailable),
}

impl HostedStore {
    /// The package of this name, in any case; with its deleted versions.
    pub(crate) fn package(&self, name: &str) -> Option<Arc<HostedPackage>> {
        self.index.read().package(name).cloned()
    }

    /// Every package.
    pub(crate) fn packages(&self) -> Vec<Arc<HostedPackage>> {
        self.index.read().packages().cloned().collect()
    }

    /// Grows with every change.
    pub(crate) fn changes(&self) -> u64 {
        self.index.read().changes()
    }

    /// The record of a version that is or was published. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn record(&self, name: &str, version: &str) -> io::Result<ReleaseRecord> {
        let folded = name.to_ascii_lowercase();
        let text = fs::read(self.layout.record(&folded, version));
        let read = text.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        match &self.primary {
            Some(primary) if read.is_err() => {
                let found = primary.record(&folded, version).map_err(io::Error::other)?;
                found.and_then(|found| found.record).map_or(read, Ok)
            }
            _ => read,
        }
    }

    /// Opens the zip of a version. Blocks.
    ///
    /// # Errors
    /// When the file system fails.
    pub(crate) fn open_zip(&self, digest: &Digest) -> io::Result<File> {
        self.note_use(digest);
        File::open(self.layout.blob(digest))
    }

    /// Records that a zip is served: the least recently used copies make room for others.
    pub(crate) fn note_use(&self, digest: &Digest) {
        self.copies.iter().for_each(|copies| copies.note_use(digest));
    }

    /// True once the bytes of a zip were compared with its digest.
    pub(crate) fn is_checked(&self, digest: &Digest) -> bool {
        self.index.read().is_checked(digest)
    }

    /// Notes that the bytes of a zip are those of its digest.
    pub(crate) fn set_checked(&self, digest: &Digest) {
        self.index.write().set_checked(digest, true);
    }

    /// True when an upload that begins now could write. Blocks for a moment.
    pub(crate) fn has_room(&self) -> bool {
        self.space.has_room()
    }

    /// Begins an upload. Blocks.
    ///
    /// # Errors
    /// When the file system fails.
    pub(crate) fn upload(&self) -> Result<HostedUpload, UploadError> {
        HostedUpload::create(&self.files, &self.space, &self.layout)
    }

    /// Checks, before the zip is there, whether a version may be published. Changes nothing.
    ///
    /// # Errors
    /// [`PublishRefusal`]; a version with a zip is no error, since the same bytes may be sent again.
    pub(crate) fn check(&self, name: &str, version: &VersionNumber) -> Result<(), PublishRefusal> {
        let Some(package) = self.package(name) else { return Ok(()) };
        if package.name != name {
            return Err(PublishRefusal::OtherCase(package.name.clone()));
        }
        if let Some(known) = package.version(version.as_str()) {
            return match &known.state {
                VersionState::Deleted(change) if !version.is_moving() => Err(PublishRefusal::Deleted(change.clone())),
                VersionState::Unreadable => Err(PublishRefusal::Unreadable),
                _ => Ok(()),
            };
        }
        match (version.semantic(), package.highest()) {
            (Some(version), Some(highest)) if *version <= highest => Err(PublishRefusal::NotAbove(highest)),
            _ => Ok(()),
        }
    }

    /// The files of the records.
    pub(super) fn record_files(&self) -> RecordFiles<'_> {
        RecordFiles { files: &self.files, layout: &self.layout }
    }

    /// Enters a durable record into the index, and removes the zips that no version keeps any more.
    pub(super) fn note(&self, record: &ReleaseRecord) -> HostedVersion {
        let head = RecordHead::from(record);
        let version = HostedVersion::of_record(&head);
        let len = |digest: &Digest| {
            let previous = record.previous.iter().find(|replaced| replaced.digest == *digest);
            previous.map_or(record.len, |replaced| replaced.len)
        };
        let mut index = self.index.write();
        let unused = index.set(&record.name, version.clone(), len);
        let removed = self.held.removable_now(unused, version.zips());
        let stored = index.bytes() + self.held.bytes();
        drop(index);
        for digest in removed {
            if let Err(error) = self.remove_zip(&digest) {
                tracing::warn!(%digest, %error, "the zip of a deleted version cannot be removed; the next start tries again");
            }
        }
        self.space.set_stored(self.copies.as_ref().map_or(stored, |copies| copies.bytes()));
        version
    }

    /// Removes the file of a zip.
    pub(super) fn remove_zip(&self, digest: &Digest) -> io::Result<()> {
        match &self.copies {
            Some(copies) => copies.remove(digest),
            None => self.files.remove(&self.layout.blob(digest)),
        }
    }
}

/// The earlier zips of a moving version after another publication: the present one is the newest of them.
pub(super) fn earlier_zips(record: ReleaseRecord) -> Vec<ReplacedZip> {
    let mut previous = record.previous;
    if record.deleted.is_none() {
        let ReleaseRecord { digest, len, publisher, published_at, blob, .. } = record;
        previous.push(ReplacedZip { digest, len, publisher, published_at, blob });
    }
    previous.drain(..previous.len().saturating_sub(MAX_PREVIOUS_ZIPS));
    previous
}
