//! A root of its own for a binary: it sees the files that are in it and nothing else of this machine.

use super::stage;
use super::target::Target;
use crate::process::{is_root, line};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where programs of the system are looked for; none of them is in the jail.
const SYSTEM: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the emulator lies, in a jail for machines of another kind.
const EMULATOR: &str = "/emulator";

/// The root, and how programs run in it.
#[derive(Clone, Debug)]
pub(crate) struct Jail {
    pub(crate) root: PathBuf,
    target: Target,
    /// `UID:GID`; without it they run as root of this root.
    user: Option<String>,
    /// A folder of the root that can be written to; all others then cannot.
    only_writable: Option<String>,
    /// Variables of the environment; there are no others.
    variables: Vec<(String, String)>,
}

impl Jail {
    /// A jail that is empty, but for the emulator where one is needed.
    pub(crate) fn new(root: PathBuf, target: Target) -> Result<Jail, String> {
        stage::fresh(&root)?;
        Jail::around(root, target)
    }

    /// A jail of what is in a folder.
    pub(crate) fn around(root: PathBuf, target: Target) -> Result<Jail, String> {
        if !target.is_here() {
            stage::copy(Path::new(target.emulator()), &root.join(EMULATOR.trim_start_matches('/')))?;
        }
        Ok(Jail { root, target, user: None, only_writable: None, variables: Vec::new() })
    }

    /// The same, where programs run as another user.
    pub(crate) fn running_as(self, user: &str) -> Jail {
        Jail { user: Some(user.to_owned()), ..self }
    }

    /// The same, where nothing but a folder can be written to.
    pub(crate) fn writable_only_in(self, folder: &str) -> Jail {
        Jail { only_writable: Some(folder.to_owned()), ..self }
    }

    /// The same with a variable of the environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Jail {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A place of the jail as it is seen from outside.
    pub(crate) fn place(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// A command that runs in the jail. Each program on the way becomes the next one, so that the process that is
    /// started is the one that is meant.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(if self.only_writable.is_some() || !is_root() { "unshare" } else { "chroot" });
        if let Some(folder) = &self.only_writable {
            let script = "mount --bind \"$1\" \"$1\" && mount --bind \"$2\" \"$2\" && \
                          mount -o remount,ro,bind \"$1\" && shift 2 && exec chroot \"$@\"";
            command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
            command.arg(&self.root).arg(self.place(folder));
        } else if !is_root() {
            command.args(["--user", "--map-root-user", "chroot"]);
        }
        if let Some(user) = &self.user {
            command.arg(format!("--userspec={user}")).arg("--groups=");
        }
        command.arg(&self.root);
        if !self.target.is_here() {
            command.arg(EMULATOR);
        }
        command.args(words).env_clear().env("PATH", SYSTEM);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What a command prints that is run in the jail.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub(crate) fn said(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.command(words);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("cannot run `{}`: {error}", line(&command)))?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(said.into_owned());
        }
        Err(format!("`{}` failed in {} ({}):\n{said}{complained}", words.join(" "), self.root.display(), output.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_gives_a_program_its_root_and_no_variable_of_ours() {
        let jail = Jail {
            root: PathBuf::from("/jail"),
            target: Target::X86_64,
            user: Some("1:2".to_owned()),
            only_writable: Some("/data".to_owned()),
            variables: vec![("KEY".to_owned(), "value".to_owned())],
        };
        let command = jail.command(&["/usr/bin/spillway", "run"]);
        let typed = line(&command);
        assert!(typed.starts_with(&format!("KEY=value PATH={SYSTEM} unshare --mount")), "{typed}");
        let emulator = if Target::X86_64.is_here() { "" } else { " /emulator" };
        let end = format!("sh /jail /jail/data --userspec=1:2 --groups= /jail{emulator} /usr/bin/spillway run");
        assert!(typed.ends_with(&end), "{typed}");
        assert_eq!(jail.place("/data/spool"), PathBuf::from("/jail/data/spool"));
    }
}
