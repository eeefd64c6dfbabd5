//! Whose a name is: the order of a route, the recorded source, and that trouble never leads to the next upstream.

use std::path::Path;

use srm_mirror::{
    config::Config,
    dialect::{DialectName, RouteConfig},
};

use crate::{
    forge::{Fault, Forge, Host, Match},
    mirror::{Mirror, Setup, TestResponse, setup},
};

const LIST: &str = "/acme/tool/releases";

fn row(packages: &str, dialect: Option<DialectName>, upstreams: &[&str]) -> RouteConfig {
    let upstreams = upstreams.iter().map(|&name| name.to_owned()).collect();
    RouteConfig { packages: packages.into(), dialect, upstreams }
}

fn with_routes(forge: &Forge, rows: &[RouteConfig]) -> Setup {
    let rows = rows.to_vec();
    setup(forge).with(|config: &mut Config| {
        config.routes = rows;
        for section in config.upstreams.values_mut() {
            section.response_timeout = srm_mirror::value::Period(std::time::Duration::from_millis(300));
        }
    })
}

/// Gitee first, then GitHub.
fn gitee_first(forge: &Forge) -> Setup {
    with_routes(forge, &[row("acme/*", None, &["gitee", "github"])])
}

async fn restart(mirror: Mirror, dir: &Path, setup: Setup) -> Mirror {
    mirror.stop().await;
    setup.start_in(dir).await
}

fn message(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

/// The upstream in the zip's address.
fn source(mirror: &Mirror, got: &TestResponse) -> String {
    assert_eq!(got.status, 200, "{}", message(got));
    let json = got.json();
    let url = json[0]["zipball_url"].as_str().expect("a text");
    url.trim_start_matches(&mirror.url("/")).split('/').next().expect("a segment").to_owned()
}

fn requests_to(forge: &Forge, host: Host) -> usize {
    forge.requests().iter().filter(|seen| seen.host == host).count()
}

async fn forge_with_both() -> Forge {
    let forge = Forge::start().await;
    forge.gitee_repo("acme/tool").release("1.0.0", |r| r.file("index.js", "gitee"));
    forge.repo("acme/tool").release("1.0.0", |r| r.file("index.js", "github"));
    forge
}

#[tokio::test]
async fn the_first_upstream_of_a_route_that_has_the_package_is_its_source() {
    let forge = forge_with_both().await;
    forge.repo("acme/other").release("2.0.0", |r| r);
    let mirror = gitee_first(&forge).start().await;
    assert_eq!(source(&mirror, &mirror.get(LIST).await), "gitee");
    assert_eq!(source(&mirror, &mirror.get("/acme/other/releases").await), "github");
    let none = mirror.get("/acme/none/releases").await;
    assert_eq!(none.status, 404);
    assert!(message(&none).contains("no package acme/none on gitee or github"), "{}", message(&none));
    // A prefix is no name without an upstream: no route applies.
    assert_eq!(mirror.get("/github/acme/tool/releases").await.status, 200);
}

#[tokio::test]
async fn json_and_zip_come_from_one_source_in_every_dialect() {
    let forge = forge_with_both().await;
    let mirror = gitee_first(&forge).start().await;
    for (path, pointer) in [
        ("/acme/tool/releases/latest", "/zipball_url"),
        ("/repos/acme/tool/releases/latest", "/zipball_url"),
        ("/simple/acme/tool/releases/latest", "/Response/zipball_url"),
        ("/v3/packages/acme__tool/release/latest", "/body/zipball_url"),
    ] {
        let json = mirror.get(path).await.json();
        let url = json.pointer(pointer).and_then(|url| url.as_str()).expect(path);
        assert!(url.contains("gitee"), "{path}: {url}");
        let zip = mirror.get(url.trim_start_matches(&mirror.url(""))).await;
        assert_eq!(zip.status, 200, "{url}");
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&zip.body[..])).expect("a zip");
        let name = archive.file_names().map(|name| name.expect("UTF-8").into_owned());
        let name = name.into_iter().find(|name| name.ends_with("index.js")).expect("the code");
        let code = std::io::read_to_string(archive.by_name(&name).expect("the code")).expect("text");
        assert_eq!(code, "gitee", "{url}");
    }
    assert_eq!(requests_to(&forge, Host::GithubApi), 0, "the other upstream is never asked");
}

#[tokio::test]
async fn trouble_of_any_kind_ends_the_route_and_records_nothing() {
    let json = [("content-type", "application/json")];
    for (what, fault, status) in [
        ("refused", Fault::Refuse, 502),
        ("500", Fault::status(500, &json, "{}"), 502),
        ("503", Fault::status(503, &json, "{}"), 502),
        ("401", Fault::status(401, &json, "{}"), 502),
        ("403", Fault::status(403, &json, r#"{"message":"no"}"#), 502),
        ("429", Fault::status(429, &json, "{}"), 503),
        ("451", Fault::status(451, &json, "{}"), 451),
        ("silence", Fault::HeadStall, 504),
        ("cut", Fault::CutAfter(20), 502),
        ("not JSON", Fault::status(200, &json, "<<<"), 502),
        ("a page", Fault::Html200, 502),
    ] {
        let forge = forge_with_both().await;
        let dir = tempfile::tempdir().expect("a directory");
        let mirror = gitee_first(&forge).start_in(dir.path()).await;
        forge.fault(Match::on(Host::Gitee), fault).always();
        let got = mirror.get(LIST).await;
        assert_eq!(got.status, status, "{what}: {}", message(&got));
        assert!(message(&got).contains("gitee"), "{what} names the upstream that failed: {}", message(&got));
        assert_eq!(requests_to(&forge, Host::GithubApi), 0, "{what} led to the next upstream");
        mirror.stop().await;
        let sources = std::fs::read_to_string(dir.path().join("sources.jsonl")).expect("readable");
        assert_eq!(sources, "", "{what} recorded a source");
    }
}

#[tokio::test]
async fn a_refused_package_ends_the_route() {
    let forge = forge_with_both().await;
    let setup = gitee_first(&forge).with(|config| config.packages.deny = vec!["gitee:acme/*".into()]);
    let mirror = setup.start().await;
    assert_eq!(mirror.get(LIST).await.status, 403);
    assert!(forge.requests().is_empty(), "nothing is asked about a package that is denied");
}

#[tokio::test]
async fn a_recorded_source_survives_restarts_removal_and_a_name_that_appears_earlier() {
    let forge = Forge::start().await;
    forge.repo("acme/tool").release("1.0.0", |r| r.file("index.js", "github"));
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = gitee_first(&forge).start_in(dir.path()).await;
    assert_eq!(source(&mirror, &mirror.get(LIST).await), "github");
    forge.gitee_repo("acme/tool").release("9.0.0", |r| r.file("index.js", "taken"));
    let mirror = restart(mirror, dir.path(), gitee_first(&forge)).await;
    for file in ["documents", "blobs"] {
        assert!(dir.path().join(file).exists());
    }
    mirror.clock.advance(std::time::Duration::from_secs(86_400));
    assert_eq!(source(&mirror, &mirror.get(LIST).await), "github", "also after its documents have expired");
    assert_eq!(source(&mirror, &mirror.get("/ACME/Tool/releases").await), "github", "names fold their case");
    let simple = mirror.get("/simple/acme/tool/releases").await.json();
    let url = simple["Response"][0]["zipball_url"].as_str().expect("a text").to_owned();
    assert!(url.contains("/simple/gitee/"), "each dialect has its own record: {url}");
}

#[tokio::test]
async fn no_new_row_moves_a_recorded_source_and_one_that_left_its_route_is_403() {
    let forge = forge_with_both().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = gitee_first(&forge).start_in(dir.path()).await;
    assert_eq!(source(&mirror, &mirror.get(LIST).await), "gitee");
    let reordered = with_routes(&forge, &[row("acme/*", None, &["github", "gitee"])]);
    let mirror = restart(mirror, dir.path(), reordered).await;
    assert_eq!(source(&mirror, &mirror.get(LIST).await), "gitee");
    let without = with_routes(&forge, &[row("acme/*", None, &["github"])]);
    let mirror = restart(mirror, dir.path(), without).await;
    let got = mirror.get(LIST).await;
    assert_eq!(got.status, 403);
    assert!(message(&got).contains("source-changed") && message(&got).contains("gitee"), "{}", message(&got));
    assert_eq!(got.json()["code"], "source-changed");
    let no_rows = with_routes(&forge, &[]);
    let mirror = restart(mirror, dir.path(), no_rows).await;
    assert_eq!(source(&mirror, &mirror.get(LIST).await), "gitee", "the default upstream takes no recorded name");
    let aliased = setup(&forge).with(|config| {
        config.names.aliases.insert("acme/tool".into(), "github:acme/tool".into());
    });
    let mirror = restart(mirror, dir.path(), aliased).await;
    let url = mirror.get(LIST).await.json()[0]["zipball_url"].as_str().expect("a text").to_owned();
    assert!(url.ends_with("/acme/tool/zipball/1.0.0") && !url.contains("gitee"), "an alias takes the name: {url}");
}

#[tokio::test]
async fn a_row_without_upstreams_is_404_in_its_dialect() {
    let forge = Forge::start().await;
    forge.repo("devsapp/core").release("1.0.0", |r| r);
    let rows = [row("devsapp/*", Some(DialectName::Github), &[])];
    let mirror = with_routes(&forge, &rows).start().await;
    assert_eq!(mirror.get("/repos/devsapp/core/releases").await.status, 404);
    assert_eq!(mirror.get("/repos/devsapp/core/zipball/1.0.0").await.status, 404);
    assert!(forge.requests().is_empty());
    assert_eq!(mirror.get("/devsapp/core/releases").await.status, 200, "the other dialects have no such row");
}

#[tokio::test]
async fn a_refused_credential_makes_a_404_no_proof_of_absence() {
    let forge = Forge::start().await;
    forge.repo("acme/tool").release("1.0.0", |r| r);
    let mirror = gitee_first(&forge).token("gitee", "EXPIRED").start().await;
    let json = [("content-type", "application/json")];
    // The forge refuses the token; without it, it hides what only the token may see.
    forge.fault(Match::on(Host::Gitee), Fault::status(401, &json, "{}")).times(1);
    assert_eq!(mirror.get("/acme/first/releases").await.status, 502);
    forge.fault(Match::on(Host::Gitee), Fault::status(404, &json, "{}")).always();
    assert_eq!(mirror.get(LIST).await.status, 502);
    assert_eq!(requests_to(&forge, Host::GithubApi), 0, "the next upstream is not asked");
}
