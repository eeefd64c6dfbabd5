//! The memory for requests under way is bounded: work without memory waits briefly and is 503, and what is stored goes on.

use std::{net::SocketAddr, time::Instant};

use srm_mirror::value::{
    ByteSize,
    memory_budget::{MemoryShare, WAIT},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    forge::{Forge, Lengths},
    logs,
    mirror::{Mirror, setup},
    plain_client,
    zips::{ZIP, eventually, forge, sha256},
};

const LIST: &str = "/devsapp/fc3/releases";
const MIB: u64 = 1 << 20;

async fn small(forge: &Forge) -> Mirror {
    let least = |config: &mut srm_mirror::config::Config| config.memory.limit = Some(ByteSize::mib(256));
    setup(forge).with(least).start().await
}

/// Takes all the memory that is left.
fn take_all(mirror: &Mirror) -> Vec<MemoryShare> {
    let mut taken = Vec::new();
    for step in [MIB, 16 << 10] {
        loop {
            let mut share = mirror.cache.memory().share();
            if share.try_grow_to(step).is_err() {
                break;
            }
            taken.push(share);
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_new_work_is_503_in_time_and_what_is_stored_is_served() {
    let forge = forge(Lengths::Always, |r| r.stored().big(2 * MIB)).await;
    forge.repo("acme/other").release("v1.0.0", |r| r);
    let mirror = small(&forge).await;
    assert_eq!((mirror.get(LIST).await.status, mirror.get(ZIP).await.status), (200, 200));
    eventually("the zip is stored", || mirror.cache.archives().running_fills() == 0).await;
    let taken = take_all(&mirror);
    assert!(!taken.is_empty());
    let began = Instant::now();
    let refused = mirror.get("/acme/other/releases").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"), "{refused:?}");
    assert!(began.elapsed() < WAIT * 3, "{:?}", began.elapsed());
    let stored = mirror.get(ZIP).await;
    assert_eq!((stored.status, stored.sha256()), (200, sha256(&forge)));
    assert_eq!((mirror.get(LIST).await.status, mirror.get("/healthz").await.status), (200, 200));
    drop(taken);
    assert_eq!(mirror.get("/acme/other/releases").await.status, 200, "the failure is not remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_whose_directory_finds_no_memory_is_not_taken_for_a_bad_one() {
    let forge = forge(Lengths::Always, |r| r.stored().big(2 * MIB)).await;
    let mirror = small(&forge).await;
    assert_eq!(mirror.get(LIST).await.status, 200);
    let taken = take_all(&mirror);
    let cut = mirror.open(ZIP).await;
    assert!(crate::zips::Drink::of(cut).end().await.is_err(), "its end is withheld");
    drop(taken);
    eventually("the fill has ended", || mirror.cache.archives().running_fills() == 0).await;
    let whole = mirror.get(ZIP).await;
    assert_eq!((whole.status, whole.sha256()), (200, sha256(&forge)));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_answers_took_is_given_back_when_they_have_been_sent() {
    let forge = forge(Lengths::Always, |r| r).await;
    for number in 0..40 {
        forge.repo("acme/notes").release(&format!("v1.{number}.0"), |r| r.body(&"text ".repeat(4000)));
    }
    let mirror = small(&forge).await;
    for _ in 0..3 {
        assert_eq!(mirror.get("/acme/notes/releases").await.status, 200);
    }
    // What is left is the rendition in its cache.
    eventually("given back", || mirror.cache.memory().taken() < 4 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_passes_through_without_memory_is_503_and_that_is_not_remembered() {
    let forge = forge(Lengths::Always, |r| r.stored().big(7 * MIB)).await;
    let tiny = |config: &mut srm_mirror::config::Config| {
        config.memory.limit = Some(ByteSize::mib(256));
        config.disk.limit = ByteSize::mib(6);
        config.disk.documents = ByteSize::mib(1);
    };
    let mirror = setup(&forge).with(tiny).start().await;
    assert_eq!(mirror.get(LIST).await.status, 200);
    let taken = take_all(&mirror);
    let refused = mirror.get(ZIP).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"), "{refused:?}");
    drop(taken);
    let whole = mirror.get(ZIP).await;
    assert_eq!((whole.status, whole.sha256()), (200, sha256(&forge)));
}

/// Asks for a path on this many streams of one HTTP/2 connection, with windows that never close, and reads nothing.
async fn ask_on_streams(address: SocketAddr, path: &str, streams: u32) -> TcpStream {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // The window of each stream: 2^31 - 1 bytes.
    let settings = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let window = frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let authority = address.to_string();
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // GET, http, :path and :authority as literals (RFC 7541 appendix A).
    let header = [&[0x82, 0x86, 0x04][..], &text(path), &[0x01], &text(&authority)].concat();
    let requests = (0..streams).flat_map(|number| frame(1, 5, 2 * number + 1, &header));
    let sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, window, requests.collect()].concat();
    let mut socket = TcpStream::connect(address).await.expect("connected");
    socket.write_all(&sent).await.expect("sent");
    socket
}

/// Reads HTTP/2 frames until this many streams have ended; returns how many were reset.
async fn reset_streams(mut socket: TcpStream, streams: u32) -> u32 {
    let mut reset = 0;
    let mut ended = 0;
    while ended < streams {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.expect("a frame");
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        socket.read_exact(&mut payload).await.expect("its payload");
        let is_reset = head[3] == 3;
        // END_STREAM of DATA and HEADERS.
        let is_end = head[3] < 2 && head[4] & 1 == 1;
        reset += u32::from(is_reset);
        ended += u32::from(is_reset || is_end);
    }
    reset
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_clients_that_do_not_read_take_a_part_of_the_memory_and_others_are_served() {
    const STREAMS: u32 = 120;
    let _kept = logs::keep();
    let forge = forge(Lengths::Always, |r| r.stored().big(2 * MIB)).await;
    let least = |config: &mut srm_mirror::config::Config| {
        config.memory.limit = Some(ByteSize::mib(256));
        config.memory.archives = ByteSize(0);
    };
    let mirror = setup(&forge).with(least).start().await;
    assert_eq!((mirror.get(LIST).await.status, mirror.get(ZIP).await.status), (200, 200));
    eventually("the zip is stored", || mirror.cache.archives().running_fills() == 0).await;
    // Two connections are more than a 32nd of the limit, 8 MiB, at 64 KiB of each stream.
    let first = ask_on_streams(mirror.address, ZIP, STREAMS).await;
    let second = ask_on_streams(mirror.address, ZIP, STREAMS).await;
    let host = mirror.address.to_string();
    eventually("streams that find no memory are broken off", || {
        let is_broken =
            |line: &&String| line.contains(&host) && line.contains("HTTP/2") && line.contains("memory.limit");
        logs::lines("broken").iter().filter(is_broken).count() >= 20
    })
    .await;
    assert_eq!(mirror.cache.memory().taken(), 0, "the memory of other requests is theirs");
    let stored = mirror.get(ZIP).await;
    assert_eq!((stored.status, stored.sha256()), (200, sha256(&forge)));
    let list = plain_client::builder().http2_prior_knowledge().build().expect("a client");
    let list = list.get(mirror.url(LIST)).send().await.expect("a head");
    assert!(list.bytes().await.is_ok(), "an answer of less than 4 KiB");
    let reset = reset_streams(first, STREAMS).await + reset_streams(second, STREAMS).await;
    assert!((20..2 * STREAMS - 20).contains(&reset), "{reset}");
    let client = plain_client::builder().http2_prior_knowledge().build().expect("a client");
    let whole = client.get(mirror.url(ZIP)).send().await.expect("a head").bytes().await.expect("whole");
    assert_eq!(whole.len(), stored.body.len(), "the memory is free again");
}
