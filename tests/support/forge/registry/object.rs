//! One zip with validators, conditional requests and ranges, as RFC 9110 defines them.

use std::sync::Arc;

use http::HeaderMap;

use super::{
    super::{body::Answer, model::http_date, pack::Archive},
    model::{Package, Version},
    options::{RegistryOptions, Validators},
};

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// True if the list in a header field has this entity tag; compared weakly.
pub fn names(headers: &HeaderMap, field: &str, tag: &str) -> bool {
    let plain = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let list = header(headers, field).unwrap_or_default();
    list.trim() == "*" || list.split(',').any(|one| plain(one) == plain(tag))
}

fn seconds(date: &str) -> Option<i64> {
    let date = date.trim().strip_suffix(" GMT")?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", date).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Responds with the zip of a version, or with a part of it.
pub fn answer(headers: &HeaderMap, options: &RegistryOptions, package: &Package, version: &Version) -> Answer {
    let zip = package.archive(version);
    let tag = format!("\"{}\"", zip.sha256()[..32].to_uppercase());
    let tagged = matches!(options.validators, Validators::Both | Validators::Etag);
    let dated = matches!(options.validators, Validators::Both | Validators::LastModified);
    let mut answer = Answer::new(200, &options.zip_type, "");
    if tagged {
        answer = answer.header("etag", &tag);
    }
    if dated {
        answer = answer.header("last-modified", &http_date(version.created_at));
    }
    let since = header(headers, "if-modified-since").and_then(seconds).filter(|_| dated);
    let unchanged = match header(headers, "if-none-match") {
        Some(_) => tagged && names(headers, "if-none-match", &tag),
        None => since.is_some_and(|since| version.created_at <= since),
    };
    if unchanged {
        return Answer { status: 304, ..answer };
    }
    let len = zip.len();
    let whole = |answer: Answer| Answer { content: zip.clone(), with_length: options.with_length, ..answer };
    if !options.ranges {
        return whole(answer);
    }
    let answer = answer.header("accept-ranges", "bytes");
    let same = header(headers, "if-range").is_none_or(|validator| {
        (tagged && validator == tag) || (dated && seconds(validator) == Some(version.created_at))
    });
    match header(headers, "range").filter(|_| same).map(|range| range_of(range, len)) {
        None | Some(Range::Ignored) => whole(answer),
        Some(Range::Unsatisfiable) => {
            Answer { status: 416, ..answer }.header("content-range", &format!("bytes */{len}"))
        }
        Some(Range::Part { first, last }) => {
            let content: Arc<Archive> = Arc::new(zip.part(first, last - first + 1));
            Answer { status: 206, content, ..answer }.header("content-range", &format!("bytes {first}-{last}/{len}"))
        }
    }
}

enum Range {
    Part {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
    /// Malformed, or several ranges.
    Ignored,
}

fn range_of(text: &str, len: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Ignored;
    };
    match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), _) if first >= len => Range::Unsatisfiable,
        (Some(first), None) if last.is_empty() => Range::Part { first, last: len - 1 },
        (Some(first), Some(last)) if first <= last => Range::Part { first, last: last.min(len - 1) },
        (None, Some(0)) if first.is_empty() => Range::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => Range::Part { first: len.saturating_sub(count), last: len - 1 },
        _ => Range::Ignored,
    }
}
