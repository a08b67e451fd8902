//! What is in a binary and is no crate: the C library, Rust's own, and the C code that crates bring along.

use super::packages::Package;
use super::stage::at;
use crate::process::output;
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};

/// A part of the binary that is no crate.
#[derive(Debug)]
pub(crate) struct Other {
    pub(crate) name: &'static str,
    /// None where nobody says which.
    pub(crate) version: Option<String>,
    /// An expression of SPDX.
    pub(crate) licence: &'static str,
    /// By which databases of holes know it.
    pub(crate) cpe: Option<String>,
    /// Its licence, where it is not among the files of a crate.
    pub(crate) text: Option<PathBuf>,
}

/// C code in a crate: in which, where the header lies that says its version, and by which word.
const IN_CRATES: [(&str, &str, &str, &str, &str); 1] =
    [("SQLite", "blessing", "libsqlite3-sys", "sqlite3/sqlite3.h", "#define SQLITE_VERSION ")];

/// All of them. `musl_licence` is what musl may be passed on under.
///
/// # Errors
/// A version that should be there is not.
pub(crate) fn of(workspace: &Workspace, packages: &[Package], musl_licence: &Path) -> Result<Vec<Other>, String> {
    let rust = output(workspace.command("rustc").arg("--version")).unwrap_or_default();
    let rust = rust.split(' ').nth(1).ok_or("`rustc --version` says no version")?.to_owned();
    let mut others = vec![
        Other {
            name: "musl",
            version: None,
            licence: "MIT",
            cpe: Some("cpe:2.3:a:musl-libc:musl:*:*:*:*:*:*:*:*".to_owned()),
            text: Some(musl_licence.to_owned()),
        },
        Other {
            name: "Rust standard library",
            cpe: Some(format!("cpe:2.3:a:rust-lang:rust:{rust}:*:*:*:*:*:*:*")),
            version: Some(rust),
            licence: "MIT OR Apache-2.0",
            // Its own file, since it has parts of its own.
            text: None,
        },
        // Its text is that of the Wasm engine, which is under the same licence.
        Other {
            name: "LLVM libunwind",
            version: None,
            licence: "Apache-2.0 WITH LLVM-exception",
            cpe: None,
            text: None,
        },
        // No code, but theirs: what host/src/prices/table.json is made of.
        Other {
            name: "LiteLLM prices",
            version: None,
            licence: "MIT",
            cpe: None,
            text: Some(workspace.root.join("host/src/prices/LICENSE-litellm")),
        },
    ];
    for (name, licence, package, header, word) in IN_CRATES {
        let Some(package) = packages.iter().find(|one| one.id.0 == package) else { continue };
        let header = package.folder.join(header);
        let text = fs::read_to_string(&header).map_err(|error| at(&header, &error))?;
        let version = defined(&text, word).ok_or_else(|| format!("{} says no version", header.display()))?;
        let cpe = Some(format!("cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*"));
        others.push(Other { name, version: Some(version), licence, cpe, text: None });
    }
    Ok(others)
}

/// Where this toolchain keeps the licences of its standard library, which is in each binary.
///
/// # Errors
/// It brings none along.
pub(crate) fn rust_library_licences(workspace: &Workspace) -> Result<PathBuf, String> {
    let root = output(workspace.command("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    let file = Path::new(&root).join("share/doc/rust/COPYRIGHT-library.html");
    let missing =
        || format!("this toolchain brings no licences of its library along ({}); rustup's do", file.display());
    if file.is_file() { Ok(file) } else { Err(missing()) }
}

/// The text that a header defines a word as.
fn defined(header: &str, word: &str) -> Option<String> {
    let line = header.lines().find_map(|line| line.strip_prefix(word))?;
    Some(line.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_the_version() {
        let header = "#define SQLITE_VERSION_NUMBER 3051000\n#define SQLITE_VERSION        \"3.51.0\"\n";
        assert_eq!(defined(header, "#define SQLITE_VERSION ").as_deref(), Some("3.51.0"));
        assert_eq!(defined(header, "#define OTHER "), None);
    }
}
