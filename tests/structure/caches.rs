//! The table of caches in ARCHITECTURE.md is complete, and names types that exist.

use std::{collections::BTreeSet, fs};

use super::{files, is_test, items, module_of, root};

/// The first column of the table: `module::Type`.
fn listed_caches() -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("\n## Caches in the process\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let paths = rows.filter_map(|row| row.split('`').next()?.split_once("::"));
    paths.map(|(module, name)| (module.to_owned(), name.to_owned())).collect()
}

#[test]
fn every_cache_of_the_process_is_in_the_table() {
    let listed = listed_caches();
    assert!(listed.len() >= 10, "the table has lost its rows: {listed:?}");
    let mut defined = BTreeSet::new();
    let mut missing = Vec::new();
    for (path, source) in files("src", ".rs").into_iter().filter(|(path, _)| !is_test(path)) {
        let (module, _) = module_of(&path);
        let here: BTreeSet<_> = items::definitions(&source).into_iter().map(|name| (module.clone(), name)).collect();
        let is_cache = ["moka::", "BoundedCache<", "SharedWorkCache<"].into_iter().any(|used| source.contains(used));
        let is_kind = path.ends_with("value/bounded_cache.rs") || path.ends_with("registry/shared_work.rs");
        if is_cache && !is_kind && here.is_disjoint(&listed) {
            missing.push(path.display().to_string());
        }
        defined.extend(here);
    }
    assert!(missing.is_empty(), "caches without a row in the table: {missing:?}");
    let unknown: Vec<_> = listed.difference(&defined).collect();
    assert!(unknown.is_empty(), "the table names types that do not exist: {unknown:?}");
}
