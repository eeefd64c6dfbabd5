use super::*;

fn found(text: &str) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("s.yaml");
    fs::write(&file, text).expect("written");
    let mut found = ProjectPackages::default();
    read(&file, &mut found).expect("a project file");
    names(&found)
}

/// The dialect of each package.
fn dialects(text: &str) -> Vec<(String, DialectName)> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("s.yaml");
    fs::write(&file, text).expect("written");
    let mut found = ProjectPackages::default();
    read(&file, &mut found).expect("a project file");
    found.specs.iter().map(|spec| (spec.package.to_string(), spec.dialect)).collect()
}

#[test]
fn each_edition_finds_its_packages_in_the_dialect_of_its_cli() {
    let components = "a: {component: fc}, b: {component: devsapp/fc}, c: {component: 'gitee:devsapp/oss'}";
    let dialects_of = |top: &str| dialects(&format!("{top}: {{{components}}}\n"));
    let expected = |plain, pair| {
        [("fc", plain), ("devsapp/fc", pair), ("gitee:devsapp/oss", DialectName::Srm)]
            .map(|(name, dialect)| (name.to_owned(), dialect))
    };
    for top in ["edition: 1.0.0\nservices", "edition: 1.0\nservices", "services"] {
        assert_eq!(dialects_of(top), expected(DialectName::Simple, DialectName::Simple), "{top}");
    }
    for top in ["edition: 3.0.0\nresources", "resources"] {
        assert_eq!(dialects_of(top), expected(DialectName::V3, DialectName::Srm), "{top}");
    }
}

fn names(found: &ProjectPackages) -> (Vec<String>, Vec<String>) {
    let spec = |spec: &PackageSpec| match &spec.versions {
        Some(versions) => format!("{}@{}", spec.package, versions.text),
        None => spec.package.to_string(),
    };
    let skip = |skipped: &SkippedName| format!("{}: {}", skipped.text, skipped.reason);
    (found.specs.iter().map(spec).collect(), found.skipped.iter().map(skip).collect())
}

#[test]
fn edition_3_yields_its_components_and_the_plugins_of_both_kinds_of_actions() {
    let text = r#"
edition: 3.0.0 # the CLI's own
name: web-api
access: "default"
vars:
  region: "cn-hangzhou"
  component: not-a-component
actions:
  pre-deploy:
    - run: npm install
      path: ./src
  success-deploy:
    - plugin: dingding-robot
      allow_failure: true
      args:
        token: ${env('DING')}
        plugin: not-a-plugin
resources:
  api:
    component: fc3
    actions:
      pre-${regex('deploy')}:
        - run: npm run build
        - plugin: devsapp/website-fc@0.1.4
      post-deploy:
        - component: fc3 invoke
    props: &props
      region: ${vars.region}
      functionName: api
      component: not-this-one
      customContainerConfig:
        port: 9000
        8080: {mapped: true}
      triggers:
        - triggerName: httpTrigger
          triggerConfig: {methods: [GET, POST], authType: anonymous}
      runtime: !!str nodejs20
  worker:
    component: fc3@0.0.25
    props: *props
  site:
    component: https://registry.example.com/site.zip
  own:
    component: ./components/own
  other:
    component: ${vars.component}
"#;
    let (specs, skipped) = found(text);
    assert_eq!(specs.iter().collect::<BTreeSet<_>>().len(), 4, "{specs:?}");
    for name in ["dingding-robot", "fc3", "devsapp/website-fc@0.1.4", "fc3@0.0.25"] {
        assert!(specs.iter().any(|spec| spec == name), "{name}: {specs:?}");
    }
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    for part in
        ["https://registry.example.com/site.zip: an address", "./components/own: a folder", "${vars.component}: a var"]
    {
        assert!(skipped.iter().any(|skip| skip.starts_with(part)), "{part}: {skipped:?}");
    }
}

#[test]
fn edition_1_yields_the_components_of_its_services_and_actions() {
    let text = r"
edition: 1.0.0
name: fcDeployApp
access: '{{ access }}'
services:
  fc-deploy-test: # its service
    component: devsapp/fc
    actions:
      pre-deploy:
        - component: fc build --use-docker
        - run: s version publish -a demo
          path: ./backend/src
        - plugin: fc-upload-code-to-oss
          args:
            ossBucket: bucket
    props:
      region: cn-shenzhen
      service: {name: demo}
  assets:
    component: 'gitee:devsapp/oss@0.1.0'
  assets2:
    component: devsapp/fc
";
    let (specs, skipped) = found(text);
    for name in ["devsapp/fc", "fc", "fc-upload-code-to-oss", "gitee:devsapp/oss@0.1.0"] {
        assert!(specs.iter().any(|spec| spec == name), "{name}: {specs:?}");
    }
    assert_eq!((specs.len(), skipped.len()), (4, 0), "{specs:?} {skipped:?}");
}

#[test]
fn folders_are_searched_without_those_of_other_projects_and_extended_files_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    write("s.yaml", "edition: 3.0.0\nextend: ./base/common.yaml\nresources:\n  a:\n    component: a/a\n");
    write("base/common.yaml", "extend: [../s.yaml]\nresources:\n  b:\n    component: b/b\n");
    write("deep/down/s.yml", "services:\n  c:\n    component: c/c\n");
    write("deep/node_modules/x/s.yaml", "services:\n  d:\n    component: d/d\n");
    write(".git/s.yaml", "services:\n  e:\n    component: e/e\n");
    write("broken/s.yaml", "services: [\n");
    let mut found = ProjectPackages::default();
    read(dir.path(), &mut found).expect("a project");
    let (mut specs, _) = names(&found);
    specs.sort();
    assert_eq!(specs, ["a/a", "b/b", "c/c"]);
    assert!(
        found.unreadable.len() == 1 && found.unreadable[0].path.ends_with("broken/s.yaml"),
        "{:?}",
        found.unreadable
    );
}

#[test]
fn a_path_without_a_project_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |path: &Path| read(path, &mut ProjectPackages::default()).expect_err("refused").to_string();
    assert!(refused(dir.path()).contains("no s.yaml or s.yml"));
    assert!(refused(&dir.path().join("none")).contains("--project"));
    for text in ["services: [", "- a\n", "just: text\n"] {
        let file = dir.path().join("other.yaml");
        fs::write(&file, text).expect("written");
        assert!(refused(&file).contains("other.yaml"), "{text}");
    }
}

#[test]
fn a_too_deep_folder_or_a_too_large_file_is_named_and_the_rest_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("s.yaml"), "services: {a: {component: fc3}}").expect("written");
    let deep = dir.path().join(["d"; MAX_FOLDER_DEPTH + 2].join("/"));
    fs::create_dir_all(&deep).expect("folders");
    let large = dir.path().join("large");
    fs::create_dir(&large).expect("a folder");
    let comment = "#".repeat(usize::try_from(MAX_PROJECT_FILE_BYTES).expect("small"));
    fs::write(large.join("s.yaml"), format!("services: {{a: {{component: fc}}}}\n{comment}")).expect("written");
    let mut found = ProjectPackages::default();
    read(dir.path(), &mut found).expect("a project");
    assert_eq!(names(&found).0, ["fc3"]);
    let failed = found.unreadable.iter().map(|file| format!("{}: {}", file.path.display(), file.error));
    let failed: Vec<String> = failed.collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().any(|line| line.contains("d: too deep")), "{failed:?}");
    assert!(failed.iter().any(|line| line.contains("large/s.yaml: it is larger than 4MiB")), "{failed:?}");
}

#[test]
fn a_chain_of_extended_files_has_an_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let count = 3000;
    for number in 0..count {
        let text = format!("extend: {}.yaml\nservices: {{a: {{component: a/n{number}}}}}\n", (number + 1) % count);
        fs::write(dir.path().join(format!("{number}.yaml")), text).expect("written");
    }
    let mut found = ProjectPackages::default();
    read(&dir.path().join("0.yaml"), &mut found).expect("a project");
    assert_eq!(found.specs.len(), MAX_EXTENDED_FILES + 1);
    assert!(
        found.unreadable.len() == 1 && matches!(found.unreadable[0].error, ProjectReadError::ChainTooLong),
        "{:?}",
        found.unreadable
    );
}

#[test]
fn an_extended_file_that_only_the_cli_finds_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("s.yaml");
    fs::write(&file, "extend: ${env('BASE')}.yaml\nservices: {a: {component: fc3}}\n").expect("written");
    let mut found = ProjectPackages::default();
    read(&file, &mut found).expect("a project");
    assert_eq!(names(&found).0, ["fc3"]);
    assert!(matches!(found.unreadable[0].error, ProjectReadError::Variable), "{:?}", found.unreadable);
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let refused = read(&pipe, &mut ProjectPackages::default()).expect_err("refused").to_string();
    assert!(refused.contains("not a regular file"), "{refused}");
    let file = dir.path().join("s.yaml");
    fs::write(&file, "extend: [pipe, /dev/zero]\nservices: {a: {component: fc3}}\n").expect("written");
    let mut found = ProjectPackages::default();
    read(&file, &mut found).expect("a project");
    assert_eq!((names(&found).0, found.unreadable.len()), (vec!["fc3".to_owned()], 2));
}
