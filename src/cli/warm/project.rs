//! What project files need: every `component:` and `plugin:` of `s.yaml` and `s.yml`, editions 1 and 3.
//!
//! A file is walked as a whole, because both editions nest alike: `services` (1) and `resources` (3) hold components,
//! `actions` hold plugins and components before and after each command, globally and of each service, and `extend`
//! names a file whose content is the base of this one. What belongs to a component itself (`props`, `args`, `vars`) may use
//! the same words for other things and is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{list::whole, package_spec::PackageSpec};

/// Largest project file read.
const LIMIT: u64 = 4 << 20;
/// Deepest nesting of folders.
const DEPTH: usize = 64;
/// Keys whose content is a component's own business.
const PRIVATE: [&str; 5] = ["props", "inputs", "args", "vars", "env"];
/// Folders that hold other people's projects.
const SKIPPED: [&str; 3] = ["node_modules", ".git", ".s"];

/// What was found in project files.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The packages, each once, with the first file that names it.
    pub(super) wishes: Vec<(PackageSpec, PathBuf)>,
    /// What is no package of a mirror: the file, the text and why it is left out.
    pub(super) skipped: Vec<(PathBuf, String, &'static str)>,
    /// Files that were found and cannot be read.
    pub(super) failed: Vec<(PathBuf, String)>,
    seen: BTreeSet<String>,
    read: BTreeSet<PathBuf>,
}

/// A project that was named and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--project {}: {reason}", path.display())]
pub(super) struct ProjectFileError {
    path: PathBuf,
    reason: String,
}

/// Reads a project file, or every one below a folder.
///
/// # Errors
/// When it is not there, is no project file, or the folder has none.
pub(super) fn read(path: &Path, found: &mut Found) -> Result<(), ProjectFileError> {
    let wrong = |reason: String| ProjectFileError { path: path.to_owned(), reason };
    let about = fs::metadata(path).map_err(|why| wrong(why.to_string()))?;
    if !about.is_dir() {
        return found.file(path).map_err(wrong);
    }
    let mut files = Vec::new();
    folder(path, DEPTH, &mut files, &mut found.failed).map_err(|why| wrong(why.to_string()))?;
    if files.is_empty() && found.failed.is_empty() {
        return Err(wrong("no s.yaml or s.yml is in it or below".into()));
    }
    for file in files {
        if let Err(why) = found.file(&file) {
            found.failed.push((file, why));
        }
    }
    Ok(())
}

/// The project files below a folder, in order. Links are not followed: they could lead round in circles. A folder below it
/// that cannot be read takes no other one with it: it is among the `failed`.
fn folder(path: &Path, depth: usize, files: &mut Vec<PathBuf>, failed: &mut Vec<(PathBuf, String)>) -> io::Result<()> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() && !SKIPPED.contains(&&*name) {
            let looked = match depth {
                0 => Err(io::Error::other("too deep, nothing in it was looked at")),
                _ => folder(&entry.path(), depth - 1, files, failed),
            };
            failed.extend(looked.err().map(|why| (entry.path(), why.to_string())));
        } else if matches!(&*name, "s.yaml" | "s.yml") && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

impl Found {
    /// Reads one file, and those that it extends.
    fn file(&mut self, path: &Path) -> Result<(), String> {
        let canonical = fs::canonicalize(path).map_err(|why| why.to_string())?;
        if !self.read.insert(canonical) {
            return Ok(());
        }
        let text = fs::File::open(path).and_then(|file| whole(file, LIMIT)).map_err(|why| why.to_string())?;
        let tree = parse(&text).map_err(|why| format!("not YAML: {}", one_line(&why)))?;
        let Value::Object(top) = &tree else { return Err("not a project file: no mapping at its top".into()) };
        if !top.keys().any(|key| is_structure(key)) {
            return Err("not a project file: it has no services, resources, actions or extend".into());
        }
        let here = path.parent().unwrap_or(Path::new(""));
        for base in extended(top) {
            let base = here.join(base);
            if let Err(why) = self.file(&base) {
                self.failed.push((base, why));
            }
        }
        self.walk(path, &tree);
        Ok(())
    }

    fn walk(&mut self, path: &Path, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(path, item)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("component" | "plugin", Value::String(text)) => self.named(path, text),
                        (key, _) if PRIVATE.contains(&key) => {}
                        _ => self.walk(path, value),
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes one name. In actions of edition 1 a command follows the component's name.
    fn named(&mut self, path: &Path, text: &str) {
        let name = text.trim();
        let mut skip = |why| self.skipped.push((path.to_owned(), name.to_owned(), why));
        if name.is_empty() {
            return skip("an empty name");
        }
        if name.contains("${") || name.contains("{{") {
            return skip("a variable, whose value only the CLI knows");
        }
        if name.contains("://") {
            return skip("an address, which the CLI fetches by itself");
        }
        if name.starts_with(['.', '/', '~']) || name.contains('\\') {
            return skip("a folder of the project");
        }
        let name = name.split_ascii_whitespace().next().unwrap_or(name);
        match name.parse::<PackageSpec>() {
            Ok(wish) => {
                if self.seen.insert(name.to_ascii_lowercase()) {
                    self.wishes.push((wish, path.to_owned()));
                }
            }
            Err(_) => skip("not the name of a package"),
        }
    }
}

fn is_structure(key: &str) -> bool {
    matches!(key, "services" | "Services" | "resources" | "actions" | "extend" | "extends" | "Extend" | "flow")
}

/// The files that a project file builds on: a path, or a list of them.
fn extended(top: &serde_json::Map<String, Value>) -> Vec<&str> {
    let mut files = Vec::new();
    for key in ["extend", "extends", "Extend"] {
        match top.get(key) {
            Some(Value::String(file)) => files.push(file.as_str()),
            Some(Value::Array(list)) => files.extend(list.iter().filter_map(Value::as_str)),
            _ => {}
        }
    }
    files
}

/// YAML as a tree. Keys that are no texts, such as port numbers, become texts.
fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str::<Node>(text).map(Value::from).map_err(|why| why.to_string())
}

/// One value of YAML, whatever its keys and tags are.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Node {
    Map(BTreeMap<String, Node>),
    List(Vec<Node>),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl From<Node> for Value {
    fn from(node: Node) -> Self {
        match node {
            Node::Map(fields) => fields.into_iter().map(|(key, node)| (key, Self::from(node))).collect(),
            Node::List(items) => items.into_iter().map(Self::from).collect(),
            Node::Text(text) => Self::String(text),
            Node::Other(_) => Self::Null,
        }
    }
}

fn one_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
