//! Freshness of release documents, and the limits of a fill: pure decisions and the configuration behind them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Period};

/// The key `mode`: whether and when upstreams are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// For what is not fresh.
    #[default]
    Online,
    /// For what is not stored.
    PreferCache,
    /// Never.
    Offline,
}

impl Mode {
    /// The word in `Cache-Status` where it made a stale document the answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::PreferCache => "prefer-cache",
            Self::Offline => "offline",
        }
    }
}

/// The `[documents]` section: how long release documents are fresh and usable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Documents {
    /// Fresh for this long when a token is sent (a 304 is then free of quota).
    pub fresh_with_token: Period,
    /// Fresh for this long without a token (an anonymous 304 counts against 60 an hour).
    pub fresh_anonymous: Period,
    /// After that, served stale while one revalidation runs, for this long.
    pub stale_while_revalidate: Period,
    /// Served stale for this long while the upstream fails.
    pub stale_if_error: Period,
    /// A 404 is remembered for this long.
    pub negative: Period,
    /// After any other failure the same thing is not asked again for this long.
    pub cooldown: Period,
    /// The look at whether a repository is private is renewed after this long.
    pub repository: Period,
    /// The commit of a branch is fresh for this long.
    pub branch: Period,
    /// Whether and when upstreams are asked: the key `mode`, which stands above all sections.
    #[serde(skip)]
    pub mode: Mode,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            fresh_with_token: Period::secs(60),
            fresh_anonymous: Period::mins(5),
            stale_while_revalidate: Period::mins(10),
            stale_if_error: Period::FOREVER,
            negative: Period::secs(30),
            cooldown: Period::secs(5),
            repository: Period::secs(86_400),
            branch: Period::secs(60),
            mode: Mode::Online,
        }
    }
}

/// The `[archives]` section: limits of a fill and of what a zip may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archives {
    /// Largest zip, counted while it arrives.
    pub max_size: ByteSize,
    /// Most files and folders in a zip.
    pub max_entries: usize,
    /// Most bytes a zip may unpack to.
    pub max_inflated: ByteSize,
    /// Most downloads at once.
    pub concurrency: usize,
    /// How often one download that broke in the middle is resumed.
    pub resumes: u32,
}

impl Default for Archives {
    fn default() -> Self {
        Self {
            max_size: ByteSize::gib(2),
            max_entries: 200_000,
            max_inflated: ByteSize::gib(16),
            concurrency: 24,
            resumes: 3,
        }
    }
}

/// How long one kind of document is fresh, and for how long it may be served after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Fresh for this long after the upstream last confirmed it.
    pub fresh: Duration,
    /// Then served stale, while one revalidation runs, for this long.
    pub while_revalidating: Duration,
    /// Served stale for this long while the upstream fails.
    pub if_error: Duration,
    /// What is done instead where upstreams are not to be asked.
    pub mode: Mode,
}

/// What a policy says of a document of a certain age ([RFC 9111 §4.2](https://www.rfc-editor.org/rfc/rfc9111#section-4.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// May be served as it is.
    Fresh {
        /// For how much longer.
        ttl: Duration,
    },
    /// Should be revalidated.
    Stale {
        /// For how long it has been stale.
        over: Duration,
        /// What it may be used for all the same.
        usable: Usable,
    },
}

/// When a stale document may be served ([RFC 5861](https://www.rfc-editor.org/rfc/rfc5861)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// At once, while a revalidation runs beside it.
    WhileRevalidating,
    /// As it is, without asking anybody: the mode wants it so.
    AsItIs,
    /// Only when the revalidation fails.
    IfError,
    /// Not any more.
    No,
}

impl Policy {
    /// Judges a document that the upstream confirmed `age` ago.
    pub fn judge(&self, age: Duration) -> Freshness {
        if age < self.fresh {
            return Freshness::Fresh { ttl: self.fresh - age };
        }
        let over = age - self.fresh;
        let usable = if self.mode != Mode::Online {
            Usable::AsItIs
        } else if over < self.while_revalidating {
            Usable::WhileRevalidating
        } else if over < self.if_error {
            Usable::IfError
        } else {
            Usable::No
        };
        Freshness::Stale { over, usable }
    }

    /// True for a document that nobody has to be asked about at this age.
    pub fn holds(&self, age: Duration) -> bool {
        matches!(self.judge(age), Freshness::Fresh { .. } | Freshness::Stale { usable: Usable::AsItIs, .. })
    }

    /// The same policy for a caller who wants an answer not older than `age`: it waits for a revalidation,
    /// but still takes a stale answer when that fails.
    pub fn at_most(self, age: Duration) -> Self {
        // What such a caller misses in what is stored is not stored: offline alone it stays at that.
        let mode = if self.mode == Mode::PreferCache { Mode::Online } else { self.mode };
        Self { fresh: self.fresh.min(age), while_revalidating: Duration::ZERO, mode, ..self }
    }
}

impl Documents {
    /// The policy of release documents; `token` tells whether the upstream is asked with one.
    pub fn releases(&self, token: bool) -> Policy {
        self.policy(if token { self.fresh_with_token } else { self.fresh_anonymous })
    }

    /// The policy of the look at the repository itself.
    pub fn repository(&self) -> Policy {
        self.policy(self.repository)
    }

    /// The policy of a branch's commit: never served stale while the upstream works.
    pub fn branch(&self) -> Policy {
        Policy { while_revalidating: Duration::ZERO, ..self.policy(self.branch) }
    }

    fn policy(&self, fresh: Period) -> Policy {
        let while_revalidating = self.stale_while_revalidate.0;
        let if_error = self.stale_if_error.0;
        Policy { fresh: fresh.0, while_revalidating, if_error, mode: self.mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_fresh_then_revalidated_beside_then_only_for_errors() {
        let policy = Policy {
            fresh: Duration::from_secs(60),
            while_revalidating: Duration::from_secs(600),
            if_error: Duration::from_secs(6000),
            mode: Mode::Online,
        };
        let stale = |over, usable| Freshness::Stale { over: Duration::from_secs(over), usable };
        for (age, expected) in [
            (0, Freshness::Fresh { ttl: Duration::from_secs(60) }),
            (59, Freshness::Fresh { ttl: Duration::from_secs(1) }),
            (61, stale(1, Usable::WhileRevalidating)),
            (659, stale(599, Usable::WhileRevalidating)),
            (660, stale(600, Usable::IfError)),
            (6059, stale(5999, Usable::IfError)),
            (6060, stale(6000, Usable::No)),
        ] {
            assert_eq!(policy.judge(Duration::from_secs(age)), expected, "age {age}");
        }
    }

    #[test]
    fn without_a_limit_a_stale_document_outlives_any_outage() {
        let policy = Documents::default().releases(false);
        let year = Duration::from_secs(365 * 86_400);
        assert!(matches!(policy.judge(10 * year), Freshness::Stale { usable: Usable::IfError, .. }));
    }

    #[test]
    fn what_is_stored_holds_at_any_age_where_the_mode_says_so() {
        let policy = |mode| Documents { mode, ..Documents::default() }.releases(false);
        let year = Duration::from_secs(365 * 86_400);
        let moment = Duration::from_secs(5);
        assert!(!policy(Mode::Online).holds(year));
        assert!(policy(Mode::PreferCache).holds(year) && policy(Mode::Offline).holds(year));
        // A caller who found nothing in what is stored may ask again, but not offline.
        assert!(!policy(Mode::PreferCache).at_most(moment).holds(year));
        assert!(policy(Mode::Offline).at_most(moment).holds(year));
    }

    #[test]
    fn zero_freshness_is_always_stale() {
        let documents = Documents { fresh_anonymous: Period::secs(0), ..Documents::default() };
        let policy = Policy { while_revalidating: Duration::ZERO, ..documents.releases(false) };
        assert!(matches!(policy.judge(Duration::ZERO), Freshness::Stale { usable: Usable::IfError, .. }));
    }
}
