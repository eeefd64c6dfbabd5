//! One version as the pages show it.

use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;

use super::text::{Moment, count, counted, size};
use crate::{
    admin_api::RefKind,
    dialect::UNRESERVED,
    registry::{TierStats, VersionState, catalog::overview::VersionDetails},
};

/// Digits of a digest in a table.
const SHORT_DIGEST: usize = 12;
/// Most findings that are shown.
const MAX_SHOWN_FINDINGS: usize = 50;

/// A version.
pub(super) struct ShownVersion {
    pub(super) version: String,
    /// Its page, behind that of all packages.
    pub(super) path: String,
    /// `tag`, `commit` or `moving`.
    pub(super) kind: &'static str,
    /// The size of its zip; `None` where none is stored.
    pub(super) size: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) short_digest: Option<String>,
    /// When its zip was fetched or published.
    pub(super) stored_at: Option<Moment>,
    pub(super) released_at: Option<Moment>,
    pub(super) last_use: Option<Moment>,
    pub(super) hits: Option<String>,
    pub(super) served: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) publisher: Option<String>,
    pub(super) is_kept: bool,
    pub(super) is_pinned: bool,
    pub(super) is_prerelease: bool,
    /// What became of its publication, in one word, where it is not an ordinary one.
    pub(super) withdrawn: Option<&'static str>,
    /// The operator's reason.
    pub(super) blocked: Option<String>,
    /// `None` where it is not known whether it conforms to the package model.
    pub(super) findings: Option<Vec<String>>,
}

impl ShownVersion {
    /// `package` is the path of the package's page, percent-encoded.
    pub(super) fn new(details: &VersionDetails, package: &str, now: Timestamp) -> Self {
        let VersionDetails { known, zip, blocked, findings } = details;
        let hosted = known.hosted.as_ref();
        let withdrawn = known.hosted_state().and_then(|state| match state {
            VersionState::Published => None,
            VersionState::Yanked => Some("yanked"),
            VersionState::Deleted(_) => Some("deleted"),
            VersionState::Unreadable => Some("unreadable"),
        });
        let has_zip = hosted.filter(|hosted| hosted.is_served());
        let digest = zip.as_ref().map(|zip| zip.digest).or(has_zip.map(|hosted| hosted.digest));
        let digest = digest.map(|digest| digest.to_string());
        let len = zip.as_ref().map(|zip| zip.len).or(has_zip.map(|hosted| hosted.len));
        let stored_at = zip.as_ref().map(|zip| zip.stored_at).or(hosted.map(|hosted| hosted.published_at));
        let stats = zip.as_ref().map(|zip| zip.hit_stats.total());
        let moment = |at| Moment::new(at, now);
        let findings = findings
            .as_ref()
            .map(|findings| findings.iter().take(MAX_SHOWN_FINDINGS).map(|finding| finding.message.clone()).collect());
        Self {
            path: format!("{package}@{}", utf8_percent_encode(&known.version, UNRESERVED)),
            version: known.version.clone(),
            kind: match known.kind {
                RefKind::Tag => "tag",
                RefKind::Commit => "commit",
                RefKind::Moving => "moving",
            },
            size: len.map(size),
            short_digest: digest.as_ref().map(|digest| digest.chars().take(SHORT_DIGEST).collect()),
            digest,
            stored_at: stored_at.map(moment),
            released_at: known.released_at.map(moment),
            last_use: zip.as_ref().map(|zip| moment(zip.last_use)),
            hits: stats.map(|TierStats { hits, .. }| count(hits)),
            served: stats.map(|TierStats { bytes, .. }| size(bytes)),
            commit: zip.as_ref().and_then(|zip| zip.commit.clone()),
            publisher: hosted.map(|hosted| hosted.publisher.to_string()),
            is_kept: zip.as_ref().is_some_and(|zip| zip.kept),
            is_pinned: known.is_pinned,
            is_prerelease: known.is_prerelease,
            withdrawn,
            blocked: blocked.as_ref().map(|reason| reason.to_string()),
            findings,
        }
    }

    /// The number of findings, where there are any.
    pub(super) fn finding_count(&self) -> Option<String> {
        let number = self.findings.as_ref().map(Vec::len).filter(|number| *number > 0)?;
        Some(counted(number as u64, "finding", "findings"))
    }
}
