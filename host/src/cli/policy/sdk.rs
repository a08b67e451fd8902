//! Where a new policy's SDK comes from.

use super::Failure;
use super::confined::text_of;
use super::unpacked::{self, FOLDER, Note, Unpacked, dependency, in_manifest};
use semver::VersionReq;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Where the SDK comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// From this program, which unpacks it.
    Carried,
    /// From a folder, absolute.
    Path(PathBuf),
    /// From the registry. That is never chosen by itself: what is published there cannot be known without asking.
    Version(String),
}

impl Sdk {
    /// What `--sdk` says.
    pub(super) fn said(said: &str) -> Result<Sdk, Failure> {
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

    /// That of the checkout of Spillway in which a crate lies, and else this program's own. Where this program lies,
    /// where it was built and where it runs are of no consequence: a crate that depends on a folder elsewhere can
    /// neither be moved nor handed on.
    pub(super) fn by_place(dir: &Path) -> Sdk {
        let checkout = dir.ancestors().skip(1).find(|folder| is_checkout(folder));
        checkout.map_or(Sdk::Carried, |checkout| Sdk::Path(checkout.join("sdk")))
    }

    /// Where it lies, for a crate in `dir`, which may be a member of a workspace: several crates of one share it.
    pub(super) fn folder(&self, dir: &Path, workspace: Option<&Path>) -> Option<PathBuf> {
        match self {
            Sdk::Carried => Some(workspace.unwrap_or(dir).join(FOLDER)),
            Sdk::Path(path) => Some(path.clone()),
            Sdk::Version(_) => None,
        }
    }

    /// The dependency's value, for a crate in `dir`.
    pub(super) fn dependency(&self, dir: &Path, workspace: Option<&Path>) -> Result<String, Failure> {
        Ok(match self {
            Sdk::Version(version) => toml::Value::from(version.as_str()).to_string(),
            Sdk::Carried => {
                let up = workspace.map_or_else(PathBuf::new, |root| up_to(root, dir));
                let there = workspace.map(|root| Unpacked::at(&root.join(FOLDER))).transpose()?.flatten();
                let version = there.map_or_else(Note::ours, |there| Ok(there.note))?.version;
                dependency(&version, &up.join(FOLDER))
            }
            // A crate within the checkout can move with it.
            Sdk::Path(path) => {
                let checkout = path.parent().filter(|checkout| dir.starts_with(checkout));
                let within = checkout.map(|checkout| up_to(checkout, dir).join(path.file_name().unwrap_or_default()));
                let path = within.as_ref().unwrap_or(path);
                format!("{{ path = {} }}", in_manifest(path))
            }
        })
    }

    /// Makes sure that the workspace's shared SDK is there. One that is there already is left as it is, since other
    /// policies are built from it.
    pub(super) fn share(&self, workspace: &Path) -> Result<Option<Unpacked>, Failure> {
        let folder = workspace.join(FOLDER);
        match self {
            Sdk::Carried if !folder.exists() => unpacked::unpack(&folder).map(|()| None),
            Sdk::Carried if is_sdk(&folder) => Unpacked::at(&folder),
            Sdk::Carried => Err(Failure::Usage(format!(
                "{} is there already and is no spillway-sdk; --sdk PATH names another",
                folder.display()
            ))),
            Sdk::Path(_) | Sdk::Version(_) => Ok(None),
        }
    }
}

impl std::fmt::Display for Sdk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sdk::Carried => write!(f, "{} as it came with this program", spillway_sdk::sources::VERSION),
            Sdk::Path(path) => write!(f, "from {}", path.display()),
            Sdk::Version(version) => write!(f, "{version} from the registry"),
        }
    }
}

/// From a folder up to one around it.
fn up_to(around: &Path, dir: &Path) -> PathBuf {
    let below = dir.strip_prefix(around).unwrap_or(Path::new(""));
    below.components().map(|_| "..").collect()
}

fn is_sdk(folder: &Path) -> bool {
    is_package(folder, "spillway-sdk")
}

fn is_package(folder: &Path, name: &str) -> bool {
    let package = manifest(folder).and_then(|table| table.get("package")?.get("name")?.as_str().map(str::to_owned));
    package.is_some_and(|package| package == name)
}

/// Whether this is a checkout of Spillway: a workspace with the SDK and the host as its members. A folder of this name
/// alone may be anybody's, and what a policy is built from runs as whoever builds it; so nothing is taken from where
/// everybody may put something, such as /tmp.
fn is_checkout(folder: &Path) -> bool {
    let workspace = manifest(folder).and_then(|table| table.get("workspace")?.get("members")?.as_array().cloned());
    let lists = |name: &str| workspace.iter().flatten().any(|member| member.as_str() == Some(name));
    lists("sdk")
        && lists("host")
        && is_sdk(&folder.join("sdk"))
        && is_package(&folder.join("host"), "spillway")
        && fs::metadata(folder).is_ok_and(|metadata| !is_everybodys(&metadata))
}

fn manifest(folder: &Path) -> Option<toml::Table> {
    toml::from_str(&text_of(&folder.join("Cargo.toml"))?).ok()
}

/// Whether a folder is there for all users of the machine, as its bits say: all may write, and each removes only what
/// is their own.
#[cfg(unix)]
fn is_everybodys(folder: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    const STICKY_AND_WRITABLE_BY_ALL: u32 = 0o1002;
    folder.permissions().mode() & STICKY_AND_WRITABLE_BY_ALL == STICKY_AND_WRITABLE_BY_ALL
}

/// On Windows each user has a folder for temporary files.
#[cfg(windows)]
fn is_everybodys(_folder: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn in_a_checkout_it_is_the_checkouts_and_elsewhere_the_one_that_came_along() {
        let checkout = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("a checkout");
        assert_eq!(Sdk::by_place(&checkout.join("a/b")), Sdk::Path(checkout.join("sdk")));
        let elsewhere = tempfile::tempdir().expect("a folder");
        assert_eq!(Sdk::by_place(&elsewhere.path().join("mine")), Sdk::Carried);
    }

    fn put(folder: &Path, file: &str, text: &str) {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().expect("a folder around it")).expect("a folder");
        fs::write(file, text).expect("written");
    }

    fn package(name: &str) -> String {
        format!("[package]\nname = \"{name}\"\n")
    }

    /// What a checkout is known by, and where its SDK is then found from within it.
    fn checkout() -> (tempfile::TempDir, impl Fn(&Path) -> Sdk) {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), "sdk/Cargo.toml", &package("spillway-sdk"));
        put(folder.path(), "host/Cargo.toml", &package("spillway"));
        put(folder.path(), "Cargo.toml", "[workspace]\nmembers = [\"host\", \"sdk\", \"policies/*\"]\n");
        let found = |folder: &Path| Sdk::by_place(&folder.join("policies/mine"));
        assert_eq!(found(folder.path()), Sdk::Path(folder.path().join("sdk")));
        (folder, found)
    }

    #[test]
    fn a_folder_of_its_name_is_no_checkout_unless_all_around_it_is_one() {
        for (file, text, what) in [
            ("Cargo.toml", "[workspace]\nmembers = [\"sdk\"]\n", "a workspace without the host"),
            ("Cargo.toml", "[workspace]\nmembers = [\"host\"]\n", "a workspace without the SDK"),
            ("Cargo.toml", "", "no workspace"),
            ("sdk/Cargo.toml", &package("another"), "another's SDK"),
            ("host/Cargo.toml", &package("another"), "another's host"),
        ] {
            let (folder, found) = checkout();
            put(folder.path(), file, text);
            assert_eq!(found(folder.path()), Sdk::Carried, "{what}");
            fs::remove_file(folder.path().join(file)).expect("removed");
            assert_eq!(found(folder.path()), Sdk::Carried, "without {file}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn where_everybody_may_put_something_there_is_no_checkout() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, found) = checkout();
        for (mode, is_everybodys) in [(0o755, false), (0o777, false), (0o1755, false), (0o1777, true)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("as it says");
            assert_eq!(found(folder.path()) == Sdk::Carried, is_everybodys, "{mode:o}");
        }
    }

    #[test]
    fn a_crate_names_its_sdk_so_that_both_can_be_moved_together() {
        let (dir, root) = (Path::new("/a/policies/mine"), Path::new("/a"));
        let version = spillway_sdk::sources::VERSION;
        let said = |sdk: Sdk, workspace| sdk.dependency(dir, workspace).expect("a dependency");
        assert_eq!(said(Sdk::Version("1".into()), None), "\"1\"");
        assert_eq!(said(Sdk::Path("/a/sdk".into()), None), "{ path = \"../../sdk\" }");
        assert_eq!(said(Sdk::Path("/b/sdk".into()), None), "{ path = \"/b/sdk\" }");
        let own = format!("{{ version = \"{version}\", path = \"spillway-sdk\" }}");
        assert_eq!(said(Sdk::Carried, None), own);
        let shared = format!("{{ version = \"{version}\", path = \"../../spillway-sdk\" }}");
        assert_eq!(said(Sdk::Carried, Some(root)), shared);
    }
}
