//! Connections are shared while they are scarce: one client cannot be all of them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const LIST: &str = "/devsapp/fc3/releases";

/// Connects from the loopback address with this last number: each is a client of its own.
async fn connect_from(client: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::new(127, 0, 0, client), 0).into()).expect("a loopback address");
    socket.connect(address).await.expect("connected")
}

/// Sends one request on a new connection; the whole response, or what came of it.
async fn ask_from(client: u8, address: SocketAddr, path: &str) -> String {
    let mut stream = connect_from(client, address).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn mirror(max_connections: usize) -> (Forge, Mirror) {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 8 << 20));
    let mirror = setup(&forge).with(|config| config.server.max_connections = max_connections).start().await;
    for path in [ZIP, LIST] {
        let mut stream = connect_from(9, mirror.address).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.expect("whole");
        assert!(response.starts_with(b"HTTP/1.1 200"), "{path}");
    }
    (forge, mirror)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_of_one_client_do_not_keep_another_waiting() {
    let (_forge, mirror) = mirror(100).await;
    let mut held = Vec::new();
    for number in 0..200 {
        let mut stream = connect_from(1, mirror.address).await;
        // Every second one stops reading a zip, the others send nothing.
        if number % 2 == 0 {
            let _ = stream.write_all(format!("GET {ZIP} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes()).await;
        }
        held.push(stream);
    }
    let mut longest = Duration::ZERO;
    let mut others = Vec::new();
    // Half of the connections: so many another client may hold in any case.
    for _ in 0..50 {
        let started = Instant::now();
        let mut stream = connect_from(2, mirror.address).await;
        stream.write_all(format!("GET {LIST} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes()).await.expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("answered");
        assert_eq!(&head, b"HTTP/1.1 200");
        longest = longest.max(started.elapsed());
        others.push(stream);
    }
    let started = Instant::now();
    assert!(ask_from(3, mirror.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    longest = longest.max(started.elapsed());
    eprintln!("the longest of 51 answers beside 200 connections of another client took {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_administration_are_answered_when_every_connection_is_taken() {
    let (_forge, mirror) = mirror(4).await;
    let mut held = Vec::new();
    for client in [1, 1, 2, 2] {
        let mut stream = connect_from(client, mirror.address).await;
        stream.write_all(format!("GET {ZIP} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes()).await.expect("sent");
        held.push(stream);
    }
    // Connections beyond the limit that stay silent keep no health check waiting either.
    for _ in 0..20 {
        held.push(connect_from(1, mirror.address).await);
    }
    let started = Instant::now();
    for path in ["/healthz", "/readyz"] {
        assert!(ask_from(3, mirror.address, path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    assert_eq!(mirror.admin(mirror.dir(), "stats", json!({})).await.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());

    let refused = ask_from(3, mirror.address, LIST).await.to_ascii_lowercase();
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n") && refused.contains("\r\nconnection: close\r\n"), "{refused}");
    assert!(refused.contains("too many connections"), "{refused}");
    drop(held);
    assert!(ask_from(3, mirror.address, LIST).await.starts_with("HTTP/1.1 200"));
}
