//! The flat view, compared with what the zip crate reads of the zip and of its view.

use std::io::{Cursor, Read};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::archive::flat::{DamagedDirectory, FlatPlan, FlatSlice};

/// The output of an unpacker: name, content, Unix mode.
type Listing = Vec<(Vec<u8>, Vec<u8>, Option<u32>)>;

fn listing(bytes: &[u8]) -> Listing {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    let entry = |index| {
        let mut file = zip.by_index(index).expect("an entry");
        let name = file.name_raw().to_vec();
        let mode = file.unix_mode();
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("content");
        (name, content, mode)
    };
    (0..zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip").len()).map(entry).collect()
}

/// The plan of a stored zip's flat view, and the stored facts.
fn plan(zip: &[u8]) -> (FlatPlan, flat::FlatView) {
    let flat = facts(zip).flat.expect("a flat view");
    (flat.plan(Bytes::copy_from_slice(&zip[flat.central as usize..])).expect("a plan"), flat)
}

/// A range of the view, slice by slice.
fn read(plan: &FlatPlan, zip: &[u8], range: std::ops::Range<u64>) -> Vec<u8> {
    let bytes = |slice| match slice {
        FlatSlice::Stored(range) => zip[range.start as usize..range.end as usize].to_vec(),
        FlatSlice::Generated(range) => plan.generated()[range].to_vec(),
    };
    plan.slices(range).flat_map(bytes).collect()
}

/// A range of the view, read as a server reads it.
fn read_batch(plan: &FlatPlan, zip: &[u8], range: std::ops::Range<u64>) -> Bytes {
    let batch = plan.batch(range);
    let source = batch.source();
    let read = Bytes::copy_from_slice(&zip[source.start as usize..source.end as usize]);
    // The first call copies, because the buffer is shared; the second assembles in place.
    let copied = batch.assemble(read.clone()).expect("complete");
    let in_place = batch.assemble(read).expect("complete");
    assert_eq!(copied, in_place);
    in_place
}

fn check(items: &[Item], top: &str) -> Vec<u8> {
    let zip = build(items, COMMIT).bytes;
    let (plan, flat) = plan(&zip);
    let view = read(&plan, &zip, 0..u64::MAX);
    assert_eq!((view.len() as u64, plan.len()), (flat.len, flat.len));
    let cut = |(name, content, mode): (Vec<u8>, _, _)| {
        let name = name.strip_prefix(format!("{top}/").as_bytes()).expect("in the folder").to_vec();
        (!name.is_empty()).then_some((name, content, mode))
    };
    assert_eq!(listing(&view), listing(&zip).into_iter().filter_map(cut).collect::<Listing>());
    // The view passes verification, with the same commit.
    let of_zip = verify(&zip).expect("good");
    let of_view = verify(&view).expect("the view is good");
    assert_eq!(of_view.commit, of_zip.commit);
    view
}

#[test]
fn flat_view_has_the_same_files_without_the_top_folder() {
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
        let view = check(&items, "o-r-12b27ab");
        assert_eq!(listing(&view).len(), 7, "{name}");
    }
}

#[test]
fn flat_view_keeps_extra_fields_comments_flags_and_the_commit() {
    let items = [
        Item::dir("t/"),
        Item { comment: b"a note".to_vec(), ..Item::new("t/\u{6587}", "x").extra(0xbeef, &[9, 8]) },
        Item::new("t/b", "y").extra(0x7075, b"\x01\0\0\0\0t/b").extra(0xcafe, b"kept"),
    ];
    let view = check(&items, "t");
    let mut zip = zip::ZipArchive::new(Cursor::new(&view[..])).expect("a zip");
    assert_eq!(zip.comment(), COMMIT);
    let first = zip.by_index(0).expect("an entry");
    assert_eq!(first.name().expect("a name"), "\u{6587}", "the UTF-8 flag is kept");
    assert_eq!(first.comment(), "a note");
    assert_eq!(first.extra_data(), Some(b"\xef\xbe\x02\0\x09\x08".to_vec()));
    drop(first);
    let second = zip.by_index(1).expect("an entry");
    assert_eq!(second.extra_data(), Some(b"\xfe\xca\x04\0kept".to_vec()), "only the second name is removed");
}

#[test]
fn flat_view_keeps_the_order_of_the_central_directory() {
    let zip = build(&usual(), b"");
    let mut ends = zip.records[1..].to_vec();
    ends.push(zip.end);
    let records: Vec<&[u8]> = zip.records.iter().zip(&ends).map(|(from, to)| &zip.bytes[*from..*to]).collect();
    let reversed: Vec<u8> = records.iter().rev().flat_map(|record| record.to_vec()).collect();
    let bytes = [&zip.bytes[..zip.central], &reversed, &zip.bytes[zip.end..]].concat();
    let (plan, flat) = plan(&bytes);
    let view = read(&plan, &bytes, 0..flat.len);
    let names: Vec<Vec<u8>> = listing(&view).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names.first().map(|name| &name[..]), Some("\u{6587}\u{4ef6}.txt".as_bytes()));
    assert_eq!(names.len(), 7);
}

#[test]
fn zip_without_a_single_top_folder_has_no_flat_view() {
    let long = "x".repeat(256);
    for names in [&["a"][..], &["t/a", "u/b"], &["t/a", "readme"], &[&format!("{long}/a")]] {
        let items: Vec<Item> = names.iter().map(|name| Item::new(name, "x")).collect();
        assert_eq!(facts(&build(&items, b"").bytes).flat, None, "{names:?}");
    }
}

#[test]
fn damaged_central_directory_is_an_error() {
    let zip = build(&usual(), COMMIT).bytes;
    let (_, flat) = plan(&zip);
    let tail = &zip[flat.central as usize..];
    for at in 0..tail.len() {
        let mut damaged = tail.to_vec();
        damaged[at] ^= 1;
        assert_eq!(flat.plan(damaged.into()).err(), Some(DamagedDirectory), "byte {at}");
        assert_eq!(flat.plan(Bytes::copy_from_slice(&tail[..at])).err(), Some(DamagedDirectory), "cut at {at}");
    }
    let wrong = flat::FlatView { len: flat.len + 1, ..flat };
    assert_eq!(wrong.plan(Bytes::copy_from_slice(tail)).err(), Some(DamagedDirectory), "another length");
}

#[test]
fn batch_within_one_file_is_assembled_without_a_copy() {
    let data: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let zip = build(&[Item::dir("t/"), Item::new("t/a", &data).stored()], b"").bytes;
    let (plan, _) = plan(&zip);
    let batch = plan.batch(1_000..300_000);
    assert_eq!(batch.slices().len(), 1);
    let source = batch.source();
    let read = Bytes::copy_from_slice(&zip[source.start as usize..source.end as usize]);
    assert_eq!(batch.assemble(read.clone()).expect("complete").as_ptr(), read.as_ptr());
    assert!(batch.assemble(read.slice(1..)).is_err(), "a truncated zip is an error");
    assert!(plan.weight() < 1_000);
}

fn item() -> impl Strategy<Value = Item> {
    let name = "[a-z\u{4e00}-\u{4e20}]{1,6}(/[a-z]{1,4}){0,2}";
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0..5_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let descriptor = proptest::option::of(any::<(bool, bool)>());
    let mode = prop_oneof![Just(0_u32), Just(0o100_644), Just(0o100_755), Just(0o120_777)];
    (name, data, any::<(bool, bool)>(), descriptor, mode, proptest::collection::vec(any::<u8>(), 0..9)).prop_map(
        |(name, data, (deflate, wide), descriptor, mode, extra)| {
            let item = Item { deflate, descriptor, wide, ..Item::new(format!("top-1/{name}"), data) };
            item.mode(mode).extra(0xcafe, &extra)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_zip_and_its_flat_view_unpack_to_the_same_files(
        mut items in proptest::collection::vec(item(), 0..12),
        folder in any::<bool>(),
        ranges in proptest::collection::vec(any::<(u16, u16)>(), 16),
    ) {
        // Keep only entries whose names are not below each other.
        let mut names: Vec<Vec<u8>> = Vec::new();
        items.retain(|item| {
            let clashes = |name: &Vec<u8>| {
                let [a, b] = [[&name[..], b"/"].concat(), [&item.name[..], b"/"].concat()];
                a.starts_with(&b) || b.starts_with(&a)
            };
            let keep = !names.iter().any(clashes);
            if keep {
                names.push(item.name.clone());
            }
            keep
        });
        if folder || items.is_empty() {
            items.insert(0, Item::dir("top-1/"));
        }
        let view = check(&items, "top-1");
        let zip = build(&items, COMMIT).bytes;
        let (plan, flat) = plan(&zip);
        for (a, b) in ranges {
            let a = u64::from(a) % (flat.len + 2);
            let b = u64::from(b) % (flat.len + 2);
            let from = a.min(b);
            let to = a.max(b);
            let whole = &view[view.len().min(from as usize)..view.len().min(to as usize)];
            prop_assert_eq!(&read(&plan, &zip, from..to)[..], whole);
            prop_assert_eq!(&read_batch(&plan, &zip, from..to)[..], whole);
            prop_assert!(plan.slices(from..to).all(|slice| slice != FlatSlice::Stored(0..0) && slice != FlatSlice::Generated(0..0)));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_make_the_verifier_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        flips in proptest::collection::vec(any::<(u16, u8)>(), 1..6),
    ) {
        bytes.splice(0..0, *b"PK\x03\x04");
        let _ = verify(&bytes);
        let mut zip = build(&usual(), COMMIT).bytes;
        for (at, with) in flips {
            let at = usize::from(at) % zip.len();
            zip[at] = with;
        }
        let _ = verify(&zip);
    }
}
