//! `spillway policy`: everything that somebody who writes, tries or operates policies asks for, one file per command.
//!
//! A command computes its whole answer and returns it; only [`run`] prints. What takes long says so on standard error.

mod build;
mod cargo;
mod check;
mod confined;
mod exchanges;
mod list;
mod loaded_policy;
mod name;
mod new;
mod promote;
mod renew;
mod replay;
mod sdk;
mod shadow;
mod subject;
mod table;
mod toolchain;
mod trial;
mod unpacked;
mod workspace;

pub(super) use list::look as look_at_files;
pub(super) use toolchain::{TARGET, has_target};

use crate::cli::running::Unanswered;
use crate::config::{Config, Purpose};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// `spillway policy …`
#[derive(Debug, Args)]
pub struct PolicyArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Make a crate with a policy that builds, passes its tests and explains itself.
    ///
    /// It builds anywhere: the SDK that this program carries is unpacked beside it.
    New(new::Arguments),
    /// Say which SDK lies beside a policy, or renew it with `--update`.
    Sdk(renew::Arguments),
    /// Run a policy's own tests, then its WebAssembly against what providers answer and how they fail.
    ///
    /// First `cargo test --release`, then a build to WebAssembly, then a trial: the policy is asked about every status,
    /// error body and fault in every phase that providers are known for, and some that they should not be capable of.
    /// It fails the trial if a call traps or takes too long, or if an instance that was asked all of it answers
    /// otherwise than one that was asked nothing before: instances come and go while serving, so a policy that
    /// remembers judges at random. Where its verdicts differ from the built-in policy's they are listed, which is no
    /// failure but what policies are for.
    Test(trial::Arguments),
    /// Build a policy to WebAssembly, check it, and say how to put it to work.
    Build(build::Arguments),
    /// Say whether a file would be served, and what it is, needs and costs.
    Check(check::Arguments),
    /// List the policies of the Spillway that runs, or the files in the folder if none does.
    Ls(list::Arguments),
    /// Judge recorded requests by a policy, and show what would have been decided differently.
    ///
    /// Spillway records what policies judge when the configuration says `[log] requests = "requests.jsonl"`.
    Replay(replay::Arguments),
    /// Show how the candidate NAME.shadow.wasm compares with the policy that serves.
    Shadow(shadow::Arguments),
    /// Let the candidate NAME.shadow.wasm serve. What served before is kept.
    Promote(promote::PromoteArguments),
    /// Let what served before the last promotion serve again.
    Rollback(promote::RollbackArguments),
}

/// What a command has to say.
#[derive(Debug)]
struct Answer {
    text: String,
    /// Whether what was asked about is well.
    is_well: bool,
}

impl Answer {
    fn well(text: String) -> Answer {
        Answer { text, is_well: true }
    }

    /// As one JSON document.
    fn json(value: &impl Serialize, is_well: bool) -> Result<Answer, Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Bad(error.to_string()))?;
        Ok(Answer { text: text + "\n", is_well })
    }
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What was asked about is bad, or what was to be done failed.
    #[error("{0}")]
    Bad(String),
    /// Arguments or configuration are wrong.
    #[error("{0}")]
    Usage(String),
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Failure {
        match unanswered {
            Unanswered::Stranger(..) | Unanswered::NoToken(..) => Failure::Usage(unanswered.to_string()),
            Unanswered::Nobody(..) | Unanswered::Slow(_) | Unanswered::System(..) => {
                Failure::Bad(unanswered.to_string())
            }
        }
    }
}

/// Runs a command. Exit codes: 0 if all is well, 1 if what was asked about is not or could not be done, 2 for what is
/// to be mended in arguments and configuration.
pub fn run(arguments: PolicyArguments) -> ExitCode {
    let file = arguments.config.as_deref();
    let answer = match arguments.command {
        PolicyCommand::New(arguments) => new::run(&arguments),
        PolicyCommand::Sdk(arguments) => renew::run(&arguments),
        PolicyCommand::Build(arguments) => configured(file).and_then(|config| build::run(&arguments, &config)),
        PolicyCommand::Check(arguments) => configured(file).and_then(|config| check::run(&arguments, &config)),
        PolicyCommand::Test(arguments) => configured(file).and_then(|config| trial::run(&arguments, &config)),
        PolicyCommand::Replay(arguments) => configured(file).and_then(|config| replay::run(&arguments, &config)),
        PolicyCommand::Ls(arguments) => configured(file).and_then(|config| list::run(&arguments, &config)),
        PolicyCommand::Shadow(arguments) => configured(file).and_then(|config| shadow::run(&arguments, &config)),
        PolicyCommand::Promote(arguments) => configured(file).and_then(|config| promote::promote(&arguments, &config)),
        PolicyCommand::Rollback(arguments) => {
            configured(file).and_then(|config| promote::roll_back(&arguments, &config))
        }
    };
    match answer {
        Ok(Answer { text, is_well }) => {
            // A reader that has seen enough closes the pipe, which is no failure.
            let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
            if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            progress(&format!("spillway: {failure}"));
            match failure {
                Failure::Bad(_) => ExitCode::FAILURE,
                Failure::Usage(_) => ExitCode::from(2),
            }
        }
    }
}

fn configured(file: Option<&Path>) -> Result<Config, Failure> {
    Config::load(file, Purpose::Look).map_err(|error| Failure::Usage(error.to_string()))
}

/// One line on standard error, for what takes long.
fn progress(line: &str) {
    // Nobody reads it if this fails.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Lets a policy's own words reach standard error: its panics, where it is tried out, and whatever `SPILLWAY_LOG` asks
/// for.
fn hear_policies() {
    let filter = EnvFilter::try_from_env("SPILLWAY_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // This fails only if there is a log already.
    let _ = log.without_time().with_ansi(false).try_init();
}

/// A time of a call as people read it.
fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{}.{:02} us", nanoseconds / 1_000, nanoseconds % 1_000 / 10),
        _ => format!("{}.{:02} ms", nanoseconds / 1_000_000, nanoseconds % 1_000_000 / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        assert_eq!([time(870), time(1_234), time(5_060_000)], ["870 ns", "1.23 us", "5.06 ms"]);
    }
}
