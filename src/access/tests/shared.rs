//! Accounts over a store that several mirrors share.

use std::{sync::atomic::AtomicUsize, time::Duration};

use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use super::*;

/// A store in memory. Every state is kept as text, as a bucket does.
#[derive(Debug, Default)]
struct ScriptedStore {
    state: Mutex<Option<String>>,
    writes: AtomicUsize,
    /// What another mirror does between a write of this one, whose answer is lost, and its next read.
    change_between: Mutex<Option<NewToken>>,
}

impl ScriptedStore {
    fn load(&self) -> Option<AccountsState> {
        self.state.lock().as_ref().map(|text| serde_json::from_str(text).expect("a state"))
    }

    fn write(&self, state: &AccountsState) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        *self.state.lock() = Some(serde_json::to_string(state).expect("a text"));
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }
}

impl SharedAccounts for ScriptedStore {
    fn update(&self, update: &mut AccountsUpdate<'_>) -> Result<(), TokenError> {
        let Some(next) = update(self.load())? else { return Ok(()) };
        self.write(&next);
        let Some(other) = self.change_between.lock().take() else { return Ok(()) };
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Self { state: Mutex::new(self.state.lock().clone()), ..Self::default() });
        mirror(dir.path(), &store, &Clock::default()).account_changes().create(other).expect("created");
        self.state.lock().clone_from(&store.state.lock());
        let Some(next) = update(self.load())? else { return Ok(()) };
        self.write(&next);
        Ok(())
    }

    fn spend(&self, _: Digest) -> BoxFuture<'_, Result<NonceUse, SharedAccountsError>> {
        Box::pin(ready(Ok(NonceUse::First)))
    }
}

fn mirror(dir: &Path, store: &Arc<ScriptedStore>, clock: &Clock) -> Access {
    let source: Arc<dyn KeySource> = Arc::new(issuers::tests::ScriptedIssuer::default());
    let shared: Arc<dyn SharedAccounts> = store.clone();
    let unused = CertificateUse::Verified(Arc::default());
    Access::open(&config(Vec::new()), dir, clock.clone(), &source, unused, Some(shared)).expect("opens")
}

fn names(access: &Access) -> Vec<String> {
    access.account_changes().list().iter().map(|record| record.name.clone()).collect()
}

#[test]
fn a_token_whose_write_had_no_answer_is_created_once_also_when_another_mirror_has_changed_the_tokens_since() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(ScriptedStore::default());
    let access = mirror(dir.path(), &store, &Clock::default());
    *store.change_between.lock() = Some(new_token("other"));
    let created = access.account_changes().create(new_token("ci")).expect("created");
    assert_eq!(names(&access), ["ci", "other"]);
    assert_eq!(name(&caller(&access, &bearer(&created.secret)).expect("valid")), Some("token:ci"));

    let signing = NewToken { signs: true, ..new_token("client") };
    let first = access.account_changes().create(signing).expect("created");
    let principal = caller(&access, &bearer(&first.secret)).expect("valid");
    *store.change_between.lock() = Some(new_token("third"));
    let code = access.account_changes().renew_code(principal.principal().expect("a token")).expect("renewed");
    assert_eq!(names(&access), ["ci", "client", "other", "third"]);
    assert!(caller(&access, &bearer(&code)).is_ok() && caller(&access, &bearer(&first.secret)).is_err());
}

#[test]
fn the_last_use_of_a_token_is_told_to_the_other_mirrors_once_an_hour() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let store = Arc::new(ScriptedStore::default());
    let clock = Clock::default();
    let [first, second] = [0, 1].map(|n: usize| mirror(dirs[n].path(), &store, &clock));
    let created = first.account_changes().create(new_token("ci")).expect("created");
    second.account_changes().follow().expect("follows");
    let used_at = |access: &Access| access.account_changes().list()[0].last_used_at();
    assert_eq!(used_at(&second), None);
    caller(&first, &bearer(&created.secret)).expect("valid");
    let use_here = used_at(&first).expect("used");
    let before = store.writes();
    first.account_changes().follow().expect("follows");
    second.account_changes().follow().expect("follows");
    assert_eq!((used_at(&second), store.writes()), (Some(use_here), before + 1));
    // Half an hour later no mirror is told, an hour and a half later all are.
    for (seconds, writes) in [(1800, before + 1), (3600, before + 2)] {
        clock.advance(Duration::from_secs(seconds));
        caller(&first, &bearer(&created.secret)).expect("valid");
        first.account_changes().follow().expect("follows");
        assert_eq!(store.writes(), writes, "{seconds}");
    }
}

#[test]
fn a_mirror_that_joins_gives_up_a_token_whose_name_is_taken() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let alone = open(dirs[1].path(), Vec::new());
    let given_up = alone.account_changes().create(new_token("ci")).expect("created");
    let brought = alone.account_changes().create(new_token("own")).expect("created");
    drop(alone);
    let store = Arc::new(ScriptedStore::default());
    let first = mirror(dirs[0].path(), &store, &Clock::default());
    let taken = first.account_changes().create(new_token("ci")).expect("created");
    let joined = mirror(dirs[1].path(), &store, &Clock::default());
    first.account_changes().follow().expect("follows");
    for access in [&first, &joined] {
        assert_eq!(names(access), ["ci", "own"]);
        assert!(caller(access, &bearer(&taken.secret)).is_ok() && caller(access, &bearer(&brought.secret)).is_ok());
        assert!(caller(access, &bearer(&given_up.secret)).is_err());
    }
}

#[test]
fn a_new_key_signs_when_the_other_mirrors_know_it_and_the_one_before_it_until_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(ScriptedStore::default());
    let access = mirror(dir.path(), &store, &Clock::default());
    let principal = {
        let created = access.account_changes().create(new_token("ci")).expect("created");
        caller(&access, &bearer(&created.secret)).expect("valid")
    };
    let key_of = || {
        let query = access.sign(principal.principal().expect("a token"), &SignedZips::one("/a/b/zipball/1"));
        query.split('.').nth(1).expect("a key").to_owned()
    };
    let before = key_of();
    access.account_changes().rotate_signing_key().expect("rotates");
    assert_eq!(key_of(), before);
    // Without other mirrors it signs at once.
    let dir = tempfile::tempdir().expect("a directory");
    let alone = open(dir.path(), Vec::new());
    let sign = || alone.sign(principal.principal().expect("a token"), &SignedZips::one("/a/b/zipball/1"));
    let before = sign();
    alone.account_changes().rotate_signing_key().expect("rotates");
    assert_ne!(sign().split('.').nth(1), before.split('.').nth(1));
}
