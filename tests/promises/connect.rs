//! `srm-mirror connect` prints the set-up of each client, and `--check` says which of it works.

use serde_json::{Value, json};
use srm_mirror::access::RuleConfig;

use crate::{
    closed_port::ClosedPort,
    forge::Forge,
    mirror::setup,
    tls::{files, init, program, with_tls},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.file("index.js", b"1").publish_yaml("Type: Component\nName: fc3\n"));
    forge
}

async fn checks(arguments: &[&str]) -> (Option<i32>, Vec<(String, String, String)>) {
    let done = program(&[&["connect", "--check", "--json"], arguments].concat()).await;
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("no JSON: {done:?}"));
    let text = |check: &Value, key: &str| check[key].as_str().expect("text").to_owned();
    let row = |check: &Value| (text(check, "client"), text(check, "state"), text(check, "detail"));
    (done.status.code(), answer["checks"].as_array().expect("checks").iter().map(row).collect())
}

#[tokio::test]
async fn every_route_of_a_good_mirror_works() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let (_, checks) = checks(&[&mirror.url(""), "--package", "devsapp/fc3"]).await;
    assert!(checks.len() >= 14, "{checks:?}");
    for (client, state, detail) in &checks {
        let wanted = match client.as_str() {
            // The forge has no core of s 2 and no plain names, and the mirror no TLS: no fault of this mirror.
            "s 2 core" | "s 3 by plain name" | "s 3 init NAME" => "off",
            _ => "ok",
        };
        assert_eq!(state, wanted, "{client}: {detail}");
    }
    let said = |who: &str| checks.iter().find(|check| check.0 == who).map(|check| check.2.clone()).expect(who);
    assert_eq!(said("srm"), "v1.0.0", "the latest version is found and used");
    assert!(said("curl -C, wget -c").starts_with("a zip, hit"));
}

#[tokio::test]
async fn a_client_that_sends_no_token_is_checked_without_one() {
    let forge = forge().await;
    let closed = setup(&forge).with(|config| {
        config.access.enabled = true;
        let texts = |text: &str| vec![text.to_owned()];
        config.access.rules =
            vec![RuleConfig { packages: texts("devsapp/*"), read: texts("token:ci"), ..RuleConfig::default() }];
    });
    let mirror = closed.start().await;
    let ask = json!({"name": "ci", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
    let created = mirror.admin(mirror.dir(), "token/create", ask).await;
    let file = mirror.dir().join("token");
    std::fs::write(&file, created[0]["secret"].as_str().expect("a secret")).expect("written");
    let file = file.to_str().expect("text");
    let (code, checks) = checks(&[&mirror.url(""), "--package", "devsapp/fc3", "--token-file", file]).await;
    assert_eq!(code, Some(0), "{checks:?}");
    for (client, state, detail) in &checks {
        let sends_none = client.starts_with("s 2") || client == "s 3 by URL, init --uri";
        assert_eq!(detail.contains("sends no token"), sends_none, "{client}: {detail}");
        let off = sends_none || ["s 3 by plain name", "s 3 init NAME"].contains(&client.as_str());
        assert_eq!(state, if off { "off" } else { "ok" }, "{client}: {detail}");
    }
}

#[tokio::test]
async fn a_good_mirror_is_exit_code_0() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let (code, checks) = checks(&[&mirror.url(""), "--package", "devsapp/fc3"]).await;
    assert_eq!(code, Some(0), "{checks:?}");
}

#[tokio::test]
async fn a_mirror_with_tls_for_the_real_names_serves_init_by_name() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["localhost", "api.devsapp.cn"];
    assert!(init(dir.path(), &names, &[]).await.status.success());
    let mirror = with_tls(setup(&forge), vec![files(dir.path(), "localhost")]);
    let mirror = mirror.with(|config| config.names.default_owner = Some("devsapp".into())).start().await;
    let url = format!("https://localhost:{}", mirror.tls_address.expect("TLS").port());
    let ca = dir.path().join("ca.pem");
    let by_plain_name = checks(&[&url, "--ca-file", ca.to_str().expect("text")]).await.1;
    let (_, checks) = checks(&[&url, "--ca-file", ca.to_str().expect("text"), "--package", "devsapp/fc3"]).await;
    let state = |who: &str| checks.iter().find(|check| check.0 == who).map(|check| check.1.clone()).expect(who);
    assert_eq!(state("s 3 init NAME"), "ok", "{checks:?}");
    assert_eq!(state("s 3 by plain name"), "ok", "{checks:?}");
    let off: Vec<_> = by_plain_name.iter().filter(|check| check.1 != "ok").map(|check| check.0.as_str()).collect();
    assert_eq!(off, ["s 2 core", "octokit", "PyGithub", "s 2 by hosts entry"], "{by_plain_name:?}");
    assert_eq!(state("s 2 by hosts entry"), "off", "the certificate is not for registry.devsapp.cn");

    let untrusted = program(&["connect", &url, "--check"]).await;
    let said = String::from_utf8_lossy(&untrusted.stderr).into_owned();
    assert_eq!(untrusted.status.code(), Some(69), "{said}");
    assert!(said.contains("--ca-file"), "{said}");
}

#[tokio::test]
async fn a_missing_package_is_named_with_the_mirrors_message() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let (code, checks) = checks(&[&mirror.url(""), "--package", "devsapp/none@1.0.0"]).await;
    assert_eq!(code, Some(1));
    let (_, state, detail) = checks.iter().find(|check| check.0 == "octokit").expect("a row");
    assert_eq!(state, "fails");
    assert!(detail.starts_with("404 ") && detail.contains("devsapp/none"), "{detail}");
}

#[tokio::test]
async fn an_address_without_a_listener_is_one_sentence_and_69() {
    let closed = ClosedPort::new();
    let unused = closed.address();
    let done = program(&["connect", &format!("http://{unused}"), "--check"]).await;
    let said = String::from_utf8(done.stderr).expect("text");
    assert_eq!((done.status.code(), said.lines().count()), (Some(69), 1), "{said}");
    assert!(said.contains(&format!("http://{unused} cannot be reached")), "{said}");
}

#[tokio::test]
async fn printing_the_set_up_needs_no_mirror() {
    for (package, lines) in [
        (
            "devsapp/fc3@1.0.0",
            [
                "component: devsapp__fc3@1.0.0\n",
                "component: http://127.0.0.1:8080/devsapp/fc3/zipball/1.0.0#/fc3-1-0-0",
                "s init --uri http://127.0.0.1:8080/devsapp/fc3/zipball/1.0.0",
            ],
        ),
        (
            "fc3",
            [
                "component: fc3\n",
                "component: http://127.0.0.1:8080/fc3/zipball/VERSION#/fc3-VERSION",
                "s init --uri http://127.0.0.1:8080/fc3/zipball/VERSION",
            ],
        ),
    ] {
        let done = program(&["connect", "http://127.0.0.1:8080", "--package", package]).await;
        let said = String::from_utf8(done.stdout).expect("text");
        assert_eq!(done.status.code(), Some(0), "{said}");
        let always = ["s set registry http://127.0.0.1:8080/v3\n", "127.0.0.1 registry.devsapp.cn"];
        for line in lines.into_iter().chain(always) {
            assert!(said.contains(line), "{line} is missing:\n{said}");
        }
    }
}

#[tokio::test]
async fn a_mirror_without_configuration_serves_plain_names_to_both_command_lines() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.22");
    let core = forge.simple_registry().component("core");
    let mirror = setup(&forge).start().await;
    let (code, without_core) = checks(&[&mirror.url("")]).await;
    let off = |checks: &[(String, String, String)]| {
        let off = checks.iter().filter(|check| check.1 != "ok").map(|check| check.0.clone());
        off.collect::<Vec<_>>()
    };
    assert_eq!(code, Some(0), "{without_core:?}");
    assert_eq!(off(&without_core), ["s 2 core", "octokit", "PyGithub", "s 3 init NAME"], "{without_core:?}");
    drop(core.version("0.1.66"));
    let mirror = setup(&forge).start().await;
    let (_, checks) = checks(&[&mirror.url("")]).await;
    assert_eq!(off(&checks), ["octokit", "PyGithub", "s 3 init NAME"], "{checks:?}");
}
