//! Tries each route of a running mirror as the client that uses it would.

use std::{net::SocketAddr, path::Path, time::Duration};

use percent_encoding::utf8_percent_encode;
use reqwest::{Client, header, redirect::Policy};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    cli::mirror_token::MirrorToken,
    dialect::{ExampleTarget, PATH_ENCODE_SET},
    upstream::{ca_certificates, system_roots},
};

mod request;

use request::{CheckResponse, RequestFailure};

/// Time-out of a connection.
const CHECK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time-out of one response. The mirror may have to fetch the zip from the forge first.
const CHECK_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The host that `s init NAME` of `s` 3 has built in.
const INIT_HOST: &str = "api.devsapp.cn";
/// The registry that `s` 2 has built in.
const REGISTRY_HOST: &str = "registry.devsapp.cn";

/// The reason of a route that is off for a client that sends no token.
const NO_TOKEN_REASON: &str =
    "this client sends no token, and the mirror wants one: it gets only what has anonymous = true in [[access.rules]]";

/// Nothing answers at the mirror's address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct MirrorUnreachable(pub(super) String);

/// The file given with `--ca-file` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--ca-file {file}: {reason}")]
pub(super) struct CaFileError {
    file: String,
    reason: String,
}

/// How the mirror is reached, and with which credentials.
pub(super) struct CheckAccess<'a> {
    /// Its address; `None` when its host cannot be resolved.
    pub(super) address: Option<SocketAddr>,
    /// The authority to trust besides the system's.
    pub(super) ca_file: Option<&'a Path>,
    /// The token that it wants.
    pub(super) token: Option<MirrorToken>,
}

/// The result of all checks.
pub(super) enum CheckReport {
    /// The mirror answers; one row for each route.
    Routes(Vec<RouteCheck>),
    /// Nothing answers at the mirror's address; no route was tried.
    Unreachable(MirrorUnreachable),
}

/// The result of one route.
#[derive(Debug)]
pub(super) struct RouteCheck {
    /// The client that uses the route.
    pub(super) client: &'static str,
    /// The path, or the URL where the host is not the mirror's own.
    pub(super) route: String,
    /// Whether it works.
    pub(super) state: RouteState,
}

/// Whether a route works, with details for the user.
#[derive(Debug)]
pub(super) enum RouteState {
    /// It works.
    Ok(String),
    /// This mirror does not offer it.
    Off(String),
    /// It should work and does not.
    Fails(String),
}

impl RouteState {
    /// The state in one word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Off(_) => "off",
            Self::Fails(_) => "fails",
        }
    }

    /// What the response had, or why the route does not work.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Ok(detail) | Self::Off(detail) | Self::Fails(detail) => detail,
        }
    }
}

impl Serialize for RouteCheck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("client", self.client)?;
        map.serialize_entry("route", &self.route)?;
        map.serialize_entry("state", self.state.word())?;
        map.serialize_entry("detail", self.state.detail())?;
        map.end()
    }
}

/// Tries every route, one after the other. Sets the target's version to the latest when it has none.
///
/// # Errors
/// When `--ca-file` cannot be used.
pub(super) async fn check_routes(
    target: &mut ExampleTarget,
    access: CheckAccess<'_>,
) -> Result<CheckReport, CaFileError> {
    let CheckAccess { address, ca_file, token } = access;
    let client = client(address, ca_file)?;
    let base = target.base.clone();
    let mut checker = RouteChecker { client, base, token, checks: Vec::new() };
    if let Err(unreachable) = checker.check_ready().await {
        return Ok(CheckReport::Unreachable(unreachable));
    }
    checker.check_own_routes(target).await;
    checker.check_built_in_hosts(target, address).await;
    Ok(CheckReport::Routes(checker.checks))
}

/// A client that resolves the built-in hosts to the mirror and follows no redirect.
fn client(address: Option<SocketAddr>, ca_file: Option<&Path>) -> Result<Client, CaFileError> {
    let mut builder = Client::builder()
        .user_agent(concat!("srm-mirror-connect/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CHECK_CONNECT_TIMEOUT)
        .timeout(CHECK_RESPONSE_TIMEOUT);
    if let Some(address) = address {
        for name in [INIT_HOST, REGISTRY_HOST] {
            builder = builder.resolve(name, address);
        }
    }
    let file = ca_file.map(|file| file.display().to_string()).unwrap_or_default();
    let unusable = |reason: String| CaFileError { file: file.clone(), reason };
    let mut trusted = system_roots().to_vec();
    if let Some(path) = ca_file {
        trusted.extend(ca_certificates(path).map_err(|error| unusable(error.to_string()))?);
    }
    // Every certificate was checked.
    builder.tls_certs_only(trusted).build().map_err(|_| unusable("TLS cannot be set up with it".into()))
}

/// The checks in progress.
struct RouteChecker {
    client: Client,
    base: String,
    /// Sent only to `base`.
    token: Option<MirrorToken>,
    checks: Vec<RouteCheck>,
}

impl RouteChecker {
    /// Checks that the mirror answers at all.
    ///
    /// # Errors
    /// When no connection can be established. Any other failure is a row, and the other routes are tried.
    async fn check_ready(&mut self) -> Result<(), MirrorUnreachable> {
        let state = match request::get(self.client.get(format!("{}/readyz", self.base))).await {
            Err(failure) if failure.connect_failed => {
                return Err(MirrorUnreachable(format!("{} cannot be reached: {}", self.base, failure.reason)));
            }
            Err(failure) => RouteState::Fails(failure.reason),
            Ok(response) => match response.json().get("status").and_then(Value::as_str) {
                Some(status) if response.status == 200 => RouteState::Ok(status.to_owned()),
                Some(status) => RouteState::Fails(format!("the mirror is {status}")),
                None => RouteState::Fails(format!("{}, and the body is not a mirror's", response.status)),
            },
        };
        self.add("mirror", "/readyz", state);
        Ok(())
    }

    /// Tries the routes at the mirror's own address.
    async fn check_own_routes(&mut self, target: &mut ExampleTarget) {
        let path = target.path();
        let v3 = target.v3_name();
        let latest = self.check_json("srm", &format!("{path}/releases/latest"), release_tag).await;
        let tag = if target.has_version() { Some(target.version()) } else { latest };
        if let Some(tag) = tag.as_deref().filter(|_| !target.has_version())
            && let Err(error) = target.set_version(tag)
        {
            tracing::debug!(%error, "the examples have no version");
        }
        let tag = tag.map(|tag| utf8_percent_encode(&tag, PATH_ENCODE_SET).to_string());

        let route = format!("/v3/packages/{v3}/release/latest");
        self.check_json("s 3", &route, |value| release_tag(value.get("body")?)).await;
        if let Some(tag) = &tag {
            let route = format!("/v3/packages/{v3}/release/tags/{tag}");
            self.check_json("s 3", &route, |value| release_tag(value.get("body")?)).await;
            self.check_zip("s 3 zip", &format!("/v3/packages/{v3}/zipball/{tag}")).await;
            self.check_without_token("s 3 by URL, init --uri", &format!("{path}/zipball/{tag}"), zip_detail, None)
                .await;
        }
        let route = format!("/v3/packages/{v3}/release");
        self.check_json("s 3 registry list", "/v3/packages/releases", |value| row_count(value.get("body")?)).await;
        self.check_json("s 3 registry detail", &route, |value| row_count(value.get("body")?)).await;
        let rows = |response: &CheckResponse| row_count(response.json().get("Response")?);
        self.check_without_token("s 2", &format!("/simple{path}/releases"), rows, None).await;
        let core = |response: &CheckResponse| release_tag(response.json().get("Response")?);
        let no_core = "the mirror has no devsapp/core, without which s 2 runs no component";
        self.check_without_token("s 2 core", "/simple/devsapp/core/releases/latest", core, Some(no_core)).await;
        match target.api_path() {
            Some(api) => self.check_forge_clients(&api).await,
            None => {
                let why = || RouteState::Off("it reads forges: --package owner/repo checks it".into());
                self.add("octokit", "/repos/", why());
                self.add("PyGithub", "/api/v3/repos/", why());
            }
        }
        if let Some(tag) = &tag {
            self.check_range("curl -C, wget -c", &format!("{path}/zipball/{tag}")).await;
        }
        if target.owner().is_some() {
            let route = format!("/v3/packages/{}/release/latest", target.base_name());
            let no_plain_name = "no upstream that the mirror's routes lead to has a package of this name";
            let tag = |value: &Value| release_tag(value.get("body")?);
            self.check_offer("s 3 by plain name", &route, tag, no_plain_name).await;
        }
    }

    /// Tries the routes of clients of GitHub's API.
    async fn check_forge_clients(&mut self, api: &str) {
        self.check_json("octokit", &format!("/repos/{api}/releases/latest"), release_tag).await;
        self.check_json("PyGithub", &format!("/api/v3/repos/{api}"), |value| {
            let url = value.get("url")?.as_str()?;
            url.contains("/repos/").then(|| format!("leads to {url}"))
        })
        .await;
    }

    /// Tries a JSON route that a mirror need not offer: after a 404 it is off, for the reason `absent`.
    async fn check_offer(
        &mut self,
        client: &'static str,
        route: &str,
        read: impl FnOnce(&Value) -> Option<String>,
        absent: &'static str,
    ) {
        let state = match self.get(route, &[]).await {
            Ok(response) if response.status == 404 => RouteState::Off(absent.into()),
            other => state_of(other, |response| read(&response.json())),
        };
        self.add(client, route, state);
    }

    /// Tries a route of a client that sends no token: after a 401 it is off, by the mirror's rules; with `absent` it is also
    /// off after a 404, for that reason.
    async fn check_without_token(
        &mut self,
        client: &'static str,
        route: &str,
        read: impl FnOnce(&CheckResponse) -> Option<String>,
        absent: Option<&'static str>,
    ) {
        let response = request::get(self.client.get(format!("{}{route}", self.base))).await;
        let state = match (response, absent) {
            (Ok(response), _) if response.status == 401 => RouteState::Off(NO_TOKEN_REASON.into()),
            (Ok(response), Some(absent)) if response.status == 404 => RouteState::Off(absent.into()),
            (response, _) => state_of(response, read),
        };
        self.add(client, route, state);
    }

    /// Tries the hosts that the CLIs have built in, resolved to the mirror as a hosts entry would.
    async fn check_built_in_hosts(&mut self, target: &ExampleTarget, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        let scheme = if self.base.starts_with("https:") { "https" } else { "http" };
        let simple = format!("/simple{}/releases", target.path());
        let init = format!("/v3/packages/{}/release/latest", target.v3_name());
        for (client, host, route) in [("s 2 by hosts entry", REGISTRY_HOST, simple), ("s 3 init NAME", INIT_HOST, init)]
        {
            let url = format!("{scheme}://{host}:{}{route}", address.port());
            let state = match request::get(self.client.get(&url)).await {
                Err(failure) if failure.certificate_invalid => {
                    RouteState::Off(format!("no certificate for {host} that this machine trusts"))
                }
                Ok(response) if response.status == 421 => {
                    RouteState::Off(format!("the mirror does not answer for the host {host}"))
                }
                Ok(response) if response.status == 401 && host == REGISTRY_HOST => {
                    RouteState::Off(NO_TOKEN_REASON.into())
                }
                // The token is for the mirror's own name alone.
                Ok(response) if response.status == 401 && self.token.is_some() => {
                    RouteState::Off("the mirror wants a token, which was not sent to this name".into())
                }
                // `s init NAME` uses TLS only: a mirror that answers over plain HTTP does not serve it.
                Ok(response) if response.status == 200 && host == INIT_HOST && scheme == "http" => {
                    RouteState::Off("works over HTTP, but the CLI uses TLS only: check the https URL".into())
                }
                other => state_of(other, |_| Some("answered".into())),
            };
            self.add(client, &url, state);
        }
    }

    async fn get(&self, route: &str, headers: &[(header::HeaderName, &str)]) -> Result<CheckResponse, RequestFailure> {
        let mut request = self.client.get(format!("{}{route}", self.base));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let response = request::get(MirrorToken::authorize(self.token.as_ref(), request)).await?;
        if response.status == 401 {
            let reason = MirrorToken::refusal(self.token.as_ref(), &response.error_message());
            return Err(RequestFailure::of_response(format!("401 {reason}")));
        }
        Ok(response)
    }

    /// Tries a JSON route. `read` takes what the client needs from the body; that is the row's detail and is returned.
    async fn check_json(
        &mut self,
        client: &'static str,
        route: &str,
        read: impl FnOnce(&Value) -> Option<String>,
    ) -> Option<String> {
        let state = state_of(self.get(route, &[]).await, |response| read(&response.json()));
        let detail = if let RouteState::Ok(detail) = &state { Some(detail.clone()) } else { None };
        self.add(client, route, state);
        detail
    }

    /// Tries a zip.
    async fn check_zip(&mut self, client: &'static str, route: &str) {
        let state = state_of(self.get(route, &[]).await, zip_detail);
        self.add(client, route, state);
    }

    /// Tries the beginning of a zip as a range.
    async fn check_range(&mut self, client: &'static str, route: &str) {
        let state = match self.get(route, &[(header::RANGE, "bytes=0-3")]).await {
            Ok(response) if response.status == 200 => RouteState::Fails("ranges are not served".into()),
            other => state_of(other, zip_detail),
        };
        self.add(client, route, state);
    }

    fn add(&mut self, client: &'static str, route: &str, state: RouteState) {
        self.checks.push(RouteCheck { client, route: route.to_owned(), state });
    }
}

/// The state of a route by its response. It fails, too, where `read` does not find in a success what the client needs.
fn state_of(
    response: Result<CheckResponse, RequestFailure>,
    read: impl FnOnce(&CheckResponse) -> Option<String>,
) -> RouteState {
    match response {
        Err(failure) => RouteState::Fails(failure.reason),
        Ok(response) if response.status >= 300 => {
            RouteState::Fails(format!("{} {}", response.status, response.error_message()))
        }
        Ok(response) => match read(&response) {
            Some(detail) => RouteState::Ok(detail),
            None => RouteState::Fails(format!("{} without the fields that the client needs", response.status)),
        },
    }
}

/// The detail of a zip: its cache status. `None` when the body is not a zip.
fn zip_detail(response: &CheckResponse) -> Option<String> {
    response.body.starts_with(b"PK\x03\x04").then(|| format!("a zip, {}", response.cache))
}

/// The tag of a release whose zip has an absolute URL that no CLI rewrites.
fn release_tag(value: &Value) -> Option<String> {
    let zip = value.get("zipball_url")?.as_str()?;
    let usable = url::Url::parse(zip).is_ok() && !zip.contains("/repos/");
    value.get("tag_name")?.as_str().filter(|_| usable).map(str::to_owned)
}

fn row_count(value: &Value) -> Option<String> {
    value.as_array().map(|rows| format!("{} rows", rows.len()))
}
