//! What ARCHITECTURE.md says of the source, held by reading the source: directions, the environment, sizes, names.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

mod caches;
mod circles;
mod contributing;
mod documents;
mod items;
mod journey;
mod language;
mod scan;

/// Modules that all others may import.
const LEAVES: [&str; 14] = [
    "admin_api",
    "atomic_file",
    "value",
    "peer",
    "package",
    "archive",
    "entry",
    "origin",
    "http",
    "sendfile",
    "tar_file",
    "clock",
    "blocking",
    "observe",
];

/// What each other module may import besides the leaves. Adding a module means adding a line.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("access", &[]),
    ("main", &["cli"]),
    ("cli", &["app", "config", "server", "dialect", "upstream"]),
    (
        "app",
        &[
            "access", "config", "server", "service", "dialect", "registry", "cache", "fleet", "hosted", "shared",
            "upstream", "storage",
        ],
    ),
    (
        "config",
        &["access", "server", "dialect", "registry", "cache", "fleet", "hosted", "shared", "storage", "upstream"],
    ),
    ("fuzzing", &["cli", "config", "dialect", "storage", "upstream"]),
    ("server", &[]),
    ("service", &["access", "dialect", "fleet", "registry"]),
    ("dialect", &[]),
    ("hosted", &[]),
    ("shared", &[]),
    ("fleet", &[]),
    ("registry", &["cache", "hosted", "upstream"]),
    ("cache", &["fleet", "shared", "storage"]),
    ("storage", &[]),
    ("upstream", &[]),
];

/// Leaves that a module must not import although all others may.
const FORBIDDEN_LEAVES: [(&str, &[&str]); 3] =
    [("cache", &["package", "archive"]), ("archive", &["http"]), ("package", &["http"])];

/// Most lines of a file.
const MAX_LINES: usize = 450;

/// The median of the files' lengths is below this number of lines.
const MAX_MEDIAN_LINES: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, if there is one, whose name ends so; less what npm installs.
fn files(folder: &str, end: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![root().join(folder)];
    while let Some(path) = left.pop() {
        if path.ends_with("node_modules") {
            continue;
        }
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && path.to_string_lossy().ends_with(end) {
            // A fixture may be no text; the names that a test looks for are ASCII.
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    found.sort();
    found
}

/// The files of the top folder whose name ends so, less the lock file, which names its source by design, and the
/// `.git` of a linked worktree, which is a file with a path.
fn top(end: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_file() && name.ends_with(end) && !["Cargo.lock", ".git"].contains(&name.as_str()) {
            found.push((name.into(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The module at the top of the tree that a file of `src` belongs to, and how deep its own module is.
fn module_of(path: &Path) -> (String, usize) {
    let parts: Vec<_> = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    (parts[0].trim_end_matches(".rs").to_owned(), parts.len())
}

/// What is wrong with the imports of one file.
fn wrong_imports(module: &str, level: usize, source: &str) -> Vec<String> {
    let (word, level) = if module == "main" { ("srm_mirror", usize::MAX / 2) } else { ("crate", level) };
    let known = MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, may)| *may);
    let Some(may) = known.or(LEAVES.contains(&module).then_some(&[])) else {
        return vec![format!("{module} is in no table of tests/structure")];
    };
    let forbidden = FORBIDDEN_LEAVES.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, leaves)| *leaves);
    let mut wrong = Vec::new();
    for path in scan::paths_from_root(source, word, level) {
        let target = path.split("::").next().unwrap();
        let leaf = module != "main" && LEAVES.contains(&target) && !forbidden.contains(&target);
        if target != module && !leaf && !may.contains(&target) {
            wrong.push(format!("{module} must not import {target} ({path})"));
        }
        // Of the cache, the configuration knows its periods and limits only.
        if module == "config" && target == "cache" && !path.starts_with("cache::policy") {
            wrong.push(format!("config imports {path}, which is no section of the configuration"));
        }
    }
    wrong
}

#[test]
fn modules_import_in_one_direction() {
    let mut wrong = Vec::new();
    for (path, source) in files("src", ".rs").into_iter().filter(|(path, _)| path != Path::new("src/lib.rs")) {
        let (module, level) = module_of(&path);
        wrong.extend(wrong_imports(&module, level, &source).iter().map(|why| format!("{}: {why}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn leaves_import_each_other_without_circles() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, source) in files("src", ".rs") {
        let (module, level) = module_of(&path);
        if LEAVES.contains(&module.as_str()) {
            let paths = scan::paths_from_root(&source, "crate", level);
            let targets = paths.iter().map(|path| path.split("::").next().unwrap().to_owned());
            imports.entry(module.clone()).or_default().extend(targets.filter(|target| *target != module));
        }
    }
    // Modules without remaining imports are removed; what stays is a circle.
    while let Some(free) = imports.iter().find(|(_, targets)| targets.is_empty()).map(|(module, _)| module.clone()) {
        imports.remove(&free);
        for targets in imports.values_mut() {
            targets.remove(&free);
        }
    }
    assert!(imports.is_empty(), "{imports:?}");
}

#[test]
fn archive_and_package_know_no_http() {
    for (path, source) in files("src", ".rs") {
        let (module, _) = module_of(&path);
        if ["archive", "package"].contains(&module.as_str()) {
            let tokens = scan::tokens(&source);
            let http =
                ["http", "hyper", "http_body", "reqwest"].iter().find(|name| tokens.iter().any(|t| t.is_word(name)));
            assert_eq!(http, None, "{}", path.display());
        }
    }
}

#[test]
fn only_the_configuration_and_main_read_the_environment() {
    for (path, source) in files("src", ".rs") {
        let (module, _) = module_of(&path);
        let allowed = |what: &str| match module.as_str() {
            "config" | "main" => true,
            "cli" => matches!(what, "args" | "args_os"),
            _ => false,
        };
        let uses: Vec<String> = scan::environment_uses(&source).into_iter().filter(|what| !allowed(what)).collect();
        assert!(uses.is_empty(), "{}: {uses:?}", path.display());
    }
    // reqwest reads the proxy variables by itself unless it is told not to.
    for (path, source) in files("src/upstream", ".rs").into_iter().filter(|(path, _)| !is_test(path)) {
        let builds = source.contains("Client::builder()") || source.contains("ClientBuilder::new()");
        assert!(!builds || source.contains(".no_proxy()"), "{}", path.display());
    }
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs"].contains(&part.as_os_str().to_str().unwrap()))
}

#[test]
fn files_stay_small() {
    let mut lines: Vec<(usize, PathBuf)> =
        files("src", ".rs").into_iter().map(|(path, source)| (source.lines().count(), path)).collect();
    lines.sort();
    let (longest, path) = lines.last().unwrap();
    assert!(*longest <= MAX_LINES, "{} has {longest} lines", path.display());
    assert!(lines[lines.len() / 2].0 < MAX_MEDIAN_LINES, "the median is {} lines", lines[lines.len() / 2].0);
}

#[test]
fn only_the_calls_of_the_system_are_unsafe() {
    for (path, source) in ["src", "tests", "examples", "benches"].map(|folder| files(folder, ".rs")).concat() {
        let words = ["unsafe", "unsafe_code"];
        let has = scan::tokens(&source).iter().any(|token| words.iter().any(|word| token.is_word(word)));
        assert_eq!(has, path.ends_with("src/sendfile.rs"), "{}", path.display());
        // Each block has its proof.
        let blocks = scan::tokens(&source).iter().filter(|token| token.is_word("unsafe")).count();
        assert!(source.matches("// SAFETY:").count() >= blocks, "{}: a block without its proof", path.display());
    }
    assert!(fs::read_to_string(root().join("Cargo.toml")).unwrap().contains("unsafe_code = \"deny\""));
}

/// What only one machine knows, spelled so that this file does not name it.
const FOREIGN: [&str; 7] = [
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("crates", ".io"),
    concat!("npm", "js.org"),
];

#[test]
fn nothing_names_a_machine_or_a_registry() {
    let mut texts = ["src", "tests", "examples", "benches", ".ci"].map(|folder| files(folder, "")).concat();
    texts.append(&mut top(""));
    for (path, text) in texts {
        let line = text.lines().find(|line| FOREIGN.iter().any(|foreign| line.contains(foreign)));
        assert_eq!(line, None, "{}", path.display());
    }
}

/// The words in backquotes that are spelled like a test of this project.
fn named_tests(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let letters =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    quoted.filter(|word| letters(word) && word.matches('_').count() >= 3).collect()
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let sources = [files("src", ".rs"), files("tests", ".rs")].concat();
    let tests: BTreeSet<String> = sources.iter().flat_map(|(_, source)| scan::tests(source)).collect();
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for name in named_tests(&text) {
        assert!(tests.contains(name), "ARCHITECTURE.md names {name}, which is no test");
    }
    let (_, section) = text.split_once("\n## Invariants\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for number in 1..=9 {
        let row = section.lines().find(|line| line.starts_with(&format!("| {number} |")));
        assert!(!named_tests(row.unwrap_or_default()).is_empty(), "invariant {number} names no test");
    }
}

mod the_scanner_itself {
    use super::*;

    const SOURCE: &str = r##"
        //! use crate::nope;
        use crate::{
            storage::{Object, disk::{Disk as D, Spool}}, /* crate::nope /* nested */ */
            upstream, value::*,
        };
        const TEXT: &str = "use crate::nope; \" crate::nope";
        const RAW: &str = r#"crate::"nope"#;
        fn body<'a>(quote: char) -> bool { quote == '"' || quote == '\'' || crate::package::parse::<u8>("x").is_ok() }
        use super::cache::Cache;
        mod tests { use super::fine; use super::super::registry::Registry; fn f() { crate::http::x() } }
    "##;

    #[test]
    fn finds_every_path_wherever_it_stands() {
        let found = scan::paths_from_root(SOURCE, "crate", 1);
        let expected = [
            "storage::Object",
            "storage::disk::Disk",
            "storage::disk::Spool",
            "upstream",
            "value::*",
            "package::parse",
            "cache::Cache",
            "registry::Registry",
            "http::x",
        ];
        assert_eq!(found, expected);
        assert_eq!(
            scan::paths_from_root("use super::cache::Cache; use super::super::upstream::Upstream;", "crate", 2),
            ["upstream::Upstream"]
        );
    }

    #[test]
    fn names_what_breaks_a_rule() {
        let wrong = |module, source| wrong_imports(module, 1, source).join("; ");
        assert_eq!(wrong("cache", "use crate::{storage::Object, entry::Key};"), "");
        assert_eq!(
            wrong("cache", "use crate::{storage::Object, upstream::Upstream};"),
            "cache must not import upstream (upstream::Upstream)"
        );
        assert!(wrong("cache", "fn f() { crate::archive::verify() }").contains("archive"));
        assert!(wrong("storage", "use super::cache::Cache;").contains("cache"));
        assert!(wrong("dialect", "use crate::registry;").contains("registry"));
        assert!(wrong("registry", "use crate::config::Config;").contains("config"));
        assert!(wrong("value", "use crate::cache::Cache;").contains("cache"));
        assert!(wrong("config", "use crate::cache::Cache;").contains("no section"));
        assert_eq!(wrong("main", "fn main() { srm_mirror::cli::run() }"), "");
        assert!(wrong("main", "use srm_mirror::app;").contains("app"));
        assert!(wrong("newcomer", "").contains("no table"));
    }

    #[test]
    fn sees_the_environment_and_tests_and_foreign_names() {
        assert_eq!(
            scan::environment_uses("fn f() { std::env::var(\"X\") } use std::env::{args, vars_os as v};"),
            ["var", "args", "vars_os"]
        );
        assert_eq!(scan::environment_uses("use std::env; // env::var"), ["env"]);
        assert_eq!(scan::environment_uses("env!(\"X\"); Filter::from_default_env()"), ["from_default_env"]);
        let source = "#[test]\n fn one() {} fn helper() {} #[tokio::test(start_paused = true)] async fn two() {}";
        assert_eq!(scan::tests(source), ["one", "two"]);
        assert_eq!(named_tests("`a_b_c_d` a_b_c_d `stale_if_error` `crate::a_b_c_d`"), ["a_b_c_d"]);
        assert!(scan::tokens("fn f() { unsafe { g() } }").iter().any(|token| token.is_word("unsafe")));
        assert!(!scan::tokens("#![forbid(unsafe_code)] // unsafe").iter().any(|token| token.is_word("unsafe")));
    }
}
