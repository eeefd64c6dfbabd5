//! The refusal of a package that does not conform to the package model.

use http::StatusCode;

use super::{ErrorDescription, subject::Subject};
use crate::{
    admin_api::FailureCode,
    http::cache_status::{CacheStatus, NOT_CONFORMING},
    package::ModelFinding,
};

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
    let status = status.unwrap_or_else(CacheStatus::generated).failed().and_detail(NOT_CONFORMING);
    ErrorDescription { code: Some(FailureCode::NotConforming), cache_status: Some(status), ..error }
}
