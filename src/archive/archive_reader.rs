//! A buffered reader for a body that is still being downloaded.

use std::io;

use crate::origin::Growing;

/// Size of the read buffer, in bytes. Larger than the longest local header (30 bytes and two lengths of 16 bits).
const READ_BUFFER_BYTES: usize = 256 << 10;

/// Reads forward in large pieces from the last [`ArchiveReader::seek`].
pub(super) struct ArchiveReader<'a> {
    body: &'a dyn Growing,
    buffer: Box<[u8]>,
    /// Offset in the body of the first byte that is not consumed.
    offset: u64,
    /// `buffer[start..end]` holds the bytes that are read and not consumed.
    start: usize,
    end: usize,
}

impl<'a> ArchiveReader<'a> {
    pub(super) fn new(body: &'a dyn Growing) -> Self {
        Self { body, buffer: vec![0; READ_BUFFER_BYTES].into(), offset: 0, start: 0, end: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves to `offset`. Bytes that are buffered from there on are reused.
    pub(super) fn seek(&mut self, offset: u64) {
        match offset.checked_sub(self.offset) {
            Some(ahead) if ahead <= (self.end - self.start) as u64 => self.consume(ahead as usize),
            _ => (self.offset, self.start, self.end) = (offset, 0, 0),
        }
    }

    /// Returns the buffered bytes, at least one; empty only at the end of the body. Blocks until a byte has arrived.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.start..self.end])
    }

    /// Returns the next `len` bytes (at most the buffer's length); fewer only at the end of the body. Blocks until they
    /// have arrived.
    pub(super) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start + len > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < len {
            let buffered = (self.end - self.start) as u64;
            let read = self.body.read_at(&mut self.buffer[self.end..], self.offset + buffered)?;
            if read == 0 {
                break;
            }
            self.end += read;
        }
        let end = self.end.min(self.start + len);
        Ok(&self.buffer[self.start..end])
    }

    /// Consumes `count` bytes, which [`ArchiveReader::fill`] or [`ArchiveReader::peek`] must have returned.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }
}

/// Fills `buf` from `offset`. Blocks until the bytes have arrived.
///
/// # Errors
/// If the body cannot be read or ends before `buf` is full.
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
