//! Checks packages against the package model of the Serverless Registry Model, and against what a registry demands beyond
//! it.
//!
//! [`check`] is a part of verification: its findings are in [`ZipFacts::model`]. A registry adds those of [`check_upload`]
//! for a zip that is published, and checks a `publish.yaml` that arrives before its zip with [`check_publish_yaml`].
//!
//! In doubt there is no finding: where a link stands in place of a file, and where it is not certain which file the
//! command line client loads. A zip without `publish.yaml` is not in doubt: the model demands the file.

use super::{
    ZipFacts,
    content::{Content, ContentNode},
    entry_point,
    publish::{self, PublishFile},
};
use crate::{
    origin::VerifyError,
    package::{ModelFinding, ModelRule, PackageKind, PublishManifest, quoted},
};

/// Longest version that a registry accepts, in bytes.
const MAX_PUBLISHED_VERSION_BYTES: usize = 128;
/// The keys that every type needs, besides `Type`.
const COMMON_KEYS: [&str; 7] = ["Edition", "Name", "Provider", "Version", "Description", "Category", "Service"];
/// The keys that a component needs as well.
const COMPONENT_KEYS: [&str; 2] = ["Commands", "Properties"];
/// The keys that a plugin or an application needs as well.
const MODEL_PARAMETER_KEYS: [&str; 1] = ["Parameters"];

/// The fields of a `publish.yaml`, and what is wrong with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishCheck {
    /// Its fields; all absent if it cannot be parsed.
    pub manifest: PublishManifest,
    /// The findings about it.
    pub findings: Vec<ModelFinding>,
}

/// What the examination of a package's content found.
pub(super) struct ExaminedPackage {
    pub(super) publish: PublishManifest,
    /// As [`ZipFacts::missing_entry`].
    pub(super) missing_entry: Option<String>,
    /// At most 15.
    pub(super) findings: Vec<ModelFinding>,
}

/// Reads `publish.yaml` and the files that name an entry point, and checks the content against the model.
///
/// # Errors
/// If the zip cannot be read.
pub(super) fn examine(content: &mut dyn Content) -> Result<ExaminedPackage, VerifyError> {
    let publish = publish::read(content)?;
    let is_module = entry_point::is_module(publish.kind());
    let missing_entry = if is_module { entry_point::missing_entry(content)? } else { None };
    let findings = check(content, &publish, missing_entry.as_deref());
    Ok(ExaminedPackage { publish: publish.into_manifest(), missing_entry, findings })
}

/// The findings about files, then those about the keys of `publish.yaml`.
fn check(content: &dyn Content, publish: &PublishFile, missing_entry: Option<&str>) -> Vec<ModelFinding> {
    let of_publish = publish_findings(publish);
    if !matches!(publish, PublishFile::Parsed(_)) {
        return of_publish;
    }
    let mut findings = Vec::new();
    match kind_of(publish) {
        Some(PackageKind::Component | PackageKind::Plugin) => {
            if content.node("package.json") == ContentNode::Absent {
                findings.push(missing_file(ModelRule::PackageJson, "package.json"));
            } else if let Some(entry) = missing_entry {
                let message = format!("the entry {} is missing", quoted(entry));
                findings.push(ModelFinding::new(ModelRule::Entry, entry, message));
            }
        }
        Some(PackageKind::Application) => findings.extend(application_finding(content)),
        None => {}
    }
    if !content.has_file_in_any_case("readme.md") {
        findings.push(missing_file(ModelRule::Readme, "readme.md"));
    }
    findings.extend(of_publish);
    findings
}

/// Checks a `publish.yaml` without its zip.
pub fn check_publish_yaml(text: &[u8]) -> PublishCheck {
    let file = PublishFile::parse(text);
    let findings = publish_findings(&file);
    PublishCheck { manifest: file.into_manifest(), findings }
}

/// Checks a verified zip that is published as `version` of `name`: the findings of the model, then those about what a
/// registry refuses beyond it. Whether the version is above the last one is not checked here.
pub fn check_upload(facts: &ZipFacts, name: &str, version: &str) -> Vec<ModelFinding> {
    let mut findings = facts.model.clone().unwrap_or_default();
    if facts.git_folder {
        findings.push(ModelFinding::new(ModelRule::GitFolder, ".git/", "the zip contains a .git folder"));
    }
    findings.extend(check_form(&facts.publish, name, version));
    findings
}

/// Checks the form of `version`, and that a `publish.yaml` which has a name and a version has these.
pub fn check_form(manifest: &PublishManifest, name: &str, version: &str) -> Vec<ModelFinding> {
    let differs = |rule, key, said: &Option<String>, published| {
        // A key without a value is a finding of its own.
        let said = said.as_deref().filter(|said| *said != published)?;
        let message = format!("publish.yaml has the {key} {}, but {} is published", quoted(said), quoted(published));
        Some(ModelFinding::new(rule, key, message))
    };
    let form = (!is_published_version(version)).then(|| {
        let message = format!("the version {} is not Major.Minor.Patch[-pre], dev or dev.*", quoted(version));
        ModelFinding::new(ModelRule::VersionForm, "Version", message)
    });
    let name = differs(ModelRule::NameDiffers, "Name", &manifest.name, name);
    let version = differs(ModelRule::VersionDiffers, "Version", &manifest.version, version);
    [form, name, version].into_iter().flatten().collect()
}

/// True for a version that a registry accepts: `Major.Minor.Patch` with an optional pre-release, `dev`, and `dev.*`.
pub fn is_published_version(version: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_moving = version.split('.').next() == Some("dev") && version.split('.').all(is_part);
    // Versions that differ in build metadata alone have no order.
    let is_semantic = || semver::Version::parse(version).is_ok_and(|version| version.build.is_empty());
    version.len() <= MAX_PUBLISHED_VERSION_BYTES && (is_moving || is_semantic())
}

/// The type of the package. Numbers, which the registry's lists have as types, are no types of the model.
fn kind_of(publish: &PublishFile) -> Option<PackageKind> {
    publish.kind().filter(|kind| kind.parse::<u64>().is_err()).and_then(PackageKind::of)
}

/// The findings about `publish.yaml` itself.
fn publish_findings(publish: &PublishFile) -> Vec<ModelFinding> {
    let unreadable = |message: &str| vec![ModelFinding::new(ModelRule::PublishYaml, "publish.yaml", message)];
    let parsed = match publish {
        PublishFile::Absent => return unreadable("publish.yaml is missing"),
        PublishFile::TooLarge => return unreadable("publish.yaml is larger than 1 MiB"),
        PublishFile::Invalid => return unreadable("publish.yaml is not a YAML mapping"),
        PublishFile::InDoubt => return Vec::new(),
        PublishFile::Parsed(parsed) => parsed,
    };
    let mut findings = Vec::new();
    let kind = kind_of(publish);
    if kind.is_none() {
        let message = match &parsed.manifest.kind {
            None => "publish.yaml has no Type".to_owned(),
            Some(_) => "the Type is not Component, Plugin, Application or Project".to_owned(),
        };
        findings.push(ModelFinding::new(ModelRule::PackageType, "Type", message));
    }
    let own_keys: &[&str] = match kind {
        Some(PackageKind::Component) => &COMPONENT_KEYS,
        Some(PackageKind::Plugin | PackageKind::Application) => &MODEL_PARAMETER_KEYS,
        None => &[],
    };
    let absent = COMMON_KEYS.iter().chain(own_keys).filter(|key| !parsed.has(key));
    findings
        .extend(absent.map(|key| ModelFinding::new(ModelRule::PublishKey, key, format!("publish.yaml has no {key}"))));
    findings
}

fn application_finding(content: &dyn Content) -> Option<ModelFinding> {
    match content.node("src") {
        ContentNode::Folder => {}
        ContentNode::Link => return None,
        ContentNode::File | ContentNode::Absent => return Some(missing_file(ModelRule::ApplicationSource, "src/")),
    }
    let is_there = |path| matches!(content.node(path), ContentNode::File | ContentNode::Link);
    let has_syaml = is_there("src/s.yaml") || is_there("src/s.yml");
    (!has_syaml).then(|| missing_file(ModelRule::ApplicationSource, "src/s.yaml"))
}

fn missing_file(rule: ModelRule, path: &str) -> ModelFinding {
    ModelFinding::new(rule, path, format!("{path} is missing"))
}
