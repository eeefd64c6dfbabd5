//! One version as the pages show it.

use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;

use super::text::{count, counted};
use crate::{
    admin_api::RefKind,
    dialect::PATH_ENCODE_SET,
    registry::{
        TierStats, VersionRefusal, VersionState,
        catalog::overview::{OverviewSubject, VersionDetails},
    },
    service::error::version_refusal,
    value::text::{Moment, size},
};

/// Digits of a digest in a table.
const SHORT_DIGEST_DIGITS: usize = 12;
/// Most findings that are shown.
const MAX_SHOWN_FINDINGS: usize = 50;

/// A version.
pub(super) struct ShownVersion {
    pub(super) version: String,
    /// Its page, behind that of all packages.
    pub(super) path: String,
    /// `tag`, `commit` or `moving`.
    pub(super) kind: &'static str,
    /// The tag or commit of the repository that a folder's version is.
    pub(super) origin: Option<String>,
    /// The size of its zip, of a folder's version that of the repository's; `None` where none is stored.
    pub(super) size: Option<String>,
    /// What a request gets while no zip is stored.
    pub(super) without_zip: &'static str,
    /// False for a version that no client can get.
    pub(super) is_available: bool,
    pub(super) digest: Option<String>,
    pub(super) short_digest: Option<String>,
    /// When its zip was fetched or published.
    pub(super) stored_at: Option<Moment>,
    /// When it was published here, whether its zip is still there or not.
    pub(super) published_at: Option<Moment>,
    pub(super) released_at: Option<Moment>,
    pub(super) last_use: Option<Moment>,
    pub(super) hits: Option<String>,
    pub(super) served: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) publisher: Option<String>,
    pub(super) is_kept: bool,
    /// Whether its zip may be removed.
    pub(super) retention: &'static str,
    /// Whether its content may change.
    pub(super) content: &'static str,
    pub(super) is_prerelease: bool,
    /// `yanked`, `deleted` or `unreadable`, for such a publication.
    pub(super) withdrawn: Option<&'static str>,
    /// Who has deleted it, and when.
    pub(super) deletion: Option<(String, Moment)>,
    /// Why the rules refuse it.
    pub(super) refusal: Option<ShownRefusal>,
    /// `None` where it is not known whether it conforms to the package model.
    pub(super) findings: Option<Vec<String>>,
}

/// Why the rules refuse a version.
pub(super) struct ShownRefusal {
    pub(super) word: &'static str,
    pub(super) sentence: String,
}

impl ShownRefusal {
    fn of(refusal: Option<&VersionRefusal>, is_withdrawn: bool) -> Option<Self> {
        let withdrawn = || Self { word: "withdrawn", sentence: "its upstream has withdrawn it".to_owned() };
        refusal.map(Self::new).or_else(|| is_withdrawn.then(withdrawn))
    }

    fn new(refusal: &VersionRefusal) -> Self {
        let word = match refusal {
            VersionRefusal::Policy => "not allowed",
            VersionRefusal::Blocked { .. } => "blocked",
            VersionRefusal::TooYoung { .. } => "too new",
        };
        Self { word, sentence: version_refusal::sentence(refusal, "this version") }
    }
}

impl ShownVersion {
    /// `package` is the path of the package's page, percent-encoded.
    pub(super) fn new(subject: OverviewSubject<'_>, details: &VersionDetails, package: &str, now: Timestamp) -> Self {
        let VersionDetails { known, zip, refusal, is_withdrawn, is_fetched, findings } = details;
        let refusal = ShownRefusal::of(refusal.as_ref(), *is_withdrawn);
        let is_folder = matches!(subject, OverviewSubject::Folder(_));
        let hosted = known.hosted.as_ref().filter(|hosted| hosted.state != VersionState::Unreadable);
        let moment = |at| Moment::new(at, now);
        let state = known.hosted_state();
        let withdrawn = state.and_then(|state| match state {
            VersionState::Published => None,
            VersionState::Yanked => Some("yanked"),
            VersionState::Deleted(_) => Some("deleted"),
            VersionState::Unreadable => Some("unreadable"),
        });
        let deletion = match state {
            Some(VersionState::Deleted(change)) => Some((change.by.clone(), moment(change.at))),
            _ => None,
        };
        let has_zip = hosted.filter(|hosted| hosted.is_served());
        let digest = zip.as_ref().map(|zip| zip.digest).or(has_zip.map(|hosted| hosted.digest));
        let digest = digest.map(|digest| digest.to_string());
        let len = zip.as_ref().map(|zip| zip.len).or(has_zip.map(|hosted| hosted.len));
        let stored_at = zip.as_ref().map(|zip| zip.stored_at).or(has_zip.map(|hosted| hosted.published_at));
        // The counters of a repository's zip are those of all its folders.
        let counted = zip.as_ref().filter(|_| !is_folder);
        let stats = counted.map(|zip| zip.hit_stats.total());
        let findings = findings
            .as_ref()
            .map(|findings| findings.iter().take(MAX_SHOWN_FINDINGS).map(|finding| finding.message.clone()).collect());
        let is_served = known.hosted.is_none() || has_zip.is_some();
        Self {
            path: format!("{package}@{}", utf8_percent_encode(&known.version, PATH_ENCODE_SET)),
            version: known.version.clone(),
            kind: match known.kind {
                RefKind::Tag => "tag",
                RefKind::Commit => "commit",
                RefKind::Moving => "moving",
            },
            origin: is_folder.then(|| known.origin()),
            size: len.map(size),
            without_zip: match state {
                Some(VersionState::Deleted(_)) => "none: it was deleted",
                Some(_) => "none: it cannot be read",
                None if refusal.is_some() => "not stored",
                None if *is_fetched => "not stored at present; the next request fetches it",
                None => "not stored, and not fetched at present",
            },
            is_available: is_served && refusal.is_none() && (len.is_some() || *is_fetched),
            short_digest: digest.as_ref().map(|digest| digest.chars().take(SHORT_DIGEST_DIGITS).collect()),
            digest,
            stored_at: stored_at.map(moment),
            published_at: hosted.map(|hosted| moment(hosted.published_at)),
            released_at: known.released_at.map(moment),
            last_use: counted.map(|zip| moment(zip.last_use)),
            hits: stats.map(|TierStats { hits, .. }| count(hits)),
            served: stats.map(|TierStats { bytes, .. }| size(bytes)),
            commit: zip.as_ref().and_then(|zip| zip.commit.clone()),
            publisher: hosted.map(|hosted| hosted.publisher.to_string()),
            is_kept: zip.as_ref().is_some_and(|zip| zip.kept) || has_zip.is_some_and(|hosted| hosted.kept),
            retention: match (has_zip, zip) {
                (Some(hosted), _) if hosted.kept => "yes, it is never evicted and never pruned",
                (Some(_), _) => "published packages are never evicted",
                (None, Some(zip)) if zip.kept => "yes, it is never evicted",
                (None, _) => "no",
            },
            content: match known.kind {
                RefKind::Moving => "moving: every publication may change it",
                _ if known.hosted.is_some() => "published here: it never changes",
                _ if known.is_pinned => "pinned: other content under this version is refused",
                _ => "not pinned",
            },
            is_prerelease: known.is_prerelease,
            withdrawn,
            deletion,
            refusal,
            findings,
        }
    }

    /// The number of findings, where there are any.
    pub(super) fn finding_count(&self) -> Option<String> {
        let number = self.findings.as_ref().map(Vec::len).filter(|number| *number > 0)?;
        Some(counted(number as u64, "finding", "findings"))
    }
}
