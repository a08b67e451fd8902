//! `spillway config`: what can be configured, and what is.

use crate::config::{self, Shown};
use clap::{Args, Subcommand};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// `spillway config …`
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print what the file says, as it was understood, with absolute paths and without credentials.
    Show {
        /// All that is in force, the defaults included.
        #[arg(long)]
        effective: bool,
    },
    /// Print JSON Schema of the configuration, from which editors complete and explain it.
    Schema,
    /// Print every key that there is, with its default and what it says, in Markdown.
    Reference,
}

/// Runs a command. Exit codes: 0, or 2 for what is to be mended in arguments and configuration.
pub fn run(arguments: ConfigArguments) -> ExitCode {
    let text = match arguments.command {
        ConfigCommand::Schema => format!("{:#}\n", config::schema()),
        ConfigCommand::Reference => config::reference(),
        ConfigCommand::Show { effective } => match Shown::load(arguments.config.as_deref()) {
            Ok(shown) if effective => shown.in_force(),
            Ok(shown) => shown.as_said(),
            Err(error) => {
                // Whoever does not hear it sees the exit code.
                let _ = writeln!(io::stderr(), "spillway: {error}");
                return ExitCode::from(2);
            }
        },
    };
    // A reader that has seen enough closes the pipe, which is no failure.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    ExitCode::SUCCESS
}
