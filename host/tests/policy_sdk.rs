//! What `spillway policy new` hands out, and what the README shows, is what is here: the SDK, and the policy to begin
//! with.

#![expect(clippy::expect_used, reason = "a test stops where something is not as it should be")]

use spillway_sdk::sources::{FILES, VERSION};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const POLICY: &str = "policies/trip-on-code/src/lib.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| unreachable!("{path}: {error}"))
}

fn table(path: &str) -> toml::Table {
    toml::from_str(&text(path)).expect("a manifest")
}

/// Every file below a folder, with `/` between the parts of its path.
fn files_below(folder: &Path, before: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = format!("{before}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => files_below(&entry.path(), &format!("{path}/"), found),
            false => {
                found.insert(path);
            }
        }
    }
}

#[test]
fn the_sdk_carries_every_file_that_it_is_built_from() {
    let mut there = BTreeSet::new();
    files_below(&root().join("sdk"), "", &mut there);
    let carried: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(carried, there, "sdk/src/sources.rs lists what lies in sdk/");
}

#[test]
fn its_licences_are_the_repositorys() {
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        assert_eq!(text(&format!("sdk/{licence}")), text(licence), "{licence}");
    }
}

#[test]
fn its_manifest_says_by_itself_what_the_workspace_says() {
    let (sdk, workspace) = (table("sdk/Cargo.toml"), table("Cargo.toml"));
    let said = |key: &str| &workspace["workspace"][key];
    for key in ["version", "edition", "rust-version", "license", "repository"] {
        assert_eq!(sdk["package"][key], said("package")[key], "{key}");
    }
    assert_eq!(sdk["package"]["version"].as_str(), Some(VERSION));
    let wasm = sdk["target"]["cfg(target_arch = \"wasm32\")"]["dependencies"].as_table().expect("a table");
    for (name, dependency) in sdk["dependencies"].as_table().expect("a table").iter().chain(wasm) {
        assert_eq!(dependency, &said("dependencies")[name], "{name}");
    }
    let lints = |manifest: &toml::Value, group: &str| manifest[group].as_table().expect("lints").clone();
    for (lint, level) in lints(&sdk["lints"], "rust") {
        assert_eq!(level, said("lints")["rust"][&lint], "{lint}");
    }
    for (lint, level) in lints(&sdk["lints"], "clippy") {
        assert_eq!(level, said("lints")["clippy"][&lint], "{lint}");
    }
    assert!(!text("sdk/Cargo.toml").contains("workspace = true") && !text("sdk/Cargo.toml").contains("path = "));
}

#[test]
fn the_policy_to_begin_with_is_the_one_in_this_repository() {
    let template = text("host/src/cli/policy/template/lib.rs.txt");
    assert_eq!(template.replace("@TYPE@", "TripOnCode"), text(POLICY));
}

/// From its imports to its export.
fn shown(source: &str) -> &str {
    let begin = source.find("use spillway_sdk::").expect("imports");
    let end = source.find("spillway_sdk::export!").expect("an export");
    let line = source[end..].find('\n').expect("a whole line");
    &source[begin..end + line + 1]
}

#[test]
fn the_readme_shows_it() {
    let readme = text("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with("First policy")).expect("a section");
    let block = section.split("```").find_map(|part| part.strip_prefix("rust\n")).expect("code in it");
    assert_eq!(block, shown(&text(POLICY)));
}

#[test]
fn it_has_fewer_than_twenty_lines_and_names_one_code_of_each_kind() {
    let source = text(POLICY);
    let policy = shown(&source);
    assert!(policy.lines().count() < 20, "{policy}");
    for part in ["429 if", "500..=599 if", "from_mins(15)"] {
        assert!(policy.contains(part), "{part}");
    }
}
