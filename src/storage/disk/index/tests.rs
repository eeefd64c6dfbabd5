use tempfile::TempDir;

use super::*;
use crate::{
    entry::{Digest, Key},
    storage::disk::{budget::Budget, index::lru_table::LruTotals},
};

/// A new index in `dir`, within `budget`.
fn create(dir: &TempDir, budget: &Arc<Budget>) -> Index {
    let layout = Layout::new(dir.path());
    let lock = Arc::new(DirectoryLock::acquire(&layout.holder()).expect("free"));
    let reservation = IndexReservation::new(budget.account_existing(0));
    let OpenedIndex { index, origin } = Index::open(&layout, reservation, lock).expect("opens");
    assert_eq!(origin, IndexOrigin::Created);
    index
}

fn fill(index: &Index, round: u8) -> io::Result<()> {
    index.write(|txn| {
        for n in 0..200_u16 {
            let id = Digest::of(&[round, n.to_le_bytes()[0], n.to_le_bytes()[1]]);
            let keys = vec![IndexedKey::of_document(Key::new("k".repeat(2000)))];
            BLOBS.put(txn, &id, &IndexRow::new(1, 2, u64::from(n), keys))?;
        }
        Ok(())
    })
}

#[test]
fn an_index_without_room_to_grow_fails_keeps_its_rows_and_works_again_with_room() {
    let dir = TempDir::new().expect("a folder");
    let budget = Budget::new(8 << 20);
    let index = create(&dir, &budget);
    fill(&index, 0).expect("fits");
    let others = budget.reserve(budget.free()).expect("free");
    let mut rounds = 1..100;
    let (failed, error) = rounds.find_map(|round| Some((round, fill(&index, round).err()?))).expect("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let rows = |index: &Index| index.read(|txn| BLOBS.totals(txn)).expect("still readable").rows;
    assert_eq!(rows(&index), 200 * u64::from(failed));
    drop(others);
    fill(&index, failed).expect("room again");
    assert_eq!(rows(&index), 200 * (u64::from(failed) + 1));
    assert!(budget.total() >= index.len());
}

#[test]
fn only_an_inconsistent_index_is_removed_and_not_an_unreadable_one() {
    let wrapped = |code| io::Error::other(redb::Error::Io(io::Error::from_raw_os_error(code)));
    // EIO, EACCES, EMFILE, ENOSPC
    for code in [5, 13, 24, 28] {
        assert!(is_system_error(&wrapped(code)) && is_system_error(&io::Error::from_raw_os_error(code)), "{code}");
    }
    let broken = [
        wrapped(22),
        io::Error::other(redb::Error::Corrupted("checksum".into())),
        io::Error::other(redb::Error::Io(io::ErrorKind::InvalidData.into())),
        io::ErrorKind::UnexpectedEof.into(),
    ];
    assert!(!broken.iter().any(is_system_error), "{broken:?}");
}

#[test]
fn the_file_shrinks_when_most_rows_are_removed_and_keeps_the_others() {
    let dir = TempDir::new().expect("a folder");
    let index = create(&dir, &Budget::new(256 << 20));
    (0..25).for_each(|round| fill(&index, round).expect("fits"));
    let full = index.len();
    assert!(full > 16 << 20, "{full}");
    let ids = |round: u8| (0..200_u16).map(move |n| Digest::of(&[round, n.to_le_bytes()[0], n.to_le_bytes()[1]]));
    let removed: Vec<_> = (1..25).flat_map(ids).collect();
    index.write(|txn| BLOBS.remove_all(txn, &removed)).expect("removed");
    index.shrink().expect("works");
    assert!(index.len() < full / 4, "{} of {full}", index.len());
    assert_eq!(index.read(|txn| BLOBS.all(txn)).expect("readable").len(), 200);
    fill(&index, 1).expect("works as before");
}

#[test]
fn an_unreadable_row_is_removed_with_its_order_its_mark_and_its_counts() {
    let dir = TempDir::new().expect("a folder");
    let index = create(&dir, &Budget::new(8 << 20));
    let id = Digest([7; 32]);
    let indexed = IndexedKey { kept: true, ..IndexedKey::of_document(Key::new("k")) };
    let row = |last_use| IndexRow::new(5000, 8192, last_use, vec![indexed.clone()]);
    let contents = || {
        let read = |txn: &ReadTransaction| {
            let mut order = Vec::new();
            BLOBS.visit_by_use(txn, |digest, cost| {
                order.push((digest, cost));
                true
            })?;
            Ok((BLOBS.totals(txn)?, order, kept_blobs(txn)?.len()))
        };
        index.read(read).expect("readable")
    };
    index.write(|txn| put_blob(txn, &id, &row(1), None)).expect("put");
    index.write(|txn| BLOBS.garble(txn, &id)).expect("written");
    index.write(|txn| put_blob(txn, &id, &row(2), None)).expect("put again");
    assert_eq!(contents(), (LruTotals { bytes: 8192, rows: 1 }, vec![(id, 8192)], 1));
    index.write(|txn| BLOBS.garble(txn, &id)).expect("written");
    index.write(|txn| remove_blobs(txn, &[id])).expect("removed");
    assert_eq!(contents(), (LruTotals { bytes: 0, rows: 0 }, Vec::new(), 0));
}
