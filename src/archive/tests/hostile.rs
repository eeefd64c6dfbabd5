//! Zips that must not pass, each wrong in one point.

use super::{
    build::{Zip, build},
    *,
};

fn clause(bytes: &[u8]) -> String {
    match verify(bytes) {
        Err(VerifyError::Invalid(clause)) => clause,
        other => panic!("expected a verdict, got {other:?}"),
    }
}

fn plain() -> Zip {
    build(&usual(), COMMIT)
}

fn wide() -> Zip {
    build(&usual().into_iter().map(|item| item.wide().described(true, true)).collect::<Vec<_>>(), COMMIT)
}

/// Descriptors of all sorts, and stored entries that only the second pass can read.
fn late() -> Zip {
    let items = usual().into_iter().enumerate();
    let items = items.map(|(n, item)| if n < 2 { item } else { item.stored().described(n % 2 == 0, n % 3 == 0) });
    build(&items.collect::<Vec<_>>(), COMMIT)
}

#[test]
fn a_zip_cut_off_anywhere_is_refused() {
    for zip in [plain(), wide(), late()] {
        for len in 0..zip.bytes.len() {
            clause(&zip.bytes[..len]);
        }
    }
}

#[test]
fn no_flipped_byte_goes_unseen_but_where_it_says_nothing_of_the_content() {
    for zip in [plain(), wide(), late()] {
        let verified = verify(&zip.bytes).expect("good");
        for at in 0..zip.bytes.len() - COMMIT.len() {
            // Versions, times, attributes and the like may change: then the content is still what it was.
            if let Ok(other) = verify(&zip.clone().flip(at).bytes) {
                assert_eq!(other.manifest, verified.manifest, "byte {at}");
                assert!(zip.data.iter().all(|data| !data.contains(&at)), "byte {at} of the data");
            }
        }
    }
}

#[test]
fn a_zip_that_is_wrong_in_one_point_is_refused_for_that() {
    let z = plain();
    let local = z.locals[1];
    let record = z.records[1];
    let cases: Vec<(&str, Zip, &str)> = vec![
        ("data", z.clone().flip(z.data[7].start), "entry 8 of the zip has a wrong CRC"),
        ("deflated data", z.clone().flip(z.data[1].start), "entry 2 of the zip has"),
        ("crc", z.clone().flip(local + 14), "wrong CRC"),
        ("crc in the directory", z.clone().flip(record + 16), "differs from its central directory"),
        ("size", z.clone().set(local + 22, &[1, 0, 0, 0]), "another size"),
        ("packed size", z.clone().set(local + 18, &[9, 0, 0, 0]), "broken data"),
        ("size in the directory", z.clone().flip(record + 24), "differs"),
        ("name in the directory", z.clone().set(record + 46, b"x-r"), "differs"),
        ("method in the directory", z.clone().set(record + 10, &[0]), "differs"),
        ("order of names", z.clone().set(record + 42, &[0; 4]), "overlap"),
        ("encrypted", z.clone().both(1, (6, 8), 1), "encrypted"),
        ("strongly encrypted", z.clone().both(1, (6, 8), 0x41), "encrypted"),
        ("patch data", z.clone().both(1, (6, 8), 0x20), "patch"),
        ("masked", z.clone().both(1, (6, 8), 0x2000), "encrypted"),
        ("encrypted in the directory only", z.clone().set(record + 8, &[1]), "differs"),
        ("utf-8 in the directory only", z.clone().set(record + 9, &[8]), "differs"),
        ("bzip2", z.clone().both(1, (8, 10), 12), "method"),
        ("lzma", z.clone().both(1, (8, 10), 14), "method"),
        ("trailing bytes", z.clone().insert(z.bytes.len(), b"x"), "behind its end"),
        ("two zips", z.clone().insert(z.bytes.len(), &z.bytes), "does not fit"),
        ("bytes in front", z.clone().insert(0, b"#!/bin/sh\n"), "no entry"),
        ("bytes in between", z.clone().insert(local, b"xxxx"), "no entry"),
        ("bytes before the directory", z.clone().insert(z.central, b"xxxx"), "no entry"),
        ("bytes after the directory", z.clone().insert(z.end, b"xxxx"), "does not fit"),
        ("an end in the comment", z.clone().set(z.bytes.len() - 40, b"PK\x05\x06"), "comment"),
        ("count", z.clone().set(z.end + 8, &[7, 0, 7, 0]), "number of entries"),
        ("disks", z.clone().set(z.end + 4, &[1]), "disks"),
        ("counts of disks", z.clone().set(z.end + 8, &[7]), "disks"),
        ("directory's size", z.clone().flip(z.end + 12), "does not fit"),
        ("directory's offset", z.clone().flip(z.end + 16), "does not fit"),
        ("a device", z.clone().set(record + 41, &[0o020_000_u16.to_le_bytes()[1]]), "central directory"),
        ("no signature in the directory", z.clone().flip(record), "central directory"),
    ];
    for (name, zip, expected) in cases {
        let clause = clause(&zip.bytes);
        assert!(clause.contains(expected), "{name}: {clause}");
    }
}

#[test]
fn wrong_zip64_records_and_descriptors_are_refused() {
    let z = wide();
    let descriptor = z.data[1].end;
    for (name, zip) in [
        ("locator", z.clone().flip(z.plain_end - 20)),
        ("locator's offset", z.clone().flip(z.plain_end - 12)),
        ("record's length", z.clone().flip(z.end + 4)),
        ("record's disk", z.clone().flip(z.end + 16)),
        ("count", z.clone().flip(z.end + 32)),
        ("directory's size", z.clone().flip(z.end + 40)),
        ("directory's offset", z.clone().flip(z.end + 48)),
        ("plain count that differs", z.clone().set(z.plain_end + 8, &[1, 0, 1, 0])),
        ("descriptor's CRC", z.clone().flip(descriptor + 4)),
        ("descriptor's packed size", z.clone().flip(descriptor + 8)),
        ("descriptor's upper half", z.clone().flip(descriptor + 13)),
        ("descriptor's size", z.clone().flip(descriptor + 16)),
    ] {
        assert!(!clause(&zip.bytes).is_empty(), "{name}");
    }
}

#[test]
fn names_that_unpackers_could_trip_over_are_refused() {
    for (names, expected) in [
        (&["t/../../etc/passwd"][..], "leads out"),
        (&["../x"], "leads out"),
        (&["/etc/passwd"], "absolute"),
        (&["t//etc/passwd"], "empty part"),
        (&["t/./x"], "empty part"),
        (&["t/C:/x"], "drive"),
        (&["t\\..\\x"], "leads out"),
        (&["t/a\0.txt"], "zero byte"),
        (&[""], "no name"),
        (&["t/a", "t/b", "t/a"], "same name"),
        (&["t/a", "t/a/b"], "beneath"),
    ] {
        let items: Vec<Item> = names.iter().map(|name| Item::new(name, "x")).collect();
        let clause = clause(&build(&items, b"").bytes);
        assert!(clause.contains(expected), "{names:?}: {clause}");
        assert!(!clause.contains("etc"), "the zip's own words are not repeated");
    }
    let through = [Item::new("t/a", "/etc").mode(0o120_777), Item::new("t/a/passwd", "x")];
    assert!(clause(&build(&through, b"").bytes).contains("beneath"), "through a link");
    let second = |crc: u32, name: &[u8]| {
        let item = Item::new("t/a", "x").extra(0x7075, &[&[1][..], &crc.to_le_bytes(), name].concat());
        build(&[item], b"").bytes
    };
    let crc = crc32fast::hash(b"t/a");
    assert!(verify(&second(crc, b"t/a")).is_ok());
    assert!(verify(&second(0, b"u/t/a")).is_ok(), "of no effect");
    assert!(clause(&second(crc, b"t/b")).contains("two names"));
    assert!(clause(&second(0, b"../a")).contains("leads out"));
    assert!(clause(&build(&[Item { data: b"x".to_vec(), ..Item::dir("t/") }], b"").bytes).contains("folder"));
}

#[test]
fn bytes_hidden_between_the_parts_are_refused() {
    // They begin like the directory, and the end record leads past them.
    let z = plain();
    let after = (z.central as u32 + 8).to_le_bytes();
    let gap = z.clone().set(z.end + 16, &after).insert(z.central, b"PK\x01\x02xxxx");
    assert!(clause(&gap.bytes).contains("no entry"));
    // They stand behind the end of the deflated data, inside of the entry.
    let packed = [0x4b, 0x4c, 0x04, 0x00, b'x', b'x'];
    for (len, good) in [(4, true), (6, false)] {
        let z = build(&[Item::new("t/a", &packed[..len]).stored()], b"").both(0, (8, 10), 8);
        let crc = crc32fast::hash(b"aa").to_le_bytes();
        let fields = [z.locals[0] + 14, z.records[0] + 16];
        let z = fields.into_iter().fold(z, |z, at| z.set(at, &crc).set(at + 8, &[2, 0, 0, 0]));
        match verify(&z.bytes) {
            Ok(_) => assert!(good),
            Err(error) => assert!(!good && error.to_string().contains("behind its data"), "{error}"),
        }
    }
}

#[test]
fn a_bomb_is_put_out_early() {
    let zeroes = vec![0_u8; 64 << 20];
    for item in [Item::new("t/a", &zeroes), Item::new("t/a", &zeroes).described(true, false)] {
        let zip = build(&[item], b"");
        // The verdict falls before the second half of the bomb is even asked for.
        let body = Drip::new(&zip.bytes, 1_000).failing_at(zip.bytes.len() / 2);
        match verifier().verify(&body) {
            Err(VerifyError::Invalid(clause)) => assert!(clause.contains("10MiB"), "{clause}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn entries_that_share_their_data_are_refused() {
    // The directory lists one entry twice, as overlapping bombs do.
    let zip = build(&[Item::new("t/a", "x"), Item::new("t/b", "x")], b"");
    let at = (zip.locals[0] as u32).to_le_bytes();
    let second = zip.records[1];
    assert!(clause(&zip.set(second + 42, &at).bytes).contains("overlap"));
}

#[test]
fn the_directory_may_not_list_less_or_more_than_there_is() {
    let [one, two] = [1, 2].map(|n| build(&usual()[..n + 1], b""));
    // The entries of the longer zip with the directory of the shorter, and the reverse.
    let hidden = [&two.bytes[..two.central], &one.bytes[one.central..]].concat();
    assert!(clause(&hidden).contains("does not fit"));
    let mut fitted = Zip { bytes: hidden, ..two.clone() };
    let end = fitted.bytes.len() - 22;
    fitted = fitted.set(end + 16, &(two.central as u32).to_le_bytes());
    assert!(clause(&fitted.bytes).contains("does not list") || clause(&fitted.bytes).contains("no entry"));
    let invented = [&one.bytes[..one.central], &two.bytes[two.central..]].concat();
    let end = invented.len() - 22;
    let invented = Zip { bytes: invented, ..one.clone() }.set(end + 16, &(one.central as u32).to_le_bytes());
    assert!(clause(&invented.bytes).contains("overlap") || clause(&invented.bytes).contains("does not have"));
}
