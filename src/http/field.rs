//! Single header fields: `Repr-Digest`, dates, `Age`, `Content-Disposition`, `Via` and `Retry-After`.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use jiff::{Timestamp, fmt::rfc2822};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A field value of a text that is visible ASCII by construction; empty should it ever not be.
pub(crate) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `Repr-Digest: sha-256=:…:` for the SHA-256 of a representation (RFC 9530 §3).
pub fn repr_digest(sha256: &[u8; 32]) -> HeaderValue {
    ascii(format!("sha-256=:{}:", base64(sha256)))
}

/// Base64 with padding (RFC 4648 §4), which is what a Byte Sequence is written in (RFC 9651 §3.3.5).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let six = (group >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}

/// A strong entity tag of a SHA-256: 64 hexadecimal digits in quotes (RFC 9110 §8.8.3).
pub fn strong_etag(sha256: &[u8; 32]) -> String {
    let mut text = String::with_capacity(66);
    text.push('"');
    for byte in sha256 {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    text
}

/// An IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), cut to seconds.
pub fn http_date(at: Timestamp) -> HeaderValue {
    // It fails only for years before 0 and after 9999, of which the clock that made `at` knows none.
    let text = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
    ascii(text.unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 GMT".into()))
}

/// `Age`: whole seconds since `stored_at`, never negative (RFC 9111 §5.1).
pub fn age(stored_at: Timestamp, now: Timestamp) -> HeaderValue {
    HeaderValue::from(now.as_second().saturating_sub(stored_at.as_second()).max(0))
}

/// How long `Retry-After` asks to wait: seconds or a date (RFC 9110 §10.2.3); a past date is zero.
///
/// `None` when the field is missing or is neither.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// True when a request has passed through the proxy called `pseudonym` already, by any of its `Via` fields
/// (RFC 9110 §7.6.3).
pub fn came_through(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(header::VIA).iter().any(|line| {
        let line = without_comments(&String::from_utf8_lossy(line.as_bytes()));
        // Each member is `received-protocol RWS received-by [ RWS comment ]`.
        line.split(',').any(|hop| hop.split_whitespace().nth(1).is_some_and(|by| by.eq_ignore_ascii_case(pseudonym)))
    })
}

/// Cuts comments (RFC 9110 §5.6.5: they nest, and `\` quotes one character), which may hold commas.
fn without_comments(line: &str) -> String {
    let mut depth = 0_usize;
    let mut chars = line.chars();
    let mut outside = String::with_capacity(line.len());
    while let Some(c) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            '\\' if depth > 0 => {
                chars.next();
            }
            _ if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    outside
}

/// What RFC 8187 §3.2.1 lets stand unencoded (attr-char).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// `Content-Disposition: attachment` with a file name (RFC 6266).
///
/// Path separators and control characters become `-`, so that the name stays a name wherever it is saved. `filename*` is
/// added only where the plain `filename` cannot carry the name (RFC 6266 §4.3 and appendix D).
pub fn content_disposition(filename: &str) -> HeaderValue {
    let separator = |c: char| c.is_control() || matches!(c, '/' | '\\');
    let name: String = filename.chars().map(|c| if separator(c) { '-' } else { c }).collect();
    // Quotes are read differently by different clients and `%` is decoded by some: both are avoided.
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '%');
    let fallback: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{fallback}\"");
    if fallback != name {
        let _ = write!(value, "; filename*=UTF-8''{}", utf8_percent_encode(&name, ATTR_CHAR));
    }
    ascii(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn a_digest_is_a_structured_field_and_a_tag() {
        let sha256 = crate::entry::Digest::of(b"").0;
        assert_eq!(repr_digest(&sha256), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        assert_eq!(strong_etag(&sha256), "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"");
    }

    #[test]
    fn dates_and_ages_are_whole_seconds() {
        assert_eq!(http_date(at("1994-11-06T08:49:37.9Z")), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(age(at("2024-01-01T00:00:00Z"), at("2024-01-01T00:01:01Z")), "61");
        assert_eq!(age(at("2024-01-01T00:01:00Z"), at("2024-01-01T00:00:00Z")), "0");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = at("1994-11-06T08:49:07Z");
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a field value"));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_request_that_came_through_us_is_known_by_any_via_line() {
        for (lines, came) in [
            (&["1.1 me"][..], true),
            (&["HTTP/1.1 ME (a proxy)"], true),
            (&["1.0 fred, 1.1 me"], true),
            (&["1.0 fred", "2 x,1.1\tme (v1, nested (1.1 you))"], true),
            (&["1.0 fred"], false),
            (&["1.1 fred (1.1 me, 1.1 me)"], false),
            (&["1.1 fred (a \\) , 1.1 me)"], false),
            (&["1.1 me2, 1.1 not-me"], false),
            (&["me"], false),
            (&["", ",,"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::VIA, line.parse().expect("a field value"));
            }
            assert_eq!(came_through(&headers, "me"), came, "{lines:?}");
        }
    }

    #[test]
    fn a_file_name_stays_a_name_in_every_client() {
        for (name, value) in [
            ("fc3-1.0.0.zip", "attachment; filename=\"fc3-1.0.0.zip\""),
            ("fc3-a/b\\c.zip", "attachment; filename=\"fc3-a-b-c.zip\""),
            ("a\"b%20.zip", "attachment; filename=\"a_b_20.zip\"; filename*=UTF-8''a%22b%2520.zip"),
            ("初.zip", "attachment; filename=\"_.zip\"; filename*=UTF-8''%E5%88%9D.zip"),
            ("a\r\nSet-Cookie: x", "attachment; filename=\"a--Set-Cookie: x\""),
        ] {
            assert_eq!(content_disposition(name), value, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_file_name_never_breaks_out_of_its_field(name in any::<String>()) {
            let value = content_disposition(&name);
            let text = value.to_str().expect("ASCII");
            let inside = text.strip_prefix("attachment; filename=\"").and_then(|rest| rest.split_once('"'));
            let (plain, extended) = inside.expect("a quoted name");
            prop_assert!(!plain.contains(['/', '\\', '\r', '\n']));
            prop_assert!(extended.is_empty() || extended.starts_with("; filename*=UTF-8''"));
            prop_assert!(!extended.contains(['"', '/', '\\']) && extended.matches(';').count() <= 1);
        }
    }
}
