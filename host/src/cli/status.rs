//! `spillway status`: how the Spillway that runs stands, on one page.

mod page;
mod troubles;

use super::running::{self, AdminArgument, Unanswered};
use super::with_config;
use crate::config::{Config, Purpose};
use crate::runtime::screen::{self, COMMAND, styled};
use std::path::PathBuf;
use std::process::ExitCode;

/// `spillway status …`
#[derive(Debug, clap::Args)]
pub struct StatusArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgument,
    /// Print /status of the admin address as it is.
    #[arg(long)]
    json: bool,
}

/// Says how it stands. Exit codes: 0 if a Spillway answers, however its upstreams are; 1 if none does; 2 for what is to
/// be mended in arguments and configuration.
pub fn run(arguments: StatusArguments) -> ExitCode {
    with_config(arguments.config.as_deref(), Purpose::Look, |config| look(&arguments, &config))
}

fn look(arguments: &StatusArguments, config: &Config) -> ExitCode {
    let admin = arguments.admin.address(config);
    match running::status(&admin) {
        Ok(told) => {
            screen::print(&if arguments.json { told.text } else { page::page(&told.status, screen::columns()) });
            ExitCode::SUCCESS
        }
        Err(unanswered @ Unanswered::Nobody(..)) => {
            let (start, config, admin) =
                (styled(COMMAND, "spillway run"), styled(COMMAND, "--config"), styled(COMMAND, "--admin"));
            screen::complain(&format!(
                "spillway: {unanswered}.\nStart one with {start}. One that runs by another configuration is found with \
                 {config} FILE, or by its admin address with {admin} ADDRESS.\n"
            ));
            ExitCode::FAILURE
        }
        Err(unanswered) => {
            screen::complain(&format!("spillway: {unanswered}.\n"));
            let is_argument = matches!(unanswered, Unanswered::Stranger(..) | Unanswered::NoToken(..));
            if is_argument { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

#[cfg(test)]
mod tests;
