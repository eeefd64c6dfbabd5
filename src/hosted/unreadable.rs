//! Deletes versions that cannot be read: their record or their zip is lost or damaged. All functions block.

use std::io;

use super::{
    ChangeError, HostedStore, HostedVersion, StateChange, VersionState, primary_changes, record::ReleaseRecord,
    startup::remove_unused_blobs,
};
use crate::entry::Digest;

/// True for a version that cannot be read.
pub(super) fn is_unreadable(store: &HostedStore, name: &str, version: &str) -> bool {
    let package = store.package(name);
    let version = package.as_ref().and_then(|package| package.version(version));
    version.is_some_and(|version| version.state == VersionState::Unreadable)
}

/// Deletes such a version, and leaves a tombstone. Its zips are removed once every other version can be read.
///
/// # Errors
/// [`ChangeError`].
pub(super) fn delete(
    store: &HostedStore,
    name: &str,
    version: &str,
    change: StateChange,
) -> Result<HostedVersion, ChangeError> {
    let deleted = match store.change(name, version, |record| record.delete(change.clone())) {
        Err(ChangeError::Io(error)) => write_tombstone(store, name, version, change, error)?,
        deleted => deleted?,
    };
    remove_unused_zips(store);
    Ok(deleted)
}

/// Writes the tombstone of a version whose record cannot be read.
///
/// # Errors
/// `error` for any other version.
fn write_tombstone(
    store: &HostedStore,
    name: &str,
    version: &str,
    change: StateChange,
    error: io::Error,
) -> Result<HostedVersion, ChangeError> {
    if let Some(primary) = &store.primary {
        let package = store.package(name).ok_or(ChangeError::Unknown)?;
        let tombstone = ReleaseRecord::tombstone(&package.name, version, change);
        return primary_changes::write_tombstone(store, primary, tombstone);
    }
    let _changing = store.changing.lock();
    let package = store.package(name).filter(|_| is_unreadable(store, name, version));
    let Some(package) = package.filter(|_| store.record(name, version).is_err()) else {
        return Err(error.into());
    };
    let tombstone = ReleaseRecord::tombstone(&package.name, version, change);
    store.record_files().replace(&store.layout.record(&name.to_ascii_lowercase(), version), &tombstone)?;
    Ok(store.note(&tombstone))
}

/// Removes the zips that no version keeps: the index did not have those of the deleted one.
fn remove_unused_zips(store: &HostedStore) {
    let _changing = store.changing.lock();
    if store.index.read().has_unreadable() {
        return;
    }
    // The index is locked for each zip anew: connection threads read it.
    let is_used = |digest: &Digest| store.index.read().has_blob(digest) || store.held.holds(digest);
    if let Err(error) = remove_unused_blobs(&store.layout, &store.files, is_used) {
        tracing::warn!(%error, "the zips of a deleted version cannot be removed; the next start tries again");
    }
}
