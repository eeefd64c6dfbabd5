//! Downloads a zip from the primary store into the directory. The file gets its name after its digest was compared.

use std::{io, time::Duration};

use super::{
    HostedStore, UploadError,
    primary::zip_name,
    primary_store::{PrimaryDownloadError, PrimaryUnavailable},
};
use crate::entry::Digest;

/// Why a zip is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZipDownloadError {
    /// The primary store cannot be used; when to try again.
    Unavailable(Duration),
    /// The primary store does not have its bytes.
    Damaged,
    /// The directory has no room for it.
    NoRoom,
    /// The directory cannot be written.
    Unwritable,
    /// No version has it any more, or there is no primary store.
    Unknown,
}

impl From<io::Error> for ZipDownloadError {
    fn from(error: io::Error) -> Self {
        UploadError::from(error).into()
    }
}

impl From<UploadError> for ZipDownloadError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Full(_) => Self::NoRoom,
            UploadError::Io(error) => {
                tracing::error!(%error, "the directory of published packages cannot be written");
                Self::Unwritable
            }
        }
    }
}

/// Downloads a zip of this length, unless it is here. `blob` is its object, as the record names it. Blocks.
///
/// # Errors
/// [`ZipDownloadError`].
pub(crate) fn download_zip(
    store: &HostedStore,
    digest: &Digest,
    len: u64,
    blob: Option<&str>,
) -> Result<(), ZipDownloadError> {
    let primary = store.primary.as_ref().ok_or(ZipDownloadError::Unknown)?;
    // A download may have ended since the caller found nothing.
    if store.is_checked(digest) && store.open_zip(digest).is_ok() {
        return Ok(());
    }
    let name = zip_name(blob, digest);
    let mut upload = store.upload()?;
    let mut full = None;
    let downloaded = primary.objects.download(&name, len, &mut |bytes| {
        upload.write(bytes).map_err(|error| {
            full = Some(error);
            io::ErrorKind::Other.into()
        })
    });
    match downloaded {
        Ok(()) => {}
        Err(PrimaryDownloadError::Unavailable(PrimaryUnavailable { retry_after })) => {
            return Err(ZipDownloadError::Unavailable(retry_after));
        }
        Err(PrimaryDownloadError::Damaged) => return Err(damaged(digest, &name)),
        Err(PrimaryDownloadError::Write(error)) => return Err(full.map_or_else(|| error.into(), Into::into)),
    }
    let mut zip = upload.finish()?;
    if zip.digest != *digest || zip.len != len {
        return Err(damaged(digest, &name));
    }
    let _changing = store.changing.lock();
    if !store.index.read().has_blob(digest) {
        return Err(ZipDownloadError::Unknown);
    }
    zip.staged.publish(&store.layout, digest)?;
    if let Some(copies) = &store.copies {
        copies.add(digest, len);
        copies.set_removable(digest);
        store.space.set_stored(copies.bytes());
    }
    store.set_checked(digest);
    Ok(())
}

fn damaged(digest: &Digest, name: &str) -> ZipDownloadError {
    tracing::error!(%digest, object = %name, "a published zip in the shared bucket is missing or damaged");
    ZipDownloadError::Damaged
}

/// Calls `listener` with the digest of every copy that is removed, so that open handles on it are closed.
pub(crate) fn on_zip_removal(store: &HostedStore, listener: impl Fn(&Digest) + Send + Sync + 'static) {
    if let Some(copies) = &store.copies {
        copies.on_removal(listener);
    }
}

/// Removes a copy whose bytes do not have its digest, if the primary store has the zip. Blocks.
pub(crate) fn discard_copy(store: &HostedStore, digest: &Digest) {
    let Some(copies) = store.copies.as_ref().filter(|copies| copies.is_removable(digest)) else { return };
    tracing::warn!(%digest, "the copy of a published zip is damaged, and is downloaded again");
    if copies.remove(digest).is_ok() {
        store.space.set_stored(copies.bytes());
    }
}
