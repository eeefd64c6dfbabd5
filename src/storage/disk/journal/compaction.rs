//! Compaction: writes the journal again without the packings that later lines replace.
//!
//! Most of the new file is written while events are appended; then they wait until it is completed, synced and renamed,
//! and one write of the index moves all positions. The first line of the new file has a new generation number: after a
//! kill before that write it differs from the number in the index, so the next start replays the new file.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _},
    path::Path,
    sync::Arc,
};

use super::{
    GENERATION_COUNTER, Journal, JournalTail, PinEvent, REPLACED_COUNTER, REPLAYED_COUNTER,
    line::{self, JournalLine},
};
use crate::storage::disk::{
    append_file::AppendFile,
    blob::BlobFile,
    budget::allocated_bytes,
    index::{self, PinPosition, PinUpdate},
    stage,
};

/// A journal with fewer bytes of replaced packings is not compacted.
const MIN_REPLACED_BYTES: u64 = 1 << 20;
/// Most lines that one compaction drops; the next one drops more. Bounds its memory to 16 MiB.
const MAX_DROPPED_LINES: usize = 1 << 20;

/// The steps of a compaction, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage::disk) enum CompactionStep {
    /// The new file is durable in the spool folder.
    Staged,
    /// It has its final name.
    Renamed,
    /// The index has the new positions.
    Indexed,
}

/// A part of a file, read without moving the offset that its handles share.
struct JournalPart {
    file: Arc<BlobFile>,
    offset: u64,
    end: u64,
}

impl Read for JournalPart {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let step = buf.len().min(left);
        let len = self.file.read_at(&mut buf[..step], self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}

/// Where lines were dropped: the end of each dropped line in the old file, and the bytes dropped up to there.
#[derive(Default)]
struct DroppedLines(Vec<(u64, u64)>);

impl DroppedLines {
    fn push(&mut self, end: u64, len: u64) {
        let before = self.0.last().map_or(0, |(_, dropped)| *dropped);
        self.0.push((end, before + len));
    }

    /// The bytes dropped before an offset of the old file.
    fn before(&self, offset: u64) -> u64 {
        let at = self.0.partition_point(|(end, _)| *end <= offset);
        at.checked_sub(1).map_or(0, |at| self.0[at].1)
    }
}

/// The new file, while it is written.
struct StagedJournal<'a> {
    path: &'a Path,
    writer: BufWriter<File>,
    /// Length of the first line, bytes.
    header_len: u64,
    /// The end of what was read of the old file, bytes.
    read_until: u64,
    dropped: DroppedLines,
}

impl Drop for StagedJournal<'_> {
    fn drop(&mut self) {
        // After the rename there is no such file.
        let _ = fs::remove_file(self.path);
    }
}

impl StagedJournal<'_> {
    /// The position in the new file of a line of the old one.
    fn moved(&self, PinPosition { offset, len }: PinPosition) -> PinPosition {
        PinPosition { offset: self.header_len + offset - self.dropped.before(offset), len }
    }
}

impl Journal {
    /// Compacts the journal if at least half of it, and [`MIN_REPLACED_BYTES`], are replaced packings. Blocks.
    ///
    /// # Errors
    /// When the disk has no room for the new file, or fails; the journal is then as before.
    pub(in crate::storage::disk) fn compact_if_worthwhile(&self, staging_path: &Path) -> io::Result<()> {
        let replaced = self.index.read(|txn| index::counter(txn, REPLACED_COUNTER))?;
        let len = self.tail.lock().file.end();
        if replaced < MIN_REPLACED_BYTES || replaced < len - replaced.min(len) {
            return Ok(());
        }
        self.compact(staging_path, |_| {})
    }

    /// Compacts the journal; calls `after_step` after each step.
    pub(in crate::storage::disk) fn compact(
        &self,
        staging_path: &Path,
        mut after_step: impl FnMut(CompactionStep),
    ) -> io::Result<()> {
        let (generation, end) = {
            let tail = self.tail.lock();
            (tail.generation, tail.file.end())
        };
        let next = generation + 1;
        let replaced = self.index.read(|txn| index::counter(txn, REPLACED_COUNTER))?;
        let reservation = self.space.reserve(allocated_bytes(end.saturating_sub(replaced)))?;
        let file = File::options().read(true).write(true).create_new(true).open(staging_path)?;
        let mut staged = StagedJournal {
            path: staging_path,
            writer: BufWriter::new(file),
            header_len: 0,
            read_until: 0,
            dropped: DroppedLines::default(),
        };
        let mut header = Vec::new();
        line::write_generation(&mut header, next)?;
        staged.writer.write_all(&header)?;
        staged.header_len = header.len() as u64;
        // Most of the work, beside appends.
        self.copy_until(&mut staged, generation, end)?;

        let mut tail = self.tail.lock();
        let end = tail.file.end();
        self.copy_until(&mut staged, generation, end)?;
        self.write_index(&mut tail)?;
        staged.writer.flush()?;
        let file = staged.writer.get_ref().try_clone()?;
        let file = AppendFile::adopt(file, reservation, &self.space)?;
        file.reader()?.sync_all()?;
        after_step(CompactionStep::Staged);
        self.replace(&mut tail, &staged, file, &mut after_step)
    }

    /// Gives the staged file its name and moves the positions in the index.
    fn replace(
        &self,
        tail: &mut JournalTail,
        staged: &StagedJournal<'_>,
        file: AppendFile,
        mut after_step: impl FnMut(CompactionStep),
    ) -> io::Result<()> {
        let old = tail.generation;
        let next = old + 1;
        self.readers.add(next, file.reader()?);
        if let Err(error) = stage::replace(staged.path, &self.path) {
            self.readers.remove(next, None);
            return Err(error);
        }
        after_step(CompactionStep::Renamed);
        let moved = self.index.write(|txn| {
            index::move_pins(txn, |position| staged.moved(position))?;
            index::set_counter(txn, GENERATION_COUNTER, next)?;
            index::set_counter(txn, REPLACED_COUNTER, 0)?;
            index::set_counter(txn, REPLAYED_COUNTER, file.end())
        });
        if let Err(error) = moved {
            // The pins can still be read from the old file, which the system keeps while it is open.
            tail.is_stale = true;
            return Err(error);
        }
        let old_file = std::mem::replace(&mut tail.file, file);
        tail.generation = next;
        self.readers.remove(old, Some(old_file.into_reservation()));
        after_step(CompactionStep::Indexed);
        Ok(())
    }

    /// Copies the lines up to `end` that are not replaced. A damaged line is kept as it is: its pin stays unreadable.
    fn copy_until(&self, staged: &mut StagedJournal<'_>, generation: u64, end: u64) -> io::Result<()> {
        let Some(source) = self.readers.file(generation) else {
            return Err(io::Error::other("the pins journal was compacted by another task"));
        };
        let mut reader = BufReader::new(JournalPart { file: source, offset: staged.read_until, end });
        let mut text = Vec::new();
        loop {
            text.clear();
            let len = reader.read_until(b'\n', &mut text)? as u64;
            if len == 0 {
                return Ok(());
            }
            let start = staged.read_until;
            staged.read_until += len;
            if staged.dropped.0.len() < MAX_DROPPED_LINES && self.is_superfluous(&text, start)? {
                staged.dropped.push(staged.read_until, len);
            } else {
                staged.writer.write_all(&text)?;
            }
        }
    }

    /// True for the header of an earlier compaction, and for a packing that a later line of its key replaces.
    fn is_superfluous(&self, text: &[u8], start: u64) -> io::Result<bool> {
        match line::parse(text) {
            Ok(JournalLine::Generation(_)) => Ok(true),
            Ok(JournalLine::Pin(line)) if line.event == PinEvent::Packing => {
                let position = match self.unindexed.get(&line.pin.key) {
                    Some(PinUpdate::Pinned(position)) => Some(position),
                    Some(PinUpdate::Removed) => None,
                    None => self.index.read(|txn| index::pin_position(txn, &line.pin.key))?,
                };
                Ok(position.is_none_or(|position| position.offset != start))
            }
            _ => Ok(false),
        }
    }
}
