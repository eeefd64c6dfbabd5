//! Facts about one folder of a stored zip.

use super::{build::Zip, views::read_at, *};
use crate::archive::{CentralDirectory, FolderFacts, StoredZipError};
use crate::package::ModelRule;
use crate::value::memory_budget::MemoryBudget;

fn read(zip: &[u8], verified: &[u8], path: &str) -> Result<Option<FolderFacts>, StoredZipError> {
    let facts = facts(verified);
    let read = |buf: &mut [u8], offset| read_at(zip, buf, offset);
    let central = CentralDirectory::open(&facts, zip.len() as u64, &mut MemoryBudget::unlimited().share(), read)
        .expect("a directory");
    central.folder_facts(&path.parse().expect("a path"), read)
}

fn of(items: &[Item], path: &str) -> Option<FolderFacts> {
    let zip = build(items, b"").bytes;
    read(&zip, &zip, path).expect("readable")
}

#[test]
fn facts_of_a_folder_are_those_of_its_own_files() {
    for top in ["", "apps-12b27ab/"] {
        let item = |name: &str, data: &str| Item::new(format!("{top}{name}"), data);
        let package = "{\"main\": \"dist/index.js\"}";
        let items = [
            item("publish.yaml", "Type: Component\nName: root\nVersion: 9.9.9"),
            item("package.json", package),
            item("dist/index.js", ""),
            item("apps/x/publish.yaml", "Type: Component\nName: x\nVersion: 1.2.3"),
            item("apps/x/package.json", package),
            item("apps/xy/publish.yml", "Type: Component\nName: xy"),
            item("apps/xy/package.json", package),
            item("apps/xy/dist/index.js", ""),
            item("apps/z/readme.md", ""),
        ];
        let x = of(&items, "apps/x").expect("a folder");
        assert_eq!((x.publish.name.as_deref(), x.publish.version.as_deref()), (Some("x"), Some("1.2.3")));
        assert_eq!(x.missing_entry.as_deref(), Some("dist/index.js"), "the root's does not count");
        let xy = of(&items, "apps/xy").expect("a folder");
        assert_eq!((xy.publish.name.as_deref(), xy.missing_entry), (Some("xy"), None));
        let z = of(&items, "apps/z").expect("a folder");
        assert_eq!((&z.publish, &z.missing_entry), (&PublishManifest::default(), &None), "without publish.yaml");
        let rules =
            |facts: FolderFacts| facts.model.expect("checked").into_iter().map(|found| found.rule).collect::<Vec<_>>();
        assert_eq!(rules(z), [ModelRule::PublishYaml], "the root's does not count");
        assert_eq!(of(&items, "apps").expect("a folder").publish.name, None);
        assert_eq!(facts(&build(&items, b"").bytes).publish.name.as_deref(), Some("root"));
    }
}

#[test]
fn a_folder_without_entries_does_not_exist() {
    let items = [Item::dir("t/"), Item::dir("t/empty/"), Item::new("t/apps/x", "a file"), Item::new("t/apps/xy/a", "")];
    for path in ["empty", "apps/x", "app", "apps/x/y", "t", "t/apps", "X"] {
        assert_eq!(of(&items, path), None, "{path}");
    }
    assert!(of(&items, "apps").is_some() && of(&items, "apps/xy").is_some());
}

#[test]
fn damaged_file_of_a_folder_is_an_error_and_damage_elsewhere_is_none() {
    let items = [Item::new("t/x/publish.yaml", "Type: Component").stored(), Item::new("t/y/a", "other").stored()];
    let zip: Zip = build(&items, b"");
    let damaged = |at: usize| read(&zip.clone().flip(at).bytes, &zip.bytes, "x");
    assert!(matches!(damaged(zip.data[0].start), Err(StoredZipError::Damaged)));
    assert!(damaged(zip.data[1].start).is_ok());
}
