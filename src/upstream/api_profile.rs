//! The constants of an upstream's HTTP API.

use jiff::Timestamp;

use super::{
    credentials::profile::CredentialProfile,
    error_class::{ErrorClass, ErrorResponse},
};

/// The constants of an upstream's HTTP API.
pub(super) struct ApiProfile {
    /// How it treats credentials.
    pub(super) credential: &'static CredentialProfile,
    /// Additional headers of every API request.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// The default `Accept` of requests for documents.
    pub(super) accept: &'static str,
    /// The `Accept` of requests to the API for zips.
    pub(super) accept_zip: &'static str,
    /// Classifies a response with a status of 400 or more.
    pub(super) classify: fn(ErrorResponse<'_>, Timestamp) -> ErrorClass,
}
