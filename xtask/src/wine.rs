//! Wine, in which a Windows build runs on this machine, with a Windows of its own below the target folder.

use crate::consent::Consent;
use crate::debian;
use crate::process::{line, run, succeeds};
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What Debian has it in.
const PACKAGES: [&str; 2] = ["wine", "wine64"];

/// A Windows to run programs in.
#[derive(Debug)]
pub(crate) struct Wine {
    /// Its folder: its drive C, its registry, and programs that run others in it.
    folder: PathBuf,
}

impl Wine {
    /// Sees to it that there is one. The compiler of C for Windows must be there already.
    ///
    /// # Errors
    /// When Wine cannot be had or does not start; with what to do about it.
    pub(crate) fn prepare(workspace: &Workspace, consent: Consent) -> Result<Wine, String> {
        debian::require(&PACKAGES, consent)?;
        let wine = Wine { folder: workspace.target.join("wine") };
        fs::create_dir_all(&wine.folder).map_err(|error| format!("{}: {error}", wine.folder.display()))?;
        for (program, arguments) in [("wineboot", &["--init"][..]), ("winecfg", &["/v", "win10"])] {
            let mut command = workspace.command("wine");
            if !succeeds(command.envs(wine.environment()).arg(program).args(arguments)) {
                return Err(format!("Wine does not start: `{}` failed", line(&command)));
            }
        }
        wine.add_random_numbers(workspace)?;
        Ok(wine)
    }

    /// Adds the library from which Rust's standard one takes random numbers, where this Wine has none yet.
    fn add_random_numbers(&self, workspace: &Workspace) -> Result<(), String> {
        let library = self.folder.join("prefix/drive_c/windows/system32/bcryptprimitives.dll");
        if library.exists() {
            return Ok(());
        }
        let mut compiler = workspace.command("x86_64-w64-mingw32-gcc");
        compiler.args(["-shared", "-O2", "-Wall", "-Werror", "xtask/wine/bcryptprimitives.c", "-ladvapi32", "-o"]);
        run(compiler.arg(library))
    }

    /// What is said of it in the environment.
    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        // Whatever it complains about on a machine without a screen is nobody's concern.
        [("WINEPREFIX", self.folder.join("prefix")), ("WINEDEBUG", "-all".into())]
    }

    /// A program of this name that runs `program` in it, or with `None` the one that its first argument names. It
    /// becomes that process, so that whoever ends the one ends the other.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn runner(&self, name: &str, program: Option<&Path>) -> Result<PathBuf, String> {
        let file = self.folder.join(name);
        let mut script = "#!/bin/sh\n".to_owned();
        for (variable, value) in self.environment() {
            script.push_str(&format!("export {variable}='{}'\n", value.display()));
        }
        let program = program.map_or_else(String::new, |program| format!("'{}' ", program.display()));
        script.push_str(&format!("exec wine {program}\"$@\"\n"));
        let written = fs::write(&file, script);
        let written = written.and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(file)
    }
}
