//! The refusal of a package that does not conform to the package model.

use http::StatusCode;

use super::{ErrorDescription, subject::Subject};
use crate::{admin_api::FailureCode, http::cache_status::CacheStatus, package::ModelFinding};

/// 422 with a sentence that names the findings; `status` is how the zip was found.
pub(super) fn describe(
    subject: Subject<'_>,
    findings: &[ModelFinding],
    status: Option<CacheStatus>,
) -> ErrorDescription {
    let message = format!(
        "{} on {} does not conform to the package model (packages.model): {}",
        subject.what(),
        subject.upstream(),
        ModelFinding::sentence(findings)
    );
    let error = ErrorDescription::new(StatusCode::UNPROCESSABLE_ENTITY, message);
    ErrorDescription { code: Some(FailureCode::NotConforming), cache_status: status.map(CacheStatus::failed), ..error }
}
