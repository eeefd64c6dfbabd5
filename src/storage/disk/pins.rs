//! The journal of pins: what was first seen under each key, and when. Append-only, every line durable before it counts.
//!
//! It is the audit log as well, so nothing is ever removed from it; the index knows where the last line of each key stands.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    blob::BlobFile,
    budget::{Budget, Reservation, blocks},
    index::{self, Index},
};
use crate::entry::{Key, Pin};

/// Lines replayed into the index by one write.
const BATCH: usize = 2000;
/// The name of the offset in the index up to which the journal has been replayed.
const SEEN: &str = "pins_seen";

/// What a line of the journal says about its pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinEvent {
    /// First seen.
    Pin,
    /// The same content came in a new packing: other bytes, equal manifest.
    Packing,
    /// An operator's word: the key may be pinned anew.
    Forget,
}

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    event: PinEvent,
    pin: Pin,
}

/// The open journal.
pub(super) struct Journal {
    /// For lookups, which must not wait for the sync of an append.
    reader: BlobFile,
    state: Mutex<State>,
}

struct State {
    file: File,
    end: u64,
    charge: Reservation,
    /// Durable lines that the index has not taken yet.
    waiting: Vec<(Key, Place)>,
}

/// Offset and length of a line, bytes; `None` for a pin that is forgotten.
type Place = Option<(u64, u32)>;

impl Journal {
    /// Opens the journal, cuts a last line that a kill has torn, and replays into the index what it has not seen.
    pub(super) fn open(path: &Path, budget: &Arc<Budget>, index: &Index) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        let seen = index.read(|txn| index::state(txn, SEEN))?;
        let seen = if seen <= len {
            seen
        } else {
            warn!("the pins journal is shorter than the index remembers and is read again from its beginning");
            index.write(index::clear_pins)?;
            0
        };
        let end = replay(&mut file, seen, index)?;
        if end < len {
            warn!(bytes = len - end, "the last line of the pins journal was torn and is cut");
            file.set_len(end)?;
            file.sync_all()?;
        }
        let charge = budget.account_existing(blocks(end));
        let reader = BlobFile::new(file.try_clone()?, None);
        Ok(Self { reader, state: Mutex::new(State { file, end, charge, waiting: Vec::new() }) })
    }

    /// Shows `judge` the pin of a key and appends what it says, while nobody else can append: two who have fetched
    /// different content cannot both be the first. Durable and in the index when it returns; false when nothing was to
    /// be appended. `reserve` makes the journal's charge larger.
    pub(super) fn settle<E>(
        &self,
        index: &Index,
        key: &Key,
        judge: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E>,
        reserve: impl FnOnce(&mut Reservation, u64) -> io::Result<()>,
    ) -> io::Result<Result<bool, E>> {
        let mut state = self.lock();
        let waiting = state.waiting.iter().rev().find(|(waiting, _)| waiting == key).map(|(_, place)| *place);
        let place = waiting.map_or_else(|| index.read(|txn| index::pin(txn, key)), Ok)?;
        let events = match judge(place.map(|place| self.at(place, key)).transpose()?) {
            Ok(events) if events.is_empty() => return Ok(Ok(false)),
            Ok(events) => events,
            Err(refused) => return Ok(Err(refused)),
        };
        self.append(&mut state, index, events, reserve).map(|()| Ok(true))
    }

    /// Appends lines: all of them, or none.
    fn append(
        &self,
        state: &mut State,
        index: &Index,
        events: Vec<(PinEvent, Pin)>,
        reserve: impl FnOnce(&mut Reservation, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = state.end;
        let mut lines = Vec::new();
        let mut places = Vec::new();
        for (event, pin) in events {
            let key = pin.key.clone();
            let from = lines.len();
            serde_json::to_writer(&mut lines, &Line { at: Timestamp::now(), event, pin })?;
            lines.push(b'\n');
            places.push((key, place(event, start + from as u64, lines.len() - from)));
        }
        let end = start + lines.len() as u64;
        reserve(&mut state.charge, blocks(end))?;
        // Always from the known end: what a failed append left behind is overwritten.
        state.file.seek(SeekFrom::Start(start))?;
        let written = state.file.write_all(&lines).and_then(|()| state.file.sync_data());
        if let Err(error) = written {
            // If even this fails the torn line is cut at the next start.
            let _ = state.file.set_len(start);
            return Err(error);
        }
        state.end = end;
        state.waiting.append(&mut places);
        index.write(|txn| {
            state.waiting.iter().try_for_each(|(key, place)| index::set_pin(txn, key, *place))?;
            index::set_state(txn, SEEN, end)
        })?;
        state.waiting.clear();
        Ok(())
    }

    /// Reads the pin of a key, whose line stands at `place`.
    pub(super) fn at(&self, place: (u64, u32), key: &Key) -> io::Result<Pin> {
        // Not absent but unreadable: to call it absent would let other content in.
        let disagree = || io::Error::new(io::ErrorKind::InvalidData, "the pins journal and the index disagree");
        self.read(place).and_then(|pin| if pin.key == *key { Ok(pin) } else { Err(disagree()) })
    }

    /// Reads the pin whose line stands at a place.
    pub(super) fn read(&self, (offset, len): (u64, u32)) -> io::Result<Pin> {
        let mut text = vec![0; len as usize];
        self.reader.fill(&mut text, offset)?;
        Ok(serde_json::from_slice::<Line>(&text)?.pin)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(event: PinEvent, offset: u64, len: usize) -> Place {
    let len = u32::try_from(len).ok()?;
    (event != PinEvent::Forget).then_some((offset, len))
}

/// Reads whole lines from `seen` on and puts them into the index; returns where the last whole line ends.
fn replay(file: &mut File, seen: u64, index: &Index) -> io::Result<u64> {
    file.seek(SeekFrom::Start(seen))?;
    let mut reader = BufReader::new(file);
    let mut end = seen;
    loop {
        let mut batch: Vec<(Key, Place)> = Vec::new();
        let start = end;
        while batch.len() < BATCH {
            let mut text = Vec::new();
            let len = reader.read_until(b'\n', &mut text)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            match serde_json::from_slice::<Line>(&text) {
                Ok(line) => batch.push((line.pin.key, place(line.event, end, len))),
                Err(_) => warn!(offset = end, "a damaged line of the pins journal is skipped"),
            }
            end += len as u64;
        }
        if end == start {
            return Ok(end);
        }
        index.write(|txn| {
            batch.iter().try_for_each(|(key, place)| index::set_pin(txn, key, *place))?;
            index::set_state(txn, SEEN, end)
        })?;
    }
}
