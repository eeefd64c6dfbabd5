//! The pages of packages and versions say of each what a client would get of it.

use std::time::Duration;

use serde_json::json;
use srm_mirror::{config::Config, registry::Gone, value::Period};

use crate::{
    access::SECRET,
    eventually::eventually,
    forge::Forge,
    hosted::{Host, component},
    mirror::{Mirror, Setup, setup},
    web::{HTML, page},
};

fn with_aliases(forge: &Forge, aliases: &[(&str, &str)]) -> Setup {
    let aliases = aliases.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    setup(forge).with(|config: &mut Config| config.names.aliases = aliases)
}

async fn status(mirror: &Mirror, path: &str) -> u16 {
    mirror.get_with(path, &[HTML]).await.status
}

/// Fetches what a page says that clients can have.
async fn get(mirror: &Mirror, path: &str) {
    let got = mirror.get(path).await;
    assert_eq!(got.status, 200, "{path}: {got:?}");
}

/// As [`get`] for a zip; waits until its page has it: a client may have a zip before it is stored.
async fn stored(mirror: &Mirror, package: &str, version: &str) {
    get(mirror, &format!("/{package}/zipball/{version}")).await;
    let path = format!("/-/packages/github:{package}@{version}");
    eventually("the zip is stored", async || {
        let got = mirror.get_with(&path, &[HTML]).await;
        String::from_utf8_lossy(&got.body).contains("<dt>SHA-256</dt>")
    })
    .await;
}

fn assert_parts(page: &str, with: &[&str], without: &[&str]) {
    for part in with {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    for part in without {
        assert!(!page.contains(part), "{part:?} is in\n{page}");
    }
}

#[tokio::test]
async fn the_pages_of_a_folder_are_about_the_folder_and_not_about_its_repository() {
    let forge = Forge::start().await;
    for (tag, version) in [("x@1.2.3", "1.2.3"), ("x@1.3.0", "1.3.0"), ("y@9.9.9", "9.9.9")] {
        forge.repo("acme/apps").tag(tag, |r| {
            r.file("apps/x/publish.yaml", format!("Type: Component\nName: x\nDescription: An x.\nVersion: {version}\n"))
                .file("apps/x/index.js", "1")
        });
    }
    let mirror = with_aliases(&forge, &[("start-x", "github:acme/apps//apps/x")]).start().await;
    get(&mirror, "/start-x/releases").await;
    get(&mirror, "/start-x/flat/1.2.3").await;
    // Of the repository, not of the folder.
    get(&mirror, "/acme/apps/zipball/y@9.9.9").await;
    mirror.admin(mirror.dir(), "block", json!({"pattern": "start-x@1.3.0", "reason": "see SEC-9"})).await;
    let asked = forge.requests().len();

    let package = page(&mirror, "/-/packages/start-x").await;
    let of_folder = [
        "<h1 class=\"long\">start-x</h1>",
        "An x.",
        "Component",
        "apps/x of acme/apps",
        "2 versions",
        "1.2.3",
        "1.3.0",
        "blocked",
    ];
    assert_parts(&package, &of_folder, &["9.9.9", ">x@1", "@x@1", ">Zip</th>"]);
    let version = page(&mirror, "/-/packages/start-x@1.2.3").await;
    let zip = mirror.url("/start-x/zipball/1.2.3");
    let of_version =
        ["component: start-x@1.2.3", &zip, "tag x@1.2.3", "SHA-256 of the repository", "First seen", "pinned"];
    assert_parts(&version, &of_version, &["acme/apps/zipball"]);
    let refused = page(&mirror, "/-/packages/start-x@1.3.0").await;
    assert_parts(&refused, &["see SEC-9"], &["Use it", "fetches it", "/setup?package=start"]);
    assert_eq!(status(&mirror, "/-/packages/start-x@9.9.9").await, 404);
    assert_eq!(forge.requests().len(), asked, "{:?}", forge.requests());
}

#[tokio::test]
async fn a_folder_of_a_hidden_repository_is_in_no_list_and_has_no_page() {
    let forge = crate::access::forge().await;
    let aliases = [("hush", "github:acme/secret//lib"), ("shown", "github:devsapp/fc3//lib")];
    let mirror = with_aliases(&forge, &aliases).token("github", "T0KEN").start().await;
    get(&mirror, "/devsapp/fc3/releases").await;
    assert_eq!(mirror.get(&format!("/{SECRET}/releases")).await.status, 404);
    let list = page(&mirror, "/-/").await;
    assert_parts(&list, &[">shown</a>"], &["hush", "acme/secret"]);
    assert_parts(&page(&mirror, "/-/?q=hush").await, &["Nothing found"], &["acme/secret"]);
    assert_eq!(status(&mirror, "/-/packages/hush").await, 404);
}

#[tokio::test]
async fn a_list_with_more_than_fifty_folders_has_each_of_them_and_every_package_once() {
    for folders in [49, 50, 51, 120] {
        let forge = Forge::start().await;
        let folder = |n: usize| (format!("f{n:03}"), format!("github:acme/apps//apps/f{n:03}"));
        let package = |n: usize| (format!("p{n:03}"), format!("github:other/p{n:03}"));
        let aliases = (0..folders).map(folder).chain((0..30).map(package)).collect();
        let mirror = setup(&forge).with(|config| config.names.aliases = aliases).start().await;
        let mut path = "/-/".to_owned();
        let mut seen = Vec::new();
        while !path.is_empty() {
            let page = page(&mirror, &path).await;
            let names = page.split("<a href=\"/-/packages/").skip(1).filter_map(|rest| rest.split('>').nth(1));
            let names: Vec<_> = names.map(|name| name.split('<').next().unwrap_or_default().to_owned()).collect();
            assert!(names.len() <= 50 && !names.is_empty(), "{path}: {names:?}");
            seen.extend(names);
            let next = page.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
            path = next.map(|next| next.replace("&#38;", "&")).unwrap_or_default();
        }
        let packages = (0..30).map(|n| format!("other/p{n:03}"));
        assert_eq!(seen, (0..folders).map(|n| folder(n).0).chain(packages).collect::<Vec<_>>(), "{folders}");
    }
}

#[tokio::test]
async fn a_version_that_no_client_gets_does_not_look_available() {
    let forge = Forge::start().await;
    let fc3 = forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    let commit = fc3.commit("v1.1.0");
    forge.repo("devsapp/new").release("v1.0.0", |r| r);
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    for path in ["/devsapp/fc3/releases", "/devsapp/new/releases"] {
        get(&mirror, path).await;
    }
    stored(&mirror, "devsapp/fc3", "v1.1.0").await;
    stored(&mirror, "devsapp/fc3", &commit).await;
    let package = page(&mirror, "/-/packages/github:devsapp/fc3").await;
    assert_parts(&package, &["v1.1.0"], &["not allowed"]);
    mirror.stop().await;

    let rules = |config: &mut Config| {
        config.packages.deny = vec!["devsapp/fc3@1.1.*".into()];
        config.packages.min_age = Period(Duration::from_secs(1_000 * 86_400 * 365));
    };
    let mirror = setup(&forge).with(rules).start_in(dir.path()).await;
    let asked = forge.requests().len();
    let package = page(&mirror, "/-/packages/github:devsapp/fc3").await;
    assert_eq!(package.matches("not allowed").count(), 2, "the tag and its commit:\n{package}");
    assert_parts(&package, &["too new"], &[]);
    for version in ["v1.1.0", &commit] {
        let page = page(&mirror, &format!("/-/packages/github:devsapp/fc3@{version}")).await;
        assert_parts(&page, &["is not among the versions this mirror may serve"], &["Use it", "/zipball/"]);
    }
    let young = page(&mirror, "/-/packages/github:devsapp/new@v1.0.0").await;
    assert_parts(&young, &["is too new", "not stored"], &["Use it", "fetches it"]);
    let list = page(&mirror, "/-/").await;
    assert_parts(&list, &[">devsapp/fc3</a>"], &["v1.1.0"]);
    assert_eq!(forge.requests().len(), asked, "{:?}", forge.requests());
}

#[tokio::test]
async fn the_newest_version_of_a_list_is_the_newest_one_that_the_rules_allow() {
    let forge = Forge::start().await;
    for tag in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        forge.repo("devsapp/fc3").release(tag, |r| r);
    }
    let mirror = setup(&forge).start().await;
    for tag in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        get(&mirror, &format!("/devsapp/fc3/zipball/{tag}")).await;
    }
    for (blocked, newest) in [(None, "v1.2.0"), (Some("devsapp/fc3@v1.2.0"), "v1.1.0"), (Some("devsapp/fc3"), "–")] {
        if let Some(pattern) = blocked {
            mirror.admin(mirror.dir(), "block", json!({"pattern": pattern, "reason": "see SEC-9"})).await;
        }
        let cell = match newest {
            "–" => "<span class=\"none\">–</span>".to_owned(),
            newest => format!("<code>{newest}</code>"),
        };
        eventually(newest, async || {
            page(&mirror, "/-/").await.contains(&format!("data-label=\"Newest here\">{cell}</td>"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_version_that_its_upstream_has_withdrawn_looks_available_only_where_it_is_kept() {
    for gone in [Gone::Keep, Gone::Follow] {
        let forge = Forge::start().await;
        forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v1.1.0", |r| r);
        let mirror = setup(&forge).with(|config| config.packages.gone = gone).start().await;
        stored(&mirror, "devsapp/fc3", "v1.1.0").await;
        forge.repo("devsapp/fc3").delete_release("v1.1.0").delete_tag("v1.1.0");
        let zip = "/devsapp/fc3/zipball/v1.1.0";
        let is_kept = gone == Gone::Keep;
        mirror.clock.advance(Duration::from_secs(3600));
        eventually("the version is as configured", async || (mirror.get(zip).await.status == 200) == is_kept).await;
        let shown = page(&mirror, "/-/packages/github:devsapp/fc3@v1.1.0").await;
        assert_eq!(shown.contains("its upstream has withdrawn it"), !is_kept, "{shown}");
        assert_eq!(shown.contains("<h2>Use it</h2>"), is_kept, "{shown}");
    }
}

#[tokio::test]
async fn the_page_of_a_commit_has_its_address_and_says_that_it_is_pinned() {
    let forge = Forge::start().await;
    let commit = forge.repo("devsapp/fc3").release("v1.0.0", |r| r).commit("v1.0.0");
    let mirror = setup(&forge).start().await;
    let zip = format!("/devsapp/fc3/zipball/{commit}");
    stored(&mirror, "devsapp/fc3", &commit).await;
    let shown = page(&mirror, &format!("/-/packages/github:devsapp/fc3@{commit}")).await;
    let setup = "/-/setup?package=github%3Adevsapp/fc3\"";
    assert_parts(
        &shown,
        &[&mirror.url(&zip), "pinned: other content", "First seen", setup],
        &["component:", "refs/tags"],
    );
}

#[tokio::test]
async fn the_page_of_a_moving_version_says_that_it_changes_and_shows_the_present_zip() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.22").version("dev");
    let mirror = Mirror::over(&forge).await;
    get(&mirror, "/official/fc3/releases").await;
    let listed = page(&mirror, "/-/packages/official:fc3@dev").await;
    assert_parts(&listed, &["moving: every publication may change it"], &["pinned"]);
    get(&mirror, "/official/fc3/zipball/dev").await;
    eventually("the zip is stored", async || {
        page(&mirror, "/-/packages/official:fc3@dev").await.contains(&fc3.sha256("dev"))
    })
    .await;
    let package = page(&mirror, "/-/packages/official:fc3").await;
    assert_parts(&package, &["<span class=\"mark\">moving</span>", "2 versions"], &[]);
}

#[tokio::test]
async fn the_page_of_a_published_version_says_who_has_published_and_deleted_it() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    for version in ["1.0.0", "1.1.0", "dev"] {
        assert_eq!(host.put("acme-x", version, component("acme-x", version)).await.status, 201);
    }
    let deleted = host.send(reqwest::Method::DELETE, "/acme-x/zipball/1.1.0", &host.ci, Vec::new(), &[]).await;
    assert!(deleted.status < 300, "{deleted:?}");
    let shown = async |version: &str| {
        let path = format!("/-/packages/hosted:acme-x{version}");
        let got = host.send(reqwest::Method::GET, &path, &host.ci, Vec::new(), &[HTML]).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
        String::from_utf8(got.body.to_vec()).expect("text")
    };
    assert_parts(&shown("").await, &["3 versions", "deleted", "moving"], &[]);
    let never = ["published here: it never changes", "never evicted", "Use it"];
    assert_parts(&shown("@1.0.0").await, &never, &["not pinned", "not stored", "First seen"]);
    let gone = ["This version is deleted, by token:ci", "none: it was deleted", "Published"];
    assert_parts(&shown("@1.1.0").await, &gone, &["Use it", "fetches it", "never evicted"]);
    assert_parts(&shown("@dev").await, &["moving: every publication", "Use it"], &["never changes"]);
}

#[tokio::test]
async fn more_than_fifty_versions_have_pages_each_version_on_one_the_newest_first() {
    let forge = Forge::start().await;
    for n in 0..120 {
        forge.repo("devsapp/fc3").release(&format!("v1.{n}.0"), |r| r);
    }
    let mirror = setup(&forge).start().await;
    get(&mirror, "/devsapp/fc3/releases").await;
    let mut seen = Vec::new();
    for (number, links) in [(1, [false, true]), (2, [true, true]), (3, [true, false]), (9, [true, false])] {
        let shown = page(&mirror, &format!("/-/packages/github:devsapp/fc3?page={number}")).await;
        assert_parts(&shown, &["120 versions"], &[]);
        assert_eq!(["rel=\"prev\"", "rel=\"next\""].map(|link| shown.contains(link)), links, "{number}");
        let rows = shown.split("<code>v1.").skip(1).filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok());
        if number < 4 {
            seen.extend(rows);
        }
    }
    assert_eq!(seen, (0..120).rev().collect::<Vec<_>>());
}
