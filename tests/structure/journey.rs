//! The request's way through the modules: ARCHITECTURE.md names functions that exist, and no layer is skipped.

use std::{collections::BTreeSet, fs, path::Path};

use super::{files, is_test, root, scan};

/// The path of every function of `src`: its module, its type if it has one, its name.
fn functions() -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (path, source) in files("src", ".rs") {
        let module = module_path(&path);
        for function in scan::functions(&source) {
            let names = function.owner.into_iter().chain([function.name]);
            paths.push(module.iter().cloned().chain(names).collect());
        }
    }
    paths
}

/// The module that a file of `src` is: `src/service/hosts.rs` is `service::hosts`.
pub(crate) fn module_path(path: &Path) -> Vec<String> {
    let parts = path.components().skip(1).map(|part| part.as_os_str().to_str().unwrap());
    parts.map(|part| part.trim_end_matches(".rs").to_owned()).collect()
}

/// The section of ARCHITECTURE.md that follows one request.
fn journey() -> String {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("\n## The way of one request\n").unwrap();
    section.split("\n## ").next().unwrap().to_owned()
}

/// What a text has in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The segments of `module::function`, `Type::method` and longer paths; `None` for anything else.
fn function_path(word: &str) -> Option<Vec<String>> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let segments: Vec<String> = word.split("::").map(str::to_owned).collect();
    let is_function = segments.last()?.starts_with(|first: char| first.is_ascii_lowercase());
    (segments.len() > 1 && is_function && segments.iter().all(|name| is_name(name))).then_some(segments)
}

/// True for a name of several words in camel case, which is a type or a variant: `FillState`, but not `ETag`.
fn is_type_name(word: &str) -> bool {
    let starts_word = |part: &[u8]| part[0].is_ascii_uppercase() && part[1].is_ascii_lowercase();
    let words = word.as_bytes().windows(2).filter(|part| starts_word(part)).count();
    word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && word.len() > 1
        && starts_word(&word.as_bytes()[..2])
        && words > 1
}

#[test]
fn every_function_and_type_of_the_journey_exists() {
    let journey = journey();
    let functions = functions();
    let mut count = 0;
    for path in quoted(&journey).filter_map(function_path) {
        assert!(functions.iter().any(|function| function.ends_with(&path)), "no function {}", path.join("::"));
        count += 1;
    }
    assert!(count >= 30, "the journey names only {count} functions");
    let sources = files("src", ".rs").into_iter().filter(|(path, _)| !is_test(path));
    let words: BTreeSet<String> = sources.flat_map(|(_, source)| scan::words(&source)).collect();
    for word in quoted(&journey).filter(|word| is_type_name(word)) {
        assert!(words.contains(word), "no type {word}");
    }
}

#[test]
fn service_reaches_the_cache_through_the_registry_only() {
    for (path, source) in [files("src/service", ".rs"), files("src/service.rs", ".rs")].concat() {
        for method in ["cache", "disk"] {
            assert!(!scan::calls_method(&source, method), "{}: .{method}()", path.display());
        }
    }
    for (path, source) in files("src/registry", ".rs").into_iter().filter(|(path, _)| !is_test(path)) {
        assert!(!source.contains("pub fn cache("), "{} hands out the cache", path.display());
    }
    let registry = fs::read_to_string(root().join("src/registry.rs")).unwrap();
    assert!(!registry.contains("pub fn cache("), "Registry hands out the cache");
}

#[test]
fn journey_scanner_finds_functions_with_their_types() {
    let source = "
        pub fn free<T>(run: impl Fn() -> T) -> impl Future { fn nested() {} }
        impl<'a, T: Into<u8>> Service<'a, T> where T: Send { pub(super) async fn handle(&self) {} }
        impl crate::server::Handler for Serve { fn handle() {} }
        trait Upstream { fn fetch(&self); }
        mod tests { fn inner() {} }
    ";
    let found: Vec<String> = scan::functions(source)
        .into_iter()
        .map(|function| format!("{}::{}", function.owner.unwrap_or_default(), function.name))
        .collect();
    let expected = ["::free", "::nested", "Service::handle", "Serve::handle", "Upstream::fetch", "::inner"];
    assert_eq!(found, expected);
    assert!(scan::calls_method("self.cache() .x", "cache") && !scan::calls_method("cache(); a.cache", "cache"));
    assert_eq!(function_path("Service::handle").map(|path| path.len()), Some(2));
    assert!(["handle", "FillState::Streaming", "a::b()", "refs/tags"].iter().all(|word| function_path(word).is_none()));
    assert!(is_type_name("FillState") && !is_type_name("ETag") && !is_type_name("Complete") && !is_type_name("a b"));
}
