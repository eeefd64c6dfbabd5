//! Classifies error responses: absence, rate limit, legal block, or the plain status. One pure function per forge, and one
//! for registries.
//!
//! A 403 means "forbidden" only when it is no rate limit: otherwise a rate limit would be cached as the package's state.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};

use super::request::RequestKind;
use crate::http::field::retry_after;

/// The meaning of a response with a status of 400 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// A rate limit and how long it lasts; `None` when the forge does not say.
    Throttled(Option<Duration>),
    /// Blocked for legal reasons or under the forge's terms.
    Blocked,
    /// It does not exist.
    Absent,
    /// As the status says.
    Plain,
}

/// The head of an error response, and the beginning of its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorResponse<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) text: &'a str,
    /// What was asked: the API, or a host that archives are redirected to.
    pub(super) kind: RequestKind,
}

/// The wait when Gitee states none: its anonymous limit lasts about a minute.
const GITEE_DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// GitHub: `retry-after` first, then the reset of an exhausted quota, then the wording of a secondary limit, which may
/// come without either and with quota left.
pub(super) fn github(response: ErrorResponse<'_>, now: Timestamp) -> ErrorClass {
    let ErrorResponse { status, headers, text, .. } = response;
    match status {
        StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => return ErrorClass::Blocked,
        StatusCode::NOT_FOUND => return ErrorClass::Absent,
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {}
        _ => return ErrorClass::Plain,
    }
    let now = date(headers).unwrap_or(now);
    if let Some(wait) = retry_after(headers, now) {
        return ErrorClass::Throttled(Some(wait));
    }
    if number(headers, "x-ratelimit-remaining") == Some(0) {
        return ErrorClass::Throttled(reset(headers).map(|reset| until(reset, now)));
    }
    let text = text.to_ascii_lowercase();
    let limit = ["rate limit", "abuse detection"].iter().any(|words| text.contains(words));
    if limit || status == StatusCode::TOO_MANY_REQUESTS {
        ErrorClass::Throttled(None)
    } else if text.contains("access blocked") {
        ErrorClass::Blocked
    } else {
        ErrorClass::Plain
    }
}

/// Gitee: no header is reliable, so the wording decides, in English and Chinese.
pub(super) fn gitee(response: ErrorResponse<'_>, now: Timestamp) -> ErrorClass {
    let ErrorResponse { status, headers, text, .. } = response;
    match status {
        StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => return ErrorClass::Blocked,
        StatusCode::NOT_FOUND => return ErrorClass::Absent,
        _ => {}
    }
    let words = ["请求过于频繁", "超过限制", "访问频率"];
    let limit = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::FORBIDDEN
            && (text.to_ascii_lowercase().contains("rate limit") || words.iter().any(|words| text.contains(words)));
    if limit {
        ErrorClass::Throttled(Some(retry_after(headers, date(headers).unwrap_or(now)).unwrap_or(GITEE_DEFAULT_WAIT)))
    } else {
        ErrorClass::Plain
    }
}

/// A registry: a 404 of its API means absence, and so does any other client error whose text `is_absence` recognises,
/// except a refusal. A 404 of the object storage does not: the registry has just said that the version exists.
pub(super) fn registry(response: ErrorResponse<'_>, now: Timestamp, is_absence: fn(&[u8]) -> bool) -> ErrorClass {
    let ErrorResponse { status, headers, text, kind } = response;
    match status {
        StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => ErrorClass::Blocked,
        StatusCode::TOO_MANY_REQUESTS => ErrorClass::Throttled(retry_after(headers, date(headers).unwrap_or(now))),
        _ if kind == RequestKind::Archive => ErrorClass::Plain,
        StatusCode::NOT_FOUND => ErrorClass::Absent,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorClass::Plain,
        _ if status.is_client_error() && is_absence(text.as_bytes()) => ErrorClass::Absent,
        _ => ErrorClass::Plain,
    }
}

/// The `Retry-After` of a response, compared with its own date; `None` for one that is over.
pub(super) fn stated_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    retry_after(headers, date(headers).unwrap_or(now)).filter(|wait| !wait.is_zero())
}

/// When the quota is restored, if the response says so.
pub(super) fn reset(headers: &HeaderMap) -> Option<Timestamp> {
    number(headers, "x-ratelimit-reset").and_then(|seconds| Timestamp::from_second(seconds).ok())
}

/// A header whose value is one integer.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The `Date` of the response. The upstream's other times are compared with it, because the local clock may be wrong.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// The time from `now` to `end`; zero when that is over.
fn until(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2023-10-18T20:00:00Z";
    const RESET: &str = "1697659261"; // 61 s after NOW

    fn classify(
        by: fn(ErrorResponse<'_>, Timestamp) -> ErrorClass,
        status: u16,
        headers: &[(&'static str, &str)],
        text: &str,
    ) -> ErrorClass {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value"))).collect();
        let status = StatusCode::from_u16(status).expect("a status");
        by(ErrorResponse { status, headers: &headers, text, kind: RequestKind::Api }, NOW.parse().expect("a time"))
    }

    fn seconds(n: u64) -> ErrorClass {
        ErrorClass::Throttled(Some(Duration::from_secs(n)))
    }

    #[test]
    fn github_error_responses_are_classified() {
        let primary = "API rate limit exceeded for 192.0.2.1.";
        let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
        let blocked = r#"{"message":"Repository access blocked","block":{"reason":"tos"}}"#;
        type Case = (&'static str, u16, Vec<(&'static str, &'static str)>, &'static str, ErrorClass);
        let cases: Vec<Case> = vec![
            (
                "primary, anonymous",
                403,
                vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", RESET)],
                primary,
                seconds(61),
            ),
            (
                "primary as 429",
                429,
                vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", RESET)],
                primary,
                seconds(61),
            ),
            ("primary without reset", 403, vec![("x-ratelimit-remaining", "0")], primary, ErrorClass::Throttled(None)),
            (
                "the forge's clock decides, not the local one",
                403,
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", RESET),
                    ("date", "Wed, 18 Oct 2023 20:01:00 GMT"),
                ],
                primary,
                seconds(1),
            ),
            (
                "reset in the past",
                403,
                vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")],
                primary,
                seconds(0),
            ),
            (
                "secondary, by its wording only, quota left",
                403,
                vec![("x-ratelimit-remaining", "21"), ("x-ratelimit-reset", RESET)],
                secondary,
                ErrorClass::Throttled(None),
            ),
            ("secondary with seconds", 429, vec![("retry-after", "8")], "", seconds(8)),
            ("secondary with a date", 429, vec![("retry-after", "Wed, 18 Oct 2023 20:00:09 GMT")], "", seconds(9)),
            (
                "retry-after wins over reset",
                403,
                vec![("retry-after", "8"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", RESET)],
                secondary,
                seconds(8),
            ),
            (
                "the former wording",
                403,
                vec![],
                "You have triggered an abuse detection mechanism",
                ErrorClass::Throttled(None),
            ),
            ("an archive host's bare 429", 429, vec![], "", ErrorClass::Throttled(None)),
            (
                "forbidden",
                403,
                vec![("x-ratelimit-remaining", "4999")],
                "Resource not accessible by integration",
                ErrorClass::Plain,
            ),
            ("blocked by the terms", 403, vec![("x-ratelimit-remaining", "4999")], blocked, ErrorClass::Blocked),
            ("blocked by law", 451, vec![("x-ratelimit-remaining", "0")], blocked, ErrorClass::Blocked),
            ("not found with an empty quota", 404, vec![("x-ratelimit-remaining", "0")], "", ErrorClass::Absent),
            ("bad token", 401, vec![], "Bad credentials", ErrorClass::Plain),
            ("outage", 503, vec![("retry-after", "5")], "", ErrorClass::Plain),
        ];
        for (what, status, headers, text, want) in cases {
            assert_eq!(classify(github, status, &headers, text), want, "{what}");
        }
    }

    #[test]
    fn gitee_error_responses_are_classified_by_their_wording() {
        for (status, text, want) in [
            (403, "Rate Limit Exceeded", seconds(60)),
            (403, r#"{"message":"请求过于频繁，请稍后再试"}"#, seconds(60)),
            (403, "超过限制", seconds(60)),
            (403, "访问频率过高", seconds(60)),
            (429, "", seconds(60)),
            (403, "403 Forbidden", ErrorClass::Plain),
            (401, "401 Unauthorized: Access token does not exist", ErrorClass::Plain),
            (400, "reject by mode [ja-p]", ErrorClass::Plain),
            (404, "", ErrorClass::Absent),
            (451, "", ErrorClass::Blocked),
        ] {
            assert_eq!(classify(gitee, status, &[], text), want, "{status} {text}");
        }
        assert_eq!(classify(gitee, 429, &[("retry-after", "7")], ""), seconds(7));
    }
    #[test]
    fn only_a_404_or_the_known_text_of_a_registry_means_absence() {
        for (status, kind, text, want) in [
            (404, RequestKind::Api, "anything", ErrorClass::Absent),
            (404, RequestKind::AnonymousApi, "", ErrorClass::Absent),
            (404, RequestKind::Archive, "missing", ErrorClass::Plain),
            (400, RequestKind::Api, "missing", ErrorClass::Absent),
            (400, RequestKind::Api, "bad request", ErrorClass::Plain),
            (401, RequestKind::Api, "missing", ErrorClass::Plain),
            (403, RequestKind::Api, "missing", ErrorClass::Plain),
            (500, RequestKind::Api, "missing", ErrorClass::Plain),
            (429, RequestKind::Api, "missing", ErrorClass::Throttled(None)),
            (451, RequestKind::Api, "missing", ErrorClass::Blocked),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let response = ErrorResponse { status, headers: &HeaderMap::new(), text, kind };
            let is_absence: fn(&[u8]) -> bool = |text| text == b"missing";
            assert_eq!(registry(response, Timestamp::UNIX_EPOCH, is_absence), want, "{status} {kind:?} {text}");
        }
    }
}
