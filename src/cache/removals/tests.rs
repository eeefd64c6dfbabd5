use super::*;

fn patterns(due: &DueRemovals) -> Vec<&str> {
    due.removals.iter().map(|due| due.removal.pattern.as_str()).collect()
}

#[test]
fn a_removal_is_due_once_on_every_other_mirror_and_never_on_its_own() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let [one, other] = [Removals::open(dirs[0].path()), Removals::open(dirs[1].path())];
    one.record("acme/*", false, Timestamp::now()).expect("recorded");
    // The process ends before the bucket has it.
    let one = { Removals::open(dirs[0].path()) };
    let list = one.merged(None);
    assert_eq!(one.merged(Some(&list)), list, "what was written is not written again");
    assert_eq!(patterns(&one.due(&list).expect("due")), [""; 0]);
    assert_eq!(patterns(&other.due(&list).expect("due")), ["acme/*"]);
    other.set_done(&list, 1).expect("written");
    let other = Removals::open(dirs[1].path());
    assert_eq!(patterns(&other.due(&list).expect("due")), [""; 0]);
    other.record("b/*", true, Timestamp::now()).expect("recorded");
    let list = other.merged(Some(&list));
    assert_eq!((list.last(), patterns(&one.due(&list).expect("due"))), (2, vec!["b/*"]));
    // The bucket was lost: numbers begin again.
    other.due(&list).expect("due");
    other.record("c/*", true, Timestamp::now()).expect("recorded");
    assert_eq!(patterns(&one.due(&other.merged(None)).expect("due")), ["c/*"]);
}

#[test]
fn marks_are_due_in_the_order_of_the_list_on_all_mirrors() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let [one, other] = [Removals::open(dirs[0].path()), Removals::open(dirs[1].path())];
    one.record_mark("a", KeepChange::Keep, Timestamp::now()).expect("recorded");
    other.record_mark("b", KeepChange::Unkeep, Timestamp::now()).expect("recorded");
    one.record("c", false, Timestamp::now()).expect("recorded");
    let list = one.merged(Some(&other.merged(None)));
    assert_eq!(patterns(&one.due(&list).expect("due")), ["b", "a"]);
    assert_eq!(patterns(&other.due(&list).expect("due")), ["b", "a", "c"]);
}

#[test]
fn a_list_of_a_backup_is_done_again_also_when_it_has_grown_since() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let [one, other] = [Removals::open(dirs[0].path()), Removals::open(dirs[1].path())];
    let add = |list: Option<&StoredRemovals>, pattern: &str| {
        one.record(pattern, true, Timestamp::now()).expect("recorded");
        let list = one.merged(list);
        one.due(&list).expect("due");
        list
    };
    let backup = add(None, "a");
    let list = add(Some(&backup), "b");
    other.set_done(&list, 2).expect("written");
    assert_eq!(patterns(&other.due(&add(Some(&list), "c")).expect("due")), ["c"]);
    let repeated = |list: &StoredRemovals| {
        let due = other.due(list).expect("due");
        due.removals.iter().map(|due| due.is_repeated).collect::<Vec<_>>()
    };
    assert_eq!(repeated(&add(Some(&list), "x")), [false]);
    assert_eq!(patterns(&other.due(&backup).expect("due")), ["a"], "it is shorter");
    assert_eq!(repeated(&backup), [true], "it stays so until it is done");
    other.set_done(&list, 2).expect("written");
    let grown = add(Some(&add(Some(&backup), "d")), "e");
    assert_eq!(patterns(&other.due(&grown).expect("due")), ["a", "d", "e"]);
    assert_eq!(repeated(&add(Some(&grown), "f")), [true, true, true, false], "the last one follows them");
    let other = Removals::open(dirs[1].path());
    other.set_done(&grown, 1).expect("written");
    assert_eq!(patterns(&other.due(&grown).expect("due")), ["d", "e"], "it is persisted");
}

#[test]
fn documents_wait_for_the_bucket_across_restarts_and_not_without_a_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let removals = Removals::open(dir.path());
    let left = |key: String, second| {
        let at = Timestamp::from_second(second).expect("a time");
        RemovedDocument { key: Key::new(key), at }
    };
    let documents = [left("a".into(), 1), left("b".into(), 1)];
    removals.leave_documents(&documents).expect("written");
    let removals = Removals::open(dir.path());
    assert_eq!(removals.left_documents(9), documents);
    assert_eq!(removals.left_documents(1), documents[..1]);
    removals.leave_documents(&[left("x".repeat(MAX_LEFT_DOCUMENT_BYTES), 1)]).expect("written");
    removals.remove_left_documents(&documents[..1]).expect("written");
    assert_eq!(removals.left_documents(9), documents[1..]);
    // A key counts once, and with its last removal.
    let long = left("y".repeat(MAX_LEFT_DOCUMENT_BYTES / 2), 1);
    for second in [1, 2] {
        removals.leave_documents(&[left(long.key.as_str().into(), second), left("b".into(), second)]).expect("written");
    }
    removals.remove_left_documents(&[documents[1].clone(), long]).expect("written");
    let both = removals.left_documents(9);
    assert_eq!(both.len(), 2, "both were removed once more");
    removals.set_refused(both[0].key.clone());
    assert_eq!(removals.left_documents(9), both[1..], "the other one first");
    removals.set_refused(both[1].key.clone());
    assert_eq!(removals.left_documents(9), both, "from the first on");
}

#[test]
fn the_list_is_bounded_and_a_mirror_that_was_away_for_too_long_knows_it() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let [one, other] = [Removals::open(dirs[0].path()), Removals::open(dirs[1].path())];
    one.record("a", false, Timestamp::now()).expect("recorded");
    let mut list = one.merged(None);
    one.due(&list).expect("due");
    other.set_done(&list, 1).expect("written");
    for number in 0..=MAX_REMOVALS {
        one.record(&format!("p{number}"), false, Timestamp::now()).expect("recorded");
        list = one.merged(Some(&list));
        one.due(&list).expect("due");
    }
    let due = other.due(&list).expect("due");
    assert_eq!((list.last(), due.removals.len(), due.has_missed), (MAX_REMOVALS as u64 + 2, MAX_REMOVALS, true));
    assert_eq!(due.removals[0].number, 3);
    assert!(one.record(&"x".repeat(MAX_REMOVAL_PATTERN_BYTES + 1), false, Timestamp::now()).is_err());
}
