//! A truncated, corrupt or wrong body is never cached and never ends as a clean 200.

use std::time::Duration;

use bytes::Bytes;
use srm_mirror::value::{ByteSize, Period};

use crate::{
    forge::{Fault, Forge, Host, Lengths},
    mirror::{Mirror, setup},
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, forge, len, pins, sha256, spooled, zip_requests, zips},
};

const MIB: u64 = 1 << 20;
const BOTH: [Lengths; 2] = [Lengths::Never, Lengths::Always];

async fn nothing_is_kept(mirror: &Mirror) {
    eventually("the spool folder is empty", || {
        spooled(mirror.dir()) == 0 && mirror.cache.archives().running_fills() == 0
    })
    .await;
    assert_eq!((blobs(mirror.dir()), pins(mirror.dir()).len()), (0, 0));
}

/// The client of a bad body gets a broken connection, nothing is stored, and after a minute a good body is fetched.
async fn breaks(forge: &Forge, what: &str, mend: impl FnOnce()) {
    let mirror = Mirror::over(forge).await;
    // A verdict before the first byte is an error response, or a connection without a response.
    let client = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
    assert!(client.as_ref().map_or(true, |got| got.status == 502), "{what}: a clean end: {client:?}");
    nothing_is_kept(&mirror).await;
    let before = zip_requests(forge);
    let soon = mirror.get(ZIP).await;
    assert!(matches!(soon.status, 502 | 503), "{what}: {}", soon.status);
    assert_eq!(zip_requests(forge), before, "{what}: asked again at once");
    mend();
    mirror.clock.advance(Duration::from_secs(61));
    let later = mirror.get(ZIP).await;
    assert_eq!((later.status, later.sha256()), (200, sha256(forge)), "{what}");
}

/// A JSON error in place of the zip and nothing else; nothing is stored.
async fn refused(mirror: &Mirror, status: u16) -> String {
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, status, "{:?}", got.body);
    assert_eq!(got.header("connection"), "close");
    assert!(got.header("content-type").starts_with("application/json"), "{}", got.header("content-type"));
    assert_eq!(got.header("cache-control"), "no-store");
    nothing_is_kept(mirror).await;
    got.json()["message"].as_str().expect("a message").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_break_the_connection() {
    for lengths in BOTH {
        for at in [100, 2 * MIB, 4 * MIB] {
            let forge = forge(lengths, |r| r.stored().big(4 * MIB)).await;
            forge.fault(zips(), Fault::WrongBytesAt(at));
            breaks(&forge, &format!("{lengths:?} wrong at {at}"), || ()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_checksums_in_a_well_formed_zip_break_the_connection() {
    for lengths in BOTH {
        let forge = forge(lengths, |r| r.wrong_crc().big(MIB)).await;
        let mend = || drop(forge.repo(PACKAGE).tag(TAG, |r| r.big(MIB)));
        breaks(&forge, "wrong CRC", mend).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_end_record_breaks_the_connection() {
    for lengths in BOTH {
        let forge = forge(lengths, |r| r.stored().big(MIB)).await;
        let good = forge.zip_bytes(PACKAGE, TAG);
        for cut in [1, 22, 62, 63, 64, 65, 200, 100_000] {
            let bad = good.slice(..good.len() - cut);
            forge.repo(PACKAGE).tag(TAG, |r| r.raw_zip(&bad));
            let mend = || drop(forge.repo(PACKAGE).tag(TAG, |r| r.raw_zip(&good)));
            breaks(&forge, &format!("{lengths:?} without the last {cut}"), mend).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_the_end_break_the_connection() {
    for lengths in BOTH {
        let forge = forge(lengths, |r| r.stored().big(MIB)).await;
        let good = forge.zip_bytes(PACKAGE, TAG);
        let mut bad = good.to_vec();
        bad.extend_from_slice(&[0; 100]);
        forge.repo(PACKAGE).tag(TAG, |r| r.raw_zip(&bad));
        let mend = || drop(forge.repo(PACKAGE).tag(TAG, |r| r.raw_zip(&good)));
        breaks(&forge, "trailing bytes", mend).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_cleanly_but_too_early_breaks_the_connection() {
    for at in [5, MIB, 4 * MIB] {
        let forge = forge(Lengths::Never, |r| r.stored().big(4 * MIB)).await;
        forge.fault(zips(), Fault::EndShortAfter(at));
        breaks(&forge, &format!("ends after {at}"), || ()).await;
        let forge = crate::zips::forge(Lengths::Always, |r| r.stored().big(4 * MIB)).await;
        forge.fault(zips(), Fault::ShortLength(at));
        breaks(&forge, &format!("says it is {at}"), || ()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_in_place_of_a_zip_is_an_error_and_none_of_it_is_sent() {
    let forge = forge(Lengths::Never, |r| r.file("a", "b")).await;
    for fault in [
        Fault::Html200,
        Fault::status(200, &[("content-type", "application/zip")], "<!DOCTYPE html><html>PK</html>"),
        Fault::status(200, &[("content-type", "application/zip")], ""),
        Fault::status(200, &[("content-type", "application/zip")], "PK"),
        Fault::status(200, &[("content-type", "application/json")], r#"{"message": "secret words of the forge"}"#),
    ] {
        forge.clear_faults();
        forge.fault(zips(), fault.clone());
        let mirror = Mirror::over(&forge).await;
        let message = refused(&mirror, 502).await;
        assert!(!message.contains("html") && !message.contains("secret"), "{message}");
        mirror.clock.advance(Duration::from_secs(61));
        assert_eq!(mirror.get(ZIP).await.status, 200, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_before_its_head_is_an_error_with_the_right_status() {
    let forge = forge(Lengths::Never, |r| r.file("a", "b")).await;
    let short = || {
        setup(&forge).with(|config| {
            for upstream in config.upstreams.values_mut() {
                upstream.connect_timeout = Period(Duration::from_millis(500));
                upstream.response_timeout = Period(Duration::from_millis(500));
            }
        })
    };
    // The archive host refuses connections.
    forge.down_host(Host::Archive).await;
    refused(&short().start().await, 502).await;
    forge.up_host(Host::Archive).await;
    // The archive host closes before its head.
    forge.fault(zips(), Fault::Refuse).always();
    refused(&short().start().await, 502).await;
    forge.clear_faults();
    // The archive host sends no head.
    let stall = forge.fault(zips(), Fault::HeadStall).always();
    refused(&short().start().await, 504).await;
    stall.release();
    forge.clear_faults();
    for status in [500, 502, 503] {
        forge.fault(zips(), Fault::status(status, &[], "token=ghp_secret at 10.0.0.1")).always();
        let message = refused(&short().start().await, 502).await;
        assert!(!message.contains("secret") && !message.contains("10.0.0.1"), "{message}");
        forge.clear_faults();
    }
    assert_eq!(short().start().await.get(ZIP).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upstream_is_not_asked_again_during_the_cool_down() {
    let forge = forge(Lengths::Never, |r| r.file("a", "b")).await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    forge.fault(zips(), Fault::status(500, &[], "")).always();
    refused(&mirror, 502).await;
    let before = zip_requests(&forge);
    let cooling = mirror.get(ZIP).await;
    assert_eq!(cooling.status, 503, "{:?}", cooling.body);
    assert!(!cooling.header("retry-after").is_empty());
    assert_eq!(zip_requests(&forge), before);
    forge.clear_faults();
    mirror.clock.advance(Duration::from_secs(6));
    assert_eq!(mirror.get(ZIP).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_is_too_large_is_refused_before_a_byte_or_broken_by_counting() {
    let forge = forge(Lengths::Always, |r| r.stored().big(4 * MIB)).await;
    let small = || setup(&forge).with(|config| config.archives.max_size = ByteSize::mib(2));
    let message = refused(&small().start().await, 502).await;
    assert!(message.contains("larger"), "{message}");
    forge.lengths(Lengths::Never);
    let mirror = small().start().await;
    let mut client = Drink::of(mirror.open(ZIP).await);
    client.end().await.expect_err("a broken connection");
    assert!(client.read <= 2 * MIB, "{}", client.read);
    nothing_is_kept(&mirror).await;
    let exact = setup(&forge).with(|config| config.archives.max_size = ByteSize(len(&forge)));
    assert_eq!(exact.start().await.get(ZIP).await.sha256(), sha256(&forge), "the limit itself is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_unpacks_to_too_much_is_not_stored() {
    let forge = forge(Lengths::Never, |r| r.file("zeros", Bytes::from(vec![0; 8 << 20]))).await;
    let mirror = setup(&forge).with(|config| config.archives.max_inflated = ByteSize::mib(4)).start().await;
    let got = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
    assert!(got.as_ref().map_or(true, |got| got.status == 502), "{got:?}");
    nothing_is_kept(&mirror).await;
}
