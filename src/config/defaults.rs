//! The upstreams there are without any configuration.
//!
//! This is the seam to the forge modules: what stands here is a copy of what `upstream::defaults()` says.

use std::collections::BTreeMap;

use crate::{
    upstream::{self, Kind},
    value::{BaseUrl, ByteSize, Period},
};

/// The default upstreams by name: the one upstream of each kind, named like it.
pub(super) fn upstreams() -> BTreeMap<String, upstream::Config> {
    let github = ("github", Kind::Github, "https://api.github.com", "https://github.com", "GITHUB_TOKEN");
    let gitee = ("gitee", Kind::Gitee, "https://gitee.com/api/v5", "https://gitee.com", "GITEE_TOKEN");
    let hosts: [&[&str]; 2] = [&["codeload.github.com"], &["gitee.com", "*.gitee.com", "*.giteeusercontent.com"]];
    [github, gitee]
        .into_iter()
        .zip(hosts)
        .filter_map(|((name, kind, api, web, token), hosts)| {
            let (api, web): (BaseUrl, BaseUrl) = (api.parse().ok()?, web.parse().ok()?);
            let config = upstream::Config {
                kind,
                api,
                web,
                token_env: Some(token.to_owned()),
                token_file: None,
                redirect_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
                connect_timeout: Period::secs(10),
                response_timeout: Period::secs(15),
                idle_timeout: Period::secs(30),
                concurrency: 32,
                document_limit: ByteSize::mib(64),
                proxy: None,
                no_proxy: None,
                ca_file: None,
                address: None,
                full_walk: Period::mins(60),
            };
            Some((name.to_owned(), config))
        })
        .collect()
}
