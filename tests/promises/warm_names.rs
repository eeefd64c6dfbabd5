//! `warm` by plain names, and `--with-required`: the packages that others load by name at run time.

use std::path::Path;

use serde_json::Value;

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
    process::{Ended, Launch},
};

/// The registries with the packages of both CLIs.
async fn registries() -> Forge {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.21").version("0.1.22").version("dev");
    forge.registry().component("fc3-domain").version("0.0.9");
    for name in ["core", "domain", "fc-default", "oss"] {
        forge.simple_registry().component(name).version("0.1.66");
    }
    forge
}

async fn forge() -> Forge {
    let forge = Forge::start().await;
    for name in ["agentrun", "fc3", "fc3-domain", "a", "b", "c"] {
        forge.repo(&format!("devsapp/{name}")).release("1.0.0", |r| r);
    }
    forge
}

fn launch(forge: &Forge, dir: &Path, arguments: &[&str]) -> Launch {
    let arguments = [&["warm", "--json"], arguments].concat();
    Launch::over(forge, dir, &arguments).set("names.default_owner", "devsapp")
}

/// What an ended run says of each package: those fetched or stored, in order of their names.
fn warmed(ended: &Ended) -> Vec<String> {
    let events = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let stored = events.filter(|event| ["fetched", "stored"].iter().any(|kind| event["event"] == *kind));
    let mut names: Vec<_> = stored.map(|event| event["what"].as_str().expect("a text").to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn required_packages_are_fetched_once_each_and_only_on_demand() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let alone = launch(&forge, dir.path(), &["agentrun"]).run().await;
    assert_eq!((alone.code, warmed(&alone)), (Some(0), vec!["agentrun@1.0.0".to_owned()]));
    let all = ["agentrun@1.0.0", "fc3-domain@1.0.0", "fc3@1.0.0"].map(str::to_owned);
    let with = launch(&forge, dir.path(), &["agentrun", "--with-required"]).run().await;
    assert_eq!((with.code, warmed(&with)), (Some(0), all.to_vec()), "{with:?}");
    let both = launch(&forge, dir.path(), &["agentrun", "fc3", "--with-required"]).run().await;
    assert_eq!((both.code, warmed(&both)), (Some(0), all.to_vec()), "{both:?}");
}

#[tokio::test]
async fn a_running_mirror_is_warmed_with_the_default_table() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.names.default_owner = Some("devsapp".into())).start().await;
    let url = mirror.url("");
    let ended = Launch::bare(&["warm", "agentrun", "--with-required", "--json", "--server", &url]).run().await;
    let all = ["agentrun@1.0.0", "fc3-domain@1.0.0", "fc3@1.0.0"].map(str::to_owned);
    assert_eq!((ended.code, warmed(&ended)), (Some(0), all.to_vec()), "{ended:?}");
}

#[tokio::test]
async fn packages_that_need_each_other_end_the_search() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = launch(&forge, dir.path(), &["devsapp/a", "--with-required"]);
    let ended = launch.set("required", "{a = [\"b\", \"A\"], b = [\"a\", \"c\"], c = [\"b\"]}").run().await;
    let all = ["A@1.0.0", "b@1.0.0", "c@1.0.0", "devsapp/a@1.0.0"].map(str::to_owned);
    assert_eq!((ended.code, warmed(&ended)), (Some(0), all.to_vec()), "{ended:?}");
}

#[tokio::test]
async fn a_required_package_that_is_missing_is_named_with_the_one_that_needs_it() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let launch = launch(&forge, dir.path(), &["c", "--with-required"]).set("required", "{c = [\"none\"]}");
    let ended = launch.run().await;
    assert_eq!((ended.code, warmed(&ended)), (Some(1), vec!["c@1.0.0".to_owned()]));
    let failure = ended.out.lines().find(|line| line.contains("\"failed\"")).expect("a failure");
    assert!(failure.contains("\"none\"") && failure.contains("(c needs it)"), "{failure}");
}

#[tokio::test]
async fn a_name_of_the_wrong_form_is_a_failure_with_the_right_form() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let ended = launch(&forge, dir.path(), &["gitee:fc3", "c"]).run().await;
    assert_eq!((ended.code, warmed(&ended)), (Some(1), vec!["c@1.0.0".to_owned()]));
    assert!(ended.out.contains("package must be written owner/repo"), "{ended:?}");
    for text in ["official:", "a:b:c", "fc3@", "official:a/b/c"] {
        assert_eq!(launch(&forge, dir.path(), &[text]).run().await.code, Some(64), "{text}");
    }
}

/// `warm` without any configuration but the addresses of the scripted upstreams.
async fn unconfigured(forge: &Forge, dir: &Path, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let arguments = [&["warm", "--json"], arguments].concat();
    let ended = Launch::over(forge, dir, &arguments).run().await;
    assert_eq!(ended.err, "", "{ended:?}");
    (ended.code, warmed(&ended))
}

#[tokio::test]
async fn plain_names_are_warmed_without_any_configuration() {
    let forge = registries().await;
    let dir = tempfile::tempdir().expect("a directory");
    for (spec, expected) in [
        ("fc3", "fc3@0.1.22"),
        ("fc3@0.1.21", "fc3@0.1.21"),
        ("official:fc3@^0.1", "official:fc3@0.1.22"),
        ("oss", "oss@0.1.66"),
        ("official-2x:devsapp/core", "official-2x:devsapp/core@0.1.66"),
    ] {
        let (code, names) = unconfigured(&forge, dir.path(), &[spec, "--latest", "1"]).await;
        assert!(code == Some(0) && names.iter().any(|name| name == expected), "{spec}: {names:?}");
    }
    let listed = Launch::over(&forge, dir.path(), &["cache", "ls"]).run().await.out;
    let packages: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(packages, ["official-2x:core", "official-2x:oss", "official:fc3", "official:fc3"], "{listed}");
}

#[tokio::test]
async fn a_2x_component_is_warmed_with_the_core_from_its_own_registry() {
    let forge = registries().await;
    let dir = tempfile::tempdir().expect("a directory");
    let expected = ["domain@0.1.66", "official-2x:core@0.1.66", "official-2x:fc-default@0.1.66"].map(str::to_owned);
    let cached = unconfigured(&forge, dir.path(), &["domain", "--with-required"]).await;
    assert_eq!(cached, (Some(0), expected.to_vec()));
    let mirror = Mirror::over(&forge).await;
    let arguments = ["warm", "domain", "--with-required", "--json", "--server", &mirror.url("")];
    let ended = Launch::bare(&arguments).run().await;
    assert_eq!((ended.code, warmed(&ended)), (Some(0), expected.to_vec()), "{ended:?}");
    forge.clear_log();
    assert_eq!(mirror.get("/simple/devsapp/core/zipball/0.1.66").await.status, 200);
    assert_eq!(forge.requests().len(), 0, "the core that s 2 asks for is stored");
}

#[tokio::test]
async fn a_project_is_warmed_without_any_configuration() {
    let forge = registries().await;
    let project = tempfile::tempdir().expect("a directory");
    let text = "edition: 3.0.0\nresources:\n  a:\n    component: fc3\n  b:\n    component: fc3@0.1.21\n";
    std::fs::write(project.path().join("s.yaml"), text).expect("written");
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["--project", project.path().to_str().expect("text"), "--with-required"];
    let expected = ["fc3-domain@0.0.9", "fc3@0.1.21", "fc3@0.1.22"].map(str::to_owned);
    assert_eq!(unconfigured(&forge, dir.path(), &arguments).await, (Some(0), expected.to_vec()));
}

#[tokio::test]
async fn the_lock_file_of_plain_names_fills_a_cache_and_a_running_mirror() {
    let forge = registries().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("srm-mirror.lock");
    let file = file.to_str().expect("text");
    let first = dir.path().join("first");
    assert_eq!(unconfigured(&forge, &first, &["fc3@all", "oss", "--exclude", "@dev"]).await.0, Some(0));
    let locked = Launch::over(&forge, &first, &["cache", "lock", "--file", file]).run().await;
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let text = std::fs::read_to_string(file).expect("written");
    let sum = forge.registry().component("fc3").sha256("0.1.22");
    let row = format!(
        "upstream = \"official\"\npackage = \"fc3\"\nkind = \"tag\"\nversion = \"0.1.22\"\nsha256 = \"{sum}\"\n"
    );
    assert!(text.contains(&row) && text.contains("upstream = \"official-2x\"\npackage = \"oss\"\n"), "{text}");
    let second = dir.path().join("second");
    let warmed = Launch::over(&forge, &second, &["warm", "--locked", file]).run().await;
    assert!(warmed.code == Some(0) && warmed.out.contains("3 fetched"), "{warmed:?}");
    // A zip that came flat is served in a folder by the routes of clients, and compared as it is stored.
    let mirror = Mirror::over(&forge).await;
    for verb in ["3 fetched", "0 fetched (0 B), 3 already stored"] {
        let warmed = Launch::bare(&["warm", "--locked", file, "--server", &mirror.url("")]).run().await;
        assert!(warmed.code == Some(0) && warmed.out.contains(verb), "{warmed:?}");
    }
    let other = text.replace(&sum, &"0".repeat(64));
    std::fs::write(file, other).expect("written");
    let warmed = Launch::bare(&["warm", "--locked", file, "--server", &mirror.url("")]).run().await;
    assert!(warmed.code == Some(1) && warmed.err.contains("is locked"), "{warmed:?}");
}

#[tokio::test]
async fn the_project_of_an_edition_is_warmed_from_where_its_command_line_looks() {
    let forge = Forge::start().await;
    forge.registry().component("fc").version("3.0.0");
    forge.simple_registry().component("fc").version("0.1.35");
    for name in ["core", "fc-core", "fc-deploy", "fc-plan", "fc-info", "domain", "fc-default"] {
        forge.simple_registry().component(name).version("0.1.66");
    }
    let mirror = Mirror::over(&forge).await;
    let url = mirror.url("");
    for (text, expected) in [
        ("edition: 1.0.0\nservices:\n  a:\n    component: fc\n", "fc@0.1.35"),
        ("edition: 1.0.0\nservices:\n  a:\n    component: devsapp/fc\n", "devsapp/fc@0.1.35"),
        ("edition: 3.0.0\nresources:\n  a:\n    component: fc\n", "fc@3.0.0"),
    ] {
        let project = tempfile::tempdir().expect("a directory");
        std::fs::write(project.path().join("s.yaml"), text).expect("written");
        let path = project.path().to_str().expect("text");
        let dir = tempfile::tempdir().expect("a directory");
        let cached = unconfigured(&forge, dir.path(), &["--project", path]).await;
        assert_eq!(cached, (Some(0), vec![expected.to_owned()]));
        let ended = Launch::bare(&["warm", "--json", "--project", path, "--server", &url]).run().await;
        assert_eq!((ended.code, warmed(&ended)), (Some(0), vec![expected.to_owned()]), "{ended:?}");
    }
    let project = tempfile::tempdir().expect("a directory");
    let text = "edition: 1.0.0\nservices:\n  a:\n    component: fc\n  b:\n    component: none\n";
    std::fs::write(project.path().join("s.yaml"), text).expect("written");
    let arguments = ["warm", "--json", "--with-required", "--server", &url, "--project"];
    let ended = Launch::bare(&arguments).argument(project.path().to_str().expect("text")).run().await;
    assert_eq!((ended.code, warmed(&ended).len()), (Some(1), 8), "{ended:?}");
    assert!(ended.out.contains("there is no package none on official-2x or official"), "{ended:?}");
}
