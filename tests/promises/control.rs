//! The control socket: the same service plus administration, for the owner of the directory only.

use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;
use serde_json::json;

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
};

#[tokio::test]
async fn administration_answers_on_the_control_socket_and_is_404_over_tcp() {
    let mirror = Mirror::over(&Forge::start().await).await;
    let pong = mirror.admin(mirror.dir(), "ping", json!({})).await;
    assert_eq!(pong[0]["pid"], json!(std::process::id()));
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        for path in [
            "/-/ping",
            "/-/stock",
            "/-/stats",
            "/-/rm",
            "/-/gc",
            "/-/warm/lists",
            "/-/warm/zip",
            "/-/import/zip",
            "//-/ping",
            "/%2D/ping",
        ] {
            let got = mirror.request(method.clone(), path, &[("host", "srm-mirror")]).await.expect("an answer");
            assert!(matches!(got.status, 404 | 405), "{method} {path}: {}", got.status);
        }
    }
    let got = mirror.control(mirror.dir(), Method::POST, "/-/nothing", "").await;
    let error = got.json();
    assert_eq!((got.status, &error["status"], &error["code"]), (404, &json!("404"), &json!("no-such-route")));
    let got = mirror.control(mirror.dir(), Method::GET, "/-/ping", "").await;
    assert_eq!((got.status, &got.json()["code"]), (404, &json!("no-such-route")));
    let got = mirror.control(mirror.dir(), Method::POST, "/-/ping", "[").await;
    assert_eq!((got.status, &got.json()["code"]), (400, &json!("bad-request")));
}

#[tokio::test]
async fn the_socket_is_private_to_its_owner_and_removed_with_the_mirror() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("control.sock");
    std::fs::write(&socket, "left by a kill").expect("written");
    let mirror = setup(&forge).start_in(dir.path()).await;
    let mode = std::fs::metadata(&socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    mirror.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_socket_answers_every_route_under_any_host_name() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let mirror = setup(&forge).with(|config| config.server.known_hosts = vec!["mirror.example".into()]).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 421);
    let got = mirror.control(mirror.dir(), Method::GET, "/devsapp/fc3/releases", "").await;
    assert_eq!((got.status, got.json().as_array().map(Vec::len)), (200, Some(1)));
}

#[tokio::test]
async fn a_directory_with_a_long_path_has_a_control_socket_too() {
    let forge = Forge::start().await;
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("a".repeat(120));
    let mirror = setup(&forge).start_in(&dir).await;
    assert!(dir.join("control.sock").exists());
    mirror.stop().await;
}
