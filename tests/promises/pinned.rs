//! A served version is pinned: fetched again, it streams with its end withheld until it is verified and compared; other
//! content never ends as a whole zip.

use std::{convert::Infallible, time::Duration};

use srm_mirror::{
    entry::{Digest, Key, Pin, Verified},
    storage::disk::PinEvent,
};
use tempfile::TempDir;

use crate::{
    forge::{Fault, Forge, Lengths},
    mirror::{Mirror, setup},
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, evict, forge, len, pins, sha256, spooled, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

/// A forge, and a directory with the version's pin but without its zip.
async fn lost() -> (Forge, TempDir) {
    let forge = forge(Lengths::Never, |r| r.file("a.txt", "a".repeat(9000)).noise("big.bin", 1, 2 * MIB)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    eventually("stored", || blobs(dir.path()) == 1).await;
    mirror.stop().await;
    assert_eq!(pins(dir.path()).len(), 1);
    evict(dir.path());
    forge.clear_log();
    (forge, dir)
}

async fn again(forge: &Forge, dir: &TempDir) -> Mirror {
    setup(forge).start_in(dir.path()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_in_another_packing_is_served_and_recorded() {
    let (forge, dir) = lost().await;
    let old = sha256(&forge);
    forge.repo(PACKAGE).repack(TAG);
    let mirror = again(&forge, &dir).await;
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    let stored = mirror.get(ZIP).await;
    assert_eq!(stored.header("etag"), format!("\"{}\"", sha256(&forge)));
    assert_ne!(old, sha256(&forge));
    let pins = pins(dir.path());
    assert_eq!(pins.len(), 2, "{pins:?}");
    assert!(pins[1].to_string().contains(&sha256(&forge)) && pins[1].to_string().contains("packing"), "{}", pins[1]);
    assert_eq!(zip_requests(&forge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_served_and_recorded_once() {
    let (forge, dir) = lost().await;
    let got = again(&forge, &dir).await.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    assert_eq!(pins(dir.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_version_streams_while_it_is_fetched_again_and_its_end_waits_for_the_verdict() {
    let (forge, dir) = lost().await;
    let end = forge.gate(zips(), len(&forge) - 1);
    let mirror = again(&forge, &dir).await;
    // The last byte has not been sent, and the client has its first ones.
    let mut client = Drink::of(mirror.open(ZIP).await);
    client.until(MIB / 2).await;
    end.reached().await;
    end.open();
    assert_eq!(client.end().await.expect("whole"), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_that_streams_never_ends_as_a_whole_zip() {
    let (forge, dir) = lost().await;
    forge.repo(PACKAGE).tag(TAG, |r| r.noise("big.bin", 2, 2 * MIB));
    let mirror = again(&forge, &dir).await;
    let got = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
    assert!(got.as_ref().map_or(true, |got| got.status == 502), "a whole zip of other content");
    let next = mirror.get(ZIP).await;
    assert_eq!(next.status, 502);
    assert!(next.json()["message"].as_str().expect("a message").contains("pin-mismatch"));
    eventually("the spool folder is empty", || spooled(dir.path()) == 0).await;
    assert_eq!((blobs(dir.path()), pins(dir.path()).len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_is_refused_every_time_and_never_stored() {
    let (forge, dir) = lost().await;
    forge.repo(PACKAGE).tag(TAG, |r| r.file("a.txt", "other"));
    let mirror = again(&forge, &dir).await;
    for round in 0..3 {
        let got = mirror.get(ZIP).await;
        assert_eq!(got.status, 502, "round {round}: {:?}", got.body);
        assert_eq!(got.header("connection"), "close");
        let message = got.json()["message"].as_str().expect("a message").to_owned();
        assert!(message.contains("pin-mismatch"), "{message}");
        let soon = mirror.get(ZIP).await;
        assert!(soon.json()["message"].as_str().expect("a message").contains("pin-mismatch"));
        assert!(message.contains("srm-mirror cache rm 'github:devsapp/fc3@v1.0.0' --forget"), "{message}");
        assert_eq!(zip_requests(&forge), round + 1);
        // A minute, then two, then four.
        mirror.clock.advance(Duration::from_secs((60 << round) - 1));
        assert_eq!((mirror.get(ZIP).await.status, zip_requests(&forge)), (502, round + 1));
        mirror.clock.advance(Duration::from_secs(2));
    }
    eventually("the spool folder is empty", || spooled(dir.path()) == 0).await;
    assert_eq!((blobs(dir.path()), pins(dir.path()).len()), (0, 1));
    mirror.stop().await;
    // The pin survives a restart.
    let mirror = again(&forge, &dir).await;
    assert_eq!(mirror.get(ZIP).await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_of_a_pinned_version_never_ends_as_a_whole_zip() {
    let (forge, dir) = lost().await;
    forge.fault(zips(), Fault::WrongBytesAt(MIB));
    let mirror = again(&forge, &dir).await;
    let got = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
    assert!(got.as_ref().map_or(true, |got| got.status == 502), "a whole zip of broken content");
    let next = mirror.get(ZIP).await;
    assert_eq!(next.status, 502, "{:?}", next.headers);
    assert!(!next.json()["message"].as_str().expect("a message").contains("pin-mismatch"));
    mirror.clock.advance(Duration::from_secs(61));
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_forge_down_a_lost_version_is_an_error_and_the_pin_stays() {
    let (forge, dir) = lost().await;
    forge.down().await;
    let mirror = again(&forge, &dir).await;
    assert_eq!(mirror.get(ZIP).await.status, 502);
    assert_eq!(mirror.get(ZIP).await.status, 503, "cooling down");
    assert_eq!(pins(dir.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_made_during_a_download_is_compared_with_that_download() {
    let forge = forge(Lengths::Never, |r| r.noise("big.bin", 1, 2 * MIB)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let end = forge.gate(zips(), len(&forge) - 1);
    let mirror = again(&forge, &dir).await;
    let client = tokio::spawn(mirror.client.get(mirror.url(ZIP)).send());
    end.reached().await;
    // As an import does during the download.
    let verified = Verified { manifest: Digest::of(b"other"), commit: None, facts: serde_json::Value::Null };
    let digest = Digest::of(b"bytes");
    let first_seen = mirror.clock.now();
    let pin = Pin { key: Key::new("github/devsapp/fc3/tag/v1.0.0"), digest, len: 5, first_seen, verified };
    let key = pin.key.clone();
    let import = |_| Ok::<_, Infallible>(vec![(PinEvent::Pin, pin)]);
    mirror.cache.disk().pins().settle(&key, import).await.expect("recorded");
    end.open();
    let whole = match client.await.expect("no panic") {
        Ok(head) => Drink::of(head).end().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "two contents of one version were handed out");
    eventually("the download ends", || mirror.cache.archives().running_fills() == 0).await;
    assert_eq!((pins(dir.path()).len(), blobs(dir.path())), (1, 0), "{:?}", pins(dir.path()));
}
