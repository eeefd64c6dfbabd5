//! Views of arbitrary zips.

use proptest::prelude::*;

use super::*;

fn item() -> impl Strategy<Value = Item> {
    let name = "[a-c\u{4e00}-\u{4e02}]{1,2}(/[a-c]{1,2}){0,3}";
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

fn spec() -> impl Strategy<Value = ViewSpec> {
    let top = proptest::option::of("[a-z]{1,30}");
    prop_oneof![
        Just(ViewSpec::Flat),
        Just(foldered()),
        ("[a-c]{1,2}(/[a-c]{1,2}){0,1}", top).prop_map(|(path, top)| folder(&path, top.as_deref())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_zip_and_its_views_unpack_to_the_same_files(
        mut items in proptest::collection::vec(item(), 0..16),
        folders in any::<(bool, bool)>(),
        spec in spec(),
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
        let (has_entry, has_top) = folders;
        if has_entry || items.is_empty() {
            items.insert(0, Item::dir("top-1/"));
        }
        let items = if has_top { items } else { without_top(items) };
        let view = check(&items, &spec);
        let zip = build(&items, COMMIT).bytes;
        let Ok(Some(plan)) = plan(&zip, &spec) else { return Ok(()) };
        for (a, b) in ranges {
            let a = u64::from(a) % (plan.len() + 2);
            let b = u64::from(b) % (plan.len() + 2);
            let from = a.min(b);
            let to = a.max(b);
            let whole = &view[view.len().min(from as usize)..view.len().min(to as usize)];
            prop_assert_eq!(&read(&plan, &zip, from..to)[..], whole);
            prop_assert_eq!(&read_batches(&plan, &zip, from..to)[..], whole);
            prop_assert!(plan.slices(from..to).all(|slice| slice != ViewSlice::Stored(0..0) && slice != ViewSlice::Generated(0..0)));
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
