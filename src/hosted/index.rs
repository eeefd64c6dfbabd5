//! The index of the published packages in memory: built from the records at every start, and changed after every change
//! of a record.
//!
//! A version takes some 300 bytes; what verification found stays in its record.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::record::{RecordHead, StateChange};
use crate::entry::Digest;

/// One version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostedVersion {
    /// Its text.
    pub(crate) version: Arc<str>,
    /// SHA-256 of its zip.
    pub(crate) digest: Digest,
    /// Length of its zip in bytes.
    pub(crate) len: u64,
    /// Who published it.
    pub(crate) publisher: Arc<str>,
    /// When.
    pub(crate) published_at: Timestamp,
    /// Whether it is served.
    pub(crate) state: VersionState,
    /// True when it is never pruned.
    pub(crate) kept: bool,
    /// The earlier zips of a moving version, whose blobs are kept.
    previous: Vec<Digest>,
    /// As [`super::ReleaseRecord`] has it.
    pub(super) tag: Option<Arc<str>>,
}

/// Whether a version is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VersionState {
    /// In lists and by its name.
    Published,
    /// By its name alone.
    Yanked,
    /// Not at all: who has deleted it, and when.
    Deleted(StateChange),
    /// Not at all: its record or its zip cannot be read. The version stays taken.
    Unreadable,
}

/// One package with all its versions, those that are not served included.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostedPackage {
    /// Its name in the spelling of the first publication; of those in a primary store, where there are any.
    pub(crate) name: String,
    versions: BTreeMap<Arc<str>, HostedVersion>,
    changes: u64,
}

/// The references to one zip.
#[derive(Clone, Copy, Debug, Default)]
struct BlobUse {
    len: u64,
    references: usize,
    /// True once its bytes were compared with its digest.
    checked: bool,
}

/// All packages.
#[derive(Debug, Default)]
pub(super) struct HostedIndex {
    /// By name in lower case.
    packages: BTreeMap<String, Arc<HostedPackage>>,
    blobs: HashMap<Digest, BlobUse>,
    bytes: u64,
    /// Grows with every change.
    changes: u64,
}

impl HostedVersion {
    /// A version as its record says.
    pub(super) fn of_record(record: &RecordHead) -> Self {
        let state = match (&record.deleted, &record.yanked) {
            (Some(deleted), _) => VersionState::Deleted(deleted.clone()),
            (None, Some(_)) => VersionState::Yanked,
            (None, None) => VersionState::Published,
        };
        Self {
            version: record.version.as_str().into(),
            digest: record.digest,
            len: record.len,
            publisher: record.publisher.as_str().into(),
            published_at: record.published_at,
            state,
            kept: record.kept.is_some(),
            previous: record.previous.iter().map(|replaced| replaced.digest).collect(),
            tag: record.tag.as_deref().map(Arc::from),
        }
    }

    /// A version whose record cannot be read.
    pub(super) fn unreadable(version: &str) -> Self {
        Self {
            version: version.into(),
            digest: Digest([0; 32]),
            len: 0,
            publisher: "".into(),
            published_at: Timestamp::UNIX_EPOCH,
            state: VersionState::Unreadable,
            kept: false,
            previous: Vec::new(),
            tag: None,
        }
    }

    /// True when its zip is served under its name.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.state, VersionState::Published | VersionState::Yanked)
    }

    /// True when earlier zips of it are kept.
    pub(super) fn has_previous(&self) -> bool {
        !self.previous.is_empty()
    }

    /// The zips that it keeps.
    pub(super) fn zips(&self) -> impl Iterator<Item = &Digest> {
        self.is_served().then_some(&self.digest).into_iter().chain(&self.previous)
    }
}

impl HostedPackage {
    /// True when the primary store has, or had, a version of it.
    pub(super) fn is_in_primary(&self) -> bool {
        self.versions.values().any(|version| version.tag.is_some())
    }

    /// One version, served or not.
    pub(crate) fn version(&self, version: &str) -> Option<&HostedVersion> {
        self.versions.get(version)
    }

    /// Every version, served or not, in order of their texts.
    pub(crate) fn versions(&self) -> impl DoubleEndedIterator<Item = &HostedVersion> {
        self.versions.values()
    }

    /// Grows by one with every change of the package.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The versions of lists, the newest first.
    pub(crate) fn listed(&self) -> Vec<&HostedVersion> {
        let mut listed: Vec<&HostedVersion> =
            self.versions.values().filter(|version| version.state == VersionState::Published).collect();
        listed.sort_unstable_by(|a, b| b.published_at.cmp(&a.published_at).then_with(|| b.version.cmp(&a.version)));
        listed
    }

    /// The highest stable version in the lists.
    pub(crate) fn latest(&self) -> Option<&HostedVersion> {
        let published = self.versions.values().filter(|version| version.state == VersionState::Published);
        let stable = published.filter_map(|version| {
            let semantic = semver::Version::parse(&version.version).ok()?;
            semantic.pre.is_empty().then_some((semantic, version))
        });
        stable.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, version)| version)
    }

    /// The highest version that was ever published, deleted ones included.
    pub(crate) fn highest(&self) -> Option<semver::Version> {
        self.versions.keys().filter_map(|version| semver::Version::parse(version).ok()).max()
    }
}

impl HostedIndex {
    /// The package of this name, in any case.
    pub(super) fn package(&self, name: &str) -> Option<&Arc<HostedPackage>> {
        self.packages.get(&name.to_ascii_lowercase())
    }

    /// Every package, in order of their names.
    pub(super) fn packages(&self) -> impl Iterator<Item = &Arc<HostedPackage>> {
        self.packages.values()
    }

    /// True while a version cannot be read: its zips are then unknown, and no zip counts as unused.
    pub(super) fn has_unreadable(&self) -> bool {
        let mut versions = self.packages.values().flat_map(|package| package.versions());
        versions.any(|version| version.state == VersionState::Unreadable)
    }

    /// Grows with every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Bytes of all zips.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when a version keeps the zip.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// True once the zip's bytes were compared with its digest.
    pub(super) fn is_checked(&self, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(|blob| blob.checked)
    }

    /// Records whether the zip's bytes were compared with its digest and match.
    pub(super) fn set_checked(&mut self, digest: &Digest, is_checked: bool) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.checked = is_checked;
        }
    }

    /// The number of zips.
    pub(super) fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// The length that a zip has by its records; `None` when no version keeps it.
    pub(super) fn blob_len(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|blob| blob.len)
    }

    /// Sets a version; returns the zips that no version keeps any more, with their lengths. `lens` are the lengths of the
    /// zips that it keeps.
    pub(super) fn set(
        &mut self,
        name: &str,
        version: HostedVersion,
        lens: impl Fn(&Digest) -> u64,
    ) -> Vec<(Digest, u64)> {
        let package = self.packages.entry(name.to_ascii_lowercase()).or_default();
        let package = Arc::make_mut(package);
        // The primary store's spelling counts.
        if package.name.is_empty() || (version.tag.is_some() && !package.is_in_primary()) {
            package.name = name.to_owned();
        }
        for digest in version.zips() {
            let blob = self.blobs.entry(*digest).or_insert_with(|| {
                let len = lens(digest);
                self.bytes += len;
                BlobUse { len, ..BlobUse::default() }
            });
            blob.references += 1;
        }
        let before = package.versions.insert(version.version.clone(), version);
        package.changes += 1;
        self.changes += 1;
        let mut unused = Vec::new();
        for digest in before.iter().flat_map(HostedVersion::zips) {
            let Some(blob) = self.blobs.get_mut(digest) else { continue };
            blob.references -= 1;
            if blob.references == 0 {
                self.bytes -= blob.len;
                unused.push((*digest, blob.len));
                self.blobs.remove(digest);
            }
        }
        unused
    }
}
