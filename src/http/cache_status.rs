//! How the cache handled one request: source of the `Cache-Status` field, of a log field and of a metric label.
//!
//! Serialised by hand: the parameters are few and fixed, and a serialiser of structured fields rejects a text that is not
//! ASCII instead of replacing its characters. The tests parse the field with the `sfv` crate.
//!
//! [RFC 9211]: https://www.rfc-editor.org/rfc/rfc9211

use std::{borrow::Cow, fmt::Write as _};

use http::HeaderValue;

use super::field::ascii_value;

/// The remark on a response that is not stored for want of room.
pub(crate) const NO_ROOM: &str = "no-room";

/// The remark on a refusal by the package model: a mirror that asks this one reads it.
pub(crate) const NOT_CONFORMING: &str = "not-conforming";

/// The remark on a document that only memory holds, where the disk has no room or fails.
pub(crate) const MEMORY_ONLY: &str = "memory-only";

/// How one cache handled one request ([RFC 9211]).
///
/// Built by [`CacheStatus::hit`], [`CacheStatus::forwarded`] or [`CacheStatus::generated`]; the other methods add parameters.
///
/// [RFC 9211]: https://www.rfc-editor.org/rfc/rfc9211
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    /// Why the request was forwarded; `None` for a hit (RFC 9211 §2.1 and §2.2 exclude each other), and where
    /// `generated`.
    pub fwd: Option<Fwd>,
    /// Nothing was forwarded, and the answer is not a stored one: the mirror made it itself, as a refusal.
    pub generated: bool,
    /// The status code of the next hop's response, if one was received (RFC 9211 §2.3).
    pub fwd_status: Option<u16>,
    /// Remaining freshness lifetime in seconds; negative for a stale response (RFC 9211 §2.4).
    pub ttl: Option<i64>,
    /// The response was stored (RFC 9211 §2.5): said only of one that is stored already. A zip is stored after its last
    /// byte, so a response that carries it as it arrives cannot say so.
    pub stored: bool,
    /// The request shares the forwarded request of another one (RFC 9211 §2.6).
    pub collapsed: bool,
    /// A further remark in the mirror's own words (RFC 9211 §2.8).
    pub detail: Option<Cow<'static, str>>,
    /// The request was forwarded, the next hop failed, and a stored response was used. Not part of the field.
    pub used_stale: bool,
    /// The client received an error. Not part of the field.
    pub failed: bool,
}

/// Why a request was forwarded (RFC 9211 §2.2). The cache produces no other value of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// No response is stored for this URI.
    UriMiss,
    /// The stored response is stale.
    Stale,
}

impl Fwd {
    /// The token of RFC 9211 §2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Stale => "stale",
        }
    }
}

impl CacheStatus {
    /// A hit with `ttl` seconds of freshness left; negative if stale, `None` if the object does not age.
    pub fn hit(ttl: Option<i64>) -> Self {
        Self {
            fwd: None,
            generated: false,
            fwd_status: None,
            ttl,
            stored: false,
            collapsed: false,
            detail: None,
            used_stale: false,
            failed: false,
        }
    }

    /// A forwarded request.
    pub fn forwarded(fwd: Fwd) -> Self {
        Self { fwd: Some(fwd), ..Self::hit(None) }
    }

    /// An answer of the mirror itself: not stored, and nothing was forwarded for it.
    pub fn generated() -> Self {
        Self { generated: true, ..Self::hit(None) }
    }

    /// Takes back that the request was forwarded: no request left the mirror. A hit stays a hit.
    pub fn not_forwarded(self) -> Self {
        match self.fwd {
            Some(_) => Self { detail: self.detail, failed: self.failed, ..Self::generated() },
            None => self,
        }
    }

    /// Remarks that the response is not stored for want of room.
    pub fn without_room(self) -> Self {
        Self { detail: Some(NO_ROOM.into()), ..self }
    }

    /// True for an answer from what is stored and fresh.
    pub fn is_fresh_hit(&self) -> bool {
        self.fwd.is_none() && !self.generated && !self.failed && self.is_current()
    }

    /// False for a stale answer: the upstream could not be asked, or was not, whether it is still valid.
    pub fn is_current(&self) -> bool {
        !self.used_stale && self.ttl.is_none_or(|ttl| ttl >= 0)
    }

    /// Sets the status code of the next hop's response.
    pub fn status(self, status: u16) -> Self {
        Self { fwd_status: Some(status), ..self }
    }

    /// Sets the remaining freshness lifetime in seconds.
    pub fn ttl(self, seconds: i64) -> Self {
        Self { ttl: Some(seconds), ..self }
    }

    /// Marks the response as stored.
    pub fn stored(self) -> Self {
        Self { stored: true, ..self }
    }

    /// Marks the request as collapsed into another forwarded request.
    pub fn collapsed(self) -> Self {
        Self { collapsed: true, ..self }
    }

    /// Sets the remark. Clients see it: it must never contain text from an upstream.
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Marks the response as a stored one that replaces a failed forward.
    pub fn used_stale(self) -> Self {
        Self { used_stale: true, ..self }
    }

    /// Adds a remark behind another one, if there is one.
    pub fn and_detail(self, detail: &'static str) -> Self {
        match &self.detail {
            Some(before) => {
                let both = format!("{before}, {detail}");
                self.detail(both)
            }
            None => self.detail(detail),
        }
    }

    /// Marks the response as an error.
    pub fn failed(self) -> Self {
        Self { failed: true, ..self }
    }

    /// Takes back that the response was stored: it could not be completed.
    pub fn not_stored(self) -> Self {
        Self { stored: false, ..self }
    }

    /// One word for the log and the metrics: `hit`, `stale`, `miss`, `collapsed`, `revalidated`, `generated` or `error`.
    pub fn label(&self) -> &'static str {
        match self.fwd {
            _ if self.failed => "error",
            _ if self.generated => "generated",
            None if self.ttl.is_some_and(|ttl| ttl < 0) => "stale",
            None => "hit",
            Some(_) if self.used_stale => "stale",
            Some(_) if self.collapsed => "collapsed",
            Some(_) if self.fwd_status == Some(304) => "revalidated",
            Some(_) => "miss",
        }
    }

    /// The field's value for a cache with the name `cache`: `name; hit; ttl=59`, `name; fwd=stale; fwd-status=200; stored`,
    /// or `name` alone for an answer of the mirror itself.
    pub fn render(&self, cache: &str) -> HeaderValue {
        let mut text = String::with_capacity(64);
        push_item(&mut text, cache);
        match self.fwd {
            None if self.generated => {}
            None => text.push_str("; hit"),
            Some(fwd) => {
                text.push_str("; fwd=");
                text.push_str(fwd.as_str());
            }
        }
        // RFC 9211 §2.3, §2.5 and §2.6 define these three only for a forwarded request.
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
        ascii_value(text)
    }
}

/// Appends `text` as a Token if it is one ([RFC 9651 §3.3.4]), else as a String (§3.3.3). A String holds visible ASCII
/// only: any other character becomes `?`.
///
/// [RFC 9651 §3.3.4]: https://www.rfc-editor.org/rfc/rfc9651#section-3.3.4
fn push_item(out: &mut String, text: &str) {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    let starts_a_token = text.as_bytes().first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'*');
    if starts_a_token && text.bytes().all(is_tchar) {
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
    fn cache_status_renders_its_field_and_its_label() {
        let hit = CacheStatus::hit;
        let fwd = CacheStatus::forwarded;
        for (status, field, label) in [
            (hit(Some(59)), "c; hit; ttl=59", "hit"),
            (hit(None), "c; hit", "hit"),
            (hit(Some(-412)), "c; hit; ttl=-412", "stale"),
            (hit(None).detail("upstream-gone"), "c; hit; detail=upstream-gone", "hit"),
            (fwd(Fwd::UriMiss).status(200).stored(), "c; fwd=uri-miss; fwd-status=200; stored", "miss"),
            (fwd(Fwd::UriMiss).collapsed(), "c; fwd=uri-miss; collapsed", "collapsed"),
            (fwd(Fwd::Stale).status(304).ttl(60), "c; fwd=stale; fwd-status=304; ttl=60", "revalidated"),
            (fwd(Fwd::Stale).status(200).stored(), "c; fwd=stale; fwd-status=200; stored", "miss"),
            (
                fwd(Fwd::Stale).status(503).ttl(-9).used_stale().detail("stale if error"),
                "c; fwd=stale; fwd-status=503; ttl=-9; detail=\"stale if error\"",
                "stale",
            ),
            (CacheStatus::generated(), "c", "generated"),
            (CacheStatus::generated().failed().detail("cool-down"), "c; detail=cool-down", "error"),
            (fwd(Fwd::UriMiss).status(502).failed(), "c; fwd=uri-miss; fwd-status=502", "error"),
            (fwd(Fwd::UriMiss).status(200).stored().failed().not_stored(), "c; fwd=uri-miss; fwd-status=200", "error"),
            (
                fwd(Fwd::Stale).status(503).collapsed().detail("offline").not_forwarded(),
                "c; detail=offline",
                "generated",
            ),
            (hit(Some(5)).not_forwarded(), "c; hit; ttl=5", "hit"),
            (hit(Some(5)).and_detail("truncated"), "c; hit; ttl=5; detail=truncated", "hit"),
            (hit(None).detail("a").and_detail("b"), "c; hit; detail=\"a, b\"", "hit"),
            (hit(None).detail("a \"b\" \\ ä\n"), "c; hit; detail=\"a \\\"b\\\" \\\\ ??\"", "hit"),
            (hit(Some(i64::MIN)), "c; hit; ttl=-999999999999999", "stale"),
        ] {
            assert_eq!((status.render("c").to_str().expect("ASCII"), status.label()), (field, label));
        }
        assert_eq!(hit(None).render("a cache"), "\"a cache\"; hit");
    }

    /// The text of a Token or a String.
    fn text_of(item: &sfv::BareItem) -> Option<String> {
        item.as_token()
            .map(|token| token.as_str().to_owned())
            .or_else(|| item.as_string().map(|string| string.as_str().to_owned()))
    }

    fn visible_ascii(text: &str) -> String {
        text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
    }

    proptest! {
        #[test]
        fn cache_status_field_is_a_structured_list_member(
            cache in "\\PC{1,12}", detail in proptest::option::of("\\PC{0,20}"), ttl: Option<i64>, status: Option<u16>,
            stored: bool, collapsed: bool, forwarded: bool,
        ) {
            let fwd = forwarded.then_some(Fwd::Stale);
            let detail = detail.map(Cow::Owned);
            let status = CacheStatus {
                fwd, fwd_status: status, ttl, stored, collapsed, detail, ..CacheStatus::hit(None)
            };
            let field = status.render(&cache);
            let list: sfv::List = sfv::Parser::new(field.as_bytes()).parse().expect("a structured List");
            let [sfv::ListEntry::Item(member)] = &list[..] else { panic!("one Item: {list:?}") };
            let has = |key: &str| member.params.contains_key(key);
            prop_assert_eq!(has("hit"), !forwarded);
            prop_assert_eq!(has("fwd"), forwarded);
            prop_assert_eq!(has("stored"), forwarded && stored);
            prop_assert_eq!(has("collapsed"), forwarded && collapsed);
            prop_assert_eq!(has("ttl"), ttl.is_some());
            prop_assert_eq!(text_of(&member.bare_item), Some(visible_ascii(&cache)));
            if let Some(detail) = &status.detail {
                prop_assert_eq!(member.params.get("detail").and_then(text_of), Some(visible_ascii(detail)));
            }
        }
    }
}
