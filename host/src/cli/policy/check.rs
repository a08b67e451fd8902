//! `spillway policy check`: whether a file would be served, and what it is, needs and costs.

use super::cargo::Crate;
use super::loaded_policy::{LoadedPolicy, Times};
use super::subject::{Subject, engine};
use super::table::table;
use super::{Answer, Failure, exchanges, hear_policies, time};
use crate::config::Config;
use crate::policy::inspect::{Inspection, inspect};
use crate::policy::{CONTRACT, CONTRACT_VERSION, Module, Runtime};
use crate::runtime::clock::milliseconds;
use crate::runtime::size::size;
use serde::Serialize;
use spillway_sdk::{AttemptFacts, Exchange, Verdict, WindowFacts, builtin};
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Calls of a hook that are timed: enough for the hundredth part of them to be a figure.
const TIMED_CALLS: usize = 5_000;
/// Calls before that, which warm up caches and heap.
const WARMING_CALLS: usize = 500;
/// A policy at the edge of its time limit is not waited for longer than this, per hook.
const TIMING_MAX: Duration = Duration::from_secs(2);
/// Instances whose memory is measured together, because the system counts in pages.
const MEASURED_INSTANCES: u64 = 32;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A policy's .wasm file.
    file: PathBuf,
    /// The policy's settings, as JSON (FILE.json) or TOML; by default those that the configuration has for its name.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Config) -> Result<Answer, Failure> {
    hear_policies();
    let subject = Subject::read(&arguments.file, config, arguments.settings.as_deref())?;
    let checked = check(&subject, config, &engine()?);
    let is_well = checked.would_be_served && checked.faults.is_empty();
    match arguments.json {
        true => Answer::json(&checked, is_well),
        false => {
            let remark = Crate::around(&arguments.file).map_or_else(String::new, |built| built.sdk_remark());
            Ok(Answer { text: checked.in_words() + &remark, is_well })
        }
    }
}

/// Everything that is known of a file.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    file: PathBuf,
    name: String,
    sha256: String,
    size_bytes: usize,
    is_component: bool,
    contract_version: Option<String>,
    served_contract_version: &'static str,
    imports: Vec<String>,
    initial_memory_bytes: u64,
    pub(super) would_be_served: bool,
    /// Why not, in the loader's words.
    pub(super) reason: Option<String>,
    version: Option<String>,
    summary: Option<String>,
    hooks: Vec<&'static str>,
    /// Checking, compiling, configuring and trying it out.
    load_ms: Option<u64>,
    /// Memory that an instance really takes after its calls.
    instance_bytes: Option<u64>,
    timings: Vec<Timing>,
    /// Calls that gave no answer.
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Timing {
    hook: &'static str,
    on: String,
    #[serde(flatten)]
    times: Times,
    /// The same by the built-in policy, natively.
    built_in: Option<Times>,
}

/// Loads a file as the proxy would, and asks it what it costs.
pub(super) fn check(subject: &Subject, config: &Config, runtime: &Runtime) -> Checked {
    let Inspection { is_component, contract_version, imports, initial_memory_bytes } = inspect(&subject.bytes);
    let mut checked = Checked {
        file: subject.file.clone(),
        name: subject.name.clone(),
        sha256: subject.sha256.to_string(),
        size_bytes: subject.bytes.len(),
        is_component,
        contract_version,
        served_contract_version: CONTRACT_VERSION,
        imports,
        initial_memory_bytes,
        would_be_served: false,
        reason: None,
        version: None,
        summary: None,
        hooks: Vec::new(),
        load_ms: None,
        instance_bytes: None,
        timings: Vec::new(),
        faults: Vec::new(),
    };
    let began = Instant::now();
    match subject.load(runtime) {
        Err(reason) => checked.reason = Some(reason),
        Ok(module) => {
            checked.load_ms = Some(milliseconds(began.elapsed()));
            checked.describe(&module);
            checked.measure(&module);
        }
    }
    // Asked after what the file itself may be lacking: that is for its author, this for the operator.
    if checked.reason.is_none() {
        checked.reason = subject.check_trust(&config.policies.trust()).err();
    }
    checked.would_be_served = checked.reason.is_none();
    checked
}

impl Checked {
    fn describe(&mut self, module: &Module) {
        let about = module.about();
        let hooks = [("classify", about.hooks.classify), ("backoff", about.hooks.backoff), ("trip", about.hooks.trip)];
        self.version = Some(about.version.clone());
        self.summary = Some(about.summary.clone());
        self.hooks = hooks.into_iter().filter_map(|(name, asked)| asked.then_some(name)).collect();
    }

    fn measure(&mut self, module: &Module) {
        let hooks = module.about().hooks;
        for (on, exchange) in exchanges::typical() {
            let facts: Rc<dyn AttemptFacts> = Rc::new(exchange.clone());
            if hooks.classify {
                let built_in = time_natively(|| drop(black_box(builtin::classify(&Exchange::new(&exchange)))));
                self.time(module, "classify", &on, built_in, |asked| asked.classify(&facts).map(drop));
            }
            let failed = facts.status().is_some_and(|status| status >= 400);
            if hooks.backoff && failed {
                let verdict = Verdict::throttled("429");
                self.time(module, "backoff", &on, None, |asked| asked.backoff(&facts, &verdict).map(drop));
            }
        }
        if let Some((on, window)) = exchanges::windows().into_iter().find(|(name, _)| name.starts_with("every second"))
            && hooks.trip
        {
            let facts: Rc<dyn WindowFacts> = Rc::new(window);
            self.time(module, "trip", &on, None, |asked| asked.trip(&facts).map(drop));
        }
        self.instance_bytes = instance_bytes(module);
    }

    fn time(
        &mut self,
        module: &Module,
        hook: &'static str,
        on: &str,
        built_in: Option<Times>,
        mut call: impl FnMut(&mut LoadedPolicy<'_>) -> Result<(), String>,
    ) {
        let mut asked = LoadedPolicy::new(module);
        let began = Instant::now();
        for number in 0..WARMING_CALLS + TIMED_CALLS {
            if number == WARMING_CALLS {
                asked.forget_times();
            }
            if let Err(fault) = call(&mut asked) {
                self.faults.push(format!("{hook} of {on}: {fault}"));
                return;
            }
            if began.elapsed() > TIMING_MAX {
                break;
            }
        }
        if let Some(times) = asked.times() {
            self.timings.push(Timing { hook, on: on.to_owned(), times, built_in });
        }
    }

    fn in_words(&self) -> String {
        let Checked { file, name, sha256, .. } = self;
        let mut rows: Vec<(&str, String)> = vec![
            ("file", file.display().to_string()),
            ("policy", name.clone()),
            ("sha-256", sha256.clone()),
            ("size", size(self.size_bytes as u64)),
        ];
        if let Some(version) = &self.contract_version {
            let form = if self.is_component { "component" } else { "core module" };
            let contract = format!("{CONTRACT}@{version}, as a {form}; this Spillway serves {CONTRACT_VERSION}");
            rows.push(("contract", contract));
        }
        if let Some(version) = &self.version {
            rows.push(("version", version.clone()));
        }
        if let Some(summary) = self.summary.as_ref().filter(|summary| !summary.is_empty()) {
            rows.push(("summary", summary.clone()));
        }
        if self.version.is_some() {
            let hooks = if self.hooks.is_empty() { "none: it is never asked".into() } else { self.hooks.join(", ") };
            rows.push(("hooks", hooks));
        }
        if !self.imports.is_empty() {
            rows.push(("asks for", self.imports.join(", ")));
        }
        if let Some(load_ms) = self.load_ms {
            rows.push(("load", format!("{load_ms} ms, compiled and tried out; off the workers, and kept on disk")));
        }
        if self.initial_memory_bytes > 0 {
            let really = self.instance_bytes.map(|bytes| format!("; really used after calls: {}", size(bytes)));
            let initial = size(self.initial_memory_bytes);
            rows.push(("memory", format!("{initial} reserved per worker{}", really.unwrap_or_default())));
        }
        let mut text: String = rows.into_iter().map(|(key, value)| format!("{key:<9} {value}\n")).collect();
        if !self.timings.is_empty() {
            let row = |timing: &Timing| {
                let built_in = timing.built_in.map_or("-".to_owned(), |times| time(times.median_ns));
                let Times { median_ns, p99_ns, .. } = timing.times;
                vec![format!("{} of {}", timing.hook, timing.on), time(median_ns), time(p99_ns), built_in]
            };
            let rows: Vec<_> = self.timings.iter().map(row).collect();
            text.push('\n');
            text.push_str(&table(&["CALL", "MEDIAN", "P99", "BUILT-IN, NATIVE"], &rows));
        }
        for fault in &self.faults {
            text.push_str(&format!("\nNo answer: {fault}\n"));
        }
        text.push('\n');
        text.push_str(&self.verdict());
        text.push('\n');
        text
    }

    /// One line: would it be served?
    pub(super) fn verdict(&self) -> String {
        match &self.reason {
            None if self.faults.is_empty() => "would be served".to_owned(),
            None => "would be served, and lose the calls above to the built-in policy".to_owned(),
            Some(reason) => format!("would not be served: {reason}"),
        }
    }
}

fn time_natively(mut call: impl FnMut()) -> Option<Times> {
    let mut times: Vec<u64> = (0..TIMED_CALLS)
        .map(|_| {
            let began = Instant::now();
            call();
            u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    Times::of(&mut times)
}

/// What an instance adds to this process's memory once it was asked everything that it may be asked.
fn instance_bytes(module: &Module) -> Option<u64> {
    let cases: Vec<Rc<dyn AttemptFacts>> =
        exchanges::typical().into_iter().map(|(_, exchange)| Rc::new(exchange) as Rc<dyn AttemptFacts>).collect();
    let windows: Vec<Rc<dyn WindowFacts>> =
        exchanges::windows().into_iter().map(|(_, window)| Rc::new(window) as Rc<dyn WindowFacts>).collect();
    let use_one = || {
        let mut asked = LoadedPolicy::new(module);
        for facts in &cases {
            // What gives no answer was noted before.
            let _ = asked.classify(facts).map(drop);
            let _ = asked.backoff(facts, &Verdict::failure("tried out")).map(drop);
        }
        for window in &windows {
            let _ = asked.trip(window).map(drop);
        }
        asked
    };
    // The first one pays for what all share.
    let first = use_one();
    let before = resident_bytes()?;
    let instances: Vec<LoadedPolicy<'_>> = (0..MEASURED_INSTANCES).map(|_| use_one()).collect();
    let grown = resident_bytes()?.saturating_sub(before);
    drop((first, instances));
    Some(grown / MEASURED_INSTANCES)
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}
