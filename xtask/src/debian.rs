//! Debian's packages: whether they are there, and installing them if that is allowed.

use crate::consent::Consent;
use crate::process::{is_root, line, output, run};
use std::process::Command;

/// Sees to it that these packages are installed.
///
/// # Errors
/// On other systems, without the user's word, and without the right to install; the message then says what to run.
pub(crate) fn require(packages: &[&str], consent: Consent) -> Result<(), String> {
    if are_installed(packages) {
        return Ok(());
    }
    if !is_debian(&std::fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        return Err(format!("this is not Debian, which would have the packages {}", packages.join(", ")));
    }
    let typed = as_typed(packages);
    if consent == Consent::Withheld {
        return Err(format!(
            "run this, and then try again (or let it be done, as root, by adding --install):\n\n  {typed}"
        ));
    }
    if !is_root() {
        return Err(format!("only root may install packages; run this, and then try again:\n\n  {typed}"));
    }
    run(&mut update())?;
    run(&mut install(packages)).map_err(|message| {
        format!("{message}\nIf another version of a package stands in the way, decide yourself what may be removed.")
    })
}

fn are_installed(packages: &[&str]) -> bool {
    let states =
        output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}\n"]).args(packages));
    states.is_some_and(|states| states.lines().filter(|state| *state == "installed").count() == packages.len())
}

/// Whether an os-release file is Debian's own. Its descendants name their packages otherwise.
fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| matches!(line.trim(), "ID=debian" | "ID=\"debian\""))
}

fn update() -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("update");
    apt
}

/// `--no-remove`: nothing that the user chose to have is traded in for what we need.
fn install(packages: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
    apt
}

/// What somebody without the right to install has to ask for.
fn as_typed(packages: &[&str]) -> String {
    format!("sudo {} && sudo {}", line(&update()), line(&install(packages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_told_from_its_descendants() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"));
        assert!(!is_debian("NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn what_is_to_be_installed_can_be_typed() {
        assert_eq!(
            as_typed(&["lld-19", "cargo-web"]),
            "sudo apt-get update && sudo DEBIAN_FRONTEND=noninteractive \
             apt-get install --yes --no-install-recommends --no-remove lld-19 cargo-web"
        );
    }

    #[test]
    fn a_package_that_no_one_has_is_not_installed() {
        assert!(!are_installed(&["spillway-no-such-package"]));
    }

    #[test]
    fn nothing_is_installed_unasked() {
        let refused = require(&["spillway-no-such-package"], Consent::Withheld);
        // Elsewhere than on Debian there is nothing to ask for.
        assert!(refused.is_err_and(|advice| advice.contains("--install") || advice.contains("not Debian")));
    }
}
