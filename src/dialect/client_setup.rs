//! The settings that make each client use the mirror.

use std::{borrow::Cow, net::IpAddr};

use serde::Serialize;

use super::ExampleTarget;

/// How to set up one client for one purpose.
#[derive(Debug, Serialize)]
pub struct ClientSetup {
    /// The client.
    pub client: &'static str,
    /// The purpose.
    pub purpose: &'static str,
    /// Shell commands, or lines for a file.
    pub lines: Vec<String>,
    /// Conditions and limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// For clients that send no token.
const NOTE_WITHOUT_TOKEN: &str =
    "it sends no token: of a mirror that wants one it gets only what has anonymous = true in [[access.rules]]";
/// For clients that send one.
const NOTE_WITH_TOKEN: &str = "where the mirror wants a token (`srm-mirror token create --name NAME`, on the mirror):";

/// All setups, the simplest of each client first. `address` is the mirror's; `None` when its host cannot be resolved.
pub fn client_setups(target: &ExampleTarget, address: Option<IpAddr>) -> Vec<ClientSetup> {
    let base = &target.base;
    let zip = target.zip_url();
    let version = target.version();
    let name = target.base_name();
    let v3 = target.v3_name();
    let ip = address.map_or_else(|| "ADDRESS-OF-THE-MIRROR".to_owned(), |address| address.to_string());
    let hosts = |name: &str| format!("echo '{ip} {name}' | sudo tee -a /etc/hosts");
    let component = shell_word(&v3);
    let component_version = format!("{v3}@{version}");
    let trust = "export NODE_EXTRA_CA_CERTS=/path/to/ca.pem".to_owned();
    vec![
        ClientSetup {
            client: "s 3",
            purpose: "components, plugins, updates, registry list and detail",
            lines: vec![
                format!("s set registry {}", shell_word(&format!("{base}/v3"))),
                format!("#   in s.yaml:   component: {component}"),
                format!("#   one version: component: {}", shell_word(&component_version)),
            ],
            notes: vec![
                match target.owner() {
                    None => format!("srm-mirror route {name}, on the mirror, says where it comes from"),
                    Some(_) => format!(
                        "this is the repository as it is: a component runs from it only if it has its build; component: {name} is what was built"
                    ),
                },
                "where the mirror wants a token (`srm-mirror token create --name NAME --cli`, on the mirror):".into(),
                "s registry login --token TOKEN".into(),
            ],
        },
        ClientSetup {
            client: "s 3",
            purpose: "one component by its URL, without any setting",
            lines: vec![format!(
                "#   in s.yaml:   component: {}",
                shell_word(&format!("{zip}#{}", fragment(name, &version)))
            )],
            notes: vec![
                "keep the part after #: the CLI names its cache folder after it; without it all packages of a version share one"
                    .into(),
                NOTE_WITHOUT_TOKEN.into(),
            ],
        },
        ClientSetup {
            client: "s 3",
            purpose: "init of an application by its URL",
            lines: vec![format!("s init --uri {}", shell_word(&zip))],
            notes: vec![NOTE_WITHOUT_TOKEN.into()],
        },
        ClientSetup {
            client: "s 3",
            purpose: "init of an application by its name",
            lines: vec![hosts("api.devsapp.cn"), trust.clone(), format!("s init {component}")],
            notes: vec![
                "the CLI always uses https://api.devsapp.cn for this: the mirror must listen on port 443 with a certificate".into(),
                "for that name (`srm-mirror tls init --name api.devsapp.cn`)".into(),
            ],
        },
        ClientSetup {
            client: "s 2",
            purpose: "components and init",
            lines: vec![hosts("registry.devsapp.cn"), trust],
            notes: vec![
                "the CLI has its registries built in: the mirror must listen on port 80, and on port 443 with a".into(),
                "certificate for registry.devsapp.cn (`srm-mirror tls init`); devsapp/core, which every component needs, comes".into(),
                "from the official 2.x registry (upstream official-2x), as do the components themselves".into(),
                NOTE_WITHOUT_TOKEN.into(),
            ],
        },
        octokit(target),
        py_github(target),
        ClientSetup {
            client: "curl",
            purpose: "a zip; an interrupted download resumes",
            lines: vec![format!("curl -f -C - -o {} {}", file_name(name, &version), shell_word(&zip))],
            notes: vec![NOTE_WITH_TOKEN.into(), "-H \"Authorization: Bearer TOKEN\"".into()],
        },
    ]
}

fn octokit(target: &ExampleTarget) -> ClientSetup {
    let base = &target.base;
    let owner = target.owner().unwrap_or("OWNER");
    let repo = target.owner().map_or("REPO", |_| target.base_name());
    ClientSetup {
        client: "octokit",
        purpose: "releases and zips of a forge",
        lines: vec![
            format!("const octokit = new Octokit({{ baseUrl: \"{base}\" }})"),
            format!("await octokit.rest.repos.getLatestRelease({{ owner: \"{owner}\", repo: \"{repo}\" }})"),
        ],
        notes: vec![NOTE_WITH_TOKEN.into(), format!("new Octokit({{ baseUrl: \"{base}\", auth: \"TOKEN\" }})")],
    }
}

fn py_github(target: &ExampleTarget) -> ClientSetup {
    let base = &target.base;
    let repository = target.api_path().unwrap_or_else(|| "OWNER/REPO".to_owned());
    ClientSetup {
        client: "PyGithub",
        purpose: "releases and zips of a forge",
        lines: vec![format!("Github(base_url=\"{base}/api/v3\").get_repo(\"{repository}\").get_latest_release()")],
        notes: vec![NOTE_WITH_TOKEN.into(), format!("Github(auth=Auth.Token(\"TOKEN\"), base_url=\"{base}/api/v3\")")],
    }
}

/// A text as one word of a shell, which is one value of YAML, too: as it is where no character has a meaning, else in single
/// quotation marks. A quotation mark within it is percent-encoded: no name, version or URL of an example has one.
pub(crate) fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@%+,=#~".contains(c);
    let is_at_start = |c: char| matches!(c, '=' | '#' | '~' | '%' | '@' | '-');
    if text.chars().all(is_plain) && !text.starts_with(is_at_start) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', "%27")))
}

/// The name of a zip's file: letters, digits, dots, dashes and underscores.
fn file_name(repo: &str, version: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '-' };
    format!("{repo}-{version}.zip").chars().map(plain).collect()
}

/// The URL fragment that names the cache folder of the CLI: unique for package and version, without a dot.
fn fragment(repo: &str, version: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("/{repo}-{version}").chars().enumerate().map(|(at, c)| if at == 0 { c } else { plain(c) }).collect()
}
