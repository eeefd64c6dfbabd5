//! What is right: compares answers with what the forge has published.

use std::{collections::BTreeSet, io::Read as _};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::{
    content::{PublishedPackage, PublishedVersion},
    line::NoAnswer,
    tally::Ending,
};

/// Why a request did not end as it should.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It ended without a whole answer, which is no violation.
    Ended(Ending),
    /// It ended with an answer that is wrong.
    Wrong(String),
}

impl From<NoAnswer> for Miss {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Broken => Self::Ended(Ending::Broken),
            NoAnswer::Silent => Self::Wrong("nothing came for 30 s".to_owned()),
        }
    }
}

/// What a list must name.
pub(crate) enum Listed<'a> {
    /// This version alone.
    One(&'a str),
    /// All versions.
    All(&'a PublishedPackage),
    /// One page of them.
    Page { package: &'a PublishedPackage, size: u64, page: u64 },
}

/// A part of a body that says where it belongs.
pub(crate) struct Part {
    first: usize,
    len: usize,
    body: Bytes,
}

impl Part {
    /// True if these bytes of `zip` are the part.
    pub(crate) fn is_in(&self, zip: &Bytes) -> bool {
        zip.len() == self.len && zip.get(self.first..self.first + self.body.len()) == Some(&self.body)
    }

    /// The part of a body with this `Content-Range`.
    fn of(headers: &HeaderMap, body: Bytes) -> Option<Self> {
        let (range, len) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let first: usize = first.parse().ok()?;
        let last: usize = last.parse().ok()?;
        (last.checked_sub(first)? + 1 == body.len()).then_some(Self { first, len: len.parse().ok()?, body })
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Adds the tags that a JSON value names.
fn collect_tags<'v>(value: &'v Value, tags: &mut Vec<&'v str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect_tags(value, tags)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(tag) if name == "tag_name" => tags.push(tag),
                    value => collect_tags(value, tags),
                }
            }
        }
        _ => {}
    }
}

/// Checks the answer to a request for JSON about releases.
pub(crate) fn list(
    status: u16,
    headers: &HeaderMap,
    body: &Bytes,
    is_head: bool,
    expected: &Listed<'_>,
) -> Result<Ending, Miss> {
    match status {
        200 if is_head && body.is_empty() => return Ok(Ending::Head),
        304 if body.is_empty() => return Ok(Ending::NotModified),
        502..=504 => return Ok(Ending::Unavailable),
        200 => {}
        _ => return Err(Miss::Wrong(format!("status {status}"))),
    }
    let mut plain = Vec::new();
    if text(headers, "content-encoding") == Some("gzip") {
        let unpacked = flate2::read::MultiGzDecoder::new(body.as_ref()).read_to_end(&mut plain);
        unpacked.map_err(|error| Miss::Wrong(format!("gzip: {error}")))?;
    } else {
        plain.extend_from_slice(body);
    }
    let value: Value = serde_json::from_slice(&plain).map_err(|error| Miss::Wrong(format!("JSON: {error}")))?;
    let mut tags = Vec::new();
    collect_tags(&value, &mut tags);
    let named: BTreeSet<&str> = tags.iter().copied().collect();
    let is_right = named.len() == tags.len()
        && match expected {
            Listed::One(tag) => tags == [*tag],
            Listed::All(package) => named == package.tags(),
            Listed::Page { package, size, page } => {
                let all = package.tags();
                let left = (all.len() as u64).saturating_sub((page - 1) * size);
                tags.len() as u64 == left.min(*size) && named.is_subset(&all)
            }
        };
    if is_right { Ok(Ending::Whole) } else { Err(Miss::Wrong(format!("names {tags:?}"))) }
}

/// Checks the head of an answer with a zip.
pub(crate) fn zip_head(status: u16, headers: &HeaderMap, version: &PublishedVersion) -> Result<(), Miss> {
    match status {
        502..=504 => return Err(Miss::Ended(Ending::Unavailable)),
        200 => {}
        _ => return Err(Miss::Wrong(format!("status {status}"))),
    }
    match text(headers, "content-length") {
        Some(len) if !version.any_zip(|zip| zip.len().to_string() == len) => {
            Err(Miss::Wrong(format!("content-length {len}")))
        }
        _ => Ok(()),
    }
}

/// Checks the answer to a request for a range. The whole zip may be the answer while it arrives.
pub(crate) fn range(
    status: u16,
    headers: &HeaderMap,
    body: Bytes,
    is_right: &impl Fn(&Part) -> bool,
) -> Result<Ending, Miss> {
    let len = body.len();
    match status {
        206 => match Part::of(headers, body) {
            Some(part) if is_right(&part) => Ok(Ending::Range),
            _ => Err(Miss::Wrong(format!("206, {len} bytes of {:?}", headers.get("content-range")))),
        },
        200 if is_right(&Part { first: 0, len, body }) => Ok(Ending::Whole),
        416 => Ok(Ending::NoRange),
        502..=504 => Ok(Ending::Unavailable),
        _ => Err(Miss::Wrong(format!("status {status}, {len} bytes"))),
    }
}
