//! Preconditions of a request, evaluated in the order of [RFC 9110 §13.2.2].
//!
//! The mirror sends no `Last-Modified`, so both preconditions on dates are ignored, as RFC 9110 §13.1.3 and §13.1.4 require
//! for a resource "that does not have a modification date available".
//!
//! Written by hand: the typed header libraries reject a whole list for one malformed member, which is skipped here, and they
//! know no entity tag that is still unknown.
//!
//! [RFC 9110 §13.2.2]: https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2

use http::{HeaderMap, HeaderName, Method, header};

/// The result of the preconditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// They hold, or there are none.
    Proceed,
    /// 304: the client already has this representation.
    NotModified,
    /// 412: the precondition excludes this representation.
    Failed,
}

/// Evaluates `If-Match` and `If-None-Match` against the selected representation.
///
/// `etag` is the entity tag as sent, with quotes; `None` while it is unknown because the body is still being downloaded.
/// Call this only if the response without preconditions is 200 or 206 (RFC 9110 §13.2.1).
pub fn decide(headers: &HeaderMap, method: &Method, etag: Option<&str>) -> Precondition {
    let reads = *method == Method::GET || *method == Method::HEAD;
    // 1. "When recipient is the origin server and If-Match is present, evaluate the If-Match precondition:
    //    if true, continue to step 3; if false, respond 412". An unknown tag matches no list, so that the client never
    //    receives another representation. `*` matches any.
    if headers.contains_key(header::IF_MATCH) {
        let matches = any_tag(headers, header::IF_MATCH, |tag| etag.is_some_and(|current| strong_eq(tag, current)));
        if !matches {
            return Precondition::Failed;
        }
    }
    // 2. If-Unmodified-Since: ignored, there is no modification date (§13.1.4).
    // 3. "When If-None-Match is present, evaluate the If-None-Match precondition: if true, continue to step 5;
    //    if false for GET/HEAD, respond 304; if false for other methods, respond 412". Weak comparison (§13.1.2).
    if any_tag(headers, header::IF_NONE_MATCH, |tag| etag.is_some_and(|current| weak_eq(tag, current))) {
        return if reads { Precondition::NotModified } else { Precondition::Failed };
    }
    // 4. If-Modified-Since: ignored, there is no modification date (§13.1.3).
    // 5. Range and If-Range: see `range`.
    Precondition::Proceed
}

/// True if the `Range` of this request applies: `If-Range` is absent or is exactly `etag`.
///
/// Strong comparison ([RFC 9110 §13.1.5]). A date never matches, because the mirror sends no `Last-Modified`. If `etag` is
/// `None`, nothing matches.
///
/// [RFC 9110 §13.1.5]: https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
pub fn if_range(headers: &HeaderMap, etag: Option<&str>) -> bool {
    let mut lines = headers.get_all(header::IF_RANGE).iter();
    let Some(line) = lines.next() else { return true };
    let tag = line.to_str().unwrap_or_default().trim();
    lines.next().is_none() && etag.is_some_and(|current| strong_eq(tag, current))
}

/// True if the field is `*` or one of its entity tags satisfies `matches`. Malformed members are skipped.
fn any_tag(headers: &HeaderMap, name: HeaderName, matches: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).any(|line| {
        let line = line.trim();
        line == "*" || EntityTags(line).any(&matches)
    })
}

/// RFC 9110 §8.8.3.2: "both are not weak and their opaque-tags match character-by-character".
fn strong_eq(a: &str, b: &str) -> bool {
    a == b && a.starts_with('"') && a.len() >= 2 && a.ends_with('"')
}

/// RFC 9110 §8.8.3.2: "opaque-tags match character-by-character, regardless of either or both being tagged as weak".
fn weak_eq(a: &str, b: &str) -> bool {
    strong_eq(a.strip_prefix("W/").unwrap_or(a), b.strip_prefix("W/").unwrap_or(b))
}

/// Iterates over the entity tags of a list (RFC 9110 §8.8.3). A comma inside the quotes is part of the tag.
struct EntityTags<'a>(&'a str);

impl<'a> Iterator for EntityTags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let rest = self.0.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return None;
            }
            let opaque = rest.strip_prefix("W/").unwrap_or(rest);
            let prefix_len = rest.len() - opaque.len();
            let end = opaque.strip_prefix('"').and_then(|inside| inside.find('"')).map(|quote| prefix_len + quote + 2);
            let Some(end) = end else {
                // Not an entity tag: skip to the next member.
                self.0 = rest.find(',').map_or("", |comma| &rest[comma..]);
                continue;
            };
            self.0 = &rest[end..];
            return Some(&rest[..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().expect("a field value"));
        }
        map
    }

    #[test]
    fn preconditions_are_evaluated_in_the_order_of_the_rfc() {
        use Precondition::{Failed, NotModified, Proceed};
        const ETAG: Option<&str> = Some("\"a\"");
        for (fields, etag, expected) in [
            (&[][..], ETAG, Proceed),
            (&[("if-none-match", "\"a\"")], ETAG, NotModified),
            (&[("if-none-match", "W/\"a\"")], ETAG, NotModified),
            (&[("if-none-match", "\"b\"")], ETAG, Proceed),
            (&[("if-none-match", "\"b\" , W/\"c\",\t\"a\"")], ETAG, NotModified),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], ETAG, NotModified),
            (&[("if-none-match", "*")], ETAG, NotModified),
            (&[("if-none-match", "*")], None, NotModified),
            (&[("if-none-match", "\"a\"")], None, Proceed),
            (&[("if-none-match", "a")], ETAG, Proceed),
            (&[("if-none-match", "nonsense, \"a\"")], ETAG, NotModified),
            (&[("if-none-match", "\"a")], ETAG, Proceed),
            (&[("if-none-match", "\"x,\"")], Some("\"x,\""), NotModified),
            (&[("if-none-match", "\"x,a\"")], ETAG, Proceed),
            (&[("if-none-match", "\"a\"")], Some("W/\"a\""), NotModified),
            (&[("if-match", "\"a\"")], ETAG, Proceed),
            (&[("if-match", "\"b\", \"a\"")], ETAG, Proceed),
            (&[("if-match", "\"b\"")], ETAG, Failed),
            (&[("if-match", "W/\"a\"")], ETAG, Failed),
            (&[("if-match", "W/\"a\"")], Some("W/\"a\""), Failed),
            (&[("if-match", "*")], ETAG, Proceed),
            (&[("if-match", "*")], None, Proceed),
            (&[("if-match", "\"a\"")], None, Failed),
            (&[("if-match", "")], ETAG, Failed),
            // Step 1 precedes step 3.
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], ETAG, Failed),
            (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], ETAG, NotModified),
            // Dates are ignored.
            (&[("if-modified-since", "Sat, 29 Oct 2050 19:43:31 GMT")], ETAG, Proceed),
            (&[("if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT")], ETAG, Proceed),
        ] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(decide(&headers(fields), &method, etag), expected, "{fields:?} {etag:?} {method}");
            }
        }
        assert_eq!(decide(&headers(&[("if-none-match", "*")]), &Method::PUT, ETAG), Failed);
    }

    #[test]
    fn if_range_compares_strongly_and_never_matches_a_date() {
        for (value, etag, expected) in [
            (None, None, true),
            (Some("\"a\""), Some("\"a\""), true),
            (Some(" \"a\" "), Some("\"a\""), true),
            (Some("\"b\""), Some("\"a\""), false),
            (Some("W/\"a\""), Some("\"a\""), false),
            (Some("W/\"a\""), Some("W/\"a\""), false),
            (Some("\"a\""), None, false),
            (Some("Sat, 29 Oct 1994 19:43:31 GMT"), Some("\"a\""), false),
            (Some(""), Some("\"a\""), false),
        ] {
            let fields: Vec<_> = value.iter().map(|value| ("if-range", *value)).collect();
            assert_eq!(if_range(&headers(&fields), etag), expected, "{value:?} {etag:?}");
        }
        let twice = headers(&[("if-range", "\"a\""), ("if-range", "\"a\"")]);
        assert!(!if_range(&twice, Some("\"a\"")));
    }

    proptest! {
        #[test]
        fn arbitrary_precondition_fields_do_not_panic(value in "[ -~]{0,40}") {
            let map = headers(&[("if-none-match", &value), ("if-match", &value), ("if-range", &value)]);
            decide(&map, &Method::GET, Some("\"a\""));
            if_range(&map, Some("\"a\""));
        }

        #[test]
        fn entity_tag_is_found_at_any_position_of_the_list(before in "[!#-~]{0,8}", after in "[!#-~]{0,8}") {
            let map = headers(&[("if-none-match", &format!("\"{before}\", \"the,one\", W/\"{after}\""))]);
            prop_assert_eq!(decide(&map, &Method::GET, Some("\"the,one\"")), Precondition::NotModified);
        }
    }
}
