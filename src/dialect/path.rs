//! Segments of a path, and the one function that makes `zipball_url`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Names, PackageId};
use crate::package::Version;

/// What RFC 3986 §2.3 calls unreserved, and the slash.
const LITERAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Cuts the first segment off, forgiving one doubled slash behind it.
pub(super) fn split_first_segment(path: &str) -> (&str, &str) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    (first, strip_leading_slash(rest))
}

/// Drops one leading slash: what a base address that ends in a slash leaves behind.
pub(super) fn strip_leading_slash(rest: &str) -> &str {
    rest.strip_prefix('/').unwrap_or(rest)
}

/// Splits at slashes, then percent-decodes each segment. An empty path has no segments.
///
/// # Errors
/// When a segment is empty, `.`, `..`, has a control character, or is not UTF-8 in percent-encoding.
pub(super) fn split(path: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/').map(decode).collect()
}

/// Percent-decodes one segment and checks it.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, String> {
    let hex = |at: usize| segment.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if segment.bytes().enumerate().any(|(at, byte)| byte == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err("path has a % that is not followed by two hexadecimal digits".into());
    }
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| "path has bytes that are not UTF-8".to_owned())?;
    match text.as_ref() {
        "" => Err("path has an empty segment (a doubled or trailing slash)".into()),
        "." | ".." => Err("path has a segment that is . or ..".into()),
        text if text.contains(char::is_control) => Err("path has a control character".into()),
        _ => Ok(text),
    }
}

/// The address of a zip on the mirror, under `base` (no trailing slash): the only place that makes one.
///
/// `{base}/{owner}/{repo}/zipball/{tag}`, with the upstream's name in front where the short form would be read as something
/// else; `flat` for the flat view. [`super::parse`] reads it back to the same package and tag. `repos/` never occurs after
/// `base`, since one client cuts its first occurrence out.
pub fn zipball_url(base: &str, names: &Names, package: &PackageId, tag: &str, flat: bool) -> String {
    let word = if flat { "flat" } else { "zipball" };
    let upstream = if names.is_direct(package) { String::new() } else { format!("/{}", package.upstream) };
    // A tag that reads as something else when it stands alone says that it is one.
    let plain = matches!(tag.parse(), Ok(Version::Name(name)) if name == tag);
    let prefix = if plain { "" } else { "refs/tags/" };
    let tag = utf8_percent_encode(tag, LITERAL);
    let path = format!("{upstream}/{}/{word}/{prefix}{tag}", package.name);
    format!("{base}{}", path.replace("repos/", "repo%73/"))
}
