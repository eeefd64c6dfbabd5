//! The pins journal: an append-only file of what was first seen under each key. Every line is durable before it counts.
//!
//! It is also the audit log, so no line is ever removed. The index records the position of the last line of each key.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    blob::BlobFile,
    budget::{Budget, Reservation, allocated_bytes},
    index::{self, Index, PinPosition},
};
use crate::entry::{Key, Pin};

/// Lines replayed into the index by one write.
const REPLAY_BATCH_LINES: usize = 2000;
/// The counter in the index for the offset up to which the journal was replayed.
const REPLAYED_COUNTER: &str = "pins_seen";

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

/// One line.
#[derive(Serialize, Deserialize)]
struct JournalLine {
    at: Timestamp,
    event: PinEvent,
    pin: Pin,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SettleOutcome {
    /// The decision returned no events.
    Unchanged,
    /// Events were appended.
    Appended,
}

/// The open journal. Lock order: the journal's lock before the index.
pub(super) struct Journal {
    /// For lookups: they do not wait for the sync of an append.
    reader: BlobFile,
    tail: Mutex<JournalTail>,
}

struct JournalTail {
    file: File,
    end: u64,
    reservation: Reservation,
    /// Durable lines that are not yet in the index.
    unindexed: Vec<(Key, Option<PinPosition>)>,
}

impl Journal {
    /// Opens the journal, truncates a torn last line, and replays the lines that the index lacks.
    pub(super) fn open(path: &Path, budget: &Arc<Budget>, index: &Index) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        let replayed = index.read(|txn| index::counter(txn, REPLAYED_COUNTER))?;
        let replayed = if replayed <= len {
            replayed
        } else {
            warn!("the pins journal is shorter than the index records; all of it is replayed");
            index.write(index::clear_pins)?;
            0
        };
        let end = replay(&mut file, replayed, index)?;
        if end < len {
            warn!(bytes = len - end, "the last line of the pins journal is torn and is truncated");
            file.set_len(end)?;
            file.sync_all()?;
        }
        let reservation = budget.account_existing(allocated_bytes(end));
        let reader = BlobFile::new(file.try_clone()?, None);
        Ok(Self { reader, tail: Mutex::new(JournalTail { file, end, reservation, unindexed: Vec::new() }) })
    }

    /// Passes the pin of a key to `decide` and appends the events that it returns: all or none. No other event is
    /// appended in between, so of two fetches with different content only one is first. The events are durable and in
    /// the index when this returns. `reserve` makes the journal's reservation larger.
    pub(super) fn settle<E>(
        &self,
        index: &Index,
        key: &Key,
        decide: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E>,
        reserve: impl FnOnce(&mut Reservation, u64) -> io::Result<()>,
    ) -> Result<SettleOutcome, SettleError<E>> {
        let mut tail = self.tail.lock();
        let pin = self.find(&tail, index, key)?;
        let events = decide(pin).map_err(SettleError::Refused)?;
        if events.is_empty() {
            return Ok(SettleOutcome::Unchanged);
        }
        self.append(&mut tail, index, events, reserve)?;
        Ok(SettleOutcome::Appended)
    }

    /// Appends the removal of every pin among `keys`, many in one write; durable and in the index when it returns.
    ///
    /// # Errors
    /// The first one; a pin that cannot be read does not stop the removal of the others.
    pub(super) fn forget_all(
        &self,
        index: &Index,
        keys: &[Key],
        reserve: impl Fn(&mut Reservation, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        for batch in keys.chunks(REPLAY_BATCH_LINES) {
            let mut tail = self.tail.lock();
            let mut events = Vec::new();
            for key in batch {
                match self.find(&tail, index, key) {
                    Ok(found) => events.extend(found.map(|pin| (PinEvent::Forget, pin))),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            if !events.is_empty() {
                self.append(&mut tail, index, events, &reserve)?;
            }
        }
        outcome
    }

    /// The present pin of a key.
    fn find(&self, tail: &JournalTail, index: &Index, key: &Key) -> io::Result<Option<Pin>> {
        let unindexed = tail.unindexed.iter().rev().find(|(other, _)| other == key).map(|(_, position)| *position);
        let position = unindexed.map_or_else(|| index.read(|txn| index::pin_position(txn, key)), Ok)?;
        position.map(|position| self.read(position, key)).transpose()
    }

    fn append(
        &self,
        tail: &mut JournalTail,
        index: &Index,
        events: Vec<(PinEvent, Pin)>,
        reserve: impl FnOnce(&mut Reservation, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = tail.end;
        let mut lines = Vec::new();
        let mut positions = Vec::new();
        for (event, pin) in events {
            let key = pin.key.clone();
            let from = lines.len();
            serde_json::to_writer(&mut lines, &JournalLine { at: Timestamp::now(), event, pin })?;
            lines.push(b'\n');
            positions.push((key, position_after(event, start + from as u64, lines.len() - from)));
        }
        let end = start + lines.len() as u64;
        reserve(&mut tail.reservation, allocated_bytes(end))?;
        // Seek to the known end: this overwrites what a failed append left.
        tail.file.seek(SeekFrom::Start(start))?;
        let written = tail.file.write_all(&lines).and_then(|()| tail.file.sync_data());
        if let Err(error) = written {
            // If this fails too, the next start truncates the torn line.
            let _ = tail.file.set_len(start);
            return Err(error);
        }
        tail.end = end;
        tail.unindexed.append(&mut positions);
        index.write(|txn| {
            tail.unindexed.iter().try_for_each(|(key, position)| index::set_pin_position(txn, key, *position))?;
            index::set_counter(txn, REPLAYED_COUNTER, end)
        })?;
        tail.unindexed.clear();
        Ok(())
    }

    /// Reads the pin of a key from its line.
    ///
    /// # Errors
    /// `InvalidData` if the line is about another key: such a pin is unreadable, not absent, because an absent pin would
    /// admit other content.
    pub(super) fn read(&self, (offset, len): PinPosition, key: &Key) -> io::Result<Pin> {
        let mut text = vec![0; len as usize];
        self.reader.read_exact(&mut text, offset)?;
        let pin = serde_json::from_slice::<JournalLine>(&text)?.pin;
        if pin.key != *key {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the pins journal and the index disagree"));
        }
        Ok(pin)
    }
}

/// The position of a key's pin after an event; `None` if the event removes the pin.
fn position_after(event: PinEvent, offset: u64, len: usize) -> Option<PinPosition> {
    let len = u32::try_from(len).ok()?;
    (event != PinEvent::Forget).then_some((offset, len))
}

/// Reads whole lines from offset `start` and records them in the index; returns the end of the last whole line.
fn replay(file: &mut File, start: u64, index: &Index) -> io::Result<u64> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let mut end = start;
    loop {
        let mut batch: Vec<(Key, Option<PinPosition>)> = Vec::new();
        let batch_start = end;
        while batch.len() < REPLAY_BATCH_LINES {
            let mut text = Vec::new();
            let len = reader.read_until(b'\n', &mut text)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            match serde_json::from_slice::<JournalLine>(&text) {
                Ok(line) => batch.push((line.pin.key, position_after(line.event, end, len))),
                Err(_) => warn!(offset = end, "a damaged line of the pins journal is skipped"),
            }
            end += len as u64;
        }
        if end == batch_start {
            return Ok(end);
        }
        index.write(|txn| {
            batch.iter().try_for_each(|(key, position)| index::set_pin_position(txn, key, *position))?;
            index::set_counter(txn, REPLAYED_COUNTER, end)
        })?;
    }
}
