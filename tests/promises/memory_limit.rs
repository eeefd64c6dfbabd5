//! The memory for requests under way is bounded: work without memory waits briefly and is 503, and what is stored goes on.

use std::time::Instant;

use srm_mirror::value::{
    ByteSize,
    memory_budget::{MemoryShare, WAIT},
};

use crate::{
    forge::{Forge, Lengths},
    mirror::{Mirror, setup},
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
