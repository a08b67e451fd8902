//! The package for Debian and its descendants. The binary stands alone, so the package needs no other, and none of the
//! tools by which Debian builds its own.

use super::stage::{self, at};
use super::target::Target;
use crate::process::{output, run};
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// What the operator may have changed, and dpkg therefore asks about.
const CONFIGURATION: &str = "/etc/spillway/spillway.toml\n";

/// What goes into it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents<'a> {
    /// The unpacked archive, which has everything but what is Debian's own.
    pub(crate) unpacked: &'a Path,
    pub(crate) version: &'a str,
    pub(crate) target: Target,
    pub(crate) made_at_unix_s: &'a str,
}

/// Where each part goes: its place in the archive, its place in the system, and whether it is compressed there.
const PLACES: [(&str, &str, bool); 10] = [
    ("spillway", "usr/bin/spillway", false),
    ("completions/spillway.bash", "usr/share/bash-completion/completions/spillway", false),
    ("completions/_spillway", "usr/share/zsh/vendor-completions/_spillway", false),
    ("completions/spillway.fish", "usr/share/fish/vendor_completions.d/spillway.fish", false),
    ("README.md", "usr/share/doc/spillway/README.md", false),
    ("LICENSE-MIT", "usr/share/doc/spillway/LICENSE-MIT", false),
    ("THIRD-PARTY-LICENSES.txt", "usr/share/doc/spillway/THIRD-PARTY-LICENSES.txt", true),
    ("RUST-LIBRARY-LICENSES.html", "usr/share/doc/spillway/RUST-LIBRARY-LICENSES.html", true),
    ("spillway.cdx.json", "usr/share/doc/spillway/spillway.cdx.json", true),
    ("spillway.service", "usr/lib/systemd/system/spillway.service", false),
];

/// Whether packages can be made here.
pub(crate) fn can_be_built() -> bool {
    output(Command::new("dpkg-deb").arg("--version")).is_some()
}

/// Lays the package out in `stage`, and writes it to `to`.
pub(crate) fn build(workspace: &Workspace, contents: Contents<'_>, stage: &Path, to: &Path) -> Result<(), String> {
    stage::fresh(stage)?;
    let parts = workspace.root.join("packaging/debian");
    for (from, place, compressed) in PLACES {
        let place = stage.join(place);
        stage::copy(&contents.unpacked.join(from), &place)?;
        if compressed {
            stage::compress(&place)?;
        }
    }
    let pages = stage.join("usr/share/man/man1");
    stage::copy_all(&contents.unpacked.join("man/man1"), &pages)?;
    stage::files(&pages)?.iter().try_for_each(|page| stage::compress(page))?;
    let documents = stage.join("usr/share/doc/spillway");
    stage::copy(&parts.join("copyright"), &documents.join("copyright"))?;
    let changes = documents.join("changelog");
    stage::write(&changes, &fill(&read(&parts.join("changelog"))?, contents, &date(contents.made_at_unix_s)?))?;
    stage::compress(&changes)?;
    stage::copy(&parts.join("spillway.toml"), &stage.join("etc/spillway/spillway.toml"))?;
    let policies = stage.join("etc/spillway/policies");
    fs::create_dir_all(&policies).map_err(|error| at(&policies, &error))?;
    describe(&parts, contents, stage)?;
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.env("SOURCE_DATE_EPOCH", contents.made_at_unix_s);
    run(dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(stage).arg(to))
}

/// Writes what dpkg is told of the package.
fn describe(parts: &Path, contents: Contents<'_>, stage: &Path) -> Result<(), String> {
    let files = tree(stage)?;
    let size: u64 = files.iter().filter_map(|file| fs::metadata(stage.join(file)).ok()).map(|file| file.len()).sum();
    let sums = output(Command::new("md5sum").current_dir(stage).args(&files)).ok_or("`md5sum` fails")?;
    let folder = stage.join("DEBIAN");
    let control = read(&parts.join("control"))?.replace("@SIZE_KIB@", &size.div_ceil(1024).to_string());
    stage::write(&folder.join("control"), &fill(&control, contents, ""))?;
    stage::write(&folder.join("conffiles"), CONFIGURATION)?;
    stage::write(&folder.join("md5sums"), &(sums + "\n"))?;
    SCRIPTS.iter().try_for_each(|name| stage::copy(&parts.join(name), &folder.join(name)))?;
    stage::open_to_readers(stage)?;
    run(Command::new("chmod").arg("0755").args(SCRIPTS.map(|name| folder.join(name))))
}

/// A text about this package of this time.
fn fill(template: &str, contents: Contents<'_>, date: &str) -> String {
    let text = template.replace("@VERSION@", contents.version).replace("@ARCHITECTURE@", contents.target.debian());
    text.replace("@DATE@", date)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| at(file, &error))
}

/// A time as Debian writes it.
fn date(unix_s: &str) -> Result<String, String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{unix_s}"));
    output(&mut date).ok_or_else(|| format!("`date` does not know the time {unix_s}"))
}

/// All files below a folder, relative to it, in order.
pub(crate) fn tree(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let found = output(Command::new("find").current_dir(folder).args([".", "-mindepth", "1", "-type", "f"]));
    let found = found.ok_or_else(|| format!("`find` fails in {}", folder.display()))?;
    let relative = found.lines().map(|line| PathBuf::from(line.trim_start_matches("./")));
    let mut files: Vec<PathBuf> = relative.collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_package_names_version_machine_and_time_and_leaves_nothing_open() {
        let contents =
            Contents { unpacked: Path::new("/"), version: "1.2.3", target: Target::Aarch64, made_at_unix_s: "0" };
        let control = include_str!("../../../packaging/debian/control").replace("@SIZE_KIB@", "4321");
        let changes = include_str!("../../../packaging/debian/changelog");
        let date = date(contents.made_at_unix_s).expect("a date");
        let texts = [control.as_str(), changes].map(|template| fill(template, contents, &date));
        for line in ["Version: 1.2.3", "Architecture: arm64", "Installed-Size: 4321"] {
            assert!(texts[0].lines().any(|one| one == line), "{}", texts[0]);
        }
        assert!(texts[1].starts_with("spillway (1.2.3) ") && texts[1].ends_with("  Thu, 01 Jan 1970 00:00:00 +0000\n"));
        for text in texts {
            // That of the address is left.
            assert_eq!(text.matches('@').count(), 1, "{text}");
        }
    }

    #[test]
    fn what_dpkg_asks_about_is_in_the_package() {
        let source = include_str!("deb.rs");
        assert!(source.contains(&format!("\"{}\"", CONFIGURATION.trim().trim_start_matches('/'))));
    }
}
