//! The tables of the index beside the LRU tables: keys, keep marks, pins, renewed document metadata.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{BLOBS, IndexRow, IndexedKey};
use crate::entry::{Digest, Key};

const BLOB_BY_KEY: TableDefinition<'_, &str, &[u8; 32]> = TableDefinition::new("keys");
const PIN_POSITIONS: TableDefinition<'_, &str, PinRow> = TableDefinition::new("pins");
const DOCUMENT_RENEWALS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("document_renewals");
const KEPT_BLOBS: TableDefinition<'_, &[u8; 32], ()> = TableDefinition::new("kept_blobs");
/// The kept keys, stored or not: when a damaged archive is fetched again, it is kept again.
const KEPT_KEYS: TableDefinition<'_, &str, ()> = TableDefinition::new("kept_keys");

/// Pins in memory while all are moved.
const MOVED_PINS_STEP: usize = 1000;

/// Where a line of the pins journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage::disk) struct PinPosition {
    /// Offset of the line in the file, bytes.
    pub(in crate::storage::disk) offset: u64,
    /// Length of the line with its line feed, bytes.
    pub(in crate::storage::disk) len: u32,
}

/// What an event of the pins journal changes in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage::disk) enum PinUpdate {
    /// The key is pinned by the line at this position.
    Pinned(PinPosition),
    /// The key is not pinned any more.
    Removed,
}

/// A [`PinPosition`] as the table stores it: offset and length.
type PinRow = (u64, u32);

impl PinPosition {
    fn of_row((offset, len): PinRow) -> Self {
        Self { offset, len }
    }

    fn to_row(self) -> PinRow {
        (self.offset, self.len)
    }
}

pub(super) fn create(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(BLOB_BY_KEY)?;
    txn.open_table(PIN_POSITIONS)?;
    txn.open_table(DOCUMENT_RENEWALS)?;
    txn.open_table(KEPT_BLOBS)?;
    txn.open_table(KEPT_KEYS)?;
    Ok(())
}

/// The blob of a key.
pub(in crate::storage::disk) fn find_blob(txn: &ReadTransaction, key: &Key) -> Result<Option<Digest>, redb::Error> {
    Ok(txn.open_table(BLOB_BY_KEY)?.get(key.as_str())?.map(|digest| Digest(*digest.value())))
}

/// The blobs of keys; keys without a blob are left out.
pub(in crate::storage::disk) fn find_blobs<'k>(
    txn: &ReadTransaction,
    keys: &'k [Key],
) -> Result<BTreeMap<Digest, Vec<&'k Key>>, redb::Error> {
    let blob_by_key = txn.open_table(BLOB_BY_KEY)?;
    let mut blobs: BTreeMap<Digest, Vec<&Key>> = BTreeMap::new();
    for key in keys {
        if let Some(digest) = blob_by_key.get(key.as_str())? {
            blobs.entry(Digest(*digest.value())).or_default().push(key);
        }
    }
    Ok(blobs)
}

/// The keys of blobs that begin with `prefix`, in order.
pub(in crate::storage::disk) fn keys_with_prefix(txn: &ReadTransaction, prefix: &str) -> Result<Vec<Key>, redb::Error> {
    first_keys_with_prefix(txn, prefix, usize::MAX)
}

/// At most `limit` keys of blobs that begin with `prefix`, in order.
pub(in crate::storage::disk) fn first_keys_with_prefix(
    txn: &ReadTransaction,
    prefix: &str,
    limit: usize,
) -> Result<Vec<Key>, redb::Error> {
    read_keys_with_prefix(&txn.open_table(BLOB_BY_KEY)?, prefix, limit)
}

/// At most `limit` keys of a table that begin with `prefix`, in order. Reads no other ones.
fn read_keys_with_prefix<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static str, V>,
    prefix: &str,
    limit: usize,
) -> Result<Vec<Key>, redb::Error> {
    let mut keys = Vec::new();
    for item in table.range(prefix..)?.take(limit) {
        let key = item?.0;
        if !key.value().starts_with(prefix) {
            break;
        }
        keys.push(Key::new(key.value()));
    }
    Ok(keys)
}

/// The keys among `keys` that belong to another blob than `digest`: a kill may have left them in its sidecar.
pub(in crate::storage::disk) fn keys_of_other_blobs<'k>(
    txn: &ReadTransaction,
    digest: &Digest,
    keys: impl Iterator<Item = &'k Key>,
) -> Result<Vec<Key>, redb::Error> {
    let mut moved = Vec::new();
    for key in keys {
        if find_blob(txn, key)?.is_some_and(|other| other != *digest) {
            moved.push(key.clone());
        }
    }
    Ok(moved)
}

/// What a change of a blob's row replaced.
#[derive(Debug, Default)]
pub(in crate::storage::disk) struct ReplacedBlob {
    /// The earlier row of the blob.
    pub(in crate::storage::disk) row: Option<IndexRow>,
    /// The blob that the moved key belonged to before, if it was another one.
    pub(in crate::storage::disk) moved_from: Option<Digest>,
}

/// Stores a blob's row. `moved` then belongs to the blob, and so do its other keys that belong to no other blob. The hit
/// counts of an earlier row are preserved.
pub(in crate::storage::disk) fn put_blob(
    txn: &WriteTransaction,
    digest: &Digest,
    row: &IndexRow,
    moved: Option<&Key>,
) -> Result<ReplacedBlob, redb::Error> {
    let hit_stats = BLOBS.get_in_write(txn, digest)?.map(|old| old.hit_stats).unwrap_or_default();
    let old = BLOBS.put(txn, digest, &IndexRow { hit_stats, ..row.clone() })?;
    if row.is_kept() {
        txn.open_table(KEPT_BLOBS)?.insert(&digest.0, ())?;
    } else {
        txn.open_table(KEPT_BLOBS)?.remove(&digest.0)?;
    }
    let mut kept_keys = txn.open_table(KEPT_KEYS)?;
    for indexed in &row.keys {
        if indexed.kept {
            kept_keys.insert(indexed.key.as_str(), ())?;
        } else {
            kept_keys.remove(indexed.key.as_str())?;
        }
    }
    let mut blob_by_key = txn.open_table(BLOB_BY_KEY)?;
    for dropped in old.iter().flat_map(|old| &old.keys).filter(|indexed| !row.contains_key(&indexed.key)) {
        remove_key_of(&mut blob_by_key, &dropped.key, digest)?;
    }
    let mut moved_from = None;
    for IndexedKey { key, .. } in &row.keys {
        let other = blob_by_key.get(key.as_str())?.map(|other| Digest(*other.value())).filter(|other| other != digest);
        if moved == Some(key) {
            moved_from = other;
        } else if other.is_some() {
            // The key belongs to newer bytes; a kill has left it in this row.
            continue;
        }
        blob_by_key.insert(key.as_str(), &digest.0)?;
    }
    Ok(ReplacedBlob { row: old, moved_from })
}

/// Removes the rows of blobs and the keys that still belong to them; returns the rows that parse.
pub(in crate::storage::disk) fn remove_blobs(
    txn: &WriteTransaction,
    digests: &[Digest],
) -> Result<Vec<IndexRow>, redb::Error> {
    let removed = BLOBS.remove_all(txn, digests)?;
    let mut kept_blobs = txn.open_table(KEPT_BLOBS)?;
    for digest in digests {
        kept_blobs.remove(&digest.0)?;
    }
    let mut blob_by_key = txn.open_table(BLOB_BY_KEY)?;
    for (digest, row) in &removed {
        for indexed in &row.keys {
            remove_key_of(&mut blob_by_key, &indexed.key, digest)?;
        }
    }
    Ok(removed.into_iter().map(|(_, row)| row).collect())
}

fn remove_key_of(
    blob_by_key: &mut redb::Table<'_, &str, &[u8; 32]>,
    key: &Key,
    digest: &Digest,
) -> Result<(), redb::Error> {
    let belongs = blob_by_key.get(key.as_str())?.is_some_and(|found| found.value() == &digest.0);
    if belongs {
        blob_by_key.remove(key.as_str())?;
    }
    Ok(())
}

/// The blobs that are never evicted, and the cost of each in bytes.
pub(in crate::storage::disk) fn kept_blobs(txn: &ReadTransaction) -> Result<Vec<(Digest, u64)>, redb::Error> {
    let mut kept = Vec::new();
    for item in txn.open_table(KEPT_BLOBS)?.iter()? {
        let digest = Digest(*item?.0.value());
        kept.push((digest, BLOBS.get(txn, &digest)?.map_or(0, |row| row.cost)));
    }
    Ok(kept)
}

/// True for a kept key, stored or not.
pub(in crate::storage::disk) fn is_kept_key(txn: &ReadTransaction, key: &Key) -> Result<bool, redb::Error> {
    Ok(txn.open_table(KEPT_KEYS)?.get(key.as_str())?.is_some())
}

/// The kept keys that are not stored, in order.
pub(in crate::storage::disk) fn kept_missing_keys(txn: &ReadTransaction) -> Result<Vec<Key>, redb::Error> {
    let stored = txn.open_table(BLOB_BY_KEY)?;
    let mut missing = Vec::new();
    for item in txn.open_table(KEPT_KEYS)?.iter()? {
        let key = item?.0;
        if stored.get(key.value())?.is_none() {
            missing.push(Key::new(key.value()));
        }
    }
    Ok(missing)
}

/// The keys among `keys` that have a keep mark.
pub(in crate::storage::disk) fn kept_among<'k>(
    txn: &ReadTransaction,
    keys: impl IntoIterator<Item = &'k Key>,
) -> Result<Vec<&'k Key>, redb::Error> {
    let kept_keys = txn.open_table(KEPT_KEYS)?;
    let mut kept = Vec::new();
    for key in keys {
        if kept_keys.get(key.as_str())?.is_some() {
            kept.push(key);
        }
    }
    Ok(kept)
}

/// Removes the keep marks of keys.
pub(in crate::storage::disk) fn remove_kept_keys(txn: &WriteTransaction, keys: &[&Key]) -> Result<(), redb::Error> {
    let mut kept_keys = txn.open_table(KEPT_KEYS)?;
    for key in keys {
        kept_keys.remove(key.as_str())?;
    }
    Ok(())
}

/// The position of the last line about a pin in the journal.
pub(in crate::storage::disk) fn pin_position(
    txn: &ReadTransaction,
    key: &Key,
) -> Result<Option<PinPosition>, redb::Error> {
    Ok(txn.open_table(PIN_POSITIONS)?.get(key.as_str())?.map(|row| PinPosition::of_row(row.value())))
}

/// Updates pins, in the order of `updates`. `replaced` is called with each position that is there no more.
pub(in crate::storage::disk) fn update_pins(
    txn: &WriteTransaction,
    updates: &[(Key, PinUpdate)],
    mut replaced: impl FnMut(PinPosition),
) -> Result<(), redb::Error> {
    let mut positions = txn.open_table(PIN_POSITIONS)?;
    for (key, update) in updates {
        let old = match update {
            PinUpdate::Pinned(position) => positions.insert(key.as_str(), position.to_row())?,
            PinUpdate::Removed => positions.remove(key.as_str())?,
        };
        if let Some(old) = old {
            replaced(PinPosition::of_row(old.value()));
        }
    }
    Ok(())
}

/// The pinned keys among `keys`, which are read in order.
pub(in crate::storage::disk) fn pinned_among<'k>(
    txn: &ReadTransaction,
    keys: &BTreeSet<&'k Key>,
) -> Result<HashSet<&'k Key>, redb::Error> {
    let positions = txn.open_table(PIN_POSITIONS)?;
    let mut pinned = HashSet::new();
    for key in keys {
        if positions.get(key.as_str())?.is_some() {
            pinned.insert(*key);
        }
    }
    Ok(pinned)
}

/// Replaces the position of every pin by what `moved` returns for it.
pub(in crate::storage::disk) fn move_pins(
    txn: &WriteTransaction,
    moved: impl Fn(PinPosition) -> PinPosition,
) -> Result<(), redb::Error> {
    use std::ops::Bound::{Excluded, Unbounded};
    let mut positions = txn.open_table(PIN_POSITIONS)?;
    let mut last = String::new();
    loop {
        // Keys are not empty.
        let range = positions.range::<&str>((Excluded(last.as_str()), Unbounded))?.take(MOVED_PINS_STEP);
        let step = range.map(|item| item.map(|(key, row)| (key.value().to_owned(), PinPosition::of_row(row.value()))));
        let step = step.collect::<Result<Vec<_>, _>>()?;
        for (key, position) in &step {
            let new = moved(*position);
            if new != *position {
                positions.insert(key.as_str(), new.to_row())?;
            }
        }
        match step.into_iter().next_back() {
            Some((key, _)) => last = key,
            None => return Ok(()),
        }
    }
}

/// At most `limit` pinned keys behind `after`, in order.
pub(in crate::storage::disk) fn pinned_keys_after(
    txn: &ReadTransaction,
    after: &str,
    limit: usize,
) -> Result<Vec<Key>, redb::Error> {
    use std::ops::Bound::{Excluded, Unbounded};
    let positions = txn.open_table(PIN_POSITIONS)?;
    let range = positions.range::<&str>((Excluded(after), Unbounded))?;
    range.take(limit).map(|item| Ok(Key::new(item?.0.value()))).collect()
}

/// At most `limit` pinned keys that begin with `prefix`, in order.
pub(in crate::storage::disk) fn pinned_keys_with_prefix(
    txn: &ReadTransaction,
    prefix: &str,
    limit: usize,
) -> Result<Vec<Key>, redb::Error> {
    read_keys_with_prefix(&txn.open_table(PIN_POSITIONS)?, prefix, limit)
}

/// The number of pinned keys.
pub(in crate::storage::disk) fn count_pins(txn: &ReadTransaction) -> Result<u64, redb::Error> {
    use redb::ReadableTableMetadata as _;
    Ok(txn.open_table(PIN_POSITIONS)?.len()?)
}

/// Removes all pins from the index, before the journal is replayed from its beginning.
pub(in crate::storage::disk) fn clear_pins(txn: &WriteTransaction) -> Result<(), redb::Error> {
    Ok(txn.open_table(PIN_POSITIONS)?.retain(|_, _| false)?)
}

/// The renewed metadata of a document, JSON.
pub(in crate::storage::disk) fn renewal(txn: &ReadTransaction, id: &Digest) -> Result<Option<Vec<u8>>, redb::Error> {
    Ok(txn.open_table(DOCUMENT_RENEWALS)?.get(&id.0)?.map(|meta| meta.value().to_vec()))
}

/// Sets a document's renewed metadata; `None` removes it.
pub(in crate::storage::disk) fn set_renewal(
    txn: &WriteTransaction,
    id: &Digest,
    meta: Option<&[u8]>,
) -> Result<(), redb::Error> {
    let mut renewals = txn.open_table(DOCUMENT_RENEWALS)?;
    match meta {
        Some(meta) => renewals.insert(&id.0, meta)?,
        None => renewals.remove(&id.0)?,
    };
    Ok(())
}
