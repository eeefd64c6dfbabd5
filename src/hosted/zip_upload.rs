//! Uploads zips to the primary store before a record names them.
//!
//! A zip that no record names may be deleted there. So a zip is stored under a name that is safe for some time, and the
//! record that names it is written within that time, or a new name is requested.

use std::fs::File;

use super::{
    HostedStore, UploadedZip,
    primary::{Primary, zip_name},
    primary_store::CONTENDED,
    primary_store::{COMPARE_ATTEMPTS, PrimaryUnavailable, ZipName},
    record::ReleaseRecord,
};
use crate::entry::Digest;

/// Uploads the zip of a publication. `None`: the record of the version names these bytes already, and they are there again
/// where they were lost.
///
/// # Errors
/// When the primary store cannot be used.
pub(super) fn upload_publication(
    store: &HostedStore,
    primary: &Primary,
    package: &str,
    version: &str,
    zip: &UploadedZip,
) -> Result<Option<ZipName>, PrimaryUnavailable> {
    let known = store.package(package).and_then(|package| package.version(version).cloned());
    if known.is_some_and(|known| known.is_served() && known.digest == zip.digest)
        && let Some(there) = primary.record(package, version)?.and_then(|found| found.record)
        && there.deleted.is_none()
        && there.digest == zip.digest
    {
        primary.objects.upload(&zip_name(there.blob.as_deref(), &zip.digest), zip.file(), zip.len)?;
        return Ok(None);
    }
    upload(primary, &zip.digest, zip.file(), zip.len).map(Some)
}

/// The outcome of [`upload_zips`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZipsUpload {
    /// The primary store has all of them.
    Done,
    /// One cannot be read here.
    Unreadable,
}

/// Uploads the zips of a version that is here alone, and enters the names of their objects into its record.
///
/// # Errors
/// When the primary store cannot be used.
pub(super) fn upload_zips(
    store: &HostedStore,
    primary: &Primary,
    record: &mut ReleaseRecord,
) -> Result<ZipsUpload, PrimaryUnavailable> {
    for _ in 0..COMPARE_ATTEMPTS {
        let mut first_look = None;
        for (digest, len, blob) in record.zips_mut() {
            let file = match File::open(store.layout.blob(&digest)) {
                Ok(file) => file,
                Err(error) => {
                    tracing::error!(%digest, %error, "a published zip that the shared bucket does not have cannot be read");
                    return Ok(ZipsUpload::Unreadable);
                }
            };
            let ZipName { name, looked_at } = upload(primary, &digest, &file, len)?;
            first_look.get_or_insert(looked_at);
            *blob = Some(name);
        }
        if first_look.is_none_or(|looked_at| primary.objects.may_be_named(&looked_at)) {
            return Ok(ZipsUpload::Done);
        }
    }
    Err(CONTENDED)
}

fn upload(primary: &Primary, digest: &Digest, file: &File, len: u64) -> Result<ZipName, PrimaryUnavailable> {
    let name = primary.objects.unmarked_zip(digest)?;
    primary.objects.upload(&name.name, file, len)?;
    Ok(name)
}
