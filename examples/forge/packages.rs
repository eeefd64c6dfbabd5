//! The demo packages.

use super::{
    Arguments,
    forge::{Forge, Registry, Spec, project_yaml},
};

/// A component that prints its version when it is deployed.
pub(crate) fn component(package: &str, tag: &str) -> impl FnOnce(Spec) -> Spec + use<> {
    let name = package.rsplit('/').next().unwrap_or(package).to_owned();
    let number = tag.trim_start_matches('v').to_owned();
    move |release| {
        let release = if number.contains('-') { release.prerelease() } else { release };
        release
            .component_files(&name, &number, &number)
            .noise("dist/data.bin", number.len() as u64, 200_000)
            .body(&format!("## {name} {number}\n\n- a demo release\n"))
    }
}

/// An application in the form that `s init` of both CLIs unpacks.
fn application(release: Spec) -> Spec {
    release.application_files("3.0.0", "start-fc3", "1.0.0", "fc3")
}

/// The same as one of a repository's folders.
fn application_in_folder(release: Spec) -> Spec {
    let manifest = "Edition: 3.0.0\nType: Project\nName: start-in-folder\nVersion: 1.0.0\nDescription: A demo\n";
    release
        .file("start-in-folder/publish.yaml", manifest)
        .file("start-in-folder/src/s.yaml", project_yaml("3.0.0", "start-in-folder", "fc3"))
        .file("start-in-folder/src/code/index.js", "exports.handler = async () => 'hello';\n")
        .file("start-in-folder/readme.md", "# start-in-folder\n")
        .file("other/index.js", "")
}

/// Publishes a built component; `label` is what it prints in place of its version.
pub(crate) fn publish(registry: &Registry, name: &str, version: &str, label: &str) {
    registry.component(name).version_with(version, |spec| spec.component_files(name, version, label));
}

/// Adds the packages of the forges.
pub(crate) fn add_repositories(forge: &Forge, arguments: &Arguments) {
    let fc3 = |tag| component("devsapp/fc3", tag);
    forge
        .repo("devsapp/fc3")
        .release("v0.1.0", fc3("v0.1.0"))
        .release("v0.1.1", fc3("v0.1.1"))
        .release("v0.2.0-rc.1", fc3("v0.2.0-rc.1"))
        .release("v0.2.0", fc3("v0.2.0"))
        .release("v0.3.0", |release| fc3("v0.3.0")(release).draft())
        .tag_only("v0.0.9")
        .branch("dev", |branch| branch.file("README.md", "the dev branch\n"));
    // Tags without a `v`.
    let plain = |tag| component("demo/plain", tag);
    forge.repo("demo/plain").release("1.0.0", plain("1.0.0")).release("1.1.0", plain("1.1.0"));
    forge.repo("devsapp/start-fc3").release("1.0.0", application).branch("main", application);
    // Applications are kept as folders of one repository.
    forge.repo("demo/apps").release("start-in-folder@1.0.0", application_in_folder);
    // The 2.x CLI installs this package, at a fixed version, with every component.
    forge.repo("Serverless-Devs/core").release("0.1.66", core);
    forge.repo("demo/big").release("v1.0.0", |release| release.noise("big.bin", 1, arguments.big));
    forge.repo("demo/private").release("v1.0.0", |release| release).private();
    forge.repo("demo/old-name").release("v1.0.0", |release| release).renamed_to("demo/new-name");
    forge.repo("demo/blocked").blocked();
    forge
        .gitee_repo("devsapp/start-demo")
        .release("0.0.1", |release| release.body("第一个版本"))
        .release("v1.0.0-rc.1", |release| release.prerelease().no_body())
        .release("release/1.0.0", |release| release.body("第一行\r\n第二行"))
        .release("v1.0.0", component("devsapp/start-demo", "v1.0.0"));
    let mut bench = (arguments.versions > 0).then(|| forge.repo("bench/pkg"));
    for n in 0..arguments.versions {
        bench = bench
            .map(|repo| repo.release(&format!("v1.0.{n}"), |release| release.noise("data.bin", n, arguments.size)));
    }
}

fn core(release: Spec) -> Spec {
    release
        .file(
            "package.json",
            "{\"name\": \"@serverless-devs/core\", \"version\": \"0.1.66\", \"main\": \"index.js\"}\n",
        )
        .file("index.js", "module.exports = {};\n")
}

/// Adds the packages of the registries.
pub(crate) fn add_packages(forge: &Forge, arguments: &Arguments) {
    let official = forge.registry();
    for (name, version) in [("fc3", "0.1.21"), ("fc3", "0.1.22"), ("fc3", "dev"), ("fc3-domain", "0.0.36")] {
        publish(&official, name, version, version);
    }
    official.component("unbuilt").unbuilt("1.0.0");
    official.application("start-demo").version("1.0.0").about(|about| about.category = Some("新手入门".to_owned()));
    let simple = forge.simple_registry();
    simple.component("core").version_with("0.1.66", core);
    for (name, version) in [("fc", "0.1.70"), ("fc", "0.1.71")] {
        publish(&simple, name, version, version);
    }
    for code in &arguments.code {
        official.accept_code(code);
        simple.accept_code(code);
        official.component("acme-private").make_private();
    }
    if !arguments.code.is_empty() {
        publish(&official, "acme-private", "1.0.0", "1.0.0");
    }
}
