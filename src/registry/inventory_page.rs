//! Lists of stored archives in a chosen order, page by page: memory holds one page, however many are stored.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::{admin_api::InventoryOrder, cache::InventoryEntry};

/// The entries that come next in an order, collected from all entries in any order.
#[derive(Debug)]
pub(super) struct InventoryPage {
    order: InventoryOrder,
    /// The last entry of the page before; `None` for the first page.
    after: Option<InventoryEntry>,
    /// Most entries of the page.
    max_entries: usize,
    /// The last one of the page on top.
    entries: BinaryHeap<RankedEntry>,
}

#[derive(Debug)]
struct RankedEntry {
    order: InventoryOrder,
    entry: InventoryEntry,
}

impl InventoryPage {
    pub(super) fn new(order: InventoryOrder, after: Option<InventoryEntry>, max_entries: usize) -> Self {
        Self { order, after, max_entries, entries: BinaryHeap::new() }
    }

    /// Takes an entry if it belongs to the page, as far as is known by now.
    pub(super) fn add(&mut self, entry: InventoryEntry) {
        let is_after = |earlier: &InventoryEntry| self.order.compare(&entry, earlier) == Ordering::Greater;
        if self.after.as_ref().is_some_and(|after| !is_after(after)) {
            return;
        }
        if self.entries.len() >= self.max_entries {
            if self.entries.peek().is_none_or(|last| is_after(&last.entry)) {
                return;
            }
            self.entries.pop();
        }
        self.entries.push(RankedEntry { order: self.order, entry });
    }

    /// The page, in order.
    pub(super) fn into_entries(self) -> Vec<InventoryEntry> {
        self.entries.into_sorted_vec().into_iter().map(|ranked| ranked.entry).collect()
    }
}

impl Ord for RankedEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&self.entry, &other.entry)
    }
}

impl PartialOrd for RankedEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RankedEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RankedEntry {}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        cache::{HitStats, TierStats},
        entry::{Digest, Key},
    };

    fn entry(number: u64) -> InventoryEntry {
        let at = |second: u64| Timestamp::from_second(second as i64).expect("valid");
        InventoryEntry {
            key: Key::new(format!("github/o/r/tag/v{}", number * 7 % 100)),
            digest: Digest([0; 32]),
            len: number % 5,
            cost: 0,
            keys: 1,
            stored_at: at(number % 7),
            commit: None,
            last_use: at(number % 11),
            hit_stats: HitStats { memory: TierStats::default(), disk: TierStats { hits: number % 3, bytes: 0 } },
            kept: false,
            pinned: false,
        }
    }

    #[test]
    fn pages_follow_each_other_in_every_order_without_a_gap() {
        let all: Vec<_> = (0..100).map(entry).collect();
        for order in [
            InventoryOrder::Name,
            InventoryOrder::Size,
            InventoryOrder::Age,
            InventoryOrder::Used,
            InventoryOrder::Hits,
        ] {
            let mut sorted = all.clone();
            sorted.sort_by(|one, other| order.compare(one, other));
            let mut listed: Vec<InventoryEntry> = Vec::new();
            loop {
                let mut page = InventoryPage::new(order, listed.last().cloned(), 30);
                all.iter().cloned().for_each(|entry| page.add(entry));
                let entries = page.into_entries();
                if entries.is_empty() {
                    break;
                }
                assert!(entries.len() <= 30);
                listed.extend(entries);
            }
            let keys = |entries: &[InventoryEntry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
            assert_eq!(keys(&listed), keys(&sorted), "{order:?}");
        }
    }
}
