use super::{super::admission::AdmissionStep, *};

const STEPS: [AdmissionStep; 6] = [
    AdmissionStep::BlobSynced,
    AdmissionStep::SidecarSynced,
    AdmissionStep::BlobNamed,
    AdmissionStep::SidecarNamed,
    AdmissionStep::FolderSynced,
    AdmissionStep::Indexed,
];

/// Opens the copy and checks that nothing half is in it; returns the object under `name`.
async fn inspect(copy: &TempDir, name: &str) -> Option<Vec<u8>> {
    let disk = Disk::open(&config(64), copy.path()).expect("needs no repair by hand");
    assert_eq!(files(&copy.path().join("spool")), [] as [PathBuf; 0], "orphans in the spool folder");
    assert_eq!(disk.usage().bytes, on_disk(&disk, copy.path()), "the budget is not what lies on disk");
    let found = match get(&disk, name).await {
        Some(object) => Some(bytes_of(&object).await),
        None => None,
    };
    let blobs = files(&copy.path().join("blobs")).len() as u64;
    assert_eq!(blobs, 2 * disk.usage().objects, "a blob without a sidecar or the other way round");
    found
}

#[tokio::test]
async fn a_kill_at_any_step_of_an_admission_leaves_nothing_or_the_whole_object() {
    let rig = rig(64);
    let bytes = body(1, 70_000);
    let mut copies = Vec::new();
    let spool = filled(&rig.disk, &bytes);
    copies.push((None, killed_copy(rig.dir.path())));
    let after = |step| copies.push((Some(step), killed_copy(rig.dir.path())));
    rig.disk.admission.run(&key("a"), spool, meta(&bytes), None, after).expect("admitted");
    assert_eq!(copies.iter().filter_map(|(step, _)| *step).collect::<Vec<_>>(), STEPS);
    for (step, copy) in copies {
        let found = inspect(&copy, "a").await;
        assert!(found.as_ref().is_none_or(|found| *found == bytes), "{step:?}");
        let named =
            matches!(step, Some(AdmissionStep::SidecarNamed | AdmissionStep::FolderSynced | AdmissionStep::Indexed));
        assert_eq!(found.is_some(), named, "{step:?}");
    }
}

#[tokio::test]
async fn a_kill_while_a_blob_gets_a_second_key_keeps_its_first_key() {
    let rig = rig(64);
    let bytes = body(2, 5000);
    store(&rig.disk, "a", &bytes).await;
    let mut copies = Vec::new();
    let spool = filled(&rig.disk, &bytes);
    let after = |step| copies.push((step, killed_copy(rig.dir.path())));
    rig.disk.admission.run(&key("b"), spool, meta(&bytes), None, after).expect("admitted");
    assert!(!copies.iter().any(|(step, _)| *step == AdmissionStep::BlobNamed), "the same bytes were written twice");
    for (step, copy) in copies {
        assert_eq!(inspect(&copy, "a").await.as_ref(), Some(&bytes), "{step:?}");
        let disk = Disk::open(&config(64), copy.path()).expect("opens");
        assert_eq!(get(&disk, "b").await.is_some(), step == AdmissionStep::Indexed, "{step:?}");
    }
}

#[tokio::test]
async fn an_object_is_not_visible_before_its_last_step() {
    let rig = rig(64);
    let bytes = body(3, 5000);
    let spool = filled(&rig.disk, &bytes);
    let disk = &rig.disk;
    let after =
        |step| assert_eq!(disk.lookup.meta(&key("a")).expect("works").is_some(), step == AdmissionStep::Indexed);
    disk.admission.run(&key("a"), spool, meta(&bytes), None, after).expect("admitted");
    assert!(get(&rig.disk, "a").await.is_some());
}

#[tokio::test]
async fn an_admitted_object_survives_a_restart_and_a_crash() {
    let mut rig = rig(64);
    let bytes = body(4, 300_000);
    store(&rig.disk, "a", &bytes).await;
    for clean in [true, false, true] {
        rig = if clean { rig.restart().await } else { rig.crash() };
        let object = get(&rig.disk, "a").await.expect("still there");
        assert_eq!((bytes_of(&object).await, object.tier), (bytes.clone(), "disk"));
        assert_eq!(*object.meta, meta(&bytes));
        drop(object);
        assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
        assert_eq!(rig.disk.usage().objects, 1);
    }
}

#[tokio::test]
async fn two_keys_share_a_blob_and_it_is_removed_with_the_last_key() {
    let rig = rig(64);
    let bytes = body(5, 9000);
    store(&rig.disk, "a", &bytes).await;
    let before = rig.disk.usage();
    let private = Meta { anonymous: false, ..meta(&bytes) };
    let spool = filled(&rig.disk, &bytes);
    let second = rig.disk.admit(&key("b"), spool, private).await.expect("admitted");
    drop(second);
    assert_eq!(rig.disk.usage(), before, "the same bytes count once");
    let rig = rig.restart().await;
    assert!(get(&rig.disk, "a").await.expect("there").meta.anonymous);
    assert!(!get(&rig.disk, "b").await.expect("there").meta.anonymous, "what is stored is stored per key");
    rig.disk.remove(&key("a")).await.expect("removed");
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!(bytes_of(&get(&rig.disk, "b").await.expect("still there")).await, bytes);
    rig.disk.remove(&key("b")).await.expect("removed");
    assert_eq!(files(&rig.path("blobs")), [] as [PathBuf; 0]);
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (0, on_disk(&rig.disk, rig.dir.path())));
}

#[tokio::test]
async fn a_key_that_gets_other_bytes_leaves_its_old_blob() {
    let rig = rig(64);
    store(&rig.disk, "branch", &body(6, 9000)).await;
    let newer = body(7, 12_000);
    store(&rig.disk, "branch", &newer).await;
    assert_eq!(bytes_of(&get(&rig.disk, "branch").await.expect("there")).await, newer);
    assert_eq!(files(&rig.path("blobs")).len(), 2);
    let rig = rig.restart().await;
    assert_eq!(bytes_of(&get(&rig.disk, "branch").await.expect("there")).await, newer);
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
}

#[tokio::test]
async fn a_spool_that_is_not_admitted_leaves_no_trace() {
    let rig = rig(64);
    let before = rig.disk.usage();
    let spool = filled(&rig.disk, &body(8, 100_000));
    let reader = spool.file();
    assert_eq!(files(&rig.path("spool")).len(), 1);
    drop(spool);
    assert_eq!(files(&rig.path("spool")), [] as [PathBuf; 0]);
    assert_eq!(reader.read(0, 100_000).await.expect("readable"), body(8, 100_000));
    assert!(rig.disk.usage().bytes > before.bytes, "an unlinked file that is read still counts");
    drop(reader);
    assert_eq!(rig.disk.usage(), before);
}

#[test]
fn a_second_process_is_refused_with_the_holders_process_id() {
    let rig = rig(64);
    let refused = Disk::open(&config(64), rig.dir.path()).err().expect("refused");
    assert!(matches!(refused, OpenError::Busy { pid: Some(pid), .. } if pid == std::process::id()), "{refused}");
    let address = "127.0.0.1:8080".parse().expect("valid");
    rig.disk.set_holder_addresses(&[address]).expect("written");
    let holder = Holder::of(rig.dir.path()).expect("readable").expect("there");
    assert_eq!((holder.pid, holder.addresses), (std::process::id(), vec![address]));
    rig.crash();
}

#[test]
fn a_newer_format_and_a_tiny_limit_are_refused_with_a_reason() {
    let rig = rig(64);
    let Rig { dir, disk } = rig;
    drop(disk);
    assert!(matches!(Disk::open(&config(1), dir.path()).err(), Some(OpenError::Limit { .. })));
    fs::write(dir.path().join("format"), "2\n").expect("written");
    let refused = Disk::open(&config(64), dir.path()).err().expect("refused").to_string();
    assert!(refused.contains("format \"2\"") && refused.contains("up to 1"), "{refused}");
}

#[test]
fn a_directory_with_foreign_files_is_refused_and_unchanged() {
    for (theirs, opens) in [
        (&["spool/letter.txt"][..], false),
        (&["photo.jpg"], false),
        (&["blobs/ab/cd"], false),
        (&[], true),
        // A new file system, and a first start that was killed.
        (&["lost+found/x"], true),
        (&[".snapshot/x", ".keep", "aquota.user"], true),
        (&["holder"], true),
        (&["pins.jsonl"], true),
    ] {
        let dir = TempDir::new().expect("a folder");
        for path in theirs.iter().map(|name| dir.path().join(name)) {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, b"").expect("written");
        }
        let before = files(dir.path());
        let opened = Disk::open(&config(64), dir.path());
        assert_eq!(opened.is_ok(), opens, "{theirs:?}");
        if let Err(refused) = opened {
            let text = refused.to_string();
            assert!(text.contains(&dir.path().display().to_string()) && text.contains("empty"), "{text}");
            assert_eq!(files(dir.path()), before, "{theirs:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_directory_is_unlocked_while_another_handle_on_the_tier_lives() {
    let rig = rig(16);
    let late = Arc::clone(&rig.disk);
    rig.disk.close().await.expect("closes");
    let next = Disk::open(&config(16), rig.dir.path()).expect("opens");
    drop(late);
    assert!(matches!(Disk::open(&config(16), rig.dir.path()), Err(OpenError::Busy { .. })), "the next one holds it");
    drop(next);
}
