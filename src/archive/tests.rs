//! Verification of good zips; [`hostile`] has the bad ones.

use super::*;
use crate::{
    entry::{Digest, Verified},
    origin::{Growing, Verify},
};
use build::{Drip, Item, build, usual};

mod build;
mod folder;
mod hostile;
mod package_model;
mod stored_zip;
mod views;

const COMMIT: &[u8] = b"12b27abb78e04142adfbdc4aa7fa9571ff05d67b";

fn verifier() -> ZipVerifier {
    ZipVerifier { max_entries: 1_000, max_inflated: 10 << 20, memory: MemoryBudget::unlimited() }
}

fn verify(bytes: &[u8]) -> Result<Verified, VerifyError> {
    verifier().verify(&Drip::new(bytes, 1 << 20))
}

fn facts(bytes: &[u8]) -> ZipFacts {
    ZipFacts::from_value(&verify(bytes).expect("good").facts).expect("facts")
}

#[test]
fn prefix_check_distinguishes_a_zip_from_a_login_page() {
    let zips = verifier();
    assert_eq!(zips.prefix_len(), 4);
    assert_eq!(zips.prefix(b"PK\x03\x04"), Ok(()));
    assert_eq!(zips.prefix(b"PK\x05\x06"), Ok(()));
    for (first, word) in [
        (&b"<!DO"[..], "HTML"),
        (b"\r\n<h", "HTML"),
        (b"\xef\xbb\xbf<", "HTML"),
        (b"{\"me", "JSON"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\x07\x08", "PK"),
        (b"PK\x03", "PK"),
        (b"", "empty"),
    ] {
        let clause = zips.prefix(first).expect_err("not a zip").to_string();
        assert!(clause.starts_with("not a zip") && clause.contains(word), "{first:?}: {clause}");
    }
}

#[test]
fn good_zip_yields_the_same_facts_in_whatever_pieces_it_arrives() {
    let zip = build(&usual(), COMMIT).bytes;
    let whole = verify(&zip).expect("good");
    for step in [1, 2, 7, 61, 4_096, 100_000] {
        assert_eq!(verifier().verify(&Drip::new(&zip, step)).expect("good"), whole, "in steps of up to {step}");
    }
    assert_eq!(whole.commit.as_deref(), Some("12b27abb78e04142adfbdc4aa7fa9571ff05d67b"));
    let facts = ZipFacts::from_value(&whole.facts).expect("facts");
    assert_eq!(facts.top.as_deref(), Some("o-r-12b27ab"));
    assert_eq!((facts.entries, facts.symlinks), (8, 1));
    assert_eq!(facts.inflated, usual().iter().map(|item| item.data.len() as u64).sum::<u64>());
    assert_eq!(facts.publish.kind.as_deref(), Some("Component"));
    assert_eq!(facts.publish.tags, ["FC", "http"]);
    assert!(whole.facts.to_string().len() < 2_000, "facts stay small");
}

#[test]
fn damaged_entry_is_rejected_before_later_entries_arrive() {
    let zip = build(&usual(), b"");
    let bad = zip.clone().flip(zip.data[1].start + 9);
    // No byte after the second entry arrives, and the zip is rejected nevertheless.
    let body = Drip::new(&bad.bytes, 100).failing_at(zip.locals[2] + 4);
    assert!(matches!(verifier().verify(&body), Err(VerifyError::Invalid(_))));
}

#[test]
fn failed_download_is_an_io_error_at_every_offset() {
    let zip = build(&usual(), COMMIT).bytes;
    for at in (0..=zip.len()).step_by(7) {
        let result = verifier().verify(&Drip::new(&zip, 1_000).failing_at(at));
        assert!(matches!(result, Err(VerifyError::Io(_))), "failing at {at}");
    }
}

#[test]
fn verifier_reads_while_the_download_runs() {
    use parking_lot::{Condvar, Mutex};
    struct GatedBody {
        bytes: Vec<u8>,
        /// How many bytes have arrived, and how many the reader has requested.
        state: Mutex<(usize, usize)>,
        changed: Condvar,
    }
    impl Growing for GatedBody {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let offset = offset as usize;
            let mut state = self.state.lock();
            state.1 = state.1.max(offset + 1);
            self.changed.notify_all();
            let is_ready = |arrived: usize| offset < arrived || arrived == self.bytes.len();
            self.changed.wait_while(&mut state, |state| !is_ready(state.0));
            let len = buf.len().min(state.0.saturating_sub(offset));
            buf[..len].copy_from_slice(&self.bytes[offset..offset + len]);
            Ok(len)
        }
        fn len(&self) -> std::io::Result<u64> {
            let mut state = self.state.lock();
            self.changed.wait_while(&mut state, |state| state.0 < self.bytes.len());
            Ok(self.bytes.len() as u64)
        }
    }
    let zip = build(&usual(), COMMIT);
    let body = GatedBody { bytes: zip.bytes.clone(), state: Mutex::new((0, 0)), changed: Condvar::new() };
    std::thread::scope(|scope| {
        let result = scope.spawn(|| verifier().verify(&body));
        // A piece arrives only after every byte before it was requested.
        for arrived in (0..zip.central).step_by(97) {
            let mut state = body.state.lock();
            body.changed.wait_while(&mut state, |state| state.1 <= state.0);
            state.0 = arrived + 1;
            drop(state);
            body.changed.notify_all();
        }
        body.state.lock().0 = zip.bytes.len();
        body.changed.notify_all();
        assert!(result.join().expect("no panic").is_ok());
    });
}

#[test]
fn same_files_have_the_same_manifest_in_every_packing() {
    let plain = verify(&build(&usual(), COMMIT).bytes).expect("good").manifest;
    type Change = fn(Item) -> Item;
    let changes: [(&str, Change); 8] = [
        ("stored", Item::stored),
        ("signed descriptor", |item| item.described(true, false)),
        ("bare descriptor", |item| item.described(false, false)),
        ("wide signed descriptor", |item| item.wide().described(true, true)),
        ("wide bare descriptor", |item| item.described(false, true)),
        ("stored with descriptor", |item| item.stored().described(true, false)),
        ("zip64", Item::wide),
        ("another top folder", |item| {
            let rest = item.name["o-r-12b27ab".len()..].to_vec();
            Item { name: [b"elsewhere".to_vec(), rest].concat(), ..item }
        }),
    ];
    for (name, change) in changes {
        let zip = build(&usual().into_iter().map(change).collect::<Vec<_>>(), b"");
        let verified = verify(&zip.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(verified.manifest, plain, "{name}");
        assert_eq!(verified.commit, None);
    }
    let mut shuffled = usual();
    shuffled.reverse();
    shuffled.retain(|item| !item.name.ends_with(b"/"));
    assert_eq!(verify(&build(&shuffled, b"").bytes).expect("good").manifest, plain, "another order, no folders");
}

#[test]
fn different_byte_name_or_file_set_has_a_different_manifest() {
    let of = |items: &[Item]| verify(&build(items, b"").bytes).expect("good").manifest;
    let plain = of(&usual());
    let mut other = usual();
    other[4].data[3] ^= 1;
    assert_ne!(of(&other), plain, "a byte");
    let mut other = usual();
    other[4].name.push(b'x');
    assert_ne!(of(&other), plain, "a name");
    assert_ne!(of(&usual()[..7]), plain, "one file fewer");
    assert_ne!(of(&[Item::new("t/a", "")]), of(&[Item::new("t/b", "")]));
}

#[test]
fn commit_is_a_comment_of_exactly_forty_hexadecimal_digits() {
    let of = |comment: &[u8]| verify(&build(&usual(), comment).bytes).expect("good").commit;
    assert_eq!(of(&COMMIT.to_ascii_uppercase()).as_deref(), Some(std::str::from_utf8(COMMIT).expect("ASCII")));
    for comment in [&b""[..], &COMMIT[1..], b"v1.0.0", &[COMMIT, b"0"].concat(), &[&COMMIT[1..], b"g"].concat()] {
        assert_eq!(of(comment), None);
    }
    assert_eq!(of(&[b'x'; 65_535]), None, "the longest possible comment");
}

#[test]
fn smallest_zips_are_accepted() {
    let empty = verify(&build(&[], b"").bytes).expect("good");
    assert_eq!(empty.manifest, Digest::of(b""));
    let facts = ZipFacts::from_value(&empty.facts).expect("facts");
    assert_eq!((facts.entries, facts.inflated, facts.top, facts.flat), (0, 0, None, None));
    let folder = super::tests::facts(&build(&[Item::dir("t/")], b"").bytes);
    assert_eq!((folder.entries, folder.top.as_deref(), folder.flat.map(|flat| flat.len)), (1, Some("t"), Some(22)));
}

#[test]
fn publish_file_is_read_only_at_the_root_of_the_content() {
    let of = |items: &[(&str, &str)]| {
        let items: Vec<Item> = items.iter().map(|(name, data)| Item::new(name, data)).collect();
        facts(&build(&items, b"").bytes).publish.kind
    };
    assert_eq!(of(&[("t/a", ""), ("t/publish.yml", "Type: Plugin")]).as_deref(), Some("Plugin"));
    assert_eq!(of(&[("t/publish.yml", "Type: B"), ("t/publish.yaml", "Type: A")]).as_deref(), Some("A"));
    assert_eq!(of(&[("a", ""), ("publish.yaml", "Type: Plugin")]).as_deref(), Some("Plugin"), "no top folder");
    assert_eq!(of(&[("t/a", ""), ("t/src/publish.yaml", "Type: Plugin")]), None);
    assert_eq!(of(&[("t/a", ""), ("u/publish.yaml", "Type: Plugin")]), None, "two folders");
    assert_eq!(of(&[("t/publish.yaml", "Type: [")]), None, "broken");
    let long = format!("Type: Plugin\n#{}", "x".repeat(1 << 20));
    assert_eq!(of(&[("t/publish.yaml", &long)]), None, "larger than the limit");
    let link = Item::new("t/publish.yaml", "Type: Plugin").mode(0o120_777);
    assert_eq!(facts(&build(&[link], b"").bytes).publish.kind, None, "a link");
}

#[test]
fn limits_are_exact_and_named_in_the_error() {
    let items = usual();
    let inflated: u64 = items.iter().map(|item| item.data.len() as u64).sum();
    for change in [|item: Item| item, |item: Item| item.stored().described(true, false)] {
        let zip = build(&items.iter().cloned().map(change).collect::<Vec<_>>(), b"").bytes;
        let verify = |max_entries, max_inflated| {
            ZipVerifier { max_entries, max_inflated, memory: MemoryBudget::unlimited() }
                .verify(&Drip::new(&zip, 5_000))
                .map_err(|error| error.to_string())
        };
        assert!(verify(8, inflated).is_ok());
        assert!(verify(7, inflated).expect_err("too many").contains("more than the 7 entries"));
        let clause = verify(8, inflated - 1).expect_err("too large");
        assert!(clause.contains("unpacks to more than") && clause.contains(&(inflated - 1).to_string()), "{clause}");
    }
}
