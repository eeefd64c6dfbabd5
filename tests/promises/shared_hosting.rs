//! Packages that are published on mirrors which share a bucket: published on any, served by all, and lost with none.
//!
//! With `SRM_MIRROR_TEST_BUCKET`, the tests without faults run over a real service.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{join, join_all},
};
use reqwest::Method;
use serde_json::json;
use srm_mirror::{config::Config, entry::Digest, value::ByteSize};
use tempfile::TempDir;

use crate::{
    bucket::TestBucket,
    eventually::eventually,
    forge::Forge,
    hosted::{component, component_with, hosting, stored_component},
    mirror::{Mirror, TestResponse},
};

mod changes;
mod copies;
mod garbage;
mod kills;
mod spellings;
mod steps;
mod trouble;

/// The accounts that all nodes know.
pub struct Accounts {
    /// A cache directory with their tokens.
    cache: TempDir,
    pub ci: String,
    reader: String,
    /// The codes of two accounts of the command line client.
    code: String,
    other_code: String,
}

/// What all mirrors of a test have in common.
pub struct Mirrors {
    bucket: TestBucket,
    forge: Forge,
    accounts: Accounts,
}

/// A mirror over the bucket, with its directories.
pub struct Node {
    pub mirror: Mirror,
    pub cache: TempDir,
    pub store: TempDir,
    ci: String,
    reader: String,
}

impl Accounts {
    pub async fn new(forge: &Forge) -> Self {
        let cache = tempfile::tempdir().expect("a directory");
        let store = tempfile::tempdir().expect("a directory");
        let mirror = hosting(forge, store.path()).start_in(cache.path()).await;
        let token = async |name: &str, signs: bool| {
            let scopes = ["read", "publish", "delete"];
            let ask = json!({"name": name, "scopes": scopes, "packages": [], "expires_at": null, "signs": signs});
            let answer = mirror.admin(cache.path(), "token/create", ask).await;
            answer[0]["secret"].as_str().expect("a secret").to_owned()
        };
        let ci = token("ci", false).await;
        let reader = token("reader", false).await;
        let code = token("ci-cli", true).await;
        let other_code = token("ci-other", true).await;
        mirror.stop().await;
        Self { cache, ci, reader, code, other_code }
    }

    /// A new cache directory with the accounts.
    pub fn cache(&self) -> TempDir {
        let cache = tempfile::tempdir().expect("a directory");
        copy_accounts(self.cache.path(), cache.path());
        cache
    }
}

impl Mirrors {
    async fn new() -> Self {
        Self::over(TestBucket::start().await).await
    }

    /// Over a bucket with faults.
    async fn scripted() -> Self {
        Self::over(TestBucket::scripted().await).await
    }

    async fn over(bucket: TestBucket) -> Self {
        let forge = Forge::start().await;
        let accounts = Accounts::new(&forge).await;
        Self { bucket, forge, accounts }
    }

    async fn node(&self) -> Node {
        self.node_with(|_| ()).await
    }

    async fn node_with(&self, change: impl FnOnce(&mut Config)) -> Node {
        let store = tempfile::tempdir().expect("a directory");
        Node::start_in(&self.forge, Some(&self.bucket), &self.accounts, self.accounts.cache(), store, change).await
    }

    async fn two(&self) -> [Node; 2] {
        [self.node().await, self.node().await]
    }

    /// Starts on directories of an earlier one.
    async fn node_in(&self, [cache, store]: [TempDir; 2]) -> Node {
        Node::start_in(&self.forge, Some(&self.bucket), &self.accounts, cache, store, |_| ()).await
    }

    /// A mirror without the bucket.
    async fn alone(&self) -> Node {
        let store = tempfile::tempdir().expect("a directory");
        Node::start_in(&self.forge, None, &self.accounts, self.accounts.cache(), store, |_| ()).await
    }
}

/// Makes a cache directory with what `[access]` has in another one.
pub fn copy_accounts(from: &Path, to: &Path) {
    fs::copy(from.join("format"), to.join("format")).expect("copied");
    let to = to.join("access");
    fs::create_dir_all(&to).expect("a folder");
    for file in fs::read_dir(from.join("access")).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

impl Node {
    /// Starts on directories of an earlier one.
    pub async fn start_in(
        forge: &Forge,
        bucket: Option<&TestBucket>,
        accounts: &Accounts,
        cache: TempDir,
        store: TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let section = bucket.map(TestBucket::section);
        let setup = hosting(forge, store.path()).with(|config| config.shared = section).with(change);
        let mirror = setup.start_in(cache.path()).await;
        Self { mirror, cache, store, ci: accounts.ci.clone(), reader: accounts.reader.clone() }
    }

    /// Stops it; returns its directories.
    pub async fn stop(self) -> (TempDir, TempDir) {
        self.mirror.stop().await;
        (self.cache, self.store)
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> TestResponse {
        let request = self.mirror.client.request(method, self.mirror.url(path)).bearer_auth(&self.ci);
        let response = request.body(body).send().await.expect("a head");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        TestResponse { status, headers, body: response.bytes().await.expect("a complete response") }
    }

    pub async fn put(&self, name: &str, version: &str, body: Vec<u8>) -> TestResponse {
        self.send(Method::PUT, &format!("/{name}/zipball/{version}"), body).await
    }

    pub async fn publish(&self, name: &str, version: &str) -> Vec<u8> {
        let zip = component(name, version);
        let got = self.put(name, version, zip.clone()).await;
        assert_eq!(got.status, 201, "{got:?}");
        zip
    }

    pub async fn delete(&self, name: &str, version: &str) -> TestResponse {
        self.send(Method::DELETE, &format!("/{name}/zipball/{version}"), Vec::new()).await
    }

    pub async fn get(&self, path: &str) -> TestResponse {
        self.mirror.get_with(path, &[("authorization", &format!("Bearer {}", self.reader))]).await
    }

    /// Fetches a zip; its SHA-256 where it came whole.
    pub async fn fetch(&self, name: &str, version: &str) -> Result<String, TestResponse> {
        let got = self.get(&format!("/{name}/flat/{version}")).await;
        if got.status == 200 { Ok(got.sha256()) } else { Err(got) }
    }

    /// The versions in the list.
    pub async fn listed(&self, name: &str) -> Vec<String> {
        let got = self.get(&format!("/{name}/releases")).await;
        if got.status != 200 {
            return Vec::new();
        }
        let list = got.json();
        let rows = list.as_array().expect("a list");
        rows.iter().map(|release| release["tag_name"].as_str().expect("a tag").to_owned()).collect()
    }

    /// True where its directory of published packages has a file of this path.
    fn has(&self, path: &str) -> bool {
        self.store.path().join(path).exists()
    }

    /// True where it has this zip.
    fn has_zip(&self, sha256: &str) -> bool {
        self.has(&format!("blobs/{}/{sha256}", &sha256[..2]))
    }

    async fn eventually_lists(&self, name: &str, versions: &[&str]) {
        eventually("the list of another node", async || self.listed(name).await == versions).await;
    }
}

fn sha(zip: &[u8]) -> String {
    Digest::of(zip).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_published_every_node_serves_at_once_and_lists_soon() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
    let asked = || mirrors.forge.count(|seen| seen.path().contains("acme-x"));
    let zip = first.publish("acme-x", "1.0.0").await;
    let before = asked();
    assert_eq!(second.fetch("acme-x", "1.0.0").await.expect("at once"), sha(&zip));
    assert_eq!(asked(), before, "its name is asked of no upstream");
    // A version of a package that the other node knows.
    let next = first.publish("acme-x", "1.0.1").await;
    assert_eq!(second.fetch("acme-x", "1.0.1").await.expect("at once"), sha(&next));
    first.publish("acme-x", "1.0.2").await;
    second.eventually_lists("acme-x", &["1.0.2", "1.0.1", "1.0.0"]).await;
    let latest = second.get("/acme-x/releases/latest").await;
    assert_eq!((latest.status, &latest.json()["tag_name"]), (200, &json!("1.0.2")));
    // A third node begins with all of it.
    let third = mirrors.node().await;
    assert_eq!(third.listed("acme-x").await, ["1.0.2", "1.0.1", "1.0.0"]);
    assert_eq!(third.fetch("acme-x", "1.0.0").await.expect("fetched"), sha(&zip));
    // Any of them publishes the next one; what was published elsewhere counts.
    let taken = third.put("acme-x", "1.0.1", component_with("acme-x", "1.0.1", &[("more.js", b"2")])).await;
    assert_eq!((taken.status, &taken.json()["code"]), (409, &json!("version-exists")), "{taken:?}");
    let below = second.put("acme-x", "1.0.0-rc.1", component("acme-x", "1.0.0-rc.1")).await;
    assert_eq!(below.status, 409, "{below:?}");
    let same = second.put("acme-x", "1.0.2", component("acme-x", "1.0.2")).await;
    assert_eq!((same.status, &same.json()["created"]), (200, &json!(false)), "{same:?}");
    third.publish("acme-x", "1.0.3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_mirror_changes_holds_within_5_s_on_another_that_it_cannot_tell() {
    let mirrors = Mirrors::new().await;
    mirrors.forge.repo("devsapp/fc3").release("1.0.0", |release| release.file("a.txt", "a"));
    let first = mirrors.node_with(TestBucket::by_default).await;
    let second = mirrors.node_with(TestBucket::by_default).await;
    for path in ["/devsapp/fc3/releases", "/devsapp/fc3/zipball/1.0.0"] {
        assert_eq!(second.get(path).await.status, 200);
    }
    let admin = async |route: &str, ask| first.mirror.admin(first.cache.path(), route, ask).await;
    first.publish("acme-x", "1.0.0").await;
    admin("block", json!({"pattern": "devsapp/fc3@1.0.0", "reason": "malicious"})).await;
    admin("rm", json!({"pattern": "devsapp/fc3", "forget": false})).await;
    let ask = json!({"name": "late", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
    let token = admin("token/create", ask).await[0]["secret"].as_str().expect("a secret").to_owned();
    let changed_at = Instant::now();
    let bearer = format!("Bearer {token}");
    let stored = || crate::process::files(&second.cache.path().join("blobs")).len();
    let listed = eventually("listed", async || second.listed("acme-x").await == ["1.0.0"]);
    let blocked = eventually("blocked", async || second.get("/devsapp/fc3/zipball/1.0.0").await.status == 403);
    let removed = eventually("removed", async || stored() == 0);
    let known = eventually("the token is known", async || {
        second.mirror.get_with("/acme-x/releases", &[("authorization", &bearer)]).await.status != 401
    });
    join_all([listed.boxed_local(), blocked.boxed_local(), removed.boxed_local(), known.boxed_local()]).await;
    // 5 s, and what a busy machine adds.
    assert!(changed_at.elapsed() < Duration::from_secs(8), "{:?}", changed_at.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_publications_of_one_version_over_three_nodes_one_wins() {
    let mirrors = Mirrors::new().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(mirrors.node().await);
    }
    let publications = (0..100_usize).map(|number| {
        let zip = component_with("acme-x", "1.0.0", &[("number", number.to_string().as_bytes())]);
        let node = &nodes[number % 3];
        async move { (sha(&zip), node.put("acme-x", "1.0.0", zip).await) }
    });
    let answers = join_all(publications).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, got)| got.status == 201);
    assert_eq!(won.len(), 1, "{won:?}");
    for (_, got) in &lost {
        assert_eq!(got.status, 409, "{got:?}");
    }
    for node in &nodes {
        assert_eq!(node.fetch("acme-x", "1.0.0").await.expect("fetched"), won[0].0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_spellings_of_a_new_name_that_two_nodes_publish_at_once_one_wins() {
    let mirrors = Mirrors::scripted().await;
    // It waits for the whole publication of the other one.
    let patient = |config: &mut Config| {
        config.shared.as_mut().expect("a section").response_timeout = srm_mirror::value::Period::secs(60);
    };
    let [a, b] = [mirrors.node_with(patient).await, mirrors.node().await];
    let gate = mirrors.bucket.gate(Method::PUT, "hosted/releases/acme-x/1.0.0.json");
    let other_spelling = async {
        gate.reached().await;
        let other = b.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
        gate.open();
        other
    };
    let (_, other) = join(a.publish("Acme-X", "1.0.0"), other_spelling).await;
    assert_eq!(other.status, 409, "{other:?}");
    assert!(
        String::from_utf8_lossy(&other.body)
            .contains("is taken in the spelling Acme-X; names differ in more than case"),
        "{other:?}"
    );
    b.publish("Acme-X", "1.1.0").await;
    for node in [&a, &b] {
        node.eventually_lists("acme-x", &["1.1.0", "1.0.0"]).await;
    }
}
