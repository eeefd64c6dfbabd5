//! Zips sent from disk to a plain socket with sendfile arrive unchanged, whatever the client does.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    forge::{Forge, Lengths},
    mirror::Mirror,
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, forge},
};

/// Larger than the memory cache's limit per zip and than one sendfile call.
const ZIP_BYTES: u64 = 9 << 20;

struct Stored {
    _forge: Forge,
    mirror: Mirror,
    bytes: Bytes,
}

async fn stored() -> Stored {
    let forge = forge(Lengths::Never, |r| r.stored().big(ZIP_BYTES)).await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    eventually("stored", || blobs(mirror.dir()) == 1 && mirror.cache.archives().running_fills() == 0).await;
    let bytes = forge.zip_bytes(PACKAGE, TAG);
    Stored { _forge: forge, mirror, bytes }
}

/// A connection with small socket buffers.
async fn small_window(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address).await.expect("a connection")
}

async fn ask(stream: &mut TcpStream, address: SocketAddr, fields: &str) {
    let head = format!("GET {ZIP} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
}

/// Reads the head of the next response and as many body bytes as it announces.
async fn answer(stream: &mut TcpStream, piece: usize) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a byte of the head"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; len.parse().expect("a number")];
    for part in body.chunks_mut(piece) {
        stream.read_exact(part).await.expect("the body");
    }
    (head, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_with_a_small_window_gets_every_byte() {
    let stored = stored().await;
    let address = stored.mirror.address;
    let mut stream = small_window(address).await;
    ask(&mut stream, address, "").await;
    let (head, body) = answer(&mut stream, 1500).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("hit"), "{head}");
    assert!(body == stored.bytes, "other bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_range_requests_are_answered_in_order_each_with_its_range() {
    let stored = stored().await;
    let address = stored.mirror.address;
    let len = stored.bytes.len();
    let mut stream = small_window(address).await;
    // Ranges with arbitrary ends: mapped slices begin at pages, and small ranges are copied.
    let parts = [(0, 0), (1, 4096), (4095, 70_000), (len - 100_000, len - 1), (123_457, 6 << 20), (0, len - 1)];
    for (first, last) in parts {
        ask(&mut stream, address, &format!("range: bytes={first}-{last}\r\n")).await;
    }
    for (first, last) in parts {
        let (head, body) = answer(&mut stream, 64 << 10).await;
        assert!(head.starts_with("http/1.1 206"), "{head}");
        assert!(head.contains(&format!("content-range: bytes {first}-{last}/{len}")), "{head}");
        assert!(body == stored.bytes[first..=last], "other bytes in {first}-{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_connection_serves_zips_and_lists_in_turn() {
    let stored = stored().await;
    let address = stored.mirror.address;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    for turn in 0..6 {
        ask(&mut stream, address, "").await;
        let (_, body) = answer(&mut stream, 256 << 10).await;
        assert!(body == stored.bytes, "other bytes in turn {turn}");
        let head = format!("GET /{PACKAGE}/releases HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let (_, list) = answer(&mut stream, 4096).await;
        let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON between two zips");
        assert_eq!(list[0]["tag_name"], TAG);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_disconnect_anywhere_disturb_no_other() {
    let stored = stored().await;
    let address = stored.mirror.address;
    let whole = tokio::spawn({
        let response = stored.mirror.open(ZIP).await;
        async move { Drink::of(response).end().await.expect("not broken") }
    });
    for turn in 0..24 {
        let mut stream = small_window(address).await;
        ask(&mut stream, address, "").await;
        let mut piece = vec![0; 1 + turn * 40_000];
        stream.read_exact(&mut piece).await.expect("a piece");
        // Unread bytes make the kernel reset the connection in the middle of the transfer.
        drop(stream);
    }
    let digest = srm_mirror::entry::Digest::of(&stored.bytes).to_string();
    assert_eq!(whole.await.expect("no panic"), digest);
    assert_eq!(stored.mirror.get(ZIP).await.sha256(), digest);
}
