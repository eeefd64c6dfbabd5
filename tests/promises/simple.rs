//! The 2.x client: its registry under `/simple`, and its GitHub registry with the URLs that it rewrites.

use serde_json::Value;

use crate::{
    answer_text::golden,
    forge::Forge,
    mirror::{PrintedError, Setup, TestResponse, setup},
};

const HOST: [(&str, &str); 1] = [("host", "registry.devsapp.cn")];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let at = |r: crate::forge::Spec, day: &str| r.created_at(&format!("{day}T08:00:00Z")).file("index.js", day);
    forge
        .repo("devsapp/fc")
        .release("v0.9.0", |r| at(r, "2023-01-02").no_body())
        .release("v1.0.0", |r| at(r, "2024-01-02").body("第一版\r\n"))
        .release("dev", |r| at(r, "2024-02-02").prerelease());
    forge.repo("Serverless-Devs/core").release("0.1.66", |r| at(r, "2024-03-02"));
    forge
}

fn usual(forge: &Forge) -> Setup {
    setup(forge).with(|config| {
        config.names.default_owner = Some("devsapp".into());
        config.names.aliases.insert("devsapp/core".into(), "Serverless-Devs/core".into());
    })
}

/// The value that the client reads: `body.Response || body`, or the error's message.
fn value_of_client(got: &TestResponse) -> Result<Value, PrintedError> {
    let body = got.json();
    match body["Error"]["Message"].as_str() {
        Some(message) => Err(PrintedError(message.to_owned())),
        None => Ok(if body["Response"].is_null() { body } else { body["Response"].clone() }),
    }
}

#[tokio::test]
async fn successes_have_the_envelope_of_the_2x_registry() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    for (name, path) in [
        ("releases", "/simple/devsapp/fc/releases"),
        ("latest", "/simple/fc/releases/latest"),
        ("tag", "/simple/devsapp/fc/releases/tags/0.9.0"),
        ("page", "/simple/devsapp/fc/releases?per_page=1&page=2"),
    ] {
        insta::assert_snapshot!(format!("simple_{name}"), golden(&mirror.get_with(path, &HOST).await));
    }
}

#[tokio::test]
async fn errors_have_the_envelope_of_the_2x_registry_with_their_status() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    for (name, method, path) in [
        ("no_package", "GET", "/simple/devsapp/nothing/releases/latest"),
        ("no_version", "GET", "/simple/devsapp/fc/releases/tags/9.9.9"),
        ("no_zip", "GET", "/simple/devsapp/fc/zipball/9.9.9"),
        ("no_route", "GET", "/simple/devsapp/fc/tarball/1.0.0"),
        ("bad_name", "GET", "/simple/devsapp/f%20c/releases"),
        ("write", "POST", "/simple/devsapp/fc/releases"),
    ] {
        let got = mirror.request(method.parse().expect("a method"), path, &HOST).await.expect("an answer");
        assert!(value_of_client(&got).is_err());
        insta::assert_snapshot!(format!("simple_error_{name}"), golden(&got));
    }
}

#[tokio::test]
async fn the_2x_client_finds_its_version_in_the_list_and_gets_the_zip_with_its_folder() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    let releases = value_of_client(&mirror.get("/simple/devsapp/fc/releases").await).expect("a value");
    let found = releases.as_array().expect("an array").iter().find(|item| item["tag_name"] == "v1.0.0");
    let url = found.expect("found by ===")["zipball_url"].as_str().expect("a text").to_owned();
    let path = url.strip_prefix(&mirror.url("")).expect("an absolute address on the mirror");
    assert_eq!(path, "/simple/github/devsapp/fc/zipball/v1.0.0");
    let got = mirror.get(path).await;
    assert_eq!(got.sha256(), forge.sha256("devsapp/fc", "v1.0.0"), "the upstream's bytes");
    assert_eq!(mirror.get("/simple/devsapp/fc/zipball/1.0.0").await.sha256(), got.sha256());
    // The client does not run without this package.
    let core = mirror.get_with("/simple/devsapp/core/zipball/0.1.66", &HOST).await;
    assert_eq!(core.sha256(), forge.sha256("Serverless-Devs/core", "0.1.66"));
    // A base URL with a trailing slash.
    for path in ["//simple/devsapp/fc/releases/latest", "/simple//devsapp/fc/releases/latest"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
}

/// The URL that the 2.x client derives on its GitHub registry.
fn rewritten(url: &str) -> String {
    if !url.contains("/dev") {
        return url.to_owned();
    }
    let url = url.replacen("api.github.com", "github.com", 1).replacen("repos/", "", 1);
    match url.strip_suffix("/dev") {
        Some(rest) => format!("{rest}/refs/tags/dev"),
        None => url,
    }
}

#[tokio::test]
async fn the_urls_that_the_2x_client_rewrites_are_answered() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    let list = mirror.get_with("/repos/devsapp/fc/releases", &[("host", "api.github.com")]).await.json();
    for (index, tag) in ["dev", "v1.0.0", "v0.9.0"].into_iter().enumerate() {
        assert_eq!(list[index]["tag_name"], tag);
        let url = rewritten(list[index]["zipball_url"].as_str().expect("a text"));
        let path = url.strip_prefix("http://github.com").expect("the host it rewrites to");
        assert!(tag != "dev" || path.ends_with("/refs/tags/dev"), "{path}");
        let got = mirror.get_with(path, &[("host", "github.com")]).await;
        assert_eq!((got.status, got.sha256()), (200, forge.sha256("devsapp/fc", tag)), "{path}");
    }
}
