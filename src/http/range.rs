//! Byte ranges ([RFC 9110 §14]): a single range is served; for any other `Range` the whole representation is served.
//!
//! There are two steps, because a request can precede the knowledge of the length: [`RangeSpec::parse`] reads the request,
//! [`RangeSpec::resolve`] applies it to a length. [`decide`] does both.
//!
//! Written by hand: the range libraries serve sets of ranges and reject numbers beyond 64 bits, which are valid here.
//!
//! [RFC 9110 §14]: https://www.rfc-editor.org/rfc/rfc9110#section-14

use http::{HeaderMap, HeaderValue, Method, header};

use super::{conditional::if_range, field::ascii_value};

/// The part of a representation that a request selects. Positions and lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// The whole: no range, or one that is ignored.
    Whole,
    /// `first-last`, both inclusive, `first <= last`.
    Closed {
        /// First byte.
        first: u64,
        /// Last byte; may be beyond the end.
        last: u64,
    },
    /// `first-`: from `first` to the end.
    From {
        /// First byte.
        first: u64,
    },
    /// `-count`: the last `count` bytes.
    Suffix {
        /// Number of bytes; may be zero or exceed the length.
        count: u64,
    },
}

/// The response to a range for a representation of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeDecision {
    /// 200 with every byte.
    Whole,
    /// 206 with these bytes: both inclusive, `first <= last < length`.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// Decides for a representation of `len` bytes with the entity tag `etag` (see [`if_range`]).
pub fn decide(headers: &HeaderMap, method: &Method, len: u64, etag: Option<&str>) -> RangeDecision {
    RangeSpec::parse(headers, method, etag).resolve(len)
}

impl RangeSpec {
    /// Parses `Range` and `If-Range`. [`RangeSpec::Whole`] for several ranges, a malformed range, an unknown unit, an
    /// `If-Range` that does not match `etag`, and any method but GET.
    pub fn parse(headers: &HeaderMap, method: &Method, etag: Option<&str>) -> Self {
        // RFC 9110 §14.2: "A server MUST ignore a Range header field received with a request method that is
        // unrecognized or for which range handling is not defined. For this specification, GET is the only method".
        if *method != Method::GET {
            return Self::Whole;
        }
        let mut lines = headers.get_all(header::RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return Self::Whole };
        // RFC 9110 §13.1.5: "if the validator does not match, the recipient SHOULD ignore the Range header field".
        if !if_range(headers, etag) {
            return Self::Whole;
        }
        line.to_str().ok().and_then(Self::parse_value).unwrap_or(Self::Whole)
    }

    /// Parses the field's value; `None` unless it is exactly one valid range of bytes.
    ///
    /// RFC 9110 §14.2: an unknown unit MUST be ignored, an invalid or unwanted set MAY be.
    fn parse_value(value: &str) -> Option<Self> {
        let (unit, set) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        // RFC 9110 §5.6.1.2: empty list elements are to be ignored.
        let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
        let (Some(spec), None) = (specs.next(), specs.next()) else { return None };
        let (first, last) = spec.split_once('-')?;
        match (first, last) {
            ("", count) => Some(Self::Suffix { count: number(count)? }),
            (first, "") => Some(Self::From { first: number(first)? }),
            (first, last) => {
                let first = number(first)?;
                let last = number(last)?;
                // RFC 9110 §14.1.1: "An int-range is invalid if the last-pos value is present and less than first-pos".
                (first <= last).then_some(Self::Closed { first, last })
            }
        }
    }

    /// Applies the range to a representation of `len` bytes.
    pub fn resolve(self, len: u64) -> RangeDecision {
        // RFC 9110 §14.1.2: "If a valid byte-range-set includes at least one range-spec that is satisfiable":
        // first-pos below the length, or a suffix that is not zero.
        let (first, last) = match self {
            Self::Whole => return RangeDecision::Whole,
            Self::Closed { first, last } => (first, last),
            Self::From { first } => (first, u64::MAX),
            Self::Suffix { count: 0 } => return RangeDecision::Unsatisfiable,
            // Satisfiable, but no Content-Range can express a part of an empty representation.
            Self::Suffix { .. } if len == 0 => return RangeDecision::Whole,
            Self::Suffix { count } => (len.saturating_sub(count), u64::MAX),
        };
        match len.checked_sub(1) {
            Some(end) if first <= end => RangeDecision::Part { first, last: last.min(end) },
            _ => RangeDecision::Unsatisfiable,
        }
    }
}

/// Parses decimal digits. A number beyond 64 bits becomes `u64::MAX`, which is beyond every end as well.
fn number(digits: &str) -> Option<u64> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    only_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// `Content-Range` of a 206: `bytes first-last/len` (RFC 9110 §14.4).
pub fn content_range(first: u64, last: u64, len: u64) -> HeaderValue {
    ascii_value(format!("bytes {first}-{last}/{len}"))
}

/// `Content-Range` of a 416: `bytes */len` (RFC 9110 §14.4).
pub fn unsatisfied_range(len: u64) -> HeaderValue {
    ascii_value(format!("bytes */{len}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decide_range(range: &str, len: u64) -> RangeDecision {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().expect("a field value"));
        decide(&headers, &Method::GET, len, None)
    }

    #[test]
    fn single_range_is_served_and_any_other_range_field_is_ignored() {
        use RangeDecision::{Part, Unsatisfiable, Whole};
        for (range, expected) in [
            ("bytes=0-0", Part { first: 0, last: 0 }),
            ("bytes=0-9", Part { first: 0, last: 9 }),
            ("bytes=0-10", Part { first: 0, last: 9 }),
            ("bytes=9-", Part { first: 9, last: 9 }),
            ("bytes=-1", Part { first: 9, last: 9 }),
            ("bytes=-10", Part { first: 0, last: 9 }),
            ("bytes=-11", Part { first: 0, last: 9 }),
            ("Bytes=2-3", Part { first: 2, last: 3 }),
            ("bytes= 2-3 ,", Part { first: 2, last: 3 }),
            ("bytes=2-99999999999999999999999", Part { first: 2, last: 9 }),
            ("bytes=-99999999999999999999999", Part { first: 0, last: 9 }),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-11", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=18446744073709551615-", Unsatisfiable),
            ("bytes=3-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=0-1,", Part { first: 0, last: 1 }),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=1 - 2", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(decide_range(range, 10), expected, "{range}");
        }
        assert_eq!(decide_range("bytes=0-", 0), Unsatisfiable);
        assert_eq!(decide_range("bytes=-5", 0), Whole);
    }

    #[test]
    fn range_applies_only_to_get_once_and_with_a_matching_if_range() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        let part = RangeDecision::Part { first: 1, last: 2 };
        assert_eq!(decide(&headers, &Method::GET, 10, None), part);
        assert_eq!(decide(&headers, &Method::HEAD, 10, None), RangeDecision::Whole);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(decide(&headers, &Method::GET, 10, Some("\"a\"")), part);
        assert_eq!(decide(&headers, &Method::GET, 10, Some("\"b\"")), RangeDecision::Whole);
        assert_eq!(decide(&headers, &Method::GET, 10, None), RangeDecision::Whole);
        headers.remove(header::IF_RANGE);
        headers.append(header::RANGE, HeaderValue::from_static("bytes=3-4"));
        assert_eq!(decide(&headers, &Method::GET, 10, None), RangeDecision::Whole);
    }

    #[test]
    fn content_range_has_the_part_and_the_length() {
        assert_eq!(content_range(0, 1, 2), "bytes 0-1/2");
        assert_eq!(content_range(1, u64::MAX - 1, u64::MAX), "bytes 1-18446744073709551614/18446744073709551615");
        assert_eq!(unsatisfied_range(7), "bytes */7");
    }

    proptest! {
        /// Compares with the bytes of a real slice.
        #[test]
        fn range_selects_the_same_bytes_as_a_slice(len in 0_u64..40, first in 0_u64..50, last in 0_u64..50, form in 0..3) {
            let (text, expected): (String, Vec<u64>) = match form {
                0 => (format!("bytes={first}-{last}"), (0..len).filter(|i| (first..=last).contains(i)).collect()),
                1 => (format!("bytes={first}-"), (0..len).filter(|i| *i >= first).collect()),
                _ => (format!("bytes=-{last}"), (0..len).filter(|i| len - i <= last).collect()),
            };
            let found: Vec<u64> = match decide_range(&text, len) {
                RangeDecision::Whole => {
                    prop_assert!((form == 0 && first > last) || (form == 2 && len == 0 && last > 0), "{} of {}", text, len);
                    return Ok(());
                }
                RangeDecision::Part { first, last } => (first..=last).collect(),
                RangeDecision::Unsatisfiable => Vec::new(),
            };
            prop_assert_eq!(found, expected, "{} of {}", text, len);
        }

        #[test]
        fn arbitrary_range_stays_within_the_representation(text in "(bytes=)?[-0-9a-z, ]{0,50}", len: u64) {
            if let RangeDecision::Part { first, last } = decide_range(&text, len) {
                prop_assert!(first <= last && last < len);
            }
        }
    }
}
