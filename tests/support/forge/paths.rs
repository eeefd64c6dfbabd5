//! Splits and decodes request targets, and encodes paths.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes all characters except unreserved ones and slashes.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, KEEP).to_string()
}

/// A decoded target.
pub struct Path {
    pub segments: Vec<String>,
    pub trailing_slash: bool,
    query: Vec<(String, String)>,
}

impl Path {
    pub fn of(uri: &Uri) -> Self {
        let raw = uri.path().trim_start_matches('/');
        let decode = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let trailing_slash = raw.ends_with('/');
        let segments = raw.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self { segments, trailing_slash, query }
    }

    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// The page of a list that a request asks for.
pub struct PageQuery {
    /// Counted from 1.
    pub number: usize,
    /// Most items of a page, 1 to 100.
    pub size: usize,
}

impl PageQuery {
    pub fn of(path: &Path, default_size: usize) -> Self {
        let number = |key: &str, otherwise: usize| path.query(key).and_then(|v| v.parse().ok()).unwrap_or(otherwise);
        Self { number: number("page", 1).max(1), size: number("per_page", default_size).clamp(1, 100) }
    }

    /// The number of items before the page.
    pub fn offset(&self) -> usize {
        (self.number - 1) * self.size
    }

    /// The items of the page.
    pub fn select<I: Iterator>(&self, all: I) -> impl Iterator<Item = I::Item> {
        all.skip(self.offset()).take(self.size)
    }

    /// The number of pages of a list.
    pub fn pages(&self, len: usize) -> usize {
        len.div_ceil(self.size)
    }
}
