//! `spillway man`: the pages of the manual.

use crate::runtime::screen;
use clap::Command;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the pages of the manual into a folder.
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// The folder, such as ~/.local/share/man/man1; it is made if there is none.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a page for each command of `command`, the whole command line, and one for itself.
pub fn run(arguments: ManArguments, command: Command) -> ExitCode {
    let folder = arguments.folder;
    match fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::complain(&format!("spillway: cannot write the manual into {}: {error}\n", folder.display()));
            ExitCode::FAILURE
        }
    }
}
