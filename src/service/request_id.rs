//! The id of a request, in its response, its log event and its error.
//!
//! The mirror makes an id for each request, or keeps the id that a trusted proxy has set, so that the logs of both can be
//! joined.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderValue};

use super::headers::X_REQUEST_ID;
use crate::entry::Digest;

/// Longest id that is kept from a proxy, in bytes.
const MAX_GIVEN_BYTES: usize = 64;

/// The id of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestId {
    /// The mirror's own; prints as `1f2e3d4c-00002a`.
    Own {
        /// The same for all ids of a process.
        process: u32,
        /// The number of the request.
        serial: u64,
    },
    /// The id of a trusted proxy: at most [`MAX_GIVEN_BYTES`] letters, digits and `-_.:+/=`.
    Given(HeaderValue),
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

    /// A new id.
    pub(super) fn next(&self) -> RequestId {
        RequestId::Own { process: self.process, serial: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// The id in the header of a trusted proxy's request; a new one where there is none or several, or where it is empty, too
    /// long, or has other characters than [`RequestId::Given`] allows.
    pub(super) fn keep_or_next(&self, headers: &HeaderMap) -> RequestId {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        match (given.next(), given.next()) {
            (Some(id), None) if is_safe(id.as_bytes()) => RequestId::Given(id.clone()),
            _ => self.next(),
        }
    }
}

impl RequestId {
    /// The value of `X-Request-Id`, the same text as [`fmt::Display`]. By hand: every response has one, and `format!`
    /// would allocate.
    pub(super) fn to_header(&self) -> HeaderValue {
        let (process, serial) = match self {
            Self::Own { process, serial } => (*process, *serial),
            Self::Given(id) => return id.clone(),
        };
        let mut text = [b'-'; 8 + 1 + 16];
        let serial = write_hex_at_end(&mut text, serial, 6);
        // The byte before the serial number stays a dash.
        let process = write_hex_at_end(&mut text[..serial - 1], process.into(), 8);
        HeaderValue::from_bytes(&text[process..]).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own { process, serial } => write!(f, "{process:08x}-{serial:06x}"),
            Self::Given(id) => f.write_str(id.to_str().unwrap_or("-")),
        }
    }
}

fn is_safe(id: &[u8]) -> bool {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
    (1..=MAX_GIVEN_BYTES).contains(&id.len()) && id.iter().all(is_safe)
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
            let id = RequestId::Own { process, serial };
            assert_eq!(id.to_header().to_str().expect("ASCII"), id.to_string());
        }
    }

    #[test]
    fn a_given_id_is_kept_only_when_it_is_short_and_safe() {
        let ids = RequestIds::new();
        let kept = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for id in given {
                headers.append(X_REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).expect("a value"));
            }
            let id = ids.keep_or_next(&headers);
            given.first().is_some_and(|given| id.to_header() == **given && id.to_string() == **given)
        };
        for good in ["a", "550e8400-e29b-41d4-a716-446655440000", "Root=1:a_b.c+d/e=", &"x".repeat(64)] {
            assert!(kept(&[good]), "{good}");
        }
        for bad in [&[][..], &[""], &["a b"], &["\u{e4}"], &["a\"b"], &["a,b"], &["a", "b"], &[&*"x".repeat(65)]] {
            assert!(!kept(bad), "{bad:?}");
        }
    }
}
