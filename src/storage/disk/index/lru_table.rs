//! Rows in order of last use, for blobs and for documents.

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Digest, Key},
    storage::{HitStats, usage::PendingUsage},
};

type RowId = &'static [u8; 32];

/// The index row of one stored file: all that an inventory shows, so that listing opens no sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::storage::disk) struct IndexRow {
    /// Length of the blob or document file, bytes.
    pub(in crate::storage::disk) len: u64,
    /// Bytes that count against the budget, sidecar included.
    pub(in crate::storage::disk) cost: u64,
    /// The last use, by the clock of [`super::super::pending_updates::PendingUpdates`].
    #[serde(rename = "used")]
    pub(in crate::storage::disk) last_use: u64,
    /// The keys of the file.
    #[serde(rename = "names")]
    pub(in crate::storage::disk) keys: Vec<IndexedKey>,
    /// Hits since the file was stored.
    #[serde(default, rename = "tally", skip_serializing_if = "is_zero")]
    pub(in crate::storage::disk) hit_stats: HitStats,
}

/// A key of a stored file, with what an inventory shows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::storage::disk) struct IndexedKey {
    pub(in crate::storage::disk) key: Key,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::storage::disk) kept: bool,
    /// When the bytes were fetched; the epoch for documents.
    #[serde(default, skip_serializing_if = "is_epoch")]
    pub(in crate::storage::disk) stored_at: Timestamp,
    /// The commit that the bytes were made from, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::storage::disk) commit: Option<String>,
}

impl IndexedKey {
    /// The key of a document.
    pub(in crate::storage::disk) fn of_document(key: Key) -> Self {
        Self { key, kept: false, stored_at: Timestamp::UNIX_EPOCH, commit: None }
    }
}

impl IndexRow {
    /// The row of a file without hits.
    pub(in crate::storage::disk) fn new(len: u64, cost: u64, last_use: u64, keys: Vec<IndexedKey>) -> Self {
        Self { len, cost, last_use, keys, hit_stats: HitStats::default() }
    }

    pub(in crate::storage::disk) fn contains_key(&self, key: &Key) -> bool {
        self.keys.iter().any(|indexed| indexed.key == *key)
    }

    /// True if one of the keys is kept: then the file is never evicted.
    pub(in crate::storage::disk) fn is_kept(&self) -> bool {
        self.keys.iter().any(|indexed| indexed.kept)
    }
}

fn is_zero(stats: &HitStats) -> bool {
    *stats == HitStats::default()
}

fn is_epoch(at: &Timestamp) -> bool {
    *at == Timestamp::UNIX_EPOCH
}

/// The rows of one kind of file.
pub(in crate::storage::disk) struct LruTable {
    rows: TableDefinition<'static, RowId, &'static [u8]>,
    order: TableDefinition<'static, (u64, RowId), u64>,
    /// Names of the counters for the sum of costs and the number of rows; updated in the same write as the rows.
    bytes_counter: &'static str,
    rows_counter: &'static str,
}

/// The size of an [`LruTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage::disk) struct LruTotals {
    /// The sum of all costs in bytes.
    pub(in crate::storage::disk) bytes: u64,
    /// The number of rows.
    pub(in crate::storage::disk) rows: u64,
}

/// Blobs, by their digest.
pub(in crate::storage::disk) const BLOBS: LruTable = LruTable {
    rows: TableDefinition::new("blobs"),
    order: TableDefinition::new("blobs_by_use"),
    bytes_counter: "blob_bytes",
    rows_counter: "blob_count",
};

/// Documents, by the digest of their key.
pub(in crate::storage::disk) const DOCUMENTS: LruTable = LruTable {
    rows: TableDefinition::new("documents"),
    order: TableDefinition::new("documents_by_use"),
    bytes_counter: "document_bytes",
    rows_counter: "document_count",
};

impl LruTable {
    pub(super) fn create(&self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        txn.open_table(self.rows)?;
        txn.open_table(self.order)?;
        Ok(())
    }

    pub(in crate::storage::disk) fn get(
        &self,
        txn: &ReadTransaction,
        id: &Digest,
    ) -> Result<Option<IndexRow>, redb::Error> {
        Ok(txn.open_table(self.rows)?.get(&id.0)?.and_then(|row| parse_row(row.value())))
    }

    /// As [`LruTable::get`], inside a write.
    pub(in crate::storage::disk) fn get_in_write(
        &self,
        txn: &WriteTransaction,
        id: &Digest,
    ) -> Result<Option<IndexRow>, redb::Error> {
        Ok(txn.open_table(self.rows)?.get(&id.0)?.and_then(|row| parse_row(row.value())))
    }

    /// Stores a row and returns the row it replaces.
    pub(in crate::storage::disk) fn put(
        &self,
        txn: &WriteTransaction,
        id: &Digest,
        row: &IndexRow,
    ) -> Result<Option<IndexRow>, redb::Error> {
        let old = self.remove(txn, id)?;
        let bytes = serde_json::to_vec(row).map_err(std::io::Error::from)?;
        txn.open_table(self.rows)?.insert(&id.0, bytes.as_slice())?;
        txn.open_table(self.order)?.insert((row.last_use, &id.0), row.cost)?;
        self.update_totals(txn, |LruTotals { bytes, rows }| LruTotals { bytes: bytes + row.cost, rows: rows + 1 })?;
        Ok(old)
    }

    /// Removes a row and returns it, if it parses.
    fn remove(&self, txn: &WriteTransaction, id: &Digest) -> Result<Option<IndexRow>, redb::Error> {
        Ok(self.remove_all(txn, [id])?.pop().map(|(_, row)| row))
    }

    /// Removes rows and returns those that parse.
    pub(in crate::storage::disk) fn remove_all<'a>(
        &self,
        txn: &WriteTransaction,
        ids: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<Vec<(Digest, IndexRow)>, redb::Error> {
        let mut rows = txn.open_table(self.rows)?;
        let mut order = txn.open_table(self.order)?;
        let mut removed = Vec::new();
        let mut sum = LruTotals { bytes: 0, rows: 0 };
        for id in ids {
            let Some(old) = rows.remove(&id.0)?.map(|row| parse_row(row.value())) else { continue };
            let cost = match &old {
                Some(row) => order.remove((row.last_use, &id.0))?.map(|cost| cost.value()),
                // A row that does not parse has lost its place in the order, but its cost is still counted.
                None => {
                    order.extract_if(|(_, other), _| other == &id.0)?.next().transpose()?.map(|(_, cost)| cost.value())
                }
            };
            sum.bytes += cost.unwrap_or_else(|| old.as_ref().map_or(0, |row| row.cost));
            sum.rows += 1;
            removed.extend(old.map(|row| (*id, row)));
        }
        if sum.rows > 0 {
            self.update_totals(txn, |LruTotals { bytes, rows }| LruTotals {
                bytes: bytes.saturating_sub(sum.bytes),
                rows: rows.saturating_sub(sum.rows),
            })?;
        }
        Ok(removed)
    }

    pub(in crate::storage::disk) fn totals(&self, txn: &ReadTransaction) -> Result<LruTotals, redb::Error> {
        let bytes = super::counter(txn, self.bytes_counter)?;
        Ok(LruTotals { bytes, rows: super::counter(txn, self.rows_counter)? })
    }

    fn update_totals(
        &self,
        txn: &WriteTransaction,
        update: impl FnOnce(LruTotals) -> LruTotals,
    ) -> Result<(), redb::Error> {
        let mut counters = txn.open_table(super::COUNTERS)?;
        let get = |name: &str| Ok::<_, redb::Error>(counters.get(name)?.map_or(0, |number| number.value()));
        let totals = update(LruTotals { bytes: get(self.bytes_counter)?, rows: get(self.rows_counter)? });
        counters.insert(self.bytes_counter, totals.bytes)?;
        counters.insert(self.rows_counter, totals.rows)?;
        Ok(())
    }

    /// Applies pending usage; ignores ids without a row.
    pub(in crate::storage::disk) fn apply_usage<'a>(
        &self,
        txn: &WriteTransaction,
        pending: impl IntoIterator<Item = (&'a Digest, &'a PendingUsage)>,
    ) -> Result<(), redb::Error> {
        let mut rows = txn.open_table(self.rows)?;
        let mut order = txn.open_table(self.order)?;
        for (id, usage) in pending {
            let row = rows.get(&id.0)?.and_then(|row| parse_row(row.value()));
            if let Some(mut row) = row {
                if row.last_use < usage.last_use {
                    order.remove((row.last_use, &id.0))?;
                    row.last_use = usage.last_use;
                    order.insert((row.last_use, &id.0), row.cost)?;
                }
                row.hit_stats.add(usage.hit_stats);
                let bytes = serde_json::to_vec(&row).map_err(std::io::Error::from)?;
                rows.insert(&id.0, bytes.as_slice())?;
            }
        }
        Ok(())
    }

    /// Calls `visit` with id and cost of each row, least recently used first, until it returns false.
    pub(in crate::storage::disk) fn visit_by_use(
        &self,
        txn: &ReadTransaction,
        mut visit: impl FnMut(Digest, u64) -> bool,
    ) -> Result<(), redb::Error> {
        for item in txn.open_table(self.order)?.iter()? {
            let (key, cost) = item?;
            if !visit(Digest(*key.value().1), cost.value()) {
                break;
            }
        }
        Ok(())
    }

    /// The latest use of all rows; 0 if there are none.
    pub(in crate::storage::disk) fn last_use(&self, txn: &ReadTransaction) -> Result<u64, redb::Error> {
        Ok(txn.open_table(self.order)?.last()?.map_or(0, |(key, _)| key.value().0))
    }

    /// All rows, in order of ids; `None` for a row that does not parse.
    pub(in crate::storage::disk) fn all(
        &self,
        txn: &ReadTransaction,
    ) -> Result<Vec<(Digest, Option<IndexRow>)>, redb::Error> {
        self.range(txn, Digest([0; 32]), Digest([0xff; 32]))
    }

    /// True without a row.
    pub(in crate::storage::disk) fn is_empty(&self, txn: &ReadTransaction) -> Result<bool, redb::Error> {
        Ok(txn.open_table(self.rows)?.is_empty()?)
    }

    /// All rows whose id begins with this byte, as [`LruTable::all`].
    pub(in crate::storage::disk) fn shard(
        &self,
        txn: &ReadTransaction,
        first: u8,
    ) -> Result<Vec<(Digest, Option<IndexRow>)>, redb::Error> {
        let mut from = Digest([0; 32]);
        let mut to = Digest([0xff; 32]);
        from.0[0] = first;
        to.0[0] = first;
        self.range(txn, from, to)
    }

    fn range(
        &self,
        txn: &ReadTransaction,
        from: Digest,
        to: Digest,
    ) -> Result<Vec<(Digest, Option<IndexRow>)>, redb::Error> {
        let table = txn.open_table(self.rows)?;
        let rows = table.range::<&[u8; 32]>(&from.0..=&to.0)?.map(|item| {
            let (id, row) = item?;
            Ok((Digest(*id.value()), parse_row(row.value())))
        });
        rows.collect()
    }

    /// The first id after `id` whose row parses.
    pub(in crate::storage::disk) fn next_id(
        &self,
        txn: &ReadTransaction,
        id: Digest,
    ) -> Result<Option<Digest>, redb::Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let table = txn.open_table(self.rows)?;
        for item in table.range::<&[u8; 32]>((Excluded(&id.0), Unbounded))? {
            let (id, row) = item?;
            if parse_row(row.value()).is_some() {
                return Ok(Some(Digest(*id.value())));
            }
        }
        Ok(None)
    }

    /// Replaces a row's bytes with bytes that do not parse.
    #[cfg(test)]
    pub(super) fn garble(&self, txn: &WriteTransaction, id: &Digest) -> Result<(), redb::Error> {
        txn.open_table(self.rows)?.insert(&id.0, &b"{"[..])?;
        Ok(())
    }
}

/// A row that does not parse counts as absent: the next rescan replaces it.
fn parse_row(bytes: &[u8]) -> Option<IndexRow> {
    serde_json::from_slice(bytes).ok()
}
