//! Published versions through kills, full disks, concurrency and damage.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use serde_json::json;

use super::{startup::OpenHostedError, *};
use crate::{
    entry::{Digest, Verified},
    value::ByteSize,
};

mod backups;
mod changes;
mod upkeep;

/// Makes an operation, and every one after it, fail: what a kill at that point leaves.
#[derive(Debug)]
pub(super) struct Faults {
    left: AtomicUsize,
}

impl Default for Faults {
    fn default() -> Self {
        Self { left: AtomicUsize::new(usize::MAX) }
    }
}

impl Faults {
    pub(super) fn step(&self) -> io::Result<()> {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        taken.map(drop).map_err(|_| io::Error::other("killed"))
    }

    /// Lets this many operations succeed.
    fn kill_after(&self, operations: usize) {
        self.left.store(operations, Ordering::SeqCst);
    }

    fn never(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
    }
}

fn open(dir: &Path) -> HostedStore {
    let config = Config { min_free: ByteSize(0), ..Config::default() };
    HostedStore::open(dir, &config, None).expect("opens")
}

fn uploaded(store: &HostedStore, bytes: &[u8]) -> Result<UploadedZip, UploadError> {
    let mut upload = store.upload()?;
    upload.write(bytes)?;
    upload.finish()
}

fn release(name: &str, version: &str, by: &str) -> NewRelease {
    NewRelease {
        name: name.into(),
        version: version.parse().expect("a version"),
        publisher: by.into(),
        at: Timestamp::UNIX_EPOCH,
        form: PublishForm::default(),
        verified: Verified { manifest: Digest::of(b"m"), commit: None, facts: json!({"entries": 1}) },
    }
}

fn publish(store: &HostedStore, name: &str, version: &str, bytes: &[u8]) -> Result<Publication, PublishRefusal> {
    store.publish(uploaded(store, bytes)?, release(name, version, "token:ci"))
}

fn change() -> StateChange {
    StateChange { by: "token:ci".into(), at: Timestamp::UNIX_EPOCH }
}

fn state(store: &HostedStore, version: &str) -> Option<VersionState> {
    Some(store.package("acme-x")?.version(version)?.state.clone())
}

/// Every file below a folder, with its length.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else {
            found.push(path.strip_prefix(dir).expect("below").display().to_string());
        }
    }
    found.sort();
    found
}

/// Every served version has its zip, and every zip belongs to a version; nothing is staged.
fn check_whole(dir: &Path, store: &HostedStore) {
    let mut blobs = 0;
    for package in store.packages() {
        for version in package.versions() {
            assert_ne!(version.state, VersionState::Unreadable, "{version:?}");
            let record = store.record(&package.name, &version.version).expect("a record");
            assert_eq!(record.digest, version.digest);
            if version.is_served() {
                let bytes = fs::read(dir.join(format!("blobs/{:02x}/{}", version.digest.0[0], version.digest)));
                assert_eq!(Digest::of(&bytes.expect("a zip")), version.digest);
                blobs += 1 + record.previous.len();
            }
        }
    }
    assert_eq!(files(&dir.join("blobs")).len(), blobs, "{:?}", files(dir));
    assert!(files(&dir.join("stage")).is_empty());
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn some_store(dir: &Path) -> Arc<HostedStore> {
    let store = Arc::new(open(dir));
    for version in ["1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1"] {
        publish(&store, "Acme-X", version, version.as_bytes()).expect("published");
    }
    publish(&store, "acme-y", "1.0.0", b"y 1.0.0").expect("published");
    for text in ["dev 1", "dev 2"] {
        publish(&store, "acme-y", "dev", text.as_bytes()).expect("published");
    }
    store.delete("acme-x", "1.0.0", change()).expect("deleted");
    store.yank("acme-x", "1.1.0", change()).expect("yanked");
    store
}

#[test]
fn a_version_is_written_once_and_found_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let Ok(Publication::Created(version)) = publish(&store, "acme-x", "1.0.0", b"one") else { panic!("created") };
    assert_eq!((version.len, version.digest), (3, Digest::of(b"one")));
    assert!(matches!(publish(&store, "acme-x", "1.0.0", b"one"), Ok(Publication::Unchanged(_))));
    let Err(error) = publish(&store, "acme-x", "1.0.0", b"two") else { panic!("refused") };
    assert_eq!(error.to_string(), "was published by token:ci on 1970-01-01T00:00:00Z with other content");
    assert!(matches!(publish(&store, "acme-x", "0.9.0", b"x"), Err(PublishRefusal::NotAbove(_))));
    assert!(
        matches!(publish(&store, "Acme-X", "1.0.1", b"x"), Err(PublishRefusal::OtherCase(name)) if name == "acme-x")
    );
    check_whole(dir.path(), &store);
    drop(store);
    let store = open(dir.path());
    assert_eq!(state(&store, "1.0.0"), Some(VersionState::Published));
    check_whole(dir.path(), &store);
}

#[test]
fn a_deleted_version_is_never_used_again_and_a_yanked_one_is_served_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for version in ["1.0.0", "1.1.0", "2.0.0-rc.1"] {
        publish(&store, "acme-x", version, version.as_bytes()).expect("published");
    }
    assert_eq!(&*store.package("acme-x").expect("a package").latest().expect("a version").version, "1.1.0");
    let yanked = store.yank("acme-x", "1.1.0", change()).expect("yanked");
    assert!(yanked.is_served());
    let package = store.package("acme-x").expect("a package");
    assert_eq!((package.listed().len(), &*package.latest().expect("a version").version), (2, "1.0.0"));
    store.unyank("acme-x", "1.1.0").expect("back");
    store.delete("acme-x", "1.1.0", change()).expect("deleted");
    assert!(matches!(store.delete("acme-x", "1.1.0", change()), Err(ChangeError::Deleted(_))));
    assert!(matches!(store.delete("acme-x", "9.0.0", change()), Err(ChangeError::Unknown)));
    check_whole(dir.path(), &store);
    drop(store);
    let store = open(dir.path());
    for bytes in [b"1.1.0".as_slice(), b"other"] {
        assert!(matches!(publish(&store, "acme-x", "1.1.0", bytes), Err(PublishRefusal::Deleted(_))));
    }
    check_whole(dir.path(), &store);
}

#[test]
fn a_moving_version_is_replaced_and_its_earlier_zips_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for bytes in [b"one".as_slice(), b"two", b"two"] {
        publish(&store, "acme-x", "dev.a", bytes).expect("published");
    }
    let record = store.record("acme-x", "dev.a").expect("a record");
    assert_eq!((record.digest, record.previous.len()), (Digest::of(b"two"), 1));
    check_whole(dir.path(), &store);
    store.delete("acme-x", "dev.a", change()).expect("deleted");
    check_whole(dir.path(), &store);
    publish(&store, "acme-x", "dev.a", b"three").expect("a moving version leaves no tombstone");
    check_whole(dir.path(), &store);
    drop(store);
    check_whole(dir.path(), &open(dir.path()));
}

#[test]
fn a_kill_at_any_step_of_a_publication_or_a_deletion_leaves_all_or_nothing() {
    for act in ["publish", "replace", "delete"] {
        for operations in 0.. {
            let dir = tempfile::tempdir().expect("a directory");
            let store = open(dir.path());
            publish(&store, "acme-x", "0.1.0", b"before").expect("published");
            publish(&store, "acme-x", "dev", b"first").expect("published");
            store.files.faults().kill_after(operations);
            let done = match act {
                "publish" => publish(&store, "acme-x", "1.0.0", b"one").is_ok(),
                "replace" => publish(&store, "acme-x", "dev", b"second").is_ok(),
                _ => store.delete("acme-x", "0.1.0", change()).is_ok(),
            };
            // What this process goes on to say is what the next one will.
            let said = store.packages()[0].versions().cloned().collect::<Vec<_>>();
            let is_alive = store.files.faults().step().is_ok();
            drop(store);
            let store = open(dir.path());
            check_whole(dir.path(), &store);
            let found = store.packages()[0].versions().cloned().collect::<Vec<_>>();
            assert_eq!(said, found, "{act} after {operations} operations");
            if done {
                match act {
                    "publish" => assert_eq!(state(&store, "1.0.0"), Some(VersionState::Published)),
                    "replace" => {
                        assert_eq!(store.record("acme-x", "dev").expect("a record").digest, Digest::of(b"second"))
                    }
                    _ => assert!(matches!(state(&store, "0.1.0"), Some(VersionState::Deleted(_)))),
                }
            }
            if done && is_alive {
                assert!(operations > 3, "{act}");
                break;
            }
        }
    }
}

#[test]
fn a_failure_that_passes_leaves_nothing_and_the_next_attempt_succeeds() {
    for operations in 0..12 {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        store.files.faults().kill_after(operations);
        let first = publish(&store, "acme-x", "1.0.0", b"one");
        store.files.faults().never();
        let second = publish(&store, "acme-x", "1.0.0", b"one").expect("published");
        let unchanged = matches!(second, Publication::Unchanged(_));
        assert!(!unchanged || first.is_ok() || state(&store, "1.0.0").is_some());
        drop(store);
        check_whole(dir.path(), &open(dir.path()));
    }
}

#[test]
fn of_fifty_publishers_of_one_version_one_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let barrier = Barrier::new(50);
    let results: Vec<_> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..50)
            .map(|number| {
                let store = &store;
                let barrier = &barrier;
                scope.spawn(move || {
                    let zip = uploaded(store, format!("zip {number}").as_bytes()).expect("uploaded");
                    barrier.wait();
                    store.publish(zip, release("acme-x", "1.0.0", &format!("token:{number}")))
                })
            })
            .collect();
        publishers.into_iter().map(|publisher| publisher.join().expect("no panic")).collect()
    });
    let winners = results.iter().filter(|result| matches!(result, Ok(Publication::Created(_)))).count();
    let refusals: std::collections::BTreeSet<_> =
        results.iter().filter_map(|r| r.as_ref().err()).map(ToString::to_string).collect();
    assert_eq!((winners, refusals.len()), (1, 1), "{refusals:?}");
    check_whole(dir.path(), &store);
}

#[test]
fn publishers_of_different_versions_and_packages_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for package in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for patch in 0..10 {
                    // The same bytes everywhere: one zip, kept by all.
                    publish(store, &format!("acme-{package}"), &format!("1.0.{patch}"), b"same").expect("published");
                }
            });
        }
    });
    assert_eq!(store.packages().iter().map(|package| package.listed().len()).sum::<usize>(), 40);
    assert_eq!(files(&dir.path().join("blobs")).len(), 1);
    for patch in 0..10 {
        store.delete("acme-0", &format!("1.0.{patch}"), change()).expect("deleted");
    }
    assert_eq!(files(&dir.path().join("blobs")).len(), 1, "other versions have the same zip");
}

#[test]
fn nothing_is_stored_above_the_quota_and_a_cut_upload_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { quota: ByteSize(10_000), min_free: ByteSize(0), ..Config::default() };
    let store = HostedStore::open(dir.path(), &config, None).expect("opens");
    publish(&store, "acme-x", "1.0.0", &[1; 6000]).expect("published");
    let refused = publish(&store, "acme-x", "1.0.1", &[2; 6000]);
    assert!(matches!(refused, Err(PublishRefusal::Upload(UploadError::Full(_)))), "{refused:?}");
    let mut cut = store.upload().expect("an upload");
    cut.write(&[3; 4000]).expect("written");
    assert!(store.upload().expect("an upload").write(&[4; 4000]).is_err());
    drop(cut);
    assert_eq!(files(&dir.path().join("stage")), Vec::<String>::new());
    publish(&store, "acme-x", "1.0.1", &[3; 4000]).expect("the room of the cut upload is free again");
    let full = Config { min_free: ByteSize(u64::MAX), ..Config::default() };
    drop(store);
    let store = HostedStore::open(dir.path(), &full, None).expect("opens");
    assert!(matches!(store.upload().expect("an upload").write(&[5]), Err(UploadError::Full(_))));
}

#[test]
fn a_directory_is_held_by_one_process_and_another_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let config = Config::default();
    assert!(matches!(HostedStore::open(dir.path(), &config, None), Err(OpenHostedError::Busy { .. })));
    drop(store);
    fs::write(dir.path().join("format"), "2\n").expect("written");
    assert!(matches!(HostedStore::open(dir.path(), &config, None), Err(OpenHostedError::Format { .. })));
}

#[test]
fn a_damaged_record_or_a_missing_zip_keeps_its_version_taken_and_loses_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        publish(&store, "acme-x", version, version.as_bytes()).expect("published");
    }
    let lost = store.package("acme-x").expect("a package").version("1.0.1").expect("a version").digest;
    drop(store);
    fs::write(dir.path().join("releases/acme-x/1.0.0.json"), "{").expect("written");
    fs::remove_file(dir.path().join(format!("blobs/{:02x}/{lost}", lost.0[0]))).expect("removed");
    let store = open(dir.path());
    for version in ["1.0.0", "1.0.1"] {
        assert_eq!(state(&store, version), Some(VersionState::Unreadable));
        assert!(matches!(publish(&store, "acme-x", version, b"x"), Err(PublishRefusal::Unreadable)));
    }
    assert_eq!(state(&store, "1.0.2"), Some(VersionState::Published));
    // The zip of the record that cannot be read is not taken for an unused one.
    assert_eq!(files(&dir.path().join("blobs")).len(), 2);
}

#[test]
fn a_copy_of_the_records_and_then_of_the_zips_is_a_backup_that_can_be_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for version in ["1.0.0", "1.1.0"] {
        publish(&store, "acme-x", version, version.as_bytes()).expect("published");
    }
    for folder in ["releases", "blobs"] {
        for file in files(&dir.path().join(folder)) {
            let target = copy.path().join(folder).join(&file);
            fs::create_dir_all(target.parent().expect("a folder")).expect("created");
            fs::copy(dir.path().join(folder).join(&file), target).expect("copied");
        }
        publish(&store, "acme-x", "1.2.0", b"published during the copy").expect("published");
    }
    fs::copy(dir.path().join("format"), copy.path().join("format")).expect("copied");
    let restored = open(copy.path());
    check_whole(copy.path(), &restored);
    assert_eq!(restored.package("acme-x").expect("a package").listed().len(), 2);
}

#[test]
fn five_thousand_versions_are_listed_and_read_at_a_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    publish(&store, "acme-x", "1.0.0", b"zip").expect("published");
    let record = fs::read_to_string(dir.path().join("releases/acme-x/1.0.0.json")).expect("a record");
    drop(store);
    for patch in 1..5000 {
        let version = format!("1.0.{patch}");
        fs::write(dir.path().join(format!("releases/acme-x/{version}.json")), record.replace("1.0.0", &version))
            .expect("written");
    }
    let store = open(dir.path());
    let package = store.package("ACME-X").expect("a package");
    assert_eq!((package.listed().len(), &*package.latest().expect("a version").version), (5000, "1.0.4999"));
    publish(&store, "acme-x", "1.0.5000", b"zip").expect("published");
}

#[test]
fn files_of_other_programs_in_the_directory_are_left_alone_and_keep_no_mirror_from_its_start() {
    let dir = tempfile::tempdir().expect("a directory");
    publish(&open(dir.path()), "acme-x", "1.0.0", b"one").expect("published");
    let strays = ["releases/.DS_Store", "blobs/notes.txt", "releases/acme-x/1.0.0.json.orig"];
    for stray in strays {
        fs::write(dir.path().join(stray), "x").expect("written");
    }
    let store = open(dir.path());
    assert_eq!(state(&store, "1.0.0"), Some(VersionState::Published));
    assert!(strays.iter().all(|stray| dir.path().join(stray).exists()));
}

#[test]
fn only_versions_that_are_names_of_files_can_be_published() {
    for text in ["1.0.0", "1.2.3-rc.1", "dev", "dev.a", "dev.feature-1"] {
        let version: VersionNumber = text.parse().expect(text);
        assert_eq!(version.is_moving(), text.starts_with("dev"));
    }
    let long = format!("1.0.0-{}", "a".repeat(200));
    for text in
        ["", "1", "1.0", "v1.0.0", "1.0.0+b", "..", "../1.0.0", "1.0.0/..", "dev.", "dev..a", "dev/a", "devel", &long]
    {
        assert!(text.parse::<VersionNumber>().is_err(), "{text}");
    }
}
