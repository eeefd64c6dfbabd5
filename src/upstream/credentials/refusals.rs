//! For whose packages a credential is out of use, since when, and when one request tries it again.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::refusal::{RefusalReason, RefusalScope};

/// Time out of use after the first refusal; doubled each time the next request is refused too.
const FIRST_PERIOD: Duration = Duration::from_secs(60);
/// Longest time out of use without a new attempt.
const MAX_PERIOD: Duration = Duration::from_secs(3600);
/// Most owners with a refusal of their own. Beyond this, the oldest is forgotten, and that owner is asked again.
const MAX_REFUSING_OWNERS: usize = 256;

/// The refusals of one credential.
#[derive(Debug, Default)]
pub(super) struct RefusalTable(Mutex<Vec<RefusalEntry>>);

#[derive(Clone, Debug)]
struct RefusalEntry {
    /// `None` for all owners; in lower case.
    owner: Option<String>,
    reason: RefusalReason,
    status: u16,
    since: Timestamp,
    /// Refused attempts in a row.
    attempts: u32,
    /// No request before this.
    until: Instant,
    /// True while one request tries the credential again.
    retrying: bool,
}

/// One refusal, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRefusal {
    /// Whose packages; `None` for all.
    pub owner: Option<String>,
    /// Why.
    pub reason: RefusalReason,
    /// When the credential was first refused.
    pub since: Timestamp,
}

/// Whether a credential may be used for an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CredentialAdmission {
    Usable,
    /// Refused with this status.
    Refused(u16),
}

/// Whether a refusal is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalNews {
    New,
    Known,
}

impl RefusalEntry {
    fn concerns(&self, owner: Option<&str>) -> bool {
        match (&self.owner, owner) {
            (None, _) => true,
            (Some(refused), Some(owner)) => refused.eq_ignore_ascii_case(owner),
            (Some(_), None) => false,
        }
    }
}

impl RefusalTable {
    /// Checks whether a request may use the credential. Where the period of a refusal is over, the caller is the one
    /// request that tries it again.
    pub(super) fn admit(&self, owner: Option<&str>) -> CredentialAdmission {
        let mut entries = self.0.lock();
        let now = Instant::now();
        let concerned = || entries.iter().filter(|entry| entry.concerns(owner));
        if let Some(refused) = concerned().find(|entry| entry.until > now) {
            return CredentialAdmission::Refused(refused.status);
        }
        for entry in entries.iter_mut().filter(|entry| entry.concerns(owner)) {
            entry.until = now + FIRST_PERIOD;
            entry.retrying = true;
        }
        CredentialAdmission::Usable
    }

    /// True while the credential is out of use for the owner, also for the request that tries it again.
    pub(super) fn is_refused(&self, owner: Option<&str>) -> bool {
        self.0.lock().iter().any(|entry| entry.concerns(owner))
    }

    /// True while the credential is out of use for any owner.
    pub(super) fn is_refused_anywhere(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// Records a refusal.
    pub(super) fn record(&self, owner: Option<&str>, reason: RefusalReason, status: u16) -> RefusalNews {
        let owner = match reason.scope() {
            RefusalScope::AllOwners => None,
            RefusalScope::OneOwner => owner.map(str::to_ascii_lowercase),
        };
        let mut entries = self.0.lock();
        let now = Instant::now();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.owner == owner) {
            // Concurrent requests are refused together: only the one that tried again counts.
            if entry.retrying {
                entry.retrying = false;
                entry.attempts = entry.attempts.saturating_add(1);
                let doubled = FIRST_PERIOD.saturating_mul(1 << entry.attempts.saturating_sub(1).min(6));
                entry.until = now + doubled.min(MAX_PERIOD);
            }
            let news = if entry.reason == reason { RefusalNews::Known } else { RefusalNews::New };
            entry.reason = reason;
            entry.status = status;
            return news;
        }
        if entries.len() >= MAX_REFUSING_OWNERS {
            entries.remove(0);
        }
        let since = Timestamp::now();
        entries.push(RefusalEntry {
            owner,
            reason,
            status,
            since,
            attempts: 1,
            until: now + FIRST_PERIOD,
            retrying: false,
        });
        RefusalNews::New
    }

    /// Records a success; true when the credential was out of use for the owner.
    pub(super) fn accept(&self, owner: Option<&str>) -> bool {
        let mut entries = self.0.lock();
        let before = entries.len();
        entries.retain(|entry| !entry.concerns(owner));
        entries.len() < before
    }

    /// Every refusal.
    pub(super) fn list(&self) -> Vec<CredentialRefusal> {
        let entries = self.0.lock();
        let refusal = |entry: &RefusalEntry| CredentialRefusal {
            owner: entry.owner.clone(),
            reason: entry.reason,
            since: entry.since,
        };
        entries.iter().map(refusal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_growing_period_one_request_tries_the_credential_again() {
        let table = RefusalTable::default();
        assert_eq!(table.record(None, RefusalReason::BadCredential, 401), RefusalNews::New);
        assert_eq!(table.record(None, RefusalReason::BadCredential, 401), RefusalNews::Known, "concurrently");
        let mut periods = Vec::new();
        for _ in 0..8 {
            let mut seconds = 0;
            while table.admit(Some("acme")) != CredentialAdmission::Usable {
                tokio::time::advance(Duration::from_secs(1)).await;
                seconds += 1;
            }
            assert_eq!(table.admit(Some("acme")), CredentialAdmission::Refused(401), "only one request tries it");
            assert_eq!(table.record(Some("acme"), RefusalReason::BadCredential, 401), RefusalNews::Known);
            periods.push(seconds);
        }
        assert_eq!(periods, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(table.accept(Some("acme")) && !table.is_refused(Some("acme")) && !table.accept(Some("acme")));
        assert_eq!(table.record(None, RefusalReason::BadCredential, 401), RefusalNews::New);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owners_rule_concerns_that_owner_only() {
        let table = RefusalTable::default();
        table.record(Some("Acme"), RefusalReason::SingleSignOn, 403);
        assert_eq!(table.admit(Some("ACME")), CredentialAdmission::Refused(403));
        assert_eq!(table.admit(Some("devsapp")), CredentialAdmission::Usable);
        assert_eq!(table.admit(None), CredentialAdmission::Usable);
        assert!(!table.accept(Some("devsapp")) && table.is_refused(Some("acme")));
        assert_eq!(table.list()[0].owner.as_deref(), Some("acme"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_owners_is_bounded() {
        let table = RefusalTable::default();
        for number in 0..=MAX_REFUSING_OWNERS {
            table.record(Some(&format!("owner{number}")), RefusalReason::Address, 403);
        }
        assert_eq!(table.list().len(), MAX_REFUSING_OWNERS);
        assert!(!table.is_refused(Some("owner0")) && table.is_refused(Some("owner1")));
    }
}
