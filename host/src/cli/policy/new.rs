//! `spillway policy new`: a crate to begin with.

use super::cargo::TARGET;
use super::{Answer, Failure};
use semver::VersionReq;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MANIFEST: &str = include_str!("template/Cargo.toml.txt");
const OWN_WORKSPACE: &str = include_str!("template/workspace.toml.txt");
const LIBRARY: &str = include_str!("template/lib.rs.txt");
const README: &str = include_str!("template/README.md.txt");
const IGNORED: &str = "/target\n";

/// Longest name of a policy: far below what a file's name may have.
const NAME_BYTES_MAX: usize = 64;
/// Names that Rust or Cargo keep for themselves, that the new crate depends on, or that Spillway means otherwise.
const RESERVED: [&str; 65] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "built-in",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "spillway-sdk",
    "spillway_sdk",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its name: that of the crate, of the file in the policy folder, and in the configuration.
    name: String,
    /// The folder in which the crate's own folder, NAME, is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The spillway-sdk to depend on: a folder, or a version. By default the one in the checkout of Spillway in or
    /// from which this runs, or else this program's own version.
    #[arg(long, value_name = "PATH_OR_VERSION")]
    sdk: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let name = &arguments.name;
    check_name(name)?;
    let dir = arguments.path.join(name);
    if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::Usage(format!("{} exists already and is not empty; nothing was changed", dir.display())));
    }
    let sdk = match &arguments.sdk {
        Some(said) => Sdk::said(said)?,
        None => Sdk::near(&arguments.path),
    };
    let failed = |error: io::Error| Failure::Bad(format!("cannot make {}: {error}", dir.display()));
    fs::create_dir_all(dir.join("src")).map_err(failed)?;
    let dir = fs::canonicalize(&dir).map_err(failed)?;

    let is_member = is_member(&dir);
    let filled = |template: &str| {
        template.replace("@NAME@", name).replace("@TYPE@", &type_name(name)).replace("@SDK@", &sdk.dependency(&dir))
    };
    let manifest = filled(MANIFEST) + if is_member { "" } else { OWN_WORKSPACE };
    let files = [
        ("Cargo.toml", manifest),
        ("src/lib.rs", filled(LIBRARY)),
        ("README.md", filled(README)),
        (".gitignore", IGNORED.to_owned()),
    ];
    for (file, text) in files {
        fs::write(dir.join(file), text).map_err(failed)?;
    }
    // With the versions that the SDK itself was tested with, nothing is to be downloaded that a checkout's own build
    // has not downloaded already.
    if let Some(lock) = sdk.lock_file().filter(|_| !is_member) {
        fs::copy(lock, dir.join("Cargo.lock")).map_err(failed)?;
    }

    let shown = arguments.path.join(name);
    let shown = shown.strip_prefix(".").unwrap_or(&shown).display();
    let member = if is_member { "It is a member of the workspace around it.\n" } else { "" };
    Ok(Answer::well(format!(
        "Made {shown}, which takes spillway-sdk {sdk}. {member}Read src/lib.rs there; then:\n\n  \
         spillway policy test {shown}             # its tests, and what providers do to it\n  \
         spillway policy build {shown} --install  # into the policy folder; needs: rustup target add {TARGET}\n",
    )))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Usage(format!("\"{name}\" cannot be a policy's name: {what}")));
    if name.len() > NAME_BYTES_MAX {
        return wrong(&format!("it has more than {NAME_BYTES_MAX} bytes"));
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if !plain || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return wrong("it begins with a letter from a to z, and has only these, digits, - and _ (as in my-provider)");
    }
    if RESERVED.contains(&name) {
        return wrong("Rust, Cargo or Spillway use it for something else");
    }
    Ok(())
}

/// `my-provider` as Rust names a type: `MyProvider`.
fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    // The letters are ASCII.
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

/// Where the SDK comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sdk {
    /// A folder, absolute.
    Path(PathBuf),
    Version(String),
}

impl std::fmt::Display for Sdk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sdk::Path(path) => write!(f, "from {}", path.display()),
            Sdk::Version(version) => write!(f, "{version} from the registry (--sdk PATH takes it from a checkout)"),
        }
    }
}

impl Sdk {
    fn said(said: &str) -> Result<Sdk, Failure> {
        let path = Path::new(said);
        if is_sdk(path) {
            let path = fs::canonicalize(path).map_err(|error| Failure::Usage(format!("--sdk {said}: {error}")))?;
            return Ok(Sdk::Path(path));
        }
        match VersionReq::parse(said) {
            Ok(_) => Ok(Sdk::Version(said.to_owned())),
            Err(_) => Err(Failure::Usage(format!(
                "--sdk {said} is neither a folder with spillway-sdk in it nor a version such as {}",
                env!("CARGO_PKG_VERSION")
            ))),
        }
    }

    /// The SDK of the checkout in which the new crate will lie, in which this runs, or from which this program came.
    fn near(parent: &Path) -> Sdk {
        let here = std::env::current_dir().ok();
        let program = std::env::current_exe().ok();
        let source = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let places = [std::path::absolute(parent).ok(), here, program, source];
        let checkouts = places.iter().flatten().flat_map(|place| place.ancestors());
        let found = checkouts.map(|folder| folder.join("sdk")).find(|folder| is_sdk(folder));
        found.map_or_else(|| Sdk::Version(env!("CARGO_PKG_VERSION").to_owned()), Sdk::Path)
    }

    /// The dependency's value. A crate within the checkout can move with it.
    fn dependency(&self, dir: &Path) -> String {
        match self {
            Sdk::Version(version) => toml::Value::from(version.as_str()).to_string(),
            Sdk::Path(path) => {
                let within = path.parent().and_then(|checkout| dir.strip_prefix(checkout).ok());
                let path = match within {
                    Some(below) => {
                        let up: PathBuf = below.components().map(|_| "..").collect();
                        up.join(path.file_name().unwrap_or_default())
                    }
                    None => path.clone(),
                };
                format!("{{ path = {} }}", toml::Value::from(path.to_string_lossy().into_owned()))
            }
        }
    }

    /// The lock file of the checkout.
    fn lock_file(&self) -> Option<PathBuf> {
        match self {
            Sdk::Path(path) => Some(path.parent()?.join("Cargo.lock")).filter(|lock| lock.is_file()),
            Sdk::Version(_) => None,
        }
    }
}

fn is_sdk(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| {
        let table = toml::from_str::<toml::Table>(&text).ok();
        table.is_some_and(|table| table.get("package").is_some_and(|p| p.get("name") == Some(&"spillway-sdk".into())))
    })
}

/// Whether a workspace around a folder counts it among its members; a workspace of its own would then be one too many.
fn is_member(dir: &Path) -> bool {
    let around = dir.ancestors().skip(1).find_map(|folder| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let table: toml::Table = toml::from_str(&text).ok()?;
        Some((folder, table.get("workspace")?.clone()))
    });
    let Some((root, workspace)) = around else { return false };
    let Ok(below) = dir.strip_prefix(root) else { return false };
    let listed = |key: &str| {
        let patterns = workspace.get(key).and_then(toml::Value::as_array).into_iter().flatten();
        patterns.filter_map(toml::Value::as_str).any(|pattern| matches_pattern(below, pattern))
    };
    listed("members") && !listed("exclude")
}

/// As Cargo's patterns are used in practice: each component is a name or `*`.
fn matches_pattern(path: &Path, pattern: &str) -> bool {
    let (path, pattern): (Vec<_>, Vec<_>) = (path.components().collect(), Path::new(pattern).components().collect());
    path.len() == pattern.len()
        && path.iter().zip(&pattern).all(|(name, wanted)| wanted.as_os_str() == "*" || name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused_with_what_would_do() {
        for good in ["default", "my-provider", "p2_x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "letter"),
            ("My", "letter"),
            ("a.b", "only these"),
            ("../x", "only these"),
            ("2x", "letter"),
            ("fn", "Rust"),
        ] {
            let error = check_name(bad).expect_err("a bad name").to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(check_name(&"x".repeat(65)).is_err());
        assert!(RESERVED.is_sorted(), "so that a reader finds what is in it");
    }

    #[test]
    fn types_are_named_as_rust_names_them() {
        assert_eq!(type_name("my-provider_2"), "MyProvider2");
    }

    #[test]
    fn an_sdk_is_a_folder_or_a_version() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let path = fs::canonicalize(&sdk).expect("the SDK");
        assert_eq!(Sdk::said(&sdk.to_string_lossy()).ok(), Some(Sdk::Path(path.clone())));
        assert_eq!(Sdk::said("0.1.2").ok(), Some(Sdk::Version("0.1.2".into())));
        assert_eq!(Sdk::said("^0.1").ok(), Some(Sdk::Version("^0.1".into())));
        for neither in ["nowhere", "1.2.3.4", "0.1.2-"] {
            assert!(Sdk::said(neither).is_err_and(|failure| failure.to_string().contains("neither")), "{neither}");
        }
        let checkout = path.parent().expect("a checkout");
        assert_eq!(Sdk::Path(path.clone()).dependency(&checkout.join("a/b")), "{ path = \"../../sdk\" }");
        assert_eq!(Sdk::Version("1".into()).dependency(checkout), "\"1\"");
    }

    #[test]
    fn only_a_workspace_that_lists_a_folder_has_it_as_a_member() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = "[workspace]\nmembers = [\"host\", \"policies/*\"]\nexclude = [\"policies/old\"]\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("written");
        let is_member = |below: &str| is_member(&folder.path().join(below));
        assert!(is_member("policies/mine") && is_member("host"));
        assert!(!is_member("mine") && !is_member("policies/old") && !is_member("policies/mine/deeper"));
    }
}
