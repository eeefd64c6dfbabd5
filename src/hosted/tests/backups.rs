//! Backups and their restoration, over damaged stores and hostile archives.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{at, change, check_whole, files, open, publish, some_store, state};
use crate::{
    entry::Digest,
    hosted::{
        Backup, BackupFile, BackupProblem, FailedPublication, HostedStore, Publication, RestoreError, RestoreProblem,
        VersionState, restore, startup::OpenHostedError,
    },
    tar_file,
};

fn export(store: &Arc<HostedStore>, known: &[Digest], path: &Path, seconds: i64) -> BackupFile {
    let backup = Backup::begin(store, known.iter().copied().collect()).expect("begins");
    backup.write(File::create(path).expect("created"), at(seconds)).expect("written");
    BackupFile::open(path).expect("a backup")
}

fn import(backups: &[BackupFile], dir: &Path) -> Result<u64, RestoreError> {
    let mut bytes = 0;
    let report = restore(backups, dir, |more| bytes += more)?;
    assert_eq!(report.bytes, bytes);
    Ok(report.zips)
}

/// What a store serves and what it refuses, by version.
fn content(store: &HostedStore) -> Vec<(String, String, VersionState, Digest)> {
    let mut content = Vec::new();
    for package in store.packages() {
        for version in package.versions() {
            let record = store.record(&package.name, &version.version).expect("a record");
            assert_eq!(record.publisher, *version.publisher);
            content.push((package.name.clone(), version.version.to_string(), version.state.clone(), version.digest));
        }
    }
    content
}

#[test]
fn a_backup_restores_every_state_of_every_version_and_a_deleted_one_stays_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let full = export(&store, &[], &dir.path().join("full.tar"), 1);
    assert_eq!((full.summary.versions, full.summary.zips.len()), (6, 6));
    assert_eq!(import(&[full], target.path()).expect("restored"), 6);
    let restored = open(target.path());
    assert_eq!(content(&restored), content(&store));
    check_whole(target.path(), &restored);
    assert!(publish(&restored, "Acme-X", "1.0.0", b"1.0.0").is_err(), "a tombstone was lost");
    assert!(matches!(publish(&restored, "Acme-X", "1.2.0", b"1.2.0"), Ok(Publication::Unchanged(_))));
}

#[test]
fn incremental_backups_hold_each_zip_once_and_restore_together_in_any_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let full = export(&store, &[], &dir.path().join("full.tar"), 1);
    publish(&store, "Acme-X", "2.0.0", b"2.0.0").expect("published");
    store.delete("acme-x", "1.2.0", change()).expect("deleted");
    let more = export(&store, &full.summary.zips, &dir.path().join("more.tar"), 2);
    assert_eq!((more.summary.versions, more.summary.zips.clone()), (7, vec![Digest::of(b"2.0.0")]));
    let alone = import(std::slice::from_ref(&more), target.path());
    assert!(matches!(alone, Err(RestoreError::MissingZip { .. })), "{alone:?}");
    assert!(matches!(
        HostedStore::open(target.path(), &Default::default(), None),
        Err(OpenHostedError::UnfinishedImport { .. })
    ));
    // What a failed import has left is no obstacle, and the zip of the version that was deleted since is left out.
    assert_eq!(import(&[more, full], target.path()).expect("restored"), 6);
    let restored = open(target.path());
    assert_eq!(content(&restored), content(&store));
    check_whole(target.path(), &restored);
}

#[test]
fn a_version_that_is_deleted_during_a_backup_is_whole_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let before = content(&store);
    let blobs = files(&dir.path().join("blobs"));
    let backup = Backup::begin(&store, HashSet::new()).expect("begins");
    let mut archive = Vec::new();
    /// Deletes a version at the first byte of the first zip.
    struct Deleting<'s>(&'s HostedStore, &'s mut Vec<u8>, bool);
    impl std::io::Write for Deleting<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.starts_with(b"blobs/") && !std::mem::replace(&mut self.2, true) {
                for (name, version) in [("acme-x", "1.2.0"), ("acme-y", "1.0.0"), ("acme-y", "dev")] {
                    self.0.delete(name, version, change()).expect("deleted");
                }
                publish(self.0, "acme-y", "1.0.1", b"1.2.0").expect("the bytes of a deleted one");
            }
            self.1.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    backup.write(Deleting(&store, &mut archive, false), at(1)).expect("written");
    check_whole(dir.path(), &store);
    assert!(files(&dir.path().join("blobs")).len() < blobs.len(), "what was held is removed at the end");
    let path = dir.path().join("full.tar");
    fs::write(&path, archive).expect("written");
    import(&[BackupFile::open(&path).expect("a backup")], target.path()).expect("restored");
    assert_eq!(content(&open(target.path())), before);
}

#[test]
fn a_backup_of_something_damaged_says_so_and_cannot_be_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let digest = Digest::of(b"1.2.0");
    let blob = dir.path().join(format!("blobs/{:02x}/{digest}", digest.0[0]));
    fs::write(&blob, b"1.2.X").expect("written");
    let path = dir.path().join("full.tar");
    Backup::begin(&store, HashSet::new())
        .expect("begins")
        .write(File::create(&path).expect("created"), at(1))
        .expect("written");
    let error = BackupFile::open(&path).expect_err("not complete");
    assert!(matches!(&error.problem, BackupProblem::Failed(why) if why.contains(&digest.to_string())), "{error}");
    // After a restart the version cannot be read: no backup begins.
    fs::remove_file(&blob).expect("removed");
    drop(store);
    let store = Arc::new(open(dir.path()));
    let error = Backup::begin(&store, HashSet::new()).expect_err("no backup").to_string();
    assert!(error.starts_with("Acme-X 1.2.0 cannot be read"), "{error}");
    // Deleting the version mends that, also where its record is lost.
    store.delete("acme-x", "1.2.0", change()).expect("deleted");
    let record = dir.path().join("releases/acme-x/2.0.0-rc.1.json");
    fs::write(&record, "{").expect("written");
    drop(store);
    let store = Arc::new(open(dir.path()));
    store.delete("acme-x", "2.0.0-rc.1", change()).expect("deleted");
    assert!(matches!(state(&store, "2.0.0-rc.1"), Some(VersionState::Deleted(_))));
    export(&store, &[], &path, 1);
}

/// Rewrites an archive, entry by entry.
fn rewritten(path: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<(String, Vec<u8>)>) -> PathBuf {
    let target = path.with_extension("changed");
    let mut out = File::create(&target).expect("created");
    let mut archive = tar::Archive::new(File::open(path).expect("opens"));
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = tar_file::plain_name(&entry).expect("a plain file");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("read");
        for (name, bytes) in change(&name, bytes) {
            let mut header = tar_file::header("x", bytes.len() as u64).expect("a header");
            // As it is: a hostile name, too.
            header.as_mut_bytes()[..100].fill(0);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            out.write_all(header.as_bytes()).expect("written");
            out.write_all(&bytes).expect("written");
            tar_file::pad(&mut out, bytes.len() as u64).expect("written");
        }
    }
    out.write_all(&tar_file::TAR_END).expect("written");
    target
}

#[test]
fn a_backup_with_anything_wrong_in_it_is_refused_and_writes_nothing_outside_its_folder() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let path = dir.path().join("full.tar");
    export(&store, &[], &path, 1);
    let keep = |name: &str, bytes: Vec<u8>| vec![(name.to_owned(), bytes)];
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let records = |name: &str, bytes: Vec<u8>, from: &str, to: &str| match name.starts_with("records/") {
        true => vec![(name.to_owned(), text(bytes).replace(from, to).into_bytes())],
        false => vec![(name.to_owned(), bytes)],
    };
    let first_zip = |name: &str| name.starts_with("blobs/");
    type Change<'c> = &'c dyn Fn(&str, Vec<u8>) -> Vec<(String, Vec<u8>)>;
    let cases: [(&str, Change<'_>); 10] = [
        ("no manifest", &|name, bytes| if name == "srm-mirror-hosted.json" { vec![] } else { keep(name, bytes) }),
        ("no end", &|name, bytes| if name == "srm-mirror-hosted-end.json" { vec![] } else { keep(name, bytes) }),
        ("another format", &|name, bytes| keep(name, text(bytes).replace("\"format\":1", "\"format\":2").into_bytes())),
        ("a name that leaves the folder", &|name, bytes| {
            keep(if first_zip(name) { "../../evil" } else { name }, bytes)
        }),
        ("a zip twice", &|name, bytes| {
            let more = if first_zip(name) { keep(name, bytes.clone()) } else { vec![] };
            [keep(name, bytes), more].concat()
        }),
        ("another zip", &|name, mut bytes| {
            if first_zip(name) {
                bytes[0] ^= 1;
            }
            keep(name, bytes)
        }),
        ("a longer zip", &|name, bytes| keep(name, if first_zip(name) { [bytes, vec![0]].concat() } else { bytes })),
        ("a record that leaves the folder", &|name, bytes| records(name, bytes, "\"acme-y\"", "\"../acme\"")),
        ("a version that leaves the folder", &|name, bytes| records(name, bytes, "\"1.2.0\"", "\"../../1.2.0\"")),
        ("a changed record", &|name, bytes| records(name, bytes, "token:ci", "token:xx")),
    ];
    for (what, change) in cases {
        let target = tempfile::tempdir().expect("a directory");
        let inner = target.path().join("a/b");
        let changed = rewritten(&path, change);
        let result = match BackupFile::open(&changed) {
            Ok(backup) => import(&[backup], &inner).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let error = result.expect_err(what);
        assert!(error.contains("full.changed"), "{what}: {error}");
        let outside = files(target.path()).into_iter().find(|file| !file.starts_with("a/b/"));
        assert_eq!(outside, None, "{what}");
        assert!(!inner.join("format").exists() && !inner.join("releases").exists(), "{what}");
    }
    // Cut anywhere.
    let whole = fs::read(&path).expect("read");
    for len in (0..whole.len()).step_by(509) {
        let cut = dir.path().join("cut.tar");
        fs::write(&cut, &whole[..len]).expect("written");
        let opened = BackupFile::open(&cut);
        // Only the empty blocks at its end may be missing.
        assert!(opened.is_err() || whole[len..].iter().all(|byte| *byte == 0), "{len}");
    }
}

#[test]
fn an_import_replaces_nothing_and_respects_the_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let path = dir.path().join("full.tar");
    let backup = || BackupFile::open(&path).expect("a backup");
    export(&store, &[], &path, 1);
    let held = import(&[backup()], dir.path());
    assert!(matches!(held, Err(RestoreError::Directory(OpenHostedError::Busy { .. }))), "{held:?}");
    let before = content(&store);
    drop(store);
    let used = import(&[backup()], dir.path());
    assert!(matches!(used, Err(RestoreError::NotEmpty { .. })), "{used:?}");
    assert_eq!(content(&open(dir.path())), before);
    let stranger = tempfile::tempdir().expect("a directory");
    fs::write(stranger.path().join("notes.txt"), "x").expect("written");
    assert!(matches!(import(&[backup()], stranger.path()), Err(RestoreError::NotEmpty { .. })));
    assert_eq!(files(stranger.path()), ["lock", "notes.txt"]);
}

#[test]
fn an_import_that_fails_at_a_damaged_zip_can_be_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let path = dir.path().join("full.tar");
    export(&store, &[], &path, 1);
    let bad = rewritten(&path, |name, mut bytes| {
        if name.ends_with(&Digest::of(b"dev 2").to_string()) {
            bytes[0] ^= 1;
        }
        vec![(name.to_owned(), bytes)]
    });
    let failed = import(&[BackupFile::open(&bad).expect("its structure is good")], target.path());
    assert!(
        matches!(&failed, Err(RestoreError::Backup { problem: RestoreProblem::OtherZip(zip), .. }) if *zip == Digest::of(b"dev 2")),
        "{failed:?}"
    );
    let refused = HostedStore::open(target.path(), &Default::default(), None).map(drop);
    assert!(matches!(refused, Err(OpenHostedError::UnfinishedImport { .. })), "{refused:?}");
    import(&[BackupFile::open(&path).expect("a backup")], target.path()).expect("restored");
    assert_eq!(content(&open(target.path())), content(&store));
}

#[test]
fn failed_publications_are_in_a_backup_and_bounded_when_they_are_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = tempfile::tempdir().expect("a directory");
    let store = some_store(dir.path());
    let failed = FailedPublication {
        package: "acme-y".into(),
        version: "1.0.1".into(),
        by: "token:ci".into(),
        at: at(1),
        reason: "the zip is not published".into(),
    };
    store.failed.add(failed.clone()).expect("written");
    let path = dir.path().join("full.tar");
    export(&store, &[], &path, 1);
    import(&[BackupFile::open(&path).expect("a backup")], target.path()).expect("restored");
    assert_eq!(open(target.path()).failed.all(at(2)), [failed]);
    let with_failed = |bytes: &[u8]| {
        rewritten(&path, |name, old| vec![(name.to_owned(), if name == "failed.json" { bytes.to_vec() } else { old })])
    };
    let target = tempfile::tempdir().expect("a directory");
    let entry = format!(
        r#"{{"package":"../x","version":"1","by":"x","at":"1970-01-01T00:00:01Z","reason":"{}"}}"#,
        "é".repeat(2000)
    );
    let long = with_failed(format!(r#"{{"failed":[{}]}}"#, vec![entry; 1000].join(",")).as_bytes());
    import(&[BackupFile::open(&long).expect("a backup")], target.path()).expect("restored");
    let restored = open(target.path()).failed.all(at(2));
    assert_eq!((restored.len(), restored[0].reason.chars().count()), (500, 1000));
    assert!(BackupFile::open(&with_failed(b"{}")).is_err());
    // An export of an earlier version has none.
    let target = tempfile::tempdir().expect("a directory");
    let without = rewritten(&path, |name, bytes| match name {
        "failed.json" => vec![],
        name => vec![(name.to_owned(), bytes)],
    });
    import(&[BackupFile::open(&without).expect("a backup")], target.path()).expect("restored");
    assert_eq!(open(target.path()).failed.all(at(2)), []);
}
