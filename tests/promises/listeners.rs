//! A listener for metrics, and listening sockets of the service manager.

use std::net::{SocketAddr, TcpListener};

use srm_mirror::config::Config;

use crate::{
    forge::Forge,
    http_rules::raw,
    mirror::{Mirror, setup},
    process::Launch,
};

const LIST: &str = "/devsapp/fc3/releases";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge
}

/// The status of one request on a connection of its own.
async fn status(address: SocketAddr, path: &str) -> String {
    let answer = raw(address, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn with_metrics_listener(forge: &Forge, change: impl FnOnce(&mut Config)) -> Mirror {
    let listening = |config: &mut Config| config.server.metrics_listen = vec![([127, 0, 0, 1], 0).into()];
    setup(forge).with(listening).with(change).start().await
}

#[tokio::test]
async fn a_listener_for_metrics_answers_them_and_health_checks_alone() {
    let forge = forge().await;
    let mirror = with_metrics_listener(&forge, |_| {}).await;
    let metrics = mirror.metrics_address.expect("a listener for metrics");
    // Twice: the second answer would come from the cache of responses.
    for _ in 0..2 {
        assert_eq!(mirror.get(LIST).await.status, 200);
        for (path, expected) in [
            ("/metrics", "200"),
            ("/healthz", "200"),
            ("/readyz", "200"),
            (LIST, "404"),
            ("/devsapp/fc3/zipball/v1.0.0", "404"),
            ("/-/openapi.json", "404"),
            ("/-/", "404"),
            ("/-/stats", "404"),
            ("/%", "404"),
        ] {
            assert_eq!(status(metrics, path).await, expected, "{path}");
        }
    }
    assert_eq!(mirror.get("/metrics").await.status, 404, "the clients' listeners answer it no more");
    assert_eq!(mirror.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_are_answered_when_clients_hold_every_connection() {
    let forge = forge().await;
    let mirror = with_metrics_listener(&forge, |config| config.server.max_connections = 2).await;
    let metrics = mirror.metrics_address.expect("a listener for metrics");
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(tokio::net::TcpStream::connect(mirror.address).await.expect("connected"));
    }
    assert_eq!(status(metrics, "/metrics").await, "200");
}

#[tokio::test]
async fn a_socket_of_the_service_manager_stands_in_place_of_the_addresses_and_outlives_a_restart() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    let first = Launch::serve(&forge, dir.path()).with_socket(&socket, "srm-mirror.socket").start().await;
    assert_eq!(first.address, address, "it listens nowhere else");
    assert_eq!(status(address, LIST).await, "200");
    assert_eq!(first.stop().await.code, Some(0));
    // No process listens: the connection waits in the socket's queue.
    let waiting = tokio::spawn(async move { status(address, LIST).await });
    let second = Launch::serve(&forge, dir.path()).with_socket(&socket, "srm-mirror.socket").start().await;
    assert_eq!(waiting.await.expect("answered"), "200");
    assert_eq!(second.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_socket_of_the_service_manager_named_metrics_is_the_listener_for_metrics() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    let mirror = Launch::serve(&forge, dir.path()).with_socket(&socket, "metrics").start().await;
    assert_ne!(mirror.address, address, "clients have the configured address");
    assert!(mirror.out().contains(&format!("metrics on http://{address}/metrics\n")), "{}", mirror.out());
    for (path, of_metrics, of_clients) in [("/metrics", "200", "404"), (LIST, "404", "200")] {
        assert_eq!(status(address, path).await, of_metrics, "{path}");
        assert_eq!(status(mirror.address, path).await, of_clients, "{path}");
    }
}

#[tokio::test]
async fn a_socket_of_one_kind_leaves_the_addresses_of_the_others() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Launch::bare(&["tls", "init", "--name", "localhost", "--dir", dir.path().to_str().expect("text")]);
    assert_eq!(authority.run().await.code, Some(0));
    let file = |name: &str| dir.path().join(name).display().to_string();
    let pair = format!("[{{ cert_file = {:?}, key_file = {:?} }}]", file("localhost.pem"), file("localhost.key"));
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    let launch = Launch::serve(&forge, &dir.path().join("cache")).set("server.tls.listen", "127.0.0.1:0");
    let mirror = launch.set("server.tls.certificates", &pair).with_socket(&socket, "http").start().await;
    assert_eq!(mirror.address, address);
    assert!(mirror.out().contains("listening on https://127.0.0.1:"), "{}", mirror.out());
}

#[tokio::test]
async fn a_socket_that_does_not_listen_and_one_with_tls_but_no_certificate_are_refused_in_one_sentence() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let no_certificate = Launch::serve(&forge, dir.path()).with_socket(&socket, "https").run().await;
    assert_eq!(no_certificate.code, Some(64), "{no_certificate:?}");
    assert!(no_certificate.err.contains("server.tls.certificates"), "{no_certificate:?}");
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    // Only the descriptor counts here.
    let descriptor = TcpListener::from(std::os::fd::OwnedFd::from(datagrams));
    let no_listener = Launch::serve(&forge, dir.path()).with_socket(&descriptor, "http").run().await;
    assert_eq!(no_listener.code, Some(64), "{no_listener:?}");
    assert!(no_listener.err.contains("socket 1 of the service manager (\"http\")"), "{no_listener:?}");
    assert_eq!(no_listener.err.lines().count(), 1, "{no_listener:?}");
}
