//! An upstream that hangs, drips or fails: what is stored is served at once, nothing waits without a deadline, and one
//! upstream's trouble is not another's.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use srm_mirror::value::Period;

use crate::{
    forge::{Fault, Forge, Host, Match},
    mirror::{Mirror, Setup, setup},
};

const LIST: &str = "/devsapp/fc3/releases";
const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
/// Far beyond every period in which a document is fresh or served while it is revalidated.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v2.0.0", |r| r).branch("main", |r| r);
    forge.gitee_repo("example/demo").release("v1.0.0", |r| r);
    forge.accept_token("T0KEN");
    forge
}

fn millis(n: u64) -> Period {
    Period(Duration::from_millis(n))
}

fn for_all_upstreams(setup: Setup, change: impl Fn(&mut srm_mirror::upstream::Config)) -> Setup {
    setup.with(|config| config.upstreams.values_mut().for_each(change))
}

async fn reasons(mirror: &Mirror) -> Vec<String> {
    let ready = mirror.get("/readyz").await;
    assert_eq!(ready.status, 200, "it still serves");
    let reasons = ready.json()["reasons"].as_array().cloned().unwrap_or_default();
    reasons.iter().map(|reason| reason.as_str().expect("text").to_owned()).collect()
}

fn spooled(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("spool")).expect("a directory").count()
}

#[tokio::test]
async fn a_stored_zip_of_a_public_package_never_waits_for_the_look_at_its_repository() {
    let forge = forge().await;
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    let hung = forge.fault(Match::any(), Fault::HeadStall).always();
    for _ in 0..3 {
        mirror.clock.advance(YEAR);
        let started = Instant::now();
        let hit = mirror.get(ZIP).await;
        assert_eq!(hit.status, 200);
        assert!(started.elapsed() < Duration::from_millis(900), "less than the patience: {:?}", started.elapsed());
    }
    // The look goes on beside, and its result counts.
    hung.release();
    forge.clear_faults();
    forge.repo("devsapp/fc3").private();
    crate::eventually::eventually("refused", async || {
        mirror.clock.advance(YEAR);
        mirror.get(ZIP).await.status == 404
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_of_stale_lists_is_served_within_the_patience_while_the_forge_hangs() {
    let forge = forge().await;
    let names: Vec<String> = (0..128).map(|n| format!("devsapp/p{n}")).collect();
    for name in &names {
        forge.repo(name).release("v1.0.0", |r| r);
    }
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    for name in &names {
        assert_eq!(mirror.get(&format!("/{name}/releases")).await.status, 200);
    }
    forge.fault(Match::any(), Fault::HeadStall).always();
    mirror.clock.advance(YEAR);
    let started = Instant::now();
    let answer = async |name: &String| {
        let got = mirror.get(&format!("/{name}/releases")).await;
        (got.status, got.cache_status().ends_with("detail=patience"), started.elapsed())
    };
    let answers = join_all(names.iter().map(answer));
    for (status, is_stale, took) in answers.await {
        assert_eq!((status, is_stale), (200, true));
        assert!(took < Duration::from_millis(2500), "patience is 1 s: {took:?}");
    }
}

#[tokio::test]
async fn while_the_breaker_is_open_stale_lists_are_served_at_once_and_nothing_is_asked() {
    let forge = forge().await;
    let setup = for_all_upstreams(setup(&forge), |section| section.response_timeout = millis(50));
    let mirror = setup.with(|config| config.documents.patience = Period::secs(30)).start().await;
    assert_eq!(mirror.get(LIST).await.status, 200);
    forge.fault(Match::any(), Fault::HeadStall).always();
    for n in 0..5 {
        assert_eq!(mirror.get(&format!("/devsapp/none{n}/releases")).await.status, 504);
    }
    let asked = forge.requests().len();
    mirror.clock.advance(YEAR);
    let stale = mirror.get(LIST).await;
    assert_eq!(stale.status, 200, "{:?}", stale.body);
    let unknown = mirror.get("/devsapp/none9/releases").await;
    assert_eq!((unknown.status, unknown.header("retry-after").is_empty()), (503, false));
    assert_eq!(forge.requests().len(), asked, "the breaker is open");
    let reasons = reasons(&mirror).await;
    assert!(reasons.len() == 1 && reasons[0].starts_with("github does not answer"), "{reasons:?}");
}

#[tokio::test]
async fn a_503_with_retry_after_is_honoured_for_the_whole_host() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let busy = Fault::status(503, &[("retry-after", "40")], "{}");
    forge.fault(Match::any(), busy);
    assert_eq!(mirror.get(LIST).await.status, 502);
    let next = mirror.get("/devsapp/other/releases").await;
    assert_eq!(next.status, 503);
    let wait: u64 = next.header("retry-after").parse().expect("seconds");
    assert!((30..=40).contains(&wait), "{wait}");
    assert_eq!(forge.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_downloads_of_one_upstream_do_not_delay_another() {
    let forge = forge().await;
    let demo = (0..40).fold(forge.gitee_repo("example/demo"), |demo, n| demo.release(&format!("v2.{n}.0"), |r| r));
    drop(demo);
    let mirror = setup(&forge).start().await;
    forge.fault(Match::on(Host::Gitee), Fault::HeadStall).always();
    let hung: Vec<_> = (0..40)
        .map(|n| {
            let url = mirror.url(&format!("/gitee/example/demo/zipball/refs/tags/v2.{n}.0"));
            tokio::spawn(mirror.client.get(url).send())
        })
        .collect();
    // All 24 places but the last one, which is kept for another client.
    crate::eventually::eventually("hung", async || forge.count(|seen| seen.host == Host::Gitee) >= 23).await;
    let started = Instant::now();
    assert_eq!(mirror.get(ZIP).await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    hung.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_waits_for_a_place_beyond_the_deadline_gets_503_and_readyz_names_the_upstream() {
    let forge = forge().await;
    let setup = for_all_upstreams(setup(&forge), |section| {
        section.downloads = 1;
        section.queue_timeout = millis(100);
    });
    let mirror = setup.start().await;
    let gate = forge.gate(Match::path_contains("v1.0.0").host(Host::Archive), 10);
    let first = mirror.open(ZIP).await;
    gate.reached().await;
    let second = mirror.get("/devsapp/fc3/zipball/v2.0.0").await;
    assert_eq!((second.status, second.header("retry-after").is_empty()), (503, false), "{:?}", second.body);
    let reasons = reasons(&mirror).await;
    assert_eq!(reasons, ["github is short of places for downloads: requests were turned away"]);
    gate.open();
    assert!(first.bytes().await.expect("a whole zip").starts_with(b"PK"));
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v2.0.0").await.status, 200, "the shortage is not remembered");
    crate::eventually::eventually("landed", async || spooled(mirror.dir()) == 0).await;
}

#[tokio::test]
async fn a_branch_waits_for_its_upstream_whatever_the_patience() {
    let forge = forge().await;
    let mirror = setup(&forge).with(|config| config.documents.patience = Period::secs(0)).start().await;
    let branch = "/devsapp/fc3/zipball/refs/heads/main";
    assert_eq!(mirror.get(LIST).await.status, 200);
    assert_eq!(mirror.get(branch).await.status, 200);
    forge.repo("devsapp/fc3").branch("main", |r| r.file("new.txt", "new"));
    forge.repo("devsapp/fc3").release("v3.0.0", |r| r);
    mirror.clock.advance(YEAR);
    let gate = forge.gate_head(Match::any());
    let list = mirror.get(LIST).await;
    assert_eq!(list.json().as_array().map(Vec::len), Some(2), "stale, at once");
    let head = tokio::spawn(mirror.client.get(mirror.url(branch)).send());
    crate::eventually::eventually("asked", async || forge.count(|seen| seen.path().contains("/commits/")) == 2).await;
    gate.open();
    let head = head.await.expect("no panic").expect("an answer").bytes().await.expect("a zip");
    assert_eq!(srm_mirror::entry::Digest::of(&head).to_string(), forge.sha256("devsapp/fc3", "main"));
}

#[tokio::test]
async fn a_list_whose_pages_drip_ends_at_the_deadline_of_the_whole_walk() {
    let forge = forge().await;
    let setup = for_all_upstreams(setup(&forge), |section| section.total_timeout = millis(300));
    let mirror = setup.start().await;
    let drip = Fault::Slow { bytes: 1, pause: Duration::from_millis(20) };
    forge.fault(Match::path_contains("/releases"), drip).always();
    let late = mirror.get(LIST).await;
    assert_eq!(late.status, 504, "{:?}", late.body);
}
