//! `warm` by plain names, and `--with-required`: the packages that others load by name at run time.

use std::path::Path;

use serde_json::Value;

use crate::{
    forge::Forge,
    mirror::setup,
    process::{Ended, Launch},
};

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
