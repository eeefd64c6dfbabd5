//! What the program prints when it starts, and the configuration file that it writes.

use super::{
    Arguments,
    forge::{Forge, Section},
};

/// The sections that the mirror of this tree has by default.
fn sections(forge: &Forge) -> Vec<Section> {
    let known = srm_mirror::upstream::defaults();
    forge.sections().into_iter().filter(|section| known.contains_key(section.name)).collect()
}

/// A configuration file with every upstream.
pub(crate) fn config_file(forge: &Forge) -> String {
    sections(forge).iter().map(toml).collect()
}

fn toml(section: &Section) -> String {
    let web = section.web.as_ref().map(|web| format!("web = \"{web}\"\n")).unwrap_or_default();
    let hosts = &section.redirect_host;
    format!("[upstreams.{}]\napi = \"{}\"\n{web}redirect_hosts = [\"{hosts}\"]\n", section.name, section.api)
}

fn print_variables(section: &Section) {
    let prefix = format!("export SRM_MIRROR__UPSTREAMS__{}__", section.name.to_ascii_uppercase());
    println!("{prefix}API={}", section.api);
    if let Some(web) = &section.web {
        println!("{prefix}WEB={web}");
    } else {
        println!("{prefix}REDIRECT_HOSTS='[\"{}\"]'", section.redirect_host);
    }
}

/// Prints the addresses, the settings of a mirror, and some requests.
pub(crate) fn print(forge: &Forge, arguments: &Arguments) {
    println!("github api   {}", forge.github_api());
    println!("archive host http://{}", forge.archive_host());
    println!("gitee        {}", forge.gitee_api());
    println!("v3 registry  {}", forge.v3_api());
    println!("simple       {}", forge.simple_api());
    println!("storage      http://{}", forge.storage_host());
    println!("\nStart the mirror with it as upstream:\n");
    let sections = sections(forge);
    for section in sections.iter().filter(|section| !section.name.contains('-')) {
        print_variables(section);
    }
    if let Some(token) = arguments.token.first() {
        println!("export GITHUB_TOKEN={token} GITEE_TOKEN={token}");
    }
    println!("cargo run --release -- serve --cache-dir target/demo-cache\n");
    for section in sections.iter().filter(|section| section.name.contains('-')) {
        println!("A shell cannot export a name with a dash. Write this to a file for `serve --config FILE`:\n");
        println!("{}", toml(section));
    }
    println!("then request:");
    println!("  curl -i http://127.0.0.1:8080/devsapp/fc3/releases/latest");
    println!("  curl -iOJ http://127.0.0.1:8080/devsapp/fc3/zipball/v0.2.0");
    println!("  curl -o /dev/null http://127.0.0.1:8080/demo/big/zipball/v1.0.0   # {} bytes", arguments.big);
    println!("  curl -i http://127.0.0.1:8080/gitee/devsapp/start-demo/releases");
    if sections.len() > 2 {
        println!("  curl -i http://127.0.0.1:8080/v3/packages/fc3/release/latest");
        println!("  curl -i http://127.0.0.1:8080/simple/devsapp/core/releases");
    }
    if arguments.versions > 0 {
        println!("  curl -i http://127.0.0.1:8080/bench/pkg/releases   # {} versions", arguments.versions);
        if arguments.token.is_empty() && arguments.anonymous_limit < arguments.versions {
            println!("  (give --token or a larger --anonymous-limit to fetch them all within an hour)");
        }
    }
    println!("\nSHA-256 of demo/big v1.0.0: {}", forge.sha256("demo/big", "v1.0.0"));
    println!("Ctrl-C ends it.\n");
}
