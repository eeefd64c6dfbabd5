use jiff::Timestamp;

use super::*;
use crate::entry::Key;

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
    keys.into_iter().for_each(|key| newest.add(&Key::new(key)));
    let shown: Vec<_> = newest.0.iter().map(|(id, (_, tag))| (id.as_str(), tag.as_deref())).collect();
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
