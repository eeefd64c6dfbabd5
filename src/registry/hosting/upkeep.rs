//! Published packages as an operator sees them: listed beside what is cached, exported, verified, kept and pruned.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{FailedPublication, HostedPackages, failed_publications, revision};
use crate::{
    admin_api::HostedCheck,
    blocking::spawn_blocking,
    cache::{HitStats, InventoryEntry},
    entry::Digest,
    hosted::{
        self, Backup, BackupError, ChangeError, HostedVersion, Prunable, PruneOutcome, RetentionCheck, StateChange,
        VersionNumber,
    },
    package::{PackageId, PackageName},
    registry::{inventory::Selection, keys::archive_key},
    upstream::GitRef,
};

/// Bytes of an export that are sent in one piece.
const EXPORT_CHUNK_BYTES: usize = 256 << 10;
/// Pieces of an export, and steps of a verification, that wait for their reader.
const QUEUED_CHUNKS: usize = 4;

/// The operations of an operator on published packages.
pub(crate) struct HostedUpkeep<'h> {
    hosted: &'h Arc<HostedPackages>,
}

/// A running export.
pub(crate) struct HostedExport<S> {
    /// Approximate bytes of the zips in it.
    pub(crate) zip_bytes: u64,
    /// The archive. Dropping it ends the export.
    pub(crate) chunks: S,
}

impl<'h> HostedUpkeep<'h> {
    /// The operations on these packages.
    pub(crate) fn of(hosted: &'h Arc<HostedPackages>) -> Self {
        Self { hosted }
    }

    /// Passes the selected versions that are served to `add`, in the form in which the inventory lists what is cached.
    ///
    /// # Errors
    /// When `add` panics.
    pub(crate) async fn fold<T: Send + 'static>(
        &self,
        selection: Selection,
        mut sum: T,
        add: impl Fn(&mut T, InventoryEntry) + Send + 'static,
    ) -> io::Result<T> {
        let hosted = self.hosted.clone();
        let folded = spawn_blocking(move || {
            for package in hosted.store().packages() {
                let Some(id) = HostedUpkeep::of(&hosted).id(&package.name) else { continue };
                let versions = package.versions().filter(|version| version.is_served());
                let selected = versions.filter(|version| selection.selects(&id, Some(&version.version)));
                selected.for_each(|version| add(&mut sum, entry(&id, version)));
            }
            sum
        });
        folded.await.map_err(io::Error::other)
    }

    /// The number of versions of a package that are served.
    pub(in crate::registry) fn served_count(&self, package: &PackageId) -> usize {
        let published = self.hosted.store().package(package.name.base_name());
        published.map_or(0, |published| published.versions().filter(|version| version.is_served()).count())
    }

    /// When a version was published; `None` for one that is not served.
    pub(in crate::registry) fn published_at(&self, package: &PackageId, version: &str) -> Option<Timestamp> {
        let published = self.hosted.store().package(package.name.base_name())?;
        published.version(version).filter(|version| version.is_served()).map(|version| version.published_at)
    }

    /// The selected publications that failed, the newest first.
    pub(crate) fn failed(&self, selection: &Selection, now: Timestamp) -> Vec<FailedPublication> {
        let mut failed = failed_publications(self.hosted, None, now);
        failed.retain(|failed| {
            let id = self.id(&failed.package);
            id.is_some_and(|id| selection.selects(&id, Some(&failed.version)))
        });
        failed
    }

    fn id(&self, name: &str) -> Option<PackageId> {
        Some(PackageId { upstream: self.hosted.upstream().clone(), name: PackageName::plain(name).ok()? })
    }

    /// Begins an export of everything but the zips of `known`. Until it ends, no zip is removed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(crate) async fn export(
        &self,
        known: Vec<Digest>,
        at: Timestamp,
    ) -> Result<HostedExport<impl Stream<Item = Bytes> + use<>>, BackupError> {
        let store = self.hosted.store().clone();
        let begun = spawn_blocking(move || {
            let backup = Backup::begin(&store, known.into_iter().collect())?;
            let zip_bytes = backup.zip_bytes();
            Ok((backup, zip_bytes))
        });
        let begun = begun.await.map_err(|_| BackupError::Unreadable("the store".into())).flatten();
        let (backup, zip_bytes) = begun?;
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        // An error means that the reader has left. The last entry of the archive says that it is complete.
        spawn_blocking(move || backup.write(ChunkWriter { sender, chunk: Vec::new() }, at));
        Ok(HostedExport { zip_bytes, chunks: received(receiver) })
    }

    /// Verifies everything; see [`HostedCheck`]. Dropping the stream ends it.
    pub(crate) fn verify(&self) -> impl Stream<Item = HostedCheck> + use<> {
        let hosted = self.hosted.clone();
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        spawn_blocking(move || {
            hosted::check(hosted.store(), |step| {
                if let HostedCheck::Damaged(damage) = &step
                    && let Some(digest) = &damage.sha256
                {
                    // The next request opens the zip, and compares it with its digest, again.
                    hosted.open.invalidate(digest);
                }
                if sender.blocking_send(step).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        });
        received(receiver)
    }

    /// What a rule prunes of the selected packages, in order of their names.
    ///
    /// # Errors
    /// When the record of a moving version cannot be read.
    pub(crate) async fn prunable(&self, selection: Selection, rule: Arc<RetentionCheck>) -> io::Result<Vec<Prunable>> {
        let hosted = self.hosted.clone();
        let found = spawn_blocking(move || {
            let upkeep = HostedUpkeep::of(&hosted);
            let mut found = Vec::new();
            for package in hosted.store().packages() {
                let Some(id) = upkeep.id(&package.name) else { continue };
                let prunable = hosted.store().upkeep().prunable(&package, &rule)?;
                found.extend(prunable.into_iter().filter(|one| selection.selects(&id, Some(&one.version))));
            }
            Ok(found)
        });
        found.await.map_err(io::Error::other)?
    }

    /// Prunes one part, unless the rule does not prune it any more.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn prune(
        &self,
        prunable: Prunable,
        rule: Arc<RetentionCheck>,
        change: StateChange,
    ) -> Result<PruneOutcome, ChangeError> {
        let hosted = self.hosted.clone();
        let pruned = spawn_blocking(move || {
            let pruned = hosted.store().upkeep().prune(&prunable, &rule, change);
            hosted.open.invalidate(&prunable.digest);
            pruned
        });
        pruned.await.map_err(|error| ChangeError::Io(io::Error::other(error)))?
    }

    /// Marks a version as never to be pruned, or removes the mark where `kept` is `None`.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn keep(
        &self,
        package: &PackageId,
        version: &str,
        kept: Option<StateChange>,
    ) -> Result<(), ChangeError> {
        self.hosted.change(package, version, |store, name, version| store.upkeep().keep(name, version, kept)).await
    }
}

fn entry(package: &PackageId, version: &HostedVersion) -> InventoryEntry {
    let text = version.version.to_string();
    let is_moving = VersionNumber::names_moving(&text);
    let reference =
        if is_moving { GitRef::Moving { version: text, revision: revision(version) } } else { GitRef::Tag(text) };
    InventoryEntry {
        key: archive_key(package, &reference),
        digest: version.digest,
        len: version.len,
        cost: version.len,
        keys: 1,
        stored_at: version.published_at,
        commit: None,
        last_use: version.published_at,
        hit_stats: HitStats::default(),
        kept: version.kept,
        pinned: !is_moving,
    }
}

/// What a blocking thread sends, as a stream.
fn received<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + use<T> {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|one| (one, receiver)) }).boxed()
}

/// Sends what is written in large pieces. It blocks while the reader is behind.
struct ChunkWriter {
    sender: mpsc::Sender<Bytes>,
    chunk: Vec<u8>,
}

impl ChunkWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.sender.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= EXPORT_CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
