//! What is done with packages that do not conform to the package model: `packages.model` and `packages.model_for`.
//!
//! The findings come from verification and are kept with the pin. A zip that an earlier release has verified has none: it
//! is served, until it is fetched again.

use std::sync::Arc;

use super::{
    RegistryError,
    model_config::{ModelConfig, ModelMode},
    policy::{Config, PolicyError},
    repository_names::names_of,
    version_rules::alias_of,
};
use crate::{
    archive::ZipFacts,
    entry::Verified,
    http::cache_status::CacheStatus,
    origin::{Growing, InvalidContent, Verify, VerifyError},
    package::{FolderPackage, ModelFinding, PackageId, PackagePattern, PatternError},
    registry::package_documents::PackageDocuments,
};

/// The modes of packages, from the two keys with their patterns compiled.
pub(super) struct ModelPolicy {
    default: ModelMode,
    by_pattern: Vec<PatternMode>,
    documents: Arc<PackageDocuments>,
}

struct PatternMode {
    packages: PackagePattern,
    mode: ModelMode,
}

impl ModelPolicy {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// The first pattern that is not valid.
    pub(super) fn build(config: &Config, documents: Arc<PackageDocuments>) -> Result<Self, PolicyError> {
        let compile = |ModelConfig { packages, model }: &ModelConfig| {
            let packages = packages.parse().map_err(|reason: PatternError| PolicyError {
                key: "model_for",
                value: packages.clone(),
                reason: reason.into(),
            })?;
            Ok(PatternMode { packages, mode: *model })
        };
        let by_pattern = config.model_for.iter().map(compile).collect::<Result<_, PolicyError>>()?;
        Ok(Self { default: config.model, by_pattern, documents })
    }

    /// False if every package has the mode `off`.
    fn is_on(&self) -> bool {
        self.default > ModelMode::Off || self.by_pattern.iter().any(|own| own.mode > ModelMode::Off)
    }

    /// True if some package has the mode `enforce`.
    pub(super) fn may_enforce(&self) -> bool {
        self.default == ModelMode::Enforce || self.by_pattern.iter().any(|own| own.mode == ModelMode::Enforce)
    }

    /// The mode of a package under this name.
    fn of_name(&self, package: &PackageId) -> ModelMode {
        let own = self.by_pattern.iter().find(|own| own.packages.matches(package));
        own.map_or(self.default, |own| own.mode)
    }

    /// The mode of a package: of a renamed repository, the stricter one of its two names.
    async fn mode(&self, package: &PackageId) -> ModelMode {
        if self.by_pattern.is_empty() {
            return self.default;
        }
        let names = names_of(&self.documents, package).await;
        names.iter().map(|name| self.of_name(name)).max().unwrap_or(self.default)
    }

    /// True if the zips of a package are served only where they conform.
    pub(super) async fn is_enforced(&self, package: &PackageId) -> bool {
        self.may_enforce() && self.mode(package).await == ModelMode::Enforce
    }

    /// As [`ModelPolicy::is_enforced`], for a folder of a repository, under the folder's name and the repository's.
    pub(super) async fn is_enforced_in(&self, folder: &FolderPackage) -> bool {
        self.may_enforce() && self.folder_mode(folder).await == ModelMode::Enforce
    }

    async fn folder_mode(&self, folder: &FolderPackage) -> ModelMode {
        self.mode(&folder.repository).await.max(self.of_name(&alias_of(folder)))
    }

    /// The findings that a metadata record shows; `None` with the mode `off`.
    pub(super) async fn shown(
        &self,
        package: &PackageId,
        findings: Option<Vec<ModelFinding>>,
    ) -> Option<Vec<ModelFinding>> {
        let is_shown = self.is_on() && self.mode(package).await > ModelMode::Off;
        findings.filter(|_| is_shown)
    }

    /// As [`ModelPolicy::shown`], for a folder of a repository.
    pub(super) async fn shown_in(
        &self,
        folder: &FolderPackage,
        findings: Option<Vec<ModelFinding>>,
    ) -> Option<Vec<ModelFinding>> {
        let is_shown = self.is_on() && self.folder_mode(folder).await > ModelMode::Off;
        findings.filter(|_| is_shown)
    }

    /// A verifier that logs the findings of each zip of the package, unless the mode is `off`.
    pub(super) fn logging(&self, verify: &Arc<dyn Verify>, package: &PackageId, version: &str) -> Arc<dyn Verify> {
        if !self.is_on() || self.of_name(package) == ModelMode::Off {
            return verify.clone();
        }
        Arc::new(LoggingVerifier { verify: verify.clone(), package: package.clone(), version: version.to_owned() })
    }

    /// Logs the findings of a folder's version that is seen for the first time.
    pub(super) async fn log_folder(&self, folder: &FolderPackage, version: &str, findings: Option<&[ModelFinding]>) {
        if self.is_on() && self.folder_mode(folder).await > ModelMode::Off {
            log(&alias_of(folder), version, findings.unwrap_or_default());
        }
    }
}

/// Refuses a package with findings.
///
/// # Errors
/// `NotConforming`.
pub(super) fn ensure_conforms(
    findings: Option<Vec<ModelFinding>>,
    status: Option<&CacheStatus>,
) -> Result<(), RegistryError> {
    match findings.filter(|findings| !findings.is_empty()) {
        Some(findings) => Err(RegistryError::NotConforming { findings, status: status.cloned() }),
        None => Ok(()),
    }
}

fn log(package: &PackageId, version: &str, findings: &[ModelFinding]) {
    if !findings.is_empty() {
        let findings = ModelFinding::sentence(findings);
        tracing::warn!(%package, version, findings, "a package does not conform to the package model");
    }
}

/// Logs what verification finds about the package model.
struct LoggingVerifier {
    verify: Arc<dyn Verify>,
    package: PackageId,
    version: String,
}

impl Verify for LoggingVerifier {
    fn prefix_len(&self) -> usize {
        self.verify.prefix_len()
    }

    fn prefix(&self, first: &[u8]) -> Result<(), InvalidContent> {
        self.verify.prefix(first)
    }

    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError> {
        let verified = self.verify.verify(body)?;
        log(&self.package, &self.version, &ZipFacts::model_findings_in(&verified.facts).unwrap_or_default());
        Ok(verified)
    }
}
