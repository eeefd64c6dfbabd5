use std::io::Write as _;

use super::*;

fn pin(name: &str, seed: u64) -> Pin {
    let bytes = body(seed, 10);
    Pin {
        key: key(name),
        digest: Digest::of(&bytes),
        len: 10,
        first_seen: Timestamp::UNIX_EPOCH,
        verified: verified(&bytes),
    }
}

async fn found(disk: &Disk, name: &str) -> Option<Pin> {
    disk.pins().get(&key(name)).await.expect("works").map(|pin| Pin::clone(&pin))
}

#[tokio::test]
async fn the_first_keys_of_a_prefix_are_those_that_are_pinned_and_no_other_packages() {
    let rig = rig(64);
    for (name, seed) in [("a1", 1), ("a2", 2), ("a3", 3), ("b1", 4), ("b2", 5)] {
        record(&rig.disk, &pin(name, seed), PinEvent::Pin).await;
    }
    record(&rig.disk, &pin("a2", 2), PinEvent::Forget).await;
    for (limit, expected) in [(1, &["a1"][..]), (2, &["a1", "a3"]), (9, &["a1", "a3"])] {
        let keys = rig.disk.pins().first_keys_with_prefix("github/o/a", limit).await.expect("works");
        assert_eq!(keys, expected.iter().map(|name| key(name)).collect::<Vec<_>>(), "{limit}");
    }
}

#[tokio::test]
async fn a_pin_outlives_its_archive_and_a_restart() {
    let mut rig = rig(64);
    let bytes = body(1, 10_000);
    store(&rig.disk, "a", &bytes).await;
    assert_eq!(found(&rig.disk, "a").await, None);
    record(&rig.disk, &pin("a", 1), PinEvent::Pin).await;
    rig.disk.remove(&key("a")).await.expect("removed");
    for clean in [true, false] {
        assert!(get(&rig.disk, "a").await.is_none());
        assert_eq!(found(&rig.disk, "a").await, Some(pin("a", 1)));
        assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
        rig = if clean { rig.restart().await } else { rig.crash() };
    }
}

#[tokio::test]
async fn the_last_journal_line_of_a_key_is_its_pin() {
    let rig = rig(64);
    record(&rig.disk, &pin("a", 1), PinEvent::Pin).await;
    record(&rig.disk, &pin("a", 2), PinEvent::Packing).await;
    record(&rig.disk, &pin("b", 3), PinEvent::Pin).await;
    record(&rig.disk, &pin("c", 4), PinEvent::Pin).await;
    assert_eq!(found(&rig.disk, "b").await, Some(pin("b", 3)));
    record(&rig.disk, &pin("b", 3), PinEvent::Forget).await;
    let check = async |rig: &Rig| {
        assert_eq!(found(&rig.disk, "a").await, Some(pin("a", 2)));
        assert_eq!(found(&rig.disk, "b").await, None);
        assert_eq!(found(&rig.disk, "c").await, Some(pin("c", 4)));
        assert_eq!(rig.disk.pins().keys().await.expect("works"), [key("a"), key("c")]);
    };
    check(&rig).await;
    rig.disk.close().await.expect("closes");
    fs::remove_file(rig.path("index.redb")).expect("there");
    let rig = rig.crash();
    check(&rig).await;
    assert_eq!(fs::read_to_string(rig.path("pins.jsonl")).expect("text").lines().count(), 5, "the audit log is whole");
}

#[tokio::test]
async fn a_torn_last_journal_line_is_truncated_and_a_damaged_one_skipped() {
    let rig = rig(64);
    for name in ["a", "b", "c"] {
        record(&rig.disk, &pin(name, 1), PinEvent::Pin).await;
    }
    let Rig { dir, disk } = rig;
    drop(disk);
    let path = dir.path().join("pins.jsonl");
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, text.replace("o/b/tag", "o/b\u{1}tag")).expect("written");
    fs::OpenOptions::new().append(true).open(&path).expect("there").write_all(b"{\"at\":\"20").expect("written");
    fs::remove_file(dir.path().join("index.redb")).expect("there");
    let disk = Disk::open(&config(64), dir.path()).expect("opens");
    let rig = Rig { dir, disk };
    assert_eq!(found(&rig.disk, "a").await, Some(pin("a", 1)));
    assert_eq!(found(&rig.disk, "b").await, None);
    assert_eq!(found(&rig.disk, "c").await, Some(pin("c", 1)));
    record(&rig.disk, &pin("d", 2), PinEvent::Pin).await;
    let rig = rig.restart().await;
    assert_eq!(found(&rig.disk, "d").await, Some(pin("d", 2)));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_journal_line_that_the_index_lacks_is_replayed() {
    let rig = rig(64);
    record(&rig.disk, &pin("a", 1), PinEvent::Pin).await;
    let before = fs::read(rig.path("index.redb")).expect("there");
    record(&rig.disk, &pin("b", 2), PinEvent::Pin).await;
    let copy = killed_copy(rig.dir.path());
    fs::write(copy.path().join("index.redb"), before).expect("written");
    let disk = Disk::open(&config(64), copy.path()).expect("opens");
    assert_eq!(found(&disk, "b").await, Some(pin("b", 2)));
}

#[tokio::test]
async fn every_damaged_line_is_counted_as_a_reason_to_be_degraded_and_lines_without_checksum_are_read() {
    let rig = rig(64);
    for name in ["a", "b"] {
        record(&rig.disk, &pin(name, 1), PinEvent::Pin).await;
    }
    let Rig { dir, disk } = rig;
    drop(disk);
    let path = dir.path().join("pins.jsonl");
    let text = fs::read_to_string(&path).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let (old, _) = lines[0].split_once(",\"crc32\"").expect("a checksum");
    // Valid JSON, and other content than was written.
    let damaged = lines[1].replace("\"len\":10", "\"len\":11");
    fs::write(&path, format!("{old}}}\n{damaged}\n")).expect("written");
    fs::remove_file(dir.path().join("index.redb")).expect("there");
    let disk = Disk::open(&config(64), dir.path()).expect("opens");
    assert_eq!(found(&disk, "a").await, Some(pin("a", 1)));
    assert_eq!(found(&disk, "b").await, None);
    assert_eq!(disk.degraded(), ["damaged lines of pins.jsonl or sources.jsonl: 1"]);
}

#[tokio::test]
async fn pins_reach_the_disk_and_are_found_while_the_index_cannot_be_written() {
    let rig = rig(64);
    record(&rig.disk, &pin("a", 1), PinEvent::Pin).await;
    rig.disk.index.refuse_writes(true);
    record(&rig.disk, &pin("b", 2), PinEvent::Pin).await;
    record(&rig.disk, &pin("a", 1), PinEvent::Forget).await;
    let check = async |disk: &Disk| {
        assert_eq!(found(disk, "a").await, None);
        assert_eq!(found(disk, "b").await, Some(pin("b", 2)));
        assert_eq!(disk.pins().keys().await.expect("works"), [key("b")]);
    };
    check(&rig.disk).await;
    assert!(!rig.disk.is_writable());
    let copy = killed_copy(rig.dir.path());
    check(&Disk::open(&config(64), copy.path()).expect("opens")).await;
    rig.disk.index.refuse_writes(false);
    record(&rig.disk, &pin("c", 3), PinEvent::Pin).await;
    assert!(rig.disk.is_writable());
    let rig = rig.restart().await;
    assert_eq!(found(&rig.disk, "b").await, Some(pin("b", 2)));
}

#[tokio::test]
async fn removals_that_the_index_lacks_hide_no_later_pin() {
    let rig = rig(64);
    for name in ["a", "b", "c", "d"] {
        record(&rig.disk, &pin(name, 1), PinEvent::Pin).await;
    }
    rig.disk.index.refuse_writes(true);
    for name in ["a", "b"] {
        record(&rig.disk, &pin(name, 1), PinEvent::Forget).await;
    }
    record(&rig.disk, &pin("a2", 1), PinEvent::Pin).await;
    for limit in [1, 2, 9] {
        let mut listed: Vec<Key> = Vec::new();
        loop {
            let after = listed.last().map_or("", Key::as_str);
            let page = rig.disk.pins().keys_after(after, limit).await.expect("works");
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit, "{page:?}");
            listed.extend(page);
        }
        assert_eq!(listed, ["a2", "c", "d"].map(key), "{limit}");
    }
    record(&rig.disk, &pin("a2", 1), PinEvent::Forget).await;
    assert_eq!(rig.disk.pins().keys_after("", 1).await.expect("works"), [key("c")]);
    assert!(!rig.disk.inventory().holds_nothing().await.expect("works"));
}

/// Two keys, each with several packings, one of them forgotten once; the latest pins.
async fn repacked(disk: &Disk) -> [Pin; 2] {
    for name in ["a", "b"] {
        record(disk, &pin(name, 1), PinEvent::Pin).await;
        for seed in 2..6 {
            record(disk, &pin(name, seed), PinEvent::Packing).await;
        }
    }
    record(disk, &pin("b", 5), PinEvent::Forget).await;
    record(disk, &pin("b", 6), PinEvent::Pin).await;
    [pin("a", 5), pin("b", 6)]
}

fn events(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines
        .map(|line| format!("{} {}", line["event"].as_str().unwrap_or("-"), line["pin"]["key"].as_str().unwrap_or("-")))
        .collect()
}

#[tokio::test]
async fn a_compaction_drops_replaced_packings_only_and_the_pins_stay_as_they_are() {
    let rig = rig(64);
    let pins = repacked(&rig.disk).await;
    let path = rig.path("pins.jsonl");
    let before = fs::metadata(&path).expect("there").len();
    let staging = rig.disk.layout.next_staging_path();
    rig.disk.pins.compact_now(&staging, |_| {}).expect("compacted");
    let lines = ["- -", "pin a", "packing a", "pin b", "forget b", "pin b"];
    let lines =
        lines.map(|line| line.replace(" a", &format!(" {}", key("a"))).replace(" b", &format!(" {}", key("b"))));
    assert_eq!(events(&path), lines);
    assert!(fs::metadata(&path).expect("there").len() < before);
    let check = async |disk: &Disk, dir: &Path| {
        assert_eq!(found(disk, "a").await.as_ref(), Some(&pins[0]));
        assert_eq!(found(disk, "b").await.as_ref(), Some(&pins[1]));
        assert_eq!(disk.usage().bytes, on_disk(disk, dir));
    };
    check(&rig.disk, rig.dir.path()).await;
    record(&rig.disk, &pin("c", 7), PinEvent::Pin).await;
    // Nothing is replaced now: a second compaction changes the number in the first line.
    let staging = rig.disk.layout.next_staging_path();
    rig.disk.pins.compact_now(&staging, |_| {}).expect("compacted");
    assert_eq!(events(&path).len(), 7);
    let rig = rig.restart().await;
    check(&rig.disk, rig.dir.path()).await;
    assert_eq!(found(&rig.disk, "c").await, Some(pin("c", 7)));
    rig.disk.close().await.expect("closes");
    fs::remove_file(rig.path("index.redb")).expect("there");
    let rig = rig.crash();
    check(&rig.disk, rig.dir.path()).await;
}

#[tokio::test]
async fn a_kill_at_any_step_of_a_compaction_loses_no_pin() {
    let rig = rig(64);
    let pins = repacked(&rig.disk).await;
    let mut copies = Vec::new();
    let staging = rig.disk.layout.next_staging_path();
    let after = |step| copies.push((step, killed_copy(rig.dir.path())));
    rig.disk.pins.compact_now(&staging, after).expect("compacted");
    assert_eq!(copies.len(), 3);
    for (step, copy) in copies {
        for _ in 0..2 {
            let disk = Disk::open(&config(64), copy.path()).expect("needs no repair by hand");
            assert_eq!(found(&disk, "a").await.as_ref(), Some(&pins[0]), "{step:?}");
            assert_eq!(found(&disk, "b").await.as_ref(), Some(&pins[1]), "{step:?}");
            assert_eq!(disk.usage().bytes, on_disk(&disk, copy.path()), "{step:?}");
            assert_eq!(files(&copy.path().join("spool")), [] as [PathBuf; 0], "{step:?}");
            record(&disk, &pin(&format!("{step:?}"), 9), PinEvent::Pin).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pins_are_read_and_written_while_the_journal_is_compacted() {
    let rig = rig(64);
    repacked(&rig.disk).await;
    let disk = &rig.disk;
    let writers = (0..4_u64).map(|task| {
        let disk = Arc::clone(disk);
        tokio::spawn(async move {
            for round in 0..30 {
                let name = format!("t{task}-{round}");
                record(&disk, &pin(&name, task), PinEvent::Pin).await;
                record(&disk, &pin(&name, task + 1), PinEvent::Packing).await;
                record(&disk, &pin(&name, task + 2), PinEvent::Packing).await;
                // Past the cache: from the file.
                let read = disk.pins.read_from_journal(&key(&name)).expect("readable");
                assert_eq!(read, Some(pin(&name, task + 2)));
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let disk = Arc::clone(disk);
        let compact = move || disk.pins.compact_now(&disk.layout.next_staging_path(), |_| {});
        crate::blocking::spawn_blocking(compact).await.expect("no panic").expect("compacted");
    }
    for writer in writers {
        writer.await.expect("no panic");
    }
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    let rig = rig.crash();
    assert_eq!(rig.disk.pins().keys().await.expect("works").len(), 122);
    assert_eq!(found(&rig.disk, "t3-29").await, Some(pin("t3-29", 5)));
}

#[tokio::test]
async fn an_unreadable_pin_is_an_error_and_not_absent() {
    let rig = rig(64);
    record(&rig.disk, &pin("a", 1), PinEvent::Pin).await;
    let rig = rig.restart().await;
    let path = rig.path("pins.jsonl");
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, text.replacen('{', "[", 1)).expect("written");
    assert!(rig.disk.pins().get(&key("a")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_first_pins_with_different_content_exactly_one_is_recorded() {
    let rig = rig(64);
    let tasks = (1..=16).map(|seed| {
        let disk = Arc::clone(&rig.disk);
        let decide = move |old: Option<Pin>| match old {
            Some(old) if old != pin("a", seed) => Err(Box::new(old)),
            Some(_) => Ok(Vec::new()),
            None => Ok(vec![(PinEvent::Pin, pin("a", seed))]),
        };
        tokio::spawn(async move { disk.pins().settle(&key("a"), decide).await.map(|()| pin("a", seed)) })
    });
    let all = futures_util::future::join_all(tasks).await.into_iter().map(|done| done.expect("no panic"));
    let (first, refused): (Vec<_>, Vec<_>) = all.partition(Result::is_ok);
    assert_eq!((first.len(), refused.len()), (1, 15));
    let first = first.into_iter().find_map(Result::ok).expect("one");
    assert!(
        refused.into_iter().all(|refused| matches!(refused, Err(SettleError::Refused(old)) if *old == first)),
        "each refusal contains the recorded pin"
    );
    assert_eq!(found(&rig.disk, "a").await, Some(first.clone()));
    assert_eq!(fs::read_to_string(rig.path("pins.jsonl")).expect("text").lines().count(), 1);
    // An operator's replacement is one step: the key is pinned at every moment.
    let both = vec![(PinEvent::Forget, first), (PinEvent::Pin, pin("a", 99))];
    rig.disk.pins().settle(&key("a"), |_| Ok::<_, Infallible>(both)).await.expect("works");
    assert_eq!(found(&rig.disk, "a").await, Some(pin("a", 99)));
    let rig = rig.crash();
    assert_eq!(found(&rig.disk, "a").await, Some(pin("a", 99)));
}
