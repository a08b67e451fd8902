//! What is in a binary: the crates that were compiled for it, by the word of two witnesses.
//!
//! The resolver (`cargo tree`) knows what needs what, licences and where a crate is at home. The build itself knows
//! what it compiled, and from where. Both must name the same crates, or nothing that is said of the binary is known.

use super::target::Target;
use crate::process::output;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A crate's name and version.
pub(crate) type Id = (String, String);

/// A crate of the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) id: Id,
    /// An expression of SPDX.
    pub(crate) licence: String,
    /// Where it is at home; empty if it does not say.
    pub(crate) repository: String,
    /// What it needs of the binary's crates.
    pub(crate) needs: BTreeSet<Id>,
    /// Its sources.
    pub(crate) folder: PathBuf,
    /// SHA-256 of its sources as crates.io has them; ours are not from there.
    pub(crate) checksum: Option<String>,
}

impl Package {
    /// Its name and version in one word.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.id.0, self.id.1)
    }
}

/// The crates of a binary, by name. `messages` is what its build said, as JSON.
///
/// # Errors
/// When the witnesses do not agree, or one cannot be heard.
pub(crate) fn of(workspace: &Workspace, target: Target, messages: &str) -> Result<Vec<Package>, String> {
    let mut cargo = workspace.cargo();
    cargo.args(["tree", "--locked", "--package", "spillway", "--edges", "normal,no-proc-macro", "--prefix", "depth"]);
    let tree = output(cargo.args(["--target", target.triple(), "--format", " {p}|{l}|{r}"]));
    let resolved = read_tree(&tree.ok_or("`cargo tree` does not say what is in the binary")?)?;
    let compiled = read_messages(messages, target)?;
    let lock = std::fs::read_to_string(workspace.root.join("Cargo.lock")).map_err(|error| error.to_string())?;
    join(resolved, &compiled, &read_checksums(&lock))
}

/// What the resolver knows of a crate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolved {
    licence: String,
    repository: String,
    needs: BTreeSet<Id>,
}

/// Reads lines such as `2 itoa v1.0.0|MIT OR Apache-2.0|https://… (*)`: depth, name, version, for ours the folder.
fn read_tree(tree: &str) -> Result<BTreeMap<Id, Resolved>, String> {
    let mut all: BTreeMap<Id, Resolved> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mistake = || format!("`cargo tree` says what is not understood: {line}");
        let (depth, rest) = line.split_once(' ').ok_or_else(mistake)?;
        let depth: usize = depth.parse().map_err(|_| mistake())?;
        let mut fields = rest.trim_end_matches(" (*)").split('|');
        let mut words = fields.next().ok_or_else(mistake)?.split(' ');
        let name = words.next().ok_or_else(mistake)?.to_owned();
        let version = words.next().and_then(|version| version.strip_prefix('v')).ok_or_else(mistake)?.to_owned();
        let id = (name, version);
        above.truncate(depth);
        if let Some(parent) = above.last().and_then(|parent| all.get_mut(parent)) {
            parent.needs.insert(id.clone());
        }
        let package = all.entry(id.clone()).or_default();
        // Crates wrote a slash for "or" before there was a word for it.
        package.licence = fields.next().unwrap_or_default().replace(" / ", " OR ").replace('/', " OR ");
        package.repository = fields.next().unwrap_or_default().to_owned();
        above.push(id);
    }
    Ok(all)
}

/// Where the sources of each crate are that was compiled for the target. What ran during the build, such as macros, was
/// compiled for this machine, into another folder.
fn read_messages(messages: &str, target: Target) -> Result<BTreeMap<Id, PathBuf>, String> {
    let mut all = BTreeMap::new();
    let folder = format!("/{}/", target.triple());
    for line in messages.lines().filter(|line| line.contains("\"reason\":\"compiler-artifact\"")) {
        let (_, files) = line.split_once("\"filenames\":[").unwrap_or_default();
        if !files.split(']').next().unwrap_or_default().contains(&folder) {
            continue;
        }
        let read = || {
            let manifest = PathBuf::from(text(line, "manifest_path")?);
            let (place, last) = text(line, "package_id")?.rsplit_once('#')?;
            // A folder that is named as its crate is not named twice.
            let (name, version) = last.split_once('@').or_else(|| Some((place.rsplit_once('/')?.1, last)))?;
            Some(((name.to_owned(), version.to_owned()), manifest.parent()?.to_owned()))
        };
        let (id, folder) = read().ok_or_else(|| format!("the build says what is not understood: {line}"))?;
        all.insert(id, folder);
    }
    Ok(all)
}

/// A text of an object in JSON, of those that hold nothing that would be written otherwise in it.
fn text<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    rest.split('"').next()
}

/// The sums of what came from crates.io, in the words of Cargo.lock.
fn read_checksums(lock: &str) -> BTreeMap<Id, String> {
    let package = |text: &str| {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.map(|rest| rest.trim_end_matches('"').to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

fn join(
    resolved: BTreeMap<Id, Resolved>,
    compiled: &BTreeMap<Id, PathBuf>,
    checksums: &BTreeMap<Id, String>,
) -> Result<Vec<Package>, String> {
    let unresolved: Vec<_> = compiled.keys().filter(|id| !resolved.contains_key(*id)).collect();
    let not_compiled: Vec<_> = resolved.keys().filter(|id| !compiled.contains_key(*id)).collect();
    if !unresolved.is_empty() || !not_compiled.is_empty() {
        return Err(format!(
            "what is in the binary is not known: only the build names {unresolved:?}, only the resolver \
             {not_compiled:?}"
        ));
    }
    let package = |(id, Resolved { licence, repository, needs }): (Id, Resolved)| Package {
        folder: compiled.get(&id).cloned().unwrap_or_default(),
        checksum: checksums.get(&id).cloned(),
        id,
        licence,
        repository,
        needs,
    };
    Ok(resolved.into_iter().map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0 spillway v0.1.0 (/src/host)|MIT OR Apache-2.0|https://example.test/ours
1 hyper v1.2.3|MIT|https://example.test/hyper
2 http v1.0.0|MIT/Apache-2.0|
1 http v1.0.0|MIT/Apache-2.0| (*)
";

    fn id(name: &str, version: &str) -> Id {
        (name.to_owned(), version.to_owned())
    }

    fn message(package: &str, manifest: &str, file: &str) -> String {
        format!(
            "{{\"reason\":\"compiler-artifact\",\"package_id\":\"{package}\",\"manifest_path\":\"{manifest}\",\
             \"filenames\":[\"{file}\"],\"executable\":null}}\n"
        )
    }

    fn messages() -> String {
        let built = "/t/x86_64-unknown-linux-musl/dist/deps/lib.rlib";
        let registry = "registry+https://index.test/x";
        message(&format!("{registry}#hyper@1.2.3"), "/r/hyper-1.2.3/Cargo.toml", built)
            + &message(&format!("{registry}#http@1.0.0"), "/r/http-1.0.0/Cargo.toml", built)
            + &message(&format!("{registry}#syn@2.0.0"), "/r/syn-2.0.0/Cargo.toml", "/t/dist/deps/libsyn.rlib")
            + &message("path+file:///src/spillway#0.1.0", "/src/spillway/Cargo.toml", built)
            + "{\"reason\":\"build-finished\",\"success\":true}\n"
    }

    #[test]
    fn each_crate_of_the_binary_is_known_with_what_it_needs_and_what_only_builds_it_is_not() {
        let compiled = read_messages(&messages(), Target::X86_64).expect("messages");
        let checksums = read_checksums(
            "[[package]]\nname = \"http\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"ours\"\n",
        );
        let packages = join(read_tree(TREE).expect("a tree"), &compiled, &checksums).expect("packages");
        let names: Vec<String> = packages.iter().map(Package::name).collect();
        assert_eq!(names, ["http 1.0.0", "hyper 1.2.3", "spillway 0.1.0"]);
        assert_eq!(packages[0].licence, "MIT OR Apache-2.0");
        assert_eq!(packages[0].checksum.as_deref(), Some("abc"));
        assert_eq!(packages[1].needs, BTreeSet::from([id("http", "1.0.0")]));
        assert_eq!(packages[1].folder, PathBuf::from("/r/hyper-1.2.3"));
        assert_eq!(packages[2].needs, BTreeSet::from([id("http", "1.0.0"), id("hyper", "1.2.3")]));
    }

    #[test]
    fn witnesses_that_do_not_agree_are_not_believed() {
        let compiled = BTreeMap::from([(id("other", "1.0.0"), PathBuf::new())]);
        let failed = join(read_tree(TREE).expect("a tree"), &compiled, &BTreeMap::new());
        assert!(failed.is_err_and(|why| why.contains("other") && why.contains("hyper")));
    }

    #[test]
    fn what_cannot_be_read_is_shown() {
        assert!(read_tree("nonsense").is_err_and(|why| why.contains("nonsense")));
        let odd = message("odd", "/r/Cargo.toml", "/t/x86_64-unknown-linux-musl/dist/x");
        assert!(read_messages(&odd, Target::X86_64).is_err());
    }
}
