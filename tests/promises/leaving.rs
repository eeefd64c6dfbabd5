//! A client that leaves, whenever it does, leaves nothing behind: no work in flight, no file, no slot.

use std::time::Duration;

use srm_mirror::value::Period;

use crate::{
    forge::{Fault, Lengths},
    mirror::{Mirror, setup},
    zips::{ZIP, asked, blobs, eventually, forge, len, sha256, spooled, zips},
};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_at_any_point_leaves_no_zombie() {
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
        // Whether it was aborted or had its head already: nobody reads any more.
        drop(request.await);
        gate.open();
        eventually("landed", || mirror.cache.archives().running_fills() == 0 && spooled(mirror.dir()) == 0).await;
        assert_eq!(blobs(mirror.dir()), 1, "gate at {at:?}");
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_fails_with_nobody_left_gives_everything_back() {
    let forge = forge(Lengths::Never, |r| r.stored().big(2 * MIB)).await;
    // With one slot for downloads, a slot that is not given back would stop everything.
    let setup = setup(&forge).with(|config| {
        config.archives.concurrency = 1;
        config.upstreams.values_mut().for_each(|upstream| upstream.concurrency = 1);
    });
    let mirror = setup.start().await;
    let cut = forge.fault(zips(), Fault::CutAfter(MIB)).always();
    let gate = forge.gate(zips(), MIB);
    for round in 1..=3 {
        drop(mirror.open(ZIP).await);
        gate.open();
        eventually("landed", || mirror.cache.archives().running_fills() == 0 && spooled(mirror.dir()) == 0).await;
        assert_eq!(asked(&forge), 4 * round);
        mirror.clock.advance(Duration::from_secs(6));
    }
    cut.remove();
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_room_that_leaves_ends_its_own_download() {
    let forge = forge(Lengths::Always, |r| r.stored().big(24 * MIB)).await;
    let setup = setup(&forge).with(|config| {
        config.disk.limit = srm_mirror::value::ByteSize::mib(6);
        config.upstreams.values_mut().for_each(|upstream| upstream.concurrency = 1);
        config.server.send_timeout = Period::secs(60);
    });
    let mirror = setup.start().await;
    for _ in 0..3 {
        drop(mirror.open(ZIP).await);
    }
    // The upstream's only slot is free again.
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    eventually("landed", || mirror.cache.archives().running_fills() == 0).await;
}
