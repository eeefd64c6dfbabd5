//! Pagination: the query parameters `per_page` and `page`, and the `Link` field.

use http::HeaderValue;
use url::form_urlencoded;

use super::Reason;

/// Items per page if the query has no `per_page`.
const DEFAULT_PER_PAGE: u32 = 30;
/// Largest accepted `per_page`.
const MAX_PER_PAGE: u32 = 100;
/// Rows per page of a v3 list if the query has no `per_page`.
const V3_PER_PAGE: u32 = 20;
/// The `page` of a v3 list that stands for every row.
const V3_EVERY_ROW: &str = "-1";

/// The page of a list that a query requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Items per page, 1 to 100.
    pub per_page: u32,
    /// The page number, from 1.
    pub page: u32,
}

/// The rows of a v3 list that a query requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPage {
    /// Every row, in one response.
    All,
    /// One page.
    One(PageRequest),
}

impl RowPage {
    /// Parses a query. The last of several parameters of a name wins.
    pub(super) fn parse(query: &str) -> Result<Self, Reason> {
        let pages = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "page");
        if pages.last().is_some_and(|(_, value)| value == V3_EVERY_ROW) {
            return Ok(Self::All);
        }
        let first = PageRequest { per_page: V3_PER_PAGE, page: 1 };
        Ok(Self::One(PageRequest::parse_with(query, first)?.unwrap_or(first)))
    }

    /// The requested rows; none beyond the end.
    pub fn slice<T>(self, rows: &[T]) -> &[T] {
        match self {
            Self::All => rows,
            Self::One(page) => page.slice(rows),
        }
    }

    /// The page; `None` for every row.
    pub fn page(self) -> Option<PageRequest> {
        match self {
            Self::All => None,
            Self::One(page) => Some(page),
        }
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { per_page: DEFAULT_PER_PAGE, page: 1 }
    }
}

impl PageRequest {
    /// Parses a query; `None` if it has neither `per_page` nor `page`. The last of several wins.
    pub(super) fn parse(query: &str) -> Result<Option<Self>, Reason> {
        Self::parse_with(query, Self::default())
    }

    /// As [`PageRequest::parse`], in the way of GitHub: a number out of range becomes the nearest one in range, and what is
    /// no number counts as absent.
    pub(super) fn parse_clamped(query: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if !matches!(key.as_ref(), "per_page" | "page") {
                continue;
            }
            let page = found.get_or_insert_default();
            let Ok(number) = value.parse::<i128>() else { continue };
            let within = |max: u32| u32::try_from(number.clamp(1, i128::from(max))).unwrap_or(max);
            match key.as_ref() {
                "page" => page.page = within(u32::MAX),
                // GitHub's answer to 0 is a page of the default size.
                _ if number < 1 => page.per_page = DEFAULT_PER_PAGE,
                _ => page.per_page = within(MAX_PER_PAGE),
            }
        }
        found
    }

    /// As [`PageRequest::parse`]; what the query leaves out is as in `default`.
    fn parse_with(query: &str, default: Self) -> Result<Option<Self>, Reason> {
        let mut found: Option<Self> = None;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let (name, max) = match key.as_ref() {
                "per_page" => ("per_page", MAX_PER_PAGE),
                "page" => ("page", u32::MAX),
                _ => continue,
            };
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number: Option<u32> = value.parse().ok().filter(|number| digits && (1..=max).contains(number));
            let Some(number) = number else {
                return Err(Reason::BadRequest(format!("{name} must be a number from 1 to {max}")));
            };
            let page = found.get_or_insert(default);
            if name == "page" {
                page.page = number;
            } else {
                page.per_page = number;
            }
        }
        Ok(found)
    }

    /// The items of this page; empty beyond the end.
    pub fn slice<T>(self, items: &[T]) -> &[T] {
        let start = u64::from(self.page - 1).saturating_mul(u64::from(self.per_page));
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(items.len());
        let end = start.saturating_add(self.per_page as usize).min(items.len());
        &items[start..end]
    }

    /// `Link` ([RFC 8288](https://www.rfc-editor.org/rfc/rfc8288)) to the other pages of a list of `total` items; `None` for a
    /// list of one page.
    ///
    /// `base` is the mirror's base URL, `path` the request's path as the client sent it.
    pub fn link(self, base: &str, path: &str, total: usize) -> Option<HeaderValue> {
        let last = u32::try_from(total.div_ceil(self.per_page as usize)).unwrap_or(u32::MAX).max(1);
        let path = path.trim_start_matches('/');
        let mut links = Vec::new();
        let mut add = |rel: &str, page: u32| {
            links.push(format!("<{base}/{path}?per_page={}&page={page}>; rel=\"{rel}\"", self.per_page));
        };
        if self.page > 1 {
            add("prev", (self.page - 1).min(last));
        }
        if self.page < last {
            add("next", self.page + 1);
            add("last", last);
        }
        if self.page > 1 {
            add("first", 1);
        }
        if links.is_empty() { None } else { HeaderValue::try_from(links.join(", ")).ok() }
    }
}
