//! `spillway doctor`: whether Spillway can work here, and what to do where it cannot.
//!
//! A check is a value, [`Finding`]; what it takes to find it is a thin shell around. Nothing is changed by looking, and
//! nothing is spent: a folder that is missing is not made, and providers are asked for what costs nothing.

mod clock;
mod configuration;
mod data;
mod finding;
mod keys;
mod machine;
mod policies;
mod ports;
mod prices;
mod reach;
mod reached;
mod shell;
mod virtual_keys;

use self::finding::{Finding, Report};
use self::ports::Plane;
use self::reached::Reached;
use crate::cli::running::AdminAddress;
use crate::config::Config;
use crate::runtime::screen;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{LocalSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

/// How long all checks may take together. They run side by side, and what is not found by then is told as such.
const CHECKS_MAX: Duration = Duration::from_secs(10);

/// `spillway doctor …`
#[derive(Debug, clap::Args)]
pub struct DoctorArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
    /// Show each provider its key, the configured one or else the environment's, and say whether it is taken. The
    /// environment's goes to the provider's own host, over https, or to this machine alone.
    #[arg(long)]
    with_keys: bool,
}

/// Looks, and tells. Exit codes: 0 where nothing is broken, else 1.
pub fn run(arguments: &DoctorArguments) -> ExitCode {
    let report = Report::of(look(arguments.config.as_deref(), arguments.with_keys));
    match arguments.json {
        // Texts and words alone become JSON in any case.
        true => screen::print(&format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default())),
        false => screen::print(&report.text()),
    }
    if report.can_serve { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look(file: Option<&Path>, with_keys: bool) -> Vec<Finding> {
    // First, so that the checks themselves have what they can get.
    let descriptors = machine::descriptors();
    let (mut findings, config) = configuration::load(file);
    findings.push(descriptors);
    let Some(config) = config else { return findings };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            findings.push(Finding::broken(
                "this machine",
                format!("the system refuses what it takes to look further: {error}"),
                "Raise the limit on open files (ulimit -n), or make memory free.",
            ));
            return findings;
        }
    };
    let checks = Checks { config: Arc::new(config), with_keys, deadline: Instant::now() + CHECKS_MAX };
    // Connections live on the thread that has made them.
    findings.extend(LocalSet::new().block_on(&runtime, checks.run()));
    // What still hangs in a name server or on a disk is not waited for.
    runtime.shutdown_background();
    findings
}

/// All checks that need a configuration.
struct Checks {
    config: Arc<Config>,
    with_keys: bool,
    deadline: Instant,
}

impl Checks {
    async fn run(&self) -> Vec<Finding> {
        let policies = {
            let config = Arc::clone(&self.config);
            self.on_a_thread("policies", move || policies::look(&config))
        };
        let prices = {
            let config = Arc::clone(&self.config);
            self.on_a_thread("prices", move || prices::look(&config))
        };
        let shell = {
            let config = Arc::clone(&self.config);
            self.on_a_thread("this shell", move || shell::look(&config))
        };
        let building = self.on_a_thread("own policies", || vec![machine::building()]);
        let (here, policies, prices, upstreams, shell, building) =
            tokio::join!(self.here(), policies, prices, self.upstreams(), shell, building);
        let clocks = upstreams.iter().filter_map(|reached| reached.outcome.as_ref().ok()?.clock_ahead_ms);
        let clock = clock::finding(&clocks.collect::<Vec<_>>());
        let upstreams = upstreams.iter().flat_map(Reached::findings);
        let all =
            here.into_iter().chain(policies).chain(prices).chain([clock]).chain(upstreams).chain(shell).chain(building);
        all.collect()
    }

    /// The addresses, and then the folder, which the Spillway holds that answers there.
    async fn here(&self) -> Vec<Finding> {
        let (listen, admin) = (self.config.server.listen, self.config.admin.listen);
        let asked = AdminAddress::of(&self.config);
        let ports =
            async { tokio::join!(ports::look(Plane::Data, listen, &asked), ports::look(Plane::Admin, admin, &asked)) };
        let Ok((data, control)) = timeout_at(self.deadline, ports).await else {
            return vec![out_of_time("server.listen")];
        };
        let mut findings = ports::findings((listen, &data), (admin, &control));
        let runs = data.is_spillways() && control.is_spillways();
        let config = Arc::clone(&self.config);
        findings.extend(
            self.on_a_thread("data folder", move || {
                let socket = config.server.unix_socket.as_ref().map(|path| ports::socket(path, runs));
                let mut findings: Vec<Finding> = socket.into_iter().collect();
                findings.push(data::look(&config.spool, runs));
                findings.extend(virtual_keys::look(&config));
                findings
            })
            .await,
        );
        findings
    }

    async fn upstreams(&self) -> Vec<Reached> {
        let meant = configuration::meant(&self.config, |variable| std::env::var_os(variable).is_some());
        let all = self.config.upstreams.iter().map(|(name, upstream)| {
            let mut reached = reach::begun(name, upstream, meant.contains(name));
            async move {
                // What was found until then is told.
                let _ = timeout_at(self.deadline, reach::reach(&mut reached, upstream, self.with_keys)).await;
                reached
            }
        });
        futures_util::future::join_all(all).await
    }

    /// What a disk or another program may hold up, on a thread of its own.
    async fn on_a_thread<F>(&self, area: &str, look: F) -> Vec<Finding>
    where
        F: FnOnce() -> Vec<Finding> + Send + 'static,
    {
        match timeout_at(self.deadline, spawn_blocking(look)).await {
            Ok(Ok(findings)) => findings,
            Ok(Err(error)) => {
                let said = format!("the check itself failed: {error}");
                vec![Finding::doubtful(area, said, "This is a mistake in Spillway; please report it.")]
            }
            Err(_) => vec![out_of_time(area)],
        }
    }
}

fn out_of_time(area: &str) -> Finding {
    let said = format!("not found out within {} s: a disk or another program does not answer", CHECKS_MAX.as_secs());
    Finding::doubtful(area, said, "Ask again; if it stays so, what hangs there hangs for Spillway too.")
}
