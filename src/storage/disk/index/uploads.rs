//! The table of the upload queue: the keys whose archives are not in the shared bucket yet.

use std::ops::Bound::{Excluded, Unbounded};

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};

use super::BLOBS;
use crate::entry::{Digest, Key};

/// The digest of the archive, and 1 if the bucket has its pin.
const UPLOAD_QUEUE: TableDefinition<'_, &str, (&[u8; 32], u8)> = TableDefinition::new("uploads");

/// Whether the shared bucket has the pin of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// The bucket has accepted it, or the archive is not pinned.
    Settled,
    /// It was written while the bucket could not be reached: the bucket may have another one.
    LocalOnly,
}

/// An archive that is to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedUpload {
    /// Its key.
    pub key: Key,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Whether the bucket has its pin.
    pub pin: PinState,
}

/// Creates the table where it does not exist: an index of an earlier release has none.
pub(in crate::storage::disk) fn create_upload_table(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(UPLOAD_QUEUE)?;
    Ok(())
}

/// Queues an archive; replaces an earlier entry of its key.
pub(in crate::storage::disk) fn put_upload(txn: &WriteTransaction, upload: &QueuedUpload) -> Result<(), redb::Error> {
    let settled = u8::from(upload.pin == PinState::Settled);
    txn.open_table(UPLOAD_QUEUE)?.insert(upload.key.as_str(), (&upload.digest.0, settled))?;
    Ok(())
}

/// Removes entries that still have the digest of `done`: a newer archive of a key stays queued.
pub(in crate::storage::disk) fn remove_uploads(
    txn: &WriteTransaction,
    done: &[QueuedUpload],
) -> Result<(), redb::Error> {
    let mut uploads = txn.open_table(UPLOAD_QUEUE)?;
    for upload in done {
        let same = uploads.get(upload.key.as_str())?.is_some_and(|entry| entry.value().0 == &upload.digest.0);
        if same {
            uploads.remove(upload.key.as_str())?;
        }
    }
    Ok(())
}

/// At most `limit` entries behind the key `after`, in order of their keys.
pub(in crate::storage::disk) fn uploads_after(
    txn: &ReadTransaction,
    after: &str,
    limit: usize,
) -> Result<Vec<QueuedUpload>, redb::Error> {
    let uploads = match txn.open_table(UPLOAD_QUEUE) {
        Ok(uploads) => uploads,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for item in uploads.range::<&str>((Excluded(after), Unbounded))?.take(limit) {
        let (key, value) = item?;
        let (digest, settled) = value.value();
        let pin = if settled == 1 { PinState::Settled } else { PinState::LocalOnly };
        found.push(QueuedUpload { key: Key::new(key.value()), digest: Digest(*digest), pin });
    }
    Ok(found)
}

/// The bytes that a blob takes on disk; 0 for one that is not stored.
pub(in crate::storage::disk) fn blob_cost(txn: &ReadTransaction, digest: &Digest) -> Result<u64, redb::Error> {
    Ok(BLOBS.get(txn, digest)?.map_or(0, |row| row.cost))
}
