//! Folder aliases: a folder of a repository is a package, its versions are tags, releases or the head, its zip is a view.

use std::{
    io::{Cursor, Read},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use srm_mirror::{config::Config, registry::Unbuilt};

use crate::{
    forge::{Fault, Forge, Host, Match, RepoRef, Spec},
    mirror::{Mirror, Setup, TestResponse, setup},
    zips::{blobs, pins},
};

mod requests;
mod stored;

const REPOSITORY: &str = "acme/apps";
const COMPONENT: &str = "Type: Component\nName: x\nVersion: 1.2.3\n";

/// A mirror's setup with the alias `start-x` for `apps/x` of the repository on GitHub.
fn with_alias(forge: &Forge) -> Setup {
    with_aliases(forge, &[("start-x", "github:acme/apps//apps/x")])
}

fn with_aliases(forge: &Forge, aliases: &[(&str, &str)]) -> Setup {
    let aliases = aliases.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    setup(forge).with(|config: &mut Config| config.names.aliases = aliases)
}

/// Two applications, one of which is a component with its build.
fn apps(spec: Spec) -> Spec {
    spec.file("package.json", "{\"name\": \"root\"}")
        .file("apps/x/publish.yaml", COMPONENT)
        .file("apps/x/package.json", "{\"main\": \"dist/index.js\"}")
        .file("apps/x/dist/index.js", "exports.x = 1;\n".repeat(100))
        .executable("apps/x/bin/run", "#!/bin/sh\n")
        .symlink("apps/x/link", "dist/index.js")
        .file("apps/x/中文.md", "你好")
        .file("apps/xy/index.js", "another")
        .file("apps/y/publish.yaml", "Type: Component\nName: y\n")
}

/// One unpacked file: name, content, Unix mode.
type Files = Vec<(String, Vec<u8>, Option<u32>)>;

fn files(bytes: &[u8]) -> Files {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    let count = zip.len();
    let file = |index| {
        let mut file = zip.by_index(index).expect("an entry");
        let name = file.name().expect("a name").into_owned();
        let mode = file.unix_mode();
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("content with the right CRC");
        (name, content, mode)
    };
    (0..count).map(file).collect()
}

/// The files of the repository's zip in `apps/x`, names below `top`.
fn folder_of(repository: &RepoRef, reference: &str, top: &str) -> Files {
    let below = |(name, content, mode): (String, Vec<u8>, Option<u32>)| {
        let (_, name) = name.split_once('/').expect("in the top folder");
        let name = format!("{top}{}", name.strip_prefix("apps/x/")?);
        (!name.is_empty()).then_some((name, content, mode))
    };
    files(&repository.zip_bytes(reference)).into_iter().filter_map(below).collect()
}

fn versions(got: &TestResponse) -> Vec<String> {
    assert_eq!(got.status, 200, "{}", text(got));
    let json = got.json();
    let list = json.as_array().cloned().unwrap_or_default();
    list.iter().map(|release| release["tag_name"].as_str().expect("a text").to_owned()).collect()
}

fn text(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

/// The content of `dist/index.js` in a flat zip.
fn code(got: &TestResponse) -> String {
    assert_eq!(got.status, 200, "{}", text(got));
    let files = files(&got.body);
    let (_, content, _) = files.into_iter().find(|(name, ..)| name == "dist/index.js").expect("the code");
    String::from_utf8(content).expect("text")
}

fn is(code: &str) -> impl FnOnce(Spec) -> Spec {
    let code = code.to_owned();
    move |spec| apps(spec).file("apps/x/dist/index.js", code)
}

fn api_requests(forge: &Forge) -> Vec<String> {
    let api = forge.requests().into_iter().filter(|seen| seen.host == Host::GithubApi);
    api.map(|seen| seen.path().trim_start_matches("/repos/acme/apps").to_owned()).collect()
}

async fn restart(mirror: Mirror, dir: &Path, setup: Setup) -> Mirror {
    mirror.stop().await;
    setup.start_in(dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zip_of_a_folder_is_its_part_of_the_repositorys_zip_and_nothing_is_copied() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY).tag("x@1.2.3", apps);
    let mirror = with_alias(&forge).start().await;
    for (path, top) in [
        ("/start-x/flat/1.2.3", ""),
        ("/start-x/zipball/1.2.3", "start-x-1.2.3/"),
        ("/simple/start-x/zipball/1.2.3", "start-x-1.2.3/"),
        ("/v3/packages/start-x/zipball/1.2.3", ""),
        ("/start-x/zipball/v1.2.3", "start-x-1.2.3/"),
        ("/start-x/flat/refs/tags/x@1.2.3", ""),
        (&format!("/START-X/flat/{}", repository.commit("x@1.2.3")), ""),
    ] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {}", text(&got));
        assert_eq!(files(&got.body), folder_of(&repository, "x@1.2.3", top), "{path}");
        assert_eq!(got.header("etag"), format!("\"{}\"", got.sha256()));
        assert_eq!(got.repr_digest(), srm_mirror::entry::Digest::of(&got.body).0);
        assert_eq!(got.header("content-length"), got.body.len().to_string());
        assert_eq!(got.header("cache-control"), "public, max-age=31536000, immutable");
    }
    let got = mirror.get("/start-x/zipball/1.2.3").await;
    assert_eq!(got.header("content-disposition"), "attachment; filename=\"start-x-1.2.3.zip\"");
    // The tag and its commit are two keys with one blob.
    assert_eq!(blobs(mirror.dir()), 1);
    let zips = forge.count(|seen| seen.host == Host::Archive);
    assert_eq!(zips, 2, "one download of the tag, one of the commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_conditions_and_head_are_those_of_the_view() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("x@1.0.0", |spec| apps(spec).noise("apps/x/big.bin", 7, 1 << 20));
    let mirror = with_alias(&forge).start().await;
    for path in ["/start-x/flat/1.0.0", "/simple/start-x/zipball/1.0.0"] {
        let whole = mirror.get(path).await;
        let end = whole.body.len();
        let etag = whole.header("etag").to_owned();
        for (from, to) in [(0, 9), (end / 2, end / 2 + 70_000), (end - 30, end - 1)] {
            let part = mirror.get_with(path, &[("range", &format!("bytes={from}-{to}"))]).await;
            assert_eq!((part.status, &part.body), (206, &whole.body.slice(from..=to)), "{path} {from}-{to}");
        }
        assert_eq!(mirror.get_with(path, &[("if-none-match", &etag)]).await.status, 304);
        let head = mirror.head(path).await;
        assert_eq!((head.header("content-length"), head.header("etag")), (&*end.to_string(), &*etag));
    }
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_in_each_form_are_the_versions_of_the_folder_they_name() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY);
    for tag in ["x@1.0.0", "x-v1.1.0", "x/2.0.0-rc.1", "x/v0.9.0", "x-1.0.0", "y@7.0.0", "v8.0.0", "start-x@9.0.0"] {
        repository.clone().tag(tag, is(tag));
    }
    let mirror = with_alias(&forge).start().await;
    let list = mirror.get("/start-x/releases").await;
    assert_eq!(versions(&list), ["2.0.0-rc.1", "1.1.0", "1.0.0", "0.9.0"]);
    assert_eq!(list.json()[0]["prerelease"], true);
    for (version, tag) in
        [("1.0.0", "x@1.0.0"), ("v1.0.0", "x@1.0.0"), ("1.1.0", "x-v1.1.0"), ("2.0.0-rc.1", "x/2.0.0-rc.1")]
    {
        assert_eq!(code(&mirror.get(&format!("/start-x/flat/{version}")).await), tag);
    }
    let latest = mirror.get("/start-x/releases/latest").await.json();
    assert_eq!(latest["tag_name"], "1.1.0", "the highest stable version");
    for path in ["/start-x/releases/tags/8.0.0", "/start-x/zipball/8.0.0", "/start-x/zipball/7.0.0"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 404, "{path}");
        assert!(text(&got).contains("start-x (folder apps/x of acme/apps)"), "{}", text(&got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alias_names_the_tags_where_the_folder_names_none() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("start-x@2.0.0", is("two")).tag("y@3.0.0", apps);
    let mirror = with_alias(&forge).start().await;
    assert_eq!(versions(&mirror.get("/start-x/releases").await), ["2.0.0"]);
    assert_eq!(code(&mirror.get("/start-x/flat/2.0.0").await), "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dialect_has_its_shape_and_the_zip_keeps_the_alias() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).release("x@1.2.3", |spec| {
        apps(spec).name("X 1.2.3").body("notes").created_at("2024-05-01T10:00:00Z").asset("a.txt", "text/plain", "a")
    });
    let mirror = with_alias(&forge).start().await;
    let url = |path: &str| mirror.url(path);
    let srm = mirror.get("/start-x/releases/latest").await.json();
    assert_eq!(srm["tag_name"], "1.2.3");
    assert_eq!(srm["name"], "X 1.2.3");
    assert_eq!((&srm["created_at"], &srm["body"]), (&json!("2024-05-01T10:00:00Z"), &json!("notes")));
    assert_eq!(srm["zipball_url"], url("/start-x/zipball/1.2.3"));
    assert_eq!(srm["assets"][0]["name"], "a.txt");
    assert_eq!(mirror.get("/start-x/releases").await.json()[0], srm);
    assert_eq!(mirror.get("/start-x/releases/tags/v1.2.3").await.json(), srm);
    let simple = mirror.get("/simple/start-x/releases").await.json();
    assert_eq!(simple["Response"][0]["zipball_url"], url("/simple/start-x/zipball/1.2.3"));
    for path in ["/release/latest", "/release/tags/1.2.3"] {
        let v3 = mirror.get(&format!("/v3/packages/start-x{path}")).await.json();
        assert_eq!(v3["body"]["tag_name"], "1.2.3", "{path}");
        assert_eq!(v3["body"]["zipball_url"], url("/v3/packages/start-x/zipball/1.2.3"), "{path}");
    }
    assert_eq!(mirror.get("/v3/packages/start-x/release?page=1").await.json()["body"][0]["tag_name"], "1.2.3");
    let metadata = mirror.get("/start-x/metadata/1.2.3").await.json();
    assert_eq!(metadata["Name"], "x", "from the folder's publish.yaml");
    assert_eq!((&metadata["Type"], &metadata["Version"]), (&json!("Component"), &json!("1.2.3")));
    assert_eq!(mirror.get("/start-x/metadata").await.json(), json!([metadata]));
    for path in ["/repos/start-x/releases", "/repos/start-x", "/repos/start-x/releases/latest"] {
        assert_eq!(mirror.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_such_tags_the_versions_are_the_releases_of_the_repository() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY).release("v1.0.0", is("one")).release("v2.0.0", is("two"));
    repository.release("v3.0.0-rc.1", |spec| apps(spec).prerelease()).tag("y@9.0.0", apps);
    let mirror = with_alias(&forge).start().await;
    assert_eq!(versions(&mirror.get("/start-x/releases").await), ["v3.0.0-rc.1", "v2.0.0", "v1.0.0"]);
    let latest = mirror.get("/start-x/releases/latest").await.json();
    assert_eq!((&latest["tag_name"], &latest["prerelease"]), (&json!("v2.0.0"), &json!(false)));
    assert_eq!(latest["zipball_url"], mirror.url("/start-x/zipball/v2.0.0"));
    assert_eq!(code(&mirror.get("/start-x/flat/2.0.0").await), "two");
    assert_eq!(files(&mirror.get("/start-x/zipball/v1.0.0").await.body)[0].0, "start-x-v1.0.0/");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_releases_the_version_is_that_of_the_head_pinned_by_its_commit() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY).branch("main", is("first"));
    let first = repository.commit("main");
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = with_alias(&forge).start_in(dir.path()).await;
    let list = mirror.get("/start-x/releases").await;
    assert_eq!(versions(&list), ["1.2.3"]);
    let created_at = list.json()[0]["created_at"].clone();
    assert_eq!(mirror.get("/start-x/releases/latest").await.json()["tag_name"], "1.2.3");
    let zip = mirror.get("/start-x/zipball/1.2.3").await;
    assert_eq!(files(&zip.body), folder_of(&repository, &first, "start-x-1.2.3/"));
    assert_eq!(zip.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1, "the list has fetched it");

    // The head moves on with the same version: what was served stays, also after a restart.
    let repository = repository.branch("main", is("second"));
    mirror.clock.advance(Duration::from_secs(3600));
    let mirror = restart(mirror, dir.path(), with_alias(&forge)).await;
    mirror.clock.advance(Duration::from_secs(3600));
    let again = mirror.get("/start-x/releases").await;
    assert_eq!((versions(&again), &again.json()[0]["created_at"]), (vec!["1.2.3".to_owned()], &created_at));
    assert_eq!(code(&mirror.get("/start-x/flat/1.2.3").await), "first");

    // A new version is found, and the old one still is.
    repository.branch("main", |spec| is("third")(spec).file("apps/x/publish.yaml", "Version: v1.3.0\n"));
    mirror.clock.advance(Duration::from_secs(3600));
    mirror.get("/start-x/releases").await;
    crate::eventually::eventually("the new head is listed", async || {
        versions(&mirror.get("/start-x/releases").await) == ["1.3.0", "1.2.3"]
    })
    .await;
    assert_eq!(mirror.get("/v3/packages/start-x/release/latest").await.json()["body"]["tag_name"], "1.3.0");
    assert_eq!(code(&mirror.get("/start-x/flat/1.3.0").await), "third");
    assert_eq!(code(&mirror.get("/start-x/flat/1.2.3").await), "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_a_version_or_without_the_folder_is_404_and_says_why() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).branch("main", |spec| spec.file("apps/x/publish.yaml", "Name: x\n"));
    let mirror = with_aliases(&forge, &[("start-x", "acme/apps//apps/x"), ("gone", "acme/apps//apps/gone")]);
    let mirror = mirror.start().await;
    for path in ["/start-x/releases", "/start-x/releases/latest", "/start-x/zipball/1.0.0"] {
        assert_eq!(mirror.get(path).await.status, 404, "{path}");
    }
    let got = mirror.get("/v3/packages/gone/release/latest").await;
    assert_eq!(got.status, 404);
    assert!(text(&got).contains("acme/apps on github has no folder apps/gone"), "{}", text(&got));
    assert!(text(&got).contains("the alias gone"), "{}", text(&got));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_the_folder_is_404_and_names_folder_and_repository() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("x@1.0.0", |spec| spec.file("apps/xy/a", "")).tag("x@1.1.0", apps);
    let mirror = with_alias(&forge).start().await;
    for path in ["/start-x/zipball/1.0.0", "/start-x/flat/1.0.0", "/v3/packages/start-x/zipball/1.0.0"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 404, "{path}");
        assert!(text(&got).contains("acme/apps on github has no folder apps/x in version 1.0.0"), "{}", text(&got));
    }
    assert_eq!(mirror.get("/start-x/flat/1.1.0").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_a_version_stays_when_another_tag_of_it_appears() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY).release("v1.0.0", is("release"));
    let mirror = with_alias(&forge).start().await;
    assert_eq!(code(&mirror.get("/start-x/flat/v1.0.0").await), "release");
    assert_eq!(pins(mirror.dir()).len(), 2, "the zip's pin and the folder's");
    repository.tag("x@1.0.0", is("tag")).tag("x@2.0.0", is("two"));
    mirror.clock.advance(Duration::from_secs(3600));
    assert_eq!(code(&mirror.get("/start-x/flat/2.0.0").await), "two");
    assert_eq!(versions(&mirror.get("/start-x/releases").await), ["2.0.0", "1.0.0"]);
    assert_eq!(code(&mirror.get("/start-x/flat/v1.0.0").await), "release");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unbuilt_component_in_a_folder_is_refused_to_the_command_lines_alone() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("y@1.0.0", |spec| apps(spec).file("dist/index.js", "of the root"));
    let aliases = [("start-y", "acme/apps//apps/y")];
    let mirror = with_aliases(&forge, &aliases).start().await;
    for (path, status) in [
        ("/v3/packages/start-y/zipball/1.0.0", 422),
        ("/simple/start-y/zipball/1.0.0", 422),
        ("/start-y/zipball/1.0.0", 200),
        ("/start-y/flat/1.0.0", 200),
    ] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, status, "{path}: {}", text(&got));
        assert!(status == 200 || text(&got).contains("its zip has no package.json"), "{}", text(&got));
    }
    let mirror = with_aliases(&forge, &aliases).with(|config| config.packages.unbuilt = Unbuilt::Serve).start().await;
    assert_eq!(mirror.get("/v3/packages/start-y/zipball/1.0.0").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_to_a_folder_is_that_to_its_repository() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("x@1.0.0", apps);
    for (deny, allow) in [(vec!["acme/*"], vec![]), (vec![], vec!["other/*", "start-x"])] {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let mirror = with_alias(&forge).with(|config| {
            config.packages.deny = owned(&deny);
            config.packages.allow = owned(&allow);
        });
        let mirror = mirror.start().await;
        for path in ["/start-x/releases", "/start-x/zipball/1.0.0", "/v3/packages/start-x/release/latest"] {
            assert_eq!(mirror.get(path).await.status, 403, "{path}");
        }
    }
    assert_eq!(forge.requests().len(), 0);
    forge.accept_token("secret");
    forge.repo(REPOSITORY).private();
    let mirror = with_alias(&forge).token("github", "secret").start().await;
    for path in ["/start-x/releases", "/start-x/zipball/1.0.0", "/start-x/metadata/1.0.0"] {
        assert_eq!(mirror.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_gitee_repository_works_alike() {
    let forge = Forge::start().await;
    let repository = forge.gitee_repo(REPOSITORY).tag("x@1.0.0", is("gitee"));
    let mirror = with_aliases(&forge, &[("start-x", "gitee:acme/apps//apps/x")]).start().await;
    assert_eq!(versions(&mirror.get("/start-x/releases").await), ["1.0.0"]);
    let zip = mirror.get("/start-x/zipball/1.0.0").await;
    assert_eq!(files(&zip.body), folder_of(&repository, "x@1.0.0", "start-x-1.0.0/"));
}
