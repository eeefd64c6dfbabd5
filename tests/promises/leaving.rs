//! A client that disconnects at any moment leaves no task, no file and no occupied slot.

use std::time::Duration;

use srm_mirror::value::Period;

use crate::{
    forge::{Fault, Lengths},
    mirror::{Mirror, setup},
    zips::{ZIP, blobs, eventually, forge, len, sha256, spooled, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_at_any_point_leaves_no_work() {
    let forge = forge(Lengths::Never, |r| r.stored().big(2 * MIB)).await;
    let whole = len(&forge);
    // Before the head; after the first bytes; in the middle; before the last byte.
    for at in [None, Some(1), Some(10), Some(whole / 2), Some(whole - 1)] {
        let mirror = Mirror::over(&forge).await;
        let gate = at.map_or_else(|| forge.gate_head(zips()), |at| forge.gate(zips(), at));
        let request = tokio::spawn(mirror.client.get(mirror.url(ZIP)).send());
        gate.reached().await;
        assert_eq!(mirror.cache.archives().running_fills(), 1);
        request.abort();
        // Aborted before or after its head: the connection is closed in both cases.
        drop(request.await);
        gate.open();
        eventually("landed", || mirror.cache.archives().running_fills() == 0 && spooled(mirror.dir()) == 0).await;
        assert_eq!(blobs(mirror.dir()), 1, "gate at {at:?}");
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_fill_without_clients_releases_everything() {
    let forge = forge(Lengths::Never, |r| r.stored().big(2 * MIB)).await;
    // With one place for downloads, a place that is not released would stop everything.
    let setup = setup(&forge).with(|config| config.upstreams.values_mut().for_each(|upstream| upstream.downloads = 1));
    let mirror = setup.start().await;
    let cut = forge.fault(zips(), Fault::CutAfter(MIB)).always();
    let gate = forge.gate(zips(), MIB);
    let mut asked_before = 0;
    for round in 1..=3 {
        drop(mirror.open(ZIP).await);
        gate.open();
        eventually("landed", || mirror.cache.archives().running_fills() == 0 && spooled(mirror.dir()) == 0).await;
        // Each fill asks once, and up to three times more while the budget of retries lasts.
        let asked_now = zip_requests(&forge);
        assert!((asked_before + 1..=asked_before + 4).contains(&asked_now), "round {round}: {asked_now}");
        asked_before = asked_now;
        mirror.clock.advance(Duration::from_secs(6));
    }
    cut.remove();
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_a_zip_without_room_leave_no_work() {
    let forge = forge(Lengths::Always, |r| r.stored().big(24 * MIB)).await;
    let setup = setup(&forge).with(|config| {
        config.disk.limit = srm_mirror::value::ByteSize::mib(6);
        config.memory.limit = Some(srm_mirror::value::ByteSize::mib(512));
        config.upstreams.values_mut().for_each(|upstream| upstream.downloads = 1);
        config.server.send_timeout = Period::secs(60);
    });
    let mirror = setup.start().await;
    for _ in 0..3 {
        drop(mirror.open(ZIP).await);
    }
    // The upstream's only place is free again.
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    eventually("landed", || mirror.cache.archives().running_fills() == 0).await;
}
