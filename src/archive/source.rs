//! A buffered reader over a body that is still growing.

use std::io;

use crate::origin::Growing;

/// Bytes asked for at once. More than the longest local header (30 bytes and two lengths of 16 bits).
const BUFFER: usize = 256 << 10;

/// Reads forward in large pieces, from wherever it was last [sought](Source::seek).
pub(super) struct Source<'a> {
    body: &'a dyn Growing,
    buffer: Box<[u8]>,
    /// Offset in the body of the first buffered byte that was not consumed.
    offset: u64,
    /// `buffer[start..end]` is what was read and not consumed.
    start: usize,
    end: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(body: &'a dyn Growing) -> Self {
        Self { body, buffer: vec![0; BUFFER].into(), offset: 0, start: 0, end: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to `offset`; what is already buffered there is kept.
    pub(super) fn seek(&mut self, offset: u64) {
        match offset.checked_sub(self.offset) {
            Some(ahead) if ahead <= (self.end - self.start) as u64 => self.consume(ahead as usize),
            _ => (self.offset, self.start, self.end) = (offset, 0, 0),
        }
    }

    /// At least one byte, whatever is there; none only at the end of the body.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.start..self.end])
    }

    /// The next `want` bytes (at most the buffer's length); fewer only at the end of the body.
    pub(super) fn peek(&mut self, want: usize) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + want > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < want {
            let held = (self.end - self.start) as u64;
            let read = self.body.read_at(&mut self.buffer[self.end..], self.offset + held)?;
            if read == 0 {
                break;
            }
            self.end += read;
        }
        let have = want.min(self.end - self.start);
        Ok(&self.buffer[self.start..self.start + have])
    }

    /// Goes `count` bytes on, all of which [`Source::fill`] or [`Source::peek`] has shown.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }
}

/// Fills `buf` from `offset`.
///
/// # Errors
/// Also when the body ends before `buf` is full.
pub(super) fn read_exact(body: &dyn Growing, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        let read = body.read_at(buf, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf = &mut buf[read..];
        offset += read as u64;
    }
    Ok(())
}
