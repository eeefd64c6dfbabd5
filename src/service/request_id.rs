//! The id of a request, in its response, its log event and its error.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;

use crate::entry::Digest;

/// The id of one request; prints as `1f2e3d4c-00002a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    process: u32,
    serial: u64,
}

/// Makes request ids: unique within a process and unlikely to repeat in another.
pub(super) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let seed = format!("{:?}{}", std::time::SystemTime::now(), std::process::id());
        let digest = Digest::of(seed.as_bytes()).0;
        Self { process: u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]), next: AtomicU64::new(1) }
    }

    pub(super) fn next(&self) -> RequestId {
        RequestId { process: self.process, serial: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

impl RequestId {
    /// The value of `X-Request-Id`, the same text as [`fmt::Display`]. By hand: every response has one, and `format!`
    /// would allocate.
    pub(super) fn to_header(self) -> HeaderValue {
        let mut text = [b'-'; 8 + 1 + 16];
        let serial = write_hex_at_end(&mut text, self.serial, 6);
        // The byte before the serial number stays a dash.
        let process = write_hex_at_end(&mut text[..serial - 1], self.process.into(), 8);
        HeaderValue::from_bytes(&text[process..]).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:06x}", self.process, self.serial)
    }
}

/// Writes a number in hexadecimal to the end of `text`, with at least `min_digits`; returns the index of the first digit.
fn write_hex_at_end(text: &mut [u8], mut number: u64, min_digits: usize) -> usize {
    let end = text.len();
    let mut at = text.len();
    while number > 0 || end - at < min_digits {
        at -= 1;
        text[at] = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_the_same_text_in_header_and_log() {
        for (process, serial) in [(0, 0), (1, 0xff_ffff), (u32::MAX, 0x0100_0000), (0x1f2e_3d4c, u64::MAX)] {
            let id = RequestId { process, serial };
            assert_eq!(id.to_header().to_str().expect("ASCII"), id.to_string());
        }
    }
}
