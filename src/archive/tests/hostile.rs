//! Zips that must be rejected, each with one defect.

use super::{
    build::{Zip, build},
    *,
};

fn clause(bytes: &[u8]) -> String {
    match verify(bytes) {
        Err(VerifyError::Invalid(clause)) => clause,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

fn plain() -> Zip {
    build(&usual(), COMMIT)
}

fn wide() -> Zip {
    build(&usual().into_iter().map(|item| item.wide().described(true, true)).collect::<Vec<_>>(), COMMIT)
}

/// Descriptors of all forms, and stored entries whose size only the central directory gives.
fn unknown_sizes() -> Zip {
    let items = usual().into_iter().enumerate();
    let items = items.map(|(n, item)| if n < 2 { item } else { item.stored().described(n % 2 == 0, n % 3 == 0) });
    build(&items.collect::<Vec<_>>(), COMMIT)
}

#[test]
fn truncated_zip_is_rejected_at_every_length() {
    for zip in [plain(), wide(), unknown_sizes()] {
        for len in 0..zip.bytes.len() {
            clause(&zip.bytes[..len]);
        }
    }
}

#[test]
fn every_flipped_byte_that_affects_the_content_is_detected() {
    for zip in [plain(), wide(), unknown_sizes()] {
        let verified = verify(&zip.bytes).expect("good");
        for at in 0..zip.bytes.len() - COMMIT.len() {
            // Versions, times, attributes and similar fields may change: the content is then unchanged.
            if let Ok(other) = verify(&zip.clone().flip(at).bytes) {
                assert_eq!(other.manifest, verified.manifest, "byte {at}");
                assert!(zip.data.iter().all(|data| !data.contains(&at)), "byte {at} of the data");
            }
        }
    }
}

#[test]
fn zip_with_one_defect_is_rejected_for_that_defect() {
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
fn inconsistent_zip64_records_and_descriptors_are_rejected() {
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
fn names_that_are_unsafe_to_unpack_are_rejected() {
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
        assert!(!clause.contains("etc"), "text from the zip is not repeated");
    }
    let through = [Item::new("t/a", "/etc").mode(0o120_777), Item::new("t/a/passwd", "x")];
    assert!(clause(&build(&through, b"").bytes).contains("beneath"), "through a link");
    let second = |crc: u32, name: &[u8]| {
        let item = Item::new("t/a", "x").extra(0x7075, &[&[1][..], &crc.to_le_bytes(), name].concat());
        build(&[item], b"").bytes
    };
    let crc = crc32fast::hash(b"t/a");
    assert!(verify(&second(crc, b"t/a")).is_ok());
    assert!(verify(&second(0, b"u/t/a")).is_ok(), "ignored by unpackers");
    assert!(clause(&second(crc, b"t/b")).contains("two names"));
    assert!(clause(&second(0, b"../a")).contains("leads out"));
    assert!(clause(&build(&[Item { data: b"x".to_vec(), ..Item::dir("t/") }], b"").bytes).contains("folder"));
}

#[test]
fn bytes_between_the_parts_are_rejected() {
    // They begin like the directory, and the end record refers to the position after them.
    let z = plain();
    let after = (z.central as u32 + 8).to_le_bytes();
    let gap = z.clone().set(z.end + 16, &after).insert(z.central, b"PK\x01\x02xxxx");
    assert!(clause(&gap.bytes).contains("no entry"));
    // They follow the end of the deflated data, inside the entry.
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
fn zip_bomb_is_rejected_before_it_has_arrived() {
    let zeroes = vec![0_u8; 64 << 20];
    for item in [Item::new("t/a", &zeroes), Item::new("t/a", &zeroes).described(true, false)] {
        let zip = build(&[item], b"");
        // It is rejected before the second half is requested.
        let body = Drip::new(&zip.bytes, 1_000).failing_at(zip.bytes.len() / 2);
        match verifier().verify(&body) {
            Err(VerifyError::Invalid(clause)) => assert!(clause.contains("10MiB"), "{clause}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn entries_that_share_their_data_are_rejected() {
    // The directory lists one entry twice, as overlapping zip bombs do.
    let zip = build(&[Item::new("t/a", "x"), Item::new("t/b", "x")], b"");
    let at = (zip.locals[0] as u32).to_le_bytes();
    let second = zip.records[1];
    assert!(clause(&zip.set(second + 42, &at).bytes).contains("overlap"));
}

#[test]
fn directory_with_missing_or_invented_entries_is_rejected() {
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
