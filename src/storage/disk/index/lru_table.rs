//! Rows in order of last use: the same for blobs and for documents.

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Digest, Key},
    storage::{HitStats, usage::PendingUsage},
};

type Id = &'static [u8; 32];

/// What the index knows of one stored file: all that a list of the stock shows, so that nobody opens a sidecar for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::storage::disk) struct Row {
    /// Length of the blob or document file, bytes.
    pub(in crate::storage::disk) len: u64,
    /// What it counts against the budget, sidecar included, bytes.
    pub(in crate::storage::disk) cost: u64,
    /// When it was last used, by [`super::super::pending_updates::PendingUpdates`]'s clock.
    pub(in crate::storage::disk) used: u64,
    /// The keys that lead to it.
    pub(in crate::storage::disk) names: Vec<Name>,
    /// What it has answered since it was stored.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(in crate::storage::disk) tally: HitStats,
}

/// A key that leads to a stored file, and what is shown of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::storage::disk) struct Name {
    pub(in crate::storage::disk) key: Key,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::storage::disk) kept: bool,
    /// When the bytes were fetched; of documents it is not noted here.
    #[serde(default, skip_serializing_if = "is_epoch")]
    pub(in crate::storage::disk) stored_at: Timestamp,
    /// The commit it was made from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::storage::disk) commit: Option<String>,
}

impl Name {
    /// A key alone.
    pub(in crate::storage::disk) fn of(key: Key) -> Self {
        Self { key, kept: false, stored_at: Timestamp::UNIX_EPOCH, commit: None }
    }
}

impl Row {
    /// A file that has answered nothing yet.
    pub(in crate::storage::disk) fn new(len: u64, cost: u64, used: u64, names: Vec<Name>) -> Self {
        Self { len, cost, used, names, tally: HitStats::default() }
    }

    /// True when a key leads to it.
    pub(in crate::storage::disk) fn has(&self, key: &Key) -> bool {
        self.names.iter().any(|name| name.key == *key)
    }

    /// True when one of the keys is never evicted: then the file is not.
    pub(in crate::storage::disk) fn is_kept(&self) -> bool {
        self.names.iter().any(|name| name.kept)
    }
}

fn is_none(tally: &HitStats) -> bool {
    *tally == HitStats::default()
}

fn is_epoch(at: &Timestamp) -> bool {
    *at == Timestamp::UNIX_EPOCH
}

/// One kind of rows.
pub(in crate::storage::disk) struct LruTable {
    rows: TableDefinition<'static, Id, &'static [u8]>,
    order: TableDefinition<'static, (u64, Id), u64>,
    /// Names of the sum of all costs and of the number of rows; they change in the same write as the rows.
    bytes: &'static str,
    count: &'static str,
}

/// Blobs, by their digest.
pub(in crate::storage::disk) const BLOBS: LruTable = LruTable {
    rows: TableDefinition::new("blobs"),
    order: TableDefinition::new("blobs_by_use"),
    bytes: "blob_bytes",
    count: "blob_count",
};

/// Documents, by the digest of their key.
pub(in crate::storage::disk) const DOCUMENTS: LruTable = LruTable {
    rows: TableDefinition::new("documents"),
    order: TableDefinition::new("documents_by_use"),
    bytes: "document_bytes",
    count: "document_count",
};

impl LruTable {
    pub(super) fn create(&self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        txn.open_table(self.rows)?;
        txn.open_table(self.order)?;
        Ok(())
    }

    pub(in crate::storage::disk) fn get(&self, txn: &ReadTransaction, id: &Digest) -> Result<Option<Row>, redb::Error> {
        Ok(txn.open_table(self.rows)?.get(&id.0)?.and_then(|row| parse(row.value())))
    }

    /// The row inside a write.
    pub(in crate::storage::disk) fn peek(
        &self,
        txn: &WriteTransaction,
        id: &Digest,
    ) -> Result<Option<Row>, redb::Error> {
        Ok(txn.open_table(self.rows)?.get(&id.0)?.and_then(|row| parse(row.value())))
    }

    /// Puts a row and returns the one it replaces.
    pub(in crate::storage::disk) fn put(
        &self,
        txn: &WriteTransaction,
        id: &Digest,
        row: &Row,
    ) -> Result<Option<Row>, redb::Error> {
        let old = self.remove(txn, id)?;
        let bytes = serde_json::to_vec(row).map_err(std::io::Error::from)?;
        txn.open_table(self.rows)?.insert(&id.0, bytes.as_slice())?;
        txn.open_table(self.order)?.insert((row.used, &id.0), row.cost)?;
        self.count(txn, |bytes, count| (bytes + row.cost, count + 1))?;
        Ok(old)
    }

    /// Removes a row and returns it, if it could be read.
    pub(in crate::storage::disk) fn remove(
        &self,
        txn: &WriteTransaction,
        id: &Digest,
    ) -> Result<Option<Row>, redb::Error> {
        let mut rows = txn.open_table(self.rows)?;
        let Some(old) = rows.remove(&id.0)?.map(|row| parse(row.value())) else { return Ok(None) };
        let mut order = txn.open_table(self.order)?;
        let cost = match &old {
            Some(row) => order.remove((row.used, &id.0))?.map(|cost| cost.value()),
            // It does not say any more where it stands, but it still counts.
            None => order.extract_if(|(_, other), _| other == &id.0)?.next().transpose()?.map(|(_, cost)| cost.value()),
        };
        let cost = cost.unwrap_or_else(|| old.as_ref().map_or(0, |row| row.cost));
        self.count(txn, |bytes, count| (bytes.saturating_sub(cost), count.saturating_sub(1)))?;
        Ok(old)
    }

    /// The sum of all costs in bytes, and the number of rows.
    pub(in crate::storage::disk) fn totals(&self, txn: &ReadTransaction) -> Result<(u64, u64), redb::Error> {
        Ok((super::state(txn, self.bytes)?, super::state(txn, self.count)?))
    }

    fn count(&self, txn: &WriteTransaction, change: impl FnOnce(u64, u64) -> (u64, u64)) -> Result<(), redb::Error> {
        let mut state = txn.open_table(super::STATE)?;
        let get = |name: &str| Ok::<_, redb::Error>(state.get(name)?.map_or(0, |number| number.value()));
        let (bytes, count) = change(get(self.bytes)?, get(self.count)?);
        state.insert(self.bytes, bytes)?;
        state.insert(self.count, count)?;
        Ok(())
    }

    /// Notes later uses; nothing happens to rows that are gone.
    pub(in crate::storage::disk) fn touch<'a>(
        &self,
        txn: &WriteTransaction,
        uses: impl IntoIterator<Item = (&'a Digest, &'a PendingUsage)>,
    ) -> Result<(), redb::Error> {
        let mut rows = txn.open_table(self.rows)?;
        let mut order = txn.open_table(self.order)?;
        for (id, noted) in uses {
            let row = rows.get(&id.0)?.and_then(|row| parse(row.value()));
            if let Some(mut row) = row {
                if row.used < noted.last {
                    order.remove((row.used, &id.0))?;
                    row.used = noted.last;
                    order.insert((row.used, &id.0), row.cost)?;
                }
                row.tally.add(noted.tally);
                let bytes = serde_json::to_vec(&row).map_err(std::io::Error::from)?;
                rows.insert(&id.0, bytes.as_slice())?;
            }
        }
        Ok(())
    }

    /// Picks rows, least recently used first: `pick` gets id and cost and answers false to stop.
    pub(in crate::storage::disk) fn by_use(
        &self,
        txn: &ReadTransaction,
        mut pick: impl FnMut(Digest, u64) -> bool,
    ) -> Result<(), redb::Error> {
        for item in txn.open_table(self.order)?.iter()? {
            let (key, cost) = item?;
            if !pick(Digest(*key.value().1), cost.value()) {
                break;
            }
        }
        Ok(())
    }

    /// The latest use of all.
    pub(in crate::storage::disk) fn last_use(&self, txn: &ReadTransaction) -> Result<u64, redb::Error> {
        Ok(txn.open_table(self.order)?.last()?.map_or(0, |(key, _)| key.value().0))
    }

    /// Every row whose id lies in the range, in order; one that cannot be read is `None`.
    pub(in crate::storage::disk) fn range(
        &self,
        txn: &ReadTransaction,
        from: Digest,
        to: Digest,
    ) -> Result<Vec<(Digest, Option<Row>)>, redb::Error> {
        let table = txn.open_table(self.rows)?;
        let rows = table.range::<&[u8; 32]>(&from.0..=&to.0)?.map(|item| {
            let (id, row) = item?;
            Ok((Digest(*id.value()), parse(row.value())))
        });
        rows.collect()
    }

    /// The first row after `id`, in order of ids.
    pub(in crate::storage::disk) fn after(
        &self,
        txn: &ReadTransaction,
        id: Digest,
    ) -> Result<Option<(Digest, Row)>, redb::Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let table = txn.open_table(self.rows)?;
        for item in table.range::<&[u8; 32]>((Excluded(&id.0), Unbounded))? {
            let (id, row) = item?;
            if let Some(row) = parse(row.value()) {
                return Ok(Some((Digest(*id.value()), row)));
            }
        }
        Ok(None)
    }
}

/// A row that does not parse is as good as absent: the next full look at the folders mends it.
fn parse(bytes: &[u8]) -> Option<Row> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::storage::disk::{
        budget::Budget,
        index::{Index, put_blob, remove_blob},
        layout::Layout,
    };

    #[test]
    fn a_row_that_cannot_be_read_leaves_nothing_behind_when_it_goes() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let room = Arc::new(Mutex::new(Budget::new(8 << 20).account_existing(0)));
        let (index, _) = Index::open(&Layout::new(dir.path()), room).expect("opens");
        let id = Digest([7; 32]);
        let name = Name { kept: true, ..Name::of(Key::new("k")) };
        let row = |used| Row::new(5000, 8192, used, vec![name.clone()]);
        let left = || {
            let order = |txn: &ReadTransaction| {
                let mut order = Vec::new();
                BLOBS.by_use(txn, |digest, cost| {
                    order.push((digest, cost));
                    true
                })?;
                Ok((BLOBS.totals(txn)?, order, super::super::kept(txn)?.len()))
            };
            index.read(order).expect("readable")
        };
        let garble = |txn: &WriteTransaction| {
            txn.open_table(BLOBS.rows)?.insert(&id.0, &b"{"[..])?;
            Ok(())
        };
        index.write(|txn| put_blob(txn, &id, &row(1), None)).expect("put");
        index.write(garble).expect("written");
        index.write(|txn| put_blob(txn, &id, &row(2), None)).expect("put again");
        assert_eq!(left(), ((8192, 1), vec![(id, 8192)], 1));
        index.write(garble).expect("written");
        index.write(|txn| remove_blob(txn, &id)).expect("removed");
        assert_eq!(left(), ((0, 0), Vec::new(), 0));
    }
}
