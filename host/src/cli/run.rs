//! `spillway run`: serves.

use super::with_config;
use crate::config::{Config, LogFormat, Purpose};
use crate::observe::log::Log;
use crate::runtime::child::{CommandLine, exit_code};
use crate::runtime::owner::Owner;
use crate::start::{self, StartError, Term, command};
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What shells answer where a command is not found, and where it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// `spillway run …`
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the log to the end of this file, instead of standard error.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// End in order when standard input ends: with the process that has started this one, however it ends.
    // For the demo, which holds the other end of a pipe.
    #[arg(long, hide = true, conflicts_with = "command")]
    until_stdin_ends: bool,
    /// Serve this command alone: on free ports, with the settings of `spillway env` in its environment, until it ends;
    /// its exit code is this one's. The terminal is its own, so that the log is written only if --log-file or
    /// SPILLWAY_LOG says so.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Serves until a signal ends it, or, if it is told so, until standard input does, or a command.
pub fn run(arguments: RunArguments) -> ExitCode {
    // An empty variable in a script must not become a server that never ends.
    if arguments.command.is_empty() && env::args_os().any(|word| word == "--") {
        return failed(2, &"behind -- stands the command to be served, and there is none");
    }
    with_config(arguments.config.as_deref(), Purpose::Serve, |mut config| {
        let mut words = arguments.command.into_iter();
        let command = words.next().map(|program| CommandLine { program, arguments: words.collect() });
        if command.is_some()
            && let Err(mistake) = command::adapt(&mut config, |name| env::var(name).ok())
        {
            return failed(2, &mistake);
        }
        let log = log(config.log.format, arguments.log_file.as_deref(), command.is_some());
        let log = match log {
            Ok(log) => log,
            Err(mistake) => return failed(2, &mistake),
        };
        match serve(config, &log, command, arguments.until_stdin_ends) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                let code = match &error {
                    StartError::Command { source, .. } if source.kind() == ErrorKind::NotFound => NOT_FOUND,
                    StartError::Command { .. } => NOT_RUNNABLE,
                    _ => 1,
                };
                failed(code, &error)
            }
        }
    })
}

fn failed(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    // Whoever does not hear it sees the exit code.
    let _ = writeln!(io::stderr(), "spillway: {why}");
    ExitCode::from(code)
}

/// The log, where it is wanted. A command has the terminal to itself, and so it is wanted nowhere but where somebody
/// has said so.
fn log(format: LogFormat, file: Option<&Path>, serves_command: bool) -> Result<Log, String> {
    let log = match file {
        Some(file) => {
            let options = std::fs::OpenOptions::new().append(true).create(true).open(file);
            let file = options.map_err(|error| format!("cannot write to {} (--log-file): {error}", file.display()))?;
            Log::to_file(file, format)
        }
        None if serves_command => Log::beside_command(format),
        None => Log::start(format),
    };
    log.map_err(|error| StartError::System(error).to_string())
}

fn serve(config: Config, log: &Log, command: Option<CommandLine>, until_stdin_ends: bool) -> Result<u8, StartError> {
    let term = match command {
        Some(command) => Term::With(command),
        None if until_stdin_ends => Term::UntilTold(Owner::at_stdin()?),
        None => Term::UntilTold(Owner::none()),
    };
    Ok(start::run(config, log, term)?.map_or(0, exit_code))
}
