//! STUB: freshness.
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Period};

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
            concurrency: 32,
            resumes: 3,
        }
    }
}
