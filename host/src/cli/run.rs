//! `spillway run`: serves.

use super::with_config;
use crate::config::{Config, Purpose};
use crate::observe::log::Log;
use crate::start::{self, StartError};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Serves until a signal ends it.
pub fn run(file: Option<&Path>) -> ExitCode {
    with_config(file, Purpose::Serve, serve)
}

fn serve(config: Config) -> ExitCode {
    let log = Log::start(config.log.format).map_err(StartError::System);
    match log.and_then(|log| start::run(config, &log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever does not hear it sees the exit code.
            let _ = writeln!(io::stderr(), "spillway: {error}");
            ExitCode::FAILURE
        }
    }
}
