//! The rooms of the house: imports go one way, from the rooms above to those below, and no modules import each other in
//! a circle.

#![expect(clippy::expect_used, reason = "a test stops where something is not as it should be")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom to the top. A room imports from those before it.
const ORDER: [&str; 19] = [
    "runtime",
    "dialect",
    "prices",
    "spool",
    "policy",
    "config",
    "keys",
    "observe",
    "ledger",
    "upstream",
    "tenants",
    "state",
    "proxy",
    "jobs",
    "downstream",
    "admin",
    "start",
    "demo",
    "cli",
];

/// What one module imports of another, with the file and the line where it does.
type Imports = BTreeMap<(String, String), String>;

#[test]
fn every_room_has_its_place_in_the_order() {
    let rooms: BTreeSet<String> = modules().iter().map(|module| room(module).to_owned()).collect();
    let order: BTreeSet<String> = ORDER.map(str::to_owned).into();
    assert_eq!(rooms, order, "a room is missing, or has no place in the order");
}

#[test]
fn imports_go_from_the_rooms_above_to_those_below() {
    let place = |module: &str| ORDER.iter().position(|known| *known == room(module));
    let upwards: Vec<String> = imports()
        .into_iter()
        .filter(|((from, to), _)| room(from) != room(to) && place(from) < place(to))
        .map(|((from, to), line)| format!("{from} imports {to}, which is in a room above it ({line})"))
        .collect();
    assert!(upwards.is_empty(), "{} imports go up:\n{}", upwards.len(), upwards.join("\n"));
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let imports = imports();
    let mut after: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        after.entry(from).or_default().push(to);
    }
    for start in after.keys() {
        if let Some(circle) = circle_through(start, &after) {
            let edges = circle.windows(2).map(|edge| {
                let line = &imports[&(edge[0].to_owned(), edge[1].to_owned())];
                format!("{} imports {} ({line})", edge[0], edge[1])
            });
            panic!("these modules import each other in a circle:\n{}", edges.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The shortest way from a module back to itself.
fn circle_through<'m>(start: &'m str, after: &BTreeMap<&'m str, Vec<&'m str>>) -> Option<Vec<&'m str>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in after.get(way.last()?).into_iter().flatten() {
            if *next == start {
                return Some([way, vec![start]].concat());
            }
            if seen.insert(*next) {
                ways.push_back([way.clone(), vec![*next]].concat());
            }
        }
    }
    None
}

/// Every import of the host's own, by the modules between which it is. A room's files are its modules; what lies in a
/// file's own folder belongs to that file. Unit tests may import what they like.
fn imports() -> Imports {
    let modules = modules();
    let mut imports = Imports::new();
    for file in files(&source()) {
        let from = module_of(&file);
        let text = fs::read_to_string(&file).expect("a source file can be read");
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (at, path) in paths(&file, text) {
            let before = &text[..at];
            if before.lines().last().is_some_and(|line| line.trim_start().starts_with("//")) {
                continue;
            }
            for to in named(&path, &modules) {
                if to != from {
                    let place = file.strip_prefix(source()).unwrap_or(&file).display();
                    let line = before.lines().count();
                    imports.entry((from.clone(), to)).or_insert_with(|| format!("{place}:{line}"));
                }
            }
        }
    }
    imports
}

/// What stands behind `crate::` in a file, and behind `super::` in one that lies in a room itself, as a path from the crate
/// on, with its place. In what lies deeper, `super::` is the module that it belongs to.
fn paths(file: &Path, text: &str) -> Vec<(usize, String)> {
    let behind = |prefix: &str| -> Vec<(usize, String)> {
        let is_whole =
            |at: usize| !text[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
        let found = text.match_indices(prefix).map(|(at, _)| at).filter(|at| is_whole(*at));
        found.map(|at| (at, text[at + prefix.len()..].to_owned())).collect()
    };
    let mut paths = behind("crate::");
    let names: Vec<_> = file.strip_prefix(source()).unwrap_or(file).iter().collect();
    if let [room, name] = &names[..]
        && *name != "mod.rs"
    {
        let within = |(at, path)| (at, format!("{}::{path}", room.to_string_lossy()));
        paths.extend(behind("super::").into_iter().map(within));
    }
    paths
}

/// The modules that the rest of a path behind `crate::` names: `proxy::refusal::Kind`, or `proxy::{body,
/// refusal::Kind}`.
fn named(path: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let is_of_name = |character: char| character.is_alphanumeric() || character == '_';
    let name =
        |path: &str| path.trim_start().chars().take_while(|character| is_of_name(*character)).collect::<String>();
    let room = name(path);
    let of_room = |item: &str| {
        let module = format!("{room}::{}", name(item));
        if modules.contains(&module) { module } else { room.clone() }
    };
    let rest = path[room.len()..].strip_prefix("::").unwrap_or_default();
    match rest.strip_prefix('{') {
        Some(list) => list.split(';').next().unwrap_or_default().split(',').map(of_room).collect(),
        None => BTreeSet::from([of_room(rest)]),
    }
}

fn modules() -> BTreeSet<String> {
    files(&source()).iter().map(|file| module_of(file)).collect()
}

/// `proxy::forward` for `proxy/forward.rs` and for what lies in `proxy/forward/`; `proxy` for `proxy/mod.rs`.
fn module_of(file: &Path) -> String {
    let path = file.strip_prefix(source()).expect("it lies there").with_extension("");
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    match &names[..] {
        [room] => room.clone(),
        [room, module, ..] if module == "mod" || module == "tests" => room.clone(),
        [room, module, ..] => format!("{room}::{module}"),
        [] => unreachable!("a file has a name"),
    }
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files, but for the two that only name the rooms.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry can be read").path()) {
        let is_root =
            path.parent() == Some(&source()) && path.file_stem().is_some_and(|name| name == "lib" || name == "main");
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_root && !is_test {
            files.push(path);
        }
    }
    files
}
