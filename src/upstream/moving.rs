//! Patterns of versions that are published again and again, such as `dev` and `nightly*`.

use std::str::FromStr;

use wildmatch::WildMatch;

/// A pattern of versions; `*` stands for any characters, slashes included. Case counts, as in tags.
///
/// Never matches `Major.Minor.Patch`: such versions are pinned, whatever the configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct MovingPattern(WildMatch);

/// A text that is no [`MovingPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MovingPatternError {
    /// It is empty, or has characters that no version has.
    #[error("is no pattern of versions; write for example \"dev\" or \"dev.*\"")]
    Malformed,
    /// It matches released versions.
    #[error("matches released versions (Major.Minor.Patch), which never change; write for example \"dev.*\"")]
    MatchesReleases,
}

impl MovingPattern {
    /// True when the pattern matches the version.
    pub fn matches(&self, version: &str) -> bool {
        self.0.matches(version)
    }
}

impl FromStr for MovingPattern {
    type Err = MovingPatternError;

    fn from_str(text: &str) -> Result<Self, MovingPatternError> {
        let allowed = |c: char| !c.is_control() && !matches!(c, ' ' | '~' | '^' | ':' | '?' | '[' | '\\');
        if text.is_empty() || !text.chars().all(allowed) {
            return Err(MovingPatternError::Malformed);
        }
        if can_match_release(text) {
            return Err(MovingPatternError::MatchesReleases);
        }
        Ok(Self(WildMatch::new(text)))
    }
}

/// How far a text is within `Major.Minor.Patch` with an optional leading `v`. The parts are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReleasePosition {
    /// Before the first character.
    Start,
    /// Before the first digit of a part.
    PartStart(u8),
    /// After at least one digit of a part.
    InPart(u8),
}

impl ReleasePosition {
    const ALL: [Self; 7] = [
        Self::Start,
        Self::PartStart(0),
        Self::InPart(0),
        Self::PartStart(1),
        Self::InPart(1),
        Self::PartStart(2),
        Self::InPart(2),
    ];

    /// The position after one more character; `None` when no release continues so.
    fn after(self, c: char) -> Option<Self> {
        match (self, c) {
            (Self::Start, 'v' | 'V') => Some(Self::PartStart(0)),
            (Self::Start, '0'..='9') => Some(Self::InPart(0)),
            (Self::PartStart(part) | Self::InPart(part), '0'..='9') => Some(Self::InPart(part)),
            (Self::InPart(part @ 0..=1), '.') => Some(Self::PartStart(part + 1)),
            _ => None,
        }
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|position| *position == self).unwrap_or_default()
    }
}

/// True when a pattern matches at least one `Major.Minor.Patch`, with or without a leading `v`.
///
/// Reads the pattern once, with the set of positions that a release can have reached by then.
fn can_match_release(pattern: &str) -> bool {
    let mut reached = [false; ReleasePosition::ALL.len()];
    reached[ReleasePosition::Start.index()] = true;
    for c in pattern.chars() {
        let mut next = [false; ReleasePosition::ALL.len()];
        for (index, from) in ReleasePosition::ALL.into_iter().enumerate() {
            if !reached[index] {
                continue;
            }
            if c == '*' {
                // A star stands for any continuation: positions only advance, and each is reached from the ones before.
                next[index..].fill(true);
            } else if let Some(position) = from.after(c) {
                next[position.index()] = true;
            }
        }
        reached = next;
    }
    reached[ReleasePosition::InPart(2).index()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_matches_whole_versions_with_case() {
        for (pattern, version, matches) in [
            ("dev", "dev", true),
            ("dev", "dev.1", false),
            ("dev.*", "dev.1", true),
            ("dev.*", "dev", false),
            ("dev.*", "Dev.1", false),
            ("nightly*", "nightly/2", true),
            ("*-SNAPSHOT", "1.2.3-SNAPSHOT", true),
        ] {
            assert_eq!(
                pattern.parse::<MovingPattern>().expect(pattern).matches(version),
                matches,
                "{pattern} {version}"
            );
        }
    }

    #[test]
    fn a_pattern_that_can_match_a_release_is_refused() {
        for text in ["*", "**", "v*", "1.*", "*.0", "0.1.22", "v0.1.22", "*.*", "1*3", "*2*", "V*.*.*", "*.1.*"] {
            assert_eq!(text.parse::<MovingPattern>(), Err(MovingPatternError::MatchesReleases), "{text}");
        }
        for text in ["dev", "dev.*", "*dev", "1.*-rc", "1.2", "1..*", "vv*", "*.a", "1.2.3.4*"] {
            assert!(text.parse::<MovingPattern>().is_ok(), "{text}");
        }
        for text in ["", "a b", "de?", "dev\n"] {
            assert_eq!(text.parse::<MovingPattern>(), Err(MovingPatternError::Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_pattern_never_matches_a_release(pattern in "[v0-2.*a]{1,8}", release in "v?[0-2]{1,2}\\.[0-2]{1,2}\\.[0-2]{1,2}") {
            if let Ok(pattern) = pattern.parse::<MovingPattern>() {
                prop_assert!(!pattern.matches(&release));
            }
        }
    }
}
