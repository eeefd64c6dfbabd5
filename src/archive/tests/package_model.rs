//! Findings about the package model, in zips of every packing.

use super::*;
use crate::{
    archive::package_model::{check_publish_yaml, check_upload, is_published_version},
    package::ModelRule,
};

const COMPONENT: &str = "Edition: 3.0.0\nType: Component\nName: fc3\nProvider: [Alibaba Cloud]\nVersion: 0.1.22\n\
    Description: d\nCategory: c\nService: {Function Compute: {}}\nCommands: {deploy: up}\nProperties: {}\n";

fn parameters(kind: &str) -> String {
    COMPONENT.replace("Component", kind).replace("Commands: {deploy: up}\nProperties: {}", "Parameters: {}")
}

/// The files of a package that conforms; the first is its `publish.yaml`.
fn module(publish: &str) -> Vec<(String, String)> {
    let files = [("publish.yaml", publish), ("package.json", "{\"main\": \"x.js\"}"), ("x.js", ""), ("README.MD", "")];
    files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

fn application(publish: &str) -> Vec<(String, String)> {
    let files = [("publish.yaml", publish), ("src/s.yml", "edition: 3.0.0"), ("readme.md", "")];
    files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

fn without(mut files: Vec<(String, String)>, name: &str) -> Vec<(String, String)> {
    let before = files.len();
    files.retain(|(own, _)| own != name);
    assert!(files.len() < before, "{name} is one of the files");
    files
}

fn items(top: &str, files: &[(String, String)]) -> Vec<Item> {
    files.iter().map(|(name, text)| Item::new(format!("{top}{name}"), text)).collect()
}

fn findings(items: &[Item]) -> Vec<(ModelRule, String)> {
    let findings = facts(&build(items, b"").bytes).model.expect("it was checked");
    findings.into_iter().map(|finding| (finding.rule, finding.subject)).collect()
}

#[test]
fn package_that_conforms_has_no_finding() {
    for top in ["", "o-r-12b27ab/"] {
        for files in [
            module(COMPONENT),
            module(&COMPONENT.replace("Component", "component")),
            module(&parameters("Plugin")),
            application(&parameters("Application")),
            application(&parameters("Project")),
        ] {
            assert_eq!(findings(&items(top, &files)), [], "{files:?}");
        }
    }
}

#[test]
fn file_that_the_model_demands_is_a_finding_where_it_is_missing() {
    let project = parameters("Project");
    for top in ["", "o-r-12b27ab/"] {
        for (files, rule, subject) in [
            (without(module(COMPONENT), "publish.yaml"), ModelRule::PublishYaml, "publish.yaml"),
            (without(module(COMPONENT), "package.json"), ModelRule::PackageJson, "package.json"),
            (without(module(COMPONENT), "x.js"), ModelRule::Entry, "x.js"),
            (without(module(COMPONENT), "README.MD"), ModelRule::Readme, "readme.md"),
            (without(module(&parameters("Plugin")), "x.js"), ModelRule::Entry, "x.js"),
            (without(application(&project), "src/s.yml"), ModelRule::ApplicationSource, "src/"),
            (without(application(&project), "readme.md"), ModelRule::Readme, "readme.md"),
        ] {
            assert_eq!(findings(&items(top, &files)), [(rule, subject.to_owned())], "{top} {subject}");
        }
        let mut other = without(application(&project), "src/s.yml");
        other.push(("src/code/s.yaml".into(), String::new()));
        let missing = (ModelRule::ApplicationSource, "src/s.yaml".to_owned());
        assert_eq!(findings(&items(top, &other)), [missing], "{top}");
        let mut deep = without(module(COMPONENT), "README.MD");
        deep.push(("docs/readme.md".into(), String::new()));
        assert_eq!(findings(&items(top, &deep)), [(ModelRule::Readme, "readme.md".to_owned())], "{top}");
    }
}

#[test]
fn each_key_that_the_type_needs_is_a_finding_where_it_has_no_value() {
    let project = parameters("Project");
    for (publish, keys) in [
        (COMPONENT, &["Commands", "Properties"][..]),
        (&parameters("Plugin"), &["Parameters"]),
        (&project, &["Parameters"]),
    ] {
        let common = ["Edition", "Name", "Provider", "Version", "Description", "Category", "Service"];
        for key in common.iter().chain(keys) {
            let line = publish.lines().find(|line| line.starts_with(key)).expect("the key");
            for instead in [String::new(), format!("{key}:"), format!("{key}: ''"), format!("{key}x: 1")] {
                let findings = check_publish_yaml(publish.replace(line, &instead).as_bytes()).findings;
                let found: Vec<(ModelRule, &str)> =
                    findings.iter().map(|finding| (finding.rule, finding.subject.as_str())).collect();
                assert_eq!(found, [(ModelRule::PublishKey, *key)], "{instead}");
            }
        }
    }
    let none = check_publish_yaml(b"Type: Component\n").findings;
    assert_eq!(none.len(), 9);
    assert_eq!(none[0].message, "publish.yaml has no Edition");
}

#[test]
fn publish_yaml_that_cannot_be_read_and_unknown_types_are_findings() {
    let of = |text: &str| {
        let check = check_publish_yaml(text.as_bytes());
        check.findings.into_iter().map(|finding| finding.message).next().unwrap_or_default()
    };
    assert_eq!(of("- a\n"), "publish.yaml is not a YAML mapping");
    assert_eq!(of("Type: ["), "publish.yaml is not a YAML mapping");
    assert_eq!(of(&format!("Type: Component\nx: {}", "y".repeat(1 << 20))), "publish.yaml is larger than 1 MiB");
    assert_eq!(of("Name: x\n"), "publish.yaml has no Type");
    let unknown = "the Type \"Thing\" is not Component, Plugin, Application or Project";
    assert_eq!(of(&COMPONENT.replace("Component", "Thing")), unknown);
    assert!(of(&COMPONENT.replace("Component", "1")).starts_with("the Type \"1\" is not"));
    let large = [("publish.yaml".to_owned(), "x".repeat((1 << 20) + 1)), ("readme.md".to_owned(), String::new())];
    assert_eq!(findings(&items("", &large)), [(ModelRule::PublishYaml, "publish.yaml".to_owned())]);
}

#[test]
fn nothing_is_found_in_doubt() {
    let link = |files: &[(String, String)], name: &str| {
        let mut items = items("t/", files);
        items.push(Item::new(format!("t/{name}"), "target").mode(0o120_777));
        findings(&items)
    };
    let project = parameters("Project");
    assert_eq!(link(&without(module(COMPONENT), "publish.yaml"), "publish.yaml"), []);
    assert_eq!(link(&without(module(COMPONENT), "README.MD"), "readme.md"), []);
    assert_eq!(link(&without(module(COMPONENT), "x.js"), "x.js"), []);
    assert_eq!(link(&without(module(COMPONENT), "package.json"), "package.json"), []);
    assert_eq!(link(&without(application(&project), "src/s.yml"), "src"), []);
    assert_eq!(link(&without(application(&project), "src/s.yml"), "src/s.yaml"), []);
    let mut unparsable = without(module(COMPONENT), "package.json");
    unparsable.push(("package.json".into(), "{\"main\": ".into()));
    assert_eq!(findings(&items("", &unparsable)), []);
}

#[test]
fn upload_is_checked_against_what_it_is_published_as() {
    let rules = |files: &[(String, String)], name, version| {
        let facts = facts(&build(&items("", files), b"").bytes);
        check_upload(&facts, name, version).into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let good = module(COMPONENT);
    assert_eq!(rules(&good, "fc3", "0.1.22"), []);
    assert_eq!(rules(&good, "FC3", "0.1.22"), [ModelRule::NameDiffers]);
    assert_eq!(rules(&good, "fc3", "0.1.23"), [ModelRule::VersionDiffers]);
    assert_eq!(rules(&good, "fc3", "v0.1.22"), [ModelRule::VersionForm, ModelRule::VersionDiffers]);
    let mut git = good.clone();
    git.push(("code/.git/config".into(), String::new()));
    assert_eq!(rules(&git, "fc3", "0.1.22"), [ModelRule::GitFolder]);
    assert_eq!(rules(&without(good, "publish.yaml"), "fc3", "1.0.0"), [ModelRule::PublishYaml]);
    for version in ["0.0.1", "1.2.3-beta.1", "dev", "dev.1", "dev.a-b.2"] {
        assert!(is_published_version(version), "{version}");
    }
    let long = format!("1.2.3-{}", "x".repeat(128));
    for version in
        ["", "1", "1.2", "v1.2.3", "1.2.3+b", "01.2.3", "dev.", "dev..1", "develop", "dev/1", "latest", &long]
    {
        assert!(!is_published_version(version), "{version}");
    }
}

#[test]
fn findings_are_part_of_the_stored_facts_and_unknown_in_those_of_earlier_releases() {
    let value = verify(&build(&items("", &without(module(COMPONENT), "x.js")), b"").bytes).expect("good").facts;
    let findings = ZipFacts::model_findings_in(&value).expect("checked");
    assert_eq!(findings.iter().map(|finding| &*finding.message).collect::<Vec<_>>(), ["the entry \"x.js\" is missing"]);
    let value = verify(&build(&items("", &module(COMPONENT)), b"").bytes).expect("good").facts;
    assert_eq!(ZipFacts::model_findings_in(&value), Some(Vec::new()));
    assert!(value.get("git_folder").is_none());
    assert_eq!(ZipFacts::model_findings_in(&serde_json::json!({"entries": 1})), None);
}
