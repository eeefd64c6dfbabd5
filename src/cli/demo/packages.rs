//! The packages of the demo, made in memory.

use serde_json::{Value, json};

use super::zip_writer::zip;

/// A package of the demo.
pub(super) struct DemoPackage {
    /// Its owner on GitHub; `None` on the official registry, whose names have no owner.
    owner: Option<&'static str>,
    name: &'static str,
    kind: DemoKind,
    /// The newest first, without a `v`.
    versions: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DemoKind {
    /// What `s` runs.
    Component,
    /// What `s init` unpacks.
    Application,
}

/// Every package of the demo.
pub(super) const PACKAGES: [DemoPackage; 4] = [
    DemoPackage {
        owner: Some("devsapp"),
        name: "fc3",
        kind: DemoKind::Component,
        versions: &["0.2.0", "0.1.1", "0.1.0"],
    },
    DemoPackage { owner: Some("devsapp"), name: "start-fc3", kind: DemoKind::Application, versions: &["1.0.0"] },
    DemoPackage { owner: None, name: "fc3", kind: DemoKind::Component, versions: &["0.1.22", "0.1.21"] },
    DemoPackage { owner: None, name: "start-fc3", kind: DemoKind::Application, versions: &["1.0.0"] },
];

impl DemoPackage {
    /// True for the package with this owner and name.
    pub(super) fn is(&self, owner: Option<&str>, name: &str) -> bool {
        self.owner == owner && self.name == name
    }

    /// True for a package of the official registry.
    pub(super) fn is_of_registry(&self) -> bool {
        self.owner.is_none()
    }

    /// The version with this tag.
    pub(super) fn version(&self, tag: &str) -> Option<&'static str> {
        self.versions.iter().find(|version| self.tag(version) == tag).copied()
    }

    /// The newest version.
    pub(super) fn latest(&self) -> &'static str {
        self.versions[0]
    }

    /// The tag of a version: a repository's begins with `v`, except an application's.
    fn tag(&self, version: &str) -> String {
        let prefix = if self.owner.is_some() && self.kind == DemoKind::Component { "v" } else { "" };
        format!("{prefix}{version}")
    }

    /// When a version was published: each a day after the one before.
    fn published(&self, version: &str) -> String {
        let newer = self.versions.iter().position(|other| *other == version).unwrap_or_default();
        format!("2024-01-{:02}T05:00:00Z", 10 - newer)
    }

    /// All releases as GitHub shows them.
    pub(super) fn github_list(&self) -> Value {
        self.versions.iter().map(|version| self.github_release(version)).collect()
    }

    /// One release as GitHub shows it.
    pub(super) fn github_release(&self, version: &str) -> Value {
        let published = self.published(version);
        json!({
            "tag_name": self.tag(version), "name": self.tag(version), "draft": false, "prerelease": false,
            "created_at": published, "published_at": published, "assets": [],
            "body": format!("## {} {version}\n\n- a demo release\n", self.name),
        })
    }

    /// Its tags as GitHub shows them.
    pub(super) fn github_tags(&self) -> Value {
        let tag = |version: &&str| json!({"name": self.tag(version), "commit": {"sha": self.commit(version)}});
        self.versions.iter().map(tag).collect()
    }

    /// The repository as GitHub shows it.
    pub(super) fn github_repository(&self) -> Value {
        let owner = self.owner.unwrap_or_default();
        json!({
            "id": self.name.len(), "full_name": format!("{owner}/{}", self.name), "private": false, "default_branch": "main",
        })
    }

    /// All releases as the registry shows them.
    pub(super) fn registry_list(&self) -> Value {
        self.versions.iter().map(|version| self.registry_release(version)).collect()
    }

    /// One release as the registry shows it.
    pub(super) fn registry_release(&self, version: &str) -> Value {
        json!({
            "name": self.name, "tag_name": self.tag(version), "created_at": self.published(version), "platform": 3,
            "description": self.description(), "type": self.kind.word(), "provider": ["Alibaba Cloud"], "tags": ["demo"],
            "version_body": "a demo release",
        })
    }

    /// Its row of the registry's catalog.
    pub(super) fn catalog_row(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind.number(), "description": self.description(), "platform": 3, "show": 1,
            "provider": ["Alibaba Cloud"], "tags": ["demo"], "download": 0,
        })
    }

    /// The zip of a version; one of a repository has a top folder, and its commit as comment.
    pub(super) fn zip(&self, version: &str) -> Vec<u8> {
        let commit = self.commit(version);
        let top = self.owner.map(|owner| format!("{owner}-{}-{}/", self.name, &commit[..7])).unwrap_or_default();
        let files = self.files(version).into_iter();
        let files: Vec<_> = files.map(|(name, text)| (format!("{top}{name}"), text.into_bytes())).collect();
        zip(&files, if self.owner.is_some() { &commit } else { "" })
    }

    /// A made-up commit: 40 hexadecimal digits that differ for each version.
    fn commit(&self, version: &str) -> String {
        let sum = |salt: u8| crc32fast::hash(&[self.name.as_bytes(), version.as_bytes(), &[salt]].concat());
        (0..5).map(|salt| format!("{:08x}", sum(salt))).collect()
    }

    fn description(&self) -> String {
        format!("A demo {}", self.kind.noun())
    }

    fn files(&self, version: &str) -> Vec<(&'static str, String)> {
        let name = self.name;
        let about = format!(
            "Edition: 3.0.0\nType: {}\nName: {name}\nVersion: {version}\nProvider:\n  - Alibaba Cloud\nDescription: {}\n\
             Tags:\n  - demo\nCategory: Basic Cloud Service\n",
            self.kind.word(),
            self.description(),
        );
        let readme = ("readme.md", format!("# {name}\n\nA demo {}.\n", self.kind.noun()));
        match self.kind {
            DemoKind::Component => {
                let package =
                    format!("{{\"name\": \"{name}\", \"version\": \"{version}\", \"main\": \"dist/index.js\"}}\n");
                let code = format!(
                    "'use strict';\nclass Demo {{\n  async deploy() {{ console.log('{name} {version} deployed'); return {{ \
                     version: '{version}' }}; }}\n}}\nmodule.exports = Demo;\nmodule.exports.default = Demo;\n"
                );
                let commands = "Commands:\n  deploy: Deploys the demo\n";
                vec![("publish.yaml", about + commands), ("package.json", package), ("dist/index.js", code), readme]
            }
            DemoKind::Application => {
                let parameters = "Parameters:\n  type: object\n  properties: {}\n";
                let project = format!(
                    "edition: 3.0.0\nname: {name}\naccess: default\nresources:\n  hello:\n    component: fc3\n    props:\n      \
                     region: cn-hangzhou\n"
                );
                let code = "exports.handler = async () => 'hello';\n".to_owned();
                vec![("publish.yaml", about + parameters), ("src/s.yaml", project), ("src/code/index.js", code), readme]
            }
        }
    }
}

impl DemoKind {
    fn word(self) -> &'static str {
        match self {
            Self::Component => "Component",
            Self::Application => "Project",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Application => "application",
        }
    }

    /// As the registry numbers them.
    fn number(self) -> u8 {
        match self {
            Self::Component => 1,
            Self::Application => 3,
        }
    }
}
