//! Who may ask for what: the patterns of `[packages]`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::package::PackageName;

/// The `[packages]` section: who may ask for what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Patterns `owner/repo` (`*` and `?` within a part, case folded, an upstream's name and `:` may stand in front);
    /// empty allows all.
    pub allow: Vec<String>,
    /// Patterns that are refused even where `allow` fits.
    pub deny: Vec<String>,
    /// What happens to repositories that only the token can see.
    pub private: Private,
    /// Patterns of private repositories that are served although `private = "refuse"`.
    pub private_allow: Vec<String>,
    /// What happens to a stored package that its upstream no longer has.
    pub gone: Gone,
}

/// `packages.private`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Private {
    /// They are 404.
    #[default]
    Refuse,
    /// They are served to everybody who can reach the mirror.
    Serve,
}

/// `packages.gone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gone {
    /// Keep serving what is stored.
    #[default]
    Keep,
    /// Answer 404 as the upstream does.
    Follow,
}

/// One pattern of packages, such as `devsapp/*` or `gitee:*/start-?`.
#[derive(Clone, Debug)]
pub struct Pattern {
    upstream: Option<WildMatch>,
    owner: WildMatch,
    repo: WildMatch,
}

impl Pattern {
    /// True when the pattern names the package, whatever its case.
    pub fn matches(&self, upstream: &str, package: &PackageName) -> bool {
        self.upstream.as_ref().is_none_or(|pattern| pattern.matches(upstream))
            && self.owner.matches(&package.owner().to_ascii_lowercase())
            && self.repo.matches(&package.repo().to_ascii_lowercase())
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a pattern of packages; write for example \"devsapp/*\" or \"gitee:devsapp/fc3\"".to_owned();
        let folded = text.to_ascii_lowercase();
        let (upstream, name) = match folded.split_once(':') {
            Some((upstream, name)) => (Some(upstream), name),
            None => (None, folded.as_str()),
        };
        let (owner, repo) = name.split_once('/').ok_or_else(wrong)?;
        let fits = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?'))
        };
        if !fits(owner) || !fits(repo) || !upstream.is_none_or(fits) {
            return Err(wrong());
        }
        Ok(Self { upstream: upstream.map(WildMatch::new), owner: WildMatch::new(owner), repo: WildMatch::new(repo) })
    }
}

/// The patterns, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    private_allow: Vec<Pattern>,
    private: Private,
    /// What happens to a stored package that its upstream no longer has.
    pub gone: Gone,
}

impl AccessPolicy {
    /// Parses every pattern.
    ///
    /// # Errors
    /// The key, the value and what is wrong with it.
    pub fn build(config: &Config) -> Result<Self, String> {
        let parse = |key: &str, patterns: &[String]| {
            let parse = |text: &String| text.parse().map_err(|why| format!("packages.{key} has \"{text}\": {why}"));
            patterns.iter().map(parse).collect::<Result<Vec<Pattern>, String>>()
        };
        Ok(Self {
            allow: parse("allow", &config.allow)?,
            deny: parse("deny", &config.deny)?,
            private_allow: parse("private_allow", &config.private_allow)?,
            private: config.private,
            gone: config.gone,
        })
    }

    /// True when the package may be asked for at all.
    pub fn allows(&self, upstream: &str, package: &PackageName) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(upstream, package));
        !any(&self.deny) && (self.allow.is_empty() || any(&self.allow))
    }

    /// True when the package may be served only after a look that it is public.
    pub fn must_be_public(&self, upstream: &str, package: &PackageName) -> bool {
        let excepted = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(upstream, package));
        self.private == Private::Refuse && !excepted(&self.private_allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> AccessPolicy {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        AccessPolicy::build(&Config { allow: owned(allow), deny: owned(deny), ..Config::default() }).expect("valid")
    }

    #[test]
    fn deny_wins_over_allow_and_an_empty_allow_list_allows_all() {
        let fc3 = "DevsApp/FC3".parse().expect("valid");
        for (allow, deny, allowed) in [
            (&[][..], &[][..], true),
            (&["devsapp/*"], &[], true),
            (&["devsapp/fc?"], &[], true),
            (&["gitee:devsapp/*"], &[], false),
            (&["git*:devsapp/*"], &[], true),
            (&["other/*"], &[], false),
            (&["devs*"][..0], &["devsapp/fc3"], false),
            (&["devsapp/*"], &["*/fc3"], false),
            (&["DEVSAPP/fc3"], &["gitee:*/*"], true),
        ] {
            assert_eq!(access(allow, deny).allows("github", &fc3), allowed, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn a_star_stays_within_its_part() {
        assert!(!access(&["dev*/fc"], &[]).allows("github", &"devsapp/x-fc".parse().expect("valid")));
    }

    #[test]
    fn a_wrong_pattern_names_its_key_and_gives_an_example() {
        for text in ["devsapp", "a/b/c", "/b", "a/", ":a/b", "a b/c"] {
            let error = AccessPolicy::build(&Config { allow: vec![text.into()], ..Config::default() }).expect_err(text);
            assert!(error.contains("packages.allow") && error.contains("devsapp/*"), "{error}");
        }
    }
}
