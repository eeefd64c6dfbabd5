//! Verification of a damaged store, and retention.

use std::{fs, sync::Arc};

use jiff::SignedDuration;

use super::{at, change, check_whole, open, publish, release, some_store, state, uploaded};
use crate::{
    admin_api::{DamageKind, HostedCheck},
    entry::Digest,
    hosted::{HostedStore, RetentionCheck, RetentionRule, VersionState, check},
};

fn damage(store: &HostedStore) -> Vec<(DamageKind, Vec<String>)> {
    let mut found = Vec::new();
    let mut end = None;
    check(store, |step| {
        match step {
            HostedCheck::Damaged(damage) => found.push((damage.kind, damage.names)),
            HostedCheck::End { damaged, .. } => end = Some(damaged),
            HostedCheck::Begin { .. } | HostedCheck::Zip { .. } => {}
        }
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(end, Some(found.len() as u64));
    found
}

#[test]
fn verification_names_everything_that_is_damaged_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    assert!(damage(&store).is_empty());
    publish(&store, "acme-z", "1.0.0", b"1.1.0").expect("the same zip");
    let blob = |text: &[u8]| {
        let digest = Digest::of(text);
        dir.path().join(format!("blobs/{:02x}/{digest}", digest.0[0]))
    };
    store.set_checked(&Digest::of(b"1.1.0"));
    fs::write(blob(b"1.1.0"), b"1.1.X").expect("written");
    fs::remove_file(blob(b"dev 1")).expect("removed");
    fs::write(dir.path().join("releases/acme-x/2.0.0-rc.1.json"), "{").expect("written");
    fs::create_dir_all(blob(b"stray").parent().expect("a folder")).expect("created");
    fs::write(blob(b"stray"), b"stray").expect("written");
    let mut found = damage(&store);
    found.sort_by_key(|(kind, _)| format!("{kind:?}"));
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            (DamageKind::RecordUnreadable, names(&["Acme-X@2.0.0-rc.1"])),
            (DamageKind::ZipDamaged, names(&["Acme-X@1.1.0", "acme-z@1.0.0"])),
            (DamageKind::ZipMissing, names(&["acme-y@dev"])),
            (DamageKind::ZipWithoutRecord, names(&[])),
        ]
    );
    assert!(!store.is_checked(&Digest::of(b"1.1.0")), "it is compared again before it is served");
}

#[test]
fn pruning_keeps_the_last_the_young_the_kept_and_what_is_above_the_latest() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(open(dir.path()));
    let day = SignedDuration::from_hours(24);
    let now = at(100 * 86_400);
    let publish_at = |version: &str, days_ago: i32| {
        let zip = uploaded(&store, version.as_bytes()).expect("uploaded");
        let release = crate::hosted::NewRelease { at: now - day * days_ago, ..release("acme-x", version, "token:ci") };
        store.publish(zip, release).expect("published");
    };
    for (version, days_ago) in [
        ("1.0.0", 90),
        ("1.1.0-rc.1", 80),
        ("1.1.0", 70),
        ("1.2.0", 60),
        ("1.3.0-rc.1", 55),
        ("1.3.0", 50),
        ("1.4.0", 45),
        ("1.5.0", 5),
        ("2.0.0-rc.1", 40),
        ("2.0.0-rc.2", 39),
        ("2.0.0-rc.3", 38),
    ] {
        publish_at(version, days_ago);
    }
    store.yank("acme-x", "1.4.0", change()).expect("yanked");
    store.upkeep().keep("acme-x", "1.0.0", Some(change())).expect("kept");
    for days_ago in [60, 40, 2] {
        let zip = uploaded(&store, format!("dev {days_ago}").as_bytes()).expect("uploaded");
        let release = crate::hosted::NewRelease { at: now - day * days_ago, ..release("acme-x", "dev", "token:ci") };
        store.publish(zip, release).expect("published");
    }
    let rule = RetentionCheck::new(RetentionRule { keep_last: 2, published_before: now - day * 30 });
    let prunable = || {
        let package = store.package("acme-x").expect("a package");
        store.upkeep().prunable(&package, &rule).expect("read")
    };
    let found = prunable();
    let versions: Vec<&str> = found.iter().map(|one| &*one.version).collect();
    // 1.5.0 and 1.3.0 are the last two in the lists, 1.0.0 is kept, rc.2 and rc.3 are above the latest.
    assert_eq!(versions, ["1.1.0-rc.1", "1.1.0", "1.2.0", "1.3.0-rc.1", "1.4.0", "2.0.0-rc.1", "dev", "dev"]);
    // One is kept after it was listed.
    store.upkeep().keep("acme-x", "1.2.0", Some(change())).expect("kept");
    for one in &found {
        store.upkeep().prune(one, &rule, change()).expect("pruned");
    }
    assert_eq!(state(&store, "1.2.0"), Some(VersionState::Published));
    assert!(matches!(state(&store, "1.1.0"), Some(VersionState::Deleted(_))));
    assert!(publish(&store, "acme-x", "1.1.0", b"1.1.0").is_err(), "a tombstone stays");
    assert!(prunable().is_empty());
    check_whole(dir.path(), &store);
    drop(store);
    let store = open(dir.path());
    check_whole(dir.path(), &store);
    assert_eq!(
        store.package("acme-x").expect("a package").latest().map(|latest| latest.version.to_string()).as_deref(),
        Some("1.5.0")
    );
}

#[test]
fn a_kill_at_any_step_of_pruning_leaves_all_or_nothing_of_each_version() {
    for steps in 0..12 {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            publish(&store, "acme-x", version, version.as_bytes()).expect("published");
        }
        publish(&store, "acme-x", "dev", b"dev 1").expect("published");
        publish(&store, "acme-x", "dev", b"dev 2").expect("published");
        let rule = RetentionCheck::new(RetentionRule { keep_last: 1, published_before: at(1) });
        let package = store.package("acme-x").expect("a package");
        let found = store.upkeep().prunable(&package, &rule).expect("read");
        assert_eq!(found.len(), 3);
        store.files.faults().kill_after(steps);
        let pruned = found.iter().take_while(|one| store.upkeep().prune(one, &rule, change()).is_ok()).count();
        drop(store);
        let store = open(dir.path());
        check_whole(dir.path(), &store);
        for one in found.iter().take(pruned).filter(|one| one.version != "dev") {
            assert!(matches!(state(&store, &one.version), Some(VersionState::Deleted(_))), "{steps}: {one:?}");
        }
        assert_eq!(state(&store, "1.2.0"), Some(VersionState::Published));
    }
}
