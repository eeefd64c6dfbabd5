//! Which releases a package spec selects.

use jiff::Timestamp;
use wildmatch::WildMatch;

use super::package_spec::{PackageSpec, RawName, VersionSelector};
use crate::{
    admin_api::ReleaseRow,
    package::{semantic, with_v_toggled},
};

/// Why a version is left out that is younger than `--min-age`.
pub(super) const TOO_YOUNG: &str = "younger than --min-age";

/// Which of the selected versions are left out.
#[derive(Debug, Default)]
pub(super) struct VersionLimits {
    /// The most versions, newest first.
    pub(super) latest: Option<usize>,
    /// Patterns of what is left out.
    pub(super) exclude: Vec<Exclude>,
    /// Versions that were published later are left out.
    pub(super) not_after: Option<Timestamp>,
}

/// `PACKAGE`, `PACKAGE@VERSION` or `@VERSION`, with `*` and `?`; packages match in any case.
#[derive(Clone, Debug)]
pub(super) struct Exclude {
    package: Option<WildMatch>,
    version: Option<WildMatch>,
}

/// A pattern of `--exclude` that is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an empty pattern; write for example \"devsapp/*\" or \"@*-beta*\"")]
pub(super) struct EmptyExclude;

/// One version to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChosenVersion {
    /// What the mirror is asked for.
    pub(super) version: String,
    /// True when it is a release of the list.
    pub(super) listed: bool,
    /// True when its zip is known to be stored.
    pub(super) stored: bool,
    /// The length of its zip, where it is known.
    pub(super) len: Option<u64>,
    /// Fetch it only if the mirror first saw it by then: no list has its age.
    pub(super) seen_by: Option<Timestamp>,
}

/// What a package spec selects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct VersionChoice {
    /// To be fetched, newest first.
    pub(super) chosen: Vec<ChosenVersion>,
    /// Left out, and why.
    pub(super) skipped: Vec<(String, &'static str)>,
}

/// A package spec that selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoVersion {
    /// The package has no release.
    #[error("it has no release")]
    NoRelease,
    /// The upstream calls none latest.
    #[error("it has no latest release")]
    NoLatest,
    /// No release is in the range.
    #[error("none of its {releases} releases fits {range}")]
    OutOfRange {
        /// The number of releases.
        releases: usize,
        /// As it was written.
        range: String,
    },
}

impl Exclude {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty.
    pub(super) fn parse(text: &str) -> Result<Self, EmptyExclude> {
        let (package, version) = text.split_once('@').map_or((text, None), |(package, rest)| (package, Some(rest)));
        if package.is_empty() && version.is_none_or(str::is_empty) {
            return Err(EmptyExclude);
        }
        let package = (!package.is_empty()).then(|| WildMatch::new(&package.to_ascii_lowercase()));
        Ok(Self { package, version: version.map(WildMatch::new) })
    }

    /// True when it excludes every version of the package.
    pub(super) fn matches_package(&self, package: &RawName) -> bool {
        self.version.is_none() && self.package.as_ref().is_some_and(|pattern| matches_name(pattern, package))
    }

    fn matches_version(&self, package: &RawName, version: &str) -> bool {
        self.package.as_ref().is_none_or(|pattern| matches_name(pattern, package))
            && self.version.as_ref().is_some_and(|pattern| pattern.matches(version))
    }
}

/// A pattern without an upstream matches the package on any upstream.
fn matches_name(pattern: &WildMatch, package: &RawName) -> bool {
    let folded = package.as_str().to_ascii_lowercase();
    pattern.matches(&folded) || folded.split_once(':').is_some_and(|(_, name)| pattern.matches(name))
}

/// Chooses among the releases of a package; `latest` is the tag that its upstream calls latest.
///
/// # Errors
/// When the spec selects nothing at all.
pub(super) fn choose(
    spec: &PackageSpec,
    releases: &[ReleaseRow],
    latest: Option<&str>,
    limits: &VersionLimits,
) -> Result<VersionChoice, NoVersion> {
    let mut choice = VersionChoice::default();
    for Candidate { version, release } in candidates(spec, releases, latest, limits)? {
        let skip = if limits.exclude.iter().any(|pattern| pattern.matches_version(&spec.package, &version)) {
            Some("excluded")
        } else {
            limits.not_after.zip(release).and_then(|(limit, release)| too_young(release, limit))
        };
        match skip {
            Some(why) => choice.skipped.push((version, why)),
            None => choice.chosen.push(ChosenVersion {
                version,
                listed: release.is_some(),
                stored: release.is_some_and(|release| release.stored),
                len: release.and_then(|release| release.len),
                seen_by: limits.not_after.filter(|_| release.is_none()),
            }),
        }
    }
    Ok(choice)
}

fn too_young(release: &ReleaseRow, limit: Timestamp) -> Option<&'static str> {
    let known = release.published_at.or(release.created_at);
    known.is_none_or(|at| at > limit).then_some(TOO_YOUNG)
}

/// A version that a spec selects, and its release where it has one.
struct Candidate<'r> {
    version: String,
    release: Option<&'r ReleaseRow>,
}

impl<'r> Candidate<'r> {
    fn of(release: &'r ReleaseRow) -> Self {
        Self { version: release.tag.clone(), release: Some(release) }
    }
}

fn candidates<'r>(
    spec: &PackageSpec,
    releases: &'r [ReleaseRow],
    latest: Option<&str>,
    limits: &VersionLimits,
) -> Result<Vec<Candidate<'r>>, NoVersion> {
    let non_empty = |found: Vec<Candidate<'r>>, error| if found.is_empty() { Err(error) } else { Ok(found) };
    let Some(versions) = &spec.versions else {
        return non_empty(newest(releases, latest, limits.latest.unwrap_or(1)), NoVersion::NoRelease);
    };
    let exact = |tag: &str| releases.iter().find(|release| release.tag == tag);
    if let Some(locked) = &spec.locked {
        let release = exact(&versions.text).filter(|_| locked.tag);
        return Ok(vec![Candidate { version: versions.text.clone(), release }]);
    }
    let toggled = || with_v_toggled(&versions.text).and_then(|tag| exact(&tag));
    if let Some(release) = exact(&versions.text).or_else(toggled) {
        return Ok(vec![Candidate::of(release)]);
    }
    let limit = limits.latest.unwrap_or(usize::MAX);
    match &versions.selector {
        VersionSelector::All => {
            non_empty(releases.iter().take(limit).map(Candidate::of).collect(), NoVersion::NoRelease)
        }
        VersionSelector::Latest => non_empty(newest(releases, latest, 1), NoVersion::NoLatest),
        VersionSelector::Range(range) => {
            let version = |release: &'r ReleaseRow| Some((semantic(&release.tag)?, release));
            let mut fitting: Vec<_> = releases.iter().filter_map(version).collect();
            fitting.retain(|(version, release)| {
                range.matches(version) && (!release.prerelease || !version.pre.is_empty())
            });
            fitting.sort_by(|a, b| b.0.cmp(&a.0));
            fitting.truncate(limit);
            let found = fitting.into_iter().map(|(_, release)| Candidate::of(release)).collect();
            let range = versions.text.clone();
            non_empty(found, NoVersion::OutOfRange { releases: releases.len(), range })
        }
        VersionSelector::Ref => Ok(vec![Candidate { version: versions.text.clone(), release: None }]),
    }
}

/// The latest release, then the newest of the others that are no prereleases.
fn newest<'r>(releases: &'r [ReleaseRow], latest: Option<&str>, count: usize) -> Vec<Candidate<'r>> {
    let release_of = |tag: &str| releases.iter().find(|release| release.tag == tag);
    let first = latest.map(|tag| Candidate { version: tag.to_owned(), release: release_of(tag) });
    let others = releases.iter().filter(|release| !release.prerelease && Some(release.tag.as_str()) != latest);
    first.into_iter().chain(others.map(Candidate::of)).take(count).collect()
}

#[cfg(test)]
mod tests;
