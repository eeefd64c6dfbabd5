//! Packages of one's own: published once, seen by everyone who may, never lost or changed.

use std::{
    collections::BTreeSet,
    io::{Cursor, Write as _},
    path::Path,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use srm_mirror::{access::RuleConfig, config::Config, entry::Digest, hosted, value::ByteSize};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, TestResponse, setup},
};

mod hidden;
mod refusals;

/// The `publish.yaml` of a component.
pub fn publish_yaml(name: &str, version: &str) -> String {
    format!(
        "Edition: 3.0.0\nType: Component\nName: {name}\nProvider: [Acme]\nVersion: {version}\nDescription: A test.\n\
         Category: Test\nService: {{}}\nCommands: {{}}\nProperties: {{}}\n"
    )
}

/// A component that conforms to the model, and these further files.
pub fn component_with(name: &str, version: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    packed(name, version, files, zip::CompressionMethod::Deflated)
}

/// As [`component_with`], with the bytes of the files as they are.
pub fn stored_component(name: &str, version: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    packed(name, version, files, zip::CompressionMethod::Stored)
}

fn packed(name: &str, version: &str, files: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let publish = publish_yaml(name, version);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let base: [(&str, &[u8]); 4] = [
        ("publish.yaml", publish.as_bytes()),
        ("package.json", br#"{"main": "index.js"}"#),
        ("index.js", b"module.exports = 1;"),
        ("readme.md", b"# A test\n"),
    ];
    for (path, bytes) in base.iter().chain(files) {
        zip.start_file(*path, zip::write::SimpleFileOptions::default().compression_method(method)).expect("a file");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("a zip").into_inner()
}

pub fn component(name: &str, version: &str) -> Vec<u8> {
    component_with(name, version, &[])
}

fn rule(packages: &[&str], read: &[&str], write: &[&str]) -> RuleConfig {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    RuleConfig {
        packages: owned(packages),
        read: owned(read),
        publish: owned(write),
        delete: owned(write),
        ..RuleConfig::default()
    }
}

/// A mirror where `ci` and `ci-*` publish everything, `reader` and `reader-*` read all but `secret-*`, and no other account has
/// a right.
pub fn hosting(forge: &Forge, dir: &Path) -> Setup {
    let dir = dir.to_owned();
    setup(forge).with(|config: &mut Config| {
        config.access.enabled = true;
        config.access.rules = vec![
            rule(&["secret-*"], &["token:ci*"], &["token:ci*"]),
            rule(&["*"], &["token:reader*", "token:ci*"], &["token:ci*"]),
        ];
        let min_free = ByteSize(0);
        config.hosted = Some(hosted::Config { dir: Some(dir), min_free, ..hosted::Config::default() });
    })
}

/// A running mirror with the tokens of its two accounts.
pub struct Host {
    pub mirror: Mirror,
    pub ci: String,
    reader: String,
    store: TempDir,
}

impl Host {
    pub async fn start(forge: &Forge) -> Self {
        Self::start_with(forge, |_| ()).await
    }

    pub async fn start_with(forge: &Forge, change: impl FnOnce(&mut Config)) -> Self {
        let store = tempfile::tempdir().expect("a directory");
        let mirror = hosting(forge, store.path()).with(change).start().await;
        let ci = token(&mirror, "ci").await;
        let reader = token(&mirror, "reader").await;
        Self { mirror, ci, reader, store }
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> TestResponse {
        send(&self.mirror, method, path, token, body, headers).await
    }

    pub async fn put(&self, name: &str, version: &str, body: Vec<u8>) -> TestResponse {
        self.send(Method::PUT, &format!("/{name}/zipball/{version}"), &self.ci, body, &[]).await
    }

    pub async fn get(&self, path: &str) -> TestResponse {
        self.get_as(&self.reader, path).await
    }

    async fn get_as(&self, token: &str, path: &str) -> TestResponse {
        self.mirror.get_with(path, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// The directory of the published packages.
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// Every file of the store but its lock and its format.
    pub fn files(&self) -> Vec<String> {
        let files = crate::process::files(self.store.path()).into_iter();
        let mut files: Vec<String> = files.map(|(path, _)| path.display().to_string()).collect();
        files.retain(|path| path.contains("/stage/") || path.contains("/blobs/") || path.contains("/releases/"));
        files
    }
}

async fn send(
    mirror: &Mirror,
    method: Method,
    path: &str,
    token: &str,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> TestResponse {
    let mut request = mirror.client.request(method, mirror.url(path)).bearer_auth(token).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("a head");
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    TestResponse { status, headers, body: response.bytes().await.expect("a complete response") }
}

async fn token(mirror: &Mirror, name: &str) -> String {
    let scopes = ["read", "publish", "delete"];
    let ask = json!({"name": name, "scopes": scopes, "packages": [], "expires_at": null, "signs": false});
    let answer = mirror.admin(mirror.dir(), "token/create", ask).await;
    answer[0]["secret"].as_str().expect("a secret").to_owned()
}

fn tags(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|release| release["tag_name"].as_str().expect("a tag")).collect()
}

#[tokio::test]
async fn a_published_package_is_served_in_every_dialect_and_asked_of_no_upstream() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    let zip = component("acme-x", "1.0.0");
    let published = host.put("acme-x", "1.0.0", zip.clone()).await;
    assert_eq!(published.status, 201, "{:?}", published.body);
    let digest = Digest::of(&zip).to_string();
    let expected =
        json!({"package": "acme-x", "version": "1.0.0", "digest": digest, "size": zip.len(), "created": true});
    assert_eq!(published.json(), expected);
    for (version, body) in [("1.1.0-rc.1", component("acme-x", "1.1.0-rc.1")), ("dev", component("acme-x", "dev"))] {
        assert_eq!(host.put("acme-x", version, body).await.status, 201, "{version}");
    }
    let asked = || forge.count(|seen| seen.path().contains("acme-x"));
    let before = asked();

    let mut list = host.get("/acme-x/releases").await.json();
    assert_eq!(tags(&list).len(), 3, "{list}");
    list = host.get("/v3/packages/acme-x/release?page=1").await.json();
    assert_eq!(tags(&list["body"]).len(), 3, "{list}");
    for path in ["/acme-x/releases/latest", "/hosted/acme-x/releases/latest", "/ACME-X/releases/latest"] {
        let latest = host.get(path).await;
        assert_eq!((latest.status, &latest.json()["tag_name"]), (200, &json!("1.0.0")), "{path}: {:?}", latest.body);
    }
    for path in ["/simple/acme-x/releases/latest", "/simple/devsapp/acme-x/releases/latest"] {
        assert_eq!(host.get(path).await.json()["Response"]["tag_name"], "1.0.0", "{path}");
    }
    assert_eq!(host.get("/v3/packages/acme-x/release/latest").await.json()["body"]["tag_name"], "1.0.0");
    for path in
        ["/v3/packages/acme-x/zipball/1.0.0", "/acme-x/flat/1.0.0", "/acme-x/flat/v1.0.0", "/hosted/acme-x/flat/1.0.0"]
    {
        for _ in 0..2 {
            let got = host.get(path).await;
            assert_eq!((got.status, got.sha256()), (200, digest.clone()), "{path}");
        }
    }
    for path in ["/acme-x/zipball/1.0.0", "/simple/acme-x/zipball/1.0.0", "/simple/devsapp/acme-x/zipball/dev"] {
        let got = host.get(path).await;
        let names = zip::ZipArchive::new(Cursor::new(got.body.to_vec())).expect("a zip");
        assert!(names.file_names().all(|name| name.expect("a name").starts_with("acme-x-")), "{path}");
    }
    let etag = host.get("/acme-x/flat/1.0.0").await.header("etag").to_owned();
    let bearer = format!("Bearer {}", host.reader);
    let unchanged =
        host.mirror.get_with("/acme-x/flat/1.0.0", &[("authorization", &bearer), ("if-none-match", &etag)]).await;
    assert_eq!(unchanged.status, 304);
    let part = host.mirror.get_with("/acme-x/flat/1.0.0", &[("authorization", &bearer), ("range", "bytes=2-9")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &zip[2..10]));
    let record = host.get("/acme-x/metadata/1.0.0").await.json();
    assert_eq!((&record["Type"], &record["Name"]), (&json!("Component"), &json!("acme-x")), "{record}");
    let catalog = host.get("/v3/packages/releases?page=-1").await.json();
    let row =
        catalog["body"].as_array().expect("rows").iter().find(|row| row["name"] == "acme-x").expect("a row").clone();
    assert_eq!((&row["description"], &row["category"]["name"]), (&json!("A test."), &json!("Test")), "{row}");
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn a_version_is_written_once() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    let zip = component("acme-x", "1.0.0");
    assert_eq!(host.put("acme-x", "1.0.0", zip.clone()).await.status, 201);
    let before = host.files();
    let again = host.put("acme-x", "1.0.0", zip.clone()).await;
    assert_eq!((again.status, &again.json()["created"]), (200, &json!(false)));
    let other = host.put("acme-x", "1.0.0", component_with("acme-x", "1.0.0", &[("more.js", b"2")])).await;
    assert_eq!((other.status, &other.json()["code"]), (409, &json!("version-exists")));
    assert!(
        other.json()["message"].as_str().expect("text").contains("was published by token:ci on 20"),
        "{:?}",
        other.body
    );
    let lower = host.put("acme-x", "0.9.0", component("acme-x", "0.9.0")).await;
    assert_eq!((lower.status, &lower.json()["code"]), (409, &json!("version-exists")), "{:?}", lower.body);
    let cased = host.put("Acme-X", "1.0.1", component("Acme-X", "1.0.1")).await;
    assert_eq!((cased.status, &cased.json()["code"]), (409, &json!("name-taken")), "{:?}", cased.body);
    assert_eq!(host.files(), before);
    // A moving version is replaced.
    for more in [b"1", b"2"] {
        let zip = component_with("acme-x", "dev", &[("more.js", more)]);
        assert_eq!(host.put("acme-x", "dev", zip.clone()).await.status, 201);
        assert_eq!(host.get("/acme-x/flat/dev").await.sha256(), Digest::of(&zip).to_string());
    }
}

#[tokio::test]
async fn a_name_that_an_upstream_has_is_not_taken_and_a_claimed_one_is_asked_of_none() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.21");
    let host = Host::start_with(&forge, |config| {
        config.host.names = vec!["own-*".into()];
        config.host.claim = vec!["fc3-domain".into()];
    })
    .await;
    let taken = host.put("fc3", "9.0.0", component("fc3", "9.0.0")).await;
    assert_eq!((taken.status, &taken.json()["code"]), (409, &json!("name-taken")), "{:?}", taken.body);
    assert_eq!(host.get("/v3/packages/fc3/release/latest").await.json()["body"]["tag_name"], "0.1.21");

    let asked = forge.count(|_| true);
    assert_eq!(host.get("/v3/packages/own-x/release/latest").await.status, 404);
    assert_eq!(host.get("/simple/devsapp/fc3-domain/releases").await.status, 404);
    forge.down().await;
    for name in ["own-x", "fc3-domain"] {
        assert_eq!(host.put(name, "1.0.0", component(name, "1.0.0")).await.status, 201, "{name}");
    }
    let untold = host.put("acme-new", "1.0.0", component("acme-new", "1.0.0")).await;
    assert_eq!(untold.status, 503, "{:?}", untold.body);
    assert!(!untold.header("retry-after").is_empty());
    assert_eq!(forge.count(|_| true), asked);
    assert_eq!(host.get("/own-x/releases/latest").await.json()["tag_name"], "1.0.0");
}

#[tokio::test]
async fn a_cut_upload_leaves_nothing_and_the_next_one_succeeds() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    let good = component("acme-x", "1.0.0");
    let mut stream = TcpStream::connect(host.mirror.address).await.expect("connects");
    let head = format!(
        "PUT /acme-x/zipball/1.0.0 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        host.mirror.address,
        host.ci,
        good.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&good[..good.len() / 2]).await.expect("written");
    eventually("the upload is under way", async || host.files().len() == 1).await;
    let beside = host.put("acme-x", "1.0.0", good.clone()).await;
    assert_eq!((beside.status, &beside.json()["code"]), (409, &json!("being-published")), "{:?}", beside.body);
    drop(stream);
    eventually("nothing is left", async || host.files().is_empty()).await;
    assert_eq!(host.get("/acme-x/flat/1.0.0").await.status, 404);
    assert_eq!(host.put("acme-x", "1.0.0", good).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn of_fifty_publishers_of_one_version_one_wins() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config| config.host.names = vec!["acme-*".into()]).await;
    let publishers = (0..50).map(|number| {
        let zip = component_with("acme-x", "1.0.0", &[("number", format!("{number}").as_bytes())]);
        host.put("acme-x", "1.0.0", zip)
    });
    let answers = futures_util::future::join_all(publishers).await;
    let mut statuses: Vec<u16> = answers.iter().map(|got| got.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 49][..]));
    let losers = answers.iter().filter(|got| got.status == 409);
    let sentences: BTreeSet<String> = losers.map(|got| got.json()["message"].to_string()).collect();
    assert_eq!(sentences.len(), 1, "each is told the same: {sentences:?}");
    assert!(sentences.iter().all(|sentence| sentence.contains("was published by token:")), "{sentences:?}");
    let winner = answers.iter().find(|got| got.status == 201).expect("one").json()["digest"].clone();
    assert_eq!(host.get("/acme-x/flat/1.0.0").await.sha256(), winner.as_str().expect("a digest"));
    assert_eq!(host.files().len(), 2, "one zip, one record: {:?}", host.files());
}

#[tokio::test]
async fn what_is_published_is_served_after_a_restart_without_any_upstream() {
    let forge = Forge::start().await;
    let store = tempfile::tempdir().expect("a directory");
    let cache = tempfile::tempdir().expect("a directory");
    let mirror = hosting(&forge, store.path()).start_in(cache.path()).await;
    let ask = json!({"name": "ci", "scopes": ["read", "publish"], "packages": [], "expires_at": null, "signs": false});
    let answer = mirror.admin(cache.path(), "token/create", ask).await;
    let ci = answer[0]["secret"].as_str().expect("a secret").to_owned();
    let zip = component("acme-x", "1.0.0");
    let put = send(&mirror, Method::PUT, "/acme-x/zipball/1.0.0", &ci, zip.clone(), &[]).await;
    assert_eq!(put.status, 201, "{:?}", put.body);
    mirror.stop().await;
    forge.down().await;
    // The cache is lost; what is published is not.
    std::fs::remove_dir_all(cache.path().join("blobs")).expect("removed");
    let mirror = hosting(&forge, store.path()).start_in(cache.path()).await;
    let bearer = format!("Bearer {ci}");
    let got = mirror.get_with("/acme-x/flat/1.0.0", &[("authorization", &bearer)]).await;
    assert_eq!((got.status, got.sha256()), (200, Digest::of(&zip).to_string()));
    mirror.stop().await;

    // A zip that was damaged on disk is not served.
    let blob = crate::process::files(&store.path().join("blobs")).remove(0).0;
    let blob = if blob.is_absolute() { blob } else { store.path().join("blobs").join(blob) };
    let mut bytes = std::fs::read(&blob).expect("a zip");
    bytes[100] ^= 1;
    std::fs::write(&blob, bytes).expect("written");
    let mirror = hosting(&forge, store.path()).start_in(cache.path()).await;
    let got = mirror.get_with("/acme-x/flat/1.0.0", &[("authorization", &bearer)]).await;
    assert_eq!(got.status, 500, "{:?}", got.body);
    mirror.stop().await;
}

#[tokio::test]
async fn without_a_place_for_published_packages_nothing_is_published() {
    let forge = Forge::start().await;
    let mirror = Mirror::over(&forge).await;
    let response = mirror.client.put(mirror.url("/acme-x/zipball/1.0.0")).body("x").send();
    let response = tokio::time::timeout(Duration::from_secs(30), response).await.expect("in time").expect("a head");
    assert_eq!(response.status(), 405);
}
