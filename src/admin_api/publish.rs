//! Publishing to a mirror that hosts packages: what `PUT` and `DELETE` of `/{package}/zipball/{version}` answer, and the
//! requests that hide a version or show it again.
//!
//! These routes are not the control socket's alone: with `[access]` they answer every client whose token has the right.

use http::header::HeaderName;
use serde::{Deserialize, Serialize};

use super::{FailureCode, request};
use crate::{entry::Digest, package::ModelFinding};

/// The digest of a request's body ([RFC 9530 §2](https://www.rfc-editor.org/rfc/rfc9530#section-2)). Its value
/// is that of [`crate::http::field::repr_digest`].
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Largest answer to a publication or deletion, bytes.
pub(crate) const MAX_PUBLISH_ANSWER_BYTES: usize = 1 << 20;

/// The answer to `PUT /{package}/zipball/{version}`: 201 for a version that is new, 200 for one that has the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedVersion {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
    /// SHA-256 of the zip.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// False where the version had the same bytes before.
    pub created: bool,
}

/// The answer to `DELETE /{package}/zipball/{version}`: 200, also for a version that was deleted before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeletedVersion {
    /// The package.
    pub package: String,
    /// The version. It cannot be published again.
    pub version: String,
}

/// The error of these routes, in the envelope of the srm dialect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishError {
    /// One or two sentences for a person.
    pub message: String,
    /// The HTTP status, as text.
    pub status: String,
    /// The cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
    /// With [`FailureCode::NotConforming`], every rule that the zip does not conform to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<ModelFinding>,
}

/// Hides a version from lists and from `latest`; it is still served by its exact name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct YankVersion {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
}

request!(YankVersion, "hosted/yank", answer YankState);

/// Shows a hidden version again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnyankVersion {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
}

request!(UnyankVersion, "hosted/unyank", answer YankState);

/// Whether a version is hidden now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct YankState {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
    /// True when it is hidden.
    pub yanked: bool,
}
