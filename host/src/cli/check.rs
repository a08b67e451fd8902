//! `spillway check`: whether a configuration is one.

use super::with_config;
use crate::config::Purpose;
use std::path::Path;
use std::process::ExitCode;

/// Says that it is valid, or lists every mistake in it.
pub fn run(file: Option<&Path>) -> ExitCode {
    with_config(file, Purpose::Serve, |config| {
        let (upstreams, listen) = (config.upstreams.len(), config.server.listen);
        println!("The configuration is valid: {upstreams} upstreams, listening on {listen}.");
        ExitCode::SUCCESS
    })
}
