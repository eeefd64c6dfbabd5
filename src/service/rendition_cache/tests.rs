use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use serde_json::Map;

use super::*;
use crate::http::template::{Slot, SlotTexts};
use crate::{
    dialect::{Config, NamedUpstream, Names, OfficialRoutes, PageRequest},
    package::{PackageId, Release, Releases},
    service::{found_package::FoundPackage, rendition::RenderedDocument},
};

fn release(tag: &str, notes: &str) -> Release {
    Release {
        tag_name: tag.to_owned(),
        name: None,
        created_at: Timestamp::UNIX_EPOCH,
        published_at: None,
        prerelease: false,
        body: notes.to_owned(),
        assets: Vec::new(),
        rest: Map::new(),
    }
}

fn list(count: usize, notes: &str) -> Arc<Releases> {
    let releases = (0..count).map(|number| release(&format!("v{number}"), notes)).collect();
    Arc::new(Releases { releases, ..Releases::default() })
}

fn job(dialect: Dialect, base: &str, list: &Arc<Releases>) -> RenderJob {
    let upstreams = vec![NamedUpstream::forge("github")];
    let names = Names::new(&Config::default(), &[], upstreams, OfficialRoutes::Off).expect("valid");
    let package = PackageId { upstream: "github".into(), name: "o/r".parse().expect("a name") };
    RenderJob {
        base: base.to_owned(),
        dialect,
        names: Arc::new(names),
        package: FoundPackage::Package(package),
        document: RenderedDocument::Releases(list.clone()),
    }
}

fn key(document: &[u8], dialect: Dialect) -> RenditionKey {
    let document = Digest::of(document);
    let coding = RenditionForm::Identity;
    RenditionKey { document, form: "releases", dialect, package: "github/o/r".into(), coding }
}

fn cache(capacity: u64) -> Arc<RenditionCache> {
    Arc::new(RenditionCache::new(capacity, Box::new(|task| drop(tokio::spawn(task))), MemoryBudget::unlimited()))
}

fn text(rendition: &Rendition, base: &str, page: Option<PageRequest>) -> String {
    let texts = SlotTexts::default().with(Slot::Base, base).with(Slot::RequestId, "id-1");
    let mut filled = rendition.fill(&texts, page);
    let len = filled.left();
    let mut all = Vec::new();
    while let Some(chunk) = filled.next_chunk() {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all.len() as u64, len, "the announced length");
    String::from_utf8(all).expect("text")
}

#[tokio::test]
async fn one_rendition_serves_every_host_and_every_page() {
    let cache = cache(1 << 20);
    let all = list(45, "notes");
    for dialect in [Dialect::Srm, Dialect::Simple, Dialect::V3] {
        let first = cache.get(key(b"1", dialect), || job(dialect, "http://a", &all)).await.expect("rendered");
        for number in 1..=100 {
            let base = format!("https://host-{number}.example:8443");
            let same = cache.get(key(b"1", dialect), || job(dialect, &base, &all)).await.expect("kept");
            assert!(Arc::ptr_eq(&first, &same));
            let alone = job(dialect, &base, &all).render();
            assert_eq!(text(&same, &base, None), text(&alone, &base, None), "as if it were rendered for this host");
            assert_eq!(same.etag(&base, None), alone.etag(&base, None));
            let page = PageRequest { per_page: 30, page: number };
            let shown = list(0, "");
            let mut shown = (*shown).clone();
            shown.releases = page.slice(&all.releases).to_vec();
            let of_page = job(dialect, &base, &Arc::new(shown)).render();
            assert_eq!(text(&same, &base, Some(page)), text(&of_page, &base, None), "page {number}");
        }
    }
    assert_eq!(cache.kept().await.0, 3);
}

#[tokio::test]
async fn the_text_for_the_first_host_is_shared_by_all_its_readers() {
    let cache = cache(1 << 20);
    let all = list(45, "notes");
    let rendition = cache.get(key(b"1", Dialect::Srm), || job(Dialect::Srm, "http://a", &all)).await.expect("rendered");
    let whole = rendition.whole_with("http://a").expect("whole");
    assert_eq!(whole.as_ptr(), rendition.whole_with("http://a").expect("whole").as_ptr());
    assert!(rendition.whole_with("http://b").is_none());
    let with_id = cache.get(key(b"1", Dialect::V3), || job(Dialect::V3, "http://a", &all)).await.expect("rendered");
    assert!(with_id.whole_with("http://a").is_none(), "it names the request");
}

#[tokio::test]
async fn nothing_that_an_upstream_sends_is_taken_for_the_base() {
    let all = list(1, "base-0000 \u{0} \u{1} http://a {base}");
    let rendition = job(Dialect::Srm, "http://a", &all).render();
    let shown: serde_json::Value = serde_json::from_str(&text(&rendition, "http://other", None)).expect("JSON");
    assert_eq!(shown[0]["body"], "base-0000 \u{0} \u{1} http://a {base}");
    assert_eq!(shown[0]["zipball_url"], "http://other/o/r/zipball/v0");
}

#[tokio::test]
async fn a_large_document_is_rendered_once_for_all_that_wait_while_small_ones_are_answered() {
    let cache = cache(16 << 20);
    let large = list(100, &"x".repeat(10_000));
    let turns = cache.large_jobs.acquire_many(LARGE_JOBS as u32).await.expect("free");
    let mut readers = Vec::new();
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        let cache = cache.clone();
        let large = large.clone();
        let asked = asked.clone();
        readers.push(tokio::spawn(async move {
            asked.fetch_add(1, Ordering::SeqCst);
            cache.get(key(b"large", Dialect::Srm), || job(Dialect::Srm, "http://a", &large)).await.expect("rendered")
        }));
    }
    while asked.load(Ordering::SeqCst) < 200 {
        tokio::task::yield_now().await;
    }
    let small = list(1, "small");
    cache.get(key(b"small", Dialect::Srm), || job(Dialect::Srm, "http://a", &small)).await.expect("answered at once");
    assert!(readers.iter().all(|reader| !reader.is_finished()));
    // A reader that leaves takes nothing from the others.
    readers.remove(0).abort();
    drop(turns);
    let mut renditions = Vec::new();
    for reader in readers {
        renditions.push(reader.await.expect("answered"));
    }
    assert!(renditions.iter().all(|rendition| Arc::ptr_eq(rendition, &renditions[0])));
}

#[tokio::test(start_paused = true)]
async fn a_large_document_that_gets_no_turn_is_refused_after_a_while() {
    let cache = cache(16 << 20);
    let _turns = cache.large_jobs.acquire_many(LARGE_JOBS as u32).await.expect("free");
    let large = list(100, &"x".repeat(10_000));
    let refused = cache.get(key(b"large", Dialect::Srm), || job(Dialect::Srm, "http://a", &large)).await;
    assert!(matches!(refused.err(), Some(ApiError::Overloaded)));
}

#[tokio::test]
async fn renditions_and_their_gzip_forms_stay_within_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let cache = cache(LIMIT);
    let all = list(20, &"notes ".repeat(500));
    for number in 0..200_u32 {
        let key = RenditionKey { package: "x".repeat(400).into(), ..key(&number.to_le_bytes(), Dialect::Srm) };
        let rendition = cache.get(key.clone(), || job(Dialect::Srm, "http://a", &all)).await.expect("rendered");
        assert!(cache.keeps_gzip_of(&rendition));
        let gzip = cache.gzip(key, &rendition).await.expect("compressed");
        assert_eq!(gzip.etag("http://a", None), rendition.gzip_etag());
        assert_ne!(rendition.gzip_etag(), rendition.etag("http://a", None));
        assert!(gzip.weight() * 5 < rendition.weight(), "{} of {}", gzip.weight(), rendition.weight());
    }
    let (count, weight) = cache.kept().await;
    assert!((LIMIT / 2..=LIMIT).contains(&weight) && count > 10, "{count} renditions, {weight} bytes");
    let empty = job(Dialect::Srm, "http://a", &list(0, "")).render();
    assert!(!cache.keeps_gzip_of(&empty), "too small");
    let huge = job(Dialect::Srm, "http://a", &list(1, &"x".repeat(LIMIT as usize))).render();
    assert!(!cache.keeps_gzip_of(&huge), "it would be compressed for every request");
}
