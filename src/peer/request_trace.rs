//! The trace of the request that a task works for: the mirrors that it came through, so that a mirror recognises its own
//! request when it comes back, and its id, so that the logs of a chain of mirrors can be joined. Nothing else of a client's
//! request is forwarded.

use std::{future::Future, sync::Arc};

use http::{HeaderMap, HeaderValue, header};

use crate::http::field::{proxies, via};

/// The beginning of every mirror's pseudonym. An instance number of 12 hexadecimal digits follows.
pub(crate) const PSEUDONYM_PREFIX: &str = "srm-mirror-";
/// Digits of an instance number.
const INSTANCE_DIGITS: usize = 12;
/// Most mirrors in a chain.
const MAX_MIRRORS: usize = 16;

/// The pseudonyms of the mirrors that a request came through, the first one first, and the request's id. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestTrace {
    /// As members of `Via` ([RFC 9110 §7.6.3]); `None` without mirrors.
    ///
    /// [RFC 9110 §7.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
    members: Option<Arc<str>>,
    is_too_long: bool,
    id: Option<HeaderValue>,
}

tokio::task_local! {
    static TRACE: RequestTrace;
}

impl RequestTrace {
    /// Reads the `Via` fields of a request with this id. Every name that is no mirror's is left out.
    pub(crate) fn of_request(headers: &HeaderMap, id: HeaderValue) -> Self {
        if !headers.contains_key(header::VIA) {
            return Self { id: Some(id), ..Self::default() };
        }
        let mut mirrors: Vec<String> =
            proxies(headers).filter(|name| is_pseudonym(name)).take(MAX_MIRRORS + 1).collect();
        let is_too_long = mirrors.len() > MAX_MIRRORS;
        mirrors.truncate(MAX_MIRRORS);
        let members = mirrors.iter().map(|name| via(name)).collect::<Vec<_>>().join(", ");
        Self { members: (!members.is_empty()).then(|| members.into()), is_too_long, id: Some(id) }
    }

    /// True when the request came through no mirror.
    pub fn is_direct(&self) -> bool {
        self.members.is_none()
    }

    /// The request's id, as in `X-Request-Id`; `None` for work that no request has caused.
    pub(crate) fn id(&self) -> Option<&HeaderValue> {
        self.id.as_ref()
    }

    /// True when the request came through more mirrors than are recorded: it may go in a loop.
    pub fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The request for which the present task works; empty in every other task.
    pub fn current() -> Self {
        TRACE.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs what is done for this request: [`RequestTrace::current`] is this one within it.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        TRACE.scope(self, work)
    }

    /// The value of `Via` of a request that this mirror sends on; `own` is its own member.
    pub(crate) fn followed_by(&self, own: &HeaderValue) -> HeaderValue {
        let Some(members) = &self.members else { return own.clone() };
        let line = [members.as_bytes(), b", ", own.as_bytes()].concat();
        // Both parts are valid values.
        HeaderValue::from_bytes(&line).unwrap_or_else(|_| own.clone())
    }
}

fn is_pseudonym(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix(PSEUDONYM_PREFIX).is_some_and(|id| id.len() == INSTANCE_DIGITS && id.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(lines: &[&str]) -> RequestTrace {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::VIA, line.parse().expect("a value"));
        }
        RequestTrace::of_request(&headers, HeaderValue::from_static("r1"))
    }

    #[test]
    fn only_the_names_of_mirrors_are_forwarded() {
        let own = HeaderValue::from_static("1.1 srm-mirror-ffffffffffff");
        for (lines, expected) in [
            (&[][..], "1.1 srm-mirror-ffffffffffff"),
            (&["1.1 proxy.example, 1.1 srm-mirror-test", "secret"], "1.1 srm-mirror-ffffffffffff"),
            (&["1.1 srm-mirror-0123456789ab\"; x=1"], "1.1 srm-mirror-ffffffffffff"),
            (&["1.1 srm-mirror-0123456789abc, 1.1 SRM-MIRROR-0123456789ab"], "1.1 srm-mirror-ffffffffffff"),
            (
                &[
                    "2 srm-mirror-0123456789ab (a comment, 1.1 srm-mirror-aaaaaaaaaaaa), 1.1 x",
                    "1.1 srm-mirror-cccccccccccc",
                ],
                "1.1 srm-mirror-0123456789ab, 1.1 srm-mirror-cccccccccccc, 1.1 srm-mirror-ffffffffffff",
            ),
        ] {
            let trace = trace(lines);
            assert_eq!(trace.followed_by(&own), expected, "{lines:?}");
            assert!(!trace.is_too_long());
        }
    }

    #[test]
    fn a_chain_is_bounded() {
        let line = |mirrors: u64| {
            let names = (0..mirrors).map(|n| format!("1.1 srm-mirror-{n:012x}"));
            names.collect::<Vec<_>>().join(",")
        };
        let full = trace(&[&line(16)]);
        assert!(!full.is_too_long() && !full.is_direct());
        let longer = trace(&[&line(1000)]);
        assert!(longer.is_too_long());
        assert_eq!(longer.members, full.members);
    }
}
