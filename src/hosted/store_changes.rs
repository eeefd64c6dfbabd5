//! Publications and changes of versions, in the directory or, with a primary store, there first.

use std::path::Path;

use super::{
    HostedStore, HostedVersion, NewRelease, ReleaseRecord, StateChange, VersionState, primary_changes,
    store::{ChangeError, Publication, PublishRefusal, earlier_zips},
    unreadable,
    upkeep::StoreUpkeep,
    upload::{UploadError, UploadedZip},
};

impl HostedStore {
    /// Publishes a verified zip. When this returns, it is durable and visible. Blocks.
    ///
    /// # Errors
    /// [`PublishRefusal`]; then nothing has changed.
    pub(crate) fn publish(&self, mut zip: UploadedZip, release: NewRelease) -> Result<Publication, PublishRefusal> {
        if let Some(primary) = &self.primary {
            return primary_changes::publish(self, primary, zip, release);
        }
        let _changing = self.changing.lock();
        self.check(&release.name, &release.version)?;
        let folded = release.name.to_ascii_lowercase();
        let known = self.package(&folded).and_then(|package| package.version(release.version.as_str()).cloned());
        let mut previous = Vec::new();
        let mut kept = None;
        match &known {
            Some(known) if known.is_served() && known.digest == zip.digest => {
                return Ok(Publication::Unchanged(known.clone()));
            }
            Some(known) if !release.version.is_moving() => {
                let change = StateChange { by: known.publisher.to_string(), at: known.published_at };
                return Err(PublishRefusal::Taken(change));
            }
            Some(_) => {
                let record = self.record(&folded, release.version.as_str()).map_err(UploadError::from)?;
                kept.clone_from(&record.kept);
                previous = earlier_zips(record);
            }
            None => {}
        }
        let record = ReleaseRecord { kept, previous, ..ReleaseRecord::new(release, &zip) };
        let is_new_blob = !self.index.read().has_blob(&zip.digest);
        let stored = if is_new_blob { zip.staged.publish(&self.layout, &zip.digest) } else { Ok(()) };
        let path = self.layout.record(&folded, &record.version);
        let written = stored.and_then(|()| match known {
            None => self.record_files().create(&path, &record),
            Some(_) => self.record_files().replace(&path, &record),
        });
        if let Err(error) = written {
            self.undo_publication(&folded, &path, &record, is_new_blob, known.is_none());
            return Err(UploadError::from(error).into());
        }
        Ok(Publication::Created(self.note(&record)))
    }

    /// Removes what a publication that failed has written. If that fails too, the version is entered into the index.
    fn undo_publication(&self, folded: &str, path: &Path, record: &ReleaseRecord, is_new_blob: bool, is_new: bool) {
        if !is_new {
            // A record that was replaced, but not synced, counts.
            if self.record(folded, &record.version).is_ok_and(|present| present == *record) {
                self.note(record);
                return;
            }
        } else if self.files.remove(path).is_err() && path.exists() {
            self.note(record);
            return;
        }
        // An export may still read a zip that no version keeps.
        if is_new_blob && !self.held.holds(&record.digest) {
            // The next start removes one that stays.
            let _ = self.files.remove(&self.layout.blob(&record.digest));
        }
    }

    /// Deletes a version, and leaves a tombstone. Its zip is removed unless another version has the same one. Readers keep
    /// the file open. Blocks.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn delete(&self, name: &str, version: &str, change: StateChange) -> Result<HostedVersion, ChangeError> {
        if unreadable::is_unreadable(self, name, version) {
            return unreadable::delete(self, name, version, change);
        }
        self.change(name, version, |record| record.delete(change.clone()))
    }

    /// Takes a version out of the lists. Blocks.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn yank(&self, name: &str, version: &str, change: StateChange) -> Result<HostedVersion, ChangeError> {
        self.change(name, version, |record| record.yanked = Some(change.clone()))
    }

    /// Puts a version into the lists again. Blocks.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) fn unyank(&self, name: &str, version: &str) -> Result<HostedVersion, ChangeError> {
        self.change(name, version, |record| record.yanked = None)
    }

    /// Listing, checking, keeping and pruning.
    pub(crate) fn upkeep(&self) -> StoreUpkeep<'_> {
        StoreUpkeep::new(self)
    }

    pub(super) fn change(
        &self,
        name: &str,
        version: &str,
        mut change: impl FnMut(&mut ReleaseRecord),
    ) -> Result<HostedVersion, ChangeError> {
        let changed = self.change_if(name, version, |record| {
            change(record);
            true
        });
        changed?.ok_or(ChangeError::Unknown)
    }

    /// Changes the record of a version unless `change` returns false, which it decides while nothing else changes here.
    /// `None`: nothing was changed. With a primary store, `change` is called again where another mirror was first.
    pub(super) fn change_if(
        &self,
        name: &str,
        version: &str,
        mut change: impl FnMut(&mut ReleaseRecord) -> bool,
    ) -> Result<Option<HostedVersion>, ChangeError> {
        if let Some(primary) = &self.primary {
            return primary_changes::change_if(self, primary, name, version, &mut change);
        }
        let _changing = self.changing.lock();
        let package = self.package(name).ok_or(ChangeError::Unknown)?;
        match &package.version(version).ok_or(ChangeError::Unknown)?.state {
            VersionState::Deleted(change) => return Err(ChangeError::Deleted(change.clone())),
            VersionState::Published | VersionState::Yanked | VersionState::Unreadable => {}
        }
        // Dropped before the change: the index copies a package that is still referenced.
        drop(package);
        let folded = name.to_ascii_lowercase();
        let mut record = self.record(&folded, version)?;
        if !change(&mut record) {
            return Ok(None);
        }
        let written = self.record_files().replace(&self.layout.record(&folded, version), &record);
        // A record that was replaced, but not synced, counts.
        if written.is_ok() || self.record(&folded, version).is_ok_and(|present| present == record) {
            let changed = self.note(&record);
            written?;
            return Ok(Some(changed));
        }
        written?;
        Ok(None)
    }
}
