//! Pages of a list: `?per_page=&page=` and the `Link` field.

use http::HeaderValue;
use url::form_urlencoded;

use super::Reason;

/// Items on a page where the client does not say.
const DEFAULT_PER_PAGE: u32 = 30;
/// Most items on a page.
const MAX_PER_PAGE: u32 = 100;

/// One page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Items on a page, 1 to 100.
    pub per_page: u32,
    /// Which page; the first is 1.
    pub page: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { per_page: DEFAULT_PER_PAGE, page: 1 }
    }
}

impl Page {
    /// Reads a query; `None` where neither `per_page` nor `page` is in it. The last of several wins.
    pub(super) fn of(query: &str) -> Result<Option<Self>, Reason> {
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
            let page = found.get_or_insert_default();
            if name == "page" {
                page.page = number;
            } else {
                page.per_page = number;
            }
        }
        Ok(found)
    }

    /// The items of this page; none beyond the end.
    pub fn slice<T>(self, items: &[T]) -> &[T] {
        let start = u64::from(self.page - 1).saturating_mul(u64::from(self.per_page));
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(items.len());
        let end = start.saturating_add(self.per_page as usize).min(items.len());
        &items[start..end]
    }

    /// `Link` (RFC 8288) to the neighbours of this page of a list of `total` items; `None` where there is only one page.
    ///
    /// `base` is the mirror's own address and `path` the request's, as the client wrote it.
    pub fn link(self, base: &str, path: &str, total: usize) -> Option<HeaderValue> {
        let last = u32::try_from(total.div_ceil(self.per_page as usize)).unwrap_or(u32::MAX).max(1);
        let path = path.trim_start_matches('/');
        let mut links = Vec::new();
        let mut to = |rel: &str, page: u32| {
            links.push(format!("<{base}/{path}?per_page={}&page={page}>; rel=\"{rel}\"", self.per_page));
        };
        if self.page > 1 {
            to("prev", (self.page - 1).min(last));
        }
        if self.page < last {
            to("next", self.page + 1);
            to("last", last);
        }
        if self.page > 1 {
            to("first", 1);
        }
        if links.is_empty() { None } else { HeaderValue::try_from(links.join(", ")).ok() }
    }
}
