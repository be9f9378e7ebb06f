//! Imports point one way, pure folders stay pure, files and functions stay short.
//!
//! The table is the one in the doc of `src/lib.rs`. Code is parsed, not searched, so a comment or a
//! string never counts; `#[cfg(test)]` items do not count either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::Visit;

const CODE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Module, and what it may import besides itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("chunk", &[]),
    ("clock", &[]),
    ("metrics", &[]),
    ("namespace", &["chunk", "clock"]),
    ("scheduler", &["chunk", "clock"]),
    ("simulate", &["chunk", "clock", "scheduler"]),
    ("sources", &["chunk", "clock", "metrics"]),
    ("cache", &["chunk", "clock", "metrics"]),
    ("fetch", &["chunk", "clock", "metrics", "namespace", "scheduler", "sources", "cache"]),
    ("fs", &["chunk", "clock", "namespace", "fetch"]),
    ("control", &["fetch", "namespace", "metrics"]),
    ("config", &["chunk", "namespace", "scheduler", "simulate", "sources", "cache", "fetch", "fs", "control"]),
    ("mount", &["*"]),
    (
        "doctor",
        &[
            "chunk",
            "clock",
            "metrics",
            "namespace",
            "scheduler",
            "sources",
            "cache",
            "fetch",
            "fs",
            "control",
            "config",
            "mount",
        ],
    ),
    ("demo", &["*"]),
];

/// Nothing in these folders may name I/O, locks, threads, clocks or unseeded chance.
const PURE: &[&str] = &["namespace", "scheduler", "simulate", "chunk"];
const IMPURE_PATHS: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "net"],
    &["std", "io"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os"],
    &["std", "sync", "Mutex"],
    &["std", "sync", "RwLock"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "mpsc"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["tokio"],
    &["parking_lot"],
    &["rustix"],
    &["reqwest"],
    &["redb"],
    &["tracing"],
    &["rand", "rng"],
    &["rand", "random"],
    &["crate", "clock", "now"],
    &["crate", "clock", "unix_seconds"],
    &["crate", "clock", "local_second_of_day"],
];

/// The files that may say `allow(unsafe_code)`: mapped memory, and a descriptor that was handed in by its number.
const UNSAFE_FILES: &[&str] = &["cache/pool/memory.rs", "fs/descriptor.rs"];

struct SourceFile {
    path: PathBuf,
    module: String,
    text: String,
    syntax: syn::File,
}

fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let path = path.strip_prefix(&root).unwrap().to_path_buf();
                let first = path.iter().next().unwrap().to_str().unwrap();
                let module = first.trim_end_matches(".rs").to_owned();
                files.push(SourceFile { path, module, text, syntax });
            }
        }
    }
    assert!(files.len() > 10, "the source tree was not found");
    files
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
            || attribute.path().is_ident("test")
    })
}

/// Every path that non-test code names, `use` trees spelled out.
#[derive(Default)]
struct Paths {
    found: Vec<(Vec<String>, usize)>,
}

impl Paths {
    fn tree(&mut self, tree: &syn::UseTree, mut prefix: Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.tree(&path.tree, prefix);
            }
            syn::UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.found.push((prefix, name.span().start().line));
            }
            syn::UseTree::Rename(name) => {
                prefix.push(name.ident.to_string());
                self.found.push((prefix, name.span().start().line));
            }
            syn::UseTree::Glob(glob) => self.found.push((prefix, glob.span().start().line)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, prefix.clone())),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test_only(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test_only(&item.attrs) {
            syn::visit::visit_item_impl(self, item);
        }
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test_only(&item.attrs) {
            self.tree(&item.tree, Vec::new());
        }
    }
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found.push((names, path.span().start().line));
        syn::visit::visit_path(self, path);
    }
}

fn paths_of(file: &SourceFile) -> Vec<(Vec<String>, usize)> {
    let mut paths = Paths::default();
    paths.visit_file(&file.syntax);
    paths.found
}

#[test]
fn imports_point_one_way() {
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut broken = Vec::new();
    for file in source_files() {
        if matches!(file.module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(allowed) = table.get(file.module.as_str()) else {
            broken.push(format!("{}: not in the module table", file.path.display()));
            continue;
        };
        for (path, line) in paths_of(&file) {
            let [root, target, ..] = path.as_slice() else { continue };
            let foreign = root == "crate" && *target != file.module && table.contains_key(target.as_str());
            if foreign && !allowed.contains(&"*") && !allowed.contains(&target.as_str()) {
                broken.push(format!("{}:{line} imports crate::{target}", file.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "imports against the table of src/lib.rs:\n{}", broken.join("\n"));
}

#[test]
fn the_table_has_no_cycle_and_no_stranger() {
    let known: BTreeSet<_> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let mut seen = BTreeSet::new();
    for (name, allowed) in MAY_IMPORT {
        for target in allowed.iter().filter(|target| **target != "*") {
            assert!(known.contains(target), "{name} may import {target}, which does not exist");
            assert!(seen.contains(target), "{name} may import {target}, which stands below it");
        }
        seen.insert(*name);
    }
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for name in known {
        assert!(map.contains(&format!("[`{name}`]")), "the map in src/lib.rs does not name {name}");
    }
}

#[test]
fn pure_folders_do_no_io_and_read_no_clock() {
    let mut broken = Vec::new();
    for file in source_files().iter().filter(|file| PURE.contains(&file.module.as_str())) {
        for (path, line) in paths_of(file) {
            let impure = |wanted: &&[&str]| {
                path.len() >= wanted.len() && path.iter().zip(wanted.iter()).all(|(have, want)| have == want)
            };
            if IMPURE_PATHS.iter().any(impure) {
                broken.push(format!("{}:{line} names {}", file.path.display(), path.join("::")));
            }
        }
    }
    assert!(broken.is_empty(), "pure code that does I/O:\n{}", broken.join("\n"));
}

/// Lines with code on them, tests left out.
fn code_lines(file: &SourceFile) -> usize {
    let mut skipped = BTreeSet::new();
    for item in &file.syntax.items {
        if let syn::Item::Mod(module) = item
            && is_test_only(&module.attrs)
        {
            skipped.extend(module.span().start().line..=module.span().end().line);
        }
    }
    let is_code = |(at, line): (usize, &str)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//") && !skipped.contains(&(at + 1))
    };
    file.text.lines().enumerate().filter(|&line| is_code(line)).count()
}

#[test]
fn files_hold_one_idea() {
    let long: Vec<_> = source_files()
        .iter()
        .map(|file| (code_lines(file), file.path.clone()))
        .filter(|(lines, _)| *lines > CODE_LINES_MAX)
        .collect();
    assert!(long.is_empty(), "files over {CODE_LINES_MAX} code lines: {long:?}");
    let vague = ["utils", "util", "common", "helpers", "helper", "types", "manager", "misc"];
    let vaguely: Vec<_> = source_files()
        .into_iter()
        .filter(|file| file.path.iter().any(|part| vague.contains(&part.to_str().unwrap().trim_end_matches(".rs"))))
        .map(|file| file.path)
        .collect();
    assert!(vaguely.is_empty(), "names that say nothing: {vaguely:?}");
}

struct Functions<'a> {
    path: &'a Path,
    long: Vec<String>,
}

impl Functions<'_> {
    fn check(&mut self, name: &syn::Ident, block: &syn::Block) {
        let lines = block.span().end().line - block.span().start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            self.long.push(format!("{}: {name} has {lines} lines", self.path.display()));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check(&item.sig.ident, &item.block);
        syn::visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.check(&item.sig.ident, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[test]
fn functions_stay_short() {
    let mut long = Vec::new();
    for file in source_files() {
        let mut functions = Functions { path: &file.path, long: Vec::new() };
        functions.visit_file(&file.syntax);
        long.extend(functions.long);
    }
    assert!(long.is_empty(), "functions over {FUNCTION_LINES_MAX} lines:\n{}", long.join("\n"));
}

struct Allows(bool);

impl<'ast> Visit<'ast> for Allows {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let text = format!("{:?}", attribute.meta);
        let allows = attribute.path().is_ident("allow") || attribute.path().is_ident("expect");
        self.0 |= allows && text.contains("unsafe_code");
    }
}

#[test]
fn unsafe_code_lives_in_two_files() {
    for file in source_files() {
        let mut allows = Allows(false);
        allows.visit_file(&file.syntax);
        let may = UNSAFE_FILES.contains(&file.path.to_str().unwrap());
        assert!(!allows.0 || may, "{} allows unsafe code", file.path.display());
    }
}
