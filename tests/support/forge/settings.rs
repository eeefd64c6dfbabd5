//! What a mirror's configuration says to reach the forge.

use super::Forge;

/// The keys of one `[upstreams.NAME]` section.
pub struct Section {
    pub name: &'static str,
    pub api: String,
    /// The address of the web pages, where they have one.
    pub web: Option<String>,
    /// The host that zips are redirected to.
    pub redirect_host: String,
}

impl Forge {
    /// The sections of all upstreams, by their default names.
    pub fn sections(&self) -> [Section; 4] {
        let web = self.gitee_web();
        let section = |name, api, redirect_host| Section { name, api, web: None, redirect_host };
        [
            section("github", self.github_api(), self.archive_host()),
            Section {
                web: Some(web.clone()),
                ..section("gitee", self.gitee_api(), web.trim_start_matches("http://").to_owned())
            },
            section("official", self.v3_api(), self.storage_host()),
            section("official-2x", self.simple_api(), self.storage_host()),
        ]
    }
}
