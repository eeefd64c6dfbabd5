//! The 3.x client: names without a slash, one envelope, zips without a top folder, and the catalog.

use std::{io::Cursor, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use srm_mirror::registry::Private;

use crate::{
    answer_text::golden,
    eventually::eventually,
    forge::{self, Fault, Fields, Forge, Host, Match, Route, Spec, Times},
    mirror::{Mirror, PrintedError, Setup, TestResponse, setup},
};

mod catalog;

const HOST: [(&str, &str); 1] = [("host", "api.devsapp.cn")];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| component(r, "2024-01-02", "fc3", "函数 Compute"))
        .release("v1.1.0", |r| component(r, "2024-02-02", "fc3", "函数 Compute, third edition"));
    forge.repo("acme/tool").release("2.0.0", |r| r.created_at("2024-01-03T08:00:00Z").file("index.js", "2"));
    forge.gitee_repo("devsapp/start-fc").release("0.1.0", |r| component(r, "2024-01-04", "start-fc", "A start"));
    forge
}

fn component(spec: Spec, day: &str, name: &str, description: &str) -> Spec {
    spec.created_at(&format!("{day}T08:00:00Z")).file("index.js", day).publish_yaml(&format!(
        "Type: Component\nName: {name}\nDescription: {description}\nCategory: Basics\nTags: [FC, http]\n"
    ))
}

fn usual(forge: &Forge) -> Setup {
    setup(forge).with(|config| {
        config.names.default_owner = Some("devsapp".into());
        config.names.aliases.insert("start".into(), "gitee:devsapp/start-fc".into());
    })
}

/// The value that the client reads, or the error it prints when the body is a string.
fn value_of_client(got: &TestResponse) -> Result<Value, PrintedError> {
    let body = got.json();
    assert_eq!(body["request_id"], got.header("x-request-id"));
    match &body["body"] {
        Value::String(text) => Err(PrintedError(text.clone())),
        Value::Null => panic!("no body: {body}"),
        value => Ok(value.clone()),
    }
}

fn names(zip: &[u8]) -> Vec<String> {
    zip::ZipArchive::new(Cursor::new(zip))
        .expect("a zip")
        .file_names()
        .map(|name| name.expect("a name").into_owned())
        .collect()
}

/// Loads a component as the client does and returns the code that it got.
async fn load(mirror: &Mirror, path: &str) -> String {
    let release = value_of_client(&mirror.get(path).await).expect("a release");
    let url = release["zipball_url"].as_str().expect("a text").to_owned();
    let zip = mirror.get(url.strip_prefix(&mirror.url("")).expect("an absolute address on the mirror")).await;
    assert_eq!(zip.status, 200, "{:?}", zip.body);
    assert!(names(&zip.body).contains(&"index.js".to_owned()), "no top folder: {:?}", names(&zip.body));
    let mut archive = zip::ZipArchive::new(Cursor::new(&zip.body[..])).expect("a zip");
    let mut code = archive.by_name("index.js").expect("the code");
    std::io::read_to_string(&mut code).expect("text")
}

#[tokio::test]
async fn successes_have_the_envelope_of_the_3x_registry() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    for (name, path) in [
        ("latest", "/v3/packages/fc3/release/latest"),
        ("tag", "/v3/packages/fc3/release/tags/1.0.0"),
        ("detail", "/v3/packages/fc3/release?page=1"),
        ("detail_beyond_the_end", "/v3/packages/fc3/release?page=2"),
        ("gitee", "/v3/packages/start/release/latest"),
    ] {
        insta::assert_snapshot!(format!("v3_{name}"), golden(&mirror.get_with(path, &HOST).await));
    }
}

#[tokio::test]
async fn errors_are_a_string_in_the_envelope_with_their_status() {
    let forge = forge().await;
    let mirror = usual(&forge).with(|config| config.packages.deny = vec!["evil/*".into()]).start().await;
    for (name, method, path) in [
        ("no_package", "GET", "/v3/packages/nothing/release/latest"),
        ("no_version", "GET", "/v3/packages/fc3/release/tags/9.9.9"),
        ("no_route", "GET", "/v3/packages/fc3/latest"),
        ("bad_name", "GET", "/v3/packages/a%2Fb/release/latest"),
        ("bad_page", "GET", "/v3/packages/releases?page=x"),
        ("bad_type", "GET", "/v3/packages/releases?type=9"),
        ("denied", "GET", "/v3/packages/evil__thing/release/latest"),
        ("publish", "POST", "/v3/packages/releases"),
        ("remove", "DELETE", "/v3/packages/fc3/release/tags/1.0.0"),
        ("token", "POST", "/v3/user/token"),
        ("login", "GET", "/v3/user/check?token=x"),
    ] {
        let got = mirror.request(method.parse().expect("a method"), path, &HOST).await.expect("an answer");
        value_of_client(&got).expect_err("a text");
        insta::assert_snapshot!(format!("v3_error_{name}"), golden(&got));
    }
}

#[tokio::test]
async fn a_client_has_no_packages_of_its_own_here_and_a_filter_only_known_values() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    // `registry list --private` ends with an error for anything that is no array.
    let own = mirror.get_with("/v3/package/user?page=1", &[("sign_code", "x"), ("token", "y")]).await;
    assert_eq!((own.status, value_of_client(&own)), (200, Ok(json!([]))));
    for path in ["/v3/packages/fc3/zipball/v1.0.0", "/acme/tool/zipball/2.0.0"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    let menu = value_of_client(&mirror.get("/v3/common/categories").await).expect("a menu");
    assert_eq!(menu, json!([{"id": "Basics", "name": "Basics"}]));
    assert_eq!(value_of_client(&mirror.get("/v3/common/providers").await), Ok(json!([])), "no zip names one");
    for (query, names) in [
        ("?type=1", &["fc3"][..]),
        ("?type=component&category=BASICS&tag=fc", &["fc3"]),
        ("?type=3", &[]),
        ("?category=Basic", &[]),
        ("?tag=F", &[]),
        ("?provider=x", &[]),
        ("?platform=3&lang=en&page=-1", &["acme__tool", "fc3", "start"]),
        ("?page=-1&per_page=1", &["acme__tool", "fc3", "start"]),
        ("?per_page=1&page=2", &["fc3"]),
    ] {
        assert_eq!(listed(&mirror, query).await, names, "{query}");
    }
    let all = value_of_client(&mirror.get("/v3/packages/fc3/release?page=-1").await).expect("rows");
    assert_eq!(all.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn an_upstream_failure_is_a_sentence_in_every_dialect() {
    let paths =
        ["/v3/packages/fc3/release/latest", "/simple/fc3/releases", "/fc3/releases", "/repos/devsapp/fc3/releases"];
    let limited =
        Fault::status(403, &[("x-ratelimit-remaining", "0"), ("retry-after", "77")], r#"{"message":"SECRET"}"#);
    for (name, fault, status) in [
        ("limited", limited, 503),
        ("unreachable", Fault::Refuse, 502),
        ("html", Fault::Html200, 502),
        ("broken", Fault::status(500, &[], "SECRET"), 502),
    ] {
        for path in paths {
            let forge = forge().await;
            let mirror = usual(&forge).start().await;
            forge.fault(Match::on(Host::GithubApi), fault.clone()).always();
            let got = mirror.get(path).await;
            assert_eq!(got.status, status, "{name} {path}: {:?}", got.body);
            let text = String::from_utf8_lossy(&got.body).into_owned();
            assert!(!text.contains("SECRET") && !text.contains("127.0.0.1"), "{text}");
            assert!(text.contains("devsapp/fc3") && text.contains("github"), "{text}");
            assert_eq!(got.header("retry-after"), if name == "limited" { "77" } else { "5" }, "{name}");
            if path.starts_with("/v3") {
                insta::assert_snapshot!(format!("v3_trouble_{name}"), golden(&got));
            }
        }
    }
}

#[tokio::test]
async fn every_spelling_of_a_name_is_accepted() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    for (path, tag) in [
        ("/v3/packages/fc3/release/latest", "v1.1.0"),
        ("/v3/packages/FC3/release/tags/1.0.0", "v1.0.0"),
        ("/v3/packages/fc3/release/tags/v1.0.0", "v1.0.0"),
        ("/v3/packages/devsapp__fc3/release/latest", "v1.1.0"),
        ("/v3/packages/acme__tool/release/latest", "2.0.0"),
        ("/v3/packages/acme__tool/release/tags/v2.0.0", "2.0.0"),
        ("/v3/packages/github__acme__tool/release/latest", "2.0.0"),
        ("/v3/packages/start/release/latest", "0.1.0"),
        ("/v3/packages/gitee__devsapp__start-fc/release/latest", "0.1.0"),
        // A base URL with a trailing slash.
        ("/v3//packages/fc3/release/latest", "v1.1.0"),
        ("//v3/packages/fc3/release/latest", "v1.1.0"),
    ] {
        let got = mirror.get(path).await;
        assert_eq!(value_of_client(&got).expect(path)["tag_name"], tag, "{path}");
    }
    let gitee = value_of_client(&mirror.get("/v3/packages/start/release/latest").await).expect("a release");
    assert_eq!(gitee["zipball_url"], mirror.url("/v3/packages/gitee__devsapp__start-fc/zipball/0.1.0"));
    let mirror = setup(&forge).with(|config| config.names.official = Some(false)).start().await;
    let plain = mirror.get("/v3/packages/fc3/release/latest").await;
    assert_eq!(plain.status, 404, "a plain name without a route");
    assert!(value_of_client(&plain).expect_err("a text").0.contains("no route says where fc3 comes from"));
}

/// The fields that an archive may add to a release.
const DETAILS: [&str; 8] = ["type", "description", "provider", "category", "tags", "home", "readme", "syaml"];

fn details(release: &Value) -> Vec<&'static str> {
    DETAILS.into_iter().filter(|field| release.get(field).is_some()).collect()
}

#[tokio::test]
async fn the_archive_says_what_the_upstream_leaves_out_and_no_zip_is_fetched_for_json() {
    let forge = Forge::start().await;
    forge.registry().options(|options| options.fields = Fields::Certain);
    drop(forge.registry().application("start-web").version("2.0.0"));
    forge.repo("acme/start-web").release("v2.0.0", |spec| {
        spec.application_files("3.0.0", "start-web", "2.0.0", "fc3").created_at("2024-01-02T08:00:00Z")
    });
    let dir = tempfile::tempdir().expect("a directory");
    // With a fixed address, rendered JSON is cached.
    let public = setup(&forge).with(|config| {
        config.server.public_url = Some("http://mirror.example".parse().expect("an address"));
    });
    let mirror = public.start_in(dir.path()).await;
    for (name, spec, version) in [
        ("start-web", "official:start-web@2.0.0", "2.0.0"),
        ("acme__start-web", "github:acme/start-web@v2.0.0", "v2.0.0"),
    ] {
        let latest = format!("/v3/packages/{name}/release/latest");
        let tag = format!("/v3/packages/{name}/release/tags/{version}");
        for path in [&latest, &tag] {
            for _ in 0..2 {
                let release = value_of_client(&mirror.get(path).await).expect("a release");
                assert_eq!(details(&release), [""; 0], "{path}");
            }
        }
        let is_zip = |seen: &forge::Seen| matches!(seen.route(), Route::V3Zip | Route::Storage | Route::Archive);
        assert_eq!(forge.count(is_zip), 0, "{name}");
        assert_eq!(mirror.get(&format!("/v3/packages/{name}/zipball/{version}")).await.status, 200, "{name}");
        for path in [&latest, &tag] {
            // A zip is stored a moment after its client has it.
            let expected = ["type", "description", "provider", "category", "tags", "readme", "syaml"];
            let stored = async || details(&value_of_client(&mirror.get(path).await).expect("a release")) == expected;
            eventually("the zip says the rest", stored).await;
            let release = value_of_client(&mirror.get(path).await).expect("a release");
            assert_eq!(release["type"], "Project");
            assert_eq!(release["readme"], "# start-web\n\nA demo application.\n");
            assert!(release["syaml"].as_str().expect("a text").contains("component: fc3"), "{release}");
        }
        // The manifest stays with the pin, the files go with the zip.
        mirror.admin(dir.path(), "rm", json!({"pattern": spec})).await;
        forge.clear_log();
        let release = value_of_client(&mirror.get(&tag).await).expect("a release");
        assert_eq!(details(&release), ["type", "description", "provider", "category", "tags"], "{name}");
        assert_eq!(forge.count(is_zip), 0, "{name}");
    }
}

#[tokio::test]
async fn the_zips_address_of_each_dialect_names_the_upstream_that_answered() {
    let forge = Forge::start().await;
    drop(forge.registry().component("fc3").version("0.1.22"));
    drop(forge.simple_registry().component("core").version("0.1.66"));
    let mirror = Mirror::over(&forge).await;
    for (path, zip) in [
        ("/fc3/releases/latest", "/official/fc3/zipball/0.1.22"),
        ("/core/releases/latest", "/official-2x/core/zipball/0.1.66"),
        ("/simple/fc3/releases/latest", "/simple/official/fc3/zipball/0.1.22"),
        ("/simple/core/releases/latest", "/simple/official-2x/core/zipball/0.1.66"),
        ("/simple/devsapp/core/releases/latest", "/simple/official-2x/core/zipball/0.1.66"),
        ("/v3/packages/fc3/release/latest", "/v3/packages/official__fc3/zipball/0.1.22"),
        ("/v3/packages/fc3/release/tags/0.1.22", "/v3/packages/official__fc3/zipball/0.1.22"),
        ("/v3/packages/official-2x__core/release/latest", "/v3/packages/official-2x__core/zipball/0.1.66"),
    ] {
        let json = mirror.get(path).await.json();
        let release = json.get("body").filter(|body| body.is_object()).or(json.get("Response")).unwrap_or(&json);
        assert_eq!(release["zipball_url"], mirror.url(zip), "{path}");
        assert_eq!(mirror.get(zip).await.status, 200, "{zip}");
    }
}

#[tokio::test]
async fn a_release_without_a_date_has_the_time_when_it_was_first_seen() {
    let forge = Forge::start().await;
    let mirror = Mirror::over(&forge).await;
    forge.registry().options(|options| options.times = Times::Absent);
    let fc3 = forge.registry().component("fc3").version("0.1.22");
    let created = async |path: &str| {
        let release = value_of_client(&mirror.get(path).await).expect("a release");
        let row = release.get(0).unwrap_or(&release);
        row["created_at"].as_str().expect("a text").to_owned()
    };
    let paths = ["/v3/packages/fc3/release/latest", "/v3/packages/fc3/release/tags/0.1.22", "/v3/packages/fc3/release"];
    let mut first = Vec::new();
    for path in paths {
        first.push(created(path).await);
    }
    drop(fc3.about(|about| about.readme = "changed".into()));
    mirror.clock.advance(Duration::from_secs(3600));
    for (path, first) in paths.into_iter().zip(first) {
        assert_eq!(created(path).await, first, "{path}");
    }
}

#[tokio::test]
async fn a_component_is_loaded_without_its_folder_and_updated_to_the_new_code() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    assert_eq!(load(&mirror, "/v3/packages/fc3/release/tags/1.0.0").await, "2024-01-02");
    assert_eq!(load(&mirror, "/v3/packages/fc3/release/latest").await, "2024-02-02");
    assert_eq!(load(&mirror, "/v3/packages/start/release/latest").await, "2024-01-04");
    forge.repo("devsapp/fc3").release("v1.2.0", |r| component(r, "2024-03-02", "fc3", "x"));
    mirror.clock.advance(Duration::from_secs(3600));
    assert_eq!(load(&mirror, "/v3/packages/fc3/release/latest").await, "2024-03-02");
    assert_eq!(load(&mirror, "/v3/packages/fc3/release/tags/v1.0.0").await, "2024-01-02");
}

/// The names of a list.
async fn listed(mirror: &Mirror, query: &str) -> Vec<String> {
    let got = mirror.get(&format!("/v3/packages/releases{query}")).await;
    let list = value_of_client(&got).expect("a list");
    list.as_array().expect("an array").iter().map(|row| row["name"].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn no_client_input_leaves_the_mirror() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    let own = [
        ("sign_code", "SIGNCODE"),
        ("nonce", "NONCE"),
        ("timestamp", "1700000000"),
        ("token", "CLIENTTOKEN"),
        ("authorization", "Bearer CLIENTTOKEN"),
        ("cookie", "session=CLIENTTOKEN"),
        ("user-agent", "CLIENTAGENT"),
        ("x-forwarded-for", "192.0.2.9"),
        ("referer", "http://client.example/CLIENTTOKEN"),
        ("if-none-match", "\"CLIENTTAG\""),
        ("range", "bytes=0-"),
    ];
    for path in [
        "/v3/packages/fc3/release/latest?token=CLIENTTOKEN",
        "/v3/packages/fc3/release/tags/1.0.0",
        "/v3/packages/releases?search=CLIENTTOKEN",
        "/v3/packages/fc3/release",
        "/fc3/flat/v1.0.0",
        "/fc3/zipball/v1.1.0",
        "/start/zipball/0.1.0",
        "/simple/fc3/releases",
        "/repos/devsapp/fc3",
    ] {
        let got = mirror.request(Method::GET, path, &own).await.expect("an answer");
        assert!(matches!(got.status, 200 | 206), "{path}: {} {:?}", got.status, got.body);
    }
    let seen = forge.requests();
    assert!(seen.len() >= 5);
    for request in seen {
        for name in [
            "sign_code",
            "nonce",
            "timestamp",
            "token",
            "authorization",
            "cookie",
            "x-forwarded-for",
            "referer",
            "range",
        ] {
            assert!(!request.headers.contains_key(name), "{name} in {request:?}");
        }
        let text = format!("{request:?}");
        assert!(!text.contains("CLIENT") && !text.contains("SIGNCODE") && !text.contains("NONCE"), "{text}");
    }
}
