//! Why the mirror has no answer about a package: the code that stands in an error beside its sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The cause of an error about a package. Events of the administration API carry it, and the srm dialect's error
/// envelope as its member `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCode {
    /// The upstream has no such package.
    NoPackage,
    /// The package has no release, or none that fits.
    NoRelease,
    /// The package has no such tag, branch or commit.
    NoVersion,
    /// The upstream blocks it for legal reasons.
    Blocked,
    /// It is not stored, and the mirror is offline.
    Offline,
    /// The upstream cannot be reached.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// No place among the requests to the upstream was free in time.
    UpstreamBusy,
    /// The mirror has no room for it at present.
    NoRoom,
    /// The mirror's disk fails, so that the content of a new version cannot be recorded.
    PinsUnavailable,
    /// The upstream limits the mirror's requests.
    UpstreamThrottled,
    /// The upstream refuses the mirror's token, or access without one.
    UpstreamDenied,
    /// The upstream answered with another status that is an error.
    UpstreamStatus,
    /// The upstream's answer is malformed.
    UpstreamInvalid,
    /// It is larger than the mirror allows.
    TooLarge,
    /// The upstream now has other content than the pinned one.
    PinMismatch,
    /// The mirror's own request came back to it.
    Loop,
    /// The mirror's configuration does not allow to fetch it, or it cannot be stored.
    Refused,
    /// The mirror may not serve the package.
    Forbidden,
    /// The mirror serves it to clients with valid credentials only.
    Unauthorized,
    /// The recorded source of the name is no longer in its route.
    SourceChanged,
    /// The name is another repository than the one whose versions were first served.
    RepositoryReplaced,
    /// The component's entry is not in its zip.
    Unbuilt,
    /// The package does not conform to the package model.
    NotConforming,
    /// The version was published with other content.
    VersionExists,
    /// The version was deleted, and cannot be published again.
    VersionDeleted,
    /// The name belongs to another package.
    NameTaken,
    /// The version is being published.
    BeingPublished,
    /// A code that this version does not have.
    #[serde(other)]
    Other,
}

impl fmt::Display for FailureCode {
    /// The text of the code, as in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::FAILURE_CAUSES;

    #[test]
    fn the_metric_has_a_label_for_every_cause_in_their_order() {
        for (number, label) in FAILURE_CAUSES.into_iter().enumerate() {
            let code: FailureCode = serde_json::from_value(label.into()).expect("a code");
            assert_eq!((code as usize, code.to_string().as_str()), (number, label));
        }
        assert_eq!(FailureCode::Other as usize + 1, FAILURE_CAUSES.len(), "other is the last one");
    }
}
