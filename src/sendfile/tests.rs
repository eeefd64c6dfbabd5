use std::{
    io::{IoSlice, Write as _},
    pin::Pin,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::entry::Digest;

struct TestFile(File);

impl FileBacked for TestFile {
    fn file(&self) -> &File {
        &self.0
    }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn file(bytes: &[u8]) -> Arc<TestFile> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    Arc::new(TestFile(file))
}

/// A slice of a file, from a mapping of its own.
fn slice_of(file: &Arc<TestFile>, offset: usize, len: usize) -> Bytes {
    let mapping = Mapping::new(file, offset + len).expect("a mapping");
    mapping.slice(offset..offset + len).expect("within the file")
}

/// The server's socket and a client with a small receive buffer.
async fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = tokio::net::TcpSocket::new_v4().expect("a socket");
    client.set_recv_buffer_size(4096).expect("small");
    let address = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(client.connect(address), listener.accept());
    (Socket::new(accepted.expect("accepted").0).0, client.expect("connected"))
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
async fn file_slices_and_memory_arrive_in_order_at_a_slow_reader() {
    let bytes = noise((3 << 20) + 123);
    let file = file(&bytes);
    let (mut socket, mut client) = pair().await;
    let cut = (1 << 20) + 77;
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n");
    let parts = vec![
        head.clone(),
        slice_of(&file, 0, cut),
        Bytes::from_static(b"\r\nbetween\r\n"),
        slice_of(&file, cut, bytes.len() - cut),
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
async fn a_subslice_finds_its_file_part_until_its_last_owner_is_dropped() {
    let bytes = noise(100_000);
    let file = file(&bytes);
    let whole = slice_of(&file, 10, 90_000);
    let part = whole.slice(5_000..40_000);
    let found = find_file(&part).expect("known");
    assert_eq!((found.offset, found.len), (5_010, 35_000));
    drop(found);
    assert_eq!(&part[..], &bytes[5_010..40_010]);
    let address = part.as_ptr() as usize;
    drop(whole);
    assert!(find_file(&part).is_some(), "a subslice keeps its mapping alive");
    drop(part);
    let left = MAPPINGS.read().range(..=address).next_back().map(|(start, mapped)| start + mapped.len);
    assert!(left.is_none_or(|end| end <= address));
    assert_eq!(Arc::strong_count(&file), 1);
    assert!(find_file(&noise(MIN_SLICE_BYTES)).is_none());
}

#[test]
fn a_slice_covers_written_bytes_only_and_follows_the_growing_file() {
    let file = file(&noise(20_000));
    let mapping = Mapping::new(&file, 1 << 20).expect("a mapping longer than the file");
    assert!(mapping.slice(0..20_000).is_some());
    assert!(mapping.slice(0..20_001).is_none(), "beyond the end of the file");
    (&file.0).write_all(&noise(10_000)).expect("appended");
    let grown = mapping.slice(20_000..30_000).expect("the file has grown");
    assert_eq!(&grown[..], noise(10_000));
    assert!(mapping.slice(0..30_001).is_none());
    assert!(mapping.slice(0..(1 << 20) + 1).is_none(), "beyond the mapping");
    drop(grown);
    drop(file);
    assert!(mapping.slice(0..20_000).is_none(), "the file is closed");
}

#[tokio::test]
async fn a_shortened_file_is_an_error_not_a_signal() {
    let bytes = noise(1 << 20);
    let file = file(&bytes);
    let part = slice_of(&file, 0, bytes.len());
    file.0.set_len(1000).expect("cut");
    let (mut socket, mut client) = pair().await;
    let write = tokio::spawn(async move { write_all(&mut socket, vec![part]).await });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("read");
    assert_eq!(got.len(), 1000);
    let error = write.await.expect("no panic").expect_err("cut");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_write_and_frees_the_slice() {
    let bytes = noise(8 << 20);
    let file = file(&bytes);
    let part = slice_of(&file, 0, bytes.len());
    let (mut socket, mut client) = pair().await;
    let write = tokio::spawn(async move { write_all(&mut socket, vec![part]).await });
    let mut some = [0; 1000];
    client.read_exact(&mut some).await.expect("some");
    drop(client);
    assert!(write.await.expect("no panic").is_err());
    assert_eq!(Arc::strong_count(&file), 1);
}

#[tokio::test]
async fn the_socket_is_corked_only_while_more_data_follows() {
    const LEN: usize = 40_001;
    let bytes = noise(3 * LEN);
    let file = file(&bytes);
    let (mut socket, mut client) = pair().await;
    let read = tokio::spawn(async move {
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("read");
        got
    });
    let corked = |socket: &Socket| rustix::net::sockopt::tcp_cork(&socket.stream).expect("read");
    let part = |number: usize| vec![slice_of(&file, number * LEN, LEN)];

    socket.control.set_more_data(true);
    write_all(&mut socket, part(0)).await.expect("written");
    assert!(corked(&socket));
    // The next slice is not there yet.
    socket.control.set_more_data(false);
    socket.flush().await.expect("flushed");
    assert!(!corked(&socket));
    socket.control.set_more_data(true);
    write_all(&mut socket, part(1)).await.expect("written");
    assert!(corked(&socket));
    // The last slice.
    socket.control.set_more_data(false);
    write_all(&mut socket, part(2)).await.expect("written");
    assert!(!corked(&socket));
    drop(socket);
    assert_eq!(Digest::of(&read.await.expect("no panic")), Digest::of(&bytes));
}
