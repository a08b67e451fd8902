//! `spillway completions`: what completes the commands in a shell.

use crate::runtime::screen;
use clap::Command;
use clap_complete::{Shell, generate};
use std::process::ExitCode;

/// Where each shell looks for it.
const WHERE: &str = "\
Where it goes:
  bash        spillway completions bash > ~/.local/share/bash-completion/completions/spillway
  zsh         spillway completions zsh > \"${fpath[1]}/_spillway\"
  fish        spillway completions fish > ~/.config/fish/completions/spillway.fish
  elvish      spillway completions elvish >> ~/.config/elvish/rc.elv
  powershell  spillway completions powershell >> $PROFILE

A shell that is started afterwards completes by it.";

/// Print what completes these commands in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = WHERE)]
pub struct CompletionsArguments {
    /// The shell that is to complete.
    shell: Shell,
}

/// Prints the shell's own script for `command`, the whole command line.
pub fn run(arguments: CompletionsArguments, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    // Into memory first: straight into a pipe that is closed early, clap would panic.
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, name, &mut script);
    screen::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn where_it_goes_is_told_for_each_shell() {
        for shell in Shell::value_variants() {
            assert!(WHERE.contains(&format!("spillway completions {shell} >")), "{shell}");
        }
    }
}
