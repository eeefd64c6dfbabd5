//! Kills of the process while published packages change.

use super::*;

/// How many versions a store has that is killed again and again: 1.0.0, 1.0.1 and so on.
const KILLED_VERSIONS: usize = 30;

/// A store whose mirror is killed, with the digests of its zips.
struct KilledStore {
    dirs: HostDirs,
    digests: Vec<String>,
}

fn version(patch: usize) -> String {
    format!("1.0.{patch}")
}

impl KilledStore {
    async fn new() -> Self {
        let dirs = HostDirs::new().await;
        let mirror = dirs.start().await;
        let mut digests = Vec::new();
        for patch in 0..KILLED_VERSIONS {
            digests.push(mirror.publish("acme-x", &version(patch)).await);
        }
        assert_eq!(mirror.process.stop().await.code, Some(0));
        Self { dirs, digests }
    }

    /// Kills the mirror and starts the next one.
    async fn kill(&self, mirror: HostProcess) -> HostProcess {
        mirror.process.kill().await;
        self.dirs.start().await
    }

    /// The number of deleted versions, which are the lowest ones: of each, everything is gone but its record, and nothing
    /// of any other version.
    async fn check(&self, mirror: &HostProcess) -> usize {
        let verified = self.dirs.run(&["host", "verify"]).await;
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let mut deleted = 0;
        for (patch, digest) in self.digests.iter().enumerate() {
            let version = version(patch);
            let got = mirror.get(&format!("/acme-x/flat/{version}")).await;
            if got.status == 404 {
                assert_eq!(deleted, patch, "{version} was not to be deleted");
                deleted += 1;
                let path = format!("/acme-x/zipball/{version}");
                let again = mirror.send(Method::PUT, &path, component("acme-x", &version)).await;
                assert_eq!(again.json()["code"], "version-deleted", "{version} is free again");
            } else {
                assert_eq!((got.status, &got.sha256()), (200, digest), "{version}");
            }
        }
        let names = |folder: &str| {
            let found = files(&self.dirs.store.path().join(folder));
            let name = |path: &Path| path.file_name().expect("a name").to_str().expect("text").to_owned();
            found.iter().map(|(path, _)| name(path)).collect::<BTreeSet<_>>()
        };
        assert_eq!(names("stage"), BTreeSet::new());
        assert_eq!(names("blobs"), self.digests[deleted..].iter().cloned().collect());
        assert_eq!(names("releases"), (0..KILLED_VERSIONS).map(|patch| format!("{}.json", version(patch))).collect());
        deleted
    }

    async fn listed(&self, mirror: &HostProcess) -> BTreeSet<String> {
        let listed = mirror.get("/acme-x/releases").await.json();
        let rows = listed.as_array().expect("a list").iter();
        rows.map(|row| row["tag_name"].as_str().expect("a tag").to_owned()).collect()
    }

    /// Does an act to one version after the other. After each of some acknowledged ones it kills the process while the next
    /// is under way. `done` is how many versions have it done.
    async fn kill_after_acknowledged(
        &self,
        act: impl Fn(&HostProcess, usize) -> reqwest::RequestBuilder,
        done: impl AsyncFn(&HostProcess) -> usize,
    ) {
        let mut mirror = self.dirs.start().await;
        let mut next = 0;
        for acknowledged in [0, 1, 2, 5] {
            for patch in next..next + acknowledged {
                let response = act(&mirror, patch).send().await.expect("a head");
                assert_eq!(response.status(), 200, "{patch}");
            }
            next += acknowledged;
            let under_way = tokio::spawn(act(&mirror, next).send());
            tokio::task::yield_now().await;
            mirror = self.kill(mirror).await;
            let was_acknowledged = under_way.await.expect("no panic").is_ok_and(|response| response.status() == 200);
            let found = done(&mirror).await;
            assert!(found == next + 1 || (found == next && !was_acknowledged), "{found} are done, {next} acknowledged");
            next = found;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_process_during_deletions_leaves_all_or_nothing_of_each() {
    let store = KilledStore::new().await;
    let delete = |mirror: &HostProcess, patch: usize| {
        let url = mirror.process.url(&format!("/acme-x/zipball/{}", version(patch)));
        mirror.process.client.delete(url).bearer_auth(&mirror.token)
    };
    let deleted = async |mirror: &HostProcess| {
        let deleted = store.check(mirror).await;
        assert_eq!(store.listed(mirror).await, (deleted..KILLED_VERSIONS).map(version).collect());
        deleted
    };
    store.kill_after_acknowledged(delete, deleted).await;
}

fn yank(mirror: &HostProcess, patch: usize) -> reqwest::RequestBuilder {
    let request = mirror.process.client.post(mirror.process.url("/-/hosted/yank"));
    let body = json!({"package": "acme-x", "version": version(patch)}).to_string();
    request.bearer_auth(&mirror.token).header("content-type", "application/json").body(body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_process_while_versions_are_hidden_leaves_each_hidden_or_listed() {
    let store = KilledStore::new().await;
    let hidden = async |mirror: &HostProcess| {
        assert_eq!(store.check(mirror).await, 0, "none is deleted");
        let listed = store.listed(mirror).await;
        let hidden = KILLED_VERSIONS - listed.len();
        assert_eq!(listed, (hidden..KILLED_VERSIONS).map(version).collect());
        hidden
    };
    store.kill_after_acknowledged(yank, hidden).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_process_during_pruning_leaves_all_or_nothing_of_each() {
    let store = KilledStore::new().await;
    let mut mirror = store.dirs.start().await;
    let mut deleted = 0;
    for keep in [24_usize, 16, 8] {
        let last = version(deleted + 2);
        let keep_last = keep.to_string();
        let prune = ["host", "prune", "--keep-last", &keep_last, "--younger-than", "0s", "--json"];
        let mut prune = store.dirs.launch(&prune).begin();
        prune.wait_for_output(&format!("\"{last}\"")).await;
        mirror = store.kill(mirror).await;
        let pruned = lines(&prune.ended().await).len();
        let found = store.check(&mirror).await;
        assert!(found >= deleted + pruned && pruned >= 3, "{found} are deleted, {pruned} more were acknowledged");
        assert!(found <= KILLED_VERSIONS - keep, "{found} are deleted, {keep} are to be kept");
        deleted = found;
    }
}
