//! Why a version is not published or deleted: status, code, sentence, and the findings of the package model.

use std::fmt::Display;

use super::{
    Body, Dialect, Duration, Failure, FailureCode, HeaderValue, Method, ModelFinding, PackageId, PublishError,
    PublishingError, RequestContext, Response, StatusCode, header, json_answer, json_response,
};
use crate::{
    observe::AuditUnwritable,
    package::PackageName,
    registry::{PublishRefusal, UploadError, hosting::VERSION_UNWRITABLE},
};

/// When to try again after want of room, of memory or of a place.
const PUBLISH_RETRY: Duration = Duration::from_secs(30);
/// When to try again while the shared bucket cannot be used, where its error does not say it.
pub(super) const BUCKET_RETRY: Duration = Duration::from_secs(10);
/// When to ask again whether an upstream has a name.
const NAME_CHECK_RETRY: Duration = Duration::from_secs(60);

/// An error response of these routes.
#[derive(Debug)]
pub(super) struct PublishFailure {
    status: StatusCode,
    code: Option<FailureCode>,
    message: String,
    findings: Vec<ModelFinding>,
    retry_after: Option<Duration>,
}

impl PublishFailure {
    fn new(status: StatusCode, code: Option<FailureCode>, message: impl Display) -> Self {
        Self { status, code, message: message.to_string(), findings: Vec::new(), retry_after: None }
    }

    fn retry(status: StatusCode, code: FailureCode, message: impl Display, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(status, Some(code), message) }
    }

    pub(super) fn forbidden(message: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, Some(FailureCode::Forbidden), message)
    }

    /// The rules do not give the right.
    pub(super) fn no_right() -> Self {
        Self::forbidden("the rules of this mirror do not give this account the right; ask the operator of this mirror")
    }

    /// The name cannot be used.
    pub(super) fn taken(message: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, Some(FailureCode::NameTaken), message)
    }

    pub(super) fn bad_request(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, None, message)
    }

    pub(super) fn not_hosting() -> Self {
        Self::new(StatusCode::NOT_FOUND, None, "nothing can be published on this mirror")
    }

    pub(super) fn too_large(limit: u64) -> Self {
        let message = format!("the zip is larger than this mirror allows: {limit} bytes (archives.max_size)");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Some(FailureCode::TooLarge), message)
    }

    pub(super) fn form_too_large(limit: usize) -> Self {
        let message = format!(
            "what is published beside the zip (publish.yaml, readme.md, version.md, s.yaml) is larger than this mirror \
             takes: {limit} bytes"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Some(FailureCode::TooLarge), message)
    }

    /// The body broke off, or came too slowly.
    pub(super) fn incomplete(message: impl Display) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, None, message)
    }

    pub(super) fn no_version(package: &PackageId, version: &str) -> Self {
        let message = format!("{} has no published version {version}", package.name);
        Self::new(StatusCode::NOT_FOUND, Some(FailureCode::NoVersion), message)
    }

    /// It is not known whether an upstream has a name.
    pub(super) fn unknown_name(name: &PackageName, asked: Option<&PackageId>) -> Self {
        let upstream = asked.map_or("an upstream", |asked| &*asked.upstream);
        let message = format!(
            "{upstream} cannot say at present whether it has a package {name}, and a name of another registry must not be \
             taken; try again later, or ask the operator to reserve the name in host.names"
        );
        Self::retry(StatusCode::SERVICE_UNAVAILABLE, FailureCode::UpstreamUnreachable, message, NAME_CHECK_RETRY)
    }

    /// The bucket that the mirrors share cannot be used at present.
    pub(super) fn bucket_unavailable(message: impl Display, retry_after: Duration) -> Self {
        let retry_after = Some(retry_after.max(Duration::from_secs(1)));
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message) }
    }

    /// The file system fails. The caller logs the cause.
    pub(super) fn unwritable(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, message)
    }

    /// The directory of published packages cannot be written. Logs the cause, which is not sent.
    pub(super) fn storage(error: &std::io::Error) -> Self {
        tracing::error!(%error, "the directory of published packages cannot be written");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, VERSION_UNWRITABLE)
    }

    /// The sentence for the client.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// True when the body did not arrive whole.
    pub(super) fn is_incomplete(&self) -> bool {
        self.status == StatusCode::REQUEST_TIMEOUT
    }

    /// Records in `context` what the response says.
    pub(super) fn note(self, context: &mut RequestContext) {
        context.failure = Some(Failure { code: self.code, message: self.message });
    }

    /// The response in the envelope of a dialect; records in `context` what it says.
    pub(super) fn into_response(mut self, context: &mut RequestContext, dialect: Dialect) -> Response<Body> {
        let mut response = match dialect {
            Dialect::V3 => {
                let body = dialect.error(self.status.as_u16(), self.code, &self.message, &context.id.to_string());
                json_response(self.status, body, &Method::PUT)
            }
            _ => {
                let error = PublishError {
                    message: self.message.clone(),
                    status: self.status.as_str().to_owned(),
                    code: self.code,
                    findings: std::mem::take(&mut self.findings),
                };
                json_answer(self.status, &error)
            }
        };
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        self.note(context);
        response
    }
}

impl From<AuditUnwritable> for PublishFailure {
    fn from(error: AuditUnwritable) -> Self {
        Self { retry_after: Some(PUBLISH_RETRY), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, None, error) }
    }
}

impl From<PublishingError> for PublishFailure {
    fn from(error: PublishingError) -> Self {
        let sentence = error.sentence();
        let conflict = |code| Self::new(StatusCode::CONFLICT, Some(code), &sentence);
        let unavailable = |code| Self::retry(StatusCode::SERVICE_UNAVAILABLE, code, &sentence, PUBLISH_RETRY);
        let unprocessable = || Self::new(StatusCode::UNPROCESSABLE_ENTITY, Some(FailureCode::NotConforming), &sentence);
        match error {
            PublishingError::Refused(refusal) => match refusal {
                PublishRefusal::Taken(_) | PublishRefusal::NotAbove(_) => conflict(FailureCode::VersionExists),
                PublishRefusal::Deleted(_) => conflict(FailureCode::VersionDeleted),
                PublishRefusal::OtherCase(_) | PublishRefusal::OtherSpelling(_) => Self::taken(&sentence),
                PublishRefusal::Unreadable => conflict(FailureCode::VersionExists),
                PublishRefusal::Upload(UploadError::Full(_)) => unavailable(FailureCode::NoRoom),
                PublishRefusal::Upload(UploadError::Io(error)) => Self::storage(&error),
                PublishRefusal::Unavailable(error) => Self::bucket_unavailable(error, error.retry_after),
            },
            PublishingError::Published(_) => conflict(FailureCode::VersionExists),
            PublishingError::BeingPublished | PublishingError::Reserved(_) => conflict(FailureCode::BeingPublished),
            PublishingError::NotReserved(_) => Self::forbidden(&sentence),
            PublishingError::TooManyReservations(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, None, &sentence),
            PublishingError::TooManyUploads | PublishingError::NoMemory(_) => unavailable(FailureCode::NoRoom),
            PublishingError::InvalidZip(_) => unprocessable(),
            PublishingError::NotConforming(findings) => Self { findings, ..unprocessable() },
        }
    }
}
