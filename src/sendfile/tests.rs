use std::io::Write as _;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::entry::Digest;

struct Held(File);

impl FileBacked for Held {
    fn file(&self) -> &File {
        &self.0
    }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn file(bytes: &[u8]) -> Arc<Held> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    Arc::new(Held(file))
}

/// A part of a file, through a mapping of its own.
fn region(held: Arc<Held>, offset: u64, len: usize) -> io::Result<Bytes> {
    let mapping = Mapping::new(&held, offset as usize + len)?;
    Ok(mapping.region(held, offset as usize..offset as usize + len).expect("within"))
}

/// A socket of ours and the client's end, which takes few bytes at a time.
async fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = tokio::net::TcpSocket::new_v4().expect("a socket");
    client.set_recv_buffer_size(4096).expect("small");
    let address = listener.local_addr().expect("bound");
    let (client, ours) = tokio::join!(client.connect(address), listener.accept());
    (Socket::new(ours.expect("accepted").0).0, client.expect("connected"))
}

async fn write_all(socket: &mut Socket, mut parts: Vec<Bytes>) -> io::Result<()> {
    while !parts.is_empty() {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut sent = std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_write_vectored(cx, &slices)).await?;
        while let Some(first) = parts.first_mut().filter(|_| sent > 0) {
            let step = sent.min(first.len());
            drop(first.split_to(step));
            sent -= step;
            if parts[0].is_empty() {
                parts.remove(0);
            }
        }
        parts.retain(|part| !part.is_empty());
    }
    socket.flush().await
}

#[tokio::test]
async fn regions_and_memory_arrive_in_order_at_a_slow_reader() {
    let bytes = noise((3 << 20) + 123);
    let held = file(&bytes);
    let (mut socket, mut client) = pair().await;
    let cut = (1 << 20) + 77;
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n");
    let parts = vec![
        head.clone(),
        region(held.clone(), 0, cut).expect("a region"),
        Bytes::from_static(b"\r\nbetween\r\n"),
        region(held.clone(), cut as u64, bytes.len() - cut).expect("a region"),
    ];
    let expected: Vec<u8> = [&head[..], &bytes[..cut], b"\r\nbetween\r\n", &bytes[cut..]].concat();
    let write = tokio::spawn(async move {
        write_all(&mut socket, parts).await.expect("written");
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("read");
    write.await.expect("no panic");
    assert_eq!(Digest::of(&got), Digest::of(&expected));
}

#[tokio::test]
async fn a_slice_of_a_region_is_found_from_any_of_its_bytes_and_forgotten_with_its_last_owner() {
    let bytes = noise(100_000);
    let held = file(&bytes);
    let whole = region(held.clone(), 10, 90_000).expect("a region");
    let part = whole.slice(5_000..40_000);
    let (_, offset, len) = target(&part).expect("known");
    assert_eq!((offset, len), (5_010, 35_000));
    assert_eq!(&part[..], &bytes[5_010..40_010]);
    let address = part.as_ptr() as usize;
    drop(whole);
    assert!(target(&part).is_some(), "a slice keeps its region alive");
    drop(part);
    let left = MAPPINGS.read().expect("not poisoned").range(..=address).next_back().map(|(start, t)| start + t.len);
    assert!(left.is_none_or(|end| end <= address));
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(target(&noise(MIN_SLICE_BYTES)).is_none());
}

#[tokio::test]
async fn a_file_that_has_become_shorter_is_an_error_not_a_signal() {
    let bytes = noise(1 << 20);
    let held = file(&bytes);
    let part = region(held.clone(), 0, bytes.len()).expect("a region");
    held.0.set_len(1000).expect("cut");
    let (mut socket, mut client) = pair().await;
    let write = tokio::spawn(async move { write_all(&mut socket, vec![part]).await });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("read");
    assert_eq!(got.len(), 1000);
    let error = write.await.expect("no panic").expect_err("cut");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_write_and_frees_the_region() {
    let bytes = noise(8 << 20);
    let held = file(&bytes);
    let part = region(held.clone(), 0, bytes.len()).expect("a region");
    let (mut socket, mut client) = pair().await;
    let write = tokio::spawn(async move { write_all(&mut socket, vec![part]).await });
    let mut some = [0; 1000];
    client.read_exact(&mut some).await.expect("some");
    drop(client);
    assert!(write.await.expect("no panic").is_err());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test]
async fn the_end_of_a_region_waits_for_the_next_region_only() {
    const LEN: usize = 40_001;
    let bytes = noise(3 * LEN);
    let held = file(&bytes);
    let (mut socket, mut client) = pair().await;
    let read = tokio::spawn(async move {
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("read");
        got
    });
    let corked = |socket: &Socket| rustix::net::sockopt::tcp_cork(&socket.stream).expect("told");
    let part = |number: usize| vec![region(held.clone(), (number * LEN) as u64, LEN).expect("a region")];

    socket.more.tell(true);
    write_all(&mut socket, part(0)).await.expect("written");
    assert!(corked(&socket));
    // The next one has to be waited for.
    socket.more.tell(false);
    socket.flush().await.expect("flushed");
    assert!(!corked(&socket));
    socket.more.tell(true);
    write_all(&mut socket, part(1)).await.expect("written");
    assert!(corked(&socket));
    // The last one.
    socket.more.tell(false);
    write_all(&mut socket, part(2)).await.expect("written");
    assert!(!corked(&socket));
    drop(socket);
    assert_eq!(Digest::of(&read.await.expect("no panic")), Digest::of(&bytes));
}
