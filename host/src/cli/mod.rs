//! The command line: one file per command, one folder per family of them.

mod admin;
mod check;
mod completions;
mod config;
mod demo;
mod doctor;
mod env;
mod init;
mod key;
mod man;
mod mock_provider;
mod policy;
mod prices;
mod providers;
mod run;
mod running;
mod simulate;
mod status;
mod usage;

pub use admin::{AdminArguments, run as admin};
pub use check::run as check;
pub use completions::{CompletionsArguments, run as completions};
pub use config::{ConfigArguments, run as config};
pub use demo::{DemoArguments, run as demo};
pub use doctor::{DoctorArguments, run as doctor};
pub use env::{EnvArguments, run as env};
pub use init::{InitArguments, run as init};
pub use key::{KeyArguments, run as key};
pub use man::{ManArguments, run as man};
pub use mock_provider::run as mock_provider;
pub use policy::{PolicyArguments, run as policy};
pub use prices::{PricesArguments, run as prices};
pub use run::{RunArguments, run};
pub use simulate::{SimulateArguments, run as simulate};
pub use status::{StatusArguments, run as status};
pub use usage::{UsageArguments, run as usage};

use crate::config::{Config, Purpose};
use std::path::Path;
use std::process::ExitCode;

/// Does something with a configuration that is read for this. Exit code 2 is for what the user can mend in arguments and configuration.
fn with_config(file: Option<&Path>, purpose: Purpose, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(file, purpose) {
        Ok(config) => then(config),
        Err(error) => {
            eprintln!("spillway: {error}");
            ExitCode::from(2)
        }
    }
}
