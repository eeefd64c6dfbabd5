use std::iter;

use jiff::Timestamp;

use super::*;
use crate::{
    archive::ZipVerifier,
    cache::fakes::TestCache,
    entry::Key,
    registry::{Blocks, Config, Registry},
    value::memory_budget::MemoryBudget,
};

#[test]
fn the_manifest_of_a_package_comes_from_its_newest_version() {
    let keys = [
        "github/a/b/commit/12b27abb78e04142adfbdc4aa7fa9571ff05d67b",
        "github/a/b/tag/v1.10.0",
        "github/a/b/tag/v1.9.0",
        "github/a/b/tag/nightly",
        "github/a/b/tag/2.0.0-rc.1",
        "gitee/a/b/tag/x/y",
        "github/only/commits/commit/12b27abb78e04142adfbdc4aa7fa9571ff05d67b",
        "official:fc3/tag/0.1.9",
        "official:fc3/tag/0.1.22",
        "official:FC3/tag/9.0.0",
        "official:moving/revision/12b27abb78e04142adfbdc4aa7fa9571ff05d67b/dev",
        "nonsense",
    ];
    let mut newest = known::NewestTags::default();
    keys.into_iter().for_each(|key| newest.add(&Key::new(key), |_, tag| tag == "2.0.0-rc.1" || tag == "x/y"));
    let shown: Vec<_> = newest.0.iter().map(|(id, tags)| (id.as_str(), tags.newest.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("gitee/a/b", Some("x/y")),
            ("github/a/b", Some("2.0.0-rc.1")),
            ("github/only/commits", None),
            ("official:FC3", Some("9.0.0")),
            ("official:fc3", Some("0.1.22")),
            ("official:moving", None)
        ]
    );
    let allowed: Vec<_> = newest.0.values().map(|tags| tags.newest_allowed.as_deref()).collect();
    assert_eq!(allowed, [None, Some("v1.10.0"), None, Some("9.0.0"), Some("0.1.22"), None]);
}

fn listed(name: &str, description: Option<&str>) -> CatalogPackage {
    CatalogPackage { name: name.into(), description: description.map(str::to_owned), ..CatalogPackage::default() }
}

fn id(name: &str) -> PackageId {
    PackageId { upstream: "official".into(), name: PackageName::plain(name).expect("a name") }
}

#[test]
fn a_package_that_is_known_and_listed_appears_once_with_the_facts_of_both() {
    let manifest = CatalogPackage { tags: vec!["t".into()], kind: Some("Component".into()), ..listed("", Some("old")) };
    let known = ShownPackages {
        shown: vec![CatalogEntry { package: id("fc3"), facts: Arc::new(manifest), newest: None, is_known: true }],
        hidden: ["official:secret".to_owned()].into(),
    };
    let rows = [
        listed("fc3", Some("new")),
        listed("fc3", Some("a second row")),
        listed("secret", None),
        listed("denied", None),
        listed("a/b", None),
        listed("other", None),
    ];
    let packages = rows.into_iter().map(Arc::new).collect();
    let list = Arc::new(fetched::FetchedList { packages, fetched_at: Timestamp::UNIX_EPOCH });
    let lists = [UpstreamList { upstream: "official".into(), list }];
    let merged = merge(&known, &lists, |package| package.name.base_name() != "denied");
    let shown: Vec<_> = merged.iter().map(|entry| (entry.package.spec(), entry.is_known)).collect();
    assert_eq!(shown, [("official:fc3".to_owned(), true), ("official:other".to_owned(), false)]);
    let facts = &merged[0].facts;
    assert_eq!((facts.description.as_deref(), facts.kind.as_deref()), (Some("new"), Some("Component")));
    assert_eq!(facts.tags, ["t"]);
}

/// The use cases over an empty cache.
struct Rig {
    cache: TestCache,
    registry: Registry,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = TestCache::new();
        let blocks = Arc::new(Blocks::open(dir.path()).expect("opens"));
        let verify =
            Arc::new(ZipVerifier { max_entries: 100, max_inflated: 1 << 20, memory: MemoryBudget::unlimited() });
        let build = Registry::build;
        let registry =
            build(cache.cache.clone(), BTreeMap::new(), &Config::default(), blocks, verify, Vec::new(), None);
        Self { cache, registry: registry.expect("builds"), _dir: dir }
    }

    fn known(&self) -> &Arc<KnownPackages> {
        &self.registry.catalog.known
    }

    async fn at_hand(&self) -> Option<Arc<Catalog>> {
        self.registry.catalog.list_without_fetching(Vec::new(), Vec::new(), PATIENCE).await.expect("readable")
    }
}

const PATIENCE: Duration = Duration::from_millis(200);

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_collection_for_five_seconds_and_not_longer() {
    let rig = Rig::new();
    // As while the walk over the pins takes long.
    let collecting = rig.known().collecting.clone().lock_owned().await;
    let begun = tokio::time::Instant::now();
    let answer = rig.known().get(iter::empty()).await;
    assert!(matches!(answer, Err(RegistryError::NotCollected)));
    assert_eq!(begun.elapsed().as_secs(), known::FIRST_KNOWN_PATIENCE.as_secs());
    drop(collecting);
    assert!(rig.known().get(iter::empty()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_page_waits_a_moment_for_the_first_catalog_and_gets_the_older_one_while_the_next_is_made() {
    let rig = Rig::new();
    let collecting = rig.known().collecting.clone().lock_owned().await;
    let begun = tokio::time::Instant::now();
    assert!(rig.at_hand().await.is_none(), "the packages are being collected");
    assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    drop(collecting);
    let first = rig.at_hand().await.expect("collected");
    let refreshing = rig.registry.catalog.refreshing.clone().lock_owned().await;
    let begun = tokio::time::Instant::now();
    let older = rig.at_hand().await.expect("the older one");
    assert!(Arc::ptr_eq(&older, &first) && begun.elapsed().is_zero(), "{:?}", begun.elapsed());
    drop(refreshing);
    assert!(Arc::ptr_eq(&rig.at_hand().await.expect("a catalog"), &first), "nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_wants_recent_packages_makes_no_list_collect_them_again() {
    let rig = Rig::new();
    let first = rig.known().get(iter::empty()).await.expect("collected").collected_at;
    rig.cache.cache.clock().advance(known::RECENT_MAX_AGE / 2);
    assert_eq!(rig.known().recent(Vec::new()).await.expect("collected").collected_at, first);
    rig.cache.cache.clock().advance(10 * known::RECENT_MAX_AGE);
    assert_eq!(rig.known().get(iter::empty()).await.expect("collected").collected_at, first, "young enough for a list");
    let recent = rig.known().recent(Vec::new()).await.expect("collected").collected_at;
    assert!(recent > first, "collected again for the page");
    rig.cache.cache.clock().advance(known::KNOWN_MAX_AGE);
    assert!(rig.known().get(iter::empty()).await.expect("collected").collected_at > recent);
}

#[test]
fn no_more_packages_are_collected_than_the_limit_and_those_keep_their_newest_version() {
    let mut newest = known::NewestTags::default();
    for number in 0..known::MAX_KNOWN_PACKAGES + 10 {
        newest.add(&Key::new(format!("github/a/p{number:07}/tag/v1.0.0")), |_, _| false);
    }
    newest.add(&Key::new("github/a/p0000000/tag/v2.0.0"), |_, _| false);
    assert_eq!(newest.0.len(), known::MAX_KNOWN_PACKAGES);
    let first = newest.0.values().next().expect("a package");
    assert_eq!(first.newest.as_deref(), Some("v2.0.0"));
}
