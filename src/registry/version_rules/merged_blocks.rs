//! How the blocks of several mirrors become one list: for each pattern, the later change counts.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::blocks::{BlockedPattern, LiftedBlock, StoredBlocks};

/// Most blocks that were taken away and are remembered; the oldest are forgotten first.
const MAX_LIFTED_BLOCKS: usize = 1000;

/// The last change of one pattern.
enum LastChange {
    Blocked(BlockedPattern),
    Lifted(LiftedBlock),
}

impl LastChange {
    fn at(&self) -> Timestamp {
        match self {
            Self::Blocked(block) => block.at,
            Self::Lifted(lifted) => lifted.at,
        }
    }

    /// True if this change is the later one; of two changes at the same time, the block is.
    fn is_after(&self, other: &Self) -> bool {
        let rank = |change: &Self| (change.at(), matches!(change, Self::Blocked(_)));
        rank(self) > rank(other)
    }
}

impl StoredBlocks {
    /// Blocks a pattern, with a time after the last known change of it: the clocks of mirrors differ.
    pub(super) fn set(&mut self, block: BlockedPattern) {
        let at = self.after_last(&block.pattern, block.at);
        self.forget(&block.pattern);
        self.blocks.push(BlockedPattern { at, ..block });
    }

    /// Takes a block away; false if there is none.
    pub(super) fn lift(&mut self, lifted: LiftedBlock) -> bool {
        if !self.blocks.iter().any(|block| block.pattern == lifted.pattern) {
            return false;
        }
        let at = self.after_last(&lifted.pattern, lifted.at);
        self.forget(&lifted.pattern);
        self.lifted.push(LiftedBlock { at, ..lifted });
        let excess = self.lifted.len().saturating_sub(MAX_LIFTED_BLOCKS);
        self.lifted.drain(..excess);
        true
    }

    /// `at`, or the first moment after the last change of the pattern.
    fn after_last(&self, pattern: &str, at: Timestamp) -> Timestamp {
        let blocked = self.blocks.iter().filter(|block| block.pattern == pattern).map(|block| block.at);
        let lifted = self.lifted.iter().filter(|lifted| lifted.pattern == pattern).map(|lifted| lifted.at);
        let next = |last: Timestamp| last.saturating_add(SignedDuration::from_millis(1)).unwrap_or(last);
        blocked.chain(lifted).map(next).fold(at, Timestamp::max)
    }

    fn forget(&mut self, pattern: &str) {
        self.blocks.retain(|block| block.pattern != pattern);
        self.lifted.retain(|lifted| lifted.pattern != pattern);
    }

    /// Both lists as one, in order of time.
    pub(super) fn merged(&self, other: &Self) -> Self {
        let mut changes: BTreeMap<&str, LastChange> = BTreeMap::new();
        for stored in [self, other] {
            let blocked =
                stored.blocks.iter().map(|block| (block.pattern.as_str(), LastChange::Blocked(block.clone())));
            let lifted = stored.lifted.iter().map(|gone| (gone.pattern.as_str(), LastChange::Lifted(gone.clone())));
            for (pattern, change) in blocked.chain(lifted) {
                match changes.get(pattern) {
                    Some(known) if !change.is_after(known) => {}
                    _ => {
                        changes.insert(pattern, change);
                    }
                }
            }
        }
        let mut merged = Self::default();
        for change in changes.into_values() {
            match change {
                LastChange::Blocked(block) => merged.blocks.push(block),
                LastChange::Lifted(lifted) => merged.lifted.push(lifted),
            }
        }
        merged.blocks.sort_unstable_by(|one, other| (one.at, &one.pattern).cmp(&(other.at, &other.pattern)));
        merged.lifted.sort_unstable_by(|one, other| (one.at, &one.pattern).cmp(&(other.at, &other.pattern)));
        let excess = merged.lifted.len().saturating_sub(MAX_LIFTED_BLOCKS);
        merged.lifted.drain(..excess);
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn block(pattern: &str, second: i64) -> BlockedPattern {
        BlockedPattern { pattern: pattern.into(), reason: "why".into(), at: at(second) }
    }

    fn patterns(stored: &StoredBlocks) -> Vec<&str> {
        stored.blocks.iter().map(|block| block.pattern.as_str()).collect()
    }

    #[test]
    fn the_later_change_of_a_pattern_counts_in_whichever_order_lists_are_merged() {
        let mut one = StoredBlocks::default();
        one.set(block("a/b", 10));
        one.set(block("c/d", 10));
        let mut two = one.clone();
        assert!(two.lift(LiftedBlock { pattern: "a/b".into(), at: at(20) }));
        two.set(block("e/f", 15));
        assert_eq!(one.merged(&two), two.merged(&one));
        assert_eq!(patterns(&one.merged(&two)), ["c/d", "e/f"]);
        let mut again = one.merged(&two);
        again.set(block("a/b", 30));
        assert_eq!(patterns(&two.merged(&again)), ["c/d", "e/f", "a/b"]);
        assert_eq!(again.merged(&again), again);
    }

    #[test]
    fn a_change_counts_after_what_is_known_even_if_the_clock_is_slow() {
        let mut stored = StoredBlocks::default();
        stored.set(block("a/b", 1000));
        let before = stored.clone();
        assert!(stored.lift(LiftedBlock { pattern: "a/b".into(), at: at(1) }));
        assert!(before.merged(&stored).blocks.is_empty());
        let lifted = stored.clone();
        stored.set(block("a/b", 2));
        assert_eq!(patterns(&lifted.merged(&stored)), ["a/b"]);
    }

    #[test]
    fn what_was_taken_away_is_bounded() {
        let mut stored = StoredBlocks::default();
        for number in 0..2 * MAX_LIFTED_BLOCKS {
            stored.set(block(&format!("a/b{number}"), 1));
            assert!(stored.lift(LiftedBlock { pattern: format!("a/b{number}"), at: at(2) }));
        }
        assert_eq!(stored.lifted.len(), MAX_LIFTED_BLOCKS);
        assert!(stored.merged(&StoredBlocks::default()).lifted.len() <= MAX_LIFTED_BLOCKS);
    }
}
