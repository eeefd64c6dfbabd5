//! Which releases a wish means.

use jiff::Timestamp;
use serde::Deserialize;
use wildmatch::WildMatch;

use super::package_spec::{PackageSpec, RawName, VersionSelector};
use crate::package::{semantic, with_v_toggled};

/// A release as the mirror lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    /// Its tag.
    #[serde(alias = "tag_name")]
    pub(super) tag: String,
    /// When it was made.
    pub(super) created_at: Option<Timestamp>,
    /// When it was published, where the upstream says so.
    pub(super) published_at: Option<Timestamp>,
    /// Listed, but never latest.
    #[serde(default)]
    pub(super) prerelease: bool,
    /// True when its zip is known to be stored.
    #[serde(default)]
    pub(super) stored: bool,
    /// The length of its zip, where it is known.
    #[serde(default)]
    pub(super) len: Option<u64>,
}

/// Which of the versions are wanted after all.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// How many of the newest.
    pub(super) latest: Option<usize>,
    /// Patterns of what is left out.
    pub(super) exclude: Vec<Exclude>,
    /// What is younger than this is left out.
    pub(super) not_after: Option<Timestamp>,
}

/// `PACKAGE`, `PACKAGE@VERSION` or `@VERSION`, with `*` and `?`; packages without case.
#[derive(Clone, Debug)]
pub(super) struct Exclude {
    package: Option<WildMatch>,
    version: Option<WildMatch>,
}

/// One version to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// As the mirror is asked for it.
    pub(super) version: String,
    /// True when it is a release of the list.
    pub(super) listed: bool,
    /// True when its zip is known to be stored.
    pub(super) stored: bool,
    /// The length of its zip, where it is known.
    pub(super) len: Option<u64>,
    /// Only where the mirror has first seen it by then: no list tells how old it is.
    pub(super) seen_by: Option<Timestamp>,
}

/// Why a version is left out that is not old enough.
pub(super) const YOUNG: &str = "younger than --min-age";

/// What became of a wish.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// What is to be fetched, newest first.
    pub(super) chosen: Vec<Chosen>,
    /// What is left out, and why.
    pub(super) skipped: Vec<(String, &'static str)>,
}

impl Exclude {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (package, version) = text.split_once('@').map_or((text, None), |(package, rest)| (package, Some(rest)));
        if package.is_empty() && version.is_none_or(str::is_empty) {
            return Err("an empty pattern; write for example \"devsapp/*\" or \"@*-beta*\"".into());
        }
        let package = (!package.is_empty()).then(|| WildMatch::new(&package.to_ascii_lowercase()));
        Ok(Self { package, version: version.map(WildMatch::new) })
    }

    /// True when no version of the package is left.
    pub(super) fn whole(&self, package: &RawName) -> bool {
        self.version.is_none() && self.package.as_ref().is_some_and(|pattern| fits(pattern, package))
    }

    fn one(&self, package: &RawName, version: &str) -> bool {
        self.package.as_ref().is_none_or(|pattern| fits(pattern, package))
            && self.version.as_ref().is_some_and(|pattern| pattern.matches(version))
    }
}

/// A pattern without an upstream fits the package on any.
fn fits(pattern: &WildMatch, package: &RawName) -> bool {
    let folded = package.as_str().to_ascii_lowercase();
    pattern.matches(&folded) || folded.split_once(':').is_some_and(|(_, name)| pattern.matches(name))
}

/// Chooses among the releases of a package; `latest` is what its upstream calls so.
///
/// # Errors
/// When the wish fits nothing at all.
pub(super) fn choose(
    wish: &PackageSpec,
    releases: &[Listed],
    latest: Option<&str>,
    limits: &Limits,
) -> Result<Choice, String> {
    let wanted = wanted(wish, releases, latest, limits)?;
    let mut choice = Choice::default();
    for (version, release) in wanted {
        let skip = if limits.exclude.iter().any(|pattern| pattern.one(&wish.package, &version)) {
            Some("excluded")
        } else {
            limits.not_after.zip(release).and_then(|(limit, release)| too_young(release, limit))
        };
        match skip {
            Some(why) => choice.skipped.push((version, why)),
            None => choice.chosen.push(Chosen {
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

fn too_young(release: &Listed, limit: Timestamp) -> Option<&'static str> {
    let known = release.published_at.or(release.created_at);
    known.is_none_or(|at| at > limit).then_some(YOUNG)
}

type Wanted<'r> = Vec<(String, Option<&'r Listed>)>;

fn wanted<'r>(
    wish: &PackageSpec,
    releases: &'r [Listed],
    latest: Option<&str>,
    limits: &Limits,
) -> Result<Wanted<'r>, String> {
    let named = |release: &'r Listed| (release.tag.clone(), Some(release));
    let Some(versions) = &wish.versions else {
        let newest = newest(releases, latest, limits.latest.unwrap_or(1));
        return if newest.is_empty() { Err("it has no release".into()) } else { Ok(newest) };
    };
    let exact = |tag: &str| releases.iter().find(|release| release.tag == tag);
    if let Some(locked) = &wish.locked {
        return Ok(vec![(versions.text.clone(), exact(&versions.text).filter(|_| locked.tag))]);
    }
    let toggled = || with_v_toggled(&versions.text).and_then(|tag| exact(&tag));
    if let Some(release) = exact(&versions.text).or_else(toggled) {
        return Ok(vec![named(release)]);
    }
    match &versions.meaning {
        VersionSelector::All if releases.is_empty() => Err("it has no release".into()),
        VersionSelector::All => Ok(releases.iter().take(limits.latest.unwrap_or(usize::MAX)).map(named).collect()),
        VersionSelector::Latest => match newest(releases, latest, 1) {
            newest if newest.is_empty() => Err("it has no latest release".into()),
            newest => Ok(newest),
        },
        VersionSelector::Range(range) => {
            let version = |release: &'r Listed| Some((semantic(&release.tag)?, release));
            let mut fitting: Vec<_> = releases.iter().filter_map(version).collect();
            fitting.retain(|(version, release)| {
                range.matches(version) && (!release.prerelease || !version.pre.is_empty())
            });
            fitting.sort_by(|a, b| b.0.cmp(&a.0));
            fitting.truncate(limits.latest.unwrap_or(usize::MAX));
            match fitting.is_empty() {
                true => Err(format!("none of its {} releases fits {}", releases.len(), versions.text)),
                false => Ok(fitting.into_iter().map(|(_, release)| named(release)).collect()),
            }
        }
        VersionSelector::Ref => Ok(vec![(versions.text.clone(), None)]),
    }
}

/// The latest release, then the newest of the others that are no prereleases.
fn newest<'r>(releases: &'r [Listed], latest: Option<&str>, count: usize) -> Wanted<'r> {
    let first = latest.map(|tag| (tag.to_owned(), releases.iter().find(|release| release.tag == tag)));
    let others = releases.iter().filter(|release| !release.prerelease && Some(release.tag.as_str()) != latest);
    first.into_iter().chain(others.map(|release| (release.tag.clone(), Some(release)))).take(count).collect()
}

#[cfg(test)]
mod tests;
