//! Every command and path in CONTRIBUTING.md exists.

use std::{collections::BTreeSet, fs, path::Path};

use super::{files, root, scan};

/// The lines of a document that are typed into a shell.
fn commands(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// The word after a flag.
fn flag_value<'a>(words: &[&'a str], flag: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == flag)?;
    words.get(at + 1).copied()
}

/// The reason why a path does not exist, if so.
fn missing(path: &str) -> Option<String> {
    (!root().join(path).exists()).then(|| format!("{path} does not exist"))
}

/// Why a command of the document cannot work, if so.
fn broken(command: &str, tests: &BTreeSet<String>) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches('\'')).collect();
    match words[0] {
        "cargo" => broken_cargo(&words, tests),
        program if program.starts_with("target/") => None, // Made by the commands above it.
        program if program.contains('/') => broken_script(program, &words),
        "npm" => words
            .iter()
            .find(|word| word.starts_with("tests/"))
            .and_then(|folder| missing(&format!("{folder}/package-lock.json"))),
        "python3" => None,
        other => Some(format!("{other} is no command of this document")),
    }
}

fn broken_cargo(words: &[&str], tests: &BTreeSet<String>) -> Option<String> {
    let known = ["build", "test", "fmt", "clippy", "bench", "doc", "run", "deny", "machete"];
    if !known.contains(&words[1]) {
        return Some(format!("cargo has no {}", words[1]));
    }
    let target = flag_value(words, "--test");
    if let Some(target) = target {
        let single = root().join(format!("tests/{target}.rs"));
        let folder = root().join(format!("tests/{target}/main.rs"));
        if !single.exists() && !folder.exists() {
            return Some(format!("no integration test is named {target}"));
        }
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    if let Some(profile) = flag_value(words, "--profile")
        && !manifest.contains(&format!("[profile.{profile}]"))
    {
        return Some(format!("no profile is named {profile}"));
    }
    if let Some(bench) = flag_value(words, "--bench")
        && let Some(missing) = missing(&format!("benches/{bench}/main.rs"))
    {
        return Some(missing);
    }
    // The last word of a test command that is no flag and no flag's value selects tests by name.
    let last = *words.last().unwrap();
    let is_filter = words[1] == "test" && !last.starts_with('-') && Some(last) != target && last != "test";
    let part = last.trim_end_matches("::");
    let is_module = || {
        let sources = [files("src", ".rs"), files("tests", ".rs")].concat();
        sources.iter().any(|(path, _)| path.to_string_lossy().contains(part))
    };
    (is_filter && !tests.iter().any(|name| name.contains(part)) && !is_module())
        .then(|| format!("no test is selected by {last}"))
}

fn broken_script(program: &str, words: &[&str]) -> Option<String> {
    if let Some(missing) = missing(program) {
        return Some(missing);
    }
    let mut script = fs::read_to_string(root().join(program)).unwrap();
    for (_, text) in files("benches/compare", ".py") {
        script.push_str(&text);
    }
    let unknown = words.iter().find(|word| word.starts_with("--") && !script.contains(&format!("\"{word}\"")));
    unknown.map(|flag| format!("{program} has no {flag}"))
}

fn all_tests() -> BTreeSet<String> {
    let sources = [files("src", ".rs"), files("tests", ".rs")].concat();
    sources.iter().flat_map(|(_, source)| scan::tests(source)).collect()
}

#[test]
fn every_command_of_the_contributors_guide_exists() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let tests = all_tests();
    let commands = commands(&text);
    assert!(commands.len() > 10, "the guide has lost its commands");
    for command in commands {
        assert_eq!(broken(command, &tests), None, "{command}");
    }
}

#[test]
fn every_path_of_the_contributors_guide_exists() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "benches/", ".ci/"].iter().any(|folder| quoted.starts_with(folder));
        if is_path && !quoted.contains(['*', ' ']) {
            assert!(root().join(Path::new(quoted)).exists(), "{quoted}");
        }
    }
}

#[test]
fn a_broken_command_is_noticed() {
    let tests = all_tests();
    for command in [
        "cargo tset",
        "cargo test --test nothing",
        "cargo build --profile fast",
        "cargo bench --bench macro",
        "cargo test --locked --lib no_such_module::",
        ".ci/walk",
        "benches/compare/run --slowly",
        "make",
    ] {
        assert!(broken(command, &tests).is_some(), "{command}");
    }
}
