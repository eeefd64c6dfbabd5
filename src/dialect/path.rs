//! Splits and decodes paths, and builds `zipball_url`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{DialectName, Names, PackageId, v3};
use crate::package::{FolderPackage, PackageRef, Version};

/// The characters to percent-encode in a path: all but the unreserved ones ([RFC 3986 §2.3]) and the slash.
///
/// [RFC 3986 §2.3]: https://www.rfc-editor.org/rfc/rfc3986#section-2.3
pub const PATH_ENCODE_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Splits off the first segment. One doubled slash after it is accepted.
pub(super) fn split_first_segment(path: &str) -> (&str, &str) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    (first, strip_leading_slash(rest))
}

/// Strips one leading slash, which a base URL that ends in a slash adds.
pub(super) fn strip_leading_slash(rest: &str) -> &str {
    rest.strip_prefix('/').unwrap_or(rest)
}

/// Why a path is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("path has a % that is not followed by two hexadecimal digits")]
    PercentEncoding,
    #[error("path has bytes that are not UTF-8")]
    NotUtf8,
    #[error("path has an empty segment (a doubled or trailing slash)")]
    EmptySegment,
    #[error("path has a segment that is . or ..")]
    DotSegment,
    #[error("path has a control character")]
    ControlCharacter,
}

/// Splits at slashes, then percent-decodes each segment. An empty path has no segments.
///
/// # Errors
/// See [`PathError`].
pub(super) fn split(path: &str) -> Result<Vec<Cow<'_, str>>, PathError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/').map(decode).collect()
}

/// Percent-decodes and checks one segment.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, PathError> {
    let is_hex = |at: usize| segment.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if segment.bytes().enumerate().any(|(at, byte)| byte == b'%' && !(is_hex(at + 1) && is_hex(at + 2))) {
        return Err(PathError::PercentEncoding);
    }
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| PathError::NotUtf8)?;
    match text.as_ref() {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment),
        text if text.contains(char::is_control) => Err(PathError::ControlCharacter),
        _ => Ok(text),
    }
}

/// The URL of a zip on the mirror, below `base` (without trailing slash), in a dialect and on the package's upstream.
///
/// [`super::parse`] maps it to the same package and tag, and no route is involved: JSON and zip come from one source. No
/// other code builds such a URL. `repos/` never occurs after `base`, because one client removes its first occurrence.
pub fn zipball_url(base: &str, names: &Names, package: &PackageId, tag: &str, dialect: DialectName) -> String {
    let path = zip_path(names, package, &tag_path(tag), dialect);
    absolute(base, &path)
}

/// As [`zipball_url`], for a version of a folder: by its alias, which always leads to it.
pub fn folder_zipball_url(base: &str, folder: &FolderPackage, version: &str, dialect: DialectName) -> String {
    absolute(base, &folder_zip_path(folder, &tag_path(version), dialect))
}

/// As [`zipball_url`] in the srm dialect, for a package and a version as a user names them: the mirror routes a name without
/// an upstream, and resolves the version, when the URL is requested.
pub fn unresolved_zipball_url(base: &str, names: &Names, package: &PackageRef, version: &Version) -> String {
    let version = encoded_ref(&version.to_string());
    let path = match package {
        PackageRef::Id(id) => zip_path(names, id, &version, DialectName::Srm),
        PackageRef::Folder(folder) => folder_zip_path(folder, &version, DialectName::Srm),
        PackageRef::Routed(name) => format!("/{name}/zipball/{version}"),
    };
    absolute(base, &path)
}

fn zip_path(names: &Names, package: &PackageId, version: &str, dialect: DialectName) -> String {
    let PackageId { upstream, name } = package;
    match dialect {
        DialectName::V3 => match v3::name_on_upstream(names, package) {
            Some(name) => format!("/v3/packages/{name}/zipball/{version}"),
            // An owner that contains `__`: the flat zip of the srm dialect is the same zip.
            None => format!("/{upstream}/{name}/flat/{version}"),
        },
        DialectName::Simple => format!("/simple/{upstream}/{name}/zipball/{version}"),
        DialectName::Srm | DialectName::Github if names.has_short_path(package) => format!("/{name}/zipball/{version}"),
        DialectName::Srm | DialectName::Github => format!("/{upstream}/{name}/zipball/{version}"),
    }
}

fn folder_zip_path(folder: &FolderPackage, version: &str, dialect: DialectName) -> String {
    let alias = &folder.alias;
    match dialect {
        DialectName::V3 => format!("/v3/packages/{alias}/zipball/{version}"),
        DialectName::Simple => format!("/simple/{alias}/zipball/{version}"),
        DialectName::Srm | DialectName::Github => format!("/{alias}/zipball/{version}"),
    }
}

/// The path below `base`, without `repos/` in it.
fn absolute(base: &str, path: &str) -> String {
    format!("{base}{}", path.replace("repos/", "repo%73/"))
}

/// A tag as the rest of a path.
fn tag_path(tag: &str) -> String {
    format!("{}{}", tag_prefix(tag), encoded_ref(tag))
}

/// A tag as one or more segments of a path.
fn encoded_ref(tag: &str) -> String {
    tag.split('/').map(|segment| encoded_segment(segment, PATH_ENCODE_SET)).collect::<Vec<_>>().join("/")
}

/// A text as one segment of a path, with the characters of `encoded` percent-encoded.
///
/// Clients remove dot segments, encoded ones too, and would leave the package's path. No git tag has such a segment, so
/// no version exists under one: it is encoded twice, which leads to a 404 of the same package.
pub fn encoded_segment(segment: &str, encoded: &'static AsciiSet) -> String {
    match segment {
        "." => "%252E".to_owned(),
        ".." => "%252E%252E".to_owned(),
        segment => utf8_percent_encode(segment, encoded).to_string(),
    }
}

/// A tag that would be parsed as a branch, a commit or another tag gets an explicit prefix.
fn tag_prefix(tag: &str) -> &'static str {
    let is_unambiguous = matches!(tag.parse(), Ok(Version::Name(name)) if name == tag);
    if is_unambiguous { "" } else { "refs/tags/" }
}
