//! A mirror behind a mirror: the child's upstreams are the parent's routes.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use srm_mirror::{
    config::Config,
    registry::{ModelConfig, ModelMode},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Barrier,
};

use crate::{
    eventually::eventually,
    forge::{Forge, Spec},
    logs,
    mirror::{Mirror, Setup, setup},
};

/// A mirror whose github and official are another mirror.
fn child_of(parent: &Mirror, forge: &Forge) -> Setup {
    child_at(parent.address, forge)
}

/// A mirror whose github and official are at an address.
fn child_at(parent: SocketAddr, forge: &Forge) -> Setup {
    let at = |path: &str| format!("http://{parent}{path}").parse().expect("an address");
    let host = parent.to_string();
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

#[tokio::test]
async fn a_refusal_by_the_package_model_or_of_an_unbuilt_component_is_passed_on_as_such() {
    let forge = forge().await;
    let without_readme = |spec: Spec| spec.without_file("readme.md").without_file("README.md");
    forge.registry().component("bare").version_with("1.0.0", without_readme);
    let rule = ModelConfig { packages: "official:bare".into(), model: ModelMode::Enforce };
    let parent = setup(&forge).with(|config| config.packages.model_for = vec![rule]).start().await;
    let child = child_of(&parent, &forge).start().await;
    let grandchild = child_of(&child, &forge).start().await;
    for mirror in [&child, &grandchild] {
        let bare = mirror.get("/official/bare/zipball/1.0.0").await;
        assert_eq!((bare.status, bare.json()["code"].clone()), (422, "not-conforming".into()), "{:?}", bare.body);
        let unbuilt = mirror.get("/official/unbuilt/flat/1.0.0").await;
        assert_eq!((unbuilt.status, unbuilt.json()["code"].clone()), (422, "unbuilt".into()), "{:?}", unbuilt.body);
    }
}

/// An address that leads to a mirror which starts later.
struct Relay {
    address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
}

impl Relay {
    /// The first connection waits at `barrier`.
    async fn start(barrier: Option<Arc<Barrier>>) -> Self {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target = Arc::new(OnceLock::new());
        let leads_to = target.clone();
        tokio::spawn(async move {
            let mut barrier = barrier;
            while let Ok((mut client, _)) = listener.accept().await {
                let target: SocketAddr = *leads_to.get().expect("the mirror runs");
                let barrier = barrier.take();
                tokio::spawn(async move {
                    if let Some(barrier) = barrier {
                        barrier.wait().await;
                    }
                    let mut server = TcpStream::connect(target).await.expect("connected");
                    // Ends with an error where one side closes the connection.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, target }
    }

    fn lead_to(&self, mirror: &Mirror) {
        self.target.set(mirror.address).expect("set once");
    }
}

/// Two mirrors, each of which is the other's upstream. With a barrier, neither has heard of the other before both ask.
async fn circle(forge: &Forge, barrier: Option<Arc<Barrier>>) -> [Mirror; 2] {
    let to_first = Relay::start(barrier.clone()).await;
    let to_second = Relay::start(barrier).await;
    let first = child_at(to_second.address, forge).start().await;
    let second = child_at(to_first.address, forge).start().await;
    to_first.lead_to(&first);
    to_second.lead_to(&second);
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_over_two_mirrors_is_508() {
    let forge = forge().await;
    let [first, second] = circle(&forge, None).await;
    for (mirror, path) in [
        (&first, "/devsapp/fc3/zipball/refs/tags/v1.0.0"),
        (&second, "/devsapp/fc3/releases"),
        (&first, "/official/fc3/flat/0.1.22"),
        (&second, "/v3/packages/fc3/release/latest"),
    ] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 508, "{path}: {}", String::from_utf8_lossy(&got.body));
    }
    assert_eq!(forge.count(|_| true), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mirrors_that_wait_for_each_other_are_508() {
    let forge = forge().await;
    for path in ["/devsapp/fc3/zipball/refs/tags/v1.0.0", "/devsapp/fc3/releases"] {
        // Both have begun to fetch when the first request of either arrives at the other, and joins that.
        let [first, second] = circle(&forge, Some(Arc::new(Barrier::new(2)))).await;
        let (first, second) = tokio::join!(first.get(path), second.get(path));
        assert_eq!((first.status, second.status), (508, 508), "{path}: {first:?} {second:?}");
    }
}

#[tokio::test]
async fn one_request_has_one_id_in_a_chain_of_mirrors_and_none_at_a_forge() {
    let _kept = logs::keep();
    let forge = forge().await;
    let trusting = setup(&forge)
        .with(|config: &mut Config| config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")]);
    let parent = trusting.start().await;
    let child = child_of(&parent, &forge).start().await;
    // The first answer tells the child that its upstream is a mirror.
    assert_eq!(child.get("/devsapp/fc3/releases").await.status, 200);
    let got = child.get("/devsapp/fc3/zipball/v9.9.9").await;
    let id = got.header("x-request-id");
    assert_eq!((got.status, got.json()["request_id"].as_str()), (404, Some(id)));
    eventually("the parent's log names the child's request", async || {
        logs::lines(id).iter().any(|line| line.contains("/api/v3/repos/devsapp/fc3"))
    })
    .await;
    assert!(forge.requests().iter().all(|seen| seen.header("x-request-id").is_empty()));
}

#[tokio::test]
async fn mirrors_name_those_that_a_request_came_through_and_forward_nothing_else_of_it() {
    let forge = forge().await;
    let parent = Mirror::over(&forge).await;
    let child = child_of(&parent, &forge).start().await;
    let client = "1.1 proxy.example (a comment), 1.1 srm-mirror-0123456789ab, 1.1 srm-mirror-x";
    let got = child.get_with("/devsapp/fc3/zipball/v1.0.0", &[("via", client)]).await;
    assert_eq!(got.status, 200);
    for seen in forge.requests() {
        let names: Vec<&str> = seen.header("via").split(", ").collect();
        assert!(names.len() == 3 && names[0] == "1.1 srm-mirror-0123456789ab", "{names:?}");
        let are_mirrors = names.iter().all(|name| name.starts_with("1.1 srm-mirror-") && name.len() == 27);
        assert!(are_mirrors && names[1] != names[2], "{names:?}");
    }
    let own = forge.requests()[0].header("via").rsplit("1.1 ").next().expect("a name").to_owned();
    let looped = parent.get_with("/devsapp/fc3/zipball/v1.0.0", &[("via", &format!("1.1 {own}"))]).await;
    assert_eq!(looped.status, 508, "also of what is stored");
}
