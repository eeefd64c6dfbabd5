//! Packages that are published on this mirror: their zips, one record per version, and the directory they are kept in.
//!
//! This is data, not cache: nothing here is evicted, a version is written once, and a deleted version leaves a tombstone,
//! so that its name and number are never used again. The directory is held by one process. All of it stands in files: the
//! index in memory is rebuilt from the records at every start.
//!
//! A publication has this order: the zip is written into `stage/` and synced; it gets its name among the blobs, and that
//! folder is synced; the record is written, synced and linked under its name, which fails where there is one; that folder
//! is synced. So there is never a record without its zip, and a kill leaves all of a version or nothing.
//!
//! Where several mirrors share a bucket, that is the primary store ([`primary_store`]), and the directory is a copy of it: publications and
//! changes are done there first ([`primary_changes`]), every mirror follows ([`following`]), and a zip that is not here is
//! downloaded when it is asked for ([`zip_download`]).

mod backup;
mod change_notes;
mod check;
mod config;
mod copies;
mod durable_files;
mod failed;
mod following;
mod held_zips;
mod index;
mod layout;
mod local_uploads;
mod primary;
mod primary_changes;
mod primary_store;
mod record;
mod record_copies;
mod record_files;
mod reservations;
mod restore;
mod retention;
mod shared_failures;
mod space;
mod spelling;
mod spent;
mod startup;
mod store;
mod store_changes;
mod unreadable;
mod upkeep;
mod upload;
mod version;
mod zip_download;
mod zip_hold;
mod zip_upload;

#[cfg(test)]
mod tests;

pub(crate) use backup::{Backup, BackupError, BackupFile, BackupFileError, BackupProblem, BackupSummary};
pub(crate) use check::check;
pub use config::{Config, HostedKind};
pub(crate) use failed::FailedPublication;
pub(crate) use following::{HostedFollower, is_complete, is_copy, refresh, refresh_version};
pub(crate) use index::{HostedPackage, HostedVersion, VersionState};
pub use primary::zips_of_record;
pub(crate) use primary_store::{
    ListedRecord, PrimaryDownloadError, PrimaryObject, PrimaryPage, PrimaryStore, PrimaryUnavailable, PrimaryWrite,
    ZipName,
};
pub(crate) use record::{NewRelease, PublishForm, ReleaseRecord, StateChange};
pub(crate) use reservations::{ReservationUse, ReservingError, SharedReservation, extend, reservation, reserve, spend};
pub(crate) use restore::{RestoreError, RestoreProblem, RestoreReport, restore};
pub(crate) use retention::{RetentionCheck, RetentionRule};
pub(crate) use shared_failures::{share_failure, shared_failures};
pub(crate) use space::HostedSpaceFull;
pub(crate) use startup::OpenHostedError;
pub(crate) use store::{ChangeError, HostedStore, Publication, PublishRefusal};
pub(crate) use upkeep::{Prunable, PruneOutcome, PrunedPart};
pub(crate) use upload::{HostedUpload, UploadError, UploadedZip};
pub(crate) use version::{VersionNumber, VersionNumberError};
pub(crate) use zip_download::{ZipDownloadError, discard_copy, download_zip, on_zip_removal};
