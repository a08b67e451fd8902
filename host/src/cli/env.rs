//! `spillway env`: the settings that send the official SDKs through Spillway.

use super::with_config;
use crate::config::Purpose;
use crate::runtime::screen;
use crate::start::shell::{Shell, exports};
use std::path::PathBuf;
use std::process::ExitCode;

/// `spillway env …`
#[derive(Debug, clap::Args)]
pub struct EnvArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose words it is said in; by default those of the shell that SHELL names.
    #[arg(long, value_name = "SHELL")]
    shell: Option<Shell>,
}

/// Prints them for a shell.
pub fn run(arguments: EnvArguments) -> ExitCode {
    with_config(arguments.config.as_deref(), Purpose::Look, |config| {
        let variable = |name: &str| std::env::var(name).ok();
        let shell = arguments.shell.unwrap_or_else(|| Shell::of(variable));
        if !config.server.listen.ip().is_loopback() {
            screen::complain(
                "Each caller shows the access key: in the header x-spillway-access-key, or in place of the API key where \
                 Spillway has the provider's own.\n",
            );
        }
        screen::print(&exports(&config, config.server.local_address(), shell, variable));
        ExitCode::SUCCESS
    })
}
