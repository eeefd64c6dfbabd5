//! Removals and keep marks that operators make on one mirror of a bucket, and all its mirrors repeat.
//!
//! The mirrors share one list in the bucket, of the last removals with their numbers. A mirror's own file has the
//! number up to which it has done them, and those of its own removals that are not in the list yet: both survive
//! restarts and times without the bucket.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    atomic_file::{read_json, write_json},
    entry::{Digest, DocumentMeta, Key},
    shared::BucketError,
};

/// The file in the cache directory.
const REMOVALS_FILE: &str = "removals.json";
/// Mode of the file.
const REMOVALS_FILE_MODE: u32 = 0o644;
/// Largest file that is read, bytes.
const MAX_REMOVALS_FILE_BYTES: u64 = 4 << 20;
/// Most removals that the list has, and most that wait for the bucket.
const MAX_REMOVALS: usize = 500;
/// Most bytes of the keys of documents that are to be removed from the bucket.
const MAX_LEFT_DOCUMENT_BYTES: usize = 1 << 20;
/// Longest pattern that other mirrors get, bytes.
const MAX_REMOVAL_PATTERN_BYTES: usize = 2000;

/// What an operator has done to the mark that keeps zips from eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepChange {
    /// The mark was set.
    Keep,
    /// The mark was taken away.
    Unkeep,
}

/// What an operator has removed, or marked as kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The pattern of packages and versions, as the operator gave it.
    pub pattern: String,
    /// True when the pins were removed, too.
    pub forget: bool,
    /// When it was removed.
    pub at: Timestamp,
    /// The mirror on which it was.
    by: Digest,
    /// The change of a keep mark; `None` for a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<KeepChange>,
}

/// The list in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRemovals {
    /// Identifies the list: one that was lost and begun again has another value.
    list: Digest,
    /// The number of the last removal; the one before has the number before.
    last: u64,
    removals: Vec<Removal>,
}

/// The content of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct OwnRemovals {
    /// This mirror's name in the list.
    own: Option<Digest>,
    list: Option<Digest>,
    /// The number up to which the removals of the list were done here.
    done: u64,
    /// The removal with this number.
    last_done: Option<Removal>,
    /// The number up to which the removals of the list may have been done here before, as those of another list.
    repeated: u64,
    /// Removals of this mirror that are not in the list yet.
    waiting: Vec<Removal>,
    /// Documents that were removed here and could not be removed from the bucket, and when they were.
    left_documents: BTreeMap<Key, Timestamp>,
}

/// The removals of this mirror, for the others, and those of the others, to be done here.
#[derive(Debug)]
pub struct Removals {
    path: PathBuf,
    file: Mutex<OwnRemovals>,
    /// The document whose removal the bucket refused last: the documents behind it are tried first.
    refused: Mutex<Option<Key>>,
    /// Notified when this mirror's operator has removed something.
    changed: Notify,
}

/// What is left to do here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueRemovals {
    /// The removals, those of this mirror left out. Marks are among them, this mirror's too.
    pub removals: Vec<DueRemoval>,
    /// True when earlier ones are no longer in the list.
    pub has_missed: bool,
}

/// A removal that is due.
#[derive(Debug, PartialEq, Eq)]
pub struct DueRemoval {
    /// Its number in the list.
    pub number: u64,
    /// The removal.
    pub removal: Removal,
    /// True when it may have been done here before: another list, perhaps of a backup, has taken the place of the one
    /// that was followed. When it was made is then known from its date alone.
    pub is_repeated: bool,
}

/// A document that is removed, unless it is of a later time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedDocument {
    /// Its key.
    pub key: Key,
    /// When it was removed, by the clock of the mirror on which it was.
    pub at: Timestamp,
}

/// What became of a removal of documents from the bucket.
#[derive(Debug, Default)]
pub struct DocumentsRemoved {
    /// Those that are not there any more, or are of a later time.
    pub done: Vec<RemovedDocument>,
    /// The keys and metas of those that were there.
    pub found: Vec<(Key, Arc<DocumentMeta>)>,
    /// The last one that the bucket did not remove.
    pub last_refused: Option<Key>,
    /// Why the first one was not removed.
    pub error: Option<BucketError>,
}

impl Removals {
    /// Reads the file in the cache directory, which this process must hold. Blocks. What cannot be read counts as nothing:
    /// all removals of the list are done again, which removes at most what is fetched again.
    pub fn open(cache_dir: &Path) -> Self {
        let path = cache_dir.join(REMOVALS_FILE);
        let file = read_json(&path, MAX_REMOVALS_FILE_BYTES).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the removals of other mirrors are done again");
            OwnRemovals::default()
        });
        Self { path, file: Mutex::new(file), refused: Mutex::default(), changed: Notify::new() }
    }

    /// Records a removal of this mirror's operator. Blocks.
    ///
    /// # Errors
    /// When it cannot be made durable, or the pattern is too long; the other mirrors do not remove it then.
    pub fn record(&self, pattern: &str, forget: bool, at: Timestamp) -> io::Result<()> {
        self.add(pattern, forget, None, at)
    }

    /// As [`Removals::record`], for a change of keep marks.
    ///
    /// # Errors
    /// As [`Removals::record`].
    pub fn record_mark(&self, pattern: &str, mark: KeepChange, at: Timestamp) -> io::Result<()> {
        self.add(pattern, false, Some(mark), at)
    }

    fn add(&self, pattern: &str, forget: bool, mark: Option<KeepChange>, at: Timestamp) -> io::Result<()> {
        if pattern.len() > MAX_REMOVAL_PATTERN_BYTES {
            return Err(io::Error::other("the pattern is too long for other mirrors to get it"));
        }
        self.change(|file| {
            let by = *file.own.get_or_insert_with(Digest::unique);
            if file.waiting.len() == MAX_REMOVALS {
                file.waiting.remove(0);
                tracing::error!("other mirrors do not get a removal: too many wait for the bucket");
            }
            file.waiting.push(Removal { pattern: pattern.to_owned(), forget, at, by, mark });
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until something was recorded.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The list, with the removals added that wait here.
    pub fn merged(&self, list: Option<&StoredRemovals>) -> StoredRemovals {
        let empty = || StoredRemovals { list: Digest::unique(), last: 0, removals: Vec::new() };
        let mut merged = list.cloned().unwrap_or_else(empty);
        for removal in &self.file.lock().waiting {
            // It is there already when the answer to its write was lost.
            if !merged.removals.contains(removal) {
                merged.removals.push(removal.clone());
                merged.last += 1;
            }
        }
        let excess = merged.removals.len().saturating_sub(MAX_REMOVALS);
        merged.removals.drain(..excess);
        merged
    }

    /// What a list that is in the bucket asks this mirror to do; all of it where a backup has taken the place of the list.
    /// What is in it no longer waits. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn due(&self, list: &StoredRemovals) -> io::Result<DueRemovals> {
        let mut file = self.file.lock().clone();
        let is_known = file.list == Some(list.list);
        let has_missed = is_known && file.done + 1 < list.first();
        if file.list.is_some() && !(is_known && list.has(file.done, file.last_done.as_ref())) {
            tracing::warn!("the bucket has another list of removals, perhaps of a backup: they are done again");
            file.begin_again(list);
            self.change(|file| file.begin_again(list))?;
        }
        // This mirror's own marks are set again, after those that are before them in the list: all mirrors end with the
        // same.
        let is_due = |removal: &Removal| Some(removal.by) != file.own || removal.mark.is_some();
        let due = list.numbered().filter(|(number, removal)| *number > file.done && is_due(removal));
        let due = due.map(|(number, removal)| DueRemoval {
            number,
            removal: removal.clone(),
            is_repeated: number <= file.repeated,
        });
        let removals = due.collect();
        if file.waiting.iter().any(|waiting| list.removals.contains(waiting)) {
            self.change(|file| file.waiting.retain(|waiting| !list.removals.contains(waiting)))?;
        }
        Ok(DueRemovals { removals, has_missed })
    }

    /// Records that the removals up to this number were done. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_done(&self, list: &StoredRemovals, number: u64) -> io::Result<()> {
        let is_known = {
            let file = self.file.lock();
            file.list == Some(list.list) && file.done >= number
        };
        if is_known {
            return Ok(());
        }
        self.change(|file| {
            file.list = Some(list.list);
            file.done = number;
            file.last_done = list.get(number).cloned();
        })
    }

    /// Records documents that are to be removed from the bucket when it can be used. Blocks.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn leave_documents(&self, documents: &[RemovedDocument]) -> io::Result<()> {
        self.change(|file| {
            let mut bytes: usize = file.left_documents.keys().map(|key| key.as_str().len()).sum();
            for RemovedDocument { key, at } in documents {
                if let Some(known) = file.left_documents.get_mut(key) {
                    *known = (*known).max(*at);
                    continue;
                }
                bytes += key.as_str().len();
                if bytes > MAX_LEFT_DOCUMENT_BYTES {
                    tracing::error!("some lists that were removed stay in the bucket: too many wait for it");
                    return;
                }
                file.left_documents.insert(key.clone(), *at);
            }
        })
    }

    /// At most `limit` documents that are to be removed from the bucket, in order: those after the one that it refused
    /// last, or from the first on where none follow.
    pub fn left_documents(&self, limit: usize) -> Vec<RemovedDocument> {
        let refused = self.refused.lock().clone();
        let file = self.file.lock();
        let after = refused.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = file.left_documents.range((after, Bound::Unbounded)).peekable();
        if left.peek().is_none() {
            left = file.left_documents.range::<Key, _>(..).peekable();
        }
        left.take(limit).map(|(key, at)| RemovedDocument { key: key.clone(), at: *at }).collect()
    }

    /// Records, until the next start, that the bucket does not remove a document at present.
    pub fn set_refused(&self, key: Key) {
        *self.refused.lock() = Some(key);
    }

    /// Records that documents were removed from the bucket. One that was removed once more since stays. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove_left_documents(&self, documents: &[RemovedDocument]) -> io::Result<()> {
        self.change(|file| {
            for RemovedDocument { key, at } in documents {
                if file.left_documents.get(key) == Some(at) {
                    file.left_documents.remove(key);
                }
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut OwnRemovals)) -> io::Result<()> {
        let mut file = self.file.lock();
        let mut changed = file.clone();
        change(&mut changed);
        write_json(&self.path, REMOVALS_FILE_MODE, &changed)?;
        *file = changed;
        Ok(())
    }
}

impl OwnRemovals {
    /// Follows this list from its first removal.
    fn begin_again(&mut self, list: &StoredRemovals) {
        self.list = Some(list.list);
        self.done = list.first().saturating_sub(1);
        self.last_done = None;
        self.repeated = list.last;
    }
}

impl StoredRemovals {
    /// The number of the last removal.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn first(&self) -> u64 {
        (self.last + 1).saturating_sub(self.removals.len() as u64)
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &Removal)> {
        (self.first()..).zip(&self.removals)
    }

    fn get(&self, number: u64) -> Option<&Removal> {
        self.numbered().find_map(|(other, removal)| (other == number).then_some(removal))
    }

    /// False when this number is, or stands for, another removal than this one: a backup has taken the place of the list.
    fn has(&self, number: u64, removal: Option<&Removal>) -> bool {
        let is_other = self.get(number).zip(removal).is_some_and(|(present, removal)| present != removal);
        number <= self.last && !is_other
    }
}

#[cfg(test)]
mod tests;
