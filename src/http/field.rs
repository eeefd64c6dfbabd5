//! Values of single header fields: `Repr-Digest`, `ETag`, `Content-Disposition`, `Retry-After` and `Via`.

use std::{fmt::Write as _, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::{Timestamp, fmt::rfc2822};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::entry::Digest;

/// The id of a request, in its response, and in a request that is made for it to another mirror.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Converts a text that is visible ASCII by construction. A text that is not becomes an empty value.
pub(crate) fn ascii_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `Repr-Digest: sha-256=:…:` for the SHA-256 of a representation ([RFC 9530 §3]).
///
/// [RFC 9530 §3]: https://www.rfc-editor.org/rfc/rfc9530#section-3
pub(crate) fn repr_digest(digest: &Digest) -> HeaderValue {
    ascii_value(format!("sha-256=:{}:", BASE64_STANDARD.encode(digest.0)))
}

/// The strong entity tag of a representation: its SHA-256 as 64 hexadecimal digits in quotes ([RFC 9110 §8.8.3]).
///
/// [RFC 9110 §8.8.3]: https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3
pub(crate) fn strong_etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// The wait that `Retry-After` asks for: a number of seconds or a date ([RFC 9110 §10.2.3]); a past date is zero.
///
/// `None` when the field is missing or invalid.
///
/// [RFC 9110 §10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// True if one of the `Via` fields names `pseudonym`: the request has already passed through that proxy
/// ([RFC 9110 §7.6.3]).
///
/// [RFC 9110 §7.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
pub(crate) fn passed_through(headers: &HeaderMap, pseudonym: &str) -> bool {
    proxies(headers).any(|by| by.eq_ignore_ascii_case(pseudonym))
}

/// The names of the proxies in the `Via` fields, the first one first.
pub(crate) fn proxies(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.get_all(header::VIA).iter().flat_map(|line| {
        let line = without_comments(&String::from_utf8_lossy(line.as_bytes()));
        // Each member is `received-protocol RWS received-by [ RWS comment ]`.
        let names = line.split(',').filter_map(|hop| hop.split_whitespace().nth(1));
        names.map(str::to_owned).collect::<Vec<_>>()
    })
}

/// The member of `Via` that names a proxy.
pub(crate) fn via(proxy: &str) -> String {
    format!("1.1 {proxy}")
}

/// Removes comments, which may contain commas. They nest, and `\` quotes one character (RFC 9110 §5.6.5).
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

/// The characters that are percent-encoded in an extended parameter: all but attr-char ([RFC 8187 §3.2.1]).
///
/// [RFC 8187 §3.2.1]: https://www.rfc-editor.org/rfc/rfc8187#section-3.2.1
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

/// `Content-Disposition: attachment` with a file name ([RFC 6266]).
///
/// Path separators and control characters become `-`, so that the name cannot select a folder. `filename*` is added only if
/// the plain `filename` cannot express the name (RFC 6266 §4.3 and appendix D).
///
/// [RFC 6266]: https://www.rfc-editor.org/rfc/rfc6266
pub(crate) fn content_disposition(filename: &str) -> HeaderValue {
    let is_forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\');
    let name: String = filename.chars().map(|c| if is_forbidden(c) { '-' } else { c }).collect();
    // Clients differ in how they parse quotes, and some decode `%`: neither appears in the plain form.
    let is_plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '%');
    let fallback: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{fallback}\"");
    if fallback != name {
        let _ = write!(value, "; filename*=UTF-8''{}", utf8_percent_encode(&name, ATTR_CHAR));
    }
    ascii_value(value)
}

/// The SHA-256 of a `Content-Digest` field; `None` without exactly one.
///
/// [RFC 9530 §2](https://www.rfc-editor.org/rfc/rfc9530#section-2)
pub(crate) fn parse_content_digest(value: &HeaderValue) -> Option<Digest> {
    let mut members =
        value.to_str().ok()?.split(',').map(str::trim).filter_map(|member| member.strip_prefix("sha-256="));
    let text = members.next()?.strip_prefix(':')?.strip_suffix(':')?;
    if members.next().is_some() {
        return None;
    }
    Some(Digest(BASE64_STANDARD.decode(text).ok()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "1994-11-06T08:49:07Z".parse().expect("a time");
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
    fn digest_is_rendered_as_a_structured_dictionary_and_as_an_entity_tag() {
        let digest = Digest::of(b"");
        let field = repr_digest(&digest);
        assert_eq!(field, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        let dictionary: sfv::Dictionary = sfv::Parser::new(field.as_bytes()).parse().expect("a structured Dictionary");
        let Some(sfv::ListEntry::Item(item)) = dictionary.get("sha-256") else { panic!("an Item: {dictionary:?}") };
        assert_eq!(item.bare_item.as_byte_sequence(), Some(&digest.0[..]));
        assert_eq!(strong_etag(&digest), "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"");
    }

    #[test]
    fn looped_request_is_detected_by_any_via_field() {
        for (lines, expected) in [
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
            assert_eq!(passed_through(&headers, "me"), expected, "{lines:?}");
        }
    }

    #[test]
    fn content_disposition_file_name_cannot_select_a_folder() {
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
        fn arbitrary_file_name_stays_inside_its_parameter(name in any::<String>()) {
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
