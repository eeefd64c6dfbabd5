//! The packages of project files: every `component:` and `plugin:` of `s.yaml` and `s.yml`, editions 1 and 3.
//!
//! A file is walked as a whole, because both editions nest alike: `services` (1) and `resources` (3) hold components,
//! `actions` hold plugins and components before and after each command, globally and of each service, and `extend`
//! names a file that this one is merged over. Each edition finds its packages in the dialect of its CLI. The parameters of a
//! component (`props`, `args`, `vars`) are not walked: they may use the same words for other things.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde_json::Value;

use super::{package_list::read_to_limit, package_spec::PackageSpec};
use crate::package::{DialectName, NameForm};

/// Largest project file, bytes.
const MAX_PROJECT_FILE_BYTES: u64 = 4 << 20;
/// Deepest nesting of folders.
const MAX_FOLDER_DEPTH: usize = 64;
/// Longest chain of files that extend each other.
const MAX_EXTENDED_FILES: usize = 32;
/// Keys whose content belongs to a component.
const PARAMETER_KEYS: [&str; 5] = ["props", "inputs", "args", "vars", "env"];
/// Folders with other projects in them.
const SKIPPED_FOLDERS: [&str; 3] = ["node_modules", ".git", ".s"];

/// What was found in project files.
#[derive(Debug, Default)]
pub(super) struct ProjectPackages {
    /// The packages, each once.
    pub(super) specs: Vec<PackageSpec>,
    /// Names that are no packages of a mirror.
    pub(super) skipped: Vec<SkippedName>,
    /// Files and folders that were found and cannot be read.
    pub(super) unreadable: Vec<UnreadableFile>,
    /// The names in `specs`, in lower case, with their dialects.
    names: BTreeSet<(String, DialectName)>,
    /// The files that were read.
    files: BTreeSet<PathBuf>,
}

/// A name that is no package of a mirror.
#[derive(Debug)]
pub(super) struct SkippedName {
    /// The project file.
    pub(super) file: PathBuf,
    /// The name.
    pub(super) text: String,
    /// Why it is left out.
    pub(super) reason: &'static str,
}

/// A file or folder that cannot be read.
#[derive(Debug)]
pub(super) struct UnreadableFile {
    /// Its path.
    pub(super) path: PathBuf,
    /// Why.
    pub(super) error: ProjectReadError,
}

/// A path of `--project` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--project {}: {reason}", path.display())]
pub(super) struct ProjectFileError {
    path: PathBuf,
    reason: ProjectReadError,
}

/// Why a file or folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProjectReadError {
    /// By the file system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no YAML: the first line of the parser's error.
    #[error("not YAML: {0}")]
    NotYaml(String),
    /// Its top is a list or a scalar.
    #[error("not a project file: no mapping at its top")]
    NoMapping,
    /// It has none of the keys of a project.
    #[error("not a project file: it has no services, resources, actions or extend")]
    NoProject,
    /// A folder without project files.
    #[error("no s.yaml or s.yml is in it or below")]
    Empty,
    /// A folder below too many others.
    #[error("too deep, its files are not read")]
    TooDeep,
    /// A pipe or a device, which may never end.
    #[error("not a regular file; write its content to one")]
    NotAFile,
    /// A file at the end of a chain of too many `extend`.
    #[error("the files extend each other more than {MAX_EXTENDED_FILES} times")]
    ChainTooLong,
    /// The name of an extended file that only the CLI resolves.
    #[error("a variable, which only the CLI resolves")]
    Variable,
}

/// Reads a project file, or every one below a folder.
///
/// # Errors
/// When it does not exist, is no project file, or the folder has none.
pub(super) fn read(path: &Path, packages: &mut ProjectPackages) -> Result<(), ProjectFileError> {
    read_path(path, packages).map_err(|reason| ProjectFileError { path: path.to_owned(), reason })
}

fn read_path(path: &Path, packages: &mut ProjectPackages) -> Result<(), ProjectReadError> {
    if !fs::metadata(path)?.is_dir() {
        return packages.read_file(path, MAX_EXTENDED_FILES);
    }
    let mut files = Vec::new();
    find_files(path, MAX_FOLDER_DEPTH, &mut files, &mut packages.unreadable)?;
    if files.is_empty() && packages.unreadable.is_empty() {
        return Err(ProjectReadError::Empty);
    }
    for path in files {
        if let Err(error) = packages.read_file(&path, MAX_EXTENDED_FILES) {
            packages.unreadable.push(UnreadableFile { path, error });
        }
    }
    Ok(())
}

/// The project files below a folder, in order. Links are not followed: they may form a loop. A folder below it that cannot
/// be read is added to `unreadable`, and the others are searched.
fn find_files(
    path: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
    unreadable: &mut Vec<UnreadableFile>,
) -> Result<(), ProjectReadError> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&&*name) {
            let searched = match depth {
                0 => Err(ProjectReadError::TooDeep),
                _ => find_files(&entry.path(), depth - 1, files, unreadable),
            };
            unreadable.extend(searched.err().map(|error| UnreadableFile { path: entry.path(), error }));
        } else if matches!(&*name, "s.yaml" | "s.yml") && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

impl ProjectPackages {
    /// Reads one file and those that it extends, at most `extends` in a chain; a file that was read already is left alone.
    fn read_file(&mut self, path: &Path, extends: usize) -> Result<(), ProjectReadError> {
        if !self.files.insert(fs::canonicalize(path)?) {
            return Ok(());
        }
        let text = read_to_limit(open_regular(path)?, MAX_PROJECT_FILE_BYTES)?;
        let tree = parse(&text)?;
        let Value::Object(top) = &tree else { return Err(ProjectReadError::NoMapping) };
        if !top.keys().any(|key| is_structure(key)) {
            return Err(ProjectReadError::NoProject);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for base in extended_files(top) {
            let path = folder.join(base);
            let read = match extends.checked_sub(1) {
                _ if base.contains("${") || base.contains("{{") => Err(ProjectReadError::Variable),
                Some(extends) => self.read_file(&path, extends),
                None => Err(ProjectReadError::ChainTooLong),
            };
            if let Err(error) = read {
                self.unreadable.push(UnreadableFile { path, error });
            }
        }
        self.walk(path, dialect_of(top), &tree);
        Ok(())
    }

    fn walk(&mut self, path: &Path, dialect: DialectName, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(path, dialect, item)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("component" | "plugin", Value::String(text)) => self.add_name(path, dialect, text),
                        (key, _) if PARAMETER_KEYS.contains(&key) => {}
                        _ => self.walk(path, dialect, value),
                    }
                }
            }
            _ => {}
        }
    }

    /// Adds one name. In actions of edition 1 a command follows the name of a component.
    fn add_name(&mut self, path: &Path, dialect: DialectName, text: &str) {
        let name = text.trim();
        let mut skip = |reason| self.skipped.push(SkippedName { file: path.to_owned(), text: name.to_owned(), reason });
        if name.is_empty() {
            return skip("an empty name");
        }
        if name.contains("${") || name.contains("{{") {
            return skip("a variable, which only the CLI resolves");
        }
        if name.contains("://") {
            return skip("an address, which the CLI fetches by itself");
        }
        if name.starts_with(['.', '/', '~']) || name.contains('\\') {
            return skip("a folder of the project");
        }
        let name = name.split_ascii_whitespace().next().unwrap_or(name);
        match name.parse::<PackageSpec>() {
            Ok(spec) => {
                // The v3 dialect has no repositories, and a name with its upstream is one package in every dialect.
                let is_plain = spec.package.form() == NameForm::Plain;
                let is_routed = !spec.package.as_str().contains(':') && (is_plain || dialect != DialectName::V3);
                let dialect = if is_routed { dialect } else { DialectName::Srm };
                if self.names.insert((name.to_ascii_lowercase(), dialect)) {
                    self.specs.push(PackageSpec { dialect, ..spec });
                }
            }
            Err(_) => skip("not the name of a package"),
        }
    }
}

/// The dialect of the CLI that a project file is for: edition 1 is that of the 2.x CLI.
fn dialect_of(top: &serde_json::Map<String, Value>) -> DialectName {
    let edition = top.get("edition").and_then(Value::as_str).unwrap_or_default();
    let is_1 = edition.starts_with('1') || (edition.is_empty() && !top.contains_key("resources"));
    if is_1 { DialectName::Simple } else { DialectName::V3 }
}

fn is_structure(key: &str) -> bool {
    matches!(key, "services" | "Services" | "resources" | "actions" | "extend" | "extends" | "Extend" | "flow")
}

/// The files that a project file extends: a path, or a list of them.
fn extended_files(top: &serde_json::Map<String, Value>) -> Vec<&str> {
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

/// Opens a regular file. Of a pipe, even opening may wait without end, so nothing else is opened in blocking mode.
fn open_regular(path: &Path) -> Result<fs::File, ProjectReadError> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(ProjectReadError::NotAFile) }
}

/// YAML as a tree. Keys that are no strings, such as port numbers, become strings.
fn parse(text: &str) -> Result<Value, ProjectReadError> {
    let tree = serde_saphyr::from_str::<YamlNode>(text);
    tree.map(Value::from).map_err(|error| ProjectReadError::NotYaml(first_line(&error.to_string()).to_owned()))
}

/// One value of YAML, with any keys and tags.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum YamlNode {
    Map(BTreeMap<String, YamlNode>),
    List(Vec<YamlNode>),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl From<YamlNode> for Value {
    fn from(node: YamlNode) -> Self {
        match node {
            YamlNode::Map(fields) => fields.into_iter().map(|(key, node)| (key, Self::from(node))).collect(),
            YamlNode::List(items) => items.into_iter().map(Self::from).collect(),
            YamlNode::Text(text) => Self::String(text),
            YamlNode::Other(_) => Self::Null,
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
