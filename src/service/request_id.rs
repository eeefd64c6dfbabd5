//! The name of a request, in its answer, its log event and its error.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;

use crate::entry::Digest;

/// Prints as `1f2e3d4c-00002a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    process: u32,
    serial: u64,
}

/// Names requests: unique within a process and unlikely to repeat in another.
pub(super) struct Ids {
    process: u32,
    next: AtomicU64,
}

impl Ids {
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
    /// The value of `X-Request-Id`. Written digit by digit: every answer has one.
    pub(super) fn to_header(self) -> HeaderValue {
        let mut text = [b'-'; 8 + 1 + 16];
        let serial = hexadecimal(&mut text, self.serial, 6);
        // What lies before the serial number keeps its dash.
        let process = hexadecimal(&mut text[..serial - 1], self.process.into(), 8);
        HeaderValue::from_bytes(&text[process..]).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:06x}", self.process, self.serial)
    }
}

/// Writes a number to the end of `text`, in at least so many digits; tells where it begins.
fn hexadecimal(text: &mut [u8], mut number: u64, least: usize) -> usize {
    let end = text.len();
    let mut at = text.len();
    while number > 0 || end - at < least {
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
    fn a_header_has_the_same_text_as_the_log() {
        for (process, serial) in [(0, 0), (1, 0xff_ffff), (u32::MAX, 0x0100_0000), (0x1f2e_3d4c, u64::MAX)] {
            let id = RequestId { process, serial };
            assert_eq!(id.to_header().to_str().expect("ASCII"), id.to_string());
        }
    }
}
