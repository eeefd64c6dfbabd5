//! TLS: certificates by server name, reloaded while serving, and created by `tls init`.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use srm_mirror::{server::tls::CertificateFiles, value::Period};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    captured::CapturedOutput,
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, setup},
};

mod new_certificates;
mod nodes;

/// Deadline of every expected event.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the program itself.
pub async fn program(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srm-mirror"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").output().await.expect("runs")
}

/// `tls init` for these names.
pub async fn init(dir: &Path, names: &[&str], more: &[&str]) -> Output {
    let mut arguments = vec!["tls", "init", "--dir", dir.to_str().expect("text")];
    arguments.extend(names.iter().flat_map(|name| ["--name", name]));
    arguments.extend(more);
    program(&arguments).await
}

async fn made(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let done = init(dir.path(), names, &[]).await;
    assert!(done.status.success(), "{done:?}");
    dir
}

pub fn files(dir: &Path, name: &str) -> CertificateFiles {
    CertificateFiles { cert_file: dir.join(format!("{name}.pem")), key_file: dir.join(format!("{name}.key")) }
}

fn der(file: PathBuf) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("a certificate")
}

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"1"));
    forge
}

pub fn with_tls(setup: Setup, certificates: Vec<CertificateFiles>) -> Setup {
    setup.with(|config| {
        config.server.tls.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.server.tls.certificates = certificates;
        config.server.tls.reload = Period::FOREVER;
    })
}

fn tls(mirror: &Mirror) -> SocketAddr {
    mirror.tls_address.expect("a TLS listener")
}

/// A client that trusts only this authority and resolves the name to the mirror.
fn client(mirror: &Mirror, dir: &Path, name: &str) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(&fs::read(dir.join("ca.pem")).expect("ca.pem")).expect("a certificate");
    reqwest::Client::builder().no_proxy().tls_certs_only([ca]).resolve(name, tls(mirror))
}

/// Accepts every certificate: the test examines it.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn connect(address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)));
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let socket = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    connector.connect(name, socket).await.expect("a handshake")
}

/// The certificate that the server sends for this name.
async fn shown(address: SocketAddr, name: &str) -> CertificateDer<'static> {
    let stream = connect(address, name).await;
    stream.get_ref().1.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// Repeats handshakes until the server sends the expected certificate.
async fn until_shown(address: SocketAddr, name: &str, wanted: &CertificateDer<'_>) {
    let look = async { while shown(address, name).await != *wanted {} };
    timeout(PATIENCE, look).await.expect("the new certificate is shown");
}

async fn ready(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: m\r\n\r\n").await.expect("sent");
    let mut text = Vec::new();
    while !text.ends_with(b"}\n") {
        text.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("a byte"));
    }
    assert!(text.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&text));
}

#[tokio::test]
async fn both_http_versions_work_with_tls_and_urls_follow_the_scheme() {
    let forge = forge().await;
    let dir = made(&["mirror.test"]).await;
    let mirror = with_tls(setup(&forge), vec![files(dir.path(), "mirror.test")]).start().await;
    let base = format!("https://mirror.test:{}", tls(&mirror).port());
    let clients = [
        (client(&mirror, dir.path(), "mirror.test"), reqwest::Version::HTTP_2),
        (client(&mirror, dir.path(), "mirror.test").http1_only(), reqwest::Version::HTTP_11),
    ];
    for (client, version) in clients {
        let client = client.build().expect("a client");
        let latest = client.get(format!("{base}/devsapp/fc3/releases/latest")).send().await.expect("an answer");
        assert_eq!((latest.status().as_u16(), latest.version()), (200, version));
        let latest: serde_json::Value = serde_json::from_slice(&latest.bytes().await.expect("a body")).expect("JSON");
        let zip = latest["zipball_url"].as_str().expect("an address");
        assert_eq!(zip, format!("{base}/devsapp/fc3/zipball/v1.0.0"));
        let zip = client.get(zip).send().await.expect("an answer").bytes().await.expect("a body");
        assert_eq!(srm_mirror::entry::Digest::of(&zip).to_string(), forge.sha256("devsapp/fc3", "v1.0.0"));
    }
    let plain = mirror.get("/devsapp/fc3/releases/latest").await;
    assert_eq!(plain.json()["zipball_url"], mirror.url("/devsapp/fc3/zipball/v1.0.0"));
}

#[tokio::test]
async fn a_client_gets_the_first_certificate_for_its_host_name_else_the_first_of_all() {
    let forge = forge().await;
    let dir = made(&["api.test", "registry.test"]).await;
    assert!(init(dir.path(), &["registry.test"], &[]).await.status.success());
    let one = files(dir.path(), "registry.test");
    let both = files(dir.path(), "api.test");
    let mirror = with_tls(setup(&forge), vec![one.clone(), both.clone()]).start().await;
    let one = der(one.cert_file);
    let both = der(both.cert_file);
    assert_eq!(shown(tls(&mirror), "registry.test").await, one);
    assert_eq!(shown(tls(&mirror), "api.test").await, both);
    assert_eq!(shown(tls(&mirror), "API.test").await, both);
    assert_eq!(shown(tls(&mirror), "other.test").await, one);
    assert_eq!(shown(tls(&mirror), "127.0.0.1").await, one, "no name at all");
}

#[tokio::test]
async fn an_unfinished_handshake_times_out_and_releases_its_slot() {
    let forge = forge().await;
    let dir = made(&["mirror.test"]).await;
    let mirror = with_tls(setup(&forge), vec![files(dir.path(), "mirror.test")]);
    let mirror = mirror
        .with(|config| {
            config.server.header_timeout = "100ms".parse().expect("a period");
            config.server.max_connections = 1;
        })
        .start()
        .await;
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nHost: m\r\n\r\n"] {
        let mut silent = TcpStream::connect(tls(&mirror)).await.expect("a connection");
        silent.write_all(begun).await.expect("sent");
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("the mirror closes");
        assert!(!rest.starts_with(b"HTTP"), "{begun:?}");
    }
    assert_eq!(mirror.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn an_unfinished_handshake_does_not_delay_shutdown() {
    let forge = forge().await;
    let dir = made(&["mirror.test"]).await;
    let mirror = with_tls(setup(&forge), vec![files(dir.path(), "mirror.test")]);
    let mirror = mirror.with(|config| config.server.drain = Period::FOREVER).start().await;
    let mut silent = TcpStream::connect(tls(&mirror)).await.expect("a connection");
    // Connections are accepted in order: this response proves that the silent one holds its slot.
    ready(&mut connect(tls(&mirror), "mirror.test").await).await;
    timeout(PATIENCE, mirror.stop()).await.expect("ends");
    let _ = timeout(PATIENCE, silent.read_to_end(&mut Vec::new())).await.expect("closed");
}

/// A configuration file with this `[server.tls]` and no upstream on the internet.
pub fn config(dir: &Path, tls: &str) -> String {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[server.tls]\nlisten = [\"127.0.0.1:0\"]\nreload = \"forever\"\n{tls}\n\
         [disk]\ndir = \"{}\"\n[upstreams.github]\napi = \"http://127.0.0.1:9\"\n\
         [upstreams.gitee]\napi = \"http://127.0.0.1:9\"\n",
        dir.join("cache").display()
    );
    let file = dir.join("mirror.toml");
    fs::write(&file, text).expect("written");
    file.to_str().expect("text").to_owned()
}

fn certificates(files: &CertificateFiles) -> String {
    let cert = files.cert_file.display();
    let key = files.key_file.display();
    format!("certificates = [{{ cert_file = \"{cert}\", key_file = \"{key}\" }}]")
}

#[tokio::test]
async fn a_bad_certificate_is_one_sentence_before_start() {
    let dir = made(&["mirror.test"]).await;
    let other = made(&["other.test"]).await;
    let good = files(dir.path(), "mirror.test");
    let empty = dir.path().join("empty");
    fs::write(&empty, "").expect("written");
    let cases = [
        (String::new(), "no certificate is configured; make one with `srm-mirror tls init`"),
        (
            certificates(&CertificateFiles { cert_file: "/no/such.pem".into(), ..good.clone() }),
            "/no/such.pem cannot be read: No such",
        ),
        (
            certificates(&CertificateFiles { cert_file: empty.clone(), ..good.clone() }),
            "empty contains no PEM certificate",
        ),
        (
            certificates(&CertificateFiles { key_file: empty.clone(), ..good.clone() }),
            "empty contains no PEM private key",
        ),
        (
            certificates(&CertificateFiles { key_file: files(other.path(), "other.test").key_file, ..good.clone() }),
            "other.test.key does not match the certificate in",
        ),
    ];
    for (text, wanted) in cases {
        let file = config(dir.path(), &text);
        for arguments in [&["config", "check", &file][..], &["serve", "--config", &file]] {
            let done = program(arguments).await;
            let said = String::from_utf8(done.stderr).expect("text");
            assert_eq!((done.status.code(), said.lines().count()), (Some(64), 1), "{said}");
            assert!(said.contains(wanted) && said.contains("server.tls.certificates"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_world_readable_key_is_a_warning() {
    let dir = made(&["mirror.test"]).await;
    let pair = files(dir.path(), "mirror.test");
    let file = config(dir.path(), &certificates(&pair));
    let check = |done: Output| String::from_utf8(done.stdout).expect("text");
    assert_eq!(check(program(&["config", "check", &file]).await), "the configuration is valid\n");
    fs::set_permissions(&pair.key_file, fs::Permissions::from_mode(0o644)).expect("changed");
    let said = check(program(&["config", "check", &file]).await);
    assert!(said.contains("other users of this machine can read the key") && said.contains("chmod 600"), "{said}");
}

#[tokio::test]
async fn sighup_reloads_the_certificates_and_ends_no_connection() {
    let dir = made(&["mirror.test"]).await;
    let pair = files(dir.path(), "mirror.test");
    let file = config(dir.path(), &certificates(&pair));
    let mut mirror = Command::new(env!("CARGO_BIN_EXE_srm-mirror"));
    let mirror = mirror.args(["serve", "--config", &file]).env_clear().kill_on_drop(true);
    let mut mirror = mirror.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
    let mut lines = BufReader::new(mirror.stdout.take().expect("output")).lines();
    let mut address = None;
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text") {
        if let Some(found) = line.strip_prefix("listening on https://") {
            address = Some(found.parse::<SocketAddr>().expect("an address"));
        }
        if line == "ready" {
            break;
        }
    }
    let address = address.expect("the output has the TLS address");
    let mut old = connect(address, "mirror.test").await;
    ready(&mut old).await;
    assert!(init(dir.path(), &["mirror.test"], &["--force"]).await.status.success());
    let pid = mirror.id().expect("running").to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().await.expect("runs").success());
    until_shown(address, "mirror.test", &der(pair.cert_file)).await;
    ready(&mut old).await;
}

#[tokio::test]
async fn tls_init_overwrites_nothing_without_force_and_reuses_its_authority() {
    let dir = made(&["a.test", "b.test"]).await;
    let read = |name: &str| fs::read(dir.path().join(name)).expect(name);
    let ca = read("ca.pem");
    let cert = read("a.test.pem");
    for (name, mode) in [("ca.key", 0o600), ("a.test.key", 0o600), ("ca.pem", 0o644)] {
        let meta = fs::metadata(dir.path().join(name)).expect(name);
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
    let again = init(dir.path(), &["a.test"], &[]).await;
    assert_eq!(again.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&again.stderr).contains("a.test.pem exists already; --force"), "{again:?}");
    assert_eq!((read("ca.pem"), read("a.test.pem")), (ca.clone(), cert.clone()));

    assert!(init(dir.path(), &["a.test"], &["--force"]).await.status.success());
    assert_eq!(read("ca.pem"), ca, "clients keep trusting the authority");
    assert_ne!(read("a.test.pem"), cert);
}

#[tokio::test]
async fn an_authority_signs_only_for_the_names_it_was_created_with() {
    let dir = made(&["a.test"]).await;
    for foreign in ["b.test", "192.0.2.1", "*.b.test"] {
        let done = init(dir.path(), &[foreign], &[]).await;
        assert_eq!(done.status.code(), Some(64), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("was made for other names"), "{done:?}");
    }
    assert!(init(dir.path(), &["sub.a.test"], &[]).await.status.success(), "a subdomain of a name is included");
    let before = fs::read(dir.path().join("ca.pem")).expect("ca.pem");
    assert!(init(dir.path(), &["b.test"], &["--new-ca"]).await.status.success());
    assert_ne!(fs::read(dir.path().join("ca.pem")).expect("ca.pem"), before);

    fs::remove_file(dir.path().join("ca.key")).expect("removed");
    let half = init(dir.path(), &["b.test"], &["--force"]).await;
    assert!(String::from_utf8_lossy(&half.stderr).contains("ca.key is missing"), "{half:?}");
}

/// A certificate and its key, valid for some more days.
pub fn ending_in(dir: &Path, days: i64) -> CertificateFiles {
    let end = jiff::Zoned::now().date() + jiff::Span::new().days(days);
    let part = |number: i8| u8::try_from(number).expect("positive");
    let mut params = rcgen::CertificateParams::new(vec!["mirror.example".to_owned()]).expect("a name");
    params.distinguished_name.push(rcgen::DnType::CommonName, "mirror.example");
    params.not_after = rcgen::date_time_ymd(i32::from(end.year()), part(end.month()), part(end.day()));
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let files = files(dir, "own");
    fs::write(&files.cert_file, certificate.pem()).expect("written");
    fs::write(&files.key_file, key.serialize_pem()).expect("written");
    files
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_reason_to_be_degraded_until_another_is_loaded() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = with_tls(setup(&forge), vec![ending_in(dir.path(), 6)]).start().await;
    let ready = mirror.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &serde_json::json!("degraded")));
    let reason = ready.json()["reasons"][0].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("the certificate CN=mirror.example ends in 5 days ("), "{reason}");
    let page = String::from_utf8(mirror.get("/-/health").await.body.to_vec()).expect("text");
    assert!(page.contains("This mirror needs its operator: the certificate CN=mirror.example ends in"), "{page}");
    let status = mirror.admin(mirror.dir(), "status", serde_json::json!({})).await;
    assert_eq!(status[0]["certificates"][0]["name"], "CN=mirror.example", "{status:?}");
    let metric = "srm_mirror_certificate_expiry_timestamp_seconds{certificate=\"CN=mirror.example\"}";
    let end = async || {
        let metrics = String::from_utf8(mirror.get("/metrics").await.body.to_vec()).expect("text");
        let line = metrics.lines().find_map(|line| line.strip_prefix(metric)).map(str::trim).map(str::parse::<i64>);
        line.expect("a line").expect("a number")
    };
    let before = end().await;
    ending_in(dir.path(), 300);
    mirror.reload.request();
    eventually("the other certificate is in use", async || mirror.get("/readyz").await.json()["status"] == "ready")
        .await;
    assert_eq!(end().await - before, (300 - 6) * 86_400);
}
