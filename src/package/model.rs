//! Findings: the rules of the package model of the Serverless Registry Model that a package does not conform to.

use serde::{Deserialize, Serialize};

/// Most characters of a finding's subject; the rest is cut off.
const MAX_SUBJECT_CHARS: usize = 120;
/// Most characters of a value that a message quotes.
const MAX_QUOTED_CHARS: usize = 60;

/// A rule of the package model, or one that a registry adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelRule {
    /// `publish.yaml` is there, and is a YAML mapping of at most 1 MiB.
    PublishYaml,
    /// `Type` is one of the model's types.
    PackageType,
    /// `publish.yaml` has a key that the package's type needs.
    PublishKey,
    /// A component or plugin has `package.json`.
    PackageJson,
    /// A component or plugin has the file that the command line client loads.
    Entry,
    /// There is a `readme.md`, in any case.
    Readme,
    /// An application has `src/` with `s.yaml` or `s.yml` in it.
    ApplicationSource,
    /// Of a registry: no `.git/` is published.
    GitFolder,
    /// Of a registry: a version is `Major.Minor.Patch[-pre]`, `dev` or `dev.*`.
    VersionForm,
    /// Of a registry: `Name` in `publish.yaml` is the name that is published.
    NameDiffers,
    /// Of a registry: `Version` in `publish.yaml` is the version that is published.
    VersionDiffers,
    /// A rule that this version of the mirror does not have.
    #[serde(other)]
    Other,
}

/// One rule that a package does not conform to. At most a few hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFinding {
    /// The rule.
    pub rule: ModelRule,
    /// The file, folder or key that it is about.
    pub subject: String,
    /// What is wrong, as a short sentence without a full stop. The mirror's own text, except for what it quotes.
    pub message: String,
}

impl ModelFinding {
    /// A finding about a file, folder or key. A long subject is cut off.
    pub fn new(rule: ModelRule, subject: &str, message: impl Into<String>) -> Self {
        Self { rule, subject: printable(subject, MAX_SUBJECT_CHARS), message: message.into() }
    }

    /// The messages of several findings, separated by semicolons.
    pub fn sentence(findings: &[Self]) -> String {
        findings.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// A value for a message: without control characters, and not long.
pub fn quoted(value: &str) -> String {
    format!("\"{}\"", printable(value, MAX_QUOTED_CHARS))
}

/// At most `max_chars` characters, none of which is a control character.
fn printable(text: &str, max_chars: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut shown: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_bounded_and_has_no_control_characters() {
        let finding = ModelFinding::new(ModelRule::Entry, &"x\n".repeat(1_000), "no");
        assert_eq!(finding.subject.chars().count(), MAX_SUBJECT_CHARS + 3);
        assert!(!finding.subject.contains('\n'));
        assert_eq!(quoted("a\u{1b}b"), "\"a?b\"");
        assert_eq!(quoted(&"\u{4e2d}".repeat(100)).chars().count(), MAX_QUOTED_CHARS + 5);
    }

    #[test]
    fn an_unknown_rule_is_other() {
        let finding: ModelFinding =
            serde_json::from_str(r#"{"rule": "moon-phase", "subject": "moon", "message": "it is full"}"#)
                .expect("parses");
        assert_eq!(finding.rule, ModelRule::Other);
        let json = serde_json::to_value(ModelFinding::new(ModelRule::PublishKey, "Category", "x")).expect("serialises");
        assert_eq!(json, serde_json::json!({"rule": "publish-key", "subject": "Category", "message": "x"}));
    }
}
