//! A mirror behind a mirror: the child's upstreams are the parent's routes.

use srm_mirror::config::Config;

use crate::{
    forge::Forge,
    mirror::{Mirror, Setup, setup},
};

/// A mirror whose github and official are another mirror.
fn child_of(parent: &Mirror, forge: &Forge) -> Setup {
    let at = |path: &str| parent.url(path).parse().expect("an address");
    let host = parent.address.to_string();
    setup(forge).with(|config: &mut Config| {
        for (name, path) in [("github", "/api/v3"), ("official", "/v3")] {
            let section = config.upstreams.get_mut(name).expect("a default upstream");
            section.api = at(path);
            section.web = (name == "github").then(|| at(""));
            section.redirect_hosts = vec![host.clone()];
        }
    })
}

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.file("index.js", "1"))
        .release("v1.1.0", |r| r.file("index.js", "2"));
    forge.registry().component("fc3").version("0.1.21").version("0.1.22");
    forge.registry().component("unbuilt").unbuilt("1.0.0");
    forge
}

#[tokio::test]
async fn a_child_has_the_parents_releases_and_equal_digests() {
    let forge = forge().await;
    let parent = Mirror::over(&forge).await;
    let child = child_of(&parent, &forge).start().await;
    for path in [
        "/devsapp/fc3/zipball/v1.0.0",
        "/v3/packages/fc3/zipball/0.1.22",
        "/v3/packages/official__fc3/zipball/0.1.21",
        "/official/fc3/flat/0.1.22",
    ] {
        let below = child.get(path).await;
        assert_eq!(below.status, 200, "{path}: {}", String::from_utf8_lossy(&below.body));
        let above = parent.get(path).await;
        assert_eq!(below.sha256(), above.sha256(), "{path}");
    }
    let tags = |json: serde_json::Value| -> Vec<String> {
        let list = json.as_array().expect("a list").iter();
        list.map(|release| release["tag_name"].as_str().expect("a text").to_owned()).collect()
    };
    for path in ["/devsapp/fc3/releases", "/official/fc3/releases"] {
        assert_eq!(tags(child.get(path).await.json()), tags(parent.get(path).await.json()), "{path}");
    }
    let latest = child.get("/v3/packages/fc3/release/latest").await.json();
    assert_eq!(latest["body"]["tag_name"], "0.1.22");
    let url = latest["body"]["zipball_url"].as_str().expect("a text");
    assert!(url.starts_with(&child.url("/v3/packages/official__fc3/")), "{url}");
}

#[tokio::test]
async fn what_the_parent_has_stored_reaches_the_child_with_the_forge_down() {
    let forge = forge().await;
    let parent = Mirror::over(&forge).await;
    for path in ["/v3/packages/fc3/release/latest", "/v3/packages/fc3/zipball/0.1.22"] {
        assert_eq!(parent.get(path).await.status, 200, "{path}");
    }
    forge.down().await;
    let child = child_of(&parent, &forge).start().await;
    assert_eq!(child.get("/v3/packages/fc3/release/latest").await.json()["body"]["tag_name"], "0.1.22");
    assert_eq!(child.get("/v3/packages/fc3/zipball/0.1.22").await.status, 200);
}

#[tokio::test]
async fn a_refusal_of_the_parent_is_passed_on_with_its_status() {
    let forge = forge().await;
    forge.repo("acme/secret").release("v1.0.0", |r| r);
    forge.repo("acme/blocked").blocked();
    let parent = setup(&forge).with(|config| config.packages.deny = vec!["acme/secret".into()]).start().await;
    let child = child_of(&parent, &forge).start().await;
    for (path, status) in [
        ("/acme/secret/releases", 403),
        ("/acme/secret/zipball/v1.0.0", 403),
        ("/acme/blocked/releases", 451),
        // The parent refuses in the v3 dialect only; the child asks in it.
        ("/official/unbuilt/flat/1.0.0", 422),
    ] {
        let got = child.get(path).await;
        assert_eq!(got.status, status, "{path}: {}", String::from_utf8_lossy(&got.body));
    }
}
