//! The arguments of the command line.

use clap::{CommandFactory, Parser, Subcommand};
use spillway::cli::{
    self, AdminArguments, CompletionsArguments, ConfigArguments, DemoArguments, DoctorArguments, EnvArguments,
    InitArguments, KeyArguments, ManArguments, PolicyArguments, PricesArguments, RunArguments, SimulateArguments,
    StatusArguments, UsageArguments,
};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is linked with musl brings an allocator of its own: musl's with one lock for all threads, zig's a tenth slower.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A local proxy that keeps applications standing when an LLM provider fails, throttles or runs dry.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // In the order in which somebody needs them who is new here.
    /// See on this machine what Spillway changes: no key, no network, no configuration needed.
    Demo(DemoArguments),
    /// Serve. Without a configuration: OpenAI, Anthropic and Gemini on 127.0.0.1:4141; with a command, that alone.
    Run(RunArguments),
    /// Print the settings that send the official SDKs through Spillway: eval "$(spillway env)".
    Env(EnvArguments),
    /// Show how the Spillway that runs stands: upstreams and circuits, limits, queue, policies, recent refusals.
    Status(StatusArguments),
    /// Show what was spent: tokens and money, by key, group, model, label or day.
    Usage(UsageArguments),
    /// Write a configuration of the things that people change, for the providers whose keys this shell has.
    Init(InitArguments),
    /// Say whether Spillway can work here: providers, certificates, proxies, clock, disk, ports; and what to do.
    ///
    /// Nothing is changed, and nothing is spent. All checks end within ten seconds.
    Doctor(DoctorArguments),
    /// Check a configuration, and list every mistake in it.
    Check {
        /// The configuration; spillway.toml is read if it exists.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show the configuration, and what can be configured.
    Config(ConfigArguments),
    /// Make, list, rotate, revoke and import virtual keys, which callers show in the place of a provider's.
    Key(KeyArguments),
    /// Show what the configuration would do in trouble, or would have done with recorded requests, and which setting to
    /// change.
    Simulate(SimulateArguments),
    /// Show what a model costs by which file or table, and how old that is.
    Prices(PricesArguments),
    /// Make, build, check, try, compare and promote policies.
    Policy(PolicyArguments),
    /// Make tokens for operators who ask from another machine.
    Admin(AdminArguments),
    /// Serve as a provider without a key, which fails when told to: to try Spillway, policies and applications with.
    MockProvider {
        /// The port of 127.0.0.1 to listen on; 0 is any that is free.
        #[arg(long, value_name = "N", default_value_t = 0)]
        port: u16,
    },
    /// Print what completes these commands in a shell; how to use it is told by --help.
    Completions(CompletionsArguments),
    /// Write the pages of the manual into a folder.
    // Packages bring them along, so few need to know of it.
    #[command(hide = true)]
    Man(ManArguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => cli::run(arguments),
        Command::Init(arguments) => cli::init(&arguments),
        Command::Doctor(arguments) => cli::doctor(&arguments),
        Command::Demo(arguments) => cli::demo(arguments),
        Command::Check { config } => cli::check(config.as_deref()),
        Command::Env(arguments) => cli::env(arguments),
        Command::Status(arguments) => cli::status(arguments),
        Command::Usage(arguments) => cli::usage(&arguments),
        Command::Config(arguments) => cli::config(arguments),
        Command::MockProvider { port } => cli::mock_provider(port),
        Command::Key(arguments) => cli::key(arguments),
        Command::Simulate(arguments) => cli::simulate(&arguments),
        Command::Prices(arguments) => cli::prices(&arguments),
        Command::Policy(arguments) => cli::policy(arguments),
        Command::Admin(arguments) => cli::admin(&arguments),
        Command::Completions(arguments) => cli::completions(arguments, Arguments::command()),
        Command::Man(arguments) => cli::man(arguments, Arguments::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction, Command};

    /// Each command that does something, with its whole name.
    fn leaves(command: &Command, name: &str) -> Vec<(String, Command)> {
        let within = command.get_subcommands().flat_map(|one| leaves(one, &format!("{name} {}", one.get_name())));
        let within: Vec<_> = within.collect();
        if within.is_empty() { vec![(name.to_owned(), command.clone())] } else { within }
    }

    #[test]
    fn the_reference_has_every_command_and_every_option_in_the_order_of_the_help() {
        let reference = include_str!("../../docs/commands.md");
        let rows: Vec<&str> = reference.lines().filter(|line| line.starts_with("| `spillway ")).collect();
        let commands = leaves(&Arguments::command(), "spillway");
        assert_eq!(rows.len(), commands.len(), "one row for each command");
        for ((name, command), row) in commands.into_iter().zip(rows) {
            assert!(row.starts_with(&format!("| `{name}")), "docs/commands.md has another row where `{name}` belongs");
            let is_told = |option: &&Arg| !matches!(option.get_action(), ArgAction::Help) && !option.is_hide_set();
            for option in command.get_arguments().filter(is_told) {
                // Told once, for all of them.
                let Some(long) = option.get_long().filter(|long| *long != "config") else { continue };
                assert!(row.contains(&format!("--{long}")), "docs/commands.md does not name --{long} of `{name}`");
            }
        }
    }

    #[test]
    fn the_help_begins_with_what_somebody_needs_who_is_new() {
        let command = Arguments::command();
        let shown: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
        assert_eq!(
            shown,
            [
                "demo",
                "run",
                "env",
                "status",
                "usage",
                "init",
                "doctor",
                "check",
                "config",
                "key",
                "simulate",
                "prices",
                "policy",
                "admin",
                "mock-provider",
                "completions"
            ]
        );
    }
}
