//! `spillway simulate`: what the configuration in force would have done, beside no proxy and other settings.

mod report;
mod settings;
mod traffic;
mod words;

use super::with_config;
use crate::config::{Config, Purpose, UpstreamConfig};
use crate::runtime::screen::{columns, complain, print, wrapped};
use report::{Found, Report};
use spillway_simulate::clients::Clients;
use spillway_simulate::estimate::{Estimate, REQUESTS_MIN, TooLittle};
use spillway_simulate::scenario::Scenario;
use spillway_simulate::tuning::{self, Effort, advise};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use traffic::Traffic;

/// How long a simulation takes by default. Many make more runs in it than few.
const TIME: Duration = Duration::from_secs(15);
/// Most scenarios that are named for one that is not there.
const NEAR_MAX: usize = 3;
/// Where the names of scenarios are to be had.
const HINT: &str = "spillway simulate --list has the built-in ones";

/// `spillway simulate`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["scenario", "log", "list"]))]
pub struct SimulateArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A built-in scenario, or a TOML file with one.
    #[arg(long, value_name = "NAME_OR_FILE")]
    scenario: Option<String>,
    /// Recorded requests, as [log] requests in the configuration has them written; may be given several times.
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// List the built-in scenarios.
    #[arg(long)]
    list: bool,
    /// The upstream whose settings are tried: by default openai, or of a log the one that was called most.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// How often callers try again by themselves: by default twice, as official SDKs, or as the log shows it.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=9))]
    caller_retries: Option<u32>,
    /// Runs of each row, instead of as many as fit into some 15 seconds. The same number gives the same figures.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..=1_000))]
    seeds: Option<u32>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Simulates, and says what came of it. Exit code 1: the log holds too little.
pub fn run(arguments: &SimulateArguments) -> ExitCode {
    if arguments.list {
        return match Scenario::built_in() {
            Ok(scenarios) => {
                print(&listed(&scenarios));
                ExitCode::SUCCESS
            }
            Err(mistake) => ends(Failure::Usage(mistake)),
        };
    }
    with_config(arguments.config.as_deref(), Purpose::Look, |config| match answer(arguments, &config) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => ends(failure),
    })
}

/// The names of scenarios, below what happens in them.
fn listed(scenarios: &[Scenario]) -> String {
    let families = scenarios.chunk_by(|one, next| one.about == next.about);
    let listed = families.map(|family| {
        let names: String = family.iter().map(|scenario| format!("  {}\n", scenario.name)).collect();
        wrapped("", 0, &family[0].about, columns()) + &names
    });
    listed.collect()
}

/// Why there is nothing to show.
#[derive(Debug)]
enum Failure {
    /// Arguments, configuration or a scenario are to be mended.
    Usage(String),
    /// The log says too little.
    TooLittle(String),
}

fn ends(failure: Failure) -> ExitCode {
    let (message, code) = match failure {
        Failure::Usage(message) => (message, ExitCode::from(2)),
        Failure::TooLittle(message) => (message, ExitCode::FAILURE),
    };
    complain(&format!("spillway: {message}\n"));
    code
}

fn answer(arguments: &SimulateArguments, config: &Config) -> Result<String, Failure> {
    let found = match &arguments.scenario {
        Some(named) => Found::scenario(scenario(named)?, arguments.upstream.as_deref()),
        None => of_log(&arguments.log, arguments.upstream.as_deref())?,
    };
    let upstream = upstream(config, &found.upstream)?;
    let in_force = settings::in_force(upstream, config.server.request_timeout);
    let retries = arguments.caller_retries.or(found.caller_retries).unwrap_or(Clients::SDK_RETRIES);
    let effort = arguments.seeds.map_or(Effort::Time(TIME), Effort::Seeds);
    let lanes = tuning::lanes(&found.scenario, &in_force, retries);
    let (seeds, outcomes) = tuning::run(&found.scenario, &in_force, lanes, effort);
    let left_out = settings::left_out(config, &found.upstream, upstream);
    let report = Report { advice: advise(&outcomes, retries), found, left_out, retries, seeds, outcomes };
    if arguments.json { report.json().map_err(Failure::Usage) } else { Ok(report.in_words()) }
}

fn upstream<'a>(config: &'a Config, name: &str) -> Result<&'a UpstreamConfig, Failure> {
    config.upstreams.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.upstreams.keys().map(String::as_str).collect();
        let known = known.join(", ");
        Failure::Usage(format!("the configuration has no upstream \"{name}\"; --upstream takes one of {known}"))
    })
}

/// A built-in scenario, or that of a file.
fn scenario(named: &str) -> Result<Scenario, Failure> {
    let built_in = Scenario::built_in().map_err(Failure::Usage)?;
    let built_in_names: Vec<String> = built_in.iter().map(|scenario| scenario.name.clone()).collect();
    if let Some(scenario) = built_in.into_iter().find(|scenario| scenario.name == named) {
        return Ok(scenario);
    }
    let path = Path::new(named);
    if !path.is_file() {
        let near = built_in_names.iter().filter(|name| name.contains(named)).take(NEAR_MAX).map(String::as_str);
        let near = near.collect::<Vec<_>>().join(", ");
        let meant = if near.is_empty() { String::new() } else { format!(" (perhaps {near})") };
        return Err(Failure::Usage(format!("no scenario and no file is called {named}{meant}; {HINT}")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read {named}: {error}; name a readable scenario file")))?;
    let read = Scenario::read_all(&text)
        .map_err(|mistakes| Failure::Usage(format!("{named} is no sound scenario; correct this:\n{mistakes}")))?;
    match <[Scenario; 1]>::try_from(read) {
        Ok([scenario]) => Ok(scenario),
        Err(several) => Err(Failure::Usage(format!(
            "{named} has {} scenarios; one at a time is simulated, so write it without `vary` and `variants`",
            several.len()
        ))),
    }
}

/// The scenario that is estimated from logs.
fn of_log(logs: &[PathBuf], upstream: Option<&str>) -> Result<Found, Failure> {
    let mut traffic = Traffic::default();
    let add = |traffic: &mut Traffic, upstream: Option<&str>| {
        logs.iter().try_for_each(|log| traffic.add(log, upstream)).map_err(Failure::Usage)
    };
    add(&mut traffic, upstream)?;
    let name = match (upstream, traffic.busiest().map(str::to_owned)) {
        (Some(name), _) => name.to_owned(),
        (None, None) => return Err(too_little(TooLittle::Calls)),
        (None, Some(busiest)) => {
            if traffic.upstreams.len() > 1 {
                traffic = Traffic::default();
                add(&mut traffic, Some(&busiest))?;
            }
            busiest
        }
    };
    let estimate = Estimate::of(traffic.requests(), traffic.calls.clone()).map_err(too_little)?;
    Ok(Found::log(estimate, &traffic, name))
}

fn too_little(why: TooLittle) -> Failure {
    let record = "[log] requests = \"requests.jsonl\" in the configuration makes Spillway record them";
    Failure::TooLittle(match why {
        TooLittle::Requests(count) => {
            format!(
                "the log holds {count} requests, and at least {REQUESTS_MIN} are needed; record some more: {record}"
            )
        }
        TooLittle::Calls => format!("the log holds no call to this upstream; {record}"),
    })
}
