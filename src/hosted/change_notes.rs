//! The packages that have changed lately: one object that all mirrors of a primary store read every few seconds, to know
//! which packages to read again.
//!
//! A change is noted after it was made, and also where it is not known whether it was. A mirror that dies in between loses
//! nothing: its change is noted when it is repeated, and found by the next list of all records. Concurrent notes of one
//! mirror are written together.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::primary_store::{PrimaryStore, PrimaryUnavailable, PrimaryWrite, update};

/// The name of the object.
const CHANGES_NAME: &str = "hosted/changes.json";
/// Most packages in it: a mirror that has missed more lists all records.
const MAX_NOTED_PACKAGES: usize = 4000;

/// The packages that have changed, each with the generation of its last change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct NotedChanges {
    /// Grows with every note.
    pub(super) generation: u64,
    /// The last generation of which a package was dropped from the list.
    dropped: u64,
    /// Packages in lower case, each with the generation of its last change.
    packages: BTreeMap<String, u64>,
}

/// The changes of this mirror that are not noted yet.
#[derive(Debug, Default)]
pub(super) struct ChangeNotes {
    pending: Mutex<BTreeSet<String>>,
    /// Held while the object is written.
    writing: Mutex<()>,
}

/// A change whose write has begun. Dropping it leaves its note to a later call: the write may have succeeded without an
/// answer.
#[derive(Debug)]
pub(super) struct BegunChange<'n> {
    notes: &'n ChangeNotes,
    name: &'n str,
}

impl Drop for BegunChange<'_> {
    fn drop(&mut self) {
        self.notes.pending.lock().insert(self.name.to_owned());
    }
}

impl NotedChanges {
    /// The packages that have changed since a generation; `None` where that is not known any more.
    pub(super) fn since(&self, generation: u64) -> Option<Vec<&str>> {
        if generation < self.dropped || generation > self.generation {
            return None;
        }
        Some(self.packages.iter().filter(|(_, at)| **at > generation).map(|(name, _)| name.as_str()).collect())
    }

    fn add(&mut self, names: &BTreeSet<String>) {
        self.generation += 1;
        for name in names {
            self.packages.insert(name.clone(), self.generation);
        }
        let surplus = self.packages.len().saturating_sub(MAX_NOTED_PACKAGES);
        if surplus == 0 {
            return;
        }
        let mut generations: Vec<u64> = self.packages.values().copied().collect();
        generations.sort_unstable();
        self.dropped = self.dropped.max(generations[surplus - 1]);
        self.packages.retain(|_, at| *at > self.dropped);
    }
}

/// Reads the noted changes; one that cannot be read counts as none, and is replaced.
pub(super) fn read(objects: &dyn PrimaryStore) -> Result<NotedChanges, PrimaryUnavailable> {
    Ok(parse(objects.read(CHANGES_NAME)?.as_ref().map(|object| &*object.bytes)))
}

fn parse(text: Option<&[u8]>) -> NotedChanges {
    text.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default()
}

impl ChangeNotes {
    /// Begins a change of a package; `name` is in lower case.
    pub(super) fn begin<'n>(&'n self, name: &'n str) -> BegunChange<'n> {
        BegunChange { notes: self, name }
    }

    /// Notes that a package has changed; `name` is in lower case. What cannot be written now is written by a later call.
    pub(super) fn add(&self, objects: &dyn PrimaryStore, name: &str) {
        self.pending.lock().insert(name.to_owned());
        if let Err(error) = self.write(objects) {
            tracing::debug!(package = %name, %error, "a change is not noted yet");
        }
    }

    /// Writes what is not noted yet.
    pub(super) fn write(&self, objects: &dyn PrimaryStore) -> Result<(), PrimaryUnavailable> {
        let _writing = self.writing.lock();
        // Another call may have written it while this one waited.
        let names = std::mem::take(&mut *self.pending.lock());
        if names.is_empty() {
            return Ok(());
        }
        let written = write(objects, &names);
        if matches!(written, Ok(PrimaryWrite::Done)) {
            objects.note_written();
        } else {
            self.pending.lock().extend(names);
        }
        written.map(drop)
    }
}

fn write(objects: &dyn PrimaryStore, names: &BTreeSet<String>) -> Result<PrimaryWrite, PrimaryUnavailable> {
    update(objects, CHANGES_NAME, &mut |old| {
        let mut noted = parse(old);
        noted.add(names);
        // The keys of all maps are strings, so serialising cannot fail.
        Some(serde_json::to_vec(&noted).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noted_changes_are_bounded_and_say_what_they_do_not_know() {
        let mut noted = NotedChanges::default();
        assert_eq!(noted.since(0), Some(Vec::new()));
        for number in 0..MAX_NOTED_PACKAGES + 10 {
            noted.add(&BTreeSet::from([format!("acme-{number}")]));
        }
        assert_eq!(noted.packages.len(), MAX_NOTED_PACKAGES);
        let last = noted.generation;
        assert_eq!(noted.since(last), Some(Vec::new()));
        assert_eq!(noted.since(last - 1), Some(vec![format!("acme-{}", MAX_NOTED_PACKAGES + 9).as_str()]));
        assert_eq!((noted.since(9), noted.since(last + 1)), (None, None));
        assert_eq!(noted.since(10).map(|packages| packages.len()), Some(MAX_NOTED_PACKAGES));
    }
}
