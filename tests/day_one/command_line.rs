//! Mistakes at the command line and in the configuration: each message names what is wrong and what to do.

use std::{fs, path::Path, process::Command};

use crate::run::{Running, ended, program};

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    ended(program(home().path(), arguments))
}

/// Runs a command with more variables.
fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let home = home();
    let mut command = program(home.path(), arguments);
    command.envs(variables.iter().copied());
    ended(command)
}

/// Asserts that a text has all of these parts.
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn help_version_and_man_are_commands() {
    let version = format!("srm-mirror {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["version"]), (0, version, String::new()));
    let (code, help, _) = run(&["help"]);
    assert_eq!(code, 0);
    has(&help, &["serve", "Exit codes"]);
    let (code, help, _) = run(&["help", "cache", "ls"]);
    assert_eq!(code, 0);
    has(&help, &["--sort"]);
    let (code, page, _) = run(&["man"]);
    assert_eq!(code, 0);
    has(&page, &[".TH", "srm\\-mirror", "serve"]);
    let (code, page, _) = run(&["man", "cache", "ls"]);
    assert_eq!(code, 0);
    has(&page, &[".TH", "sort"]);
    let (code, _, error) = run(&["man", "cache", "list"]);
    assert_eq!(code, 64);
    has(&error, &["has no command list"]);
}

#[test]
fn man_writes_a_page_for_every_command() {
    let home = home();
    let dir = home.path().join("man1");
    let (code, _, error) = ended(program(home.path(), &["man", "--dir", dir.to_str().unwrap()]));
    assert_eq!(code, 0, "{error}");
    let pages: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for name in ["srm-mirror", "srm-mirror-serve", "srm-mirror-cache-ls", "srm-mirror-token-rotate-signing-key"] {
        assert!(pages.contains(&dir.join(format!("{name}.1"))), "{name}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.to_string_lossy().contains("help")), "{pages:?}");
}

#[test]
fn a_port_and_localhost_are_addresses_to_listen_on() {
    let home = home();
    for arguments in [["serve", "--port", "0"], ["serve", "--listen", "localhost:0"]] {
        let running = Running::start(program(home.path(), &arguments));
        assert!(running.address().starts_with("127.0.0.1:"), "{:?}", running.banner);
        assert_eq!(running.stop(), 0);
    }
    for listen in [":8080", "8080"] {
        let (code, _, error) = run(&["serve", "--listen", listen]);
        assert_eq!(code, 64);
        has(&error, &["IP address is missing", "127.0.0.1:8080", "0.0.0.0:8080"]);
    }
    let (code, _, error) = run(&["serve", "--listen", "mirror.example.com:80"]);
    assert_eq!(code, 64);
    has(&error, &["not an IP address with a port", "127.0.0.1:8080"]);
}

#[test]
fn the_hint_for_a_url_is_a_url_of_its_kind() {
    for arguments in
        [&["connect", "mirror.example.com:8080"][..], &["warm", "--server", "mirror.example.com:8080", "fc3"]]
    {
        let (code, _, error) = run(arguments);
        assert_eq!(code, 64);
        has(&error, &["http://mirror.example.com:8080"]);
        assert!(!error.contains("github"), "{error}");
    }
    let (code, _, error) = run(&["serve", "--public-url", "mirror.example.com"]);
    assert_eq!(code, 64);
    has(&error, &["not an absolute URL", "for example \"https://mirror.example.com\""]);
    let (_, _, error) = run_with(&["config", "check"], &[("SRM_MIRROR__UPSTREAMS__GITHUB__API", "api.github.com")]);
    has(&error, &["upstreams.github.api", "for example \"https://api.github.com\""]);
}

#[test]
fn no_hint_is_an_empty_list() {
    for key in ["SERVER__KNOWN_HOSTS", "SERVER__TRUSTED_PROXIES", "PACKAGES__ALLOW", "SERVER__TLS__LISTEN"] {
        let (code, _, error) = run_with(&["config", "check"], &[(&format!("SRM_MIRROR__{key}"), "[\"//\"]")]);
        assert_eq!(code, 64, "{key}: {error}");
        assert!(!error.contains("example []"), "{error}");
    }
}

#[test]
fn a_directory_in_use_is_named_with_its_holder() {
    let home = home();
    let dir = home.path().join("cache");
    let dir = dir.to_str().unwrap();
    let arguments = ["serve", "--port", "0", "--cache-dir", dir];
    let running = Running::start(program(home.path(), &arguments));
    let (code, _, error) = ended(program(home.path(), &arguments));
    assert_eq!(code, 74);
    has(&error, &[dir, "in use by process", "--cache-dir"]);
    assert_eq!(running.stop(), 0);
}

#[test]
fn a_home_that_cannot_be_written_is_named_with_the_flag_that_helps() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for arguments in [&["serve", "--port", "0"][..], &["warm", "fc3"]] {
        let (code, _, error) = ended(program(file.path(), arguments));
        assert_eq!(code, 74, "{error}");
        has(&error, &[".cache/srm-mirror", "--cache-dir"]);
        assert!(!error.contains("os error"), "{error}");
    }
}

#[test]
fn config_check_reports_every_mistake_at_once() {
    let home = home();
    let file = home.path().join("mirror.toml");
    let text = "[disk]\nlimt = \"1GiB\"\nlimit = \"50 parsecs\"\n[server]\nlisten = \"here\"\nmax_connections = 0\n\
                trusted_proxies = [\"proxy\"]\nclient_header = \"x-forwarded-for\"\n[memory]\nlimit = \"1KiB\"\n\
                [log]\nlevel = \"loud\"\n[upstreams.mine]\nkind = \"gitbug\"\napi = \"no\"\n";
    fs::write(&file, text).unwrap();
    let mut command = program(home.path(), &["config", "check", file.to_str().unwrap()]);
    command.env("SRM_MIRROR__DISK__SCRUB", "0s").env("SRM_MIRROR__DISKS__LIMIT", "1GiB");
    let (code, out, error) = ended(command);
    assert_eq!((code, out.as_str()), (64, ""), "{error}");
    let keys = [
        "disk.limt",
        "disk.limit",
        "server.listen",
        "server.max_connections",
        "server.trusted_proxies",
        "memory.limit",
        "log.level",
        "upstreams.mine.kind",
        "disk.scrub",
        "disks.limit",
    ];
    for key in keys {
        let lines = error.lines().filter(|line| line.starts_with(&format!("srm-mirror: config: {key} ")));
        assert_eq!(lines.count(), 1, "{key}: {error}");
    }
    assert_eq!(error.lines().count(), keys.len(), "{error}");
}

#[test]
fn a_variable_with_one_underscore_is_reported_and_a_service_of_kubernetes_is_not() {
    let variables = [
        ("SRM_MIRROR_DISK_LIMIT", "10GiB"),
        ("SRM_MIRROR_LISTEN", "0.0.0.0:80"),
        ("SRM_MIRROR_UPSTREAMS__OFFICIAL_2X__API", "https://example.com"),
        ("SRM_MIRROR_SERVICE_HOST", "10.0.0.1"),
        ("SRM_MIRROR_PORT", "tcp://10.0.0.1:8080"),
        ("SRM_MIRROR_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ];
    let (code, out, error) = run_with(&["config", "check"], &variables);
    assert_eq!(code, 0, "{error}");
    let meant = ["SRM_MIRROR__DISK__LIMIT", "SRM_MIRROR__SERVER__LISTEN", "SRM_MIRROR__UPSTREAMS__OFFICIAL_2X__API"];
    has(&out, &meant.map(|meant| format!("did you mean {meant}?")).each_ref().map(String::as_str));
    assert_eq!(out.matches("warning: the variable").count(), 3, "{out}");
}

#[test]
fn a_system_without_certificate_authorities_serves_and_is_told() {
    let home = home();
    let none = home.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let damaged = home.path().join("damaged.pem");
    fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let with = |arguments: &[&str], file: &Path| -> Command {
        let mut command = program(home.path(), arguments);
        command.env("SSL_CERT_FILE", file);
        command
    };
    for file in [&none, &damaged] {
        let running = Running::start(with(&["serve", "--port", "0"], file));
        assert_eq!(running.stop(), 0);
        let (code, out, _) = ended(with(&["config", "check"], file));
        assert_eq!(code, 0);
        has(&out, &["warning: this system has no certificate authorities", "ca-certificates", "SSL_CERT_FILE"]);
    }
    let (code, _, error) =
        run_with(&["config", "check"], &[("SRM_MIRROR__UPSTREAMS__GITHUB__CA_FILE", damaged.to_str().unwrap())]);
    assert_eq!(code, 64, "{error}");
    has(&error, &["upstreams.github.ca_file", "certificate 1 in this file is damaged"]);
}

#[test]
fn commands_over_plain_http_need_no_certificate_authorities() {
    let home = home();
    let none = home.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let mirror = Running::start(program(home.path(), &["demo", "--port", "0"]));
    let url = format!("http://{}", mirror.address());
    let dir = home.path().join("cache");
    fs::create_dir(&dir).unwrap();
    let dir = dir.to_str().unwrap();
    for arguments in
        [&["connect", &url, "--check"][..], &["warm", "--server", &url, "fc3"], &["cache", "ls", "--cache-dir", dir]]
    {
        let mut command = program(home.path(), arguments);
        command.env("SSL_CERT_FILE", &none);
        let (code, out, error) = ended(command);
        assert_eq!(code, 0, "{arguments:?}: {out}{error}");
    }
    assert_eq!(mirror.stop(), 0);
}

#[test]
fn health_is_that_of_the_mirror_that_holds_the_directory() {
    let home = home();
    let dir = home.path().join("cache");
    let dir = dir.to_str().unwrap();
    let health = || ended(program(home.path(), &["health", "--cache-dir", dir]));
    assert_eq!(health().0, 69);
    let running = Running::start(program(home.path(), &["serve", "--port", "0", "--cache-dir", dir]));
    let (code, out, error) = health();
    assert_eq!((code, out.as_str()), (0, "{\"status\":\"ready\"}\n"), "{error}");
    assert_eq!(running.stop(), 0);
    let (code, out, error) = health();
    assert_eq!((code, out.as_str()), (69, ""));
    assert!(error.contains(&format!("no mirror answers on the cache directory {dir}")), "{error}");
}

#[test]
fn the_service_manager_is_told_that_the_mirror_is_ready_that_it_runs_and_that_it_stops() {
    let home = home();
    let path = home.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let next = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = program(home.path(), &["serve", "--port", "0"]);
    // The watchdog expects a message in every 200 ms.
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let running = Running::start(command);
    assert_eq!(next(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1\n");
    }
    assert_eq!(running.stop(), 0);
    let mut last = next();
    while last == "WATCHDOG=1\n" {
        last = next();
    }
    assert_eq!(last, "STOPPING=1\n");
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let home = home();
    let (code, script, _) = ended(program(home.path(), &["completions", "bash"]));
    assert_eq!(code, 0);
    let file = home.path().join("completions");
    fs::write(&file, script).unwrap();
    let completed = |words: &[&str]| {
        let last = words.len() - 1;
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let test = format!(
            "source '{}'; f=$(complete -p srm-mirror | sed 's/.*-F \\([^ ]*\\).*/\\1/'); COMP_WORDS=({}); COMP_CWORD={last}; \
             $f srm-mirror \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{}]}}\"; echo \"${{COMPREPLY[*]}}\"",
            file.display(),
            words.join(" "),
            last - 1,
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &test]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let (code, out, error) = ended(bash);
        assert_eq!((code, error.as_str()), (0, ""), "{out}");
        out.trim().to_owned()
    };
    assert_eq!(completed(&["srm-mirror", "ser"]), "serve");
    has(&completed(&["srm-mirror", "cache", ""]), &["export", "unkeep"]);
    assert_eq!(completed(&["srm-mirror", "cache", "ls", "--so"]), "--sort");
    has(&completed(&["srm-mirror", "cache", "ls", "--sort", ""]), &["size", "hits"]);
    has(&completed(&["srm-mirror", "serve", "--log-format", ""]), &["auto", "text", "json"]);
    has(&completed(&["srm-mirror", "token", "rotate-signing-key", "--"]), &["--cache-dir"]);
}
