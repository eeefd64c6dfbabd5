//! Zips that a backup may still read: zips that no version keeps any more are removed when the last backup has ended.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::entry::Digest;

/// The zips that are not removed at present.
#[derive(Debug, Default)]
pub(super) struct HeldZips(Mutex<HeldState>);

#[derive(Debug, Default)]
struct HeldState {
    holders: usize,
    /// Zips that no version keeps any more, and whose removal waits; with their lengths in bytes.
    unused: HashMap<Digest, u64>,
}

impl HeldZips {
    /// Returns the zips of `unused` that can be removed now; the others are removed later. A version keeps those of `used`
    /// again.
    pub(super) fn removable_now<'d>(
        &self,
        unused: Vec<(Digest, u64)>,
        used: impl Iterator<Item = &'d Digest>,
    ) -> Vec<Digest> {
        let mut state = self.0.lock();
        if state.holders == 0 {
            return unused.into_iter().map(|(digest, _)| digest).collect();
        }
        for digest in used {
            state.unused.remove(digest);
        }
        state.unused.extend(unused);
        Vec::new()
    }

    /// True for a zip that is to be removed later.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.0.lock().unused.contains_key(digest)
    }

    /// Bytes of the zips that are to be removed later.
    pub(super) fn bytes(&self) -> u64 {
        self.0.lock().unused.values().sum()
    }

    /// Begins to hold all zips.
    pub(super) fn begin(&self) {
        self.0.lock().holders += 1;
    }

    /// Ends one hold; returns the zips that can be removed now, which are none while there are other holds.
    pub(super) fn end(&self) -> Vec<Digest> {
        let mut state = self.0.lock();
        state.holders -= 1;
        if state.holders > 0 { Vec::new() } else { std::mem::take(&mut state.unused).into_keys().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_zip_is_removable_when_the_last_of_two_holds_ends() {
        let held = HeldZips::default();
        let zip = Digest::of(b"zip");
        held.begin();
        held.begin();
        assert_eq!(held.removable_now(vec![(zip, 3)], [].iter()), []);
        assert_eq!((held.end(), held.holds(&zip), held.bytes()), (Vec::new(), true, 3));
        assert_eq!((held.end(), held.holds(&zip), held.bytes()), (vec![zip], false, 0));
        assert_eq!(held.removable_now(vec![(zip, 3)], [].iter()), [zip], "nothing is held any more");
    }
}
