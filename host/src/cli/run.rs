//! `spillway run`: serves.

use super::with_config;
use crate::config::{Config, Purpose};
use crate::observe::log::Log;
use crate::runtime::owner::Owner;
use crate::start::{self, StartError};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Serves until a signal ends it, or, if it is told so, until standard input does.
pub fn run(file: Option<&Path>, until_stdin_ends: bool) -> ExitCode {
    with_config(file, Purpose::Serve, |config| match serve(config, until_stdin_ends) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever does not hear it sees the exit code.
            let _ = writeln!(io::stderr(), "spillway: {error}");
            ExitCode::FAILURE
        }
    })
}

fn serve(config: Config, until_stdin_ends: bool) -> Result<(), StartError> {
    let owner = if until_stdin_ends { Owner::at_stdin()? } else { Owner::none() };
    let log = Log::start(config.log.format)?;
    start::run(config, &log, owner)
}
