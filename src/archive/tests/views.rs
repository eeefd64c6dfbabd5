//! Views, compared with what the zip crate reads of the zip and of its view.

use std::{
    io::{Cursor, Read},
    ops::Range,
};

use bytes::Bytes;

use super::*;
use crate::archive::view::{TopFolder, ViewError, ViewPlan, ViewSlice, ViewSpec};
use crate::value::memory_budget::MemoryBudget;

mod properties;
mod sparse;

/// The output of an unpacker: name, content, Unix mode.
type Listing = Vec<(String, Vec<u8>, Option<u32>)>;

fn listing(bytes: &[u8]) -> Listing {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    let entry = |index| {
        let mut file = zip.by_index(index).expect("an entry");
        let name = String::from_utf8(file.name_raw().to_vec()).expect("UTF-8");
        let mode = file.unix_mode();
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("content");
        (name, content, mode)
    };
    (0..zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip").len()).map(entry).collect()
}

fn foldered() -> ViewSpec {
    ViewSpec::Foldered { top: TopFolder::of_version("fc3", "0.1.22") }
}

fn folder(path: &str, top: Option<&str>) -> ViewSpec {
    let top = top.map(|top| TopFolder::of_version(top, "1"));
    ViewSpec::Folder { path: path.parse().expect("a path"), top }
}

/// The directory of a stored zip, read as a server reads it.
fn open(zip: &[u8], facts: &ZipFacts) -> Result<CentralDirectory, StoredZipError> {
    CentralDirectory::open(facts, zip.len() as u64, &mut MemoryBudget::unlimited().share(), |buf, offset| {
        read_at(zip, buf, offset)
    })
}

pub(super) fn read_at(zip: &[u8], buf: &mut [u8], offset: u64) -> std::io::Result<()> {
    let bytes = zip.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
    buf.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

fn plan(zip: &[u8], spec: &ViewSpec) -> Result<Option<ViewPlan>, ViewError> {
    open(zip, &facts(zip)).expect("a directory").view_plan(spec)
}

fn planned(zip: &[u8], spec: &ViewSpec) -> ViewPlan {
    plan(zip, spec).expect("possible").expect("another form")
}

/// A range of the view, slice by slice.
fn read(plan: &ViewPlan, zip: &[u8], range: Range<u64>) -> Vec<u8> {
    let bytes = |slice| match slice {
        ViewSlice::Stored(range) => zip[range.start as usize..range.end as usize].to_vec(),
        ViewSlice::Generated(range) => plan.generated()[range].to_vec(),
    };
    plan.slices(range).flat_map(bytes).collect()
}

/// A range of the view, read as a server reads it.
fn read_batches(plan: &ViewPlan, zip: &[u8], range: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut start = range.start;
    let end = range.end.min(plan.len());
    while start < end {
        let batch = plan.batch(start..end);
        assert!(batch.range().start == start && batch.range().end > start, "progress");
        let source = batch.source();
        let read = Bytes::copy_from_slice(&zip[source.start as usize..source.end as usize]);
        // The first call copies, because the buffer is shared; the second may assemble in place.
        let copied = batch.assemble(read.clone()).expect("complete");
        let moved = batch.assemble(read).expect("complete");
        assert_eq!(copied, moved);
        bytes.extend_from_slice(&moved);
        start = batch.range().end;
    }
    bytes
}

/// The listing of a view by the listing of its zip; `None` without the folder.
fn expected(zip: &Listing, spec: &ViewSpec) -> Option<Listing> {
    let first = zip.first().and_then(|(name, ..)| name.split_once('/')).map(|(top, _)| format!("{top}/"));
    let own_top = first.filter(|top| zip.iter().all(|(name, ..)| name.starts_with(&**top)));
    let (removed, added) = match spec {
        ViewSpec::Flat => (own_top.unwrap_or_default(), String::new()),
        ViewSpec::Foldered { .. } if own_top.is_some() => return Some(zip.clone()),
        ViewSpec::Foldered { top } => (String::new(), format!("{}/", top.as_str())),
        ViewSpec::Folder { path, top } => {
            let added = top.as_ref().map(|top| format!("{}/", top.as_str()));
            (format!("{}{}/", own_top.unwrap_or_default(), path.as_str()), added.unwrap_or_default())
        }
    };
    let view: Listing = zip
        .iter()
        .filter_map(|(name, content, mode)| {
            let name = format!("{added}{}", name.strip_prefix(&removed)?);
            (!name.is_empty()).then(|| (name, content.clone(), *mode))
        })
        .collect();
    (!view.is_empty() || !matches!(spec, ViewSpec::Folder { .. })).then_some(view)
}

/// Builds a zip and its view, compares them, and returns the view.
fn check(items: &[Item], spec: &ViewSpec) -> Vec<u8> {
    let zip = build(items, COMMIT).bytes;
    let plan = match plan(&zip, spec) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            assert_eq!(expected(&listing(&zip), spec), Some(listing(&zip)), "the zip has this form");
            return zip;
        }
        Err(error) => {
            assert_eq!((error, expected(&listing(&zip), spec)), (ViewError::NoSuchFolder, None));
            return Vec::new();
        }
    };
    let view = read(&plan, &zip, 0..u64::MAX);
    assert_eq!(view.len() as u64, plan.len());
    assert_eq!(Some(listing(&view)), expected(&listing(&zip), spec), "{spec:?}");
    // The view passes verification, with the same commit.
    assert_eq!(verify(&view).expect("the view is good").commit, verify(&zip).expect("good").commit);
    view
}

/// Entries without their top folder, as registries of the 3.x client send them.
fn without_top(items: Vec<Item>) -> Vec<Item> {
    let cut = |item: Item| {
        let name = item.name.splitn(2, |byte| *byte == b'/').nth(1).expect("in a folder").to_vec();
        (!name.is_empty()).then_some(Item { name, ..item })
    };
    items.into_iter().filter_map(cut).collect()
}

#[test]
fn every_view_has_the_same_files_in_every_packing() {
    type Change = fn(Item) -> Item;
    let changes: [(&str, Change); 7] = [
        ("as git packs", |item| item),
        ("stored", Item::stored),
        ("descriptors", |item| item.described(true, false)),
        ("bare descriptors", |item| item.described(false, false)),
        ("stored with descriptors", |item| item.stored().described(true, false)),
        ("zip64", Item::wide),
        ("zip64 with descriptors", |item| item.wide().described(true, true)),
    ];
    for (name, change) in changes {
        let items: Vec<Item> = usual().into_iter().map(change).collect();
        let flat = check(&items, &ViewSpec::Flat);
        assert_eq!(listing(&flat).len(), 7, "{name}");
        assert_eq!(facts(&build(&items, COMMIT).bytes).flat.map(|flat| flat.len), Some(flat.len() as u64), "{name}");
        let bare = without_top(items.clone());
        let in_folder = check(&bare, &foldered());
        assert!(listing(&in_folder).iter().all(|(name, ..)| name.starts_with("fc3-0.1.22/")), "{name}");
        for (items, entries) in [(&items, 4), (&bare, 4)] {
            assert_eq!(listing(&check(items, &folder("src", None))).len(), entries - 1, "{name}");
            assert_eq!(listing(&check(items, &folder("src", Some("app")))).len(), entries, "{name}");
            check(items, &folder("src", Some("a-name-longer-than-what-it-replaces")));
        }
    }
}

#[test]
fn zip_that_has_the_form_of_a_view_needs_no_plan() {
    let bare = build(&without_top(usual()), b"").bytes;
    let with_top = build(&usual(), b"").bytes;
    let empty = build(&[], b"").bytes;
    let long = build(&[Item::new(format!("{}/a", "x".repeat(256)), "x")], b"").bytes;
    for (zip, spec) in [
        (&bare, ViewSpec::Flat),
        (&with_top, foldered()),
        (&empty, ViewSpec::Flat),
        (&empty, foldered()),
        (&long, ViewSpec::Flat),
    ] {
        assert!(plan(zip, &spec).expect("possible").is_none(), "{spec:?}");
    }
    for names in [&["a"][..], &["t/a", "u/b"], &["t/a", "readme"]] {
        let items: Vec<Item> = names.iter().map(|name| Item::new(name, "x")).collect();
        let facts = facts(&build(&items, b"").bytes);
        assert!(facts.flat.is_none() && facts.central.is_some(), "{names:?}");
    }
}

#[test]
fn folder_without_entries_is_an_error() {
    let of = |path: &str| plan(&build(&usual(), b"").bytes, &folder(path, None)).err();
    assert_eq!(of("src"), None);
    for path in ["sr", "src2", "src/run.sh", "o-r-12b27ab", "README.md", "src/link"] {
        assert_eq!(of(path), Some(ViewError::NoSuchFolder), "{path}");
    }
    let lonely = [Item::new("t/a", ""), Item::dir("t/empty/")];
    let zip = build(&lonely, b"").bytes;
    assert_eq!(plan(&zip, &folder("empty", None)).err(), Some(ViewError::NoSuchFolder), "nothing is left");
    assert_eq!(listing(&check(&lonely, &folder("empty", Some("x"))))[0].0, "x-1/");
}

#[test]
fn name_that_does_not_fit_or_is_unsafe_in_a_view_is_an_error() {
    let deep = |len: usize| Item::new([b"a/b/", &vec![b'x'; len - 4][..]].concat(), "");
    // `fc3-0.1.22/` has 11 bytes.
    check(&[deep(65_535 - 11), Item::new("c", "")], &foldered());
    let zip = build(&[deep(65_535 - 10), Item::new("c", "")], b"").bytes;
    assert_eq!(plan(&zip, &foldered()).err(), Some(ViewError::NameTooLong));
    // A client removes a single top folder, so that the second part may become the first.
    for (name, paths) in [("t/a/b/C:/x", &["a", "a/b"][..]), ("t/a/b/x/C:y", &["a/b", "a/b/x"])] {
        let zip = build(&[Item::new(name, ""), Item::new("t/c", "")], b"").bytes;
        for path in paths {
            assert_eq!(plan(&zip, &folder(path, None)).err(), Some(ViewError::UnsafeName), "{name} in {path}");
            assert_eq!(plan(&zip, &folder(path, Some("x"))).err(), Some(ViewError::UnsafeName), "{name} in {path}");
        }
    }
    check(&[Item::new("t/a/b/x/C:y", ""), Item::new("t/c", "")], &folder("a", None));
}

#[test]
fn folders_of_views_are_safe_in_every_zip() {
    for (name, version, expected) in [
        ("fc3", "0.1.22", "fc3-0.1.22"),
        ("start-x", "start-x@1.2.3", "start-x-start-x-1.2.3"),
        ("x", "codeql-cli/v2.12.0", "x-codeql-cli-v2.12.0"),
        ("..", "..", "..-"),
        ("\u{fc}:\\\0", "1.0.0-rc.1+5", "-----1.0.0-rc.1+5"),
    ] {
        assert_eq!(TopFolder::of_version(name, version).as_str(), expected);
    }
    assert_eq!(TopFolder::of_version(&"x".repeat(300), "1").as_str().len(), 255);
}

#[test]
fn view_keeps_extra_fields_comments_flags_and_the_commit() {
    let items = [
        Item::dir("t/"),
        Item { comment: b"a note".to_vec(), ..Item::new("t/\u{6587}", "x").extra(0xbeef, &[9, 8]) },
        Item::new("t/b", "y").extra(0x7075, b"\x01\0\0\0\0t/b").extra(0xcafe, b"kept"),
    ];
    let bare = without_top(items.to_vec());
    for (view, top) in [(check(&items, &ViewSpec::Flat), ""), (check(&bare, &foldered()), "fc3-0.1.22/")] {
        let mut zip = zip::ZipArchive::new(Cursor::new(&view[..])).expect("a zip");
        assert_eq!(zip.comment(), COMMIT);
        let first = zip.by_index(0).expect("an entry");
        assert_eq!(first.name().expect("a name"), format!("{top}\u{6587}"), "the UTF-8 flag is kept");
        assert_eq!(first.comment(), "a note");
        assert_eq!(first.extra_data(), Some(b"\xef\xbe\x02\0\x09\x08".to_vec()));
        drop(first);
        let second = zip.by_index(1).expect("an entry");
        assert_eq!(second.extra_data(), Some(b"\xfe\xca\x04\0kept".to_vec()), "only the second name is removed");
    }
}

#[test]
fn view_keeps_the_order_of_the_central_directory() {
    let zip = build(&usual(), b"");
    let mut ends = zip.records[1..].to_vec();
    ends.push(zip.end);
    let records: Vec<&[u8]> = zip.records.iter().zip(&ends).map(|(from, to)| &zip.bytes[*from..*to]).collect();
    let reversed: Vec<u8> = records.iter().rev().flat_map(|record| record.to_vec()).collect();
    let bytes = [&zip.bytes[..zip.central], &reversed, &zip.bytes[zip.end..]].concat();
    for (spec, entries) in [(ViewSpec::Flat, 7), (folder("src", None), 3)] {
        let plan = planned(&bytes, &spec);
        let view = read(&plan, &bytes, 0..plan.len());
        assert_eq!(Some(listing(&view)), expected(&listing(&bytes), &spec));
        assert_eq!(listing(&view).len(), entries);
    }
}

#[test]
fn damaged_central_directory_is_an_error() {
    for items in [usual(), without_top(usual())] {
        let zip = build(&items, COMMIT).bytes;
        let facts = facts(&zip);
        let offset = facts.directory().expect("recorded").offset as usize;
        for at in offset..zip.len() {
            let mut damaged = zip.clone();
            damaged[at] ^= 1;
            assert!(matches!(open(&damaged, &facts), Err(StoredZipError::Damaged)), "byte {at}");
            assert!(open(&zip[..at], &facts).is_err(), "cut at {at}");
        }
        assert!(open(&zip[..offset - 1], &facts).is_err(), "cut before the directory");
    }
}

#[test]
fn directory_that_earlier_facts_do_not_describe_is_found_from_the_end() {
    let long_comment = [b'x'; 65_535];
    for (items, comment) in [
        (without_top(usual()), COMMIT),
        (without_top(usual()).into_iter().map(Item::wide).collect(), &long_comment),
        (Vec::new(), b""),
    ] {
        let zip = build(&items, comment).bytes;
        let recorded = facts(&zip);
        let earlier = ZipFacts { central: None, ..recorded.clone() };
        let found = open(&zip, &earlier).expect("found");
        assert_eq!(Some(DirectoryFacts::new(&found)), recorded.central);
        assert!(matches!(open(&zip[..zip.len() / 2], &earlier), Err(StoredZipError::Damaged)));
    }
    let text = serde_json::json!({"publish": {}, "entries": 3, "symlinks": 0, "inflated": 7});
    let earlier = ZipFacts::from_value(&text).expect("readable");
    assert_eq!((earlier.directory(), earlier.missing_entry), (None, None));
}

#[test]
fn batch_within_one_file_is_assembled_without_a_copy() {
    let data: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let item = |name: &str| Item::new(name, &data).stored();
    for (items, spec) in [([Item::dir("t/"), item("t/a")], ViewSpec::Flat), ([item("a"), Item::dir("t/")], foldered())]
    {
        let zip = build(&items, b"").bytes;
        let plan = planned(&zip, &spec);
        let batch = plan.batch(1_000..300_000);
        assert_eq!((batch.slices().len(), batch.range()), (1, 1_000..300_000));
        let source = batch.source();
        let read = Bytes::copy_from_slice(&zip[source.start as usize..source.end as usize]);
        assert_eq!(batch.assemble(read.clone()).expect("complete").as_ptr(), read.as_ptr());
        assert!(batch.assemble(read.slice(1..)).is_err(), "a truncated zip is an error");
        assert!(plan.weight() < 1_000);
    }
}

#[test]
fn scattered_folder_is_read_in_bounded_pieces() {
    let noise: Vec<u8> = (0..25_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files = |n: usize| [Item::new(format!("t/a/{n}"), "x"), Item::new(format!("t/b/{n}"), &noise).stored()];
    let zip = build(&(0..20).flat_map(files).collect::<Vec<_>>(), b"").bytes;
    let plan = planned(&zip, &folder("a", Some("x")));
    let mut start = 0;
    let mut batches = 0;
    while start < plan.len() {
        let batch = plan.batch(start..plan.len());
        let source = batch.source();
        assert!(source.end - source.start <= plan.len() + (256 << 10));
        start = batch.range().end;
        batches += 1;
    }
    assert!((5..20).contains(&batches), "{batches} reads of 2 MB for 20 small files");
    assert_eq!(read_batches(&plan, &zip, 0..plan.len()), read(&plan, &zip, 0..plan.len()));
}
