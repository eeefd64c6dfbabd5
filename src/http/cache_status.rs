//! What a cache did with one request: the `Cache-Status` field (RFC 9211), a log field and a metric label in one.

use std::{borrow::Cow, fmt::Write as _};

use http::HeaderValue;

use super::field::ascii;

/// What happened to one request in one cache. Built by [`CacheStatus::hit`] or [`CacheStatus::forwarded`], then refined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    /// Why the request went on to the next hop; `None` for a hit (RFC 9211 §2.1 and §2.2 exclude each other).
    pub fwd: Option<Fwd>,
    /// The status the next hop answered with, where one was received (RFC 9211 §2.3).
    pub fwd_status: Option<u16>,
    /// Seconds of freshness that remain; negative when the answer is stale (RFC 9211 §2.4).
    pub ttl: Option<i64>,
    /// The answer was stored (RFC 9211 §2.5).
    pub stored: bool,
    /// The request waited for another's answer instead of asking itself (RFC 9211 §2.6).
    pub collapsed: bool,
    /// Anything else worth saying, in our own words (RFC 9211 §2.8).
    pub detail: Option<Cow<'static, str>>,
    /// A stored answer was used although the request was forwarded: the next hop failed. Not part of the field.
    pub used_stale: bool,
    /// The client got an error. Not part of the field.
    pub failed: bool,
}

/// Why a request was not answered from the store alone (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// The cache was configured not to handle this request.
    Bypass,
    /// Requests with this method are always forwarded.
    Method,
    /// Nothing is stored under this URI.
    UriMiss,
    /// Something is stored under this URI, but not for these header fields.
    VaryMiss,
    /// Nothing that fits is stored.
    Miss,
    /// The request itself asks not to use the store.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part is stored.
    Partial,
}

impl Fwd {
    /// The token of RFC 9211 §2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl CacheStatus {
    /// Answered from the store, with so many seconds of freshness left (negative: stale; `None`: it does not age).
    pub fn hit(ttl: Option<i64>) -> Self {
        Self {
            fwd: None,
            fwd_status: None,
            ttl,
            stored: false,
            collapsed: false,
            detail: None,
            used_stale: false,
            failed: false,
        }
    }

    /// The next hop was needed.
    pub fn forwarded(fwd: Fwd) -> Self {
        Self { fwd: Some(fwd), ..Self::hit(None) }
    }

    /// The next hop answered with `status`.
    pub fn status(self, status: u16) -> Self {
        Self { fwd_status: Some(status), ..self }
    }

    /// So many seconds of freshness are left.
    pub fn ttl(self, seconds: i64) -> Self {
        Self { ttl: Some(seconds), ..self }
    }

    /// The answer was stored, or is being stored while it is sent.
    pub fn stored(self) -> Self {
        Self { stored: true, ..self }
    }

    /// The request shares another one's forwarding.
    pub fn collapsed(self) -> Self {
        Self { collapsed: true, ..self }
    }

    /// Adds a remark. It is shown to clients: never an upstream's text.
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The next hop failed and a stored answer took its place.
    pub fn used_stale(self) -> Self {
        Self { used_stale: true, ..self }
    }

    /// The client got an error.
    pub fn failed(self) -> Self {
        Self { failed: true, ..self }
    }

    /// One word for the log and the metrics: `hit`, `stale`, `miss`, `collapsed`, `revalidated`, `bypass` or `error`.
    pub fn label(&self) -> &'static str {
        match self.fwd {
            _ if self.failed => "error",
            None if self.ttl.is_some_and(|ttl| ttl < 0) => "stale",
            None => "hit",
            Some(_) if self.used_stale => "stale",
            Some(_) if self.collapsed => "collapsed",
            Some(_) if self.fwd_status == Some(304) => "revalidated",
            Some(Fwd::Bypass | Fwd::Method) => "bypass",
            Some(_) => "miss",
        }
    }

    /// The field's value for a cache called `cache`: `name; hit; ttl=59` or `name; fwd=miss; fwd-status=200; stored`.
    pub fn render(&self, cache: &str) -> HeaderValue {
        let mut text = String::with_capacity(64);
        push_item(&mut text, cache);
        match self.fwd {
            None => text.push_str("; hit"),
            Some(fwd) => {
                text.push_str("; fwd=");
                text.push_str(fwd.as_str());
            }
        }
        // RFC 9211 §2.3, §2.5 and §2.6 give these three a meaning only for a request that was forwarded.
        if self.fwd.is_some() {
            if let Some(status) = self.fwd_status {
                let _ = write!(text, "; fwd-status={status}");
            }
            if self.stored {
                text.push_str("; stored");
            }
            if self.collapsed {
                text.push_str("; collapsed");
            }
        }
        if let Some(ttl) = self.ttl {
            // RFC 9651 §3.3.1: an Integer has at most fifteen digits.
            let _ = write!(text, "; ttl={}", ttl.clamp(-999_999_999_999_999, 999_999_999_999_999));
        }
        if let Some(detail) = &self.detail {
            text.push_str("; detail=");
            push_item(&mut text, detail);
        }
        ascii(text)
    }
}

/// Writes a Token where `text` is one (RFC 9651 §3.3.4), else a String with its escapes (§3.3.3);
/// characters a String cannot carry become `?`.
fn push_item(out: &mut String, text: &str) {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    let starts = text.as_bytes().first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'*');
    if starts && text.bytes().all(tchar) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_outcome_has_its_field_and_its_label() {
        let hit = CacheStatus::hit;
        let fwd = CacheStatus::forwarded;
        for (status, field, label) in [
            (hit(Some(59)), "c; hit; ttl=59", "hit"),
            (hit(None), "c; hit", "hit"),
            (hit(Some(-412)), "c; hit; ttl=-412", "stale"),
            (hit(None).detail("upstream-gone"), "c; hit; detail=upstream-gone", "hit"),
            (fwd(Fwd::Miss).status(200).stored(), "c; fwd=miss; fwd-status=200; stored", "miss"),
            (fwd(Fwd::UriMiss).collapsed(), "c; fwd=uri-miss; collapsed", "collapsed"),
            (fwd(Fwd::Stale).status(304).ttl(60), "c; fwd=stale; fwd-status=304; ttl=60", "revalidated"),
            (fwd(Fwd::Stale).status(200).stored(), "c; fwd=stale; fwd-status=200; stored", "miss"),
            (
                fwd(Fwd::Stale).status(503).ttl(-9).used_stale().detail("stale if error"),
                "c; fwd=stale; fwd-status=503; ttl=-9; detail=\"stale if error\"",
                "stale",
            ),
            (fwd(Fwd::Bypass), "c; fwd=bypass", "bypass"),
            (fwd(Fwd::Miss).status(502).failed(), "c; fwd=miss; fwd-status=502", "error"),
            (hit(None).detail("a \"b\" \\ ä\n"), "c; hit; detail=\"a \\\"b\\\" \\\\ ??\"", "hit"),
            (hit(Some(i64::MIN)), "c; hit; ttl=-999999999999999", "stale"),
        ] {
            assert_eq!((status.render("c").to_str().expect("ASCII"), status.label()), (field, label));
        }
        assert_eq!(hit(None).render("a cache"), "\"a cache\"; hit");
    }

    /// A small reader of RFC 9651 Items with parameters: token, string, integer and boolean.
    fn read_item(text: &str) -> Option<(String, Vec<(String, String)>)> {
        let (name, mut rest) = read_bare(text)?;
        let mut parameters = Vec::new();
        while !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_start_matches(' ');
            let end = rest.find(['=', ';']).unwrap_or(rest.len());
            let key = &rest[..end];
            let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c);
            if key.is_empty() || !key.starts_with(|c: char| c.is_ascii_lowercase()) || !key.chars().all(lower) {
                return None;
            }
            rest = &rest[end..];
            let mut value = "?1".to_owned();
            if let Some(after) = rest.strip_prefix('=') {
                (value, rest) = read_bare(after)?;
            }
            parameters.push((key.to_owned(), value));
        }
        Some((name, parameters))
    }

    fn read_bare(text: &str) -> Option<(String, &str)> {
        if let Some(mut rest) = text.strip_prefix('"') {
            let mut value = String::new();
            loop {
                let c = rest.chars().next()?;
                rest = &rest[c.len_utf8()..];
                match c {
                    '"' => return Some((value, rest)),
                    '\\' => {
                        let escaped = rest.chars().next().filter(|c| "\"\\".contains(*c))?;
                        value.push(escaped);
                        rest = &rest[1..];
                    }
                    ' '..='~' => value.push(c),
                    _ => return None,
                }
            }
        }
        let end = text.find([';', ' ', ',', '=', '"']).unwrap_or(text.len());
        (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
    }

    proptest! {
        #[test]
        fn every_status_is_a_structured_field(
            cache in "\\PC{1,12}", detail in proptest::option::of("\\PC{0,20}"), ttl: Option<i64>, status: Option<u16>,
            stored: bool, collapsed: bool, forwarded: bool,
        ) {
            let fwd = forwarded.then_some(Fwd::Stale);
            let detail = detail.map(Cow::Owned);
            let status = CacheStatus {
                fwd, fwd_status: status, ttl, stored, collapsed, detail, ..CacheStatus::hit(None)
            };
            let field = status.render(&cache);
            let (_, parameters) = read_item(field.to_str().expect("ASCII")).expect("an Item");
            let has = |key: &str| parameters.iter().any(|(k, _)| k == key);
            prop_assert_eq!(has("hit"), !forwarded);
            prop_assert_eq!(has("fwd"), forwarded);
            prop_assert_eq!(has("stored"), forwarded && stored);
            prop_assert_eq!(has("ttl"), ttl.is_some());
            if let Some(detail) = &status.detail {
                let sent: String = detail.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
                let read = parameters.iter().find(|(k, _)| k == "detail").map(|(_, v)| v.clone());
                prop_assert_eq!(read, Some(sent));
            }
        }
    }
}
