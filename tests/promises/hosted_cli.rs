//! Publishing as the 3.x command line client does it: a signed form that reserves a version, and the zip to the address
//! that answers it.

use std::{cell::Cell, collections::BTreeSet, path::Path, time::Duration};

use futures_util::StreamExt as _;
use md5::{Digest as _, Md5};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use srm_mirror::{clock::Clock, config::Config, value::ByteSize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    eventually::eventually,
    forge::Forge,
    hosted::{Host, component, component_with, hosting, publish_yaml},
    logs,
    mirror::{Mirror, TestResponse},
    plain_client,
    process::{Dice, Launch, files},
};

mod refused_zips;
mod upload_addresses;
mod upload_kills;

/// A client with the code of an account.
pub struct Cli {
    client: reqwest::Client,
    /// The address of the mirror, without a slash at its end.
    base: String,
    clock: Clock,
    code: String,
    nonce: Cell<u32>,
}

impl Cli {
    async fn new(mirror: &Mirror, dir: &Path, name: &str) -> Self {
        let scopes = ["read", "publish", "delete"];
        let ask = json!({"name": name, "scopes": scopes, "packages": [], "expires_at": null, "signs": true});
        let answer = mirror.admin(dir, "token/create", ask).await;
        Self::with_code(mirror, answer[0]["secret"].as_str().expect("a secret"))
    }

    pub fn with_code(mirror: &Mirror, code: &str) -> Self {
        Self::at(&mirror.client, mirror.url(""), mirror.clock.clone(), code)
    }

    /// With the code of an account, for the mirror at an address.
    fn at(client: &reqwest::Client, base: String, clock: Clock, code: &str) -> Self {
        Self { client: client.clone(), base, clock, code: code.to_owned(), nonce: Cell::new(0) }
    }

    pub async fn of(host: &Host, name: &str) -> Self {
        Self::new(&host.mirror, host.mirror.dir(), name).await
    }

    /// The fields of a new signature.
    pub fn signature(&self) -> Vec<(&'static str, String)> {
        self.nonce.set(self.nonce.get() + 1);
        let now = self.clock.now();
        signature(&self.code, &format!("{}n{}", now.as_nanosecond(), self.nonce.get()), now.as_second())
    }

    async fn send(&self, method: Method, path: &str, form: &[(&str, &str)]) -> TestResponse {
        self.send_signed(method, path, &self.signature(), form).await
    }

    /// Sends a form as the client does: chunked.
    async fn send_signed(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        form: &[(&str, &str)],
    ) -> TestResponse {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if method == Method::POST {
            let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            let form_type = "application/x-www-form-urlencoded";
            request = request.header("content-type", form_type).body(chunked(text.into_bytes()));
        }
        let response = request.send().await.expect("a head");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        TestResponse { status, headers, body: response.bytes().await.expect("a complete response") }
    }

    pub async fn form(&self, form: &[(&str, &str)]) -> TestResponse {
        self.send(Method::POST, "/v3/packages/releases", form).await
    }

    pub async fn announce(&self, name: &str, version: &str) -> TestResponse {
        let publish = publish_yaml(name, version);
        self.form(&[("publish", &publish), ("version_body", "The notes."), ("readme", "# A test\n"), ("syaml", "")])
            .await
    }

    /// The address for the zip of a version.
    pub async fn reserve(&self, name: &str, version: &str) -> String {
        let got = self.announce(name, version).await;
        assert_eq!(got.status, 200, "{:?}", got.body);
        let url = got.json()["body"]["url"].as_str().expect("an address").to_owned();
        assert!(url.starts_with(&format!("{}/v3/uploads/{name}/{version}?", self.base)), "{url}");
        url
    }

    /// The failed publications that `registry detail` prints.
    pub async fn failed(&self, name: &str) -> Vec<Value> {
        let got = self.send(Method::GET, &format!("/v3/packages/{name}/release?page=1"), &[]).await;
        let Value::Array(rows) = got.json()["body"].clone() else { return Vec::new() };
        rows.into_iter().filter(|row| row.get("failed_version").is_some()).collect()
    }
}

fn signature(code: &str, nonce: &str, at: i64) -> Vec<(&'static str, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    vec![
        ("token", hex(&Md5::digest(code.as_bytes()))),
        ("sign_code", hex(&Sha256::digest(format!("{code}{nonce}{at}").as_bytes()))),
        ("nonce", nonce.to_owned()),
        ("timestamp", at.to_string()),
    ]
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn chunked(body: Vec<u8>) -> reqwest::Body {
    let parts: Vec<_> = body.chunks(64 << 10).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect();
    reqwest::Body::wrap_stream(futures_util::stream::iter(parts))
}

/// Uploads a zip without credentials; the status, or `None` where the connection broke.
pub async fn upload(client: &reqwest::Client, url: &str, zip: Vec<u8>) -> Option<u16> {
    client.put(url).body(chunked(zip)).send().await.ok().map(|response| response.status().as_u16())
}

fn text(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

pub fn sentence(got: &TestResponse) -> String {
    got.json()["body"].as_str().unwrap_or_else(|| panic!("no text: {:?}", got.body)).to_owned()
}

/// A mirror to which the names `acme-*` belong.
pub async fn start(forge: &Forge) -> Host {
    start_with(forge, |_| ()).await
}

/// As [`start`], with a changed configuration.
pub async fn start_with(forge: &Forge, change: impl FnOnce(&mut Config)) -> Host {
    let named = |config: &mut Config| {
        config.host.names = vec!["acme-*".into()];
        change(config);
    };
    Host::start_with(forge, named).await
}

#[tokio::test]
async fn a_version_is_published_in_the_two_steps_of_the_command_line_client() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert!(host.files().is_empty(), "{:?}", host.files());
    let zip = component("acme-x", "1.0.0");
    assert_eq!(upload(&host.mirror.client, &url, zip.clone()).await, Some(201));
    let latest = host.get("/v3/packages/acme-x/release/latest").await.json()["body"].clone();
    assert_eq!((&latest["tag_name"], &latest["body"]), (&json!("1.0.0"), &json!("The notes.")));
    assert_eq!(&host.get("/v3/packages/acme-x/zipball/1.0.0").await.body[..], &zip);
    let before = host.files();
    assert_eq!(upload(&host.mirror.client, &url, zip).await, None, "an address holds once");
    assert_eq!((host.files(), ci.failed("acme-x").await), (before, vec![]));

    let removed = ci.send(Method::DELETE, "/v3/packages/acme-x/release/tags/1.0.0", &[]).await;
    assert_eq!((removed.status, &removed.json()["body"]["version"]), (200, &json!("1.0.0")));
    let unknown = ci.send(Method::DELETE, "/v3/packages/acme-x/release/tags/9.0.0", &[]).await;
    assert_eq!(sentence(&unknown), "acme-x has no published version 9.0.0");
    assert!(sentence(&ci.announce("acme-x", "1.0.0").await).contains("was deleted by token:ci-cli on 20"));
}

#[tokio::test]
async fn a_refusal_of_the_first_step_is_a_text_and_reserves_nothing() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.21");
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    assert_eq!(host.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await.status, 201);
    let yaml = publish_yaml("acme-x", "1.1.0");
    let large = "x".repeat(5 << 20);
    let form = |publish: &str, readme: &str| {
        vec![("publish".to_owned(), publish.to_owned()), ("readme".into(), readme.into())]
    };
    for (fields, status, says) in [
        (form(&publish_yaml("acme-x", "1.0.0"), "r"), 409, "was published by token:ci on 20"),
        (form(&publish_yaml("acme-x", "0.9.0"), "r"), 409, "is not above the highest published version, 1.0.0"),
        (form(&publish_yaml("acme-x", "v1"), "r"), 422, "Major.Minor.Patch"),
        (form(&publish_yaml("Acme-X", "1.1.0"), "r"), 409, "is published as acme-x"),
        (form(&publish_yaml("releases", "1.1.0"), "r"), 409, "meaning of its own"),
        (form(&publish_yaml("fc3", "9.0.0"), "r"), 409, "fc3 is a package on official"),
        (form(&publish_yaml("a/b", "1.1.0"), "r"), 409, "letters, digits"),
        (form(&yaml.replace("Category: Test\n", ""), "r"), 422, "publish.yaml has no Category"),
        (form(&yaml, ""), 422, "readme.md is missing"),
        (form(&yaml.replace("Type: Component", "Type: Project\nParameters: {}"), "r"), 422, "src/s.yaml is missing"),
        (form("", "r"), 400, "publish.yaml"),
        (form("- no\n- mapping\n", "r"), 422, "not a YAML mapping"),
        (form(&yaml, &large), 413, "larger"),
    ] {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let got = ci.form(&fields).await;
        assert!(got.status == status && sentence(&got).contains(says), "{says}: {} {:?}", got.status, got.body);
    }
    let reader = Cli::of(&host, "reader-cli").await;
    assert_eq!(
        sentence(&reader.announce("secret-x", "1.0.0").await),
        sentence(&reader.announce("secret-y", "1.0.0").await)
    );
    let forbidden = reader.announce("acme-x", "1.1.0").await;
    assert!(forbidden.status == 403 && sentence(&forbidden).contains("do not give this account the right"));
    let anonymous = ci.send_signed(Method::POST, "/v3/packages/releases", &[], &[("publish", &yaml)]).await;
    assert!(anonymous.status == 401 && sentence(&anonymous).contains("s registry login"), "{:?}", anonymous.body);
    let nothing = ci.send(Method::POST, "/v3/packages/other", &[]).await;
    assert!(nothing.status == 404 && sentence(&nothing).contains("publish with POST"), "{:?}", nothing.body);
    assert_eq!(ci.announce("acme-x", "1.1.0").await.status, 200, "nothing of these has reserved it");
}

#[tokio::test]
async fn a_signature_that_is_wrong_old_or_was_used_reserves_nothing() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let now = host.mirror.clock.now().as_second();
    let publish = publish_yaml("acme-x", "1.0.0");
    let form = [("publish", &*publish), ("readme", "r")];
    let post = async |headers: Vec<(&'static str, String)>| {
        ci.send_signed(Method::POST, "/v3/packages/releases", &headers, &form).await.status
    };
    let mut wrong = signature(&ci.code, "n0", now);
    wrong[1].1 = "0".repeat(64);
    assert_eq!(post(wrong).await, 401);
    assert_eq!(post(signature(&ci.code, "n1", now - 3600)).await, 401);
    let signed = signature(&ci.code, "n2", now);
    assert_eq!(post(signed.clone()).await, 200);
    assert_eq!(post(signed).await, 401);
}

#[tokio::test]
async fn a_version_is_reserved_for_one_account_and_five_are_open_at_most() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let two = Cli::of(&host, "ci-two").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let refused = two.announce("acme-x", "1.0.0").await;
    assert_eq!((refused.status, &*sentence(&refused)), (409, "this version is being published by token:ci-cli"));
    // The plain way, too.
    let plain = host.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await;
    assert_eq!((plain.status, &plain.json()["code"]), (409, &json!("being-published")), "{:?}", plain.body);
    for number in 0..4 {
        ci.reserve("acme-y", &format!("1.0.{number}")).await;
    }
    let sixth = ci.announce("acme-y", "1.0.9").await;
    assert!(sixth.status == 429 && sentence(&sixth).contains("5 other versions"), "{:?}", sixth.body);
    two.reserve("acme-y", "1.0.9").await;
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, Some(201));
    ci.reserve("acme-z", "1.0.0").await;
    host.mirror.clock.advance(Duration::from_secs(601));
    two.reserve("acme-z", "1.0.0").await;
}

#[tokio::test]
async fn a_restart_ends_reservations_and_keeps_what_failed() {
    let forge = Forge::start().await;
    let store = tempfile::tempdir().expect("a directory");
    let cache = tempfile::tempdir().expect("a directory");
    let setup = || hosting(&forge, store.path()).with(|config| config.host.names = vec!["acme-*".into()]);
    let mirror = setup().start_in(cache.path()).await;
    let ci = Cli::new(&mirror, cache.path(), "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let bad = ci.reserve("acme-y", "1.0.0").await;
    assert_eq!(upload(&mirror.client, &bad, b"no zip".to_vec()).await, None);
    let code = ci.code.clone();
    let address = mirror.url("");
    mirror.stop().await;
    let mirror = setup().start_in(cache.path()).await;
    let url = url.replace(&address, &mirror.url(""));
    assert_eq!(upload(&mirror.client, &url, component("acme-x", "1.0.0")).await, None);
    let ci = Cli::with_code(&mirror, &code);
    assert_eq!(ci.failed("acme-y").await.len(), 1);
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert_eq!(upload(&mirror.client, &url, component("acme-x", "1.0.0")).await, Some(201));
}

#[tokio::test]
async fn no_log_and_no_audit_line_has_an_upload_address() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("audit.jsonl");
    let host = start_with(&forge, |config| config.audit.file = Some(file.clone())).await;
    let ci = Cli::of(&host, "ci-hidden").await;
    for (version, zip) in [("1.0.0", component("acme-hidden", "1.0.0")), ("1.0.1", b"no zip".to_vec())] {
        let url = ci.reserve("acme-hidden", version).await;
        upload(&host.mirror.client, &url, zip).await;
        let query = url.split_once('?').expect("a query").1;
        let secret = query.rsplit('.').next().expect("a code");
        assert_eq!(logs::lines(secret), Vec::<String>::new());
        eventually("the upload is in the audit log", async || {
            let text = std::fs::read_to_string(&file).expect("the file");
            assert!(!text.contains(secret), "{text}");
            text.lines()
                .any(|line| line.contains("\"PUT\"") && line.contains(version) && line.contains("token:ci-hidden"))
        })
        .await;
    }
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.contains("\"reserve\"") && text.contains("\"outcome\":\"failed\""), "{text}");
    assert!(!logs::lines("a publication failed").is_empty());
}

/// Reads what is left on a connection.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut left = Vec::new();
    let _ = stream.read_to_end(&mut left).await;
    left
}

#[tokio::test]
async fn a_broken_upload_has_no_byte_of_a_response() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let mut stream = TcpStream::connect(host.mirror.address).await.expect("connects");
    let head = format!(
        "PUT /v3/uploads/acme-x/1.0.0?srm=u.a.b.c.d.e.f HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\nno",
        host.mirror.address
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    assert_eq!(String::from_utf8_lossy(&rest(&mut stream).await), "");
}

#[tokio::test]
async fn a_code_is_renewed_by_its_own_signature_and_the_earlier_one_ends() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let renewed = ci.send(Method::POST, "/v3/user/token", &[]).await;
    assert_eq!((renewed.status, renewed.header("cache-control")), (200, "no-store"), "{:?}", renewed.body);
    let code = renewed.json()["body"]["safety_code"].as_str().expect("a code").to_owned();
    assert!(code != ci.code && code.starts_with("srmt_"));
    assert_eq!(
        upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await,
        None,
        "made for the earlier code"
    );
    assert_eq!(ci.announce("acme-x", "1.0.0").await.status, 401);
    assert_eq!(ci.send(Method::POST, "/v3/user/token", &[]).await.status, 401);
    let next = Cli::with_code(&host.mirror, &code);
    let url = next.reserve("acme-x", "1.0.0").await;
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, Some(201), "the same account");
    let tokens = host.mirror.dir().join("access/tokens.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&tokens).expect("a file").permissions());
    let text = std::fs::read_to_string(&tokens).expect("text");
    assert!(mode & 0o777 == 0o600 && text.contains(&code) && !text.contains(&ci.code), "{mode:o}");
    // A token that signs nothing is not replaced.
    let plain = host.send(Method::POST, "/v3/user/token", &host.ci, Vec::new(), &[]).await;
    assert!(plain.status == 403 && sentence(&plain).contains("token create --cli"), "{:?}", plain.body);
    assert!(sentence(&host.mirror.get("/v3/user/check?token=x").await).contains("s registry login --token"));
}

#[tokio::test]
async fn the_list_of_own_packages_has_what_is_published_here_and_the_caller_may_see() {
    let forge = Forge::start().await;
    let host = start_with(&forge, |config| config.host.names.push("secret-*".into())).await;
    for number in 0..21 {
        let name = format!("acme-{number:02}");
        assert_eq!(host.put(&name, "1.0.0", component(&name, "1.0.0")).await.status, 201);
    }
    assert_eq!(host.put("secret-x", "1.0.0", component("secret-x", "1.0.0")).await.status, 201);
    let ci = Cli::of(&host, "ci-cli").await;
    let reader = Cli::of(&host, "reader-cli").await;
    let names = async |cli: &Cli, page: u32| -> Vec<String> {
        let got = cli.send(Method::GET, &format!("/v3/package/user?page={page}"), &[]).await;
        let rows = got.json()["body"].as_array().expect("an array").clone();
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!((names(&ci, 1).await.len(), names(&ci, 3).await.len()), (20, 0));
    assert_eq!(names(&ci, 2).await, ["acme-20", "secret-x"]);
    assert_eq!(names(&reader, 2).await, ["acme-20"]);
}
