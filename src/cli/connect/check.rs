//! Each route tried against the running mirror, as its client would.

use std::{net::SocketAddr, path::Path, time::Duration};

use reqwest::{Certificate, Client, header, redirect::Policy};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::ExampleTarget;

mod ask;

use ask::Asked;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one answer may take; a zip that the mirror does not have yet comes from its forge.
const ANSWER: Duration = Duration::from_secs(60);

/// Nothing answers at the mirror's address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(pub(super) String);

/// `--ca-file` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--ca-file {file}: {reason}")]
pub(super) struct AuthorityError {
    file: String,
    reason: String,
}

/// What came of one route.
#[derive(Debug)]
pub(super) struct Check {
    /// Who uses it.
    pub(super) client: &'static str,
    /// Its path, or its address where that is another host.
    pub(super) route: String,
    /// Whether it works.
    pub(super) outcome: Outcome,
}

/// Whether a route works, and what there is to say.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It works.
    Ok(String),
    /// This mirror does not offer it.
    Off(String),
    /// It should work and does not.
    Fails(String),
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (state, said) = match &self.outcome {
            Outcome::Ok(said) => ("ok", said),
            Outcome::Off(said) => ("off", said),
            Outcome::Fails(said) => ("fails", said),
        };
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("client", self.client)?;
        map.serialize_entry("route", &self.route)?;
        map.serialize_entry("state", state)?;
        map.serialize_entry("detail", said)?;
        map.end()
    }
}

/// Tries everything, one after the other. Where no version was given, the latest becomes the subject's.
///
/// # Errors
/// Outside: `--ca-file`. Inside: nothing answers at all.
pub(super) async fn all(
    subject: &mut ExampleTarget,
    address: Option<SocketAddr>,
    ca_file: Option<&Path>,
) -> Result<Result<Vec<Check>, Unreachable>, AuthorityError> {
    let client = client(address, ca_file)?;
    let base = subject.base.clone();
    let mut run = Run { client, base, checks: Vec::new() };
    if let Err(why) = run.ready().await {
        return Ok(Err(why));
    }
    run.routes(subject).await;
    run.overrides(subject, address).await;
    Ok(Ok(run.checks))
}

/// A client that finds the names of the real hosts at the mirror, and goes nowhere else.
fn client(address: Option<SocketAddr>, ca_file: Option<&Path>) -> Result<Client, AuthorityError> {
    let mut builder = Client::builder()
        .user_agent(concat!("srm-mirror-connect/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(ANSWER);
    if let Some(address) = address {
        for name in [INIT_HOST, REGISTRY_HOST] {
            builder = builder.resolve(name, address);
        }
    }
    let shown = ca_file.map(|file| file.display().to_string()).unwrap_or_default();
    let wrong = |reason: &str| AuthorityError { file: shown.clone(), reason: reason.to_owned() };
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|why| wrong(&format!("cannot be read: {why}")))?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(wrong("has no certificate in PEM form in it"));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|_| wrong("TLS cannot be set up with it, or with the system's certificates"))
}

/// The hosts that the CLIs have built in.
const INIT_HOST: &str = "api.devsapp.cn";
const REGISTRY_HOST: &str = "registry.devsapp.cn";

struct Run {
    client: Client,
    base: String,
    checks: Vec<Check>,
}

impl Run {
    /// Asks for the mirror itself; only its answer, whatever it is, lets the rest begin.
    async fn ready(&mut self) -> Result<(), Unreachable> {
        let asked = ask::get(&self.client, &format!("{}/readyz", self.base), &[]).await;
        let outcome = match asked {
            Err(why) if why.connecting => {
                return Err(Unreachable(format!("{} cannot be reached: {}", self.base, why.reason)));
            }
            Err(why) => Outcome::Fails(why.reason),
            Ok(asked) => match asked.json().get("status").and_then(Value::as_str) {
                Some(state) if asked.status == 200 => Outcome::Ok(state.to_owned()),
                Some(state) => Outcome::Fails(format!("the mirror is {state}")),
                None => Outcome::Fails(format!("{} and not a mirror's answer", asked.status)),
            },
        };
        self.note("mirror", "/readyz", outcome);
        Ok(())
    }

    async fn routes(&mut self, subject: &mut ExampleTarget) {
        let path = subject.path();
        let v3 = subject.v3_name();
        let api = subject.api_path();
        let latest = self.json("srm", &format!("{path}/releases/latest"), release).await;
        if subject.version.is_none() {
            subject.version = latest;
        }
        let tag = subject.version.clone().map(|tag| tag.replace('%', "%25").replace('/', "%2F").replace('#', "%23"));

        let route = format!("/v3/packages/{v3}/release/latest");
        self.json("s 3", &route, |value| release(value.get("body")?)).await;
        if let Some(tag) = &tag {
            let route = format!("/v3/packages/{v3}/release/tags/{tag}");
            self.json("s 3", &route, |value| release(value.get("body")?)).await;
            self.zip("s 3 update", &format!("{path}/flat/{tag}"), &[]).await;
            self.zip("s 3 by URL, init --uri", &format!("{path}/zipball/{tag}"), &[]).await;
        }
        self.json("s 3 registry list", "/v3/packages/releases", |value| rows(value.get("body")?)).await;
        self.json("s 3 registry detail", &format!("/v3/packages/{v3}/release"), |value| rows(value.get("body")?)).await;
        self.json("s 2", &format!("/simple{path}/releases"), |value| rows(value.get("Response")?)).await;
        self.json("octokit", &format!("/repos/{api}/releases/latest"), release).await;
        self.json("PyGithub", &format!("/api/v3/repos/{api}"), |value| {
            let url = value.get("url")?.as_str()?;
            url.contains("/repos/").then(|| format!("leads to {url}"))
        })
        .await;
        if let Some(tag) = &tag {
            self.zip("curl -C, wget -c", &format!("{path}/zipball/{tag}"), &[(header::RANGE, "bytes=0-3")]).await;
        }
        let route = format!("/v3/packages/{}/release/latest", subject.repo());
        let plain = self.ask(&route, &[]).await;
        let outcome = match plain {
            Ok(asked) if asked.status == 200 => Outcome::Ok("plain names work".into()),
            Ok(asked) if asked.status == 404 => {
                Outcome::Off("plain names need names.default_owner or an alias on the mirror".into())
            }
            other => judged(other, |_| None),
        };
        self.note("s 3 by plain name", &route, outcome);
    }

    /// The names that the CLIs have built in, led to the mirror as a hosts entry would.
    async fn overrides(&mut self, subject: &ExampleTarget, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        let scheme = if self.base.starts_with("https:") { "https" } else { "http" };
        let simple = format!("/simple{}/releases", subject.path());
        let init = format!("/v3/packages/{}/release/latest", subject.v3_name());
        for (client, host, route) in [("s 2 by hosts entry", REGISTRY_HOST, simple), ("s 3 init NAME", INIT_HOST, init)]
        {
            let url = format!("{scheme}://{host}:{}{route}", address.port());
            let asked = ask::get(&self.client, &url, &[]).await;
            let outcome = match asked {
                Err(why) if why.certificate => {
                    Outcome::Off(format!("no certificate for {host} that this machine trusts"))
                }
                Ok(asked) if asked.status == 421 => Outcome::Off(format!("the mirror does not answer to {host}")),
                // `s init NAME` asks by TLS only; that the mirror would answer is half of it.
                Ok(asked) if asked.status == 200 && host == INIT_HOST && scheme == "http" => {
                    Outcome::Off("answered here, but the CLI asks by TLS only: try the https address".into())
                }
                other => judged(other, |_| Some("answered".into())),
            };
            self.note(client, &url, outcome);
        }
    }

    async fn ask(&self, route: &str, headers: &[(header::HeaderName, &str)]) -> Result<Asked, ask::Failure> {
        ask::get(&self.client, &format!("{}{route}", self.base), headers).await
    }

    /// Tries a JSON route; `good` reads what its client needs, and what it says is kept.
    async fn json(
        &mut self,
        client: &'static str,
        route: &str,
        good: impl FnOnce(&Value) -> Option<String>,
    ) -> Option<String> {
        let outcome = judged(self.ask(route, &[]).await, |asked| good(&asked.json()));
        let said = if let Outcome::Ok(said) = &outcome { Some(said.clone()) } else { None };
        self.note(client, route, outcome);
        said
    }

    /// Tries a zip and looks at its beginning.
    async fn zip(&mut self, client: &'static str, route: &str, headers: &[(header::HeaderName, &str)]) {
        let wanted = if headers.is_empty() { 200 } else { 206 };
        let outcome = match self.ask(route, headers).await {
            Ok(asked) if asked.status == 200 && wanted == 206 => Outcome::Fails("parts are not sent".into()),
            other => {
                judged(other, |asked| asked.body.starts_with(b"PK\x03\x04").then(|| format!("a zip, {}", asked.cache)))
            }
        };
        self.note(client, route, outcome);
    }

    fn note(&mut self, client: &'static str, route: &str, outcome: Outcome) {
        self.checks.push(Check { client, route: route.to_owned(), outcome });
    }
}

/// A success that `good` has nothing to say to is none.
fn judged(asked: Result<Asked, ask::Failure>, good: impl FnOnce(&Asked) -> Option<String>) -> Outcome {
    match asked {
        Err(why) => Outcome::Fails(why.reason),
        Ok(asked) if asked.status >= 300 => Outcome::Fails(format!("{} {}", asked.status, asked.complaint())),
        Ok(asked) => match good(&asked) {
            Some(said) => Outcome::Ok(said),
            None => Outcome::Fails(format!("{} without what the client needs", asked.status)),
        },
    }
}

/// The tag of a release that has an absolute address for its zip, and one that no CLI rewrites.
fn release(value: &Value) -> Option<String> {
    let zip = value.get("zipball_url")?.as_str()?;
    let usable = url::Url::parse(zip).is_ok() && !zip.contains("/repos/");
    value.get("tag_name")?.as_str().filter(|_| usable).map(str::to_owned)
}

fn rows(value: &Value) -> Option<String> {
    value.as_array().map(|rows| format!("{} rows", rows.len()))
}
