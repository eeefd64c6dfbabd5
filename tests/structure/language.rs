//! One meaning per name, types of one subject, and plain words.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{files, is_test, items, top};

/// Names that several modules may define, each for itself: what the name stands for is said by its module.
const SHARED: [&str; 1] = ["Config"];

/// A type with more methods has more than one subject.
const MAX_METHODS: usize = 24;

/// Words that hide the subject of a sentence.
const RIDDLES: [&str; 5] = ["nobody", "somebody", "anybody", "whoever", "meanwhile"];

/// The source of the mirror without its test modules.
fn sources() -> Vec<(PathBuf, String)> {
    files("src", ".rs").into_iter().filter(|(path, _)| !is_test(path)).collect()
}

#[test]
fn a_name_has_one_meaning() {
    let mut homes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, source) in sources() {
        for name in items::definitions(&source) {
            homes.entry(name).or_default().push(path.clone());
        }
    }
    homes.retain(|name, paths| paths.len() > 1 && !SHARED.contains(&name.as_str()));
    let lines: Vec<String> = homes.iter().map(|(name, paths)| format!("{name}: {paths:?}")).collect();
    assert!(lines.is_empty(), "{} names are defined more than once:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn a_type_has_one_subject() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, source) in sources() {
        for (name, count) in items::methods(&source) {
            *counts.entry(name).or_default() += count;
        }
    }
    counts.retain(|_, count| *count > MAX_METHODS);
    assert!(counts.is_empty(), "{counts:?}");
}

#[test]
fn an_error_is_a_type_and_no_text() {
    for (path, source) in sources() {
        let found = items::string_errors(&source);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn one_statement_makes_one_binding() {
    for (path, source) in ["src", "tests", "examples", "benches"].map(|folder| files(folder, ".rs")).concat() {
        let line = source.lines().find(|line| {
            let line = line.trim_start();
            let pair = line.strip_prefix("let (").or_else(|| line.strip_prefix('('));
            let Some((pattern, value)) = pair.and_then(|rest| rest.split_once(") = (")) else { return false };
            !pattern.contains('(') && value.trim_end().ends_with(");")
        });
        assert_eq!(line, None, "{}", path.display());
    }
}

/// True for a line of prose: all of a document, the comments of a source file and of the configuration.
fn is_prose(path: &Path, line: &str) -> bool {
    let is_kind = |end: &str| path.extension().is_some_and(|extension| extension == end);
    is_kind("md") || line.trim_start().starts_with(if is_kind("toml") { "#" } else { "//" })
}

#[test]
fn comments_and_documents_use_plain_words() {
    let mut texts = ["src", "tests", "examples", "benches"].map(|folder| files(folder, ".rs")).concat();
    texts.append(&mut files("benches", ".md"));
    texts.append(&mut files("docs", ".md"));
    texts.append(&mut top(".md"));
    texts.append(&mut top(".toml"));
    let mut found = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_prose(&path, line)) {
            let lower = line.to_lowercase();
            let mut words = lower.split(|c: char| !c.is_alphabetic());
            if words.any(|word| RIDDLES.contains(&word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
}
