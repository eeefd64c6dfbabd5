use std::{fs, path::PathBuf};

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

/// Loads `mirror.toml` of this text, with these variables and no flags.
fn loaded(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    merge(layers::of_text(Path::new("mirror.toml"), text)?, &environment(variables), &[])
}

fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    loaded(text, variables).expect_err(text).to_string()
}

#[test]
fn the_example_uncommented_is_the_default() {
    let example: Config = toml::from_str(&schema::uncommented(EXAMPLE, false)).expect("the example loads");
    assert_eq!(example, Config::default());
    let every: Config = toml::from_str(&schema::uncommented(EXAMPLE, true)).expect("its examples load");
    assert!(every.server.public_url.is_some() && every.upstreams["github"].proxy.is_some());
}

#[test]
fn the_example_has_every_key_there_is() {
    let tree = toml::Table::try_from(Config::default()).expect("serialises");
    let sections = tree.iter().filter(|(key, value)| *key != "upstreams" && value.is_table());
    let sections = sections.map(|(key, _)| vec![key.clone()]);
    let below = [["upstreams", "github"], ["server", "tls"]].map(|path| path.map(str::to_owned).to_vec());
    for section in sections.chain([vec![]]).chain(below) {
        // Serde itself tells the names of all fields when it meets one that does not exist.
        let table = section.iter().try_fold(&tree, |table, part| table.get(part)?.as_table());
        let mut leaves = layers::of_tree(tree.clone(), &Source::Default);
        let wrong = Setting { value: 1.into(), source: Source::Default };
        leaves.insert([section.clone(), vec!["zzz".into()]].concat(), wrong);
        let why = Config::deserialize(layers::to_tree(&leaves)).expect_err("refused");
        let fields: Vec<&str> = why.message().split('`').skip(3).step_by(2).collect();
        assert!(fields.len() >= table.expect("a section").len(), "{why}");
        for field in fields {
            let key = [section.clone(), vec![field.to_owned()]].concat();
            assert_ne!(schema::find(&key), schema::Kind::Unknown, "{key:?} is not in config.example.toml");
        }
    }
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("m.toml");
    fs::write(&file, "[server]\nlisten = [\"127.0.0.1:1\"]\nmax_connections = 1\ndrain = \"1s\"\n").expect("a file");
    let variables = environment(&[
        ("SRM_MIRROR__SERVER__LISTEN", "127.0.0.1:2, 127.0.0.1:3"),
        ("SRM_MIRROR__SERVER__MAX_CONNECTIONS", "2"),
        ("SRM_MIRROR_SERVICE_HOST", "10.0.0.1"),
    ]);
    let value = toml::Value::from(vec!["127.0.0.1:4"]);
    let flags = [Flag { name: "--listen", key: "server.listen", value }];
    let loaded = load(Some(&file), &variables, &flags).expect("good");
    let server = &loaded.config.server;
    assert_eq!(server.listen, ["127.0.0.1:4".parse().expect("address")]);
    assert_eq!((server.max_connections, server.drain.to_string().as_str()), (2, "1s"));
    assert_eq!(loaded.source(&["server", "listen"]), &Source::Flag("--listen"));
    assert_eq!(
        loaded.source(&["server", "max_connections"]),
        &Source::Variable("SRM_MIRROR__SERVER__MAX_CONNECTIONS".into())
    );
    assert_eq!(loaded.source(&["server", "drain"]), &Source::File(file, 4));
    assert_eq!(loaded.source(&["server", "header_limit"]), &Source::Default);
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
    let config = aliases.expect("good").config;
    assert_eq!(config.names.aliases.len(), 2);
    assert_eq!(config.disk.limit, ByteSize::gib(9));
}

#[test]
fn a_wrong_value_is_named_with_its_key_place_reason_and_example() {
    for (text, message) in [
        (
            "[disk]\nlimit = \"50 parsecs\"",
            "config: disk.limit = \"50 parsecs\" (mirror.toml:2): not a size; write a whole number with a unit, for \
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
            "config: upstreams.github.timeout (mirror.toml:2): no such key; config.example.toml has them all",
        ),
        (
            "[names]\ndefault_upstream = \"gihub\"",
            "config: names.default_upstream = \"gihub\" (mirror.toml:2): no such upstream; there are gitee, github; \
             did you mean \"github\"?",
        ),
        ("a = [1", "config: mirror.toml:1: not TOML: unclosed array, expected `]`"),
    ] {
        assert_eq!(complaint(text, &[]), message);
    }
    assert_eq!(
        complaint("", &[("SRM_MIRROR__DISK__LIMITS", "1")]),
        "config: disk.limits (SRM_MIRROR__DISK__LIMITS): no such key; did you mean disk.limit?"
    );
    let missing = load(Some(&PathBuf::from("no.toml")), &Environment::default(), &[]).expect_err("missing");
    assert_eq!(missing.to_string(), "config: no.toml: cannot be read: No such file or directory");
}

#[test]
fn every_check_names_its_key() {
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
        ("packages.allow = [\"devsapp\"]", "packages.allow"),
        ("packages.deny = [\"nope:a/*\"]", "packages.deny"),
        ("packages.private_allow = [\"a/b/c\"]", "packages.private_allow"),
        ("memory.archives = \"1MiB\"\nmemory.archive_max = \"2MiB\"", "memory.archive_max"),
        ("disk.documents = \"1TiB\"", "disk.documents"),
        ("disk.limit = \"0\"", "disk.limit"),
        ("disk.scrub = \"0s\"", "disk.scrub"),
        ("archives.concurrency = 0", "archives.concurrency"),
        ("log.level = \"inof\"", "log.level"),
        ("[upstreams.x]", "upstreams.x.kind"),
        ("upstreams.x.kind = \"gitlab\"", "upstreams.x.kind"),
        ("upstreams.My_Forge.kind = \"gitee\"", "upstreams.My_Forge"),
        ("upstreams.api.kind = \"gitee\"", "upstreams.api"),
        ("upstreams.github.api = \"ftp://x\"", "upstreams.github.api"),
        ("upstreams.github.concurrency = 0", "upstreams.github.concurrency"),
        ("upstreams.github.idle_timeout = \"0s\"", "upstreams.github.idle_timeout"),
        ("upstreams.github.redirect_hosts = [\"https://x\"]", "upstreams.github.redirect_hosts"),
        ("upstreams.github.proxy = \"ftp://p\"", "upstreams.github.proxy"),
        ("upstreams.github.ca_file = \"no.pem\"", "upstreams.github.ca_file"),
        ("upstreams.github.token_file = \"no.token\"", "upstreams.github.token_file"),
        ("upstreams.github.token_env = \"A B\"", "upstreams.github.token_env"),
        ("upstreams.github.address = \"1.2.3.4\"", "upstreams.github.address"),
    ] {
        let message = complaint(text, &[]);
        assert!(message.starts_with(&format!("config: {key} ")), "{text}\n{message}");
        assert!(message.contains("(mirror.toml:"), "{text}\n{message}");
    }
}

#[test]
fn good_proxies_hosts_and_patterns_are_accepted() {
    for proxy in ["http://p:3128", "https://u:p@p", "socks5://127.0.0.1:1080", "socks5h://p"] {
        loaded(&format!("upstreams.github.proxy = \"{proxy}\""), &[]).expect(proxy);
    }
    loaded("upstreams.github.redirect_hosts = [\"a.b\", \"*.a.b\", \"127.0.0.1:80\", \"[::1]:80\"]", &[])
        .expect("hosts");
    loaded("packages.allow = [\"*/*\", \"DevsApp/fc?\", \"gitee:a/*-b\"]", &[]).expect("patterns");
}

#[test]
fn a_new_upstream_takes_the_rest_from_its_kind_but_not_its_token() {
    let text =
        "[upstreams.corp]\nkind = \"gitee\"\napi = \"https://git.corp/api/v5\"\n[upstreams.twin]\nkind=\"github\"";
    let variables =
        [("GITEE_TOKEN", "t0k3n"), ("GITHUB_TOKEN", "t0k3n"), ("SRM_MIRROR__UPSTREAMS__TWIN__FULL_WALK", "2h")];
    let loaded = loaded(text, &variables).expect("good");
    let corp = &loaded.config.upstreams["corp"];
    assert_eq!((corp.web.as_str(), corp.token_env.as_deref()), ("https://git.corp", None));
    assert_eq!(corp.redirect_hosts, loaded.config.upstreams["gitee"].redirect_hosts);
    let with_token: Vec<&str> =
        loaded.tokens.iter().filter(|(_, token)| token.is_some()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(with_token, ["gitee", "github", "twin"]);
    assert_eq!(loaded.config.upstreams["twin"].full_walk, crate::value::Period::mins(120));
}

#[test]
fn setting_the_api_of_a_default_upstream_keeps_its_token_and_moves_its_pages() {
    let loaded =
        loaded("", &[("SRM_MIRROR__UPSTREAMS__GITEE__API", "http://127.0.0.1:9/api/v5"), ("GITEE_TOKEN", "x")]);
    let loaded = loaded.expect("good");
    assert_eq!(loaded.config.upstreams["gitee"].web.as_str(), "http://127.0.0.1:9");
    assert!(loaded.tokens["gitee"].is_some());
}

#[test]
fn a_default_never_makes_a_set_value_wrong() {
    let loaded = loaded("disk.limit = \"100MiB\"\nmemory.archives = \"0\"", &[]).expect("good");
    assert_eq!(loaded.config.disk.documents, ByteSize::mib(25));
    assert_eq!(loaded.config.memory.archive_max, ByteSize(0));
    assert_eq!(loaded.source(&["disk", "documents"]), &Source::Derived("disk.limit"));
    assert_eq!(loaded.doubts().len(), 1, "archives.max_size is larger than the disk");
}

#[test]
fn a_token_comes_from_the_file_before_the_variable_and_is_never_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    fs::write(&file, "from-file\n").expect("a file");
    let text = format!("upstreams.github.token_file = {:?}\nupstreams.gitee.proxy = \"http://me:hush@p\"", file);
    let loaded = loaded(&text, &[("GITHUB_TOKEN", "from-variable"), ("GITEE_TOKEN", "")]).expect("good");
    assert_eq!(loaded.tokens["github"].as_ref().map(Secret::reveal), Some("from-file"));
    assert_eq!(loaded.tokens["gitee"], None);
    let shown = format!("{loaded:?}{}", loaded.show());
    for secret in ["from-file", "from-variable"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!loaded.show().contains("hush"), "{}", loaded.show());
}

#[test]
fn a_token_in_the_wrong_place_is_not_repeated() {
    for text in [
        "upstreams.github.token_env = \"ghp_hush\"",
        "upstreams.github.token = \"hush\"",
        "upstreams.github.proxy = \"ftp://me:hush@p\"",
    ] {
        let message = complaint(text, &[]);
        assert!(!message.contains("hush"), "{message}");
    }
    let message = complaint("", &[("GITHUB_TOKEN", "hu sh\u{7f}")]);
    assert!(
        message.contains("upstreams.github.token_env = \"GITHUB_TOKEN\"") && !message.contains("hu sh"),
        "{message}"
    );
}

#[test]
fn private_repositories_are_not_shown_to_a_network_by_accident() {
    let text = "[server]\nlisten = [\"0.0.0.0:80\"]\n[packages]\nprivate = \"serve\"";
    let token = [("GITHUB_TOKEN", "x")];
    let message = complaint(text, &token);
    for part in ["packages.private = \"serve\" (mirror.toml:4)", "0.0.0.0:80", "github", "packages.allow"] {
        assert!(message.contains(part), "{message}");
    }
    loaded(text, &[]).expect("without a token nothing private can be seen");
    loaded(&format!("{text}\nallow = [\"acme/*\"]"), &token).expect("with a list it is meant");
    loaded(&text.replace("0.0.0.0", "[::ffff:127.0.0.1]"), &token).expect("loopback is no network");
    loaded(&text.replace("\"serve\"", "\"refuse\""), &token).expect("refused repositories are not shown");
}

#[test]
fn what_config_show_prints_loads_again_to_the_same() {
    let first =
        loaded("[names.aliases]\n\"devsapp/core\" = \"a/b\"\n[upstreams.x]\nkind = \"gitee\"", &[]).expect("good");
    let shown = first.show();
    assert_eq!(loaded(&shown, &[]).expect("it loads").config, first.config, "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("\"devsapp/core\" = \"a/b\"") && line.ends_with("mirror.toml:2"))
    );
    assert!(shown.lines().any(|line| line.starts_with("# public_url") && line.ends_with("# not set")), "{shown}");
    assert!(shown.contains("# default; holds no token"), "{shown}");
}
