//! Why a version is not published or deleted: status, code, sentence, and the findings of the package model.

use std::fmt::Display;

use super::{
    Body, Duration, Failure, FailureCode, HeaderValue, ModelFinding, PackageId, PublishError, PublishingError,
    RequestContext, Response, StatusCode, header, json_answer,
};
use crate::{
    observe::AuditUnwritable,
    package::PackageName,
    registry::{PublishRefusal, UploadError},
};

/// When to try again after want of room, of memory or of a place.
const PUBLISH_RETRY: Duration = Duration::from_secs(30);
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

    /// The cause is logged, and not sent.
    pub(super) fn storage(error: &std::io::Error) -> Self {
        tracing::error!(%error, "the directory of published packages cannot be written");
        let message = "this mirror cannot write the version; ask the operator of this mirror";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, message)
    }

    /// The response; notes in `context` what it says.
    pub(super) fn into_response(self, context: &mut RequestContext) -> Response<Body> {
        let error = PublishError {
            message: self.message.clone(),
            status: self.status.as_str().to_owned(),
            code: self.code,
            findings: self.findings,
        };
        let mut response = json_answer(self.status, &error);
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        context.failure = Some(Failure { code: self.code, message: self.message });
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
        let sentence = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, Some(code), format!("this version {sentence}"));
        let unavailable = |code| Self::retry(StatusCode::SERVICE_UNAVAILABLE, code, &sentence, PUBLISH_RETRY);
        let unprocessable = || {
            let message = format!("the zip is not published: {sentence}");
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, Some(FailureCode::NotConforming), message)
        };
        match error {
            PublishingError::Refused(refusal) => match refusal {
                PublishRefusal::Taken(_) | PublishRefusal::NotAbove(_) => conflict(FailureCode::VersionExists),
                PublishRefusal::Deleted(_) => conflict(FailureCode::VersionDeleted),
                PublishRefusal::OtherCase(_) => Self::taken(format!("this package {sentence}")),
                PublishRefusal::Unreadable => conflict(FailureCode::VersionExists),
                PublishRefusal::Upload(UploadError::Full(_)) => unavailable(FailureCode::NoRoom),
                PublishRefusal::Upload(UploadError::Io(error)) => Self::storage(&error),
            },
            PublishingError::BeingPublished => conflict(FailureCode::BeingPublished),
            PublishingError::TooManyUploads | PublishingError::NoMemory(_) => unavailable(FailureCode::NoRoom),
            PublishingError::InvalidZip(_) => unprocessable(),
            PublishingError::NotConforming(findings) => Self { findings, ..unprocessable() },
        }
    }
}
