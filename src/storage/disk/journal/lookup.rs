//! Reads single lines of the journal, also while a compaction replaces the file.

use std::{fs::File, io, sync::Arc};

use parking_lot::RwLock;

use super::{
    GENERATION_COUNTER, PinEvent,
    line::{self, JournalLine},
    unindexed::UnindexedPins,
};
use crate::{
    entry::{Key, Pin},
    storage::disk::{
        blob::BlobFile,
        budget::Reservation,
        index::{self, Index, PinPosition, PinUpdate},
    },
};

/// A line that was read.
pub(super) struct LocatedLine {
    pub(super) position: PinPosition,
    pub(super) event: PinEvent,
    pub(super) pin: Pin,
}

/// Reads lines of one file.
pub(super) struct LineReader(Arc<BlobFile>);

impl LineReader {
    pub(super) fn new(file: File) -> io::Result<Self> {
        Ok(Self(Arc::new(BlobFile::new(file, None))))
    }

    /// Reads the line about a pin at a position.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged or about something else.
    pub(super) fn read(&self, position: PinPosition) -> io::Result<LocatedLine> {
        let mut text = vec![0; position.len as usize];
        self.0.read_exact(&mut text, position.offset)?;
        match line::parse(&text)? {
            JournalLine::Pin(line) => Ok(LocatedLine { position, event: line.event, pin: line.pin }),
            JournalLine::Generation(_) => Err(disagreement()),
        }
    }
}

/// The file of the present generation, and during a compaction that of the next one.
pub(super) struct JournalReaders(RwLock<Vec<(u64, Arc<BlobFile>)>>);

impl JournalReaders {
    pub(super) fn new(generation: u64, file: File) -> Self {
        Self(RwLock::new(vec![(generation, Arc::new(BlobFile::new(file, None)))]))
    }

    /// Reads the last line about a key.
    ///
    /// # Errors
    /// `InvalidData` if the line is damaged or about another key.
    pub(super) fn find(&self, index: &Index, unindexed: &UnindexedPins, key: &Key) -> io::Result<Option<LocatedLine>> {
        loop {
            let waiting = unindexed.get(key);
            let (position, generation) = index.read(|txn| {
                let position = match waiting {
                    Some(PinUpdate::Pinned(position)) => Some(position),
                    Some(PinUpdate::Removed) => None,
                    None => index::pin_position(txn, key)?,
                };
                Ok((position, index::counter(txn, GENERATION_COUNTER)?))
            })?;
            let Some(position) = position else { return Ok(None) };
            // Outdated if a compaction has ended in between: the position is one in the file before.
            let is_outdated = waiting.is_some() && unindexed.get(key) != waiting;
            let Some(file) = self.file(generation).filter(|_| !is_outdated) else { continue };
            let found = LineReader(file).read(position)?;
            return if found.pin.key == *key { Ok(Some(found)) } else { Err(disagreement()) };
        }
    }

    /// The file of a generation.
    pub(super) fn file(&self, generation: u64) -> Option<Arc<BlobFile>> {
        self.0.read().iter().find(|(number, _)| *number == generation).map(|(_, file)| Arc::clone(file))
    }

    /// Adds the file of the next generation.
    pub(super) fn add(&self, generation: u64, file: File) {
        self.0.write().push((generation, Arc::new(BlobFile::new(file, None))));
    }

    /// Removes the file of a generation; its last reader releases its bytes.
    pub(super) fn remove(&self, generation: u64, reservation: Option<Reservation>) {
        let mut files = self.0.write();
        if let Some(at) = files.iter().position(|(number, _)| *number == generation) {
            let (_, file) = files.remove(at);
            file.with_reservation(|held| *held = reservation);
        }
    }
}

fn disagreement() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the pins journal and the index disagree")
}
