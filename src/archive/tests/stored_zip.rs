//! Small files and facts about the entry point, read from zips of every packing.

use super::{build::Zip, views::read_at, *};
use crate::archive::{CentralDirectory, SmallFile, StoredZipError};
use crate::value::memory_budget::MemoryBudget;

fn small(zip: &[u8], verified: &[u8], file: SmallFile) -> Result<Option<String>, StoredZipError> {
    let facts = facts(verified);
    let read = |buf: &mut [u8], offset| read_at(zip, buf, offset);
    CentralDirectory::open(&facts, zip.len() as u64, &mut MemoryBudget::unlimited().share(), read)
        .expect("a directory")
        .small_file(file, None, read)
}

fn of(items: &[Item], file: SmallFile) -> Option<String> {
    let zip = build(items, b"").bytes;
    small(&zip, &zip, file).expect("readable")
}

#[test]
fn readme_and_syaml_are_read_from_every_packing() {
    type Change = fn(Item) -> Item;
    let changes: [Change; 5] = [
        |item| item,
        Item::stored,
        |item| item.described(true, false),
        |item| item.stored().described(false, true),
        |item| item.wide().described(true, true).extra(0x5455, &[1, 1, 2, 3, 4]),
    ];
    let text = "\u{8bf4}\u{660e} and more\n".repeat(900);
    for change in changes {
        for top in ["", "o-r-12b27ab/"] {
            let item = |name: &str, data: &str| change(Item::new(format!("{top}{name}"), data));
            let items = [
                item("docs/readme.md", "no"),
                item("ReadMe.MD", &text),
                item("s.yml", "root"),
                item("src/s.yaml", "app"),
                item("src/s.yml", "no"),
                item("empty", ""),
            ];
            assert_eq!(of(&items, SmallFile::Readme).as_deref(), Some(&*text));
            assert_eq!(of(&items, SmallFile::Syaml).as_deref(), Some("root"));
            assert_eq!(of(&items, SmallFile::ApplicationSyaml).as_deref(), Some("app"));
        }
    }
    assert_eq!(of(&[Item::new("t/readme.md", "")], SmallFile::Readme).as_deref(), Some(""));
    for (kind, file) in [
        (Some("Application"), SmallFile::ApplicationSyaml),
        (Some("project"), SmallFile::ApplicationSyaml),
        (Some("Component"), SmallFile::Syaml),
        (None, SmallFile::Syaml),
    ] {
        assert_eq!(SmallFile::syaml_of(kind), file);
    }
}

#[test]
fn small_file_that_cannot_be_shown_is_absent() {
    let at_limit = "x".repeat(256 << 10);
    let above = "x".repeat((256 << 10) + 1);
    assert_eq!(of(&[Item::new("t/readme.md", &at_limit)], SmallFile::Readme).map(|text| text.len()), Some(256 << 10));
    for item in [
        Item::new("t/readme.md", above),
        Item::new("t/readme.md", b"\xff\xfe"),
        Item::new("t/readme.md", "target").mode(0o120_777),
        Item::dir("t/readme.md/"),
        Item::new("t/readme.txt", ""),
    ] {
        assert_eq!(
            of(std::slice::from_ref(&item), SmallFile::Readme),
            None,
            "{:?}",
            String::from_utf8_lossy(&item.name)
        );
    }
    assert_eq!(of(&[Item::new("t/s.yaml", "x".repeat((64 << 10) + 1))], SmallFile::Syaml), None);
}

#[test]
fn damaged_small_file_is_an_error() {
    for item in [Item::new("t/readme.md", "some text"), Item::new("t/readme.md", "some text").stored()] {
        let zip = build(&[item], b"");
        let damaged = |zip: &Zip, at: usize| small(&zip.clone().flip(at).bytes, &zip.bytes, SmallFile::Readme);
        for at in zip.data[0].clone() {
            assert!(matches!(damaged(&zip, at), Err(StoredZipError::Damaged)), "byte {at}");
        }
        for at in [zip.locals[0], zip.locals[0] + 27, zip.locals[0] + 29] {
            assert!(matches!(damaged(&zip, at), Err(StoredZipError::Damaged)), "byte {at}");
        }
    }
}

#[test]
fn missing_entry_is_found_in_components_and_plugins_only() {
    let of = |top: &str, files: &[(&str, &str)]| {
        let items: Vec<Item> = files.iter().map(|(name, data)| Item::new(format!("{top}{name}"), data)).collect();
        facts(&build(&items, b"").bytes).missing_entry
    };
    let package = ("package.json", "{\"main\": \"./dist/index.js\"}");
    for top in ["", "o-r-12b27ab/"] {
        for kind in ["Type: Component", "Type: plugin", "Type: COMPONENT"] {
            let publish = ("publish.yaml", kind);
            let source = [publish, package, ("src/index.ts", ""), ("dist.txt", "")];
            assert_eq!(of(top, &source).as_deref(), Some("dist/index.js"), "{kind}");
            assert_eq!(of(top, &[publish, package, ("dist/index.js", "")]), None, "{kind}");
            assert_eq!(of(top, &[publish, ("readme.md", "")]).as_deref(), Some("package.json"), "{kind}");
        }
        for publish in ["Type: Project", "Type: Application", "Name: fc3", "Type: [", ""] {
            assert_eq!(of(top, &[("publish.yaml", publish), package]), None, "{publish}");
        }
        assert_eq!(of(top, &[package, ("readme.md", "")]), None, "no publish.yaml");
    }
    let linked = [
        Item::new("t/publish.yaml", "Type: Component"),
        Item::new("t/package.json", package.1),
        Item::new("t/dist", "build").mode(0o120_777),
    ];
    assert_eq!(facts(&build(&linked, b"").bytes).missing_entry, None, "a link");
    let value = verify(&build(&linked[..2], b"").bytes).expect("good").facts;
    assert_eq!(ZipFacts::missing_entry_in(&value), Some("dist/index.js"), "it is stored");
    assert_eq!(ZipFacts::missing_entry_in(&serde_json::Value::Null), None);
}
