//! Files import each other in one direction. A file may name what the files above it in its folder tree define, since
//! these are the modules that it is part of.

use std::collections::{BTreeMap, BTreeSet};

use super::{files, is_test, items, journey, scan};

/// The path of a module from the root of the crate.
type Module = Vec<String>;

/// A file of `src`, as a module.
struct SourceFile {
    /// Every path that its code names, those of its imports too.
    paths: Vec<Module>,
}

/// All files of `src` but the roots and the tests, by their modules.
fn modules() -> BTreeMap<Module, SourceFile> {
    let mut found = BTreeMap::new();
    for (path, source) in files("src", ".rs").into_iter().filter(|(path, _)| !is_test(path)) {
        let module = journey::module_path(&path);
        if !["main", "lib"].contains(&module[0].as_str()) {
            found.insert(module, SourceFile { paths: scan::paths(items::without_tests(&source)) });
        }
    }
    found
}

/// The file that defines what `path` names in `module`; `None` for what no file of `src` defines. `depth` bounds the
/// imports that are followed.
fn home(modules: &BTreeMap<Module, SourceFile>, module: &Module, path: &[String], depth: usize) -> Option<Module> {
    let mut at = module.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        first => {
            at.push(first.to_owned());
            if modules.contains_key(&at) {
                rest = &path[1..];
            } else {
                return imported(modules, module, path, depth);
            }
        }
    }
    while let Some(next) = rest.first() {
        at.push(next.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
        rest = &rest[1..];
    }
    if rest.is_empty() || rest[0] == "self" {
        return modules.contains_key(&at).then_some(at);
    }
    // An item of that file, or what it imports under the name.
    imported(modules, &at, rest, depth).or_else(|| modules.contains_key(&at).then_some(at))
}

/// What the first part of `path` is in the imports of `module`.
fn imported(modules: &BTreeMap<Module, SourceFile>, module: &Module, path: &[String], depth: usize) -> Option<Module> {
    let file = modules.get(module).filter(|_| depth > 0)?;
    let named = |found: &&Module| {
        let last = found.iter().rfind(|part| *part != "self");
        found.len() > 1 && found[0] != path[0] && last == Some(&path[0])
    };
    let import = file.paths.iter().find(named)?;
    let mut whole: Module = import.iter().filter(|part| *part != "self" || import[0] == "self").cloned().collect();
    whole.extend_from_slice(&path[1..]);
    home(modules, module, &whole, depth - 1)
}

/// For each module the modules that it imports, less those that it is part of.
fn imports(modules: &BTreeMap<Module, SourceFile>) -> BTreeMap<Module, BTreeSet<Module>> {
    let of = |module: &Module, file: &SourceFile| {
        let homes = file.paths.iter().filter_map(|path| home(modules, module, path, 8));
        homes.filter(|home| !module.starts_with(home)).collect()
    };
    modules.iter().map(|(module, file)| (module.clone(), of(module, file))).collect()
}

/// Removes every module that is in no circle.
fn only_circles(mut imports: BTreeMap<Module, BTreeSet<Module>>) -> BTreeMap<Module, BTreeSet<Module>> {
    loop {
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        let before = imports.len();
        imports.retain(|module, targets| !targets.is_empty() && imported.contains(module));
        let left: BTreeSet<Module> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|targets| targets.retain(|target| left.contains(target)));
        if imports.len() == before {
            return imports;
        }
    }
}

#[test]
fn files_import_each_other_in_one_direction() {
    let modules = modules();
    let imports = imports(&modules);
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 2000, "the imports are not found any more");
    let circles = only_circles(imports);
    let line = |(module, targets): (&Module, &BTreeSet<Module>)| {
        let targets: Vec<String> = targets.iter().map(|target| target.join("::")).collect();
        format!("{} imports {}", module.join("::"), targets.join(", "))
    };
    let lines: Vec<String> = circles.iter().map(line).collect();
    assert!(lines.is_empty(), "{} files are in circles:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn a_circle_is_found_through_a_reexport() {
    let file = |source: &str| SourceFile { paths: scan::paths(source) };
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    let mut modules = BTreeMap::from([
        (module("a"), file("mod one; mod two; pub use one::One; pub use two::Two;")),
        (module("a::one"), file("use super::{Two, other}; struct One(Two);")),
        (module("a::two"), file("use crate::a::One; struct Two(Box<One>);")),
        (module("b"), file("use crate::a::{self, One}; fn f() -> a::Two { a::one::g() }")),
    ]);
    let found = imports(&modules);
    assert_eq!(found[&module("b")], BTreeSet::from([module("a"), module("a::one"), module("a::two")]));
    assert_eq!(only_circles(found).into_keys().collect::<Vec<_>>(), [module("a::one"), module("a::two")]);
    modules.insert(module("a::two"), file("use super::other; struct Two;"));
    assert!(
        only_circles(imports(&modules)).is_empty(),
        "what a file takes from the module that it is part of is no circle"
    );
}
