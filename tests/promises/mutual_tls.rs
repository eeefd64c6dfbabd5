//! Mutual TLS: the subject of a verified certificate is the principal, and no other certificate is accepted.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use reqwest::{Client, ClientBuilder};
use serde_json::Value;
use srm_mirror::{
    config::Config,
    server::tls::{CertificateFiles, ClientAuth},
    value::Period,
};
use tempfile::TempDir;

use crate::{
    access::{PUBLIC, SECRET, WAYS, forge, routes, rule, token, with_rules},
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, setup},
};

/// An authority of clients' certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// When a certificate ends.
#[derive(Clone, Copy)]
enum End {
    Expired,
    Late,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = subject(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate with its key, in PEM.
    fn issue(&self, names: &[(DnType, &str)], serial: u64, end: End) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = subject(names);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match end {
            End::Expired => date_time_ymd(2021, 1, 1),
            End::Late => date_time_ymd(2090, 1, 1),
        };
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    fn named(&self, name: &str) -> String {
        self.issue(&[(DnType::OrganizationName, "Acme"), (DnType::CommonName, name)], 7, End::Late)
    }

    /// A revocation list in PEM.
    fn revoking(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2022, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2022, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(serials.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("text")
    }
}

fn subject(names: &[(DnType, &str)]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (name, value) in names {
        params.distinguished_name.push(name.clone(), *value);
    }
    params
}

/// The files of one mirror.
struct Files {
    dir: TempDir,
    /// Of the mirror's own certificate.
    server: String,
}

impl Files {
    fn new(clients: &Authority) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["mirror.test".to_owned()]).expect("a name");
        let server = params.self_signed(&key).expect("a certificate").pem();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        write("server.pem", &server);
        write("server.key", &key.serialize_pem());
        write("clients.pem", &clients.pem);
        Self { dir, server }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A mirror with a TLS listener that verifies clients.
    fn apply(&self, setup: Setup) -> Setup {
        let file = |name: &str| self.path().join(name);
        setup.with(|config: &mut Config| {
            config.server.tls.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
            config.server.tls.certificates =
                vec![CertificateFiles { cert_file: file("server.pem"), key_file: file("server.key") }];
            config.server.tls.client_ca_file = Some(file("clients.pem"));
            config.server.tls.reload = Period::FOREVER;
        })
    }

    /// A client that trusts the mirror, with a certificate of its own or without.
    fn client(&self, mirror: &Mirror, identity: Option<&str>) -> ClientBuilder {
        let server = reqwest::Certificate::from_pem(self.server.as_bytes()).expect("a certificate");
        let client = Client::builder().no_proxy().tls_certs_only([server]);
        let client = client.resolve("mirror.test", mirror.tls_address.expect("a TLS listener"));
        match identity {
            Some(pem) => client.identity(reqwest::Identity::from_pem(pem.as_bytes()).expect("a certificate")),
            None => client,
        }
    }
}

fn by_certificates(forge: &Forge) -> Setup {
    let rules = vec![
        rule(&["acme/*"], &["cert:CN=insider,O=Acme"], false),
        rule(&["devsapp/*"], &["group:readers"], false),
        rule(&["open/*"], &["token:ci"], true),
    ];
    with_rules(setup(forge).token("github", "T0KEN"), rules).with(|config: &mut Config| {
        let readers = vec!["cert:CN=reader,O=Acme".into(), "cert:CN=insider,*".into()];
        config.access.groups = [("readers".to_owned(), readers)].into();
    })
}

fn url(mirror: &Mirror, path: &str) -> String {
    format!("https://mirror.test:{}{path}", mirror.tls_address.expect("a TLS listener").port())
}

async fn status(client: &Client, mirror: &Mirror, path: &str) -> Result<u16, reqwest::Error> {
    let response = client.get(url(mirror, path)).send().await?;
    let status = response.status().as_u16();
    response.bytes().await?;
    Ok(status)
}

#[tokio::test]
async fn the_subject_of_a_certificate_reads_what_rules_give_it_on_every_route() {
    let forge = forge().await;
    let authority = Authority::new("clients");
    let files = Files::new(&authority);
    let mirror = files.apply(by_certificates(&forge)).start().await;
    let insider = authority.named("insider");
    let reader = authority.named("reader");
    let other = authority.issue(&[(DnType::CommonName, "insider")], 8, End::Late);
    let connect = |identity: Option<&str>| files.client(&mirror, identity).build().expect("a client");
    let insider = connect(Some(&insider));
    let reader = connect(Some(&reader));
    let other = connect(Some(&other));
    let none = connect(None);
    let served = &[200, 206, 304][..];
    for (package, by_insider, by_reader) in [(PUBLIC, served, served), (SECRET, served, &[404])] {
        for path in routes(package) {
            // The insider first: what is cached for it must not be served to others.
            let first = insider.get(url(&mirror, &path)).send().await.expect("an answer");
            let etag = first.headers().get("etag").map(|etag| etag.to_str().expect("text").to_owned());
            let etag = etag.unwrap_or_default();
            let callers = [(&insider, by_insider), (&reader, by_reader), (&other, &[404]), (&none, &[401])];
            for (client, expected) in callers {
                for way in WAYS {
                    let (method, field) = way.request(&etag);
                    let request = client.request(method, url(&mirror, &path));
                    let request = field.into_iter().fold(request, |request, (name, value)| request.header(name, value));
                    let response = request.send().await.expect("an answer");
                    assert!(expected.contains(&response.status().as_u16()), "{way:?} {path}: {}", response.status());
                    assert_eq!(response.version(), reqwest::Version::HTTP_2);
                }
            }
        }
    }
    let http1 = files.client(&mirror, Some(&authority.named("insider"))).http1_only().build().expect("a client");
    for _ in 0..3 {
        assert_eq!(status(&http1, &mirror, "/acme/secret/zipball/v1.0.0").await.expect("an answer"), 200);
    }
    assert_eq!(mirror.get("/acme/secret/releases").await.status, 401, "without TLS there is no certificate");
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_ends_the_connection() {
    let forge = forge().await;
    let authority = Authority::new("clients");
    // Of the same name: only its key differs.
    let stranger = Authority::new("clients");
    let files = Files::new(&authority);
    let mirror = files.apply(by_certificates(&forge)).start().await;
    let names = [(DnType::OrganizationName, "Acme"), (DnType::CommonName, "insider")];
    for identity in [stranger.named("insider"), authority.issue(&names, 7, End::Expired)] {
        let client = files.client(&mirror, Some(&identity)).build().expect("a client");
        assert!(status(&client, &mirror, "/open/pkg/releases").await.is_err(), "it is served");
    }
    let none = files.client(&mirror, None).build().expect("a client");
    assert_eq!(status(&none, &mirror, "/open/pkg/releases").await.expect("an answer"), 200);
}

#[tokio::test]
async fn where_a_certificate_is_required_no_request_is_read_without_one() {
    let forge = forge().await;
    let authority = Authority::new("clients");
    let files = Files::new(&authority);
    let setup = files.apply(by_certificates(&forge));
    let setup = setup.with(|config: &mut Config| config.server.tls.client_auth = ClientAuth::Required);
    let mirror = setup.start().await;
    let none = files.client(&mirror, None).build().expect("a client");
    let some = files.client(&mirror, Some(&authority.named("reader"))).build().expect("a client");
    for path in ["/open/pkg/releases", "/healthz"] {
        assert!(status(&none, &mirror, path).await.is_err(), "{path}");
        assert_eq!(status(&some, &mirror, path).await.expect("an answer"), 200, "{path}");
    }
}

#[tokio::test]
async fn a_certificate_precedes_a_token_and_no_header_names_a_subject() {
    let forge = forge().await;
    let authority = Authority::new("clients");
    let files = Files::new(&authority);
    let setup = files.apply(by_certificates(&forge));
    let setup = setup.with(|config: &mut Config| {
        config.access.rules.insert(0, rule(&["tokens/*"], &["token:ci"], false));
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    forge.repo("tokens/only").release("v1.0.0", |r| r);
    let mirror = setup.start().await;
    let token = token(&mirror, "ci").await;
    let insider = files.client(&mirror, Some(&authority.named("insider"))).build().expect("a client");
    let get = async |path: &str, authorization: &str| {
        let request = insider.get(url(&mirror, path)).header("authorization", authorization);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(get("/acme/secret/releases", "Bearer nonsense").await, 200);
    assert_eq!(get("/tokens/only/releases", &format!("Bearer {token}")).await, 404, "the certificate decides");
    let alone = mirror.get_with("/tokens/only/releases", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(alone.status, 200);
    for field in ["x-client-cert", "x-ssl-client-s-dn", "ssl-client-subject-dn", "x-forwarded-client-cert"] {
        let got = mirror.get_with("/acme/secret/releases", &[(field, "CN=insider,O=Acme")]).await;
        assert_eq!(got.status, 401, "{field}");
    }
}

#[tokio::test]
async fn a_certificate_and_what_was_signed_for_it_end_together_also_on_a_kept_connection() {
    let forge = forge().await;
    let authority = Authority::new("clients");
    let files = Files::new(&authority);
    let mirror = files.apply(by_certificates(&forge)).start().await;
    let insider = files.client(&mirror, Some(&authority.named("insider"))).build().expect("a client");
    let none = files.client(&mirror, None).build().expect("a client");
    let signed = async || {
        let latest = insider.get(url(&mirror, "/acme/secret/releases/latest")).send().await.expect("an answer");
        let latest: Value = serde_json::from_slice(&latest.bytes().await.expect("a body")).expect("JSON");
        let address = latest["zipball_url"].as_str().expect("an address");
        address.strip_prefix(&url(&mirror, "")).expect("an address of this mirror").to_owned()
    };
    let address = signed().await;
    assert!(address.contains("?srm="), "{address}");
    assert_eq!(status(&none, &mirror, &address).await.expect("an answer"), 200);
    let other = address.replace("/acme/secret/", "/devsapp/fc3/");
    assert_eq!(status(&none, &mirror, &other).await.expect("an answer"), 401);
    mirror.clock.advance(Duration::from_secs(901));
    assert_eq!(status(&none, &mirror, &address).await.expect("an answer"), 401, "the lifetime of an address");

    // Shortly before the end of the certificate.
    let end: jiff::Timestamp = "2090-01-01T00:00:00Z".parse().expect("a time");
    let until_end = Duration::try_from(end.duration_since(mirror.clock.now())).expect("in the future");
    mirror.clock.advance(until_end - Duration::from_secs(60));
    let address = signed().await;
    assert_eq!(status(&none, &mirror, &address).await.expect("an answer"), 200);
    mirror.clock.advance(Duration::from_secs(61));
    assert_eq!(status(&none, &mirror, &address).await.expect("an answer"), 401);
    let kept = insider.get(url(&mirror, "/acme/secret/releases")).send().await.expect("an answer");
    assert_eq!(kept.status().as_u16(), 401);
    assert!(kept.text().await.expect("a body").contains("certificate has expired"));
}

/// The subject of certificates that may read everything.
const INSIDER: [(DnType, &str); 2] = [(DnType::OrganizationName, "Acme"), (DnType::CommonName, "insider")];

/// A mirror with a list of revoked certificates, which is empty.
struct Revocable {
    authority: Authority,
    files: Files,
    mirror: Mirror,
}

impl Revocable {
    async fn start(forge: &Forge) -> Self {
        let authority = Authority::new("clients");
        let files = Files::new(&authority);
        let list = files.path().join("clients.crl");
        fs::write(&list, authority.revoking(&[])).expect("written");
        let setup = files.apply(by_certificates(forge));
        let mirror = setup.with(|config: &mut Config| config.server.tls.client_crl_file = Some(list)).start().await;
        Self { authority, files, mirror }
    }

    fn revoke(&self, serial: u64) {
        fs::write(self.files.path().join("clients.crl"), self.authority.revoking(&[serial])).expect("written");
        self.mirror.reload.request();
    }
}

#[tokio::test]
async fn a_certificate_that_is_revoked_ends_its_connections_and_makes_no_new_one() {
    let forge = forge().await;
    let revocable = Revocable::start(&forge).await;
    let Revocable { authority, files, mirror } = &revocable;
    let leaving = authority.issue(&INSIDER, 41, End::Late);
    let staying = authority.issue(&INSIDER, 42, End::Late);
    let clients = [&leaving, &staying].map(|identity| files.client(mirror, Some(identity)).build().expect("a client"));
    for client in &clients {
        assert_eq!(status(client, mirror, "/acme/secret/releases").await.expect("an answer"), 200);
    }
    revocable.revoke(41);
    let [leaving, staying] = &clients;
    eventually("the kept connection is closed, and no other one opened", async || {
        status(leaving, mirror, "/acme/secret/releases").await.is_err()
    })
    .await;
    // A connection that is being closed may take one more request, which the client has to repeat.
    eventually("the other certificate is served", async || {
        status(staying, mirror, "/acme/secret/releases").await.is_ok_and(|status| status == 200)
    })
    .await;
}

#[tokio::test]
async fn the_address_of_a_zip_ends_with_the_revocation_of_its_certificate() {
    let forge = forge().await;
    let revocable = Revocable::start(&forge).await;
    let Revocable { authority, files, mirror } = &revocable;
    // Without a certificate, as the command line client uses an address.
    let bare = files.client(mirror, None).build().expect("a client");
    // The highest bit of the number is set: its DER form has a zero in front.
    let leaving = 0x00f1_u64;
    let mut addresses = Vec::new();
    for serial in [leaving, 42] {
        let identity = authority.issue(&INSIDER, serial, End::Late);
        let client = files.client(mirror, Some(&identity)).build().expect("a client");
        let answer = client.get(url(mirror, "/acme/secret/releases")).send().await.expect("an answer");
        let releases: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
        addresses.push(releases[0]["zipball_url"].as_str().expect("an address").to_owned());
    }
    let status = async |address: &str| bare.get(address).send().await.expect("an answer").status().as_u16();
    for address in &addresses {
        assert_eq!(status(address).await, 200, "{address}");
    }
    revocable.revoke(leaving);
    eventually("the address is refused", async || status(&addresses[0]).await == 401).await;
    assert_eq!(status(&addresses[1]).await, 200, "that of another certificate holds");
}

#[tokio::test]
async fn the_audit_log_names_the_subject_and_the_fingerprint() {
    let forge = forge().await;
    let authority = Authority::new("clients");
    let files = Files::new(&authority);
    let log = files.path().join("audit.jsonl");
    let setup = files.apply(by_certificates(&forge));
    let mirror = setup.with(|config: &mut Config| config.audit.file = Some(log.clone())).start().await;
    let name = [(DnType::CommonName, "two\nlines")];
    let insider = files.client(&mirror, Some(&authority.issue(&name, 7, End::Late))).build().expect("a client");
    assert_eq!(status(&insider, &mirror, "/acme/secret/releases").await.expect("an answer"), 404);
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    eventually("a line", async || lines().ends_with('\n')).await;
    let line: Value = serde_json::from_str(lines().lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["principal"], "cert:CN=two\\0alines");
    assert_eq!(line["credential"].as_str().map(str::len), Some(64));
}

#[tokio::test]
async fn files_that_cannot_verify_clients_are_one_sentence_that_names_their_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Files::new(&Authority::new("clients"));
    let path = |name: &str| files.path().join(name).display().to_string();
    let cert =
        format!("certificates = [{{ cert_file = \"{}\", key_file = \"{}\" }}]", path("server.pem"), path("server.key"));
    let ca = format!("client_ca_file = \"{}\"", path("clients.pem"));
    fs::write(dir.path().join("empty"), "").expect("written");
    let empty = dir.path().join("empty").display().to_string();
    for (keys, key, wanted) in [
        ("client_auth = \"required\"".to_owned(), "client_ca_file", "set server.tls.client_ca_file"),
        (format!("client_ca_file = \"{empty}\""), "client_ca_file", "no PEM certificate of an authority"),
        ("client_ca_file = \"/no/such.pem\"".to_owned(), "client_ca_file", "cannot be read"),
        (format!("{ca}\nclient_crl_file = \"{empty}\""), "client_crl_file", "no PEM revocation list"),
        (format!("{ca}\nclient_auth = \"always\""), "client_auth", "\"optional\""),
    ] {
        let file = crate::tls::config(dir.path(), &format!("{cert}\n{keys}"));
        let done = crate::tls::program(&["config", "check", &file]).await;
        let said = String::from_utf8(done.stderr).expect("text");
        assert_eq!(done.status.code(), Some(64), "{said}");
        assert!(said.contains(&format!("server.tls.{key}")) && said.contains(wanted), "{said}");
    }
    let file = crate::tls::config(dir.path(), &format!("{cert}\n{ca}"));
    let done = crate::tls::program(&["config", "check", &file]).await;
    assert!(done.status.success(), "{done:?}");
}
