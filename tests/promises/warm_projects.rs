//! `warm --project`: the packages that real project files need.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{forge::Forge, process::Launch};

const EDITION_3: &str = r#"# ------------------------------------
#   Deployed with the CLI: s deploy
# ------------------------------------
edition: 3.0.0
name: shop
access: "{{ access }}"

vars:
  region: "cn-hangzhou"
  service:
    internetAccess: true

actions:
  pre-deploy:
    - run: npm run lint
      path: ./
  success-deploy:
    - plugin: dingding-robot
      allow_failure: true
      args:
        dingTalkToken: ${env('DING_TOKEN')}

resources:
  api:
    component: fc3
    actions:
      pre-${regex('.')}:
        - component: fc3 build
      post-deploy:
        - plugin: devsapp/website-fc@0.1.4
    props: &api
      region: ${vars.region}
      functionName: shop-api
      runtime: custom.debian10
      customRuntimeConfig:
        command: ["node", "server.js"]
        port: 9000
      environmentVariables:
        component: not-a-component
      triggers:
        - triggerName: httpTrigger
          triggerType: http
          triggerConfig:
            methods: [GET, POST]
            authType: anonymous
  worker:
    component: fc3@0.0.25
    extend:
      name: base
    props:
      <<: *api
      functionName: shop-worker
  site:
    component: https://registry.example.com/site/zipball/1.0.0
  tools:
    component: ./components/tools
"#;

const EDITION_1: &str = r"edition: 1.0.0
name: ffmpeg-app
access: default
vars:
  region: cn-qingdao
services:
  transcode:
    component: devsapp/fc
    actions:
      pre-deploy:
        - component: fc build --use-docker
        - run: mvn package
          path: ./backend
      after-deploy:
        - plugin: fc-warm-up
          args: {times: 3}
    props:
      region: ${vars.region}
      service: {name: ffmpeg, internetAccess: true}
      function:
        name: transcode
        codeUri: ./code
  assets:
    component: ${vars.assets}
    props: {bucket: auto}
";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    for (name, tags) in [
        ("fc3", &["v0.0.25", "v0.1.0"][..]),
        ("fc", &["0.1.35"]),
        ("website-fc", &["0.1.4", "0.1.5"]),
        ("dingding-robot", &["0.0.1"]),
        ("fc-warm-up", &["1.0.0"]),
    ] {
        for tag in tags {
            forge.repo(&format!("devsapp/{name}")).release(tag, |r| r);
        }
    }
    forge
}

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    dir
}

/// Runs `warm --project` with the default owner that plain names need; returns the code, what was fetched and skipped.
async fn warm(forge: &Forge, path: &Path) -> (Option<i32>, Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["warm", "--json", "--project", path.to_str().expect("text")];
    let launch = Launch::over(forge, dir.path(), &arguments).set("names.default_owner", "devsapp");
    let ended = launch.run().await;
    let events: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kinds: &[&str]| {
        let fits = events.iter().filter(|event| kinds.iter().any(|kind| event["event"] == *kind));
        let mut texts: Vec<_> = fits.map(|event| event["what"].as_str().expect("a text").to_owned()).collect();
        texts.sort();
        texts
    };
    // A package with two names is stored already when its second name comes late.
    (ended.code, of(&["fetched", "stored"]), of(&["skipped"]))
}

#[tokio::test]
async fn every_component_and_plugin_of_edition_3_is_fetched() {
    let dir = project(&[("s.yaml", EDITION_3)]);
    let (code, fetched, skipped) = warm(&forge().await, &dir.path().join("s.yaml")).await;
    let expected = ["devsapp/website-fc@0.1.4", "dingding-robot@0.0.1", "fc3@v0.0.25", "fc3@v0.1.0"];
    assert_eq!((code, fetched), (Some(0), expected.map(str::to_owned).to_vec()));
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped[0].contains("./components/tools") && skipped[1].contains("https://"), "{skipped:?}");
}

#[tokio::test]
async fn every_component_and_plugin_of_edition_1_is_fetched() {
    let dir = project(&[("s.yml", EDITION_1)]);
    let (code, fetched, skipped) = warm(&forge().await, dir.path()).await;
    let expected = ["devsapp/fc@0.1.35", "fc-warm-up@1.0.0", "fc@0.1.35"];
    assert_eq!((code, fetched), (Some(0), expected.map(str::to_owned).to_vec()));
    assert!(skipped.len() == 1 && skipped[0].contains("${vars.assets}"), "{skipped:?}");
}

#[tokio::test]
async fn folders_are_searched_and_extended_files_are_read() {
    let dir = project(&[
        ("shop/s.yaml", "edition: 3.0.0\nextend: ../base/common.yaml\nresources:\n  a:\n    component: fc\n"),
        ("base/common.yaml", "edition: 3.0.0\nresources:\n  b:\n    component: dingding-robot\n"),
        ("deep/er/s.yml", "edition: 1.0.0\nservices:\n  c:\n    component: fc-warm-up\n"),
        ("deep/node_modules/x/s.yaml", "edition: 1.0.0\nservices:\n  d:\n    component: website-fc\n"),
        (".git/s.yaml", "edition: 1.0.0\nservices:\n  d:\n    component: website-fc\n"),
    ]);
    let (code, fetched, _) = warm(&forge().await, dir.path()).await;
    let expected = ["dingding-robot@0.0.1", "fc-warm-up@1.0.0", "fc@0.1.35"];
    assert_eq!((code, fetched), (Some(0), expected.map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn a_project_file_that_cannot_be_read_is_named_and_the_rest_is_fetched() {
    let dir = project(&[("a/s.yaml", "services: [\n"), ("b/s.yaml", EDITION_1)]);
    let (code, fetched, _) = warm(&forge().await, dir.path()).await;
    assert_eq!((code, fetched.len()), (Some(1), 3), "{fetched:?}");
}
