//! Preconditions of a request, in the order of RFC 9110 §13.2.2.
//!
//! The mirror sends no `Last-Modified`, so the two preconditions on dates are ignored, as RFC 9110 §13.1.3 and
//! §13.1.4 ask of a resource "that does not have a modification date available".

use http::{HeaderMap, HeaderName, Method, header};

/// What the preconditions of a request say about answering it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client already has this representation.
    NotModified,
    /// 412: the client does not want this representation.
    Failed,
}

/// Evaluates `If-Match` and `If-None-Match` against the present representation.
///
/// `etag` is its entity tag as it would be sent, quotes included; `None` while it is not known yet (the body is still
/// arriving). Call this only for an answer that would be 200, 206 or 412 otherwise (RFC 9110 §13.2.1).
pub fn decide(headers: &HeaderMap, method: &Method, etag: Option<&str>) -> Precondition {
    let reads = *method == Method::GET || *method == Method::HEAD;
    // 1. "When recipient is the origin server and If-Match is present, evaluate the If-Match precondition:
    //    if true, continue to step 3; if false, respond 412". A tag that is not known yet matches no list: the client
    //    gets nothing it did not ask for. `*` asks for any present representation.
    if headers.contains_key(header::IF_MATCH) {
        let matches = any_tag(headers, header::IF_MATCH, |asked| etag.is_some_and(|known| strong_eq(asked, known)));
        if !matches {
            return Precondition::Failed;
        }
    }
    // 2. If-Unmodified-Since: ignored, there is no modification date (§13.1.4).
    // 3. "When If-None-Match is present, evaluate the If-None-Match precondition: if true, continue to step 5;
    //    if false for GET/HEAD, respond 304; if false for other methods, respond 412". Weak comparison (§13.1.2).
    if any_tag(headers, header::IF_NONE_MATCH, |asked| etag.is_some_and(|known| weak_eq(asked, known))) {
        return if reads { Precondition::NotModified } else { Precondition::Failed };
    }
    // 4. If-Modified-Since: ignored, there is no modification date (§13.1.3).
    // 5. Range and If-Range: see `range`.
    Precondition::Proceed
}

/// True when a `Range` of this request may be honoured: there is no `If-Range`, or it names exactly `etag`.
///
/// RFC 9110 §13.1.5: strong comparison; a date never matches, because no `Last-Modified` was ever sent to compare with.
/// With `etag` unknown nothing matches.
pub fn if_range(headers: &HeaderMap, etag: Option<&str>) -> bool {
    let mut lines = headers.get_all(header::IF_RANGE).iter();
    let Some(line) = lines.next() else { return true };
    let asked = line.to_str().unwrap_or_default().trim();
    lines.next().is_none() && etag.is_some_and(|known| strong_eq(asked, known))
}

/// True when the field is `*` or one of its entity tags satisfies `fits`. Members that are no entity tags are skipped.
fn any_tag(headers: &HeaderMap, name: HeaderName, fits: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).any(|line| {
        let line = line.trim();
        line == "*" || Tags(line).any(&fits)
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

/// The entity tags of a list (RFC 9110 §8.8.3). A comma inside the quotes belongs to the tag.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let rest = self.0.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return None;
            }
            let opaque = rest.strip_prefix("W/").unwrap_or(rest);
            let prefix = rest.len() - opaque.len();
            let end = opaque.strip_prefix('"').and_then(|inside| inside.find('"')).map(|quote| prefix + quote + 2);
            let Some(end) = end else {
                // Not an entity tag: skip this member and go on with the next.
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
            // 1 comes before 3.
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], ETAG, Failed),
            (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], ETAG, NotModified),
            // Dates: there is no modification date to compare with.
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
        fn any_field_is_decided_without_panic(value in "[ -~]{0,40}") {
            let map = headers(&[("if-none-match", &value), ("if-match", &value), ("if-range", &value)]);
            decide(&map, &Method::GET, Some("\"a\""));
            if_range(&map, Some("\"a\""));
        }

        #[test]
        fn a_tag_is_found_wherever_it_stands(before in "[!#-~]{0,8}", after in "[!#-~]{0,8}") {
            let map = headers(&[("if-none-match", &format!("\"{before}\", \"the,one\", W/\"{after}\""))]);
            prop_assert_eq!(decide(&map, &Method::GET, Some("\"the,one\"")), Precondition::NotModified);
        }
    }
}
