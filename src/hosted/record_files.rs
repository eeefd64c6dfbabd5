//! Writes records so that each is whole and durable: into the stage folder, synced, and then under its name.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{durable_files::DurableFiles, layout::HostedLayout, record::ReleaseRecord};

/// The files of the records in one directory. Writes block.
pub(super) struct RecordFiles<'s> {
    pub(super) files: &'s DurableFiles,
    pub(super) layout: &'s HostedLayout,
}

impl RecordFiles<'_> {
    /// Writes a record under a name that no file has.
    pub(super) fn create(&self, path: &Path, record: &ReleaseRecord) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.files.create_folder(folder)?;
        let staged = self.stage(record)?;
        self.files.link_new(staged.path(), path)?;
        self.files.sync_folder(folder)
    }

    /// Writes a record in place of the one at `path`. After an error either of the two is there.
    pub(super) fn replace(&self, path: &Path, record: &ReleaseRecord) -> io::Result<()> {
        let staged = self.stage(record)?;
        self.files.rename(staged.path(), path)?;
        self.files.sync_folder(path.parent().unwrap_or(Path::new("")))
    }

    fn stage(&self, record: &ReleaseRecord) -> io::Result<StagedRecord<'_>> {
        let path = self.layout.next_stage();
        let file = self.files.create(&path)?;
        let staged = StagedRecord { files: self.files, path };
        self.files.write(&file, &serde_json::to_vec(record)?)?;
        self.files.sync(&file)?;
        Ok(staged)
    }
}

/// A synced record in the stage folder; dropping it removes that name.
struct StagedRecord<'f> {
    files: &'f DurableFiles,
    path: PathBuf,
}

impl StagedRecord<'_> {
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagedRecord<'_> {
    fn drop(&mut self) {
        // The next start removes a file that stays behind.
        let _ = self.files.remove(&self.path);
    }
}
