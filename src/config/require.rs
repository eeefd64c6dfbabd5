//! Fails with a reason where a value may not be so.

use super::{
    error::{ConfigError, ErrorReason},
    layers::invalid,
    setting::Settings,
};
use crate::value::Period;

/// Fails with `reason` at `path` unless `valid`.
pub(super) fn require(
    valid: bool,
    settings: &Settings,
    path: &[&str],
    reason: impl Into<ErrorReason>,
) -> Result<(), ConfigError> {
    if valid { Ok(()) } else { Err(invalid(settings, path, reason)) }
}

/// Refuses a time-out or interval of zero.
pub(super) fn require_nonzero(period: Period, settings: &Settings, path: &[&str]) -> Result<(), ConfigError> {
    require(!period.0.is_zero(), settings, path, "must not be zero")
}
