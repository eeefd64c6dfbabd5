//! The mirror and the package of the examples: for a mirror whose configuration is not known.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use url::Host;

use crate::{
    app::{NamedUpstream, Names},
    config::Config,
    dialect::{ExampleTarget, OfficialRoutes},
    value::BaseUrl,
};

/// The value of `--package` cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("--package {text}: {reason}; write for example fc3, devsapp/fc3 or official:fc3@0.1.22")]
pub(super) struct PackageArgError {
    text: String,
    reason: String,
}

/// Parses `name[@version]`, where the name is plain or `owner/repo`, with or without its upstream.
///
/// # Errors
/// When the text is none of these.
pub(super) fn parse(url: &BaseUrl, text: &str) -> Result<ExampleTarget, PackageArgError> {
    let invalid = |reason: String| PackageArgError { text: text.to_owned(), reason };
    let name = text.split('@').next().unwrap_or_default();
    // The mirror's configuration is unknown here: assume the default upstreams and the one in the package's name.
    let defaults = Config::default();
    let mut upstreams = defaults.named_upstreams();
    if let Some((upstream, name)) = name.split_once(':')
        && !upstreams.iter().any(|known| *known.name == *upstream)
    {
        let is_forge = name.contains('/');
        upstreams.push(if is_forge { NamedUpstream::forge(upstream) } else { NamedUpstream::registry(upstream, None) });
    }
    let names =
        Names::new(&defaults.names, &[], upstreams, OfficialRoutes::On).map_err(|error| invalid(error.to_string()))?;
    ExampleTarget::parse(url.as_str().to_owned(), Arc::new(names), text).map_err(|error| invalid(error.to_string()))
}

/// The mirror's IP address and port; `None` when its host name cannot be resolved.
pub(super) async fn resolve(url: &BaseUrl) -> Option<SocketAddr> {
    let port = url.url().port_or_known_default().unwrap_or(80);
    let ip = match url.url().host()? {
        Host::Ipv4(ip) => IpAddr::from(ip),
        Host::Ipv6(ip) => IpAddr::from(ip),
        Host::Domain(name) => return tokio::net::lookup_host((name, port)).await.ok()?.next(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client_setups;

    fn lines(package: &str) -> String {
        let url = "https://mirror.example/srm/".parse().expect("address");
        let target = parse(&url, package).expect(package);
        let address = Some([192, 0, 2, 7].into());
        client_setups(&target, address).iter().flat_map(|setup| setup.lines.clone()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_setup_lines_have_the_urls_of_the_mirror_and_the_package() {
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
    fn a_plain_name_is_set_up_by_the_official_forms() {
        let text = lines("fc3@0.1.22");
        for line in [
            "s set registry https://mirror.example/srm/v3\n",
            "component: fc3\n",
            "component: fc3@0.1.22\n",
            "component: https://mirror.example/srm/fc3/zipball/0.1.22#/fc3-0-1-22\n",
            "s init fc3\n",
            "getLatestRelease({ owner: \"OWNER\", repo: \"REPO\" })",
            "get_repo(\"OWNER/REPO\")",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
        let registry = lines("corp:tool");
        assert!(registry.contains("/srm/corp/tool/zipball/VERSION#") && registry.contains("component: corp__tool\n"));
    }

    #[test]
    fn no_line_runs_what_a_version_says() {
        for version in
            ["1;id", "$(id)", "`id`", "1|id", "1&id", "1>id", "(id)", "{id,1}", "!id", "#id", "\"id\"", "初id"]
        {
            let text = lines(&format!("devsapp/fc3@{version}"));
            let with_version: Vec<_> = text.lines().filter(|line| line.contains("id")).collect();
            assert!(with_version.len() >= 4, "{text}");
            for line in with_version {
                let line = line.trim_start_matches('#');
                let bare: String = line.split('\'').step_by(2).collect();
                let is_plain = |c: char| c.is_ascii_alphanumeric() || " -._/:@%+,=#".contains(c);
                assert!(bare.chars().all(is_plain), "{line}");
            }
            let file = text.lines().find_map(|line| line.split(" -o ").nth(1)).expect("a file");
            let file = file.split(' ').next().expect("a name");
            assert!(file.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{file}");
        }
        for invalid in ["fc3@a'b", "fc3@a b", "fc3@a\nb", "fc3@..", "-x", "-x/y@1"] {
            assert!(parse(&"http://m".parse().expect("address"), invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn every_client_has_a_note_about_tokens() {
        let target = parse(&"http://m".parse().expect("address"), "fc3").expect("a package");
        for setup in client_setups(&target, None).iter().filter(|setup| !setup.purpose.ends_with("by its name")) {
            assert!(setup.notes.iter().any(|note| note.contains("token")), "{setup:?}");
        }
    }

    #[test]
    fn two_packages_of_one_version_do_not_share_a_cache_folder_of_the_cli() {
        let folder = |package: &str| {
            let text = lines(package);
            let url = text.lines().find(|line| line.contains('#') && line.contains("/zipball/")).expect("a line");
            // The CLI takes the last segment up to its first dot.
            let last = url.rsplit('/').next().expect("a segment");
            last.split('.').next().expect("a part").to_owned()
        };
        assert_eq!(folder("devsapp/fc3@1.2.3"), "fc3-1-2-3");
        assert_eq!(folder("devsapp/web.site@v1.2.3"), "web-site-v1-2-3");
        assert_ne!(folder("devsapp/fc3@1.2.3"), folder("devsapp/fc@1.2.3"));
    }

    #[test]
    fn a_package_of_another_upstream_has_the_upstream_in_its_path_and_name() {
        let text = lines("gitee:devsapp/fc3@1.0.0");
        assert!(text.contains("/srm/gitee/devsapp/fc3/zipball/1.0.0"), "{text}");
        assert!(text.contains("component: gitee__devsapp__fc3@1.0.0"), "{text}");
        for invalid in ["", "a/b@", "a b/c", "http://x/y"] {
            assert!(parse(&"http://m".parse().expect("address"), invalid).is_err(), "{invalid}");
        }
    }
}
