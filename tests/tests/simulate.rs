//! `spillway simulate`: what would have been, held against what was.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::Value;
use spillway_tests::asks::chat;
use spillway_tests::callers::{Caller, Habit};
use spillway_tests::load::{Load, Results};
use spillway_tests::provider::{Failure, Provider, between, fail, healthy};
use spillway_tests::spillway::{Setup, Spillway, binary};
use spillway_tests::wait::eventually;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Between the start of the processes and the first request.
const LEAD: Duration = Duration::from_millis(300);
/// How far the simulated share served may be from the real one, in points: the outage's end is known to a probe's
/// interval, which is worth two points here, and a loaded machine moves it as far again.
const TOLERANCE_POINTS: f64 = 5.0;

fn simulate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("simulate").args(arguments).current_dir(folder).stdin(Stdio::null());
    command.output().expect("it runs")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| unreachable!("{error} in {output:?}"))
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).expect("a row of that name")
}

/// Records a load of 14 s, in which the provider fails from 5 s to 9 s. The recording has so many lines at least.
fn record(settings: &str) -> (Spillway, Results) {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("log", "requests = \"requests.jsonl\"");
    let spillway = setup.set("upstreams.openai.retry", settings).start();
    provider.always(healthy().delay(Duration::from_millis(20)));
    let begins = Instant::now() + LEAD;
    let outage = begins + Duration::from_secs(5)..begins + Duration::from_secs(9);
    provider.when(between(outage.start, outage.end), fail(Failure::ServerError));
    let load = Load { per_second: 40.0, lasting: Duration::from_secs(14), caller: Caller::new(Habit::Once) };
    let results = load.send(spillway.address(), begins, |_| chat()).expect("a runtime");
    eventually("all is recorded", || {
        let text = fs::read_to_string(spillway.folder().join("requests.jsonl")).unwrap_or_default();
        let mut requests: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        requests.retain(|line| line["number"] == 1 || line["unserved"].is_object());
        (requests.len() == results.count()).then_some(())
    });
    (spillway, results)
}

#[test]
fn what_a_log_is_said_to_have_led_to_is_what_happened() {
    let (spillway, results) = record("");
    let log = spillway.folder().join("requests.jsonl");
    let output = simulate(
        spillway.folder(),
        &["--config", "spillway.toml", "--log", log.to_str().unwrap(), "--seeds", "6", "--json"],
    );
    let report = json(&output);
    let real = 100.0 * results.share_served();
    let percent = |name: &str| row(&report, name)["served_percent"].as_f64().unwrap();
    assert!((percent("as it was recorded") - real).abs() < 0.3, "{real} really, {report:#}");
    assert!((percent("in force") - real).abs() < TOLERANCE_POINTS, "{real} really, {report:#}");
    assert!((percent("no proxy") - 100.0 * 10.0 / 14.0).abs() < TOLERANCE_POINTS, "{report:#}");
    let faults = report["log"]["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{report:#}");
    let at = |key: &str| faults[0][key].as_f64().unwrap();
    assert!((at("from_seconds") - 5.0).abs() < 0.5 && (at("to_seconds") - 9.0).abs() < 1.0, "{report:#}");
    assert!(at("failure_rate") > 0.99, "{report:#}");
    // The same in words, within its time.
    let began = Instant::now();
    let output = simulate(spillway.folder(), &["--config", "spillway.toml", "--log", log.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("in force, callers retry twice") && text.contains("cannot be known"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_log_that_holds_too_little_is_told_so_and_a_scenario_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    let output = simulate(folder.path(), &["--log", "empty.jsonl"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("[log] requests"), "{said}");
    assert_eq!(simulate(folder.path(), &["--log", "not-there.jsonl"]).status.code(), Some(2));
    assert_eq!(simulate(folder.path(), &["--scenario", "not-there"]).status.code(), Some(2));
    assert_eq!(simulate(folder.path(), &[]).status.code(), Some(2));
    let list = simulate(folder.path(), &["--list"]);
    assert!(String::from_utf8_lossy(&list.stdout).lines().any(|line| line == "  fails-50-at-50"), "{list:?}");
    fs::write(folder.path().join("off.toml"), "[upstreams.openai.retry]\nmax_attempts = 1\n").unwrap();
    let arguments = ["-c", "off.toml", "--scenario", "fails-50-at-50", "--seeds", "6", "--json"];
    let report = json(&simulate(folder.path(), &arguments));
    assert_eq!(report["advice"]["key"], "retry.max_attempts", "{report:#}");
    assert!(report["advice"]["gains"]["served_percent"]["by"].as_f64() > Some(3.0), "{report:#}");
    let again = json(&simulate(folder.path(), &arguments));
    assert_eq!(again, report, "so many runs always say the same");
}
