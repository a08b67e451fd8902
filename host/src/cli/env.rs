//! `spillway env`: the settings that send the official SDKs through Spillway.

use super::running::{self, AdminAddress};
use super::with_config;
use crate::config::Purpose;
use crate::runtime::screen;
use crate::start::command::ADMIN_VARIABLE;
use crate::start::shell::{Shell, exports};
use std::net::SocketAddr;
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

/// Where the Spillway listens that serves this command alone, if one does and no other was asked for.
fn serves_this_command(is_told_otherwise: bool) -> Option<SocketAddr> {
    let admin = std::env::var(ADMIN_VARIABLE).ok().filter(|_| !is_told_otherwise)?;
    running::status(&AdminAddress::parse(&admin).ok()?).ok()?.status.listen.parse().ok()
}

/// Prints them for a shell.
pub fn run(arguments: EnvArguments) -> ExitCode {
    with_config(arguments.config.as_deref(), Purpose::Look, |config| {
        let variable = |name: &str| std::env::var(name).ok();
        let shell = arguments.shell.unwrap_or_else(|| Shell::of(variable));
        if config.server.is_beyond_this_machine() {
            screen::complain(
                "Each caller shows the access key: in the header x-spillway-access-key, or in place of the API key where \
                 Spillway has the provider's own.\n",
            );
        }
        let usual = config.server.local_address();
        let local = serves_this_command(arguments.config.is_some()).unwrap_or(usual);
        screen::print(&exports(&config, local, shell, variable));
        ExitCode::SUCCESS
    })
}
