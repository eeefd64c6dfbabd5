//! Reports about credentials: their state, and what each may do. They have no secret, and of the upstream's text only names
//! of a narrow alphabet.

use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::{refusal::RefusalReason, refusals::CredentialRefusal};
use crate::{origin::FetchError, upstream::RateLimitStatus};

/// The state of one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialStatus {
    /// The variable's or the file's name; for a GitHub App its id, with the owner where it has a token.
    pub label: String,
    /// For whose packages it is out of use. Empty while it is in use for all.
    pub refusals: Vec<CredentialRefusal>,
    /// Its quota.
    pub quota: RateLimitStatus,
}

/// What the upstream says of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialReport {
    /// As [`CredentialStatus::label`].
    pub label: String,
    /// The upstream's answer.
    pub outcome: CredentialOutcome,
}

/// The upstream's answer to a question about a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialOutcome {
    /// It is accepted.
    Accepted(CredentialGrant),
    /// It is refused.
    Refused(RefusalReason),
    /// There was no usable answer.
    Unanswered(FetchError),
    /// The upstream has no address for it.
    NotCheckable,
}

/// What an accepted credential may do, as far as the upstream says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialGrant {
    /// The account that it belongs to; for a GitHub App, the App's name.
    pub account: Option<String>,
    /// The scopes of a classic token. `None` for other kinds, which have none.
    pub scopes: Option<Vec<String>>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Requests left, and of how many per hour.
    pub quota: Option<GrantedQuota>,
    /// The installations of a GitHub App.
    pub installations: Option<Vec<InstallationGrant>>,
}

/// The hourly quota of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedQuota {
    /// Requests left.
    pub remaining: i64,
    /// Requests per hour.
    pub limit: i64,
}

/// One installation of a GitHub App.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationGrant {
    /// The user or organization.
    pub account: String,
    /// Each as `contents: read`.
    pub permissions: Vec<String>,
}

impl CredentialReport {
    /// True when the upstream refuses the credential.
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, CredentialOutcome::Refused(_))
    }
}

/// A predicate of the credential.
impl fmt::Display for CredentialOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(grant) => write!(f, "is accepted{grant}"),
            Self::Refused(reason) => write!(f, "{reason} ({})", reason.as_str()),
            Self::Unanswered(error) => write!(f, "could not be checked: {error}"),
            Self::NotCheckable => f.write_str("cannot be checked: this kind of upstream has no address for it"),
        }
    }
}

impl fmt::Display for CredentialGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.account {
            write!(f, " as {account}")?;
        }
        let mut facts = String::new();
        if let Some(scopes) = &self.scopes {
            let scopes = if scopes.is_empty() { "none".to_owned() } else { scopes.join(", ") };
            let _ = write!(facts, "; scopes: {scopes}");
        }
        if let Some(expires) = self.expires {
            let _ = write!(facts, "; expires {expires}");
        }
        if let Some(quota) = self.quota {
            let _ = write!(facts, "; {} of {} requests left this hour", quota.remaining, quota.limit);
        }
        for installation in self.installations.iter().flatten() {
            let permissions = installation.permissions.join(", ");
            let permissions = if permissions.is_empty() { "no permissions" } else { &permissions };
            let _ = write!(facts, "; installed for {} ({permissions})", installation.account);
        }
        if self.installations.as_ref().is_some_and(Vec::is_empty) {
            facts.push_str("; not installed anywhere");
        }
        f.write_str(&facts)
    }
}
