//! Finds the file that the command line client loads from a component or plugin.
//!
//! A source tree often lacks it, because its build makes it. The client looks for `main` of `package.json`, then
//! `compilerOptions.outDir` of `tsconfig.json`, then `src/index.js`, then `index.js`; it resolves the first two as Node's
//! `require` does. A package passes with any of them, and where it is not certain what the client does.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    content::{Content, ContentNode},
    json_comments::without_comments,
};
use crate::origin::VerifyError;

/// Largest `package.json` or `tsconfig.json` that is parsed, in bytes.
const MAX_JSON_BYTES: u64 = 1 << 20;
/// Longest path of an entry point, in bytes.
const MAX_ENTRY_PATH_BYTES: usize = 512;

/// Where the client looks when no file names another place.
const DEFAULT_ENTRY_POINTS: [&str; 2] = ["src/index.js", "index.js"];

/// The outcome of a search for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntrySearch {
    Found,
    Missing,
    /// The zip alone does not tell: a link, a file that cannot be parsed, a path that leaves the package.
    InDoubt,
}

/// A JSON file of the content.
enum JsonFile<T> {
    Absent,
    Unreadable,
    Parsed(T),
}

#[derive(Deserialize)]
struct PackageJson {
    main: Option<Value>,
}

#[derive(Deserialize)]
struct TsConfig {
    #[serde(rename = "compilerOptions")]
    compiler_options: Option<CompilerOptions>,
}

#[derive(Deserialize)]
struct CompilerOptions {
    #[serde(rename = "outDir")]
    out_dir: Option<Value>,
}

/// The path that a JSON file names.
enum NamedPath {
    Absent,
    Path(String),
    /// It is not a path below the root of the package.
    Invalid,
}

/// True for the types of `publish.yaml` whose packages the client loads as a module.
pub(super) fn is_module(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("component") || kind.eq_ignore_ascii_case("plugin"))
}

/// The path of the file that the client would load first, if the content has none of the files that it would load;
/// `None` if it has one, and in doubt.
///
/// # Errors
/// If the zip cannot be read.
pub(super) fn missing_entry(content: &mut dyn Content) -> Result<Option<String>, VerifyError> {
    let package = read_json::<PackageJson>(content, "package.json")?;
    let main = match &package {
        JsonFile::Absent => NamedPath::Absent,
        JsonFile::Unreadable => return Ok(None),
        JsonFile::Parsed(package) => named_path("", package.main.as_ref()),
    };
    let out_dir = match read_json::<TsConfig>(content, "tsconfig.json")? {
        JsonFile::Absent => NamedPath::Absent,
        JsonFile::Unreadable => return Ok(None),
        JsonFile::Parsed(config) => {
            let options = config.compiler_options.as_ref();
            named_path("", options.and_then(|options| options.out_dir.as_ref()))
        }
    };
    let mut first = None;
    for named in [main, out_dir] {
        let path = match named {
            NamedPath::Absent => continue,
            NamedPath::Invalid => return Ok(None),
            NamedPath::Path(path) => path,
        };
        if resolve(content, &path)? != EntrySearch::Missing {
            return Ok(None);
        }
        first.get_or_insert_with(|| probable_file(&path));
    }
    for path in DEFAULT_ENTRY_POINTS {
        if probe(content, path) != EntrySearch::Missing {
            return Ok(None);
        }
    }
    Ok(Some(match package {
        JsonFile::Absent => "package.json".to_owned(),
        _ => first.unwrap_or_else(|| DEFAULT_ENTRY_POINTS[0].to_owned()),
    }))
}

/// Looks for `path` as Node's `require` does: the file, then the folder.
fn resolve(content: &mut dyn Content, path: &str) -> Result<EntrySearch, VerifyError> {
    let file = resolve_file(content, path);
    if file != EntrySearch::Missing || content.node(path) != ContentNode::Folder {
        return Ok(file);
    }
    // The root's own `package.json` named this path.
    if !path.is_empty() {
        match read_json::<PackageJson>(content, &format!("{path}/package.json"))? {
            JsonFile::Absent => {}
            JsonFile::Unreadable => return Ok(EntrySearch::InDoubt),
            JsonFile::Parsed(package) => match named_path(path, package.main.as_ref()) {
                NamedPath::Absent => {}
                NamedPath::Invalid => return Ok(EntrySearch::InDoubt),
                NamedPath::Path(main) => {
                    let found = resolve_file(content, &main).or_else(|| resolve_index(content, &main));
                    if found != EntrySearch::Missing {
                        return Ok(found);
                    }
                }
            },
        }
    }
    Ok(resolve_index(content, path))
}

/// The path itself, or with one of Node's extensions.
fn resolve_file(content: &dyn Content, path: &str) -> EntrySearch {
    if path.is_empty() {
        return EntrySearch::Missing;
    }
    first_of(content, &["", ".js", ".json", ".node"].map(|end| format!("{path}{end}")))
}

/// The index of a folder.
fn resolve_index(content: &dyn Content, path: &str) -> EntrySearch {
    let slash = if path.is_empty() { "" } else { "/" };
    first_of(content, &["js", "json", "node"].map(|end| format!("{path}{slash}index.{end}")))
}

fn first_of(content: &dyn Content, paths: &[String]) -> EntrySearch {
    paths.iter().fold(EntrySearch::Missing, |found, path| found.or_else(|| probe(content, path)))
}

/// Whether a file is at `path`; in doubt if the path or a folder above it is a link.
fn probe(content: &dyn Content, path: &str) -> EntrySearch {
    let is_link = |path: &str| content.node(path) == ContentNode::Link;
    let above = path.match_indices('/').any(|(end, _)| is_link(&path[..end]));
    match content.node(path) {
        _ if above => EntrySearch::InDoubt,
        ContentNode::File => EntrySearch::Found,
        ContentNode::Link => EntrySearch::InDoubt,
        ContentNode::Folder | ContentNode::Absent => EntrySearch::Missing,
    }
}

impl EntrySearch {
    /// This outcome, or that of a further search if the file is missing.
    fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        if self == Self::Missing { next() } else { self }
    }
}

/// The path that a value names from the folder `base`. The client ignores null, false and an empty text.
fn named_path(base: &str, value: Option<&Value>) -> NamedPath {
    let text = match value {
        None | Some(Value::Null | Value::Bool(false)) => return NamedPath::Absent,
        Some(Value::String(text)) if text.is_empty() => return NamedPath::Absent,
        Some(Value::String(text)) => text,
        Some(_) => return NamedPath::Invalid,
    };
    let is_plain = |text: &str| !text.contains(|c: char| c.is_control() || c == '\\') && !text.starts_with('/');
    if !is_plain(text) || base.len() + text.len() > MAX_ENTRY_PATH_BYTES {
        return NamedPath::Invalid;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return NamedPath::Invalid,
            ".." => {}
            _ => parts.push(part),
        }
    }
    NamedPath::Path(parts.join("/"))
}

/// The file that a path most probably stands for: `dist/index.js` for `dist`, `lib/main.js` for `lib/main`.
fn probable_file(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    match path {
        "" => "index.js".to_owned(),
        _ if last.contains('.') => path.to_owned(),
        _ if path == last && last != "index" => format!("{path}/index.js"),
        _ => format!("{path}.js"),
    }
}

fn read_json<T: DeserializeOwned>(content: &mut dyn Content, path: &str) -> Result<JsonFile<T>, VerifyError> {
    match probe(content, path) {
        EntrySearch::Missing => return Ok(JsonFile::Absent),
        EntrySearch::InDoubt => return Ok(JsonFile::Unreadable),
        EntrySearch::Found => {}
    }
    let Some(text) = content.read(path, MAX_JSON_BYTES)? else { return Ok(JsonFile::Unreadable) };
    let parsed = serde_json::from_slice(&text).or_else(|_| serde_json::from_slice(&without_comments(&text)));
    Ok(parsed.map_or(JsonFile::Unreadable, JsonFile::Parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files by path; a value of `->` is a link.
    struct FakeContent<'a>(&'a [(&'a str, &'a str)]);

    impl Content for FakeContent<'_> {
        fn node(&self, path: &str) -> ContentNode {
            let below = format!("{path}/");
            match self.0.iter().find(|(name, _)| *name == path) {
                Some((_, "->")) => ContentNode::Link,
                Some(_) => ContentNode::File,
                None if path.is_empty() || self.0.iter().any(|(name, _)| name.starts_with(&below)) => {
                    ContentNode::Folder
                }
                None => ContentNode::Absent,
            }
        }

        fn has_file_in_any_case(&self, name: &str) -> bool {
            self.0.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
        }

        fn read(&mut self, path: &str, max_size: u64) -> Result<Option<Vec<u8>>, VerifyError> {
            let text = self.0.iter().find(|(name, _)| *name == path).map(|(_, text)| text.as_bytes().to_vec());
            Ok(text.filter(|text| text.len() as u64 <= max_size))
        }
    }

    fn missing(files: &[(&str, &str)]) -> Option<String> {
        missing_entry(&mut FakeContent(files)).expect("readable")
    }

    #[test]
    fn entry_that_the_client_finds_is_not_missing() {
        let dist = "{\"main\": \"dist\"}";
        let out_dir = "{\"compilerOptions\": {\"outDir\": \"./dist\"}}";
        for files in [
            &[("package.json", "{\"main\": \"dist/index.js\"}"), ("dist/index.js", "")][..],
            &[("package.json", "{\"main\": \"./dist/index\"}"), ("dist/index.js", "")],
            &[("package.json", "{\"main\": \"./dist//a/../index.js\"}"), ("dist/index.js", "")],
            &[("package.json", "{\"main\": \"lib/x\"}"), ("lib/x.node", "")],
            &[("package.json", "{\"main\": \"lib/x\"}"), ("lib/x.json", "")],
            &[("package.json", "{\"main\": \"x.cjs\"}"), ("x.cjs", "")],
            &[("package.json", dist), ("dist/index.js", "")],
            &[("package.json", dist), ("dist/index.json", "")],
            &[("package.json", dist), ("dist/index.node", "")],
            &[("package.json", dist), ("dist.js", "")],
            &[("package.json", "{\"main\": \"dist/\"}"), ("dist/index.js", "")],
            &[("package.json", dist), ("dist/package.json", "{\"main\": \"a\"}"), ("dist/a.js", "")],
            &[("package.json", dist), ("dist/package.json", "{\"main\": \"../b\"}"), ("b/index.js", "")],
            &[("package.json", dist), ("dist/package.json", "{\"main\": \"gone\"}"), ("dist/index.js", "")],
            &[("package.json", dist), ("dist/package.json", "{}"), ("dist/index.js", "")],
            &[("package.json", "{\"main\": \".\"}"), ("index.js", "")],
            &[("package.json", "{\"main\": \"gone.js\"}"), ("tsconfig.json", out_dir), ("dist/index.js", "")],
            &[("package.json", "{}"), ("tsconfig.json", out_dir), ("dist/index.js", "")],
            &[("tsconfig.json", out_dir), ("dist/index.js", "")],
            &[("package.json", "{\"main\": \"gone.js\"}"), ("src/index.js", "")],
            &[("package.json", "{\"main\": null}"), ("index.js", "")],
            &[("src/index.js", "")],
            &[("index.js", "")],
        ] {
            assert_eq!(missing(files), None, "{files:?}");
        }
    }

    #[test]
    fn missing_entry_is_the_first_file_that_the_client_looks_for() {
        let main = |main: &str| format!("{{\"name\": \"x\", \"main\": {main}}}");
        let out_dir =
            "// made by tsc --init\n{\"compilerOptions\": {/* \"outDir\": \"no\", */ \"outDir\": \"./lib\",},}";
        for (package, others, expected) in [
            (main("\"dist/index.js\""), &[("src/index.ts", "")][..], "dist/index.js"),
            (main("\"./dist/index.js\""), &[("dist/index.ts", "")], "dist/index.js"),
            (main("\"./dist\""), &[("dist/other.js", "")], "dist/index.js"),
            (main("\"dist/\""), &[], "dist/index.js"),
            (main("\"dist/index\""), &[], "dist/index.js"),
            (main("\"index\""), &[], "index.js"),
            (main("\"lib/main\""), &[], "lib/main.js"),
            (main("\"lib/main.cjs\""), &[], "lib/main.cjs"),
            (main("\"./\""), &[], "index.js"),
            (main("\"dist\""), &[("dist/package.json", "{\"main\": \"gone\"}")], "dist/index.js"),
            (main("\"dist\""), &[("tsconfig.json", out_dir)], "dist/index.js"),
            (main("null"), &[("tsconfig.json", out_dir)], "lib/index.js"),
            (main("\"\""), &[("tsconfig.json", "{}")], "src/index.js"),
            (main("false"), &[("index.ts", ""), ("index.json", "")], "src/index.js"),
            ("{}".to_owned(), &[("src/index.js/x", "")], "src/index.js"),
        ] {
            let files = [&[("package.json", &*package)], others].concat();
            assert_eq!(missing(&files).as_deref(), Some(expected), "{files:?}");
        }
        for files in [&[][..], &[("readme.md", "")], &[("tsconfig.json", out_dir)]] {
            assert_eq!(missing(files).as_deref(), Some("package.json"), "{files:?}");
        }
    }

    #[test]
    fn nothing_is_missing_in_doubt() {
        let long = format!("{{\"main\": \"{}\"}}", "x/".repeat(400));
        let large = format!("{{\"main\": \"gone.js\", \"x\": \"{}\"}}", "x".repeat(1 << 20));
        let deep = format!("{{\"main\": \"gone.js\", \"x\": {}", "[".repeat(10_000));
        let gone = "{\"main\": \"gone.js\"}";
        let dist = "{\"main\": \"dist\"}";
        for files in [
            &[("package.json", "{\"main\": ")][..],
            &[("package.json", "[]")],
            &[("package.json", "\u{feff}{}")],
            &[("package.json", "->")],
            &[("package.json", &long)],
            &[("package.json", &large)],
            &[("package.json", &deep)],
            &[("package.json", "{\"main\": 7}")],
            &[("package.json", "{\"main\": {\"a\": 1}}")],
            &[("package.json", "{\"main\": \"/dist/index.js\"}")],
            &[("package.json", "{\"main\": \"../index.js\"}")],
            &[("package.json", "{\"main\": \"dist\\\\index.js\"}")],
            &[("package.json", "{\"main\": \"a\\nb\"}")],
            &[("package.json", dist), ("dist", "->")],
            &[("package.json", "{\"main\": \"dist/a.js\"}"), ("dist", "->")],
            &[("package.json", dist), ("dist/index.js", "->")],
            &[("package.json", dist), ("dist/package.json", "{\"main\": ")],
            &[("package.json", dist), ("dist/package.json", "{\"main\": \"../../x\"}")],
            &[("package.json", gone), ("tsconfig.json", "{/* \"outDir\" ")],
            &[("package.json", gone), ("tsconfig.json", "{\"compilerOptions\": {\"outDir\": \"../out\"}}")],
            &[("package.json", gone), ("tsconfig.json", "{\"compilerOptions\": []}")],
            &[("package.json", gone), ("index.js", "->")],
            &[("package.json", gone), ("src", "->")],
        ] {
            assert_eq!(missing(files), None, "{files:.200?}");
        }
    }
}
