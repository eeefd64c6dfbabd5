//! The documents: every link leads to a file, and to a heading of it where it names one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{files, root, top};

/// The documents for users and developers, by their paths from the root.
fn documents() -> Vec<(PathBuf, String)> {
    [top(".md"), files("docs", ".md"), vec![benches()]].concat()
}

fn benches() -> (PathBuf, String) {
    let path = PathBuf::from("benches/README.md");
    (path.clone(), fs::read_to_string(root().join(path)).unwrap())
}

/// The text without what stands in blocks of code.
fn without_code(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, as the usual renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let text = without_code(text);
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
    let anchor =
        |heading: &str| heading.to_lowercase().chars().filter(|&c| kept(c)).collect::<String>().replace(' ', "-");
    headings.map(anchor).collect()
}

/// The targets of a text's links that lead to no other host.
fn local_links(text: &str) -> Vec<String> {
    let text = without_code(text);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target.to_owned());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// Why a link of the document at `path` leads nowhere, if so.
fn broken(path: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = path.parent().unwrap_or(Path::new(""));
    let full = if file.is_empty() { root().join(path) } else { root().join(folder).join(file) };
    if !full.exists() {
        return Some(format!("{}: {target}: no such file", path.display()));
    }
    let known = || anchors(&fs::read_to_string(&full).unwrap()).contains(anchor);
    (!anchor.is_empty() && !known()).then(|| format!("{}: {target}: no such heading", path.display()))
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let documents = documents();
    let links = documents.iter().flat_map(|(path, text)| local_links(text).into_iter().map(move |link| (path, link)));
    let links: Vec<_> = links.collect();
    assert!(links.len() > 20, "the documents have lost their links");
    let broken: Vec<String> = links.iter().filter_map(|(path, link)| broken(path, link)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_of_the_documentation_is_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let links = local_links(&readme);
    for (path, _) in files("docs", ".md") {
        assert!(links.iter().any(|link| Path::new(link) == path), "{} is not in README.md", path.display());
    }
}

#[test]
fn a_broken_link_is_noticed() {
    let path = Path::new("docs/configure.md");
    assert_eq!(broken(path, "#configuration"), None);
    for target in ["gone.md", "../gone.md", "clients.md#gone", "#gone"] {
        assert!(broken(path, target).is_some(), "{target}");
    }
}

#[test]
fn the_glossary_stays_short() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("\n## Glossary\n").unwrap();
    let lines = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with('|')).count();
    assert!((10..=20).contains(&lines), "the glossary has {lines} lines");
}
