//! Why a version is not served, for clients and pages.

use super::ASK_OPERATOR;
use crate::registry::VersionRefusal;

/// The sentence; `what` names the package and the version.
pub(in crate::service) fn sentence(refusal: &VersionRefusal, what: &str) -> String {
    match refusal {
        VersionRefusal::Policy => format!("{what} is not among the versions this mirror may serve; {ASK_OPERATOR}"),
        VersionRefusal::Blocked { reason } => format!("{what} is blocked on this mirror: {reason}"),
        VersionRefusal::TooYoung { min_age, until } => format!(
            "{what} is too new: this mirror serves versions that are at least {min_age} old (packages.min_age), this one \
             from {until:.0} on"
        ),
    }
}
