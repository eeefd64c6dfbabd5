//! Without space or without a disk, zips are received in memory: whole, verified and pinned. What is too large for memory is
//! 503 with `Retry-After`.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use srm_mirror::value::ByteSize;

use crate::{
    forge::{Fault, Forge, Lengths},
    mirror::{Mirror, setup},
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, evict, forge, pins, sha256, spooled, zip_requests, zips},
};

const MIB: u64 = 1 << 20;
const FLAT: &str = "/devsapp/fc3/flat/v1.0.0";

async fn tiny(forge: &Forge, limit: u64) -> Mirror {
    let setup = setup(forge).with(|config| {
        config.disk.limit = ByteSize::mib(limit);
        config.disk.documents = ByteSize::mib(1);
        config.memory.limit = Some(ByteSize::mib(512));
    });
    setup.start().await
}

/// With little memory: archives over 30 MiB are not received in it.
async fn tiny_in_memory_too(forge: &Forge) -> Mirror {
    let setup = setup(forge).with(|config| {
        config.disk.limit = ByteSize::mib(6);
        config.disk.documents = ByteSize::mib(1);
        config.memory.limit = Some(ByteSize::mib(256));
    });
    setup.start().await
}

async fn passes_whole(mirror: &Mirror, forge: &Forge) {
    for _ in 0..2 {
        let got = mirror.get(ZIP).await;
        assert_eq!((got.status, got.sha256()), (200, sha256(forge)));
        assert!(got.cache_status().contains("no-room"), "{}", got.cache_status());
        assert!(!got.cache_status().contains("stored"), "{}", got.cache_status());
    }
    eventually("nothing is spooled", || spooled(mirror.dir()) == 0 && mirror.cache.archives().running_fills() == 0)
        .await;
    assert_eq!(blobs(mirror.dir()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_larger_than_the_disk_may_hold_passes_through_whole() {
    for size in [7, 20] {
        let forge = forge(Lengths::Always, |r| r.stored().big(size * MIB)).await;
        let mirror = tiny(&forge, 6).await;
        passes_whole(&mirror, &forge).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_that_runs_out_mid_download_is_invisible_to_clients() {
    for size in [7, 24] {
        let forge = forge(Lengths::Never, |r| r.stored().big(size * MIB)).await;
        let mirror = tiny(&forge, 6).await;
        let clients = join_all((0..4).map(|_| mirror.open(ZIP))).await;
        let ends = join_all(clients.into_iter().map(|client| async move { Drink::of(client).end().await })).await;
        for end in ends {
            assert_eq!(end.expect("whole"), sha256(&forge), "{size} MiB");
        }
        assert_eq!(zip_requests(&forge), 1, "the open download went on for all clients");
        eventually("nothing is spooled", || spooled(mirror.dir()) == 0 && mirror.cache.archives().running_fills() == 0)
            .await;
        assert_eq!(blobs(mirror.dir()), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_disk_is_no_error_and_readyz_says_degraded() {
    let forge = forge(Lengths::Never, |r| r.stored().big(2 * MIB)).await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/readyz").await.json()["status"], "ready");
    fs::remove_dir_all(mirror.dir().join("spool")).expect("the spool folder");
    fs::write(mirror.dir().join("spool"), "not a folder").expect("a file in its place");
    passes_whole(&mirror, &forge).await;
    let ready = mirror.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")), "{:?}", ready.body);
    // After the repair the mirror stores again and reports ready.
    fs::remove_file(mirror.dir().join("spool")).expect("the file");
    fs::create_dir(mirror.dir().join("spool")).expect("a folder");
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    eventually("stored", || blobs(mirror.dir()) == 1 && mirror.cache.archives().running_fills() == 0).await;
    assert_eq!(mirror.get("/readyz").await.json()["status"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_without_room_on_disk_is_never_a_clean_200() {
    for size in [7, 20] {
        for lengths in [Lengths::Always, Lengths::Never] {
            for fault in [
                Fault::CutAfter(size * MIB / 2),
                Fault::CutAfter(size * MIB),
                Fault::EndShortAfter(size * MIB - 5),
                Fault::ShortLength(size * MIB - 5),
            ] {
                let forge = forge(lengths, |r| r.stored().big(size * MIB)).await;
                forge.fault(zips(), fault.clone()).always();
                let mirror = tiny(&forge, 6).await;
                let got = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
                assert!(got.as_ref().map_or(true, |got| got.status >= 500), "{size} {lengths:?} {fault:?}");
                assert_eq!(blobs(mirror.dir()), 0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_ran_out_of_room_is_given_back_as_soon_as_it_is_sent() {
    let forge = forge(Lengths::Never, |r| r.stored().noise("big.bin", 1, 24 * MIB)).await;
    let gate = forge.gate(zips(), 12 * MIB);
    let mirror = tiny(&forge, 6).await;
    let before = mirror.cache.usage().disk.bytes;
    let mut client = Drink::of(mirror.open(ZIP).await);
    client.until(MIB).await;
    gate.reached().await;
    // The client reads on; the download stands still at twice the disk's limit.
    let rest = tokio::spawn(async move { client.end().await });
    eventually("given back", || mirror.cache.usage().disk.bytes <= before + MIB).await;
    assert_eq!((mirror.cache.archives().running_fills(), spooled(mirror.dir())), (1, 0));
    gate.open();
    assert_eq!(rest.await.expect("no panic").expect("whole"), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_too_large_for_disk_and_memory_is_503_and_not_asked_for_again_for_minutes() {
    let forge = forge(Lengths::Always, |r| r.stored().noise("big.bin", 1, 40 * MIB)).await;
    let mirror = tiny_in_memory_too(&forge).await;
    for path in [ZIP, FLAT, ZIP] {
        let got = mirror.get(path).await;
        assert_eq!((got.status, got.header("retry-after")), (503, "300"), "{path}: {:?}", got.headers);
        assert!(got.cache_status().contains("no-room"), "{path}: {}", got.cache_status());
        assert!(got.json()["message"].as_str().is_some_and(|text| text.contains("no room on disk")), "{path}: {got:?}");
    }
    assert_eq!((zip_requests(&forge), pins(mirror.dir()).len()), (1, 0));
    mirror.clock.advance(Duration::from_secs(301));
    assert_eq!(mirror.get(ZIP).await.status, 503);
    assert_eq!(zip_requests(&forge), 2);
}

/// A length that is not announced: clients may have a part when the room ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_turns_out_too_large_breaks_the_connection_and_leaves_nothing() {
    let forge = forge(Lengths::Never, |r| r.stored().noise("big.bin", 1, 40 * MIB)).await;
    let mirror = tiny_in_memory_too(&forge).await;
    let before = mirror.cache.usage().disk.bytes;
    Drink::of(mirror.open(ZIP).await).end().await.expect_err("a broken connection");
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.header("retry-after")), (503, "300"), "{:?}", got.headers);
    assert_eq!(zip_requests(&forge), 1);
    eventually("given back", || mirror.cache.usage().disk.bytes <= before + MIB && spooled(mirror.dir()) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_without_room_has_parts_and_conditions_like_any_other() {
    let forge = forge(Lengths::Never, |r| r.stored().noise("big.bin", 1, 7 * MIB)).await;
    let mirror = tiny(&forge, 6).await;
    let whole = mirror.get(ZIP).await;
    let part = mirror.get_with(ZIP, &[("range", "bytes=100-199")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[100..200]));
    let same = mirror.get_with(ZIP, &[("if-none-match", part.header("etag"))]).await;
    assert_eq!(same.status, 304, "{:?}", same.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_holds_without_disk_space() {
    for (size, lengths) in [(5, Lengths::Always), (20, Lengths::Always), (20, Lengths::Never)] {
        let forge = forge(lengths, |r| r.stored().noise("big.bin", 1, size * MIB)).await;
        let dir = tempfile::tempdir().expect("a directory");
        let mirror = setup(&forge).start_in(dir.path()).await;
        assert_eq!(mirror.get(ZIP).await.status, 200);
        eventually("stored", || blobs(dir.path()) == 1).await;
        mirror.stop().await;
        evict(dir.path());
        let start = || {
            setup(&forge)
                .with(|config| (config.disk.limit, config.memory.limit) = (ByteSize::mib(4), Some(ByteSize::mib(512))))
                .start_in(dir.path())
        };
        let mirror = start().await;
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge), "the same content");
        mirror.clock.advance(Duration::from_secs(6));
        forge.repo(PACKAGE).tag(TAG, |r| r.stored().noise("big.bin", 2, size * MIB));
        let got = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
        let got = got.expect("an answer");
        assert_eq!(got.status, 502, "{size} {lengths:?}: other content");
        assert_eq!(blobs(dir.path()), 0);
        mirror.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_passed_through_whole_is_pinned() {
    let forge = forge(Lengths::Always, |r| r.stored().noise("big.bin", 1, 7 * MIB)).await;
    let mirror = tiny(&forge, 6).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    assert_eq!(pins(mirror.dir()).len(), 1);
    forge.repo(PACKAGE).tag(TAG, |r| r.stored().noise("big.bin", 2, 7 * MIB));
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, 502, "{:?}", got.headers);
    assert!(got.json()["message"].as_str().expect("a message").contains("pin-mismatch"));
}
