//! A download that breaks in the middle is resumed, and only with the same bytes.

use crate::{
    forge::{Fault, Forge, Lengths},
    mirror::{Mirror, setup},
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, forge, len, pins, sha256, spooled, zip_requests, zips},
};
use srm_mirror::value::Period;
use std::time::Duration;

const MIB: u64 = 1 << 20;

async fn big(lengths: Lengths) -> Forge {
    forge(lengths, |r| r.stored().big(4 * MIB)).await
}

async fn nothing_is_kept(mirror: &Mirror) {
    eventually("the spool folder is empty", || {
        spooled(mirror.dir()) == 0 && mirror.cache.archives().running_fills() == 0
    })
    .await;
    assert_eq!((blobs(mirror.dir()), pins(mirror.dir()).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_in_the_middle_is_resumed_and_clients_see_only_whole_bytes() {
    for lengths in [Lengths::Never, Lengths::Always, Lengths::AfterFirst] {
        for at in [0, 1, 2 * MIB, 4 * MIB + 1] {
            let forge = big(lengths).await;
            let cut = forge.fault(zips(), Fault::CutAfter(at));
            let mirror = Mirror::over(&forge).await;
            let got = mirror.get(ZIP).await;
            assert_eq!((got.status, got.sha256()), (200, sha256(&forge)), "{lengths:?} cut at {at}");
            assert_eq!((zip_requests(&forge), cut.hits()), (2, 1));
            eventually("stored", || blobs(mirror.dir()) == 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_is_resumed() {
    let forge = big(Lengths::Always).await;
    let stall = forge.fault(zips(), Fault::Stall { after: MIB });
    let setup = setup(&forge).with(|config| {
        config.upstreams.values_mut().for_each(|upstream| upstream.idle_timeout = Period(Duration::from_millis(300)));
    });
    let mirror = setup.start().await;
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    assert_eq!((zip_requests(&forge), stall.hits()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_every_time_breaks_the_connection_and_cools_down() {
    for lengths in [Lengths::Never, Lengths::Always] {
        let forge = big(lengths).await;
        let cut = forge.fault(zips(), Fault::CutAfter(2 * MIB)).always();
        let mirror = Mirror::over(&forge).await;
        let mut clients = [Drink::of(mirror.open(ZIP).await), Drink::of(mirror.open(ZIP).await)];
        for client in &mut clients {
            client.end().await.expect_err("a broken connection");
        }
        nothing_is_kept(&mirror).await;
        assert_eq!(zip_requests(&forge), 4, "one request and three resumptions");

        let cooling = mirror.get(ZIP).await;
        assert_eq!(cooling.status, 503, "{:?}", cooling.body);
        assert!(cooling.header("retry-after").parse::<u64>().expect("seconds") >= 1);
        assert_eq!(cooling.header("connection"), "close");
        assert_eq!(zip_requests(&forge), 4, "nothing is asked while it cools down");

        cut.remove();
        mirror.clock.advance(Duration::from_secs(6));
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_on_resumption_break_the_connection_and_are_never_mixed() {
    for lengths in [Lengths::Never, Lengths::Always] {
        let forge = forge(lengths, |r| r.file("a.txt", "a".repeat(9000)).noise("big.bin", 1, 4 * MIB)).await;
        let old = sha256(&forge);
        let gate = forge.gate(zips(), 2 * MIB);
        forge.fault(zips(), Fault::CutAfter(2 * MIB));
        let mirror = Mirror::over(&forge).await;
        let mut client = Drink::of(mirror.open(ZIP).await);
        client.until(MIB).await;
        forge.repo(PACKAGE).repack(TAG);
        assert_ne!(old, sha256(&forge), "packed anew");
        gate.open();
        client.end().await.expect_err("a broken connection");
        assert!(client.read <= 2 * MIB);
        nothing_is_kept(&mirror).await;
        mirror.clock.advance(Duration::from_secs(6));
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    }
}

/// The content differs only after the break: length and prefix agree, and verification must still find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_rest_after_a_resumption_is_found_at_the_end() {
    let forge = big(Lengths::Always).await;
    forge.fault(zips(), Fault::CutAfter(2 * MIB));
    forge.fault(zips(), Fault::WrongBytesAt(3 * MIB));
    let mirror = Mirror::over(&forge).await;
    let mut client = Drink::of(mirror.open(ZIP).await);
    client.end().await.expect_err("a broken connection");
    assert!(client.read <= len(&forge) - 64);
    nothing_is_kept(&mirror).await;
}
