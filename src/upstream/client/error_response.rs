//! Turns error responses of the upstream into a [`FetchError`].

use http::StatusCode;
use jiff::Timestamp;

use super::ApiClient;
use crate::{
    http::cache_status::NOT_CONFORMING,
    origin::{FetchError, MirrorRefusal, Missing},
    upstream::{
        body::ResponseBody,
        call_log::CallLog,
        error_class::{ErrorClass, ErrorResponse},
        failure::invalid,
        request::RequestKind,
        response::{is_of_mirror, mirror_remarks},
    },
};

impl ApiClient {
    /// The error of a response that is neither a success nor a redirect to follow. An absence is `NotFound(missing)`.
    ///
    /// Records what the response says of the quota and of the credential.
    pub(super) async fn error_of_response(
        &self,
        call: &CallLog<'_>,
        response: reqwest::Response,
        kind: RequestKind,
        missing: Missing,
    ) -> FetchError {
        let status = response.status();
        if status.as_u16() < 400 {
            return invalid("an unexpected status");
        }
        let headers = response.headers().clone();
        let text = ResponseBody::new(response, self.idle_timeout).error_text(self.response_timeout).await;
        let response = ErrorResponse { status, headers: &headers, text: &text, kind };
        let class = (self.profile.classify)(response, Timestamp::now());
        let identity = self.identity(call, kind);
        if let ErrorClass::Throttled(wait) = class {
            return identity.limiter().throttle(wait);
        }
        identity.limiter().note_allowed();
        let refusal = match status {
            StatusCode::FORBIDDEN => Some(MirrorRefusal::Forbidden),
            StatusCode::UNPROCESSABLE_ENTITY if mirror_remarks(&headers, NOT_CONFORMING) => {
                Some(MirrorRefusal::NotConforming)
            }
            StatusCode::UNPROCESSABLE_ENTITY => Some(MirrorRefusal::Unbuilt),
            _ => None,
        };
        if let Some(refusal) = refusal.filter(|_| is_of_mirror(&headers)) {
            return FetchError::RefusedByMirror(refusal);
        }
        identity.note_error(&self.name, self.profile.credential, response);
        match class {
            ErrorClass::Blocked => FetchError::Blocked,
            ErrorClass::Absent => FetchError::NotFound(missing),
            ErrorClass::Throttled(_) | ErrorClass::Plain => FetchError::Status(status.as_u16()),
        }
    }
}
