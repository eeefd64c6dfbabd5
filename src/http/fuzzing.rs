//! Fuzz target: ranges and conditions.

use http::{HeaderMap, HeaderValue, Method, header};

use super::{
    accept_encoding::accepts_gzip,
    conditional::{self, Precondition},
    range::{self, RangeDecision},
};

/// A length, then lines of header fields; the first byte of a line selects the field.
///
/// # Panics
/// When a decision does not fit the length or the fields.
pub fn range_and_conditions(data: &[u8]) {
    let Some((len, lines)) = data.split_first_chunk::<8>() else { return };
    let len = u64::from_le_bytes(*len);
    let names = [header::RANGE, header::IF_RANGE, header::IF_MATCH, header::IF_NONE_MATCH, header::ACCEPT_ENCODING];
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some((kind, value)) = line.split_first()
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            headers.append(&names[usize::from(*kind) % names.len()], value);
        }
    }
    let _ = accepts_gzip(&headers);
    for etag in [None, Some("\"a\""), Some("W/\"a\"")] {
        check_range(&headers, len, etag);
        let reads = conditional::decide(&headers, &Method::GET, etag);
        match reads {
            Precondition::Failed => assert!(headers.contains_key(header::IF_MATCH)),
            Precondition::NotModified => assert!(headers.contains_key(header::IF_NONE_MATCH)),
            Precondition::Proceed => {}
        }
        let writes = conditional::decide(&headers, &Method::POST, etag);
        assert_eq!(reads == Precondition::Proceed, writes == Precondition::Proceed);
    }
}

fn check_range(headers: &HeaderMap, len: u64, etag: Option<&str>) {
    assert_eq!(range::decide(headers, &Method::HEAD, len, etag), RangeDecision::Whole);
    let decision = range::decide(headers, &Method::GET, len, etag);
    match decision {
        RangeDecision::Whole => {}
        RangeDecision::Unsatisfiable => assert!(headers.contains_key(header::RANGE)),
        RangeDecision::Part { first, last } => {
            assert!(first <= last && last < len, "{first}-{last} of {len}");
            let mut again = HeaderMap::new();
            let value = HeaderValue::try_from(format!("bytes={first}-{last}")).expect("digits");
            again.insert(header::RANGE, value);
            assert_eq!(range::decide(&again, &Method::GET, len, None), decision);
        }
    }
}
