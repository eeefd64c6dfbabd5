//! How each kind of upstream takes and refuses credentials.

use super::{
    refusal::{self, RefusalReason},
    request_auth::CredentialScheme,
};
use crate::upstream::error_class::ErrorResponse;

/// How a kind of upstream takes and refuses credentials.
pub(in crate::upstream) struct CredentialProfile {
    pub(super) scheme: CredentialScheme,
    /// Recognises a response that refuses the credential.
    pub(super) refusal: fn(ErrorResponse<'_>) -> Option<RefusalReason>,
    /// True where one 401 is no proof: the credential is sent once more before it is out of use.
    pub(super) confirm: bool,
    pub(super) introspection: Introspection,
}

/// GitHub.
pub(in crate::upstream) const GITHUB: CredentialProfile = CredentialProfile {
    scheme: CredentialScheme::Authorization("Bearer"),
    refusal: refusal::github,
    confirm: false,
    introspection: Introspection::Github,
};

/// Gitee, which answers 401 in outages too. The token is sent in a header: in a query, which Gitee also accepts, it would
/// appear in logs.
pub(in crate::upstream) const GITEE: CredentialProfile = CredentialProfile {
    scheme: CredentialScheme::Authorization("token"),
    refusal: refusal::gitee,
    confirm: true,
    introspection: Introspection::Gitee,
};

/// Registries: the safety code signs each request.
pub(in crate::upstream) const REGISTRY: CredentialProfile = CredentialProfile {
    scheme: CredentialScheme::Signature,
    refusal: refusal::registry,
    confirm: true,
    introspection: Introspection::Nowhere,
};

/// The address at which an upstream says what a credential may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Introspection {
    /// `/rate_limit` for tokens, `/app` for Apps.
    Github,
    /// `/user`.
    Gitee,
    /// There is none.
    Nowhere,
}
