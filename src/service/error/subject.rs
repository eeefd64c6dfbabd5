//! What an error is about: the package and the version of its sentence.

use crate::{
    dialect::ApiRequest,
    origin::Missing,
    package::{FolderPackage, NameForm, PackageId, PackageRef, Version},
};

/// What an error is about, for its sentence.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) request: Option<&'a ApiRequest>,
    /// `None` while the upstream is not known.
    pub(super) package: Option<&'a PackageId>,
}

impl<'a> Subject<'a> {
    /// The folder that was requested.
    pub(super) fn folder(self) -> Option<&'a FolderPackage> {
        match self.request.and_then(ApiRequest::package) {
            Some(PackageRef::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// The version that was requested.
    pub(super) fn version(self) -> Option<&'a Version> {
        match self.request {
            Some(
                ApiRequest::Tag { version, .. }
                | ApiRequest::Archive { version, .. }
                | ApiRequest::Flat { version, .. }
                | ApiRequest::Metadata { version: Some(version), .. },
            ) => Some(version),
            _ => None,
        }
    }

    fn is_repository(self) -> bool {
        self.folder().is_none() && self.package.is_some_and(|package| package.name.form() == NameForm::Repository)
    }

    fn package(self) -> Option<String> {
        if let Some(folder) = self.folder() {
            return Some(folder.to_string());
        }
        let named = || self.request.and_then(ApiRequest::package).map(|package| package.name().to_string());
        self.package.map(|package| package.name.to_string()).or_else(named)
    }

    /// `owner/repo`, with the version where the request names one.
    pub(super) fn what(self) -> String {
        let package = self.package().unwrap_or_else(|| "this".into());
        match self.version() {
            Some(version) => format!("{package} {}", version.name()),
            None => package,
        }
    }

    /// The pattern by which an operator names it: `owner/repo@version`, behind its upstream where that is known.
    pub(super) fn pattern(self) -> String {
        let version = self.version().map(|version| format!("@{}", version.name())).unwrap_or_default();
        self.package_pattern() + &version
    }

    /// As [`Subject::pattern`], without the version.
    pub(super) fn package_pattern(self) -> String {
        let upstream = self.package.map(|package| format!("{}:", package.upstream)).unwrap_or_default();
        let name = self.package.map(|package| package.name.to_string()).or_else(|| self.package());
        format!("{upstream}{}", name.unwrap_or_else(|| "*".to_owned()))
    }

    pub(super) fn upstream(self) -> String {
        self.package.map_or_else(|| "the upstream".into(), |package| package.upstream.to_string())
    }

    pub(super) fn not_found(self, missing: Missing) -> String {
        let package = self.package().unwrap_or_default();
        let upstream = self.upstream();
        match (missing, self.request) {
            (Missing::Package, _) => {
                format!("there is no package {package} on {upstream}, or this mirror may not see it")
            }
            (
                Missing::Release,
                Some(ApiRequest::Tag { version, .. } | ApiRequest::Metadata { version: Some(version), .. }),
            ) => format!("{package} on {upstream} has no release {}", version.name()),
            // Clients ask for it when no version is named; a repository may have tags all the same.
            (Missing::Release, Some(ApiRequest::Latest { .. })) => {
                let hint = if self.is_repository() {
                    "; a git tag of it can be fetched by its name, as …/zipball/{tag} or as version {tag}"
                } else {
                    ""
                };
                format!("{package} on {upstream} has no release{hint}")
            }
            (Missing::Release, _) => format!("{package} on {upstream} has no release"),
            (Missing::Version, Some(ApiRequest::Archive { version, .. } | ApiRequest::Flat { version, .. })) => {
                format!("{package} on {upstream} has no version {} (no tag, branch or commit)", version.name())
            }
            (Missing::Version, _) => format!("{package} on {upstream} has no such version"),
        }
    }
}
