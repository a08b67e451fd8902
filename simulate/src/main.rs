//! `simulate`: prints what the resilience core makes of outages, overloads and floods.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use spillway_simulate::report::{self, Row};
use spillway_simulate::scenario::Scenario;

/// Simulate outages, overloads and floods over the real resilience core.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
struct Arguments {
    /// A scenario to run instead of the built-in ones.
    #[arg(value_name = "SCENARIO.toml", conflicts_with = "scenario")]
    file: Option<PathBuf>,
    /// Run only the built-in scenario of this name.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Runs per scenario, each with a seed of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seeds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a goal is missed.
    #[arg(long)]
    check: bool,
    /// Leave the protection off, to see what it is good for.
    #[arg(long)]
    unprotected: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenarios = match scenarios(&arguments) {
        Ok(scenarios) => scenarios,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let row = |scenario| Row {
        scenario,
        figures: spillway_simulate::simulate(scenario, arguments.seeds, !arguments.unprotected),
    };
    let rows: Vec<Row<'_>> = scenarios.iter().map(row).collect();
    let text = if arguments.json { report::json(&rows, arguments.seeds) } else { report::table(&rows) };
    print!("{text}");
    let missed = rows.iter().any(|row| !row.meets_its_goals());
    ExitCode::from(u8::from(arguments.check && missed))
}

fn scenarios(arguments: &Arguments) -> Result<Vec<Scenario>, String> {
    if let Some(path) = &arguments.file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}; name a readable scenario file", path.display()))?;
        return Scenario::read(&text).map(|scenario| vec![scenario]).map_err(|mistakes| {
            format!("{} is not a sound scenario; correct these mistakes:\n{mistakes}", path.display())
        });
    }
    let mut scenarios = Scenario::built_in()?;
    if let Some(name) = &arguments.scenario {
        let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        scenarios.retain(|scenario| scenario.name == *name);
        if scenarios.is_empty() {
            return Err(format!("no scenario is called {name:?}; there are: {}", names.join(", ")));
        }
    }
    Ok(scenarios)
}
