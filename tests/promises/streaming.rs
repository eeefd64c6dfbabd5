//! All clients stream from the one running download with flat memory, and a slow client delays no other.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    forge::{Fault, Host, Lengths},
    mirror::{Mirror, setup},
    zips::{Drink, ZIP, blobs, eventually, forge, len, pins, sha256, spooled, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

/// Anonymous memory of this process (client, forge and mirror), in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or("RssAnon: 0 kB");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// 51 clients, one upstream request: every client has the first half before the forge sends the second.
async fn fifty_one(lengths: Lengths, size: u64) {
    let forge = forge(lengths, |r| r.stored().big(size)).await;
    let whole = len(&forge);
    let digest = sha256(&forge);
    let half = forge.gate(zips(), whole / 2);
    let mirror = Mirror::over(&forge).await;
    let before = anonymous();
    let mut clients: Vec<Drink> =
        join_all((0..51).map(|_| mirror.open(ZIP))).await.into_iter().map(Drink::of).collect();
    join_all(clients.iter_mut().map(|client| client.until(whole / 2 - MIB))).await;
    half.reached().await;
    let seen = forge.wait_for_request(|seen| seen.host == Host::Archive).await;
    assert!(seen.sent <= whole / 2, "the second half was sent too early");
    let during = anonymous().saturating_sub(before);
    half.open();
    let ends = join_all(clients.iter_mut().map(Drink::end)).await;
    for end in ends {
        assert_eq!(end.expect("whole"), digest);
    }
    let after = anonymous().saturating_sub(before);
    assert_eq!(zip_requests(&forge), 1);
    eventually("stored", || blobs(mirror.dir()) == 1 && spooled(mirror.dir()) == 0).await;
    assert_eq!(pins(mirror.dir()).len(), 1);
    // Whole copies for 51 clients would take 5 GiB; 3 MiB for each is allowed, client side included.
    for growth in [during, after] {
        assert!(growth < 153 * MIB, "anonymous memory grew by {} MiB", growth / MIB);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_one_clients_stream_one_download_of_unknown_length() {
    fifty_one(Lengths::Never, 40 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_one_clients_stream_one_download_of_known_length() {
    fifty_one(Lengths::Always, 20 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_or_never_reads_changes_nothing_for_others() {
    let forge = forge(Lengths::Never, |r| r.stored().big(24 * MIB)).await;
    let whole = len(&forge);
    let digest = sha256(&forge);
    let half = forge.gate(zips(), whole / 2);
    let mirror = Mirror::over(&forge).await;
    // The first client started the fill.
    let leaves = mirror.open(ZIP).await;
    let stalls = mirror.open(ZIP).await;
    let mut good = Drink::of(mirror.open(ZIP).await);
    good.until(whole / 2 - MIB).await;
    drop(leaves);
    half.open();
    assert_eq!(good.end().await.expect("whole"), digest);
    assert_eq!(mirror.get(ZIP).await.sha256(), digest, "a later client");
    // The zip is complete by now and still readable by a slow client.
    assert_eq!(Drink::of(stalls).end().await.expect("whole"), digest);
    assert_eq!(zip_requests(&forge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_finishes_when_all_clients_have_left() {
    let forge = forge(Lengths::Never, |r| r.stored().big(8 * MIB)).await;
    let whole = len(&forge);
    let half = forge.gate(zips(), whole / 2);
    let mirror = Mirror::over(&forge).await;
    let clients = join_all((0..3).map(|_| mirror.open(ZIP))).await;
    half.reached().await;
    drop(clients);
    half.open();
    eventually("stored", || blobs(mirror.dir()) == 1 && mirror.cache.archives().running_fills() == 0).await;
    forge.down().await;
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    assert!(got.cache_status().starts_with("srm-mirror; hit"), "{}", got.cache_status());
}

/// A bad zip shows the withheld bytes: the whole body had arrived before the verdict.
#[tokio::test(flavor = "multi_thread")]
async fn no_client_has_the_last_bytes_before_the_verdict() {
    for lengths in [Lengths::Never, Lengths::Always] {
        let forge = forge(lengths, |r| r.stored().big(4 * MIB)).await;
        let whole = len(&forge);
        let end = forge.gate(zips(), whole - 1);
        let mirror = Mirror::over(&forge).await;
        let mut client = Drink::of(mirror.open(ZIP).await);
        // All but the withheld bytes arrive at once ...
        client.until(whole - 65).await;
        end.reached().await;
        assert!(client.read <= whole - 64, "{} of {whole}", client.read);
        // ... the rest only after the verdict.
        end.open();
        assert_eq!(client.end().await.expect("whole"), sha256(&forge));

        // Wrong at its last bytes: the whole body arrives before the verdict.
        forge.fault(zips(), Fault::WrongBytesAt(whole - 60));
        let other = setup(&forge).start().await;
        let mut client = Drink::of(other.open(ZIP).await);
        client.end().await.expect_err("a broken connection");
        assert!(client.read <= whole - 64, "{} of {whole}", client.read);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_is_followed_byte_by_byte() {
    let forge = forge(Lengths::Never, |r| r.stored().big(MIB)).await;
    let whole = len(&forge);
    let gates: Vec<_> = (1..8).map(|n| forge.gate(zips(), n * whole / 8)).collect();
    let mirror = Mirror::over(&forge).await;
    let mut clients: Vec<Drink> = join_all((0..5).map(|_| mirror.open(ZIP))).await.into_iter().map(Drink::of).collect();
    for (n, gate) in (1..8).zip(&gates) {
        join_all(clients.iter_mut().map(|client| client.until(n * whole / 8 - 64))).await;
        gate.open();
    }
    for client in &mut clients {
        let end = tokio::time::timeout(Duration::from_secs(30), client.end()).await.expect("in time");
        assert_eq!(end.expect("whole"), sha256(&forge));
    }
}
