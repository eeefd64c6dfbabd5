//! A folder's version that is blocked or denied is in no answer: neither as the folder's zip nor within its repository's.

use reqwest::Method;
use serde_json::json;
use srm_mirror::config::Config;

use crate::{
    forge::{Forge, Match, Route, Spec},
    mirror::{Mirror, Setup, setup},
};

const REPOSITORY: &str = "acme/apps";

fn apps(spec: Spec, version: &str) -> Spec {
    spec.file("apps/x/publish.yaml", format!("Type: Application\nName: x\nVersion: {version}\n"))
        .file("apps/x/src/s.yaml", "a: b\n")
        .file("apps/y/publish.yaml", "Type: Application\nName: y\nVersion: 7.0.0\n")
        .file("apps/y/src/s.yaml", "a: b\n")
}

/// Two versions of `apps/x`, a tag of another folder with the first of them, and one without the folder.
async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo(REPOSITORY)
        .release("x@1.2.3", |r| apps(r, "1.2.3"))
        .release("x@1.3.0", |r| apps(r, "1.3.0"))
        .release("y@7.0.0", |r| apps(r, "1.2.3"))
        .release("v9.0.0", |r| r.file("index.js", "1"));
    forge
}

fn with_aliases(forge: &Forge) -> Setup {
    let aliases = [
        ("start-x", "github:acme/apps//apps/x"),
        ("start-y", "github:acme/apps//apps/y"),
        ("start-all", "github:acme/apps//apps"),
    ];
    let aliases = aliases.map(|(key, value)| (key.to_owned(), value.to_owned()));
    setup(forge).with(|config: &mut Config| config.names.aliases = aliases.into())
}

/// Every way to the zip of a tag of the repository.
fn ways(forge: &Forge, tag: &str) -> Vec<String> {
    let commit = forge.repo(REPOSITORY).commit(tag);
    let below = [
        format!("zipball/{tag}"),
        format!("flat/{tag}"),
        format!("zipball/refs/tags/{tag}"),
        format!("zipball/{commit}"),
        format!("flat/{commit}"),
    ];
    let mut ways: Vec<String> = below.iter().map(|rest| format!("/{REPOSITORY}/{rest}")).collect();
    ways.extend(below.iter().map(|rest| format!("/github/Acme/APPS/{rest}")));
    ways.push(format!("/repos/{REPOSITORY}/zipball/{tag}"));
    ways.push(format!("/simple/{REPOSITORY}/zipball/{tag}"));
    ways.push(format!("/v3/packages/acme__apps/zipball/{tag}"));
    ways
}

async fn expect(mirror: &Mirror, paths: &[String], status: u16, said: &str) {
    for path in paths {
        // Twice: the second answer may come from the cache of responses.
        for method in [Method::GET, Method::GET, Method::HEAD] {
            let got = mirror.request(method.clone(), path, &[]).await.expect("an answer");
            let body = String::from_utf8_lossy(&got.body).into_owned();
            let says = status == 200 || method == Method::HEAD || body.contains(said);
            assert!(got.status == status && says, "{method} {path}: {} {body}", got.status);
        }
    }
    let part = mirror.get_with(&paths[0], &[("range", "bytes=0-9")]).await;
    assert_eq!(part.status, if status == 200 { 206 } else { status }, "{}", paths[0]);
}

async fn change(mirror: &Mirror, route: &str, ask: serde_json::Value) {
    mirror.admin(mirror.dir(), route, ask).await;
}

#[tokio::test]
async fn a_repositorys_zip_is_refused_where_a_folder_in_it_is_blocked_stored_or_not() {
    let forge = forge().await;
    let mirror = with_aliases(&forge).start().await;
    let with_folder = [ways(&forge, "x@1.2.3"), ways(&forge, "y@7.0.0")].concat();
    let without = [ways(&forge, "x@1.3.0"), ways(&forge, "v9.0.0")].concat();
    let of_folder: Vec<String> =
        ["/start-x/zipball/1.2.3", "/start-x/flat/v1.2.3", "/start-x/zipball/refs/tags/x@1.2.3"]
            .iter()
            .chain(&["/start-all/zipball/refs/tags/x@1.2.3", "/v3/packages/start-x/zipball/1.2.3"])
            .map(|&path| path.to_owned())
            .collect();
    let beside = ["/start-x/zipball/1.3.0", "/start-y/zipball/7.0.0", "/start-y/zipball/refs/tags/x@1.2.3"];
    let beside: Vec<String> = beside.iter().map(|&path| path.to_owned()).collect();
    for paths in [&with_folder, &without, &of_folder, &beside] {
        expect(&mirror, paths, 200, "").await;
    }
    change(&mirror, "block", json!({"pattern": "start-x@1.2.3", "reason": "see SEC-18"})).await;
    expect(&mirror, &with_folder, 403, "see SEC-18").await;
    expect(&mirror, &of_folder, 403, "see SEC-18").await;
    expect(&mirror, &without, 200, "").await;
    expect(&mirror, &beside, 200, "").await;
    for path in ["/start-x/releases/tags/1.2.3", "/start-x/metadata/1.2.3"] {
        assert_eq!(mirror.get(path).await.status, 403, "{path}");
    }
    change(&mirror, "unblock", json!({"pattern": "start-x@1.2.3"})).await;
    expect(&mirror, &with_folder, 200, "").await;
}

#[tokio::test]
async fn a_block_of_a_whole_folder_leaves_the_zips_that_do_not_have_it() {
    let forge = forge().await;
    let mirror = with_aliases(&forge).start().await;
    change(&mirror, "block", json!({"pattern": "start-x", "reason": "see SEC-19"})).await;
    for tag in ["x@1.2.3", "x@1.3.0", "y@7.0.0"] {
        expect(&mirror, &ways(&forge, tag), 403, "see SEC-19").await;
    }
    expect(&mirror, &ways(&forge, "v9.0.0"), 200, "").await;
    expect(&mirror, &["/start-y/zipball/7.0.0".to_owned()], 200, "").await;
}

#[tokio::test]
async fn no_client_that_waits_for_a_download_gets_a_denied_folder() {
    let forge = forge().await;
    let setup = with_aliases(&forge);
    let setup = setup.with(|config: &mut Config| config.packages.deny = vec!["start-x@1.2.3".into()]);
    let mirror = setup.start().await;
    let gate = forge.gate(Match::route(Route::Archive), 64);
    let path = "/acme/apps/zipball/x@1.2.3";
    let open = async {
        gate.reached().await;
        gate.open();
    };
    let (first, second, third, ()) =
        tokio::join!(mirror.get(path), mirror.get(path), mirror.get("/acme/apps/flat/x@1.2.3"), open);
    for got in [first, second, third] {
        let body = String::from_utf8_lossy(&got.body).into_owned();
        assert!(got.status == 403 && body.contains("not among the versions"), "{} {body}", got.status);
    }
}

#[tokio::test]
async fn a_tag_of_a_repository_without_tags_of_the_folder_is_the_folders_version() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).release("v1.0.0", |r| apps(r, "5.0.0")).release("v2.0.0", |r| apps(r, "5.0.1"));
    let mirror = with_aliases(&forge).start().await;
    change(&mirror, "block", json!({"pattern": "start-x@1.0.0", "reason": "see SEC-20"})).await;
    expect(&mirror, &ways(&forge, "v1.0.0"), 403, "see SEC-20").await;
    expect(&mirror, &ways(&forge, "v2.0.0"), 200, "").await;
    change(&mirror, "block", json!({"pattern": "start-x@2.0.0", "reason": "see SEC-20"})).await;
    change(&mirror, "unblock", json!({"pattern": "start-x@1.0.0"})).await;
    let latest = mirror.get("/start-x/releases/latest").await;
    assert_eq!((latest.status, &latest.json()["tag_name"]), (200, &json!("v1.0.0")));
}
