//! Ready-made contents of packages: a component that both CLIs run, a plugin, and an application.

use super::spec::Spec;

impl Spec {
    /// A built component: `package.json` with `main: dist/index.js`, and that file, which prints `{name} {label}
    /// deployed` when it is deployed.
    pub fn component_files(self, name: &str, version: &str, label: &str) -> Self {
        self.publish_yaml(&publish_yaml("Component", name, version, COMPONENT_ENDING))
            .package_json(name, version)
            .file("dist/index.js", component_code(name, version, label))
            .readme(name, "component")
    }

    /// A built plugin, with the same entry as a component.
    pub fn plugin_files(self, name: &str, version: &str) -> Self {
        self.publish_yaml(&publish_yaml("Plugin", name, version, PARAMETERS))
            .package_json(name, version)
            .file("dist/index.js", "'use strict';\nmodule.exports = async (inputs) => inputs;\n")
            .readme(name, "plugin")
    }

    /// An application that `s init` of both CLIs unpacks; its project deploys `component`.
    pub fn application_files(self, edition: &str, name: &str, version: &str, component: &str) -> Self {
        let publish_yaml = publish_yaml("Project", name, version, PARAMETERS).replace("3.0.0", edition);
        self.publish_yaml(&publish_yaml)
            .file("src/s.yaml", project_yaml(edition, name, component))
            .file("src/code/index.js", "exports.handler = async () => 'hello';\n")
            .readme(name, "application")
    }

    /// Removes `dist/`: the source tree of a component before its build.
    pub fn unbuilt(mut self) -> Self {
        self.files.retain(|path, _| !path.starts_with("dist/"));
        self
    }

    fn readme(self, name: &str, kind: &str) -> Self {
        self.without_file("README.md").file("readme.md", format!("# {name}\n\nA demo {kind}.\n"))
    }

    fn package_json(self, name: &str, version: &str) -> Self {
        let text = format!("{{\"name\": \"{name}\", \"version\": \"{version}\", \"main\": \"dist/index.js\"}}\n");
        self.file("package.json", text)
    }
}

/// The `s.yaml` of a project with one component.
pub fn project_yaml(edition: &str, name: &str, component: &str) -> String {
    format!(
        "edition: {edition}\nname: {name}\naccess: default\nresources:\n  hello:\n    component: {component}\n    props:\n      \
         region: cn-hangzhou\n"
    )
}

fn component_code(name: &str, version: &str, label: &str) -> String {
    format!(
        "'use strict';\nclass Demo {{\n  async deploy() {{ console.log('{name} {label} deployed'); return {{ version: '{version}' }}; }}\n}}\n\
         module.exports = Demo;\nmodule.exports.default = Demo;\n"
    )
}

const COMPONENT_ENDING: &str = "Commands:\n  deploy: Deploys the demo\nProperties:\n  region:\n    Description: The region\n    \
                                Type:\n      - String\n    Required: true\n";

const PARAMETERS: &str =
    "Parameters:\n  type: object\n  properties:\n    region:\n      title: Region\n      type: string\n";

fn publish_yaml(kind: &str, name: &str, version: &str, ending: &str) -> String {
    format!(
        "Edition: 3.0.0\nType: {kind}\nName: {name}\nVersion: {version}\nProvider:\n  - Alibaba Cloud\n\
         Description: A demo {}\nTags:\n  - demo\nCategory: Basic Cloud Service\nService:\n  - Function Compute\n{ending}",
        kind.to_lowercase()
    )
}
