//! `simulate`: prints what the resilience core and its contenders make of outages, overloads and
//! floods.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use spillway_simulate::curves;
use spillway_simulate::report::{self, Case};
use spillway_simulate::scenario::Scenario;

/// Simulate outages, overloads and floods over the real resilience core and its contenders.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
struct Arguments {
    /// A scenario, or a family of them, to run instead of the built-in ones.
    #[arg(value_name = "SCENARIO.toml", conflicts_with = "scenario")]
    file: Option<PathBuf>,
    /// Run only the built-in scenario or family of this name.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Runs per scenario, each with a seed of its own, instead of as many as the scenario says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(Scenario::SEEDS_MAX)))]
    seeds: Option<u32>,
    /// A thousand runs per scenario.
    #[arg(long, conflicts_with = "seeds")]
    long: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print all contenders, not only no proxy and the best.
    #[arg(long)]
    contenders: bool,
    /// Exit with 1 if a goal is missed, or more is lost than may be.
    #[arg(long)]
    check: bool,
    /// Instead: draw the curves of docs/partial-failure.md, as SVG files in this directory.
    #[arg(
        long,
        value_name = "DIRECTORY",
        conflicts_with_all = ["file", "scenario", "seeds", "long", "json", "contenders", "check"]
    )]
    curves: Option<PathBuf>,
}

/// Runs per scenario where many are asked for.
const LONG_SEEDS: u32 = 1_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(directory) = &arguments.curves {
        return match draw(directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::from(2)
            }
        };
    }
    let scenarios = match scenarios(&arguments) {
        Ok(scenarios) => scenarios,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let asked_for = arguments.seeds.or(arguments.long.then_some(LONG_SEEDS));
    let mut cases: Vec<Case<'_>> = Vec::new();
    for scenario in &scenarios {
        let seeds = asked_for.unwrap_or(scenario.seeds);
        cases.extend(
            scenario.caller_retries.iter().map(|retries| spillway_simulate::examine(scenario, seeds, *retries)),
        );
    }
    let text = if arguments.json { report::json(&cases) } else { report::table(&cases, arguments.contenders) };
    print!("{text}");
    let bad = cases.iter().any(|case| case.missed() + case.lost() > 0);
    ExitCode::from(u8::from(arguments.check && bad))
}

fn draw(directory: &Path) -> Result<(), String> {
    if !directory.is_dir() {
        return Err(format!("{} is no directory; name one that the curves go into", directory.display()));
    }
    for (name, svg) in curves::all()? {
        let path = directory.join(name);
        std::fs::write(&path, svg)
            .map_err(|error| format!("{}: {error}; name a directory that can be written to", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn scenarios(arguments: &Arguments) -> Result<Vec<Scenario>, String> {
    if let Some(path) = &arguments.file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}; name a readable scenario file", path.display()))?;
        return Scenario::read_all(&text).map_err(|mistakes| {
            format!("{} is not a sound scenario; correct these mistakes:\n{mistakes}", path.display())
        });
    }
    let mut scenarios = Scenario::built_in()?;
    if let Some(name) = &arguments.scenario {
        let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        let family = format!("{name}-");
        scenarios.retain(|scenario| scenario.name == *name || scenario.name.starts_with(&family));
        if scenarios.is_empty() {
            return Err(format!("no scenario is called {name:?}; there are: {}", names.join(", ")));
        }
    }
    Ok(scenarios)
}
