use std::{fs, path::PathBuf};

use super::{schema::ExampleKeys, *};
use crate::{upstream::CredentialSource, value::BaseUrl};

mod access_tables;
mod credentials;
mod examples;
mod routes;
mod sharing;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

/// Loads a `mirror.toml` with this text, with these variables and no flags.
fn loaded(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    merge(layers::of_text(Path::new("mirror.toml"), text)?, &environment(variables), &[])
}

fn error_of(text: &str, variables: &[(&str, &str)]) -> String {
    loaded(text, variables).expect_err(text).to_string()
}

#[test]
fn config_example_uncommented_equals_the_defaults() {
    let example: Config =
        toml::from_str(&schema::uncommented(EXAMPLE_CONFIG, ExampleKeys::WithDefault)).expect("the example parses");
    assert_eq!(example, Config::default());
    let all: toml::Table =
        toml::from_str(&schema::uncommented(EXAMPLE_CONFIG, ExampleKeys::All)).expect("its optional keys are TOML");
    let all = Config::deserialize(hosting::from_upstreams(all)).expect("its optional keys parse");
    assert_eq!(all.hosted.as_ref().expect("a section").quota, ByteSize::gib(50));
    assert!(all.server.public_url.is_some() && all.upstreams["github"].proxy.is_some());
}

#[test]
fn config_example_has_every_key_of_every_section() {
    let tree = toml::Table::try_from(Config::default()).expect("serialises");
    // The keys of these two are names that the user chooses.
    let sections =
        tree.iter().filter(|(key, value)| !["upstreams", "required"].contains(&key.as_str()) && value.is_table());
    let sections = sections.map(|(key, _)| vec![key.clone()]);
    let below = [["upstreams", "github"], ["server", "tls"]].map(|path| path.map(str::to_owned).to_vec());
    for section in sections.chain([vec![]]).chain(below) {
        // Serde lists all fields in its error for an unknown one.
        let table = section.iter().try_fold(&tree, |table, part| table.get(part)?.as_table());
        let mut settings = layers::of_tree(tree.clone(), &SettingSource::Default);
        let unknown = Setting { value: 1.into(), source: SettingSource::Default };
        settings.insert([section.clone(), vec!["zzz".into()]].concat(), unknown);
        let error = Config::deserialize(layers::to_tree(&settings)).expect_err("an unknown field");
        let fields: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
        assert!(fields.len() >= table.expect("a section").len(), "{error}");
        // In the file, the section of published packages is [upstreams.hosted].
        for field in fields.into_iter().filter(|field| *field != crate::dialect::HOSTED) {
            let key = [section.clone(), vec![field.to_owned()]].concat();
            assert_ne!(schema::find(&key), schema::SchemaItem::Unknown, "{key:?} is not in config.example.toml");
        }
    }
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("m.toml");
    fs::write(&file, "[server]\nlisten = [\"127.0.0.1:1\"]\nmax_connections = 1\ndrain = \"1s\"\n").expect("a file");
    let variables = environment(&[
        ("SRM_MIRROR__SERVER__LISTEN", "127.0.0.1:2, 127.0.0.1:3"),
        ("SRM_MIRROR__SERVER__MAX_CONNECTIONS", "2"),
        ("SRM_MIRROR_SERVICE_HOST", "10.0.0.1"),
    ]);
    let value = toml::Value::from(vec!["127.0.0.1:4"]);
    let flags = [Flag { name: "--listen", key: "server.listen", value }];
    let loaded = load(Some(&file), &variables, &flags).expect("valid");
    let server = &loaded.config.server;
    assert_eq!(server.listen, ["127.0.0.1:4".parse().expect("address")]);
    assert_eq!((server.max_connections, server.drain.to_string().as_str()), (2, "1s"));
    assert_eq!(loaded.source(&["server", "listen"]), &SettingSource::Flag("--listen"));
    assert_eq!(
        loaded.source(&["server", "max_connections"]),
        &SettingSource::Variable("SRM_MIRROR__SERVER__MAX_CONNECTIONS".into())
    );
    assert_eq!(loaded.source(&["server", "drain"]), &SettingSource::File(file, 4));
    assert_eq!(loaded.source(&["server", "header_limit"]), &SettingSource::Default);
}

#[test]
fn a_list_in_a_variable_is_toml_or_comma_separated() {
    for text in ["a/*, b/c", "[\"a/*\", \"b/c\"]"] {
        let loaded = loaded("", &[("SRM_MIRROR__PACKAGES__ALLOW", text)]).expect(text);
        assert_eq!(loaded.config.packages.allow, ["a/*", "b/c"]);
    }
    let aliases = loaded(
        "",
        &[
            ("SRM_MIRROR__NAMES__ALIASES", "{\"devsapp/core\" = \"gitee:a/b\"}"),
            ("SRM_MIRROR__NAMES__ALIASES__FC3", "devsapp/fc3"),
            ("SRM_MIRROR__DISK__LIMIT", "\"9GiB\""),
        ],
    );
    let config = aliases.expect("valid").config;
    assert_eq!(config.names.aliases.len(), 2);
    assert_eq!(config.disk.limit, ByteSize::gib(9));
}

#[test]
fn an_invalid_value_is_reported_with_key_place_reason_and_example() {
    for (text, message) in [
        (
            "[disk]\nlimit = \"50 parsecs\"",
            "config: disk.limit = \"50 parsecs\" (mirror.toml:2): not a size; write a whole number with a unit; for \
             example \"50GiB\"",
        ),
        (
            "[server]\nlisten = [\"localhost\"]",
            "config: server.listen = [\"localhost\"] (mirror.toml:2): not an IP address with a port; for example \
             [\"127.0.0.1:8080\"]",
        ),
        (
            "server.max_connections = \"many\"",
            "config: server.max_connections = \"many\" (mirror.toml:1): must be a whole number without quotes; for \
             example 4096",
        ),
        (
            "packages.private = \"show\"",
            "config: packages.private = \"show\" (mirror.toml:1): must be \"refuse\" or \"serve\"; for example \
             \"refuse\"",
        ),
        ("disk.limt = 1", "config: disk.limt (mirror.toml:1): no such key; did you mean disk.limit?"),
        ("[disk]\n\n[serwer]", "config: serwer (mirror.toml:3): no such key; did you mean server?"),
        (
            "[upstreams.github]\ntimeout = 1",
            "config: upstreams.github.timeout (mirror.toml:2): no such key; config.example.toml lists all keys",
        ),
        (
            "[names]\ndefault_upstream = \"gihub\"",
            "config: names.default_upstream = \"gihub\" (mirror.toml:2): no such upstream; the upstreams are gitee, \
             github, official, official-2x; did you mean \"github\"?",
        ),
        ("a = [1", "config: mirror.toml:1: not TOML: unclosed array, expected `]`"),
    ] {
        assert_eq!(error_of(text, &[]), message);
    }
    assert_eq!(
        error_of("", &[("SRM_MIRROR__DISK__LIMITS", "1")]),
        "config: disk.limits (SRM_MIRROR__DISK__LIMITS): no such key; did you mean disk.limit?"
    );
    let missing = load(Some(&PathBuf::from("no.toml")), &Environment::default(), &[]).expect_err("missing");
    assert_eq!(missing.to_string(), "config: no.toml: cannot be read: No such file or directory");
}

#[test]
fn every_check_reports_its_key_and_the_place() {
    for (text, key) in [
        ("server.listen = []", "server.listen"),
        ("server.known_hosts = [\"https://x\"]", "server.known_hosts"),
        ("server.trusted_proxies = [\"proxy.example\"]", "server.trusted_proxies"),
        ("server.trusted_proxies = [\"10.0.0.0/33\"]", "server.trusted_proxies"),
        ("server.listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "server.listen"),
        ("server.max_connections = 0", "server.max_connections"),
        ("server.max_connections = {}", "server.max_connections"),
        ("server.max_connections.x = 1", "server.max_connections.x"),
        ("server = 1", "server"),
        ("server.header_limit = \"1KiB\"", "server.header_limit"),
        ("server.header_timeout = \"0s\"", "server.header_timeout"),
        ("server.public_url = \"mirror\"", "server.public_url"),
        ("names.default_owner = \"a/b\"", "names.default_owner"),
        ("names.aliases.x = \"y\"", "names.aliases.x"),
        ("names.aliases.x = \"gitlab:a/y\"", "names.aliases.x"),
        ("names.aliases.simple = \"a/y\"", "names.aliases.simple"),
        ("names.aliases.github = \"a/y\"", "names.aliases.github"),
        ("names.aliases.x = \"a/y\"\nnames.aliases.X = \"a/z\"", "names.aliases.x"),
        ("names.aliases.x = \"a/y//\"", "names.aliases.x"),
        ("names.aliases.x = \"a/y//../z\"", "names.aliases.x"),
        ("names.aliases.x = \"a/y///z\"", "names.aliases.x"),
        ("names.aliases.x = \"official:y//z\"", "names.aliases.x"),
        ("names.aliases.x = \"gitlab:a/y//z\"", "names.aliases.x"),
        ("names.aliases.\"a/x\" = \"a/y//z\"", "names.aliases.\"a/x\""),
        ("packages.allow = [\"\"]", "packages.allow"),
        ("packages.allow = [\"github:fc*\"]", "packages.allow"),
        ("required.fc3 = [\"a/b/c\"]", "required.fc3"),
        ("required.\"a b\" = []", "required.\"a b\""),
        ("required.fc3 = \"fc3-domain\"", "required.fc3"),
        ("packages.deny = [\"nope:a/*\"]", "packages.deny"),
        ("packages.private_allow = [\"a/b/c\"]", "packages.private_allow"),
        ("memory.archives = \"1MiB\"\nmemory.archive_max = \"2MiB\"", "memory.archive_max"),
        ("disk.documents = \"1TiB\"", "disk.documents"),
        ("disk.limit = \"0\"", "disk.limit"),
        ("disk.scrub = \"0s\"", "disk.scrub"),
        ("upstreams.github.downloads = 0", "upstreams.github.downloads"),
        ("upstreams.github.downloads = 380", "upstreams.github.downloads"),
        ("server.client_header = \"x-real-ip\"", "server.client_header"),
        ("server.trusted_proxies = [\"127.0.0.1\"]\nserver.client_header = \"x y\"", "server.client_header"),
        ("log.level = \"inof\"", "log.level"),
        ("[upstreams.x]", "upstreams.x.kind"),
        ("upstreams.x.kind = \"gitlab\"", "upstreams.x.kind"),
        ("upstreams.My_Forge.kind = \"gitee\"", "upstreams.My_Forge"),
        ("upstreams.api.kind = \"gitee\"", "upstreams.api"),
        ("upstreams.github.api = \"ftp://x\"", "upstreams.github.api"),
        ("upstreams.official.moving = [\"1.*\"]", "upstreams.official.moving"),
        ("upstreams.github.moving = [\"a b\"]", "upstreams.github.moving"),
        ("upstreams.github.concurrency = 0", "upstreams.github.concurrency"),
        ("upstreams.github.idle_timeout = \"0s\"", "upstreams.github.idle_timeout"),
        ("upstreams.github.redirect_hosts = [\"https://x\"]", "upstreams.github.redirect_hosts"),
        ("upstreams.github.proxy = \"ftp://p\"", "upstreams.github.proxy"),
        ("upstreams.github.ca_file = \"no.pem\"", "upstreams.github.ca_file"),
        ("upstreams.github.token_file = \"no.token\"", "upstreams.github.token_file"),
        ("upstreams.github.token_env = \"A B\"", "upstreams.github.token_env"),
        ("upstreams.github.address = \"1.2.3.4\"", "upstreams.github.address"),
    ] {
        let message = error_of(text, &[]);
        assert!(message.starts_with(&format!("config: {key} ")), "{text}\n{message}");
        assert!(message.contains("(mirror.toml:"), "{text}\n{message}");
    }
}

#[test]
fn a_row_of_required_packages_replaces_the_default_of_its_name_only() {
    let loaded = loaded("[required]\nfc3 = []\nshop = [\"acme/base\"]", &[("SRM_MIRROR__REQUIRED__DOMAIN", "x,y")]);
    let config = loaded.expect("valid").config;
    assert_eq!(config.required.of("fc3", false), Vec::<&str>::new());
    assert_eq!(config.required.of("shop", false), ["acme/base"]);
    assert_eq!(config.required.of("domain", false), ["x", "y"]);
    assert_eq!(config.required.of("agentrun", false), ["fc3", "fc3-domain"]);
}

#[test]
fn valid_proxies_hosts_and_patterns_are_accepted() {
    for proxy in ["http://p:3128", "https://u:p@p", "socks5://127.0.0.1:1080", "socks5h://p"] {
        loaded(&format!("upstreams.github.proxy = \"{proxy}\""), &[]).expect(proxy);
    }
    loaded("upstreams.github.redirect_hosts = [\"a.b\", \"*.a.b\", \"127.0.0.1:80\", \"[::1]:80\"]", &[])
        .expect("hosts");
    loaded("packages.allow = [\"*\", \"*/*\", \"DevsApp/fc?\", \"gitee:a/*-b\", \"fc*\", \"git*:*\"]", &[])
        .expect("patterns");
}

#[test]
fn a_new_upstream_takes_the_defaults_of_its_kind_but_not_its_token() {
    let text =
        "[upstreams.corp]\nkind = \"gitee\"\napi = \"https://git.corp/api/v5\"\n[upstreams.twin]\nkind=\"github\"";
    let variables =
        [("GITEE_TOKEN", "t0k3n"), ("GITHUB_TOKEN", "t0k3n"), ("SRM_MIRROR__UPSTREAMS__TWIN__FULL_WALK", "2h")];
    let loaded = loaded(text, &variables).expect("valid");
    let corp = &loaded.config.upstreams["corp"];
    let web = corp.web.as_ref().map(BaseUrl::as_str);
    assert_eq!((web, corp.token_env.as_deref()), (Some("https://git.corp"), None));
    assert_eq!(corp.redirect_hosts, loaded.config.upstreams["gitee"].redirect_hosts);
    let with_token: Vec<&str> =
        loaded.credentials.iter().filter(|(_, all)| !all.is_empty()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(with_token, ["gitee", "github", "twin"]);
    assert_eq!(loaded.config.upstreams["twin"].full_walk, crate::value::Period::mins(120));
}

#[test]
fn a_new_registry_takes_the_defaults_of_its_kind_and_has_no_web_pages() {
    let text = "[upstreams.corp]\nkind = \"v3\"\napi = \"https://packages.corp/v3\"";
    let variables = [("SRM_MIRROR__UPSTREAMS__OFFICIAL_2X__ADDRESS", "192.0.2.1:443")];
    let loaded = loaded(text, &variables).expect("valid");
    let corp = &loaded.config.upstreams["corp"];
    assert_eq!((corp.web.as_ref(), corp.moving.as_slice()), (None, ["dev".to_owned(), "dev.*".to_owned()].as_slice()));
    assert_eq!(corp.redirect_hosts, ["*.aliyuncs.com"]);
    assert!(loaded.config.upstreams["official-2x"].address.is_some());
    let refused = error_of("[upstreams.x]\nkind = \"official\"", &[]);
    assert!(refused.contains("the kinds are github, gitee, v3, simple"), "{refused}");
}

#[test]
fn the_api_of_a_default_upstream_moves_its_web_pages_and_keeps_its_token() {
    let loaded =
        loaded("", &[("SRM_MIRROR__UPSTREAMS__GITEE__API", "http://127.0.0.1:9/api/v5"), ("GITEE_TOKEN", "x")]);
    let loaded = loaded.expect("valid");
    let web = loaded.config.upstreams["gitee"].web.as_ref().map(BaseUrl::as_str);
    assert_eq!(web, Some("http://127.0.0.1:9"));
    assert_eq!(loaded.credentials["gitee"].len(), 1);
}

#[test]
fn a_derived_default_never_conflicts_with_a_set_value() {
    let loaded = loaded("disk.limit = \"100MiB\"\nmemory.archives = \"0\"", &[]).expect("valid");
    assert_eq!(loaded.config.disk.documents, ByteSize::mib(25));
    assert_eq!(loaded.config.memory.archive_max, ByteSize(0));
    assert_eq!(loaded.source(&["disk", "documents"]), &SettingSource::Derived("disk.limit"));
    assert_eq!(loaded.warnings().len(), 1, "archives.max_size is larger than the disk");
}

#[test]
fn a_token_file_wins_over_the_variable_and_the_token_is_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    fs::write(&file, "from-file\n").expect("a file");
    let text = format!("upstreams.github.token_file = {:?}\nupstreams.gitee.proxy = \"http://me:hush@p\"", file);
    let loaded = loaded(&text, &[("GITHUB_TOKEN", "from-variable"), ("GITEE_TOKEN", "")]).expect("valid");
    let labels: Vec<&str> = loaded.credentials["github"].iter().map(CredentialSource::label).collect();
    assert_eq!(labels, ["token"], "the file's name");
    assert!(loaded.credentials["gitee"].is_empty());
    let shown = format!("{loaded:?}{}", loaded.show());
    for secret in ["from-file", "from-variable"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!loaded.show().contains("hush"), "{}", loaded.show());
}

#[test]
fn an_error_about_a_misplaced_token_does_not_repeat_the_token() {
    for text in [
        "upstreams.github.token_env = \"ghp_hush\"",
        "upstreams.github.token = \"hush\"",
        "upstreams.github.proxy = \"ftp://me:hush@p\"",
    ] {
        let message = error_of(text, &[]);
        assert!(!message.contains("hush"), "{message}");
    }
    let message = error_of("", &[("GITHUB_TOKEN", "hu sh\u{7f}")]);
    assert!(
        message.contains("upstreams.github.token_env = \"GITHUB_TOKEN\"") && !message.contains("hu sh"),
        "{message}"
    );
}

#[test]
fn private_repositories_are_not_served_to_a_network_by_accident() {
    let known = "known_hosts = [\"mirror.example\"]\n";
    let text = format!("[server]\nlisten = [\"0.0.0.0:80\"]\n{known}[packages]\nprivate = \"serve\"");
    let text = text.as_str();
    let token = [("GITHUB_TOKEN", "x")];
    let message = error_of(text, &token);
    for part in ["packages.private = \"serve\" (mirror.toml:5)", "0.0.0.0:80", "github", "packages.allow"] {
        assert!(message.contains(part), "{message}");
    }
    loaded(text, &[]).expect("without a token no private repository is readable");
    loaded(&format!("{text}\nallow = [\"acme/*\"]"), &token).expect("a list of packages is explicit");
    loaded(&text.replace("0.0.0.0", "[::ffff:127.0.0.1]"), &token).expect("loopback only");
    loaded(&format!("{text}\n[access]\nenabled = true"), &token).expect("rules for callers decide");
    loaded(&text.replace("\"serve\"", "\"refuse\""), &token).expect("private repositories are refused");
    for (text, key) in [
        ("packages.private = \"serve\"", "packages.private"),
        ("packages.private_allow = [\"acme/*\"]", "packages.private_allow"),
    ] {
        let message = error_of(text, &[]);
        assert!(message.contains(key) && message.contains("server.known_hosts"), "{message}");
    }
}

#[test]
fn a_rule_for_callers_that_cannot_be_used_is_named_with_its_table_and_key() {
    let rules = |rule: &str| format!("[access]\nenabled = true\n[[access.rules]]\n{rule}");
    for (text, parts) in [
        (rules("packages = [\"*\"]\nread = [\"ci\"]"), &["access.rules[1].read", "mirror.toml:3", "token:ci"][..]),
        (rules("packages = [\"*\"]\nreed = [\"*\"]"), &["did you mean read?"]),
        (rules("packages = \"*\"\nread = [\"*\"]"), &["access.rules[1].packages", "a list of strings"]),
        (rules("packages = [\"*\"]"), &["gives no right to anyone"]),
        (rules("read = [\"*\"]"), &["packages is missing"]),
        (rules("packages = [\"*\"]\nread = [\"group:ops\"]"), &["no group is called so"]),
        ("[[access.rules]]\npackages = [\"*\"]\nread = [\"*\"]".to_owned(), &["no effect without enabled"]),
        ("[access.groups]\ndev = [\"group:x\"]".to_owned(), &["access.groups.dev", "not groups"]),
        ("access.metrics = [\"me\"]".to_owned(), &["access.metrics", "token:ci"]),
        ("packages.deny = [\"a/b@\"]".to_owned(), &["packages.deny", "fc3@>=1.2, <1.4"]),
        ("packages.private_allow = [\"a/b@1\"]".to_owned(), &["packages.private_allow", "names a version"]),
        ("packages.min_age_for = [{ packages = \"a/b@1\", age = \"1d\" }]".to_owned(), &["packages.min_age_for"]),
    ] {
        let message = error_of(&text, &[]);
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
    }
    loaded(&rules("packages = [\"*\"]\nread = [\"*\"]\nanonymous = true"), &[]).expect("valid");
    loaded("packages.min_age_for = [{ packages = \"a/*\", age = \"1d\" }]", &[]).expect("valid");
}

#[test]
fn the_output_of_config_show_loads_to_the_same_configuration() {
    let first =
        loaded("[names.aliases]\n\"devsapp/core\" = \"a/b\"\n[upstreams.x]\nkind = \"gitee\"", &[]).expect("valid");
    let shown = first.show();
    assert_eq!(loaded(&shown, &[]).expect("loads").config, first.config, "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("\"devsapp/core\" = \"a/b\"") && line.ends_with("mirror.toml:2"))
    );
    assert!(shown.lines().any(|line| line.starts_with("# public_url") && line.ends_with("# not set")), "{shown}");
    assert!(shown.contains("# default; holds no token"), "{shown}");
}

#[test]
fn published_packages_need_rules_and_a_directory_of_their_own() {
    let rules = "[access]\nenabled = true\n[[access.rules]]\npackages = [\"*\"]\nread = [\"*\"]\n";
    let cache = "[disk]\ndir = \"/x/cache\"\n";
    let loaded_config = loaded(&format!("[upstreams.hosted]\n{rules}{cache}"), &[]).expect("valid");
    let hosted = loaded_config.config.hosted.as_ref().expect("a section");
    assert_eq!(hosted.dir.as_deref(), Some(Path::new("/x/cache-hosted")));
    let shown = loaded(&loaded_config.show(), &[]).expect("what is shown loads");
    assert_eq!(shown.config.hosted, loaded_config.config.hosted);
    for (text, says) in [
        ("[upstreams.hosted]\n".to_owned(), "upstreams.hosted.kind"),
        (format!("[upstreams.hosted]\ndir = \"/x/cache/hosted\"\n{rules}{cache}"), "upstreams.hosted.dir"),
        (format!("[upstreams.hosted]\nquota = \"0B\"\n{rules}"), "upstreams.hosted.quota"),
        (format!("[upstreams.hosted]\napi = \"https://x\"\n{rules}"), "upstreams.hosted"),
        ("[host]\nnames = [\"acme-*\"]\n".to_owned(), "host.names"),
        (format!("[upstreams.hosted]\n[host]\nnames = [\"acme/*\"]\n{rules}"), "host.names"),
        (format!("[upstreams.hosted]\n[host]\nclaim = [\"fc*\"]\n{rules}"), "host.claim"),
        (
            format!("[upstreams.hosted]\n[host]\nclaim = [\"fc3\"]\n[names.aliases]\nfc3 = \"devsapp/fc3\"\n{rules}"),
            "host.claim",
        ),
    ] {
        let error = error_of(&text, &[]);
        assert!(error.contains(says), "{text}\n{error}");
    }
}
