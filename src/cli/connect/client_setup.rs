//! What each client must be told.

use std::net::SocketAddr;

use serde::Serialize;

use super::ExampleTarget;

/// How one client comes to the mirror.
#[derive(Debug, Serialize)]
pub(super) struct ClientSetup {
    /// The client.
    pub(super) client: &'static str,
    /// What it is good for.
    pub(super) purpose: &'static str,
    /// What to type or write.
    pub(super) lines: Vec<String>,
    /// What to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// Every way there is, the shortest first. `address` is the mirror's, where it is known.
pub(super) fn all(subject: &ExampleTarget, address: Option<SocketAddr>) -> Vec<ClientSetup> {
    let base = &subject.base;
    let zip = subject.zip();
    let version = subject.version();
    let owner = subject.owner();
    let repo = subject.repo();
    let v3 = subject.v3_name();
    let ip = address.map_or_else(|| "ADDRESS-OF-THE-MIRROR".to_owned(), |address| address.ip().to_string());
    let hosts = |name: &str| format!("echo '{ip} {name}' | sudo tee -a /etc/hosts");
    let trust = "export NODE_EXTRA_CA_CERTS=/path/to/ca.pem".to_owned();
    vec![
        ClientSetup {
            client: "s 3",
            purpose: "components, plugins, updates, registry list and detail",
            lines: vec![
                format!("s set registry {base}/v3"),
                format!("#   in s.yaml:   component: {v3}"),
                format!("#   one version: component: {v3}@{version}"),
            ],
            notes: vec![format!(
                "a plain name (component: {repo}) needs names.default_owner = \"{owner}\" or an alias on the mirror"
            )],
        },
        ClientSetup {
            client: "s 3",
            purpose: "one component by its address, without any setting",
            lines: vec![format!("#   in s.yaml:   component: {zip}#{}", fragment(repo, version))],
            notes: vec![
                "keep what follows #: the CLI names its cache folder after it, else all packages of one version share one"
                    .into(),
            ],
        },
        ClientSetup {
            client: "s 3",
            purpose: "init of an application by its address",
            lines: vec![format!("s init --uri {zip}")],
            notes: vec![],
        },
        ClientSetup {
            client: "s 3",
            purpose: "init of an application by its name",
            lines: vec![hosts("api.devsapp.cn"), trust.clone(), format!("s init {v3}")],
            notes: vec![
                "the CLI asks https://api.devsapp.cn whatever its registry is: the mirror must listen on port 443 with".into(),
                "a certificate for that name, which `srm-mirror tls init --name api.devsapp.cn` makes".into(),
            ],
        },
        ClientSetup {
            client: "s 2",
            purpose: "components and init",
            lines: vec![hosts("registry.devsapp.cn"), trust],
            notes: vec![
                "the CLI has its registries built in: the mirror must listen on port 80, and on port 443 with a".into(),
                "certificate for registry.devsapp.cn (`srm-mirror tls init`), whence it fetches devsapp/core; configure".into(),
                "names.default_owner = \"devsapp\" and names.aliases.\"devsapp/core\" = \"Serverless-Devs/core\"".into(),
            ],
        },
        ClientSetup {
            client: "octokit",
            purpose: "releases and zips",
            lines: vec![
                format!("const octokit = new Octokit({{ baseUrl: \"{base}\" }})"),
                format!("await octokit.rest.repos.getLatestRelease({{ owner: \"{owner}\", repo: \"{repo}\" }})"),
            ],
            notes: vec![],
        },
        ClientSetup {
            client: "PyGithub",
            purpose: "releases and zips",
            lines: vec![format!(
                "Github(base_url=\"{base}/api/v3\").get_repo(\"{}\").get_latest_release()",
                subject.api_path()
            )],
            notes: vec![],
        },
        ClientSetup {
            client: "curl",
            purpose: "a zip, resumed where it was broken off",
            lines: vec![format!("curl -f -C - -o {repo}-{}.zip {zip}", version.replace('/', "-"))],
            notes: vec![],
        },
    ]
}

/// What the CLI shall call the folder: its own for each package and version, with no dot in it.
fn fragment(repo: &str, version: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("/{repo}-{version}").chars().enumerate().map(|(at, c)| if at == 0 { c } else { plain(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(package: &str) -> String {
        let url = "https://mirror.example/srm/".parse().expect("address");
        let subject = ExampleTarget::read(&url, package).expect(package);
        let address = Some(([192, 0, 2, 7], 443).into());
        all(&subject, address).iter().flat_map(|way| way.lines.clone()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_lines_are_those_of_the_mirror_and_the_package() {
        let text = lines("devsapp/fc3@1.2.3");
        for line in [
            "s set registry https://mirror.example/srm/v3\n",
            "component: devsapp__fc3@1.2.3\n",
            "component: https://mirror.example/srm/devsapp/fc3/zipball/1.2.3#/fc3-1-2-3\n",
            "s init --uri https://mirror.example/srm/devsapp/fc3/zipball/1.2.3\n",
            "echo '192.0.2.7 registry.devsapp.cn' |",
            "baseUrl: \"https://mirror.example/srm\"",
            "base_url=\"https://mirror.example/srm/api/v3\").get_repo(\"devsapp/fc3\")",
            "-o fc3-1.2.3.zip https://mirror.example/srm/devsapp/fc3/zipball/1.2.3",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }

    #[test]
    fn two_packages_of_one_version_do_not_share_a_folder_of_the_cli() {
        let folder = |package: &str| {
            let text = lines(package);
            let url = text.lines().find(|line| line.contains('#') && line.contains("/zipball/")).expect("a line");
            // What the CLI does: the last segment up to its first dot.
            let last = url.rsplit('/').next().expect("a segment");
            last.split('.').next().expect("a part").to_owned()
        };
        assert_eq!(folder("devsapp/fc3@1.2.3"), "fc3-1-2-3");
        assert_eq!(folder("devsapp/web.site@v1.2.3"), "web-site-v1-2-3");
        assert_ne!(folder("devsapp/fc3@1.2.3"), folder("devsapp/fc@1.2.3"));
    }

    #[test]
    fn a_package_of_another_upstream_has_its_name_in_front() {
        let text = lines("gitee:devsapp/fc3@1.0.0");
        assert!(text.contains("/srm/gitee/devsapp/fc3/zipball/1.0.0"), "{text}");
        assert!(text.contains("component: gitee__devsapp__fc3@1.0.0"), "{text}");
        for wrong in ["fc3", "a/b@", "a b/c", "http://x/y"] {
            assert!(ExampleTarget::read(&"http://m".parse().expect("address"), wrong).is_err(), "{wrong}");
        }
    }
}
