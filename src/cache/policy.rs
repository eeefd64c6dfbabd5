//! Freshness of documents and limits of fills: pure decisions and their configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Period};

/// Maximum number of downloads of all upstreams together. Each takes two blocking threads while it arrives: one that writes
/// and one that verifies.
pub const MAX_DOWNLOADS: usize = 384;

/// The key `mode`: when upstreams are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamMode {
    /// For everything that is not fresh.
    #[default]
    Online,
    /// Only for what is not stored.
    PreferCache,
    /// Never.
    Offline,
}

impl UpstreamMode {
    /// The `detail` in `Cache-Status` where the mode is why a stale document is served.
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::PreferCache => "prefer-cache",
            Self::Offline => "offline",
        }
    }
}

/// The `[documents]` section: how long documents are fresh and usable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentConfig {
    /// Fresh for this long when a token is sent (a 304 is then free of quota).
    pub fresh_with_token: Period,
    /// Fresh for this long without a token (an anonymous 304 counts against 60 an hour).
    pub fresh_anonymous: Period,
    /// Then served stale, while one revalidation runs, for this long.
    pub stale_while_revalidate: Period,
    /// Served stale for this long while the upstream fails.
    pub stale_if_error: Period,
    /// Longest wait for an upstream where something stored may be served instead. Branches wait for the response.
    pub patience: Period,
    /// A 404 is cached for this long.
    pub negative: Period,
    /// After any other failure, the upstream is not asked for the same key for this long.
    pub cooldown: Period,
    /// The check whether a repository is private is fresh for this long.
    pub repository: Period,
    /// The commit of a branch is fresh for this long.
    pub branch: Period,
    /// When upstreams are asked: the top-level key `mode`.
    #[serde(skip)]
    pub mode: UpstreamMode,
}

impl Default for DocumentConfig {
    fn default() -> Self {
        Self {
            fresh_with_token: Period::secs(60),
            fresh_anonymous: Period::mins(5),
            stale_while_revalidate: Period::mins(10),
            stale_if_error: Period::FOREVER,
            patience: Period::secs(1),
            negative: Period::secs(30),
            cooldown: Period::secs(5),
            repository: Period::secs(86_400),
            branch: Period::secs(60),
            mode: UpstreamMode::Online,
        }
    }
}

/// The `[archives]` section: limits of fills and of zips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Largest zip, measured while it arrives.
    pub max_size: ByteSize,
    /// Most files and folders in a zip.
    pub max_entries: usize,
    /// Most bytes a zip may unpack to.
    pub max_inflated: ByteSize,
    /// How often one download that breaks is resumed.
    pub resumes: u32,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { max_size: ByteSize::gib(2), max_entries: 200_000, max_inflated: ByteSize::gib(16), resumes: 3 }
    }
}

/// How long one kind of document is fresh, and how long it may be served after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Fresh for this long after the upstream last confirmed it.
    pub fresh: Duration,
    /// Then served stale, while one revalidation runs, for this long.
    pub while_revalidating: Duration,
    /// Served stale for this long while the upstream fails.
    pub if_error: Duration,
    /// Longest wait for a revalidation where the stale document may be served; `None`: as long as it runs.
    pub patience: Option<Duration>,
    /// An absence (404) is remembered for this long.
    pub negative: Duration,
    /// When upstreams are asked.
    pub mode: UpstreamMode,
}

/// Whether a document of one age may be served ([RFC 9111 §4.2](https://www.rfc-editor.org/rfc/rfc9111#section-4.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// May be served as it is.
    Fresh {
        /// Remaining freshness.
        ttl: Duration,
    },
    /// To be revalidated.
    Stale {
        /// Time since it became stale.
        over: Duration,
        /// When it may be served all the same.
        usable: StaleUse,
    },
}

/// When a stale document may be served ([RFC 5861](https://www.rfc-editor.org/rfc/rfc5861)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleUse {
    /// At once, while a revalidation runs.
    WhileRevalidating,
    /// Without a revalidation: the mode asks no upstream.
    AsFresh,
    /// Only when the revalidation fails.
    IfError,
    /// Never.
    Never,
}

impl Policy {
    /// The freshness of a document that the upstream confirmed `age` ago.
    pub fn freshness(&self, age: Duration) -> Freshness {
        if age < self.fresh {
            return Freshness::Fresh { ttl: self.fresh - age };
        }
        let over = age - self.fresh;
        let usable = if self.mode != UpstreamMode::Online {
            StaleUse::AsFresh
        } else if over < self.while_revalidating {
            StaleUse::WhileRevalidating
        } else if over < self.if_error {
            StaleUse::IfError
        } else {
            StaleUse::Never
        };
        Freshness::Stale { over, usable }
    }

    /// The freshness of a document that is dated in the future: the wall clock was wrong once. It is expired, and usable
    /// while the upstream fails.
    pub fn freshness_of_unknown_age(&self) -> Freshness {
        self.freshness(self.fresh.saturating_add(self.while_revalidating))
    }

    /// True when a document of this age is served without asking the upstream.
    pub fn needs_no_request(&self, age: Duration) -> bool {
        matches!(self.freshness(age), Freshness::Fresh { .. } | Freshness::Stale { usable: StaleUse::AsFresh, .. })
    }

    /// The same policy for a caller that needs a document no older than `age`: it waits for a revalidation, but accepts a
    /// stale document when that fails.
    pub fn at_most(self, age: Duration) -> Self {
        // The caller misses a version in the stored document: `prefer-cache` may ask upstream for it, `offline` may not.
        let mode = if self.mode == UpstreamMode::PreferCache { UpstreamMode::Online } else { self.mode };
        Self { fresh: self.fresh.min(age), while_revalidating: Duration::ZERO, mode, ..self }
    }
}

impl DocumentConfig {
    /// The policy of release documents; `token` says whether requests to the upstream carry one.
    pub fn releases(&self, token: bool) -> Policy {
        self.policy(if token { self.fresh_with_token } else { self.fresh_anonymous })
    }

    /// The policy of the check whether a repository is private.
    pub fn repository(&self) -> Policy {
        self.policy(self.repository)
    }

    /// The policy of a branch's commit: never served stale while the upstream answers.
    pub fn branch(&self) -> Policy {
        Policy { while_revalidating: Duration::ZERO, patience: None, ..self.policy(self.branch) }
    }

    fn policy(&self, fresh: Period) -> Policy {
        let while_revalidating = self.stale_while_revalidate.0;
        let if_error = self.stale_if_error.0;
        let negative = self.negative.0;
        let patience = Some(self.patience.0);
        Policy { fresh: fresh.0, while_revalidating, if_error, patience, negative, mode: self.mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_fresh_then_stale_while_revalidating_then_stale_if_error() {
        let policy = Policy {
            fresh: Duration::from_secs(60),
            while_revalidating: Duration::from_secs(600),
            if_error: Duration::from_secs(6000),
            patience: None,
            negative: Duration::from_secs(30),
            mode: UpstreamMode::Online,
        };
        let stale = |over, usable| Freshness::Stale { over: Duration::from_secs(over), usable };
        for (age, expected) in [
            (0, Freshness::Fresh { ttl: Duration::from_secs(60) }),
            (59, Freshness::Fresh { ttl: Duration::from_secs(1) }),
            (61, stale(1, StaleUse::WhileRevalidating)),
            (659, stale(599, StaleUse::WhileRevalidating)),
            (660, stale(600, StaleUse::IfError)),
            (6059, stale(5999, StaleUse::IfError)),
            (6060, stale(6000, StaleUse::Never)),
        ] {
            assert_eq!(policy.freshness(Duration::from_secs(age)), expected, "age {age}");
        }
    }

    #[test]
    fn a_stale_document_outlives_any_outage_without_a_limit() {
        let policy = DocumentConfig::default().releases(false);
        let year = Duration::from_secs(365 * 86_400);
        assert!(matches!(policy.freshness(10 * year), Freshness::Stale { usable: StaleUse::IfError, .. }));
    }

    #[test]
    fn a_stored_document_of_any_age_needs_no_request_where_the_mode_says_so() {
        let policy = |mode| DocumentConfig { mode, ..DocumentConfig::default() }.releases(false);
        let year = Duration::from_secs(365 * 86_400);
        let few_seconds = Duration::from_secs(5);
        assert!(!policy(UpstreamMode::Online).needs_no_request(year));
        assert!(
            policy(UpstreamMode::PreferCache).needs_no_request(year)
                && policy(UpstreamMode::Offline).needs_no_request(year)
        );
        // A caller that misses a version in the stored document may ask again, but not offline.
        assert!(!policy(UpstreamMode::PreferCache).at_most(few_seconds).needs_no_request(year));
        assert!(policy(UpstreamMode::Offline).at_most(few_seconds).needs_no_request(year));
    }

    #[test]
    fn a_document_with_zero_freshness_is_always_stale() {
        let documents = DocumentConfig { fresh_anonymous: Period::secs(0), ..DocumentConfig::default() };
        let policy = Policy { while_revalidating: Duration::ZERO, ..documents.releases(false) };
        assert!(matches!(policy.freshness(Duration::ZERO), Freshness::Stale { usable: StaleUse::IfError, .. }));
    }
}
