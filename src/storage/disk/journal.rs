//! The pins journal: an append-only file of what was first seen under each key. Every line is durable before it counts.
//!
//! It is also the audit log: compaction removes only packings that a later line of their key replaces, and keeps what
//! was first seen and every removal by an operator. The index records the position of the last line of each key.

use std::{
    collections::{BTreeSet, HashSet},
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::warn;

use self::{
    line::{JournalLine, PinLine},
    lookup::{JournalReaders, LocatedLine},
    unindexed::UnindexedPins,
};
use super::{
    append_file::AppendFile,
    budget::Budget,
    index::{self, Index, PinPosition, PinUpdate},
    skipped::SkippedFiles,
    space::Space,
};
use crate::entry::{Key, Pin};

mod compaction;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod line;
mod lookup;
mod unindexed;

#[cfg(test)]
pub(super) use compaction::CompactionStep;

/// Lines per write of the index, while the journal is replayed or many pins are removed.
const BATCH_LINES: usize = 2000;
/// The counter in the index for the offset up to which the journal was replayed.
const REPLAYED_COUNTER: &str = "pins_seen";
/// The counter for the generation of the file that the positions in the index belong to.
const GENERATION_COUNTER: &str = "pins_generation";
/// The counter for the bytes of packings that later lines replace.
const REPLACED_COUNTER: &str = "pins_replaced";

/// What a line of the journal records about its pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinEvent {
    /// The key was first seen.
    Pin,
    /// The same content was fetched in a new packing: other bytes, equal manifest.
    Packing,
    /// An operator removed the pin: the key may be pinned anew.
    Forget,
}

/// Why a pin was not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError<E> {
    /// The caller's decision function refused.
    #[error("the content differs from what is pinned")]
    Refused(E),
    /// The journal or the index could not be read or written.
    #[error("the pins cannot be read or written")]
    Io(#[from] io::Error),
}

impl From<SettleError<std::convert::Infallible>> for io::Error {
    fn from(error: SettleError<std::convert::Infallible>) -> Self {
        match error {
            SettleError::Refused(never) => match never {},
            SettleError::Io(error) => error,
        }
    }
}

/// What settling a pin did to the journal.
#[derive(Debug)]
pub(super) enum SettleOutcome {
    /// The decision returned no events.
    Unchanged,
    /// Events were appended.
    Appended,
    /// Events were appended and are durable, but the index could not be written: a later write adds them to it.
    AppendedNotIndexed(io::Error),
}

/// The open journal. Lock order: the journal's lock before the index.
pub(super) struct Journal {
    path: PathBuf,
    index: Arc<Index>,
    space: Arc<Space>,
    readers: JournalReaders,
    unindexed: UnindexedPins,
    tail: Mutex<JournalTail>,
    /// Set until a write has succeeded, and while the last one has failed.
    is_in_doubt: AtomicBool,
}

/// The end of the journal, to append to.
struct JournalTail {
    file: AppendFile,
    generation: u64,
    /// Bytes of packings that are replaced by lines that the index does not have yet.
    unindexed_replaced: u64,
    /// Set when the positions in the index do not belong to the file: nothing can be appended until the next start.
    is_stale: bool,
}

/// A journal whose lines are in the index, before the parts exist that appending needs.
pub(super) struct OpenedJournal {
    path: PathBuf,
    file: AppendFile,
    generation: u64,
    readers: JournalReaders,
}

impl OpenedJournal {
    /// Opens the journal, cuts off a torn last line, and replays the lines that the index lacks.
    pub(super) fn open(path: &Path, budget: &Arc<Budget>, index: &Index, skipped: &SkippedFiles) -> io::Result<Self> {
        let mut file = AppendFile::open(path)?;
        let len = file.metadata()?.len();
        let generation = read_generation(&file)?;
        let replayed = index.read(|txn| index::counter(txn, REPLAYED_COUNTER))?;
        let indexed = index.read(|txn| index::counter(txn, GENERATION_COUNTER))?;
        let start = if replayed <= len && generation == indexed {
            replayed
        } else {
            warn!("the pins journal is not the one that the index records; all of it is replayed");
            index.write(|txn| {
                index::clear_pins(txn)?;
                index::set_counter(txn, GENERATION_COUNTER, generation)?;
                index::set_counter(txn, REPLACED_COUNTER, 0)?;
                index::set_counter(txn, REPLAYED_COUNTER, 0)
            })?;
            0
        };
        let end = replay(&mut file, start, index, skipped)?;
        if end < len {
            warn!(bytes = len - end, "the last line of the pins journal is torn and is cut off");
        }
        let file = AppendFile::new(file, end, budget)?;
        let readers = JournalReaders::new(generation, file.reader()?);
        Ok(Self { path: path.to_owned(), file, generation, readers })
    }
}

impl Journal {
    pub(super) fn new(opened: OpenedJournal, index: Arc<Index>, space: Arc<Space>) -> Self {
        let OpenedJournal { path, file, generation, readers } = opened;
        let tail = JournalTail { file, generation, unindexed_replaced: 0, is_stale: false };
        let unindexed = UnindexedPins::default();
        // Whether the journal can be written is checked before the first archive is fetched that needs a pin.
        let is_in_doubt = AtomicBool::new(true);
        Self { path, index, space, readers, unindexed, tail: Mutex::new(tail), is_in_doubt }
    }

    /// Passes the pin of a key to `decide` and appends the events that it returns: all or none. No other event is
    /// appended in between, so of two fetches with different content only one is first. The events are durable when this
    /// returns.
    pub(super) fn settle<E>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E>,
    ) -> Result<SettleOutcome, SettleError<E>> {
        let mut tail = self.tail.lock();
        let found = self.find(key)?;
        let replaced = replaced_bytes(found.as_ref());
        let events = decide(found.map(|found| found.pin)).map_err(SettleError::Refused)?;
        if events.is_empty() {
            return Ok(SettleOutcome::Unchanged);
        }
        Ok(self.append(&mut tail, events, replaced)?)
    }

    /// Appends the removal of every pin among `keys`, many in one write; durable when it returns.
    ///
    /// # Errors
    /// The first one; a pin that cannot be read does not stop the removal of the others.
    pub(super) fn forget_all(&self, keys: &[Key]) -> io::Result<SettleOutcome> {
        let mut outcome = Ok(SettleOutcome::Unchanged);
        for batch in keys.chunks(BATCH_LINES) {
            let mut tail = self.tail.lock();
            let mut events = Vec::new();
            let mut replaced = 0;
            for key in batch {
                match self.find(key) {
                    Ok(found) => {
                        replaced += replaced_bytes(found.as_ref());
                        events.extend(found.map(|found| (PinEvent::Forget, found.pin)));
                    }
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            if !events.is_empty() {
                let appended = self.append(&mut tail, events, replaced)?;
                outcome = outcome.map(|_| appended);
            }
        }
        outcome
    }

    /// The present pin of a key.
    ///
    /// # Errors
    /// `InvalidData` if its line is damaged or about another key: such a pin is unreadable, not absent, because an absent
    /// pin would admit other content.
    pub(super) fn read(&self, key: &Key) -> io::Result<Option<Pin>> {
        Ok(self.find(key)?.map(|found| found.pin))
    }

    /// At most `limit` pinned keys that begin with `prefix`, in order.
    pub(super) fn keys_with_prefix(&self, prefix: &str, limit: usize) -> io::Result<Vec<Key>> {
        // In this order: a pin that reaches the index in between is in both.
        let unindexed = self.unindexed.with_prefix(prefix);
        // Some of what the index has may be removed.
        let indexed_limit = limit.saturating_add(unindexed.len());
        let indexed = self.index.read(|txn| index::pinned_keys_with_prefix(txn, prefix, indexed_limit))?;
        let mut keys = unindexed.merge(indexed);
        keys.truncate(limit);
        Ok(keys)
    }

    /// At most `limit` pinned keys behind `after`, in order; none at the end. Each call ends its read transaction, so a
    /// long listing does not keep old pages of the index in use.
    pub(super) fn keys_after(&self, after: &str, limit: usize) -> io::Result<Vec<Key>> {
        let mut after = after.to_owned();
        loop {
            // In this order: a pin that reaches the index in between is in both.
            let unindexed = self.unindexed.behind(&after);
            let indexed = self.index.read(|txn| index::pinned_keys_after(txn, &after, limit))?;
            let last = indexed.last().filter(|_| indexed.len() == limit).cloned();
            let mut keys = unindexed.until(last.as_ref()).merge(indexed);
            match last {
                // All of them are removed, and the index lacks that; others may follow.
                Some(last) if keys.is_empty() => last.as_str().clone_into(&mut after),
                _ => {
                    keys.truncate(limit);
                    return Ok(keys);
                }
            }
        }
    }

    /// The pinned keys among `keys`, in one pass over the index. Reads no line.
    pub(super) fn pinned_among<'k>(&self, keys: &BTreeSet<&'k Key>) -> io::Result<HashSet<&'k Key>> {
        // In this order: a pin that reaches the index in between is in both.
        let unindexed = self.unindexed.snapshot();
        let mut pinned = self.index.read(|txn| index::pinned_among(txn, keys))?;
        for (key, update) in unindexed {
            if let Some(key) = keys.get(&key) {
                match update {
                    PinUpdate::Pinned(_) => pinned.insert(*key),
                    PinUpdate::Removed => pinned.remove(*key),
                };
            }
        }
        Ok(pinned)
    }

    /// Checks that a pin could be written, unless the last write succeeded.
    ///
    /// # Errors
    /// Why it could not.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        if !self.is_in_doubt.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut tail = self.tail.lock();
        let writable = if tail.is_stale { Err(stale()) } else { tail.file.probe(&self.space) };
        self.is_in_doubt.store(writable.is_err(), Ordering::Release);
        writable
    }

    /// False if the last write has succeeded.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Acquire)
    }

    fn find(&self, key: &Key) -> io::Result<Option<LocatedLine>> {
        self.readers.find(&self.index, &self.unindexed, key)
    }

    /// Appends events, which replace packings of `replaced` bytes.
    fn append(&self, tail: &mut JournalTail, events: Vec<(PinEvent, Pin)>, replaced: u64) -> io::Result<SettleOutcome> {
        let written = self.append_lines(tail, events);
        self.is_in_doubt.store(written.is_err(), Ordering::Release);
        written?;
        tail.unindexed_replaced += replaced;
        Ok(match self.write_index(tail) {
            Ok(()) => SettleOutcome::Appended,
            Err(error) => SettleOutcome::AppendedNotIndexed(error),
        })
    }

    fn append_lines(&self, tail: &mut JournalTail, events: Vec<(PinEvent, Pin)>) -> io::Result<()> {
        if tail.is_stale {
            return Err(stale());
        }
        self.unindexed.check_room(events.len())?;
        let start = tail.file.end();
        let mut lines = Vec::new();
        let mut updates = Vec::new();
        for (event, pin) in events {
            let key = pin.key.clone();
            let from = lines.len();
            line::write_pin(&mut lines, &PinLine { at: Timestamp::now(), event, pin })?;
            updates.push((key, update_of(event, start + from as u64, lines.len() - from)?));
        }
        tail.file.append(&lines, &self.space)?;
        self.unindexed.extend(updates);
        Ok(())
    }

    /// Writes what the index lacks.
    fn write_index(&self, tail: &mut JournalTail) -> io::Result<()> {
        let updates = self.unindexed.snapshot();
        let end = tail.file.end();
        let replaced = tail.unindexed_replaced;
        self.index.write(|txn| {
            index::update_pins(txn, &updates, |_| {})?;
            index::add_to_counter(txn, REPLACED_COUNTER, replaced)?;
            index::set_counter(txn, REPLAYED_COUNTER, end)
        })?;
        tail.unindexed_replaced = 0;
        self.unindexed.clear();
        Ok(())
    }
}

/// The line of a new pin.
#[cfg(test)]
pub(super) fn test_line(pin: &Pin) -> Vec<u8> {
    let mut text = Vec::new();
    let written = PinLine { at: Timestamp::UNIX_EPOCH, event: PinEvent::Pin, pin: pin.clone() };
    line::write_pin(&mut text, &written).expect("written");
    text
}

fn stale() -> io::Error {
    io::Error::other("the index lacks the positions in the compacted pins journal; a restart repairs it")
}

/// The bytes of a line that a later line of its key makes superfluous.
fn replaced_bytes(found: Option<&LocatedLine>) -> u64 {
    found.filter(|found| found.event == PinEvent::Packing).map_or(0, |found| u64::from(found.position.len))
}

/// What an event changes in the index, by the position of its line.
///
/// # Errors
/// When the line is 4 GiB long.
fn update_of(event: PinEvent, offset: u64, len: usize) -> io::Result<PinUpdate> {
    let len = u32::try_from(len).map_err(io::Error::other)?;
    Ok(match event {
        PinEvent::Pin | PinEvent::Packing => PinUpdate::Pinned(PinPosition { offset, len }),
        PinEvent::Forget => PinUpdate::Removed,
    })
}

/// The generation in the first line of the file; 0 without one.
fn read_generation(file: &File) -> io::Result<u64> {
    let mut text = Vec::new();
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    reader.read_until(b'\n', &mut text)?;
    Ok(match line::parse(&text) {
        Ok(JournalLine::Generation(generation)) => generation,
        _ => 0,
    })
}

/// Reads whole lines from offset `start` and records them in the index; returns the end of the last whole line.
fn replay(file: &mut File, start: u64, index: &Index, skipped: &SkippedFiles) -> io::Result<u64> {
    let lines = lookup::LineReader::new(file.try_clone()?)?;
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let mut end = start;
    loop {
        let mut batch: Vec<(Key, PinUpdate)> = Vec::new();
        let batch_start = end;
        while batch.len() < BATCH_LINES {
            let mut text = Vec::new();
            let len = reader.read_until(b'\n', &mut text)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            match line::parse(&text) {
                Ok(JournalLine::Pin(line)) => batch.push((line.pin.key, update_of(line.event, end, len)?)),
                Ok(JournalLine::Generation(_)) => {}
                Err(_) => {
                    warn!(offset = end, "a damaged line of the pins journal is skipped");
                    skipped.record_damaged_line();
                }
            }
            end += len as u64;
        }
        if end == batch_start {
            return Ok(end);
        }
        index.write(|txn| {
            let mut replaced = 0;
            // A line that cannot be read is no packing that could be dropped.
            let count = |old| replaced += lines.read(old).map_or(0, |old| replaced_bytes(Some(&old)));
            index::update_pins(txn, &batch, count)?;
            index::add_to_counter(txn, REPLACED_COUNTER, replaced)?;
            index::set_counter(txn, REPLAYED_COUNTER, end)
        })?;
    }
}
