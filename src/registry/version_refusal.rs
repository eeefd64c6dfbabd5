//! Why a version is not served.

use std::sync::Arc;

use jiff::Timestamp;

use crate::value::Period;

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionRefusal {
    /// `packages.deny` has it, or `packages.allow` lacks it.
    Policy,
    /// An operator has blocked it.
    Blocked {
        /// The operator's reason.
        reason: Arc<str>,
    },
    /// It is not old enough.
    TooYoung {
        /// The least age.
        min_age: Period,
        /// When it will be old enough.
        until: Timestamp,
    },
}
