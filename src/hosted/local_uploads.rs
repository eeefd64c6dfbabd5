//! Uploads versions that are published here alone: they are older than the primary store, or that has lost them.
//!
//! The reading of what other mirrors publish does not wait for these uploads. A version that cannot be uploaded is
//! tried again after a pause that doubles, and after the versions that have failed less often.

use std::{
    collections::BTreeMap,
    fs, io,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    HostedStore, PublishRefusal, VersionState,
    primary::{Primary, is_same},
    primary_store::{PrimaryUnavailable, PrimaryWrite},
    record::ReleaseRecord,
    record_copies::{copy_published, copy_unless_changed},
    spelling::check_spelling,
    zip_upload::{ZipsUpload, upload_zips},
};

/// The pause after the first failure of an upload; it doubles with each further failure, up to [`MAX_UPLOAD_PAUSE`].
const FIRST_UPLOAD_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before what could not be uploaded is tried again.
const MAX_UPLOAD_PAUSE: Duration = Duration::from_secs(600);

/// A version that is here alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LocalVersion {
    /// The name of the package, in lower case.
    pub(super) package: String,
    pub(super) version: String,
}

/// The versions that are here alone.
#[derive(Debug, Default)]
pub(super) struct LocalUploads(Mutex<BTreeMap<LocalVersion, LocalUpload>>);

/// The state of the upload of a version.
#[derive(Clone, Copy, Debug)]
enum LocalUpload {
    /// It failed this often in a row, and is tried again at this time.
    Waiting { failures: u32, next_at: Instant },
    /// It stays here alone: the primary store has its name in another spelling.
    OtherSpelling,
}

impl LocalUploads {
    /// Sets which versions are here alone. Those that were known keep their state.
    pub(super) fn set(&self, versions: Vec<LocalVersion>) {
        let mut uploads = self.0.lock();
        let before = std::mem::take(&mut *uploads);
        let untried = LocalUpload::Waiting { failures: 0, next_at: Instant::now() };
        uploads.extend(versions.into_iter().map(|version| {
            let upload = before.get(&version).copied().unwrap_or(untried);
            (version, upload)
        }));
    }

    /// The versions whose upload is due now, in order.
    pub(super) fn due(&self) -> Vec<LocalVersion> {
        let now = Instant::now();
        let uploads = self.0.lock();
        let due = uploads.iter().filter_map(|(version, upload)| match upload {
            LocalUpload::Waiting { failures, next_at } if *next_at <= now => Some((*failures, version)),
            _ => None,
        });
        let mut due: Vec<_> = due.collect();
        due.sort();
        due.into_iter().map(|(_, version)| version.clone()).collect()
    }

    /// Uploads the versions that are due. Blocks.
    pub(super) fn upload_due(&self, store: &HostedStore, primary: &Primary) {
        for due in self.due() {
            let uploaded = upload(store, primary, &due.package, &due.version);
            self.note(due, uploaded);
        }
    }

    /// Records the result of an upload. A version that fails twice in a row is named in the log, once.
    fn note(&self, version: LocalVersion, uploaded: Result<(), PublishRefusal>) {
        let mut uploads = self.0.lock();
        let Err(error) = uploaded else {
            uploads.remove(&version);
            return;
        };
        let LocalVersion { package, version: number } = &version;
        if !matches!(error, PublishRefusal::Unavailable(_)) {
            tracing::error!(
                %package, version = %number,
                "a version that was published here is not uploaded to the shared bucket: the package {error}"
            );
            uploads.insert(version, LocalUpload::OtherSpelling);
            return;
        }
        let before = match uploads.get(&version) {
            Some(LocalUpload::Waiting { failures, .. }) => *failures,
            _ => 0,
        };
        if before == 1 {
            tracing::error!(
                %package, version = %number,
                "a version that is published here alone cannot be uploaded to the shared bucket"
            );
        }
        let pause = FIRST_UPLOAD_PAUSE.saturating_mul(2_u32.saturating_pow(before)).min(MAX_UPLOAD_PAUSE);
        let next = LocalUpload::Waiting { failures: before.saturating_add(1), next_at: Instant::now() + pause };
        uploads.insert(version, next);
    }
}

/// Uploads a version that is published here alone. `package` is in lower case.
///
/// # Errors
/// When the primary store cannot be used.
pub(super) fn upload_if_local(
    store: &HostedStore,
    primary: &Primary,
    package: &str,
    version: &str,
) -> Result<(), PrimaryUnavailable> {
    let known = store.package(package).and_then(|package| package.version(version).cloned());
    if !known.is_some_and(|known| known.tag.is_none() && known.state != VersionState::Unreadable) {
        return Ok(());
    }
    match upload(store, primary, package, version) {
        Err(PublishRefusal::Unavailable(error)) => Err(error),
        // It stays here alone.
        _ => Ok(()),
    }
}

/// Uploads the record and the zips of a version, unless the primary store has the record.
///
/// # Errors
/// `Unavailable`, or another one where the primary store has the name in another spelling. The version is not uploaded
/// under that spelling: its zip has the name in its own spelling, and would be refused as a publication.
fn upload(store: &HostedStore, primary: &Primary, package: &str, version: &str) -> Result<(), PublishRefusal> {
    let known = store.package(package).and_then(|package| package.version(version).cloned());
    let text = fs::read(store.layout.record(package, version));
    let record = text.and_then(|text| serde_json::from_slice::<ReleaseRecord>(&text).map_err(io::Error::other));
    let mut record = match record {
        Ok(record) => record,
        Err(error) => {
            tracing::error!(%package, %version, %error, "a record that the shared bucket does not have cannot be read");
            return Ok(());
        }
    };
    check_spelling(store, primary, &record.name)?;
    if upload_zips(store, primary, &mut record)? == ZipsUpload::Unreadable {
        tracing::error!(%package, %version, "a version that is published here is not in the shared bucket");
        return Ok(());
    }
    let begun = primary.notes.begin(package);
    if primary.create(&record)? == PrimaryWrite::Done {
        tracing::info!(%package, %version, "a version that was published here is in the shared bucket now");
        copy_published(store, ReleaseRecord { tag: Some(String::new()), ..record }, None);
        drop(begun);
        primary.notes.add(&*primary.objects, package);
        return Ok(());
    }
    match primary.record(package, version)?.and_then(|found| found.record) {
        Some(there) if is_same(&there, &record) => drop(copy_published(store, there, None)),
        Some(there) => copy_unless_changed(store, there, known.as_ref()),
        None => {}
    }
    Ok(())
}
