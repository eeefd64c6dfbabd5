//! The package policy, and the form of a valid request.

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    for name in ["devsapp/fc3", "devsapp/evil", "other/thing"] {
        forge.repo(name).release("v1.0.0", |r| r);
    }
    forge.gitee_repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge
}

const BELOW: [&str; 9] = [
    "releases",
    "releases/latest",
    "releases/tags/v1.0.0",
    "releases?per_page=1",
    "zipball/v1.0.0",
    "zipball/refs/heads/main",
    "zipball/0123456789012345678901234567890123456789",
    "metadata",
    "metadata/v1.0.0",
];

fn routes(owner: &str, repo: &str) -> Vec<String> {
    let mut routes: Vec<String> = BELOW.iter().map(|rest| format!("/{owner}/{repo}/{rest}")).collect();
    routes.extend(BELOW.iter().map(|rest| format!("/github/{owner}/{repo}/{rest}")));
    routes.extend(BELOW.iter().take(5).map(|rest| format!("/simple/{owner}/{repo}/{rest}")));
    for root in ["/repos", "/api/v3/repos"] {
        routes.push(format!("{root}/{owner}/{repo}"));
        routes.extend(BELOW[..5].iter().map(|rest| format!("{root}/{owner}/{repo}/{rest}")));
        routes.push(format!("{root}/{owner}/{repo}/releases/1"));
    }
    for rest in ["release/latest", "release/tags/v1.0.0", "release"] {
        routes.push(format!("/v3/packages/{owner}__{repo}/{rest}"));
    }
    routes
}

#[tokio::test]
async fn deny_wins_over_allow_on_every_route_in_any_case_without_an_upstream_request() {
    let forge = forge().await;
    let mirror = setup(&forge)
        .with(|config| {
            config.packages.allow = vec!["github:devsapp/*".into()];
            config.packages.deny = vec!["*/evil".into()];
        })
        .start()
        .await;
    for (owner, repo) in [("devsapp", "evil"), ("DevsApp", "EVIL"), ("other", "thing")] {
        for route in routes(owner, repo) {
            for got in [mirror.get(&route).await, mirror.head(&route).await] {
                assert_eq!(got.status, 403, "{route}");
            }
        }
        let flat = mirror.get(&format!("/{owner}/{repo}/flat/v1.0.0")).await.status;
        assert!(matches!(flat, 403 | 404), "{flat}");
    }
    assert_eq!(mirror.get("/gitee/devsapp/fc3/releases").await.status, 403, "allowed on github only");
    assert!(forge.requests().is_empty());
    assert_eq!(mirror.get("/DEVSAPP/fc3/releases").await.status, 200);
}

#[tokio::test]
async fn a_package_that_is_denied_later_is_hidden_though_it_is_stored() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/devsapp/evil/zipball/v1.0.0").await.status, 200);
    mirror.stop().await;
    let mirror =
        setup(&forge).with(|config| config.packages.deny = vec!["devsapp/evil".into()]).start_in(dir.path()).await;
    for route in routes("devsapp", "evil") {
        assert_eq!(mirror.get(&route).await.status, 403, "{route}");
    }
}

#[tokio::test]
async fn an_alias_does_not_bypass_the_policy() {
    let forge = forge().await;
    let mirror = setup(&forge)
        .with(|config| {
            config.packages.deny = vec!["devsapp/evil".into()];
            config.names.aliases.insert("nice".into(), "devsapp/evil".into());
            config.names.default_owner = Some("devsapp".into());
        })
        .start()
        .await;
    for path in ["/nice/releases", "/nice/zipball/v1.0.0", "/evil/zipball/v1.0.0", "/v3/packages/nice/release/latest"] {
        assert_eq!(mirror.get(path).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_malformed_request_is_400_naming_the_part_in_one_line_of_json() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let long = format!("/devsapp/fc3/zipball/{}", "v".repeat(5000));
    for (path, part) in [
        ("/dev%20sapp/fc3/releases", "owner"),
        ("/devsapp/f%3Cc3/releases", "repo"),
        ("/devsapp/fc3/zipball/a%00b", "path"),
        ("/devsapp/fc3/zipball/a%0Ab", "path"),
        ("/devsapp//releases", "path"),
        ("/devsapp/fc3/zipball/", "path"),
        ("/devsapp/%2e%2e/releases", "path"),
        ("/devsapp/fc3/zipball/%2e%2e/x", "path"),
        ("/devsapp/fc3/zipball/%zz", "path"),
        ("/devsapp/fc3/zipball/%ff", "path"),
        ("/devsapp/fc3/zipball/a..b", "version"),
        ("/devsapp/fc3/releases/tags/a~b", "version"),
        ("/devsapp/fc3/metadata/a%5Eb", "version"),
        ("/devsapp/fc3/releases?per_page=0", "per_page"),
        ("/devsapp/fc3/releases?per_page=101", "per_page"),
        ("/devsapp/fc3/releases?page=-1", "page"),
        ("/devsapp/fc3/releases?page=1e3", "page"),
        (&long, "version"),
    ] {
        // Sent as written: a client library would normalise the path.
        let answer = raw(&mirror, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        let (head, text) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(json["status"], "400", "{path}");
        let message = json["message"].as_str().expect("text");
        assert!(message.contains(part), "{path} names no {part}: {message}");
        assert!(text.len() < 400 && text.trim_end().lines().count() == 1, "{path}: {text}");
    }
    assert!(forge.requests().is_empty());
}

#[tokio::test]
async fn an_unknown_route_is_404_and_a_writing_method_405_with_allow() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    for path in [
        "/",
        "/favicon.ico",
        "/devsapp",
        "/devsapp/fc3",
        "/devsapp/fc3/issues",
        "/gitee/devsapp",
        "/devsapp/fc3/releases/latest/x",
        "/repos/devsapp",
        "/api/v4/repos/devsapp/fc3",
        "/simple",
        "/healthz/x",
    ] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 404, "{path}: {:?}", got.body);
        assert!(got.json().is_object(), "{path}");
        assert_eq!(got.cache_status(), "srm-mirror", "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for path in [
            "/devsapp/fc3/releases",
            "/devsapp/fc3/zipball/v1.0.0",
            "/repos/devsapp/fc3",
            "/simple/devsapp/fc3/releases",
        ] {
            let got = mirror.request(method.clone(), path, &[]).await.expect("an answer");
            assert_eq!((got.status, got.header("allow")), (405, "GET, HEAD"), "{method} {path}");
            assert!(got.json().is_object());
        }
    }
    let published = mirror.request(Method::POST, "/v3/packages/fc3/release", &[]).await.expect("an answer");
    assert_eq!(published.status, 405);
    assert!(published.json()["body"].is_string(), "the CLI prints it");
    assert!(forge.requests().is_empty());
}

#[tokio::test]
async fn errors_in_place_of_a_zip_close_the_connection() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.packages.deny = vec!["*/evil".into()]).start().await;
    for (path, status) in [
        ("/devsapp/evil/zipball/v1.0.0", 403),
        ("/devsapp/none/zipball/v1.0.0", 404),
        ("/devsapp/fc3/zipball/a%00b", 400),
        ("/dev%20sapp/fc3/zipball/v1.0.0", 400),
    ] {
        let got = mirror.get(path).await;
        assert_eq!((got.status, got.header("connection")), (status, "close"), "{path}");
    }
    assert_eq!(mirror.get("/devsapp/none/releases").await.header("connection"), "", "JSON clients read their errors");
}

async fn raw(mirror: &Mirror, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(mirror.address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("reads");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_host_field_makes_addresses_but_cannot_change_what_they_mean() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let ask = async |hosts: &str| {
        raw(&mirror, &format!("GET /devsapp/fc3/releases/latest HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await
    };
    assert!(
        ask("Host: mirror.example:8080\r\n")
            .await
            .contains(r#""http://mirror.example:8080/devsapp/fc3/zipball/v1.0.0""#)
    );
    assert!(ask("Host: [::1]:8080\r\n").await.contains(r#""http://[::1]:8080/devsapp/fc3/zipball/v1.0.0""#));
    assert!(
        ask("Host: mirror.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n")
            .await
            .contains(r#""http://mirror.example/devsapp/fc3/zipball/v1.0.0""#)
    );
    for hosts in [
        "Host: evil.example/x\r\n",
        "Host: user@evil.example\r\n",
        "Host: a b\r\n",
        "Host: a\"b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a\r\nHost: b\r\n",
    ] {
        let answer = ask(hosts).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{hosts:?}: {answer}");
    }
    let absolute =
        "GET http://proxied.example/devsapp/fc3/releases/latest HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n";
    assert!(raw(&mirror, absolute).await.contains(r#""http://proxied.example/devsapp/fc3/zipball/v1.0.0""#));
    let old = "GET /devsapp/fc3/releases/latest HTTP/1.0\r\n\r\n";
    assert!(raw(&mirror, old).await.contains(&format!("http://{}/devsapp/fc3/zipball/v1.0.0", mirror.address)));
}

#[tokio::test]
async fn a_public_url_is_the_base_of_every_address_whatever_the_client_calls_the_mirror() {
    let forge = forge().await;
    let url = "https://mirror.example/srm/".parse().expect("an address");
    let mirror = setup(&forge).with(|config| config.server.public_url = Some(url)).start().await;
    for (path, zip) in [
        ("/devsapp/fc3/releases/latest", "https://mirror.example/srm/devsapp/fc3/zipball/v1.0.0"),
        ("/gitee/devsapp/fc3/releases/latest", "https://mirror.example/srm/gitee/devsapp/fc3/zipball/v1.0.0"),
    ] {
        for _ in 0..2 {
            let got = mirror.get_with(path, &[("host", "other.example")]).await;
            assert_eq!(got.json()["zipball_url"], zip, "{path}");
        }
    }
    let page = mirror.get("/repos/devsapp/fc3/releases?per_page=1&page=2").await;
    assert!(page.header("link").contains("<https://mirror.example/srm/repos/devsapp/fc3/releases?per_page=1&page=1>"));
}

#[tokio::test]
async fn the_mirrors_own_request_that_returns_to_it_is_508() {
    // The first start takes a free port; the second has its own address as upstream.
    let forge = forge().await;
    let first = setup(&forge).start().await;
    let address = first.address;
    first.stop().await;
    let api = format!("http://{address}");
    let mirror = setup(&forge)
        .with(|config| {
            config.server.listen = vec![address];
            if let Some(section) = config.upstreams.get_mut("github") {
                section.api = api.parse().expect("an address");
            }
        })
        .start()
        .await;
    for path in ["/devsapp/fc3/releases", "/devsapp/fc3/zipball/v1.0.0", "/devsapp/x/releases/latest"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 508, "{path}: {:?}", got.body);
        let message = got.json()["message"].as_str().expect("text").to_owned();
        assert!(message.contains("came back") && !message.contains(&address.to_string()), "{message}");
    }
}

#[tokio::test]
async fn another_mirror_in_front_is_no_loop() {
    let forge = forge().await;
    let behind = setup(&forge).start().await;
    let api = behind.url("");
    let front = setup(&forge)
        .with(|config| {
            if let Some(section) = config.upstreams.get_mut("github") {
                section.api = api.parse().expect("an address");
            }
        })
        .start()
        .await;
    let list = front.get("/devsapp/fc3/releases").await;
    assert_eq!(list.status, 200, "{:?}", list.body);
    assert_eq!(list.json()[0]["zipball_url"], front.url("/devsapp/fc3/zipball/v1.0.0"));
    assert_eq!(front.get("/devsapp/fc3/zipball/v1.0.0").await.sha256(), forge.sha256("devsapp/fc3", "v1.0.0"));
}
