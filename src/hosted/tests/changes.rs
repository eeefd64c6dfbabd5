//! Pruning, deletion, verification and backups while something else changes the store.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{change, check_whole, files, open, publish, state};
use crate::{
    admin_api::HostedCheck,
    entry::Digest,
    hosted::{
        Backup, BackupFile, Config, HostedStore, PruneOutcome, PublishRefusal, RestoreError, RetentionCheck,
        RetentionRule, UploadError, VersionState, check, restore,
    },
    value::ByteSize,
};

#[test]
fn pruning_leaves_what_the_rule_does_not_prune_any_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        publish(&store, "acme-x", version, version.as_bytes()).expect("published");
    }
    for text in ["dev 1", "dev 2"] {
        publish(&store, "acme-x", "dev", text.as_bytes()).expect("published");
    }
    let published_before = jiff::Timestamp::from_second(1).expect("a time");
    let rule = RetentionCheck::new(RetentionRule { keep_last: 1, published_before });
    let package = store.package("acme-x").expect("a package");
    let found = store.upkeep().prunable(&package, &rule).expect("read");
    let names: Vec<&str> = found.iter().map(|one| &*one.version).collect();
    assert_eq!(names, ["1.0.0", "1.1.0", "1.2.0", "dev"]);
    store.upkeep().keep("acme-x", "1.0.0", Some(change())).expect("kept");
    store.delete("acme-x", "1.1.0", change()).expect("deleted");
    // Now 1.2.0 is the highest in the lists.
    store.yank("acme-x", "1.3.0", change()).expect("yanked");
    store.upkeep().keep("acme-x", "dev", Some(change())).expect("kept");
    let before: Vec<String> = files(dir.path());
    for one in &found {
        let outcome = store.upkeep().prune(one, &rule, change()).expect("no error");
        assert_eq!(outcome, PruneOutcome::Stays, "{one:?}");
    }
    assert_eq!(files(dir.path()), before);
    assert_eq!(state(&store, "1.2.0"), Some(VersionState::Published));
    store.unyank("acme-x", "1.3.0").expect("back");
    assert_eq!(store.upkeep().prune(&found[2], &rule, change()).expect("no error"), PruneOutcome::Pruned);
    check_whole(dir.path(), &store);
}

#[test]
fn a_version_that_cannot_be_read_leaves_no_zip_when_it_is_deleted() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        publish(&store, "acme-x", version, version.as_bytes()).expect("published");
    }
    drop(store);
    fs::write(dir.path().join("releases/acme-x/1.0.0.json"), "{").expect("written");
    let digest = Digest::of(b"1.1.0");
    fs::write(dir.path().join(format!("blobs/{:02x}/{digest}", digest.0[0])), b"sho").expect("written");
    let store = open(dir.path());
    store.delete("acme-x", "1.0.0", change()).expect("deleted");
    assert_eq!(files(&dir.path().join("blobs")).len(), 3, "the zip of 1.1.0 is not known yet");
    store.delete("acme-x", "1.1.0", change()).expect("deleted");
    check_whole(dir.path(), &store);
}

#[test]
fn verification_beside_publications_and_deletions_finds_nothing_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                publish(&store, "acme-x", "dev", b"the same bytes").expect("published");
                store.delete("acme-x", "dev", change()).expect("deleted");
            }
            is_done.store(true, Ordering::SeqCst);
        });
        while !is_done.load(Ordering::SeqCst) {
            check(&store, |step| {
                assert!(!matches!(step, HostedCheck::Damaged(_)), "{step:?}");
                ControlFlow::Continue(())
            });
        }
    });
    check_whole(dir.path(), &store);
}

/// What a backup writes; does something at the first byte of the first zip.
struct AtFirstZip<F> {
    act: Option<F>,
    written: Vec<u8>,
}

impl<F: FnOnce()> Write for AtFirstZip<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.starts_with(b"blobs/")
            && let Some(act) = self.act.take()
        {
            act();
        }
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_zip_that_an_export_reads_counts_and_stays_when_a_publication_of_it_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { quota: ByteSize(13_000), min_free: ByteSize(0), ..Config::default() };
    let store = Arc::new(HostedStore::open(dir.path(), &config, None).expect("opens"));
    publish(&store, "acme-x", "1.0.0", &[1; 6000]).expect("published");
    let act = || {
        store.delete("acme-x", "1.0.0", change()).expect("deleted");
        let refused = publish(&store, "acme-x", "1.0.1", &[2; 8000]);
        assert!(matches!(refused, Err(PublishRefusal::Upload(UploadError::Full(_)))), "{refused:?}");
        // The folder of its records cannot be made.
        let stray = dir.path().join("releases/acme-y");
        fs::write(&stray, "x").expect("written");
        publish(&store, "acme-y", "1.0.0", &[1; 6000]).expect_err("no record can be written");
        fs::remove_file(stray).expect("removed");
        // The same bytes again: they are counted once.
        publish(&store, "acme-y", "1.0.0", &[1; 6000]).expect("published");
        publish(&store, "acme-y", "1.1.0", &[3; 7000]).expect("there is room");
        store.delete("acme-y", "1.0.0", change()).expect("deleted");
        // The zip of a version that was published since is held, too.
        store.delete("acme-y", "1.1.0", change()).expect("deleted");
        assert!(publish(&store, "acme-x", "1.0.1", &[2; 8000]).is_err());
    };
    let mut out = AtFirstZip { act: Some(act), written: Vec::new() };
    let backup = Backup::begin(&store, HashSet::new()).expect("begins");
    backup.write(&mut out, jiff::Timestamp::UNIX_EPOCH).expect("written");
    assert!(out.act.is_none());
    let path = dir.path().join("full.tar");
    fs::write(&path, out.written).expect("written");
    assert_eq!(BackupFile::open(&path).expect("complete").summary.zips, [Digest::of(&[1; 6000])]);
    publish(&store, "acme-x", "1.0.1", &[2; 8000]).expect("the room is free when the export has ended");
    check_whole(dir.path(), &store);
}

#[test]
fn an_import_removes_nothing_that_no_import_has_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = tempfile::tempdir().expect("a directory");
    let store = Arc::new(open(dir.path()));
    publish(&store, "acme-x", "1.0.0", b"zip").expect("published");
    let path = dir.path().join("full.tar");
    let backup = Backup::begin(&store, HashSet::new()).expect("begins");
    backup.write(fs::File::create(&path).expect("created"), jiff::Timestamp::UNIX_EPOCH).expect("written");
    let import = || restore(&[BackupFile::open(&path).expect("a backup")], target.path(), |_| ());
    for foreign in ["import/notes.txt", "blobs/notes.txt", "releases/notes.txt"] {
        let file = target.path().join(foreign);
        let folder = file.parent().expect("a folder");
        fs::create_dir_all(folder).expect("created");
        fs::write(&file, "x").expect("written");
        let refused = import();
        assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })), "{refused:?}");
        assert!(file.exists(), "{foreign}");
        fs::remove_dir_all(folder).expect("removed");
    }
    // What a kill has left between the folder and its mark is empty.
    fs::create_dir(target.path().join("import")).expect("created");
    import().expect("restored");
    check_whole(target.path(), &open(target.path()));
}
