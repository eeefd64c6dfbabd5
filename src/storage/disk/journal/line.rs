//! The lines of the pins journal: JSON objects, each with a checksum as its last member.
//!
//! Lines of earlier versions have no checksum and are read as before.

use std::io::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::PinEvent;
use crate::entry::Pin;

/// What stands between a line's content and the digits of its checksum.
const CHECKSUM_MEMBER: &[u8] = b",\"crc32\":\"";
/// Hexadecimal digits of a checksum.
const CHECKSUM_DIGITS: usize = 8;
/// What ends a line behind its checksum.
const LINE_END: &[u8] = b"\"}";

/// A line about a pin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinLine {
    /// When it was written.
    pub(super) at: Timestamp,
    pub(super) event: PinEvent,
    pub(super) pin: Pin,
}

/// The first line of a compacted journal: it tells the index whether its positions are those of this file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationLine {
    generation: u64,
}

/// The content of a line.
#[derive(Debug)]
pub(super) enum JournalLine {
    /// An event.
    Pin(Box<PinLine>),
    /// The number of the compaction that has written the file.
    Generation(u64),
}

/// Appends a line about a pin to `text`.
pub(super) fn write_pin(text: &mut Vec<u8>, line: &PinLine) -> io::Result<()> {
    write(text, line)
}

/// Appends the first line of a compacted journal to `text`.
pub(super) fn write_generation(text: &mut Vec<u8>, generation: u64) -> io::Result<()> {
    write(text, &GenerationLine { generation })
}

fn write(text: &mut Vec<u8>, content: &impl Serialize) -> io::Result<()> {
    let start = text.len();
    serde_json::to_writer(&mut *text, content)?;
    text.pop();
    let checksum = crc32fast::hash(&text[start..]);
    text.extend_from_slice(CHECKSUM_MEMBER);
    write!(text, "{checksum:0width$x}", width = CHECKSUM_DIGITS)?;
    text.extend_from_slice(LINE_END);
    text.push(b'\n');
    Ok(())
}

/// Reads a line, with or without its line feed.
///
/// # Errors
/// `InvalidData` when it is damaged.
pub(super) fn parse(text: &[u8]) -> io::Result<JournalLine> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let content = match split_checksum(text) {
        Some(content) => [content?, b"}"].concat(),
        None => text.to_vec(),
    };
    if content.starts_with(b"{\"generation\"") {
        return Ok(JournalLine::Generation(serde_json::from_slice::<GenerationLine>(&content)?.generation));
    }
    Ok(JournalLine::Pin(serde_json::from_slice(&content)?))
}

/// The content of a line that has a checksum, without its closing brace.
fn split_checksum(text: &[u8]) -> Option<io::Result<&[u8]>> {
    let (rest, digits) = text.strip_suffix(LINE_END)?.split_last_chunk::<CHECKSUM_DIGITS>()?;
    let content = rest.strip_suffix(CHECKSUM_MEMBER)?;
    let expected = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let matches = expected == Some(crc32fast::hash(content));
    Some(if matches { Ok(content) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum differs")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Digest, Key, Verified};

    fn line() -> PinLine {
        let verified = Verified { manifest: Digest([2; 32]), commit: None, facts: serde_json::json!({"a": 1}) };
        let digest = Digest([1; 32]);
        let pin = Pin { key: Key::new("k"), digest, len: 10, first_seen: Timestamp::UNIX_EPOCH, verified };
        PinLine { at: Timestamp::UNIX_EPOCH, event: PinEvent::Pin, pin }
    }

    #[test]
    fn every_changed_byte_of_a_line_is_recognised() {
        let mut text = Vec::new();
        write_pin(&mut text, &line()).expect("written");
        assert!(matches!(parse(&text), Ok(JournalLine::Pin(read)) if read.pin == line().pin));
        for at in 0..text.len() - 1 {
            for bit in 0..8 {
                let mut damaged = text.clone();
                damaged[at] ^= 1 << bit;
                // The case of a digit of the checksum makes no difference.
                let same_checksum = damaged[at].eq_ignore_ascii_case(&text[at]) && at > text.len() - 12;
                assert!(parse(&damaged).is_err() || same_checksum, "byte {at}, bit {bit}");
            }
        }
        for len in 0..text.len() - 1 {
            assert!(parse(&text[..len]).is_err(), "torn after {len} bytes");
        }
    }

    #[test]
    fn lines_without_a_checksum_are_read() {
        let text = serde_json::to_vec(&line()).expect("text");
        assert!(matches!(parse(&text), Ok(JournalLine::Pin(read)) if read.pin == line().pin));
        let mut text = Vec::new();
        write_generation(&mut text, 7).expect("written");
        assert!(matches!(parse(&text), Ok(JournalLine::Generation(7))));
    }
}
